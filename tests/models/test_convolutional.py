"""Convolutions in both forms, group norms, attention over pixels, resampling."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fmjax.models import _common, _convolutional

RNG = np.random.default_rng(0)


def normal(*shape):
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


X, KERNEL, OUT = normal(8, 5, 6, 3), normal(3, 3, 3, 4), normal(8, 5, 6, 4)


@pytest.fixture
def large(monkeypatch):
    """Every convolution and every attention counts as large."""
    for name in ("PIXELS", "PRODUCTS", "LOGITS"):
        monkeypatch.setattr(_convolutional, name, 1)


def summed(x, kernel, padding=((1, 1), (1, 1)), stride=1):
    """The convolution as it is written."""
    x = np.pad(np.asarray(x, np.float64), ((0, 0), *padding, (0, 0)))
    i, j, _, k = kernel.shape
    h, w = ((n - m) // stride + 1 for n, m in zip(x.shape[1:3], (i, j), strict=True))
    out = np.zeros((len(x), h, w, k))
    for y in range(h):
        for z in range(w):
            window = x[:, y * stride : y * stride + i, z * stride : z * stride + j]
            out[:, y, z] = np.einsum("bijc,ijck->bk", window, kernel)
    return out


@pytest.mark.parametrize(
    ("window", "stride", "padding"),
    [(1, 1, None), (3, 1, None), (5, 1, None), (3, 2, None), (3, 2, ((0, 1), (0, 1)))],
)
def test_convolution_as_written(window, stride, padding):
    kernel, half = normal(window, window, 3, 2), window // 2
    out = _convolutional.convolve(X, kernel, stride=stride, padding=padding)
    expected = summed(X, kernel, padding or ((half, half), (half, half)), stride)
    np.testing.assert_allclose(out, expected, atol=1e-4)


def both(f, *args):
    """`f` of the form for large convolutions, and of XLA's own."""
    forms = (_convolutional.convolve, native)
    return (jax.jit(functools.partial(f, form))(*args) for form in forms)


def native(x, kernel):
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=layout)


def check(pair, **tolerance):
    ours, native = pair
    close = lambda a, b: np.testing.assert_allclose(a, b, **tolerance)  # noqa: E731
    jax.tree.map(close, ours, native)


@pytest.mark.parametrize("kernel", [KERNEL, normal(5, 3, 3, 4)])
def test_gradients_of_large_convolutions_are_those_of_xla(large, kernel):
    check(both(lambda f, x, k: jax.vjp(f, x, k)[1](OUT), X, kernel), rtol=1e-4, atol=1e-4)


def test_forward_mode_alone_and_under_reverse_mode(large):
    def squared(f, x, kernel):
        _, tangent = jax.jvp(f, (x, kernel), (x * x, jnp.sin(kernel)))
        return jnp.sum(tangent**2)

    check(both(lambda f, *a: jax.value_and_grad(squared, (1, 2))(f, *a), X, KERNEL), rtol=2e-3)


def test_gradients_of_many_kernels_at_once(large):
    kernels = jnp.stack([KERNEL, 2 * KERNEL])

    def gradients(f, x, kernels):
        loss = lambda x, k: jnp.sum(f(x, k) ** 2)  # noqa: E731
        return jax.vmap(jax.grad(loss, 1), (None, 0))(x, kernels)

    check(both(gradients, X, kernels), rtol=1e-4, atol=1e-3)


def test_gradients_in_float64(large):
    with jax.enable_x64(True):
        x, kernel, out = (jnp.asarray(np.asarray(a, np.float64)) for a in (X, KERNEL, OUT))
        pair = tuple(both(lambda f, k: jax.vjp(lambda k: f(x, k), k)[1](out)[0], kernel))
        assert pair[0].dtype == jnp.float64
        check(pair, rtol=1e-12, atol=1e-12)


def test_gradients_of_a_sharded_batch(large):
    """The same on 8 devices, without a gather of the images."""
    mesh = Mesh(np.array(jax.devices()[:8]), ("data",))
    rows, everywhere = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("data",), ()))
    gradient = lambda x, k, g: jax.vjp(lambda k: _convolutional.convolve(x, k), k)[1](g)  # noqa: E731
    step = jax.jit(gradient, in_shardings=(rows, everywhere, rows), out_shardings=everywhere)
    compiled = step.lower(X, KERNEL, OUT).compile()
    assert "all-gather" not in compiled.as_text()
    expected = jax.jit(gradient)(X, KERNEL, OUT)
    np.testing.assert_allclose(compiled(X, KERNEL, OUT)[0], expected[0], rtol=1e-4, atol=1e-4)


def test_only_large_ones_take_the_long_form():
    assert "custom_jvp" not in str(jax.make_jaxpr(_convolutional.convolve)(X, KERNEL))
    x, kernel = jnp.zeros((128, 28, 28, 32)), jnp.zeros((3, 3, 32, 32))
    assert "custom_jvp" in str(jax.make_jaxpr(_convolutional.convolve)(x, kernel))
    half = (x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16))
    assert "custom_jvp" not in str(jax.make_jaxpr(_convolutional.convolve)(*half))


def test_accelerators_keep_the_usual_forms(large):
    def loss(x, kernel, q):
        return _convolutional.convolve(x, kernel).sum() + _convolutional.attend(q, q, q).sum()

    traced = jax.jit(jax.grad(loss, (0, 1, 2))).trace(X, KERNEL, normal(8, 6, 2, 3))
    loops = {p: "while" in traced.lower(lowering_platforms=(p,)).as_text() for p in ("cpu", "tpu")}
    assert loops == {"cpu": True, "tpu": False}


def test_attention_by_image_is_attention(large):
    q, k, v, g = (normal(8, 6, 2, 3) for _ in range(4))
    ours, usual = (
        jax.jit(lambda q, k, v, f=f: (f(q, k, v), jax.vjp(f, q, k, v)[1](g)))(q, k, v)
        for f in (_convolutional.attend, _common.attend)
    )
    check((ours, usual), rtol=1e-4, atol=1e-5)


def test_group_norm_in_closed_form():
    x = 3 + 2 * np.asarray(normal(2, 4, 5, 6))
    scale, bias = np.asarray(normal(6)), np.asarray(normal(6))
    grouped = x.reshape(2, 20, 3, 2)
    mean, std = (f(grouped, axis=(1, 3), keepdims=True) for f in (np.mean, np.std))
    expected = ((grouped - mean) / std).reshape(x.shape) * scale + bias
    params = {"params": {"scale": jnp.asarray(scale), "bias": jnp.asarray(bias)}}
    norm = _convolutional.GroupNorm(3, 1e-9)
    np.testing.assert_allclose(norm.apply(params, jnp.asarray(x)), expected, atol=1e-5)
    # 4 groups do not divide 6 channels: 2 groups
    halves = _convolutional.GroupNorm(2).apply(params, jnp.asarray(x))
    np.testing.assert_array_equal(_convolutional.GroupNorm(4).apply(params, jnp.asarray(x)), halves)


def test_group_norm_far_from_zero_and_in_bfloat16():
    x = 1000 + normal(2, 4, 4, 8)
    out, _ = _convolutional.GroupNorm(2).init_with_output(jax.random.key(0), x)
    assert abs(float(out.std()) - 1) < 1e-2
    norm = _convolutional.GroupNorm(2, dtype=jnp.bfloat16)
    out, _ = norm.init_with_output(jax.random.key(0), x)
    assert out.dtype == jnp.bfloat16
    assert abs(float(out.astype(jnp.float32).std()) - 1) < 1e-2


def test_orders_of_queries_keys_and_values():
    """The same network, its columns of qkv permuted."""
    x, heads, each = normal(2, 2, 3, 8), 2, 4
    first = _convolutional.Attention(heads, groups=2, out_init=_convolutional.UNIFORM)
    params = first.init(jax.random.key(0), x)["params"]
    kernel, bias = (np.asarray(params["qkv"][n]) for n in ("kernel", "bias"))
    columns = np.arange(24).reshape(heads, 3, each).swapaxes(0, 1).reshape(-1)
    moved = {**params, "qkv": {"kernel": kernel[:, columns], "bias": bias[columns]}}
    second = first.clone(order="qkv")
    out = first.apply({"params": params}, x)
    np.testing.assert_allclose(second.apply({"params": moved}, x), out, atol=1e-5)
    assert np.abs(out - x).max() > 1e-2
    with pytest.raises(ValueError, match="8 channels do not divide into 3 heads"):
        _convolutional.Attention(3).init(jax.random.key(0), x)


def test_resampling():
    x = normal(2, 3, 4, 2)
    up = _convolutional.upsample(x)
    np.testing.assert_array_equal(up, np.repeat(np.repeat(x, 2, axis=1), 2, axis=2))
    np.testing.assert_allclose(_convolutional.downsample(up), x, rtol=1e-6)
