"""What every network keeps: shapes, times, conditions, dropout, precision, transformations."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fmjax import types
from fmjax.models import _common, dit, mlp, nnx_mlp, resmlp

MODELS = {
    "mlp": functools.partial(mlp.mlp, width=32, depth=1),
    "resmlp": functools.partial(resmlp.resmlp, width=16, depth=1),
    "dit": functools.partial(dit.dit, width=16, depth=1, features=16),
    "nnx_mlp": functools.partial(nnx_mlp.nnx_mlp, width=32, depth=1),
}
RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(6, 4, 4, 2)), jnp.float32)
T = jnp.linspace(0.0, 1.0, 6)
CONDS = {
    "nothing": None,
    "classes": jnp.array([0, 1, 2, 2, 1, 3]),
    "values": jnp.asarray(RNG.normal(size=(6, 5)), jnp.float32),
    "columns": jnp.zeros((6, 1), jnp.int32),
}
LABELS, VALUES = CONDS["classes"], CONDS["values"]
every = pytest.mark.parametrize("name", MODELS)


@functools.cache
def build(name, had="nothing", **options):
    """A compiled `apply`, and parameters without zeros, so that all of them matter."""
    model = MODELS[name](**options)
    shapes = jax.eval_shape(model.init, jax.random.key(2), types.Batch(X, CONDS[had]))
    return jax.jit(model.apply), filled(shapes)


def filled(shapes, *lead):
    """Parameters from NumPy: compiling an initialiser takes longer than the rest of a test."""
    rng = np.random.default_rng(1)

    def fill(a):
        scale = a.shape[0] ** -0.5 if len(a.shape) == 2 else 0.2
        return jnp.asarray(scale * rng.normal(size=(*lead, *a.shape)), a.dtype)

    return jax.tree.map(fill, shapes)


@every
def test_the_output_is_shaped_and_typed_like_x(name):
    apply, params = build(name)
    for x in (X, X.astype(jnp.bfloat16)):
        out = apply(params, T, x)
        assert (out.shape, out.dtype) == (x.shape, x.dtype)
        assert np.all(np.isfinite(np.asarray(out, np.float32)))


@every
def test_a_scalar_time_is_the_time_of_every_example(name):
    apply, params = build(name)
    expected = apply(params, jnp.full(6, 0.75), X)
    np.testing.assert_allclose(apply(params, 0.75, X), expected, atol=1e-5)
    assert np.abs(apply(params, 0.5, X) - expected).max() > 1e-3


@pytest.mark.parametrize("t", [1, 1.0, np.float64(1.0), jnp.array(1.0), jnp.ones(6)])
def test_a_time_is_any_number_or_one_an_example(t):
    out = _common.broadcast_time(t, X.astype(jnp.bfloat16))
    assert out.dtype == jnp.float32
    np.testing.assert_array_equal(out, np.ones(6))


@every
def test_examples_do_not_see_each_other(name):
    apply, params = build(name, "classes", num_classes=4)
    rows = np.array([3, 0, 5, 1, 4, 2])
    together = apply(params, T, X, LABELS)
    permuted = apply(params, T[rows], X[rows], LABELS[rows])
    np.testing.assert_allclose(permuted, together[rows], atol=1e-5)


@every
def test_parameters_are_plain_dicts_of_float32(name):
    apply, params = build(name, "classes", num_classes=4)
    for path, leaf in jax.tree.leaves_with_path(params):
        assert all(type(part) is jax.tree_util.DictKey and type(part.key) is str for part in path)
        assert path[-1].key in ("kernel", "bias", "embedding")
        assert isinstance(leaf, jax.Array)
        assert leaf.dtype == jnp.float32
    again = jax.tree.map(np.asarray, params)
    np.testing.assert_array_equal(apply(again, T, X, LABELS), apply(params, T, X, LABELS))


@every
def test_init_needs_shapes_alone(name):
    model, key = MODELS[name](num_classes=4), jax.random.key(2)
    struct = lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype)  # noqa: E731
    host = types.Batch(np.ones(X.shape), np.zeros(6, np.int64))
    expected = jax.eval_shape(model.init, key, types.Batch(X, LABELS))
    given = jax.eval_shape(lambda k: model.init(k, types.Batch(struct(X), struct(LABELS))), key)
    numpy = jax.eval_shape(lambda k: model.init(k, host), key)
    assert jax.tree.map(struct, expected) == jax.tree.map(struct, given)
    assert jax.tree.map(struct, expected) == jax.tree.map(struct, numpy)


@every
def test_seeds_are_vmapped_under_jit(name):
    model, keys = MODELS[name](num_classes=4), jax.random.split(jax.random.key(4), 2)
    one = jax.eval_shape(model.init, keys[0], types.Batch(X, LABELS))
    born = jax.eval_shape(jax.vmap(model.init, (0, None)), keys, types.Batch(X, LABELS))
    seeds = filled(one, 2)
    assert jax.tree.map(jnp.shape, born) == jax.tree.map(jnp.shape, seeds)
    both = jax.jit(jax.vmap(model.apply, (0, None, None, None)))(seeds, T, X, LABELS)
    apply, _ = build(name, "classes", num_classes=4)
    for i in range(2):
        alone = apply(jax.tree.map(lambda a, i=i: np.asarray(a)[i], seeds), T, X, LABELS)
        np.testing.assert_allclose(both[i], alone, atol=1e-4)
    assert np.abs(both[0] - both[1]).max() > 1e-2


@pytest.mark.parametrize("name", ["mlp", "nnx_mlp"])
def test_init_follows_the_key(name):
    model = MODELS[name](num_classes=4, depth=2)
    init = jax.jit(lambda key: model.init(key, types.Batch(X, LABELS)))
    a, same, b = (jax.tree.leaves(init(jax.random.key(i))) for i in (2, 2, 3))
    for i, leaf in enumerate(a):
        np.testing.assert_array_equal(leaf, same[i])
        assert np.all(leaf == 0) or np.any(leaf != b[i])
    assert sum(np.any(leaf != 0) for leaf in a) >= 4


@every
def test_classes_and_the_absent_class_matter(name):
    apply, params = build(name, "classes", num_classes=4)
    assert params["condition"]["embedding"].shape[0] == 5
    outs = [apply(params, T, X, jnp.full(6, c)) for c in (0, 3, 4, 5)]
    for a, b in [(0, 1), (0, 2), (1, 2)]:
        assert np.abs(outs[a] - outs[b]).max() > 1e-3
    assert np.all(np.isnan(outs[3]))


@every
def test_values_are_a_condition(name):
    apply, params = build(name, "values")
    out = apply(params, T, X, VALUES)
    assert np.abs(out - apply(params, T, X, 2 * VALUES)).max() > 1e-3
    host = np.asarray(VALUES, np.float64)
    np.testing.assert_array_equal(apply(params, T, X, host), out)


@every
def test_classes_offered_without_a_condition_add_nothing(name):
    _, plain = build(name)
    _, offered = build(name, num_classes=4)
    assert jax.tree.map(jnp.shape, plain) == jax.tree.map(jnp.shape, offered)


@every
@pytest.mark.parametrize(
    ("had", "got", "words"),
    [
        ("nothing", "classes", "initialised with no condition and is called with classes"),
        ("classes", "nothing", "initialised with classes and is called with no condition"),
        ("classes", "values", "initialised with classes and is called with values"),
        ("values", "classes", "initialised with values and is called with classes"),
        ("values", "columns", r"cond is int32\[6, 1\]; expected classes"),
    ],
)
def test_another_kind_of_condition_is_an_error(name, had, got, words):
    options = {"num_classes": 4} if had == "classes" else {}
    apply, params = build(name, had, **options)
    with pytest.raises(ValueError, match=words):
        apply(params, T, X, CONDS[got])


@every
def test_classes_without_their_number_are_an_error(name):
    with pytest.raises(ValueError, match="needs num_classes"):
        MODELS[name]().init(jax.random.key(2), types.Batch(X, LABELS))


@every
def test_wrong_times_and_unknown_arguments_are_errors(name):
    apply, params = build(name)
    for t in (T[:, None], T[:3]):
        with pytest.raises(ValueError, match=r"t has shape .* expected \(\) or \(6,\)"):
            apply(params, t, X)
    with pytest.raises(TypeError, match="unexpected keyword argument 'r'"):
        apply(params, T, X, r=T)


@every
def test_dropout_follows_the_key(name):
    apply, params = build(name, dropout=0.5)
    run = lambda key: apply(params, T, X, key=key)  # noqa: E731
    quiet, first = run(None), run(jax.random.key(5))
    np.testing.assert_array_equal(run(jax.random.key(5)), first)
    assert np.abs(run(jax.random.key(6)) - first).max() > 1e-3
    assert np.abs(quiet - first).max() > 1e-3
    without, _ = build(name)
    np.testing.assert_allclose(without(params, T, X), quiet, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "dtype"), [("mlp", "bfloat16"), ("resmlp", jnp.bfloat16), ("dit", "bfloat16")]
)
def test_bfloat16_computes_on_float32_parameters(name, dtype):
    exact, params = build(name, "classes", num_classes=4)
    model = MODELS[name](num_classes=4, dtype=dtype)

    def loss(p):
        out = model.apply(p, T, X, LABELS)
        return jnp.mean(out**2), out

    (_, out), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    expected = exact(params, T, X, LABELS)
    error = np.linalg.norm(out - expected) / np.linalg.norm(expected)
    assert out.dtype == jnp.float32
    assert 1e-4 < error < 0.05
    born = jax.eval_shape(model.init, jax.random.key(0), types.Batch(X, LABELS))
    assert {leaf.dtype for leaf in jax.tree.leaves(born)} == {jnp.dtype("float32")}
    for leaf in jax.tree.leaves(grads):
        assert leaf.dtype == jnp.float32
        assert np.all(np.isfinite(leaf))
        assert np.any(leaf != 0)


@every
def test_the_derivative_in_time_is_that_of_finite_differences(name):
    apply, params = build(name)
    f = lambda t: apply(params, t, X)  # noqa: E731
    slope = jax.jit(lambda t: jax.jvp(f, (t,), (jnp.ones_like(t),))[1])(0.3)
    differences = (f(0.3005) - f(0.2995)) / 0.001
    assert np.linalg.norm(slope - differences) < 0.02 * np.linalg.norm(slope)
