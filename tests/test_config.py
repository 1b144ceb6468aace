import functools

import jax
import ml_collections
import optax
import pytest
from ml_collections.config_dict import placeholder

from fmjax import config as configs
from fmjax import overrides, paths, times
from fmjax.config import ConfigError
from fmjax.losses.flow_matching import flow_matching

LOSS = "fmjax.losses.flow_matching:flow_matching"


def make(**fields):
    config = ml_collections.ConfigDict(
        {
            "steps": 100,
            "rate": 1.5,
            "on": False,
            "label": "a",
            "shape": (1, 2),
            "limit": placeholder(int),
            "loss": {"bind": LOSS, "drop": 0.1},
            "guidance": ml_collections.ConfigDict(),
            "evaluators": {"energy": {"bind": "fmjax.metrics.energy:energy"}},
            "tx": {"name": "optax:chain", "args": ({"name": "optax:sgd", "learning_rate": 0.1},)},
            **fields,
        }
    )
    config.warmup = config.get_ref("steps") // 10
    return config.lock()


def test_name_is_called_once_and_bind_becomes_a_partial():
    path = configs.build({"name": "fmjax.paths:polynomial", "power": 3.0})
    assert isinstance(path, paths.Path)
    law = configs.build({"bind": "fmjax.times:logit_normal", "std": 2.0})
    assert (law.func, law.keywords) == (times.logit_normal, {"std": 2.0})


def test_a_function_without_arguments_stays_itself():
    assert configs.build({"bind": "fmjax.paths:velocity"}) is paths.velocity


def test_nodes_nest_in_arguments_and_sequences():
    tx = configs.build(make().tx)
    assert isinstance(tx, optax.GradientTransformation)
    node = {
        "bind": LOSS,
        "weight": {"bind": "fmjax.paths:weight", "to": {"bind": "fmjax.paths:x1"}},
    }
    loss = configs.build(node, path=paths.linear())
    assert loss.keywords["weight"].keywords["to"] is paths.x1
    assert configs.build({"a": [1, {"bind": "fmjax.paths:x1"}]}) == {"a": [1, paths.x1]}


def test_offered_arguments_go_to_keyword_only_parameters_that_the_config_leaves_open():
    loss = configs.build({"bind": LOSS}, null=7, path="unknown to this function", key="positional")
    assert loss.keywords == {"null": 7}
    assert configs.build({"bind": LOSS, "null": 3}, null=7).keywords == {"null": 3}


def test_a_file_may_be_named_and_is_loaded_once(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def f(*, a=1):\n    return a\nmarker = object()\n")
    assert configs.build({"name": f"{file}:f", "a": 5}) == 5
    assert configs.resolve(f"{file}:marker") is configs.resolve(f"{file}:marker")


@pytest.mark.parametrize(
    ("node", "words"),
    [
        ({"name": "optax:adamx"}, ["no 'adamx'", "did you mean 'adam"]),
        ({"name": "optx:adam"}, ["cannot import 'optx'", "ModuleNotFoundError"]),
        ({"name": "adam"}, ["'module:function'"]),
        ({"name": "nowhere.py:f"}, ["no file", "nowhere.py"]),
        ({"bind": LOSS, "drp": 0.1}, ["no argument 'drp'", "did you mean 'drop'"]),
        ({"name": "fmjax.codecs:affine", "low": 0.0}, ["affine", "high"]),
        ({"name": "fmjax.paths:polynomial", "power": 0.5}, ["fmjax.paths:polynomial", "0.5"]),
        ({"name": "optax:adam", "bind": "optax:adam"}, ["both"]),
        ({"name": "math:pi"}, ["not callable"]),
    ],
)  # fmt: skip
def test_mistakes_are_named_with_their_remedy(node, words):
    with pytest.raises(ConfigError) as error:
        configs.build(node)
    for word in words:
        assert word in str(error.value)


def test_a_module_that_fails_to_import_says_why(tmp_path):
    (tmp_path / "broken.py").write_text("1 / 0\n")
    with pytest.raises(ConfigError, match="ZeroDivisionError"):
        configs.resolve(f"{tmp_path / 'broken.py'}:f")


def test_functions_without_a_signature_are_called_as_they_are():
    assert configs.build({"name": "builtins:dict"}) == {}


@pytest.mark.parametrize(
    ("change", "field", "value"),
    [
        ("steps=200", "steps", 200),
        ("steps=200", "warmup", 20),  # a field computed from another follows
        ("rate=2", "rate", 2.0),
        ("rate=1e-3", "rate", 1e-3),
        ("on=true", "on", True),
        ("label=3", "label", "3"),
        ("shape=(3,)", "shape", (3,)),
        ("shape=[3, 4]", "shape", (3, 4)),
        ("limit=3", "limit", 3),
        ("limit=None", "limit", None),
        ("rate=None", "rate", None),
        ("evaluators.mine.bind=a:b", "evaluators.mine.bind", "a:b"),
        ("loss.drop=0.5", "loss.drop", 0.5),
        ("loss.sample_t.bind=fmjax.times:cosmap", "loss.sample_t.bind", "fmjax.times:cosmap"),
        ("guidance.bind=a:b", "guidance.bind", "a:b"),
        ("guidance=a:b", "guidance.bind", "a:b"),
        ("loss.sample_t=fmjax.times:cosmap", "loss.sample_t.bind", "fmjax.times:cosmap"),
        ("tx.args=()", "tx.args", ()),
    ],
)
def test_overrides(change, field, value):
    config = make()
    overrides.apply(config, [change])
    for part in field.split("."):
        config = config[part]
    assert config == value
    assert type(config) is type(value)


def test_elements_of_sequences_can_be_changed():
    config = make()
    overrides.apply(config, ["tx.args[0].learning_rate=0.5"])
    assert config.tx.args[0]["learning_rate"] == 0.5


@pytest.mark.parametrize("change", ["loss=mine:huber", "loss.bind=mine:huber"])
def test_another_callable_clears_the_arguments_of_the_old_and_takes_new_ones(change):
    config = make()
    overrides.apply(config, [change, "loss.delta=0.5"])
    assert config.loss.to_dict() == {"bind": "mine:huber", "delta": 0.5}


def test_the_same_callable_keeps_its_arguments():
    config = make()
    overrides.apply(config, [f"loss={LOSS}"])
    assert config.loss.drop == 0.1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("stepz=3", ["no field config.stepz", "did you mean 'steps'"]),
        ("losss.drop=3", ["no field config.losss", "did you mean 'loss'"]),
        ("steps=1.5", ["config.steps", "int", "'1.5'"]),
        ("steps=many", ["config.steps", "int", "'many'"]),
        ("steps=true", ["config.steps", "int", "'true'"]),
        ("on=1", ["bool"]),
        ("limit=x", ["config.limit", "int"]),
        ("shape=1", ["tuple"]),
        ("loss=3", ["group of fields"]),
        ("steps.x=3", ["has no field 'x'"]),
        ("steps", ["--config.steps=VALUE"]),
        ("guidance=3", ["'module:function'"]),
        ("tx.args[5].x=1", ["no element config.tx.args[5]"]),
        ("los.bind=a:b", ["no field config.los", "did you mean 'loss'"]),
    ],
)
def test_wrong_overrides_are_named_with_their_remedy(change, words):
    config = make()
    before = config.to_dict()
    with pytest.raises(ConfigError) as error:
        overrides.apply(config, [change])
    for word in words:
        assert word in str(error.value)
    assert config.to_dict() == before


def test_overrides_work_on_plain_dicts():
    config = {"steps": 1, "loss": {"bind": LOSS}}
    overrides.apply(config, ["steps=2", "loss.drop=0.2"])
    assert config == {"steps": 2, "loss": {"bind": LOSS, "drop": 0.2}}


def test_a_bound_objective_is_the_function_with_its_options():
    loss = configs.build(make().loss, bridge=paths.bridge(paths.cosine()))
    assert isinstance(loss, functools.partial)
    assert loss.func is flow_matching
    assert set(loss.keywords) == {"bridge", "drop"}
    assert jax.tree.leaves(loss.keywords["drop"]) == [0.1]
