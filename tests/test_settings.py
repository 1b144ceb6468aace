import json

import ml_collections
import pytest
import tiny

from fmjax import settings
from fmjax.config import ConfigError


def test_optional_fields_are_filled_in_and_references_follow_changes():
    config = tiny.get_config()
    config.optimizer.decay_steps = config.get_ref("steps")
    full = settings.complete(config, ["steps=20"])
    assert type(full) is dict
    assert (full["optimizer"]["decay_steps"], full["clip_norm"], full["seeds"]) == (20, None, 1)
    assert set(full) == {*settings.REQUIRED, *settings.OPTIONAL}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("stepz", 5, "no field config.stepz is known; did you mean 'steps'"),
        ("steps", "many", "config.steps is 'many'; expected a whole number"),
        ("batch_size", 2.5, "config.batch_size is 2.5; expected a whole number"),
        ("ema", 0.9, "config.ema"),
        ("loss", "mine:huber", "config.loss is 'mine:huber'; expected dict"),
    ],
)
def test_a_wrong_field_in_the_file_is_named(field, value, message):
    config = tiny.get_config()
    with config.ignore_type():
        config[field] = value
    with pytest.raises(ConfigError, match=message):
        settings.complete(config)


def test_missing_fields_are_named():
    with pytest.raises(ConfigError, match="the config lacks seed, steps, batch_size"):
        settings.complete(ml_collections.ConfigDict())


def test_a_file_that_is_no_config_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no config file"):
        settings.load_config(tmp_path / "none.py")
    (tmp_path / "empty.py").write_text("")
    with pytest.raises(ConfigError, match=r"defines no get_config\(\)"):
        settings.load_config(tmp_path / "empty.py")


def test_a_stored_config_comes_back_equal(tmp_path):
    full = settings.load_config(tiny.FILE, ["clip_norm=0.5", "ema=(0.9,0.99)", "guidance.bind=m:f"])
    full["guidance"]["interval"] = (0.2, 0.8)
    (tmp_path / "config.json").write_text(json.dumps(full))
    assert settings.read_workdir(tmp_path) == full


def test_identity_is_what_defines_model_data_and_objective(tmp_path):
    old = settings.load_config(tiny.FILE)
    for change in ("steps=16", "optimizer.learning_rate=0.1", "parallel.devices=4", "log_every=2"):
        settings.check_identity(tmp_path, old, settings.load_config(tiny.FILE, [change]))
    for change in ("seed=1", "batch_size=8", "model.width=8", "ema=()", "loss.drop=0.2"):
        with pytest.raises(ConfigError, match=rf"\({change.split('=')[0].split('.')[0]}: .* there"):
            settings.check_identity(tmp_path, old, settings.load_config(tiny.FILE, [change]))


def test_one_config_leaves_the_next_alone():
    settings.load_config(tiny.FILE, ["teacher=runs/other", "clip_norm=0.5", "guidance.bind=m:f"])
    plain = settings.load_config(tiny.FILE)
    assert (plain["teacher"], plain["clip_norm"], plain["guidance"]) == (None, None, {})
