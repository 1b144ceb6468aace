import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import spatial, stats

from fmjax.data import intricate, toy
from fmjax.types import Batch

DRAWS = {
    "board": intricate.board,
    "sierpinski": intricate.sierpinski,
    "filament": intricate.filament,
    "student": intricate.student,
    "moons": intricate.moons_classes,
    "mislabelled": functools.partial(
        intricate.mislabelled, draw=intricate.moons_classes, classes=2, share=0.3
    ),
    "blurred": functools.partial(intricate.blurred, draw=toy.moons, std=0.1),
}
UNIFORM = jax.random.uniform(jax.random.key(9), (100_000, 2), minval=-3.0, maxval=3.0)


def drawn(function, n=50_000, **kw):
    return jax.jit(lambda key: function(key, n, **kw))(jax.random.key(0))


@pytest.mark.parametrize("name", DRAWS)
def test_draws_are_traceable_float32_and_use_each_key_once(name):
    with jax.debug_key_reuse(True):
        traced = jax.eval_shape(jax.jit(lambda key: DRAWS[name](key, 7)), jax.random.key(0))
    x1 = traced.x1 if isinstance(traced, Batch) else traced
    assert x1.shape == (7, 2)
    assert x1.dtype == jnp.float32
    if isinstance(traced, Batch):
        assert traced.cond.shape == (7,)
        assert traced.cond.dtype == jnp.int32


@pytest.mark.parametrize("cells", [4, 8, 32])
def test_a_board_is_every_other_square_equally_often(cells):
    x = drawn(intricate.board, cells=cells)
    assert intricate.on_board(x, cells=cells).all()
    place = np.floor((np.asarray(x) / 3**0.5 + 1) / 2 * cells).astype(int)
    squares, counts = np.unique(place, axis=0, return_counts=True)
    assert len(squares) == cells**2 / 2
    # chi-squared: mean k − 1, variance 2(k − 1)
    expected = len(x) / len(squares)
    chi2 = ((counts - expected) ** 2 / expected).sum()
    assert abs(chi2 - len(squares) + 1) < 5 * (2 * len(squares)) ** 0.5
    np.testing.assert_allclose(np.var(x, axis=0), 1, atol=0.02)
    # a sheared or shifted board is not on it, and half the square is
    assert not intricate.on_board(x + jnp.asarray([[2 * 3**0.5 / cells, 0.0]]), cells=cells).any()
    covered = 0.5 * (2 * 3**0.5 / 6) ** 2
    assert intricate.on_board(UNIFORM, cells=cells).mean() == pytest.approx(covered, abs=0.006)


def test_a_board_of_four_is_the_checkerboard():
    x = drawn(toy.checkerboard, scale=2.0)
    assert intricate.on_board(x, cells=4, half=4.0).all()
    with pytest.raises(ValueError, match="cells=5: expected an even number"):
        intricate.board(jax.random.key(0), 4, cells=5)


@pytest.mark.parametrize("depth", [0, 1, 4])
def test_sierpinski_has_the_moments_and_the_area_of_its_stage(depth):
    x = drawn(intricate.sierpinski, depth=depth)
    # rounding puts a few of those on a border outside of it
    assert intricate.on_sierpinski(x, depth=depth).mean() > 0.9999
    np.testing.assert_allclose(x.mean(0), 0, atol=0.015)
    np.testing.assert_allclose(np.cov(x.T), (1 - 0.25 * 0.25**depth) * np.eye(2), atol=0.015)
    triangle = 3 * 3**0.5 / 4 * 6 * 0.75**depth
    inside = UNIFORM[jnp.all(jnp.abs(UNIFORM) < 2.5, axis=1)]
    share = intricate.on_sierpinski(inside, depth=depth).mean()
    assert share == pytest.approx(triangle / 25, abs=0.01)
    # a stage is within the one before
    if depth:
        assert intricate.on_sierpinski(x, depth=depth - 1).mean() > 0.9999
        middle = jnp.zeros((1, 2))
        assert not intricate.on_sierpinski(middle, depth=depth).any()


def test_a_filament_is_its_curve_and_a_normal_width():
    curve = intricate.lissajous_curve(jnp.linspace(0, 1, 20_001))
    near = spatial.cKDTree(curve).query(drawn(intricate.filament, width=0.0))[0]
    assert near.max() < 2e-3
    x = drawn(intricate.filament, width=0.3)
    np.testing.assert_allclose(x.mean(0), 0, atol=0.02)
    np.testing.assert_allclose(np.cov(x.T), 1.09 * np.eye(2), atol=0.03)
    np.testing.assert_allclose(curve[0], curve[-1], atol=1e-5)  # closed


@pytest.mark.parametrize("df", [1.5, 4.0])
def test_student_has_the_tails_of_its_degrees_of_freedom(df):
    x = np.asarray(drawn(intricate.student, 20_000, df=df), np.float64)
    assert stats.kstest(x[:, 0], stats.t(df).cdf).pvalue > 1e-3
    # |x|²/2 has the F law with (2, df): both coordinates share their scale
    assert stats.kstest((x**2).sum(1) / 2, stats.f(2, df).cdf).pvalue > 1e-3
    with pytest.raises(ValueError, match="df=0"):
        intricate.student(jax.random.key(0), 3, df=0.0)


def test_moons_lie_on_either_side_by_their_class():
    batch = drawn(intricate.moons_classes, std=0.0)
    sign = 1 - 2 * np.asarray(batch.cond)[:, None]
    x = sign * np.asarray(batch.x1) + np.array([0.5, 0.25])
    np.testing.assert_allclose(np.hypot(*x.T), 1, atol=1e-5)
    assert (x[:, 1] > -1e-6).all()
    assert batch.cond.mean() == pytest.approx(0.5, abs=0.01)
    noisy = drawn(intricate.moons_classes, std=0.1)
    np.testing.assert_allclose(noisy.x1 - batch.x1, 0, atol=0.6)
    assert np.std(noisy.x1 - batch.x1) == pytest.approx(0.1, rel=0.02)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_given_share_of_labels_is_another_equally(share):
    def four(key, n):
        c = jax.random.randint(key, (n,), 0, 4)
        return Batch(c[:, None].astype(jnp.float32) * jnp.ones((1, 2)), c)

    batch = drawn(intricate.mislabelled, draw=four, classes=4, share=share)
    shift = (np.asarray(batch.cond) - np.asarray(batch.x1)[:, 0].astype(int)) % 4
    shares = np.bincount(shift, minlength=4) / len(shift)
    np.testing.assert_allclose(shares, [1 - share, *[share / 3] * 3], atol=0.008)


def test_bad_shares_are_refused():
    for options in ({"classes": 2, "share": 1.5}, {"classes": 1, "share": 0.1}):
        with pytest.raises(ValueError, match="expected 0 to 1, and at least 2"):
            intricate.mislabelled(jax.random.key(0), 4, draw=intricate.moons_classes, **options)


def test_blur_adds_normal_noise_and_keeps_the_condition():
    def still(key, n):
        return Batch(jnp.zeros((n, 2)), jnp.arange(n))

    batch = drawn(intricate.blurred, draw=still, std=0.2)
    np.testing.assert_allclose(np.cov(batch.x1.T), 0.04 * np.eye(2), atol=0.001)
    np.testing.assert_array_equal(batch.cond, np.arange(50_000))
    assert drawn(intricate.blurred, 5, draw=toy.moons, std=0.0).shape == (5, 2)
