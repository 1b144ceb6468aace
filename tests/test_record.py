import json
import re
import time

import jax
import pytest
import tiny
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fmjax import record


def test_a_work_directory_holds_what_was_promised(finished):
    assert {p.name for p in finished.iterdir()} == {
        "config.json", "training.json", "metrics.jsonl", "tensorboard", "checkpoints",
        "samples.png", "trajectories.png", "loss.png", "record.json",
    }  # fmt: skip
    assert sorted(p.name for p in (finished / "checkpoints").iterdir()) == ["4", "8"]
    config = json.loads((finished / "config.json").read_text())
    assert (config["steps"], config["sampler"]["steps"], config["clip_norm"]) == (8, 2, None)


def test_the_run_record_says_what_the_figures_depend_on(finished):
    found = json.loads((finished / "record.json").read_text())
    config = json.loads((finished / "config.json").read_text())
    assert found["config"] == config
    assert found["config_sha256"] == record.digest(config)
    assert (found["seed"], found["seeds"], found["global_batch"]) == (0, 1, 24)
    assert set(record.PACKAGES) == set(found["versions"])
    assert (found["device"], found["platform"], found["processes"]) == ("cpu", "cpu", 1)
    params = tiny.state(finished, 8).params
    assert found["parameters"] == sum(leaf.size for leaf in jax.tree.leaves(params))
    assert (found["training"]["steps"], found["training"]["stretches"]) == (8, 1)
    assert found["training"]["steps_per_second"] > 0
    assert found["training"]["seconds"] > found["training"]["seconds_to_first_step"] > 0
    assert found["metrics"]["mean_gap"] > 0
    assert found["metrics"]["nfe"] == 2
    depends = found["depends_on"]
    assert depends["sampler"].items() >= config["sampler"].items()
    assert depends["sampler"]["rtol"] == 1e-5  # a default of the sampler's
    for name, node in config["evaluators"].items():
        assert depends["evaluators"][name].items() >= node.items()
    assert (depends["guidance"], depends["ema"]) == ({}, 0.9)
    assert depends["rows"] == {"train": 96, "test": 32}


def test_metrics_are_lines_and_tensorboard_events(finished):
    assert [step for step, _ in tiny.lines(finished)] == list(range(1, 9))
    events = EventAccumulator(str(finished / "tensorboard")).Reload()
    assert {"loss", "grad_norm", "velocity_mse"} <= set(events.Tags()["scalars"])
    shown = [(event.step, event.value) for event in events.Scalars("loss")]
    assert shown == [(step, pytest.approx(value)) for step, value in tiny.lines(finished)]


def written(workdir, start, steps):
    metrics = record.Metrics(workdir, start)
    for step in steps:
        metrics.write(step, {"loss": [float(step), 1.0], "start": float(start)})
    metrics.close()


def test_a_resumed_run_replaces_the_lines_beyond_its_checkpoint(tmp_path):
    written(tmp_path, 0, [1, 2, 3])
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')  # a kill in the middle of a line
    time.sleep(1)  # files of events are read in the order of the seconds in their names
    written(tmp_path, 2, [3, 4])
    assert tiny.lines(tmp_path, "start") == [(1, 0), (2, 0), (3, 2), (4, 2)]
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("start")] == tiny.lines(tmp_path, "start")
    assert events.Scalars("loss")[-1].value == 2.5  # the mean over seeds


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    record.write_json(tmp_path / "a.json", {"x": 1})
    with pytest.raises(TypeError):
        record.write_text(tmp_path / "a.json", None)
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": 1}


def test_progress_is_sparse_lines_where_there_is_no_terminal(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(record.time, "monotonic", lambda: now[0])
    progress = record.Progress(100, 1100)
    for i in range(1000):
        now[0] += 0.1
        progress.update(100 + i, 0.5)
    progress.close()
    said = capsys.readouterr().out.splitlines()
    assert 5 <= len(said) <= 15
    assert re.fullmatch(r"step 1\d\d/1100  loss 0.5000  9\.\d steps/s  1\d\d s left", said[0])


def test_progress_of_the_other_processes_is_silent(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(record.time, "monotonic", lambda: now[0])
    progress = record.Progress(0, 10, quiet=True)
    now[0] = 100.0
    progress.update(1, 0.5)
    progress.close()
    assert capsys.readouterr() == ("", "")


def test_the_digest_does_not_depend_on_the_order_of_fields():
    assert record.digest({"a": 1, "b": (2,)}) == record.digest({"b": [2], "a": 1})
    assert record.digest({"a": 1}) != record.digest({"a": 2})


def test_the_table_shows_mean_and_deviation_over_seeds():
    shown = record.table({"loss": [1.0, 2.0, 3.0], "nfe": 10.0, "note": "x"})
    assert shown.splitlines() == ["  loss  2 ± 1  (3 seeds)", "  nfe   10", "  note  x"]
