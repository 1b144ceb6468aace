"""The experiments, shrunk, as far as they run without their peers."""

import json
import sys
from pathlib import Path

import pytest

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"


@pytest.fixture
def throughput(monkeypatch):
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    import throughput

    return throughput


TINY = ("steps_per_call=2", "log_every=4", "batch_size=8", "model.width=8", "save_every=0")


def test_our_side_trains_and_logs_without_the_peer(throughput, tmp_path):
    run, size = throughput.ours(tmp_path, TINY)
    assert size == (3 * 8 + 8) + 2 * (8 * 8 + 8) + (8 * 2 + 2)
    assert run(8) > 0
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    # the step that compiles, then every four and the end
    assert [line["step"] for line in lines] == [2, 4, 8, 10]
    assert lines[0]["loss"] != lines[1]["loss"]


def test_the_network_is_torchcfms(throughput, tmp_path):
    size = 3 * 64 + 64 + 2 * (64 * 64 + 64) + 64 * 2 + 2
    _, ours = throughput.ours(tmp_path, ("steps_per_call=1", "log_every=1", "batch_size=8"))
    assert ours == size


def test_a_missing_peer_is_named(throughput, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchcfm", None)
    with pytest.raises(SystemExit, match=r"pip install -r experiments/requirements\.txt"):
        throughput.main(["--parts", "training"])


def test_a_start_that_fails_says_why(throughput, monkeypatch, tmp_path):
    monkeypatch.setattr(throughput, "ROOT", tmp_path)  # no launch.py there
    with pytest.raises(SystemExit, match=r"launch\.py"):
        throughput.startup(tmp_path / "run", tmp_path / "cache")


def test_the_report_takes_ratios_round_by_round(throughput, capsys):
    rates = {"fmjax": [8.0, 4.0, 6.0], "TorchCFM": [1.0, 1.0, 2.0]}
    throughput.report_rates("training", rates, ["a note"], "at least 6")
    assert "4.00" in capsys.readouterr().out  # the median of 8, 4, 3
    throughput.report_startup({"cold": [9.0, 11.0, 10.0], "warm": [5.0]})
    assert "10.0   expected: at most 12" in capsys.readouterr().out
