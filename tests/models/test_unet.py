"""The U-Net: its published sizes, what its options do, derivatives, and how soon it compiles."""

import functools
import math
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fmjax import train, types
from fmjax.losses.flow_matching import flow_matching
from fmjax.models import _convolutional
from fmjax.models.unet import layout, time_features, unet

RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(3, 4, 8, 2)), jnp.float32)
T, CLASSES = jnp.array([0.1, 0.5, 0.9]), jnp.array([0, 1, 2])
SMALL = {"channels": 8, "multipliers": (1, 2), "blocks": 1}
FLAT = SMALL | {"multipliers": (1,), "attention": ()}  # compiles soonest
ADM = {"scale_shift_norm": True, "new_attention_order": True}
IMAGENET = {"channels": 192, "multipliers": (1, 2, 3, 4), "blocks": 3, "attention": (2, 4, 8)}

# counted once: sum(p.numel() for p in module.parameters()) of TorchCFM 1.0.7's UNetModelWrapper
# with the arguments of its examples, and of its UNetModel (ADM's) with those of Meta's
# examples/image/models/model_configs.py (1001 rows of classes there) and of Lipman et al. 2022
PUBLISHED = {
    "TorchCFM CIFAR-10": ((32, 32, 3), 35_746_307, {"head_channels": 64}),
    "TorchCFM MNIST": (
        (28, 28, 1),
        1_075_361,
        {"channels": 32, "multipliers": (1, 2, 2), "blocks": 1, "attention": (1,)},
    ),
    # and the row of the absent class, which TorchCFM's lacks
    "TorchCFM MNIST, classes": (
        (28, 28, 1),
        1_076_641 + 4 * 32,
        {"channels": 32, "multipliers": (1, 2, 2), "blocks": 1, "attention": (1,)}
        | {"num_classes": 10},
    ),
    "Meta CIFAR-10": (
        (32, 32, 3),
        55_676_419,
        {"multipliers": (2, 2, 2), "blocks": 4, "conv_resample": False, **ADM},
    ),
    "Meta ImageNet": (
        (64, 64, 3),
        295_900_035,
        {**IMAGENET, **ADM, "head_channels": 64, "resblock_updown": True, "num_classes": 1000},
    ),
    "Lipman CIFAR-10": ((32, 32, 3), 142_861_315, {"channels": 256, "head_channels": 64}),
    "Lipman ImageNet-32": (
        (32, 32, 3),
        196_069_123,
        {"channels": 256, "blocks": 3, "attention": (2, 4), "head_channels": 64},
    ),
    "Lipman ImageNet-64": ((64, 64, 3), 264_904_515, {**IMAGENET, "head_channels": 64}),
}


def shapes(model, x=X, cond=None):
    return jax.eval_shape(model.init, jax.random.key(0), types.Batch(x, cond))


def filled(model, cond=None):
    """Parameters from NumPy, none of them zero; they compile nothing."""
    draw = lambda a: RNG.normal(size=a.shape) * (a.size // a.shape[-1]) ** -0.5  # noqa: E731
    return jax.tree.map(lambda a: jnp.asarray(draw(a), jnp.float32), shapes(model, cond=cond))


# the default, classes, and all options at once; each takes seconds to trace
TRACED = {"TorchCFM CIFAR-10", "TorchCFM MNIST, classes", "Meta ImageNet"}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.complete] * (n not in TRACED)) for n in PUBLISHED]
)
def test_sizes_are_the_published_ones(name):
    image, size, options = PUBLISHED[name]
    cond = jnp.zeros(1, jnp.int32) if "num_classes" in options else None
    born = shapes(unet(**options), jax.ShapeDtypeStruct((1, *image), jnp.float32), cond)
    assert train.total_parameters(born) == size


def test_layout():
    down, up = layout(4, (1, 2), 2, (2,))
    assert [(a.name, a.channels, a.attention, a.resample) for a in down] == [
        ("down_1", 4, False, False),
        ("down_2", 4, False, False),
        ("down_3", 4, False, True),
        ("down_4", 8, True, False),
        ("down_5", 8, True, False),
    ]
    assert [(a.channels, a.attention, a.resample) for a in up] == [
        *((8, True, i == 2) for i in range(3)),
        *((4, False, False) for _ in range(3)),
    ]


def test_features_of_time():
    features = time_features(T, 8, 1000)
    angles = np.asarray(T)[:, None] * 1000 * 10.0 ** -np.arange(4)
    expected = np.concatenate([np.cos(angles), np.sin(angles)], axis=-1)
    np.testing.assert_allclose(features, expected, atol=1e-4)


def test_a_level_of_one_channel_is_refused_where_its_norm_would_remove_the_time():
    with pytest.raises(ValueError, match=r"channels=2 .*0\.5 leaves a level"):
        unet(channels=2, multipliers=(1, 0.5))
    assert unet(channels=2, multipliers=(1, 0.5), scale_shift_norm=True)


def test_groups_have_at_least_two_channels_and_are_those_of_adm_where_these_have():
    for channels in range(2, 400):
        groups, adm = _convolutional.mixing_groups(channels), math.gcd(32, channels)
        assert channels % groups == 0
        assert channels // groups >= 2
        assert groups == (channels // 2 if adm == channels else adm)


@pytest.mark.parametrize(
    "options",
    [
        {"conv_resample": False, **ADM, "heads": 2, "attention": ()},
        {"resblock_updown": True, **ADM, "remat": True, "num_classes": 3, "attention": ()},
    ],
)
def test_every_parameter_matters_and_time_and_class_do(options):
    model = unet(**SMALL, **options)
    cond = CLASSES if "num_classes" in options else None
    params = filled(model, cond)

    def loss(params, t, x):
        v = model.apply(params, t, x, cond)
        return jnp.mean(v**2), v

    (grads, by_t), v = jax.jit(jax.grad(loss, (0, 1), has_aux=True))(params, T, X)
    assert v.shape == X.shape
    assert v.dtype == X.dtype
    assert np.abs(by_t).min() > 0
    size = jax.tree.map(lambda g: float(jnp.abs(g).max()), grads)
    assert min(jax.tree.leaves(size)) > 0
    assert np.isfinite(jax.tree.leaves(size)).all()


@functools.cache
def flat(**options):
    """A model without levels, its parameters, and its compiled `apply`."""
    model = unet(**FLAT, **options)
    return model, filled(model), jax.jit(model.apply)


def test_rows_do_not_depend_on_each_other_and_it_starts_at_zero():
    model, params, apply = flat()
    whole = apply(params, T, X)
    swapped = apply(params, T[::-1], X[::-1])
    np.testing.assert_allclose(whole, swapped[::-1], atol=1e-5)
    assert np.abs(whole).max() > 1e-2
    last = shapes(model)["output"]
    start = {**params, "output": jax.tree.map(lambda a: jnp.zeros(a.shape), last)}
    np.testing.assert_array_equal(apply(start, T, X), jnp.zeros_like(X))

    @jax.jit
    def kernels(key):
        born = model.init(key, types.Batch(X))
        return born["output"]["kernel"], born["down_1"]["conv_out"]["kernel"]

    for kernel in kernels(jax.random.key(0)):
        assert not np.any(kernel)


def test_patches_are_pixels_as_channels():
    _, params, apply = flat(patch=2)
    inner, _, apply_inner = flat()
    # pixels of 2 x 2 squares as channels: row of the square, column, colour
    deep = X.reshape(3, 2, 2, 4, 2, 2).transpose(0, 1, 3, 2, 4, 5).reshape(3, 2, 4, 8)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, shapes(inner, deep))
    v = apply(params, T, X)
    assert v.shape == X.shape
    expected = apply_inner(params, T, deep).reshape(3, 2, 4, 2, 2, 2)
    expected = expected.transpose(0, 1, 3, 2, 4, 5).reshape(X.shape)
    np.testing.assert_allclose(v, expected, atol=1e-6)
    assert np.abs(v).max() > 1e-2


def test_bfloat16_is_near_and_returns_the_type_of_x():
    _, params, apply = flat()
    half = unet(**FLAT, dtype=jnp.bfloat16)
    out, rough = apply(params, T, X), jax.jit(half.apply)(params, T, X)
    assert rough.dtype == X.dtype
    assert 0 < np.abs(out - rough).max() < 0.1 * np.abs(out).max()
    assert {a.dtype for a in jax.tree.leaves(shapes(half))} == {jnp.dtype(jnp.float32)}


def test_dropout_follows_the_key():
    model, params, _ = flat(dropout=0.5)
    apply = jax.jit(lambda key: model.apply(params, T, X, key=key))
    one, again, other = (apply(jax.random.key(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 1e-3


@pytest.mark.complete
def test_a_small_training_step_compiles_within_seconds():
    model, tx, key = unet(**SMALL), optax.adam(1e-3), jax.random.key(0)
    batch = types.Batch(jnp.zeros((16, 16, 16, 1)))
    state = jax.eval_shape(lambda: train.init(model, tx, key, batch))
    step = jax.jit(train.make_step(model, flow_matching, tx))
    began = time.process_time()
    step.lower(state, None, key, batch).compile()
    assert time.process_time() - began < 30  # about 4 on a free core


def test_what_does_not_fit_is_an_error():
    model = unet(channels=8, multipliers=(1, 1, 1))
    with pytest.raises(ValueError, match=r"images of 6x8 cannot be halved 2 times.*multiples of 4"):
        model.init(jax.random.key(1), types.Batch(jnp.zeros((1, 6, 8, 1))))
    with pytest.raises(ValueError, match=r"x has shape \(1, 2\); expected images"):
        model.init(jax.random.key(1), types.Batch(jnp.zeros((1, 2))))
    with pytest.raises(ValueError, match="channels=7: expected an even number"):
        unet(channels=7)
    with pytest.raises(ValueError, match=r"widths \[16\].*heads=3: expected multiples of 3"):
        unet(channels=8, heads=3)
    with pytest.raises(ValueError, match="head_channels=5: expected multiples of 5"):
        unet(channels=8, head_channels=5)
    with pytest.raises(ValueError, match=r"images of 4x6 cannot.*multiples of 4 .*and patch=2"):
        unet(**SMALL, patch=2).init(jax.random.key(1), types.Batch(jnp.zeros((1, 4, 6, 1))))
    with pytest.raises(ValueError, match="patch=0: expected at least 1"):
        unet(**SMALL, patch=0)
    with pytest.raises(ValueError, match=r"policy=.* with remat=False.*Pass remat=True"):
        unet(**SMALL, policy=jax.checkpoint_policies.everything_saveable)


def test_only_widths_that_attend_divide_by_the_heads():
    options = {"channels": 8, "multipliers": (1, 3), "blocks": 1, "heads": 3}
    model = unet(**options, attention=(2,))
    assert shapes(model)["middle_0_attention"]["qkv"]["kernel"].shape == (24, 72)
    with pytest.raises(ValueError, match=r"widths \[8, 24\].*heads=3"):
        unet(**options, attention=(1,))
    with pytest.raises(ValueError, match=r"widths \[24\].*heads=5"):
        unet(**{**options, "heads": 5}, attention=())
