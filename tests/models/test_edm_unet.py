"""DDPM++ and NCSN++: their sizes, resampling, and EDM's prediction as a row."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fmjax import paths, train, types
from fmjax.models.edm_unet import double, edm_grid, edm_row, edm_unet, halve, log_ratio, thousand
from fmjax.models.predict import predict

RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(3, 4, 8, 2)), jnp.float32)
T, CLASSES = jnp.array([0.1, 0.5, 0.9]), jnp.array([0, 1, 2])
SMALL = {"channels": 8, "multipliers": (1, 2), "blocks": 1}
NCSN = {"residual_input": True, "fourier": True, "smooth": True}


def shapes(model, x=X, cond=None):
    return jax.eval_shape(model.init, jax.random.key(0), types.Batch(x, cond))


def block(c, k, resampled=False, attention=False, e=512):
    """Parameters of a block, written out: norms, convolutions, the embedding's map, the skip."""
    size = 2 * c + (9 * c * k + k) + (e * k + k) + 2 * k + (9 * k * k + k)
    size += (c * k + k) if resampled or c != k else 0
    return size + (2 * k + 3 * (k * k + k) + (k * k + k) if attention else 0)


def ddpm(colours=3, w=256, first=128, e=512, noise=128):
    """DDPM++ of three levels of 256 channels, four blocks, attention at half size."""
    size = (noise * e + e) + (e * e + e) + (9 * colours * first + first)
    size += block(first, w) + 3 * block(w, w)
    size += block(w, w, True) + 4 * block(w, w, attention=True)
    size += block(w, w, True) + 4 * block(w, w)
    size += block(w, w, attention=True) + block(w, w) + 5 * block(2 * w, w)
    size += block(w, w, True) + 4 * block(2 * w, w) + block(2 * w, w, attention=True)
    size += block(w, w, True) + 4 * block(2 * w, w) + block(w + first, w)
    return size + 2 * w + (9 * w * colours + colours)


def test_sizes_of_ddpm_and_ncsn_in_closed_form():
    """Summed from EDM's description; 55.7 and 56.4 M, less the 9 x 128 of its augmentations."""
    cifar = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    plain = train.total_parameters(shapes(edm_unet(), cifar))
    assert plain == ddpm()
    assert round(plain / 1e6, 1) == 55.7
    residual = (9 * 3 * 256 + 256) + (9 * 256 * 256 + 256)
    ncsn = train.total_parameters(shapes(edm_unet(**NCSN), cifar))
    assert ncsn == ddpm(noise=256) + residual
    assert round(ncsn / 1e6, 1) == 56.4
    # ten rows and one of the absent class: as many as EDM's ten weights and a bias
    narrow = train.total_parameters(shapes(edm_unet(**SMALL)))
    model = edm_unet(**SMALL, num_classes=10)
    assert train.total_parameters(shapes(model, cond=CLASSES)) == narrow + 11 * 8


def test_every_parameter_matters_and_rows_do_not_depend_on_each_other():
    model, cond = edm_unet(**SMALL, **NCSN, remat=True, num_classes=3), CLASSES
    draw = lambda a: RNG.normal(size=a.shape) * (a.size // a.shape[-1]) ** -0.5  # noqa: E731
    params = jax.tree.map(lambda a: jnp.asarray(draw(a), jnp.float32), shapes(model, cond=cond))

    @jax.jit
    def gradient(params, t, x, cond):
        def loss(params):
            v = model.apply(params, t, x, cond)
            return jnp.mean(v**2), v

        return jax.grad(loss, has_aux=True)(params)

    grads, v = gradient(params, T, X, cond)
    assert v.shape == X.shape
    size = jax.tree.leaves(jax.tree.map(lambda g: float(jnp.abs(g).max()), grads))
    assert min(size) > 0
    assert np.isfinite(size).all()
    _, swapped = gradient(params, T[::-1], X[::-1], cond[::-1])
    np.testing.assert_allclose(swapped[::-1], v, atol=1e-5)


def test_smooth_resampling_in_closed_form():
    kernel = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64
    padded = np.pad(X, ((0, 0), (1, 1), (1, 1), (0, 0)))
    for y, x in ((0, 0), (1, 2)):
        window = padded[:, 2 * y : 2 * y + 4, 2 * x : 2 * x + 4]
        expected = np.einsum("bijc,ij->bc", window, kernel)
        np.testing.assert_allclose(halve(X)[:, y, x], expected, atol=1e-6)
    small = halve(X)
    transposed = jax.vjp(halve, X)[1](small)[0]
    np.testing.assert_allclose(double(small), 4 * transposed, atol=1e-5)


def test_labels_of_time():
    np.testing.assert_allclose(log_ratio(T), np.log([9.0, 1.0, 1 / 9]) / 4, atol=1e-6)
    ends = log_ratio(jnp.array([0.0, 1.0]))
    np.testing.assert_allclose(ends, np.log([80, 0.002]) / 4, rtol=1e-4)
    np.testing.assert_allclose(thousand(T), [899.1, 499.5, 99.9], rtol=1e-5)


def test_edm_grid_is_of_edms_noise_levels():
    times = edm_grid(np.linspace(0, 1, 19))
    assert (times[0], times[-1], len(times)) == (0, 1, 19)
    assert np.all(np.diff(times) > 0)
    low, high = 0.002 ** (1 / 7), 80 ** (1 / 7)
    levels = (high + np.arange(1, 18) / 17 * (low - high)) ** 7
    np.testing.assert_allclose(1 / times[1:-1] - 1, levels, rtol=1e-9)


def test_edm_row_is_the_target_of_edms_network():
    """F = (x1 - c_skip x)/c_out at noise level σ/α; a network that gives it gives the velocity."""
    path, s = paths.linear(), 0.5
    x0, x1 = (jnp.asarray(a, jnp.float32) for a in RNG.normal(size=(2, 3, 2)))
    t = jnp.array([0.05, 0.5, 0.95])
    xt, ut = paths.interpolate(path, t, x0, x1)
    level = ((1 - t) / t)[:, None]
    skip = s**2 / (level**2 + s**2)
    out = level * s / jnp.sqrt(level**2 + s**2)
    target = (x1 - skip * xt / t[:, None]) / out
    a, b = edm_row(path, t)
    np.testing.assert_allclose(a[:, None] * x1 + b[:, None] * x0, target, rtol=1e-4, atol=1e-5)
    exact = types.Model(lambda key, batch: {}, lambda params, t, x, cond=None, **kw: target)
    net = predict(exact, path=path, row=edm_row)
    np.testing.assert_allclose(net.apply({}, t, xt), ut, atol=1e-4)
    # data of deviation 1/2: the target has unit variance at every time
    np.testing.assert_allclose((a * s) ** 2 + b**2, 1, rtol=1e-5)


def test_what_does_not_fit_is_an_error():
    with pytest.raises(ValueError, match=r"images of 6x8 cannot be halved 2 times"):
        edm_unet(channels=8).init(jax.random.key(0), types.Batch(jnp.zeros((1, 6, 8, 1))))
    with pytest.raises(ValueError, match="channels=7"):
        edm_unet(channels=7)
