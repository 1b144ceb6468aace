import sys
from pathlib import Path

import pytest


@pytest.fixture
def experiment(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "experiments"))
    import text_throughput

    return text_throughput


TINY = ["--width=8", "--depth=1", "--heads=2", "--length=8", "--batch=2", "--vocabulary=5"]


@pytest.mark.complete
def test_our_side_takes_the_steps_of_its_calls(experiment):
    size = experiment.Size(8, 1, 2, 8, 2, vocabulary=5, per_call=2)
    run, note = experiment.ours(size)
    run(4)
    block = (8 * 48 + 48) + (8 * 24 + 24) + (8 * 8 + 8) + 2 * 4 + (8 * 32 + 32) + (32 * 8 + 8)
    head, embedding = (8 * 16 + 16) + (8 * 5 + 5), 6 * 8 + (256 * 8 + 8) + (8 * 8 + 8)
    assert f"{block + head + embedding} parameters" in note


def test_sides_take_turns_and_ratios_are_taken_round_by_round(experiment, capsys):
    found = {"fmjax": [[0.1, 0.2], [0.1, 0.2], [0.4, 0.2]], "PyTorch": [[0.2, 0.1]] * 3}
    table = experiment.rows(found, experiment.Size(length=100, batch=10))
    assert table["fmjax"]["tokens_per_second"] == pytest.approx(10_000)
    assert table["fmjax"]["of_pytorch"] == pytest.approx(2)
    assert table["fmjax"]["of_pytorch_by_cpu"] == pytest.approx(0.5)
    experiment.report(table, {"fmjax": "ours", "PyTorch": "theirs"})
    assert "10000 tokens/s   100.0 ms" in capsys.readouterr().out


def test_processes_answer_through_their_pipes(experiment, monkeypatch, tmp_path):
    # both sides are served by a stand-in, as PyTorch is not there
    script = tmp_path / "side.py"
    script.write_text(
        "import sys\n"
        "print('\"a note\"', flush=True)\n"
        "for line in sys.stdin:\n"
        "    print([float(line), 1.0], flush=True)\n"
    )
    monkeypatch.setattr(experiment, "__file__", str(script))
    table = experiment.main(["--rounds=2", "--steps=3", "--per-call=1", "--compiled", *TINY])
    assert set(table) == {"fmjax", "PyTorch", "compiled"}
    assert table["fmjax"]["milliseconds"] == 3000


def test_a_side_that_is_missing_is_named(experiment, monkeypatch, tmp_path):
    script = tmp_path / "side.py"
    script.write_text("raise SystemExit(1)\n")
    monkeypatch.setattr(experiment, "__file__", str(script))
    with pytest.raises(SystemExit, match=r"pip install -r experiments/requirements\.txt"):
        experiment.main(["--rounds=1", f"--peer-python={sys.executable}", *TINY])
    with pytest.raises(SystemExit):
        experiment.main(["--steps=3", "--per-call=2"])
