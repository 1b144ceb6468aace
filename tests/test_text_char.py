import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fmjax.models.token_transformer import carried
from fmjax.types import Nets


@pytest.fixture
def experiment(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "experiments"))
    import text_char

    monkeypatch.setattr(text_char.wikipedia, "texts", written)
    text_char.stream.cache_clear()
    return text_char


def written(split):
    """Words in any order, for the data set's articles."""
    rng = np.random.default_rng(split == "test")
    words = ["the", "cat", "sat", "on", "a", "mat"]
    return [" ".join(rng.choice(words, 400)) for _ in range(2)]


@pytest.mark.complete
def test_every_method_is_trained_and_a_finished_cell_is_kept(experiment, tmp_path, capsys):
    size = experiment.Size(length=16, batch=4, per_call=1, head=8, points=2, rows=4, final=8)
    words = [f"--out={tmp_path}", "--steps", "3", "--widths", "8", "--depths", "1"]
    methods = ["uniform, cross-entropy", "autoregressive"]
    words += ["--orders", "2", "--shares", "0.5", "--methods", *methods]
    rows = experiment.main(words, size)
    assert [row["method"] for row in rows] == [*methods, "Kneser-Ney, order 2"]
    runs = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    for run in runs:
        assert [point["steps"] for point in run["curve"]] == [2, 3]
        # of the uniform source an untrained net's bound is loose, and eight rows say little of it
        assert 3 < run["final"]["bits_per_char"] < 50
        assert run["final"]["nll_draws"] == (1 if run["method"] == "autoregressive" else 8)
    assert runs[1]["final"]["bits_per_char"] < math.log2(27)
    table = (tmp_path / "table.md").read_text()
    assert table.count("\n") == len(rows) + 2
    assert table in capsys.readouterr().out
    assert (tmp_path / "figure.png").stat().st_size > 1000
    assert experiment.main(words, size)[:-1] == rows[:-1]
    assert len((tmp_path / "results.jsonl").read_text().splitlines()) == len(runs)


@pytest.mark.complete
def test_time_ends_a_run_and_its_schedule(experiment):
    size = experiment.Size(length=16, batch=4, per_call=2, head=8, points=1, rows=4, final=4)
    cell = experiment.Cell("mask, cross-entropy", 1.0, 8, 1, 0.5 / 60, "wall", 0)
    run = experiment.trained(cell, size)
    assert 0.5 <= run["wall"] < 30
    assert run["steps"] == run["curve"][-1]["steps"] >= 2
    assert experiment.rate(0.0) < 1e-4
    assert experiment.rate(experiment.WARMUP) == experiment.PEAK
    assert experiment.rate(1.0) == pytest.approx(0)


def test_the_clocks_rate_is_the_optimizers(experiment):
    # one step of a matrix and of a bias, as muon of that learning rate takes it
    params = {"w": jnp.ones((4, 4)), "b": jnp.ones(4)}
    grads = jax.tree.map(lambda p: 0.01 * jnp.arange(1.0, p.size + 1).reshape(p.shape), params)
    tx = experiment.optimizer()
    state = tx.init(params)
    state = (*state[:-1], experiment.Timed(jnp.asarray(0.3)))
    updates, after = tx.update(grads, state, params)
    muon = experiment.optax.contrib.muon(
        0.3,
        weight_decay=0.01,
        consistent_rms=0.2,
        muon_weight_dimension_numbers=experiment.optimizers.matrices,
    )
    clipped = experiment.optax.clip_by_global_norm(1.0)
    wanted, _ = muon.update(
        clipped.update(grads, clipped.init(params))[0], muon.init(params), params
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), updates, wanted)
    assert after[-1].rate == state[-1].rate


def test_longer_n_grams_know_more(experiment):
    own = list(experiment.n_grams([1, 3], 1.0, 16))
    assert own[1]["bits"] < own[0]["bits"] < math.log2(27)


@pytest.mark.parametrize("name", ["mask, generalised KL", "mask, cross-entropy × hazard"])
def test_masked_diffusion_is_the_bound(experiment, name):
    """The same number of a net that carries; and a net of unigrams has their entropy."""
    own = experiment.METHODS[name]
    x1 = jnp.asarray(experiment.stream()[: 64 * 32].reshape(64, 32))
    shares = np.bincount(np.asarray(x1).ravel(), minlength=27) / x1.size
    log_m = jnp.log(jnp.maximum(jnp.asarray(shares), 1e-9))

    def net(t, x, cond=None, *, key=None):
        return carried(jnp.broadcast_to(log_m, (*x.shape, 27)), x)

    nets = Nets(net, net, net)
    keys = jax.random.split(jax.random.key(0), 32)
    found = np.mean([own.loss(nets, key, experiment.Batch(x1))[0] for key in keys])
    entropy = -np.sum(shares * np.log(np.maximum(shares, 1e-9)))
    assert found == pytest.approx(entropy, rel=0.1)
