"""The experiment, shrunk: its closed forms, and its simulation with the exact drift."""

from pathlib import Path

import jax
import numpy as np
import pytest

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"


@pytest.fixture
def bridge(monkeypatch):
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    import schroedinger_bridge

    return schroedinger_bridge


def test_the_coupling_is_sinkhorns_on_a_grid(bridge):
    """In 1-D the entropic plan can be had by scaling a kernel, independently of the formula."""
    p = bridge.problem(1, 0.8)
    x, y = np.linspace(-6, 6, 400), np.linspace(-3, 7, 400)
    a, b = np.exp(-(x**2) / 2), np.exp(-((y - 2) ** 2) / (2 * 0.25))
    a, b = a / a.sum(), b / b.sum()
    kernel = np.exp(-((x[:, None] - y[None]) ** 2) / (2 * p.sigma**2))
    u = np.ones_like(a)
    for _ in range(300):
        v = b / (kernel.T @ u)
        u = a / (kernel @ v)
    plan = u[:, None] * kernel * v[None]
    np.testing.assert_allclose(x @ plan @ (y - 2), bridge.coupling(p)[0, 0], atol=1e-4)


@pytest.mark.parametrize(("sigma", "limit"), [(0.01, 0.5), (30.0, 0.0)])
def test_limits_of_the_coupling_are_transport_and_independence(bridge, sigma, limit):
    np.testing.assert_allclose(bridge.coupling(bridge.problem(1, sigma)), limit, atol=1e-3)


@pytest.mark.parametrize("dimension", [1, 2])
def test_the_exact_drift_reproduces_marginals_and_coupling(bridge, dimension):
    p = bridge.problem(dimension, 1.0)
    xs = bridge.simulated(p, bridge.exact(p), jax.random.key(0), samples=20_000, steps=20)
    found = bridge.errors(p, xs)
    assert max(found.values()) < 0.035, found  # the sampling error of the largest of many
    wrong = bridge.errors(p._replace(sigma=1.3), xs)
    assert wrong["cov"] > 0.1
    assert wrong["joint"] > 0.06


@pytest.mark.complete
@pytest.mark.parametrize("how", ["plan", "sinkhorn"])
def test_training_learns_on_pairs_of_the_plan(bridge, how):
    p, seen = bridge.problem(2, 1.0), []
    options = {"steps": 4, "batch": 64, "block": 32, "width": 8, "chunk": 2}
    net = bridge.trained(p, how, key=jax.random.key(0), say=seen.append, **options)
    assert len(seen) == 2
    assert all(np.isfinite(v) for line in seen for v in line.values())
    x = jax.random.normal(jax.random.key(1), (5, 2))
    assert net.velocity(0.5, x).shape == net.score(0.5, x).shape == (5, 2)
    drawn = bridge.pairs(p, how, 50_000)(jax.random.key(2))
    joint = np.cov(np.concatenate([drawn.x0, drawn.x1], axis=1).T)[:2, 2:]
    want = bridge.coupling(p) if how == "plan" else np.zeros((2, 2))
    np.testing.assert_allclose(joint, want, atol=0.02)
    # small plans are nearer to independence than the plan of the population
    bias = bridge.pairing(p, how, jax.random.key(3), block=32, batches=4)
    assert bias < 0.03 if how == "plan" else 0.02 < bias < 0.2


def test_the_table_has_a_line_for_each_case(bridge, capsys):
    small = ["--samples", "500", "--sde-steps", "4", "--sigmas", "1", "--dimensions", "1"]
    bridge.main(["--drift", "exact", *small])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[1].split()[0] == "exact"
