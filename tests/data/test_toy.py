import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fmjax.data import toy
from fmjax.types import Batch

PI = np.pi
TOYS = [
    toy.gaussian,
    toy.gaussians8,
    toy.moons,
    toy.checkerboard,
    toy.scurve,
    toy.spirals,
    toy.rings,
    toy.pinwheel,
]


def drawn(draw, n=4000, **kw):
    return np.asarray(jax.jit(lambda key: draw(key, n, **kw))(jax.random.key(0)), np.float64)


def moon_moments():
    """Half circles with means (0, 2/π) and (1, ½ − 2/π), their spread, and the shared noise."""
    gap = np.array([1, 0.5 - 4 / PI]) / 2
    within = np.diag([0.5, 0.5 - 4 / PI**2])
    cov = within + np.outer(gap, gap) + 0.2**2 / 12
    return np.array([0.5, 0.25]) * 3 + 0.3 - 1, 9 * cov


def spiral_moments():
    """E x xᵀ of ±(−r cos r + u, r sin r + u')/3 from the integrals over r, density 2r/R²."""
    big = 3 * PI
    r_cos, r_sin = -4 / big, 2 - 8 / big**2
    r2_cos2, r2_sincos = big**2 / 4 + 3 / 4, -big / 2 + 3 / (4 * big)
    u, u2 = 0.25, 0.25 / 3
    xx = r2_cos2 - 2 * r_cos * u + u2
    yy = big**2 / 2 - r2_cos2 + 2 * r_sin * u + u2
    xy = -r2_sincos - r_cos * u + r_sin * u + u**2
    return np.zeros(2), np.array([[xx, xy], [xy, yy]]) / 9 + 0.1**2 * np.eye(2)


MOMENTS = {
    toy.gaussian: (np.zeros(2), np.eye(2)),
    toy.gaussians8: (np.zeros(2), (25 / 2 + 0.1**0.5) * np.eye(2)),
    toy.moons: moon_moments(),
    toy.checkerboard: (np.zeros(2), np.array([[16 / 3, 1], [1, 16 / 3]])),
    toy.scurve: (
        np.zeros(2),
        np.array([[0.5, -1 / (3 * PI)], [-1 / (3 * PI), 1.5 + 4 / (3 * PI)]]) + 0.0025 * np.eye(2),
    ),
    toy.spirals: spiral_moments(),
    toy.rings: (np.zeros(2), (0.75**2 * (1 + 4 + 9 + 16) / 8 + 0.08**2) * np.eye(2)),
    toy.pinwheel: (np.zeros(2), 4 * (1 + 0.09 + 0.01) / 2 * np.eye(2)),
}


@pytest.mark.parametrize("draw", TOYS)
def test_mean_and_covariance_are_the_closed_form(draw):
    mean, cov = MOMENTS[draw]
    x, scale = drawn(draw, 200_000), np.trace(cov)
    np.testing.assert_allclose(x.mean(0), mean, atol=0.01 * scale**0.5)
    np.testing.assert_allclose(np.cov(x.T), cov, atol=0.01 * scale)


@pytest.mark.parametrize("draw", [*TOYS, toy.gaussians8_classes])
def test_draws_are_traceable_float32_and_use_each_key_once(draw):
    with jax.debug_key_reuse(True):
        traced = jax.eval_shape(jax.jit(lambda key: draw(key, 7)), jax.random.key(0))
    x1 = traced.x1 if isinstance(traced, Batch) else traced
    assert x1.shape == (7, 2)
    assert x1.dtype == jnp.float32


def test_gaussian_takes_mean_and_std():
    x = drawn(toy.gaussian, 100_000, mean=(3.0, -1.0), std=0.5)
    np.testing.assert_allclose(x.mean(0), [3, -1], atol=0.01)
    np.testing.assert_allclose(np.cov(x.T), 0.25 * np.eye(2), atol=0.01)


def test_eight_gaussians_are_labelled_by_mode():
    options = {"radius": 2.0, "var": 0.01}
    batch = jax.jit(lambda key: toy.gaussians8_classes(key, 80_000, **options))(jax.random.key(0))
    for mode in range(8):
        x = np.asarray(batch.x1)[np.asarray(batch.cond) == mode]
        assert len(x) == pytest.approx(10_000, rel=0.04)
        angle = 2 * PI * mode / 8
        np.testing.assert_allclose(x.mean(0), [2 * np.cos(angle), 2 * np.sin(angle)], atol=0.005)
        np.testing.assert_allclose(np.cov(x.T), 0.01 * np.eye(2), atol=0.0005)
    np.testing.assert_array_equal(drawn(toy.gaussians8, 80_000, **options), batch.x1)


def test_moons_without_noise_are_two_half_circles():
    x = drawn(toy.moons, noise=0.0, scale=1.0, shift=0.0)
    outer = np.abs(np.hypot(*x.T) - 1) < 1e-5
    inner = np.abs(np.hypot(*(x - [1, 0.5]).T) - 1) < 1e-5
    assert (outer | inner).all()
    assert outer.mean() == pytest.approx(0.5, abs=0.03)
    assert (x[outer & ~inner][:, 1] > -1e-6).all()
    assert (x[inner & ~outer][:, 1] < 0.5 + 1e-6).all()


def test_noise_of_the_moons_is_uniform_and_shared_by_the_coordinates():
    x, y = drawn(toy.moons, noise=1000.0, scale=1.0, shift=0.0).T / 1000
    np.testing.assert_allclose(x, y, atol=0.004)
    np.testing.assert_allclose(np.quantile(x, [0, 0.25, 0.5, 0.75, 1]), np.arange(5) / 4, atol=0.03)


def test_checkerboard_fills_every_other_cell_equally():
    cell = np.floor(drawn(toy.checkerboard, 100_000) / 2).astype(int)
    assert (cell.sum(1) % 2 == 0).all()
    cells, counts = np.unique(cell, axis=0, return_counts=True)
    assert len(cells) == 8
    assert cell.min() == -2
    assert cell.max() == 1
    np.testing.assert_allclose(counts / counts.sum(), 1 / 8, rtol=0.02)


def test_scurve_without_noise_is_on_two_circles():
    x, z = drawn(toy.scurve, noise=0.0, scale=2.0).T / 2
    np.testing.assert_allclose(x**2 + (np.abs(z) - 1) ** 2, 1, atol=1e-5)


def test_spirals_without_noise_turn_with_the_radius():
    x = drawn(toy.spirals, width=0.0, noise=0.0)
    r = 3 * np.hypot(*x.T)
    curve = np.stack([-r * np.cos(r), r * np.sin(r)], axis=1) / 3
    arm = np.sign((x * curve).sum(1))
    np.testing.assert_allclose(x, arm[:, None] * curve, atol=1e-4)
    assert arm.mean() == pytest.approx(0, abs=0.05)
    # equal chances by area: P(r < R/2) = 1/4
    assert (r < 1.5 * PI).mean() == pytest.approx(0.25, abs=0.02)


def test_rings_without_noise_have_the_given_radii():
    x = drawn(toy.rings, 8000, radii=(1.0, 4.0), noise=0.0)
    radius = np.hypot(*x.T)
    np.testing.assert_allclose(radius, np.where(radius < 2, 1, 4), rtol=1e-5)
    assert (radius < 2).mean() == pytest.approx(0.5, abs=0.02)
    assert np.abs(np.exp(1j * np.arctan2(*x.T)).mean()) < 0.03


def test_pinwheel_without_width_is_a_curve_repeated():
    x = drawn(toy.pinwheel, arms=5, tangential=0.0, radial=0.2, scale=1.0)
    z = x[:, 0] + 1j * x[:, 1]
    # undo the turn: what is left is an arm's own angle, a multiple of 2π/5
    straight = z * np.exp(0.25j * np.exp(np.abs(z)))
    np.testing.assert_allclose(np.angle(straight**5), 0, atol=1e-4)
    arm = np.round(np.angle(straight) / (2 * PI / 5)).astype(int) % 5
    np.testing.assert_allclose(np.bincount(arm) / 4000, 0.2, atol=0.03)


def test_toy_wraps_a_function_of_a_key():
    data = toy.toy(toy.moons)
    assert data.batch is None
    assert data.spec == Batch(jax.ShapeDtypeStruct((2,), jnp.float32))
    assert dict(data.splits) == {"train": 0, "test": 0}
    assert (data.null, data.read, data.names) == (None, None, ())
    batch = jax.eval_shape(lambda: data.sample(jax.random.key(0), 5))
    assert batch.x1.shape == (5, 2)
    assert batch.cond is batch.x0 is batch.weight is None


def test_take_is_fixed_and_differs_between_splits():
    data = toy.toy(toy.gaussian)
    test = data.take("test", 10)
    assert isinstance(test.x1, np.ndarray)
    np.testing.assert_array_equal(toy.toy(toy.gaussian).take("test", 10).x1, test.x1)
    assert (data.take("train", 10).x1 != test.x1).all()
    assert data.take("train", None).x1.shape == (2048, 2)
    with pytest.raises(ValueError, match="no split 'valid'; there are: test, train"):
        data.take("valid", 10)


def test_a_paired_source_is_drawn_independently():
    data = toy.toy(toy.gaussian, x0=toy.gaussian)
    assert data.spec.x0 == data.spec.x1
    with jax.debug_key_reuse(True):
        batch = jax.jit(data.sample, static_argnums=1)(jax.random.key(0), 10_000)
    cross = np.corrcoef(np.c_[batch.x1, batch.x0].T)[:2, 2:]
    np.testing.assert_allclose(cross, 0, atol=0.04)
    # the target's draw does not depend on whether there is a source
    alone = jax.jit(toy.toy(toy.gaussian).sample, static_argnums=1)(jax.random.key(0), 10_000)
    np.testing.assert_array_equal(batch.x1, alone.x1)


def test_classes_pass_through():
    data = toy.toy(toy.gaussians8_classes, null=np.int32(8), names=[*"abcdefgh"])
    assert data.spec.cond == jax.ShapeDtypeStruct((), jnp.int32)
    assert data.take("train", 4).cond.shape == (4,)
    assert data.null == 8
    assert data.read("c") == 2
    assert data.names == tuple("abcdefgh")
    assert toy.toy(toy.gaussians8_classes, read=int).read("5") == 5


def mine(key, n):
    x = jax.random.uniform(key, (n, 4, 3))
    return Batch({"image": x, "scale": x[:, 0, 0]}, x[:, 0], weight=jnp.ones(n))


def test_a_users_function_may_draw_any_batch():
    data = toy.toy(mine)
    assert data.spec.x1["image"].shape == (4, 3)
    assert data.spec.x1["scale"].shape == ()
    assert data.spec.weight.shape == ()
    batch = data.take("train", 6)
    np.testing.assert_array_equal(batch.x1["image"][:, 0], batch.cond)


def test_bad_targets_are_refused():
    with pytest.raises(ValueError, match="expected a leading axis 3"):
        toy.toy(lambda key, n: jax.random.normal(key, (2, n)))
    with pytest.raises(ValueError, match="expected a leading axis 3"):
        toy.toy(lambda key, n: Batch(None))
    with pytest.raises(ValueError, match="leave out x0="):
        toy.toy(lambda key, n: Batch(jnp.ones(n), x0=jnp.ones(n)), x0=toy.gaussian)
