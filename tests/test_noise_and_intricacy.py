import functools
import json
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def experiment(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "experiments"))
    import noise_and_intricacy

    return noise_and_intricacy


@pytest.mark.complete
def test_every_part_runs_shrunk(experiment, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(experiment, "ROWS", 256)
    families = dict(list(experiment.FAMILIES.items())[::3])  # the rest is like the first
    monkeypatch.setattr(
        experiment,
        "FAMILIES",
        {name: (make, levels[:1]) for name, (make, levels) in families.items()},
    )
    noise = functools.partial(experiment.noise, shares=(0.3,), stds=(0.1,))
    monkeypatch.setattr(experiment, "noise", noise)
    size = experiment.Size(steps=2, seeds=2, n=64, draws=2, batch=8)
    results = experiment.main([f"--out={tmp_path}", "--widths", "4", "--rows", "16"], size)
    assert json.loads((tmp_path / "results.json").read_text()) == json.loads(json.dumps(results))
    assert (tmp_path / "figure.png").stat().st_size > 1000
    named = {(row["set"], row["width"]): row for row in results["intricacy"]}
    assert len(named) == 3
    assert [len(results[part]) for part in ("data", "noise")] == [2, 2]
    uniform = named["board, cells 4", "uniform"]
    assert uniform["stray"]["mean"] == pytest.approx(0.5, abs=0.1)
    assert all(len(row["energy"]["seeds"]) == 2 for row in results["data"])
    for row in results["data"] + results["noise"]:
        assert np.isfinite(row["energy"]["mean"])
    assert "energy of the rows" in capsys.readouterr().out


@pytest.mark.parametrize("family", range(4))
def test_real_rows_are_hardly_astray_and_at_distance_one(experiment, monkeypatch, family):
    monkeypatch.setattr(experiment, "ROWS", 4000)
    make, levels = list(experiment.FAMILIES.values())[family]
    case, size = make(levels[1]), experiment.Size(n=1000, draws=4)
    keys = experiment.jax.random.split(experiment.jax.random.key(5), 2)
    x = np.stack([experiment.drawer(case.draw)(key).x1 for key in keys])
    columns = experiment.measured(x, case, size)
    assert columns["stray"]["mean"] < 0.015
    assert columns["energy"]["mean"] == pytest.approx(1, abs=0.5)
    assert columns["sliced"]["mean"] == pytest.approx(1, abs=0.5)


def test_the_moons_are_told_apart(experiment):
    draw = experiment.intricate.moons_classes
    key = experiment.jax.random.key(0)
    batch = draw(key, 1000)
    other = experiment.on_other_moon(batch.x1)
    assert np.mean(other == np.asarray(batch.cond)) > 0.999
    assert not experiment.on_other_moon(experiment.one_moon(key, 1000, draw=draw)).mean() > 0.001
    assert experiment.off_moons(batch.x1, width=0.3).sum() == 0
    assert experiment.off_moons(batch.x1 + 3.0, width=0.3).all()
