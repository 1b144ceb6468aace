import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fmjax import sources
from fmjax.couplings import semidiscrete as plans
from fmjax.data.in_memory import in_memory
from fmjax.data.semidiscrete import semidiscrete
from fmjax.types import Batch

KEY = jax.random.key(0)


def uniform(key, like):
    return jax.random.uniform(key, like.shape, like.dtype)


def test_in_one_dimension_the_cells_are_quantiles():
    """Points at 0, ½ and 3 for noise on [0, 1]: the cells end at ⅓ and ⅔, whatever the points."""
    points = jnp.array([[0.0], [0.5], [3.0]])
    g = jax.jit(functools.partial(plans.fit, source=uniform, steps=500))(KEY, points)
    x0 = jnp.array([[0.0], [0.31], [0.355], [0.645], [0.69], [1.0]])
    assert plans.assign(x0, points, g).tolist() == [0, 0, 1, 1, 2, 2]
    share = functools.partial(plans.imbalance, KEY, points, source=uniform, rounds=20)
    assert share(g) < 0.02
    # without potentials the cells end at ¼ and never
    assert share(jnp.zeros(3)) == pytest.approx(5 / 12, abs=0.02)


def test_with_labels_every_label_has_the_whole_source():
    points = jnp.array([[0.0], [0.2], [1.0], [1.3]])
    labels = jnp.array([0, 0, 1, 1])
    fit = functools.partial(plans.fit, source=uniform, labels=labels, steps=500)
    g = jax.jit(fit)(KEY, points)
    x0 = jnp.array([[0.46], [0.54]])  # each label's cells meet at ½
    for label, cells in ((0, [0, 1]), (1, [2, 3])):
        given = jnp.full(2, label)
        assert plans.assign(x0, points, g, label=given, labels=labels).tolist() == cells


def sets(cond=None, n=24, **kw):
    x1 = np.random.default_rng(0).normal(size=(n, 2)).astype(np.float32)
    batch = Batch(x1, cond)
    return functools.partial(in_memory, {"train": batch, "test": batch}, **kw)


OPTIONS = {"batch_size": 64, "steps": 600}


def test_data_are_the_rows_that_their_noise_is_transported_to():
    cond = np.arange(24, dtype=np.int32) // 12
    data = semidiscrete(sets(cond), **OPTIONS)
    whole = data.take("train", None)
    batches = [data.batch("train", s) for s in range(40)]
    x0, x1, c = (np.concatenate([getattr(b, f) for b in batches]) for f in ("x0", "x1", "cond"))
    row = np.argmin(((x1[:, None] - whole.x1[None]) ** 2).sum(2), axis=1)
    assert (whole.x1[row] == x1).all()
    assert (whole.cond[row] == c).all()
    # 2,560 draws over 24 rows: 107 ± 10 each
    assert np.bincount(row, minlength=24).min() > 60
    # transport, yet the noise of each class is normal: 0 ± 0.03, where its rows are not
    assert np.abs([x0[c == k].mean(0) for k in (0, 1)]).max() < 0.12
    moved = ((x0 - x1) ** 2).sum(1).mean()
    assert moved < 0.5 * ((x0 - np.roll(x1, 1, axis=0)) ** 2).sum(1).mean()
    assert data.spec.x0.shape == (2,)
    assert data.sample is None


def test_batches_depend_on_seed_and_step_alone_and_processes_share_them():
    options = OPTIONS | {"steps": 5}
    data = semidiscrete(sets(), **options)
    halves = [semidiscrete(sets(), process=(i, 2), **options) for i in (0, 1)]
    whole = data.batch("train", 5)
    parts = [h.batch("train", 5) for h in halves]
    for field in ("x0", "x1"):
        both = np.concatenate([getattr(p, field) for p in parts])
        assert (both == getattr(whole, field)).all()
    assert (data.batch("train", 6).x0 != whole.x0).any()
    assert (semidiscrete(sets(), seed=1, **options).batch("train", 5).x0 != whole.x0).any()


def test_noise_is_the_runs_source_in_the_codecs_space_and_rows_may_be_fewer():
    source = functools.partial(sources.distribution, sample=lambda key, n: jnp.full((n, 2), 9.0))
    data = semidiscrete(sets(), source=source, rows=3, **OPTIONS | {"steps": 5})
    batch = data.batch("train", 0)
    assert (batch.x0 == 9).all()
    assert len(np.unique(batch.x1, axis=0)) <= 3


def test_errors_say_what_to_do():
    with pytest.raises(TypeError, match="dict\\(bind"):
        semidiscrete(sets()(batch_size=4), **OPTIONS)
    data = semidiscrete(sets(np.zeros(24, np.float32)), **OPTIONS)
    with pytest.raises(ValueError, match=r"float32.*conditional:continuous"):
        data.batch("train", 0)
    with pytest.raises(ValueError, match="no split 'other'"):
        data.batch("other", 0)
