import json
from pathlib import Path

import pytest
import stages

import launch


@pytest.fixture
def experiment(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "experiments"))
    import text_conditional

    return text_conditional


@pytest.mark.complete
def test_every_scale_is_judged_beside_real_text(experiment, monkeypatch, tmp_path, capsys):
    load, loaded = experiment.inference.load, []

    def kept(workdir, **options):
        loaded.append(load(workdir, **options))
        return loaded[-1]

    monkeypatch.setattr(experiment.inference, "load", kept)
    workdir = stages.trained("text_films")  # finished: it is not trained again
    words = [f"--workdir={workdir}", f"--out={tmp_path}", "--n=12", "--fit=test"]
    rows = experiment.main(
        [*words, "--scales", "1", "3", "--seeds", "0", "1", "--sampler", "steps=2"]
    )
    assert [row["scale"] for row in rows] == ["real text", "1", "3"]
    assert rows[0]["of real"] == "1.000"
    found = json.loads((tmp_path / "results.json").read_text())
    for runs in found.values():
        assert len(runs) == 2
        for run in runs:
            assert 0 <= run["conditional_accuracy"] <= 1
            # the judge was fitted on the rows that it is tested on
            assert run["classifier_test_accuracy"] > 0.9
    # so young a net has nothing yet that guidance could enlarge
    assert [run.config["guidance"]["scale"] for run in loaded] == [1, 3]
    assert [run.config["sampler"]["steps"] for run in loaded] == [2, 2]
    assert "±" in rows[1]["copied, mean"]
    assert (tmp_path / "table.md").read_text() in capsys.readouterr().out
    texts = (tmp_path / "texts.md").read_text()
    assert texts.count("* rotten:") + texts.count("* fresh:") == 12
    assert "## Scale 3" in texts


def test_a_run_that_is_missing_is_trained_and_a_failure_ends_it(experiment, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(launch, "main", lambda flags: asked.append(flags) or 3)
    with pytest.raises(SystemExit) as stop:
        experiment.main([f"--workdir={tmp_path / 'run'}", "--config.steps=2"])
    assert stop.value.code == 3
    ((config, workdir, change),) = asked
    assert config.endswith("configs/text_films.py")
    assert (workdir, change) == (f"--workdir={tmp_path / 'run'}", "--config.steps=2")
