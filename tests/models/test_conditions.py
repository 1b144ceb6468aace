"""Conditions of several parts: networks, dropping, data, and what a run offers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from fmjax import assemble, inference, settings
from fmjax.config import ConfigError
from fmjax.data import _common as data_common
from fmjax.data.in_memory import in_memory
from fmjax.losses import _common as losses_common
from fmjax.models import _common, dit, mlp, nnx_mlp, resmlp
from fmjax.types import Batch

MODELS = {
    "mlp": functools.partial(mlp.mlp, width=32, depth=1),
    "resmlp": functools.partial(resmlp.resmlp, width=16, depth=1),
    "dit": functools.partial(dit.dit, width=16, depth=1, features=16),
    "nnx_mlp": functools.partial(nnx_mlp.nnx_mlp, width=32, depth=1),
}
every = pytest.mark.parametrize("name", MODELS)
RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(4, 4, 4, 2)), jnp.float32)
COND = {
    "group": jnp.array([0, 1, 2, 3]),
    "style": jnp.array([1, 0, 2, 1]),
    "caption": jnp.asarray(RNG.normal(size=(4, 5)), jnp.float32),
}
NULL = {"group": np.int32(3), "style": np.int32(2), "caption": np.zeros(5, np.float32)}
CLASSES = {"group": 3, "style": 2}
NAMES = {"group": ("animals", "food", "flags, all"), "style": ("line", "colour")}


@functools.cache
def build(name):
    model = MODELS[name](num_classes=CLASSES)
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(model.init, jax.random.key(2), Batch(X, COND))
    fill = lambda a: jnp.asarray(rng.normal(size=a.shape) / 4, a.dtype)  # noqa: E731
    return jax.jit(model.apply), jax.tree.map(fill, shapes)


@every
def test_each_part_has_an_embedding_of_its_own_and_matters(name):
    apply, params = build(name)
    assert params["condition_group"]["embedding"].shape[0] == 4
    assert params["condition_style"]["embedding"].shape[0] == 3
    assert params["condition_caption"]["kernel"].shape[0] == 5
    assert set(params["condition_caption"]) == {"kernel"}
    out = apply(params, 0.5, X, COND)
    for part in COND:
        changed = apply(params, 0.5, X, COND | {part: jnp.roll(COND[part], 1, axis=0)})
        assert np.abs(changed - out).max() > 1e-3
    assert np.all(np.isfinite(out))


@every
def test_missing_extra_and_other_parts_are_errors(name):
    apply, params = build(name)
    without = {part: c for part, c in COND.items() if part != "style"}
    kinds = r"initialised with the parts caption \(values\), group \(classes\), style \(classes\)"
    for cond, words in [
        (without, rf"{kinds} and is called with the parts caption \(values\), group \(classes\)\."),
        (COND | {"more": COND["group"]}, r"group \(classes\), more \(classes\), style"),
        (COND | {"style": COND["caption"]}, r"style \(values\)\. Pass"),
        (COND["group"], "and is called with classes"),
        (None, "and is called with no condition"),
        (COND | {"caption": X[:, 0, 0]}, r"cond\['caption'\] has 2 values .* initialised with 5"),
        (COND | {"group": X}, r"cond\['group'\] is float32\[4, 4, 4, 2\]"),
        ({}, "without parts"),
    ]:
        with pytest.raises(ValueError, match=words):
            apply(params, 0.5, X, cond)


def test_the_condition_is_the_sum_of_its_parts():
    _, params = build("mlp")
    both = {"group": COND["group"], "caption": COND["caption"]}
    module = _Alone(8, {"group": 3})
    params = module.init(jax.random.key(0), both)["params"]
    expected = params["condition_group"]["embedding"][both["group"]]
    expected = expected + both["caption"] @ params["condition_caption"]["kernel"]
    np.testing.assert_allclose(module.apply({"params": params}, both), expected, atol=1e-6)


class _Alone(_common.nn.Module):
    width: int
    classes: dict

    @_common.nn.compact
    def __call__(self, cond):
        return _common.condition(cond, self.width, self.classes)


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (3, r"num_classes=3 for a condition of the parts"),
        ({"group": 3}, r"cond\['style'\], a condition of classes .* num_classes=dict\(style=…\)"),
        ({"group": 3, "style": 2, "stile": 2}, r"num_classes names \['stile'\]"),
    ],
)
def test_numbers_of_classes_have_to_fit_the_parts(classes, words):
    with pytest.raises(ValueError, match=words):
        jax.eval_shape(mlp.mlp(num_classes=classes).init, jax.random.key(0), Batch(X, COND))


def test_numbers_for_parts_need_parts():
    init = mlp.mlp(num_classes=CLASSES).init
    with pytest.raises(ValueError, match="is for a condition of parts"):
        jax.eval_shape(init, jax.random.key(0), Batch(X, COND["group"]))


def dropped(drop, n=4000, seed=0):
    """Which examples lost which part."""
    cond = {"group": jnp.zeros(n, int), "style": jnp.ones(n, int), "caption": jnp.ones((n, 5))}
    got = losses_common.drop_condition(jax.random.key(seed), cond, NULL, drop)
    assert {k: (v.shape, v.dtype) for k, v in got.items()} == {
        k: (v.shape, v.dtype) for k, v in cond.items()
    }
    caption = np.asarray(got["caption"]).sum(axis=1)
    assert set(caption) <= {0.0, 5.0}
    return {"group": got["group"] == 3, "style": got["style"] == 2, "caption": caption == 0}


def test_a_number_drops_all_parts_together():
    lost = dropped(0.3)
    assert abs(np.mean(lost["group"]) - 0.3) < 0.03
    np.testing.assert_array_equal(lost["group"], lost["style"])
    np.testing.assert_array_equal(lost["group"], lost["caption"])


def test_a_dict_drops_each_part_by_a_coin_of_its_own():
    lost = dropped({"group": 0.5, "style": 0.2})
    assert not np.any(lost["caption"])
    assert abs(np.mean(lost["group"]) - 0.5) < 0.03
    assert abs(np.mean(lost["style"]) - 0.2) < 0.03
    assert abs(np.mean(lost["group"] & lost["style"]) - 0.1) < 0.02


def test_all_of_them_are_dropped_together_besides():
    lost = dropped({"all": 0.2, "group": 0.5})
    np.testing.assert_array_equal(lost["style"], lost["caption"])
    assert abs(np.mean(lost["style"]) - 0.2) < 0.03
    assert np.all(lost["group"] | ~lost["style"])
    assert abs(np.mean(lost["group"]) - (1 - 0.8 * 0.5)) < 0.03


def test_a_parts_coins_do_not_depend_on_the_rates_of_others():
    alone, both = dropped({"style": 0.2}), dropped({"group": 0.5, "style": 0.2})
    np.testing.assert_array_equal(alone["style"], both["style"])


def test_coins_have_keys_of_their_own():
    with jax.debug_key_reuse(True):
        dropped({"all": 0.1, "group": 0.1, "style": 0.1, "caption": 0.1}, n=8)


def test_rates_of_unknown_parts_are_errors():
    for cond, drop in [(COND, {"stile": 0.1}), (COND["group"], {"group": 0.1})]:
        with pytest.raises(ValueError, match="expected a rate for parts of the condition"):
            losses_common.drop_condition(jax.random.key(0), cond, NULL, drop)


def rows(n=6):
    cond = {
        "group": np.arange(n) % 3,
        "style": np.arange(n) % 2,
        "caption": np.ones((n, 5), np.float32),
    }
    return Batch(np.zeros((n, 2), np.float32), cond)


DATA = in_memory({"train": rows(), "test": rows()}, batch_size=2, null=NULL, names=NAMES)


def test_words_name_parts_and_absent_ones_are_null():
    readers = {part: data_common.class_reader(names) for part, names in NAMES.items()}
    for read in (DATA.read, data_common.parts_reader(readers, NULL)):
        got = read("style=line, group=flags, all")
        assert (got["group"], got["style"]) == (2, 0)
        np.testing.assert_array_equal(got["caption"], np.zeros(5))
        assert read("style=colour") | {"style": 2} == read("") == NULL
        for wrong, words in [
            ("stile=line", "expected part=word, the parts being group, style"),
            ("line", "expected part=word"),
            ("style=dotted", "there is no class 'dotted'; there are: line, colour"),
            ("style=line,style=line", "twice"),
        ]:
            with pytest.raises(ValueError, match=words):
                read(wrong)


def named(*, names, batch_size, seed=0, process=(0, 1)):
    return DATA._replace(names=names)


def asked(*, num_classes):
    asked.of.append(num_classes)
    return resmlp.resmlp(width=8, depth=1, features=8)


asked.of = []


@pytest.mark.parametrize(
    ("names", "classes"), [(NAMES, CLASSES), ((), None), ({}, None), (("a", "b"), 2)]
)
def test_a_run_offers_the_number_of_classes_of_each_part(names, classes):
    asked.of.clear()
    config = settings.load_config(tiny.FILE) | {
        "data": {"name": f"{__name__}:named", "names": names},
        "model": {"name": f"{__name__}:asked"},
    }
    assemble.assemble(config)
    assert asked.of == [classes]


def test_conditions_of_parts_are_checked():
    got = inference.conditions(DATA, ["style=line", "group=food"], 2)
    np.testing.assert_array_equal(got["style"], [0, 2])
    np.testing.assert_array_equal(got["group"], [3, 1])
    for wrong, words in [
        ({"group": np.array([0, 1])}, r"\['group'\]; this data set has the parts"),
        (np.array([0, 1]), "one array; this data set has the parts"),
        (got | {"style": np.array([0, 7])}, "no class 7 of 'style'; there are 0 to 1"),
        (["stile=line", "group=food"], "expected part=word"),
    ]:
        with pytest.raises(ConfigError, match=words):
            inference.conditions(DATA, wrong, 2)
