"""The transformer: patches, positions, attention, its size, and what its options do."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from fmjax import types
from fmjax.models import _common, _transformer, dit

RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(3, 4, 8, 2)), jnp.float32)
T = jnp.array([0.1, 0.5, 0.9])
SMALL = {"width": 32, "depth": 1, "features": 16}


def normal(*shape):
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


def filled(init, *args):
    """Parameters from NumPy, which compiles nothing."""
    shapes = jax.eval_shape(init, jax.random.key(0), *args)
    return jax.tree.map(lambda a: normal(*a.shape) * a.shape[0] ** -0.5, shapes)


def test_patches_are_cut_row_by_row_and_glued_back():
    tokens = dit.patchify(X, 2)
    assert tokens.shape == (3, 2 * 4, 2 * 2 * 2)
    np.testing.assert_array_equal(tokens[1, 5], X[1, 2:4, 2:4].reshape(-1))
    np.testing.assert_array_equal(dit.unpatchify(tokens, 2, X.shape), X)


def test_positions_differ_and_separate_row_from_column():
    codes = _transformer.positions(3, 5, 16).reshape(3, 5, 2, 8)
    np.testing.assert_allclose(codes[2, 4, 0, :4], np.sin(2 / 10.0 ** np.arange(4)), rtol=1e-6)
    np.testing.assert_allclose(codes[2, 4, 1, 4:], np.cos(4 / 10.0 ** np.arange(4)), rtol=1e-6)
    assert len(np.unique(codes.reshape(15, 16).round(5), axis=0)) == 15


def test_attention_in_closed_form():
    q, k, v = np.asarray(normal(3, 2, 5, 3, 4))
    expected = np.zeros_like(v)
    for b in range(2):
        for h in range(3):
            weights = np.exp(q[b, :, h] @ k[b, :, h].T / 2.0)
            expected[b, :, h] = weights / weights.sum(-1, keepdims=True) @ v[b, :, h]
    out = _common.attend(*map(jnp.asarray, (q, k, v)))
    np.testing.assert_allclose(out, expected, atol=1e-5)


def test_the_softmax_of_bfloat16_is_in_float32():
    """Logits of 256 and 257 are one bfloat16 number; their weights are 0.27 and 0.73."""
    q = jnp.array([16.0, 1.0, 0.0, 0.0], jnp.bfloat16).reshape(1, 1, 1, 4)
    k = jnp.array([[32.0, 0, 0, 0], [32.0, 2, 0, 0]], jnp.bfloat16).reshape(1, 2, 1, 4)
    v = jnp.array([[0.0] * 4, [1.0] * 4], jnp.bfloat16).reshape(1, 2, 1, 4)
    out = _common.attend(q, k, v).astype(jnp.float32)
    np.testing.assert_allclose(out, jax.nn.sigmoid(1.0), atol=4e-3)


@pytest.fixture(scope="module")
def born():
    return jax.jit(lambda key: dit.dit(**SMALL).init(key, types.Batch(X)))(jax.random.key(1))


def test_it_starts_as_the_zero_function_and_learns_from_there(born):
    def loss(projection):
        params = {**born, "output": {**born["output"], "projection": projection}}
        out = dit.dit(**SMALL).apply(params, T, X)
        return jnp.mean((out - X) ** 2), out

    grads, out = jax.jit(jax.grad(loss, has_aux=True))(born["output"]["projection"])
    np.testing.assert_array_equal(out, np.zeros_like(X))
    assert np.abs(grads["kernel"]).max() > 1e-3


def test_blocks_start_as_the_identity(born):
    block = _transformer.Block(True, 4)
    h, c = normal(3, 8, 32), normal(3, 1, 32)
    apply = jax.jit(lambda params: block.apply({"params": params}, h, c))
    np.testing.assert_array_equal(apply(born["block_0"]), h)
    later = apply(filled(block.init, h, c)["params"])
    assert np.abs(later - h).max() > 0.1


def test_normalised_queries_and_keys_bound_the_logits():
    x = normal(2, 6, 32)
    attention = _transformer.Attention(heads=4, qk_norm=True, dtype=None)
    params = filled(attention.init, x)["params"]
    params["q_norm"]["scale"] = params["k_norm"]["scale"] = jnp.ones(8)
    apply = jax.jit(
        lambda params: attention.apply({"params": params}, x, capture_intermediates=True)[1]
    )
    largest = []
    for factor in (1.0, 1000.0):
        params["qkv"] = {"kernel": factor * params["qkv"]["kernel"], "bias": jnp.zeros(96)}
        seen = apply(params)
        q, k = (seen["intermediates"][name]["__call__"][0] for name in ("q_norm", "k_norm"))
        largest.append(np.abs(np.einsum("bnhd,bmhd->bhnm", q, k)).max() / np.sqrt(8))
    assert max(largest) <= np.sqrt(8) * (1 + 1e-5)
    np.testing.assert_allclose(largest[0], largest[1], rtol=1e-3)


@pytest.mark.parametrize("qk_norm", [False, True])
def test_only_normalised_attention_ignores_the_scale_of_queries_and_keys(qk_norm):
    x = normal(2, 6, 32)
    attention = _transformer.Attention(heads=4, qk_norm=qk_norm, dtype=None)
    params = filled(attention.init, x)["params"]
    apply = jax.jit(lambda qkv: attention.apply({"params": {**params, "qkv": qkv}}, x))
    scale = np.repeat(np.float32([1000, 1000, 1]), 32)
    before = apply(params["qkv"])
    scaled = {
        "kernel": params["qkv"]["kernel"] * scale[None],
        "bias": params["qkv"]["bias"] * scale,
    }
    change = np.abs(apply(scaled) - before).max()
    assert (change < 1e-3) == qk_norm


def test_rematerialising_changes_neither_parameters_nor_gradients():
    policy = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
    plain, remat = dit.dit(**SMALL), dit.dit(**SMALL, remat=True, policy=policy)
    a, b = (jax.eval_shape(m.init, jax.random.key(1), types.Batch(X)) for m in (plain, remat))
    assert jax.tree.map(jnp.shape, a) == jax.tree.map(jnp.shape, b)
    params = filled(plain.init, types.Batch(X))

    def grads(model):
        return jax.jit(jax.grad(lambda p: jnp.mean(model.apply(p, T, X) ** 2)))(params)

    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)  # noqa: E731
    jax.tree.map(close, grads(plain), grads(remat))
    program = jax.make_jaxpr(jax.grad(lambda p: jnp.sum(remat.apply(p, T, X))))(params)
    assert "remat" in str(program)


def test_a_policy_without_rematerialising_is_an_error():
    with pytest.raises(ValueError, match=r"policy=.* with remat=False.*Pass remat=True"):
        dit.dit(**SMALL, policy=jax.checkpoint_policies.everything_saveable)


def size_of(model, channels=4, side=32, cond=jnp.zeros(1, jnp.int32)):
    batch = types.Batch(jnp.zeros((1, side, side, channels)), cond)
    shapes = jax.eval_shape(model.init, jax.random.key(0), batch)
    return sum(a.size for a in jax.tree.leaves(shapes))


@functools.cache
def size_of_sit(size, patch):
    return size_of(dit.sit(size=size, patch=patch))


def later(*values):
    """A case that traces dozens of layers, all like those of the others."""
    return pytest.param(*values, marks=pytest.mark.complete)


def published_size(size, patch, channels=4, learn_sigma=True, lightning=False):
    """Weights and biases of SiT on 1000 classes and the absent one, layer by layer."""
    w, depth, heads = dit.SIZES[size]
    k, f = patch * patch * channels, 256
    dense = lambda i, o: i * o + o  # noqa: E731
    attention = dense(w, 3 * w) + dense(w, w)
    hidden = int(2 / 3 * 4 * w)
    mlp = (
        dense(w, 2 * hidden) + dense(hidden, w) if lightning else dense(w, 4 * w) + dense(4 * w, w)
    )
    scales = 2 * w + 2 * (w // heads) if lightning else 0
    block = dense(w, 6 * w) + attention + mlp + scales
    head = dense(w, 2 * w) + dense(w, k * (1 + learn_sigma)) + (w if lightning else 0)
    return depth * block + head + dense(f, w) + dense(w, w) + 1001 * w + dense(k, w)


@pytest.mark.parametrize(
    ("size", "patch", "millions"),
    [
        ("S", 2, 33),
        ("B", 2, 130),
        later("L", 2, 458),
        ("XL", 2, 675),
        ("S", 4, 33),
        later("XL", 8, 676),
    ],
)
def test_sizes_are_the_published_ones(size, patch, millions):
    """33, 130, 458 and 675 M in the paper's table 1, for patch 2."""
    found = size_of_sit(size, patch)
    assert found == published_size(size, patch)
    assert round(found / 1e6) == millions
    if (size, patch) == ("XL", 2):
        assert found == 674_834_720


@pytest.mark.parametrize("size", ["B", later("XL")])
def test_the_changes_of_lightning_keep_the_size(size):
    model = dit.lightning(size=size)
    found = size_of(model, channels=32, side=16)
    assert found == published_size(size, 1, 32, learn_sigma=False, lightning=True)
    assert abs(found / size_of_sit(size, 2) - 1) < 0.001


def test_rotary_logits_tell_only_how_far_apart_tokens_are():
    by = jnp.asarray(_transformer.angles(5, 6, 8))
    q, k = (jnp.broadcast_to(normal(1, 1, 1, 8), (1, 30, 1, 8)) for _ in range(2))
    logits = jnp.einsum(
        "bnhd,bmhd->nm", _transformer.rotate(q, by), _transformer.rotate(k, by)
    ).reshape(5, 6, 5, 6)
    np.testing.assert_allclose(logits[1, 2, 3, 5], logits[0, 0, 2, 3], atol=1e-5)
    assert np.abs(logits[1, 2, 3, 5] - logits[1, 2, 5 - 1, 3]) > 1e-3
    plain = jnp.sum(q[0, 0, 0] * k[0, 0, 0])
    np.testing.assert_allclose(logits[2, 2, 2, 2], plain, atol=1e-5)


OPTIONS = {
    "rms_norm": True, "swiglu": True, "rotary": True, "qk_norm": True, "registers": 3,
    "learn_sigma": True, "align": {"layer": 1, "features": 5, "hidden": 7},
}  # fmt: skip


def test_all_options_at_once_align_on_request_and_place_every_patch():
    model = dit.dit(**SMALL, **OPTIONS)
    params = filled(model.init, types.Batch(X))
    assert params["registers"].shape == (1, 3, 32)
    assert params["align"]["out"]["kernel"].shape == (7, 5)
    both = jax.jit(lambda params, x: model.apply(params, T, x, align=True))
    v, tokens = both(params, X)
    plain = jax.jit(lambda params: model.apply(params, T, X))
    assert v.shape == X.shape
    assert tokens.shape == (3, 8, 5)
    np.testing.assert_allclose(plain(params), v, atol=1e-5)
    # without any positions, permuted patches would give permuted tokens
    _, flipped = both(params, X[:, :, ::-1])
    assert np.abs(flipped.reshape(3, 2, 4, 5)[:, :, ::-1] - tokens.reshape(3, 2, 4, 5)).max() > 1e-2


def test_sit_drops_the_second_half_of_its_outputs():
    """A head whose weights are zero returns its bias, patch by patch."""
    model = dit.sit(size="S", depth=1, width=16, heads=2, num_classes=None)
    params = jax.tree.map(jnp.zeros_like, filled(model.init, types.Batch(X)))
    bias = jnp.arange(16.0)  # of 2 x 2 pixels of (2 kept, 2 dropped) channels
    params["output"]["projection"]["bias"] = bias
    v = jax.jit(model.apply)(params, T, X)
    np.testing.assert_array_equal(v[1, :2, 2:4], bias.reshape(2, 2, 4)[..., :2])


def test_the_positions_of_sit_have_the_column_first():
    ours = _transformer.positions(3, 5, 16).reshape(15, 2, 8)
    theirs = _transformer.positions(3, 5, 16, column_first=True).reshape(15, 2, 8)
    np.testing.assert_array_equal(ours[:, ::-1], theirs)


class Plain(nn.Module):
    features: int = 7
    use_bias: bool = True

    @nn.compact
    def __call__(self, x):
        return _common.dense(x, self.features, use_bias=self.use_bias, name="map")


def test_a_flattened_dense_is_a_dense():
    x = normal(2, 3, 4, 5)
    params = filled(Plain().init, x)["params"]["map"]
    out = Plain().apply({"params": {"map": params}}, x)
    expected = np.einsum("abcd,dk->abck", x, params["kernel"]) + np.asarray(params["bias"])
    np.testing.assert_allclose(out, expected, atol=1e-5)


def test_narrowing_denses_differentiate_as_products_do_and_only_cpus_transpose_them():
    x, kernel, g = normal(5, 6), normal(6, 4), normal(5, 4)

    def value_and_derivatives(product):
        out, pullback = jax.vjp(product, x, kernel)
        return out, pullback(g), jax.jvp(product, (x, kernel), (g @ kernel.T, x.T @ g))[1]

    def ours(x, kernel):
        params = {"params": {"map": {"kernel": kernel}}}
        return Plain(kernel.shape[1], use_bias=False).apply(params, x)

    found = jax.jit(lambda: value_and_derivatives(ours))()
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)  # noqa: E731
    jax.tree.map(close, found, value_and_derivatives(jnp.matmul))
    seeds = jax.jit(jax.vmap(ours, in_axes=(None, 0)))(x, jnp.stack([kernel, -kernel]))
    close(seeds[1], -x @ kernel)
    for shape, platform, barriers in (((6, 4), "cpu", 1), ((6, 4), "cuda", 0), ((4, 6), "cpu", 0)):
        lowered = (
            jax.jit(ours)
            .trace(normal(5, shape[0]), normal(*shape))
            .lower(lowering_platforms=(platform,))
        )
        assert lowered.as_text().count("optimization_barrier") == barriers


def test_shapes_that_do_not_fit_are_errors():
    model = dit.dit(**SMALL)
    with pytest.raises(ValueError, match="images of 5x4 do not divide into patches of 2x2"):
        model.init(jax.random.key(1), types.Batch(jnp.zeros((1, 5, 4, 1))))
    with pytest.raises(ValueError, match=r"x has shape \(1, 2\); expected images"):
        model.init(jax.random.key(1), types.Batch(jnp.zeros((1, 2))))
    for width, heads in ((30, 4), (30, 5)):
        with pytest.raises(ValueError, match=f"width {width} with {heads} heads.*Try width="):
            dit.dit(width=width, heads=heads)
    with pytest.raises(ValueError, match=r"width 24 with 4 heads: rotary .* multiple of 4"):
        dit.dit(width=24, heads=4, rotary=True)
    with pytest.raises(ValueError, match="size='M': expected one of"):
        dit.sit(size="M")
    for align in ({"layer": 7, "features": 2}, {"layer": 1}, {"layer": 1, "features": 2, "k": 1}):
        with pytest.raises(ValueError, match=r"expected dict\(layer=…, features"):
            dit.dit(align=align)
    shapes = jax.eval_shape(model.init, jax.random.key(0), types.Batch(X))
    with pytest.raises(ValueError, match="align=True, but the network has no head"):
        jax.eval_shape(lambda params: model.apply(params, T, X, align=True), shapes)
