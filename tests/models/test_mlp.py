"""The perceptrons: TorchCFM's network number by number, its NNX twin, the residual one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fmjax import types
from fmjax.models import _common, mlp, nnx_mlp, resmlp

RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(5, 2)), jnp.float32)
T = jnp.linspace(0.0, 1.0, 5)


def filled(model, cond=None):
    """Parameters from NumPy, which compiles nothing."""
    shapes = jax.eval_shape(model.init, jax.random.key(1), types.Batch(X, cond))
    return jax.tree.map(lambda a: np.float32(0.3 * RNG.normal(size=a.shape)), shapes)


def chain(params, h):
    """Dense, SELU, …, Dense in NumPy."""
    for i in range(len(params)):
        layer = jax.tree.map(np.asarray, params[f"layer_{i}"])
        h = np.asarray(jax.nn.selu(h)) if i else h
        h = h @ layer["kernel"] + layer["bias"][None]
    return h


def size(params):
    return sum(a.size for a in jax.tree.leaves(params))


@pytest.mark.parametrize("make", [mlp.mlp, nnx_mlp.nnx_mlp])
def test_the_default_is_torchcfms_network(make):
    model = make()
    params = filled(model)
    assert size(params) == (2 + 1) * 64 + 64 + 2 * (64 * 64 + 64) + 64 * 2 + 2
    expected = chain(params, np.concatenate([X, T[:, None]], axis=-1))
    np.testing.assert_allclose(jax.jit(model.apply)(params, T, X), expected, atol=1e-5)
    assert np.abs(expected).max() > 0.1


def test_time_features_replace_the_time():
    model = mlp.mlp(width=16, features=6)
    params = filled(model)
    expected = chain(params, np.concatenate([X, _common.time_features(T, 6)], axis=-1))
    np.testing.assert_allclose(jax.jit(model.apply)(params, T, X), expected, atol=1e-5)


@pytest.mark.parametrize("cond", [jnp.array([0, 1, 2, 3, 0]), jnp.ones((5, 3))])
def test_the_nnx_network_is_the_linen_one(cond):
    """The two have the same parameters, so that each runs on the other's."""
    options = {"width": 16, "depth": 2, "activation": jax.nn.gelu, "num_classes": 3}
    linen, nnx = mlp.mlp(**options), nnx_mlp.nnx_mlp(**options)
    params = filled(nnx, cond)
    shapes = jax.eval_shape(linen.init, jax.random.key(1), types.Batch(X, cond))
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(lambda a: a.shape, shapes)
    out, expected = (jax.jit(m.apply)(params, T, X, cond) for m in (nnx, linen))
    np.testing.assert_allclose(out, expected, atol=1e-5)


def test_a_condition_of_values_is_appended_to_the_input():
    cond = np.float32(RNG.normal(size=(5, 3)))
    model = mlp.mlp(depth=1)
    params = filled(model, cond)
    kernel = np.concatenate([params["layer_0"]["kernel"], params["condition"]["kernel"]])
    layers = {"layer_0": {**params["layer_0"], "kernel": kernel}, "layer_1": params["layer_1"]}
    expected = chain(layers, np.concatenate([X, T[:, None], cond], axis=-1))
    np.testing.assert_allclose(jax.jit(model.apply)(params, T, X, cond), expected, atol=1e-5)


def test_the_residual_network_starts_at_zero_with_identity_blocks():
    model, without = (resmlp.resmlp(width=16, depth=depth) for depth in (1, 0))
    start = jax.jit(model.init)(jax.random.key(1), types.Batch(X))
    apply = jax.jit(model.apply)
    np.testing.assert_array_equal(apply(start, T, X), np.zeros_like(X))
    params = filled(model)
    own = {name: part for name, part in params.items() if name != "block_0"}
    expected = jax.jit(without.apply)(own, T, X)
    assert np.abs(expected).max() > 0.1
    same = apply({**own, "block_0": start["block_0"]}, T, X)
    np.testing.assert_allclose(same, expected, rtol=1e-6, atol=1e-6)
    assert np.abs(apply(params, T, X) - expected).max() > 0.1


def test_the_residual_networks_size_in_closed_form():
    w, depth, f, d, classes, e = 32, 3, 8, 2, 4, 2
    model = resmlp.resmlp(width=w, depth=depth, expand=e, features=f, num_classes=classes)
    params = filled(model, jnp.zeros(5, jnp.int32))
    block = (3 * w * w + 3 * w) + (e * w * w + e * w) + (e * w * w + w)
    head = (2 * w * w + 2 * w) + (w * d + d)
    ends = (f * w + w) + (w * w + w) + (classes + 1) * w + (d * w + w)
    skip = w * d + d
    assert size(params) == depth * block + head + ends + skip


def test_time_features_in_closed_form():
    features = _common.time_features(T, 4, slowest=2.0, fastest=50.0)
    t = np.asarray(T)
    expected = [np.cos(2 * t), np.cos(50 * t), np.sin(2 * t), np.sin(50 * t)]
    np.testing.assert_allclose(features, np.stack(expected, -1), atol=2e-5)


@pytest.mark.parametrize("n", [1, 7])
def test_odd_time_features_are_an_error(n):
    with pytest.raises(ValueError, match=f"{n} time features: expected an even number"):
        mlp.mlp(features=n).init(jax.random.key(1), types.Batch(X))


def test_selu_is_jaxs_to_float32_precision_with_its_derivative():
    x = jnp.concatenate([jnp.linspace(-20, 20, 401), jnp.asarray([0.0, -0.0, 1e-6, -1e-6, -100])])
    np.testing.assert_allclose(_common.selu(x), jax.nn.selu(x), atol=3e-7, rtol=1e-6)
    slope, expected = (jax.vmap(jax.grad(f))(x) for f in (_common.selu, jax.nn.selu))
    np.testing.assert_allclose(slope, expected, atol=3e-7, rtol=1e-6)
    curvature, expected = (jax.vmap(jax.hessian(f))(x) for f in (_common.selu, jax.nn.selu))
    np.testing.assert_allclose(curvature, expected, atol=3e-7, rtol=1e-6)
