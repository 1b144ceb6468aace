"""`experiments/conditional_coupling.py`, shrunk."""

import functools
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from fmjax.couplings.exact import exact
from fmjax.couplings.independent import independent
from fmjax.data import toy

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"


@pytest.fixture
def experiment(monkeypatch):
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    import conditional_coupling

    yield conditional_coupling
    sys.modules.pop("conditional_coupling")


def test_a_tiny_run_gives_every_cell(experiment, monkeypatch, tmp_path, capsys):
    # compiles faster than adaptive steps do
    monkeypatch.setitem(experiment.SAMPLERS, "adaptive", experiment.SAMPLERS["one step"])
    sizes = {"seeds": 2, "steps": 4, "batch": 8, "rows": 32, "block": 16, "n": 6, "tasks": "angle"}
    flags = [word for name, size in sizes.items() for word in (f"--{name}", str(size))]
    rows = experiment.main([*flags, "--out", str(tmp_path)])
    assert [(r["task"], r["method"]) for r in rows] == [
        ("angle", m) for m in ("independent", "plain", "aware")
    ]
    for sampler in ("adaptive", "one step"):
        assert rows[0][sampler]["ratio"] == pytest.approx(1)
        assert all(r[sampler]["mean"] > 0 for r in rows)
    saved = json.loads((tmp_path / "conditional_coupling.json").read_text())
    assert saved["rows"] == rows
    assert len(saved["records"]) == 6
    assert {r["nfe one step"] for r in saved["records"]} == {1}
    assert "aware" in capsys.readouterr().out


def test_every_coupling_gets_the_same_points_and_keeps_x1_with_its_condition(experiment):
    sets = {
        name: experiment.pairs("class", coupling, 3, 64, 32)
        for name, coupling in {
            "independent": independent,
            "plain": lambda key, x0, x1, cond: exact(key, x0, x1),
            "aware": experiment.TASKS["class"][2],
        }.items()
    }
    first = sets["independent"]
    for batch in sets.values():
        assert (batch.x1 == first.x1).all()
        assert (batch.cond == first.cond).all()
        assert (np.sort(batch.x0[:, 0]) == np.sort(first.x0[:, 0])).all()
    for c in (0, 1):  # noise of a class: the same rows if the condition is regarded
        own = [np.sort(sets[name].x0[first.cond == c, 0]) for name in sets]
        assert (own[2] == own[0]).all()
        assert (own[1] != own[0]).any()


def test_the_data_are_the_moons_of_the_package(experiment):
    rng = np.random.default_rng(0)
    draw = lambda n: experiment.by_class(rng, n)[0]  # noqa: E731
    theirs = np.asarray(toy.moons(experiment.jax.random.key(0), 20_000))
    np.testing.assert_allclose(draw(20_000).mean(0), theirs.mean(0), atol=0.08)
    np.testing.assert_allclose(np.cov(draw(20_000).T), np.cov(theirs.T), atol=0.15)
    for law, cond in ((experiment.by_class, 1), (experiment.by_angle, 0.0)):
        x1, given = law(rng, 400, cond)
        assert (given == cond).all()
        assert x1.dtype == np.float32
    # half way along either moon, and up to 0.6 of noise in both coordinates
    corner = np.where((x1[:, 1] > 1)[:, None], [-1, 2], [2, -2.5])
    assert ((x1 - corner) > -1e-6).all()
    assert ((x1 - corner) < 0.6 + 1e-6).all()
    assert np.mean(x1[:, 1] > 1) == 0.5


def test_ratios_are_those_of_means_over_seeds(experiment):
    def record(method, seed, value):
        cells = {"adaptive": value, "one step": 2 * value, "nfe adaptive": 7, "floor": 0.1}
        return {"task": "class", "method": method, "seed": seed, **cells}

    records = [
        record(m, s, v + s) for m, v in (("independent", 1.0), ("aware", 0.25)) for s in (0, 1)
    ]
    rows = experiment.table(records)
    assert rows[1]["one step"]["mean"] == pytest.approx(1.5)
    assert rows[1]["one step"]["ratio"] == pytest.approx(0.5)
    assert rows[1]["adaptive"]["sd"] == pytest.approx(np.sqrt(0.5))


def test_the_share_is_that_of_the_angles_coupling(experiment):
    aware = experiment.methods("angle", 0.25)["aware"]
    batch = functools.partial(experiment.pairs, "angle", seed=0, rows=32, block=32)
    near, far = (batch(c) for c in (experiment.methods("angle", 0.0)["aware"], aware))
    moved = [np.mean(b.x0 != batch(independent).x0) for b in (near, far)]
    assert moved[0] < moved[1]
