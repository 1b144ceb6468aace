"""The fields of a config: which there are, their defaults, reading and comparing them.

A config file defines `get_config() -> ConfigDict`. From here on a config is a plain dict.
"""

import copy
import json
import os
import runpy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_collections
from ml_collections.config_dict import placeholder

from fmjax import config as configs
from fmjax import overrides, record
from fmjax.config import ConfigError

REQUIRED = ("seed", "steps", "batch_size", "data", "model", "loss", "optimizer", "sampler")
OPTIONAL = {
    "seeds": 1,
    "accumulate": 1,
    "steps_per_call": 1,
    "log_every": 100,
    "save_every": 0,
    "eval_every": 0,
    "clip_norm": placeholder(float),
    "ema": (0.999,),
    "data_dir": "~/tensorflow_datasets",
    "codec": {"name": "fmjax.codecs:identity"},
    "path": {"name": "fmjax.paths:linear"},
    "bridge": {},
    "coupling": {},
    "predict": {"bind": "fmjax.paths:velocity"},
    "source": {"bind": "fmjax.sources:normal"},
    "parallel": {"name": "fmjax.shard:jit"},
    "guidance": {},
    "evaluators": {},
    "pictures": {},
    "checkpoint": {"keep_last": 2, "keep_best": 0, "best": "loss", "best_mode": "min"},
    "sample_chunk": 512,
    "init_from": placeholder(str),
    "teacher": placeholder(str),
    "tiny": (),
}
NUMBERS = (
    "seed", "seeds", "steps", "batch_size", "accumulate", "steps_per_call", "log_every",
    "save_every", "eval_every", "sample_chunk",
)  # fmt: skip
# What defines the model, the data and the objective: a work directory holds one of each.
IDENTITY = (
    "seed", "seeds", "batch_size", "data", "codec", "path", "bridge", "coupling", "predict",
    "source", "model", "loss", "ema", "init_from", "teacher",
)  # fmt: skip

CODEC = "codec.json"  # in a work directory: what the run's codec depends on


def load_config(path: str | os.PathLike[str], changes: Sequence[str] = ()) -> dict[str, Any]:
    """The config of a file's `get_config()`, with 'field=value' changes, as a plain dict."""
    if not Path(path).is_file():
        raise ConfigError(f"no config file {str(path)!r}; see configs/ for those that come along")
    namespace = runpy.run_path(str(path))
    if "get_config" not in namespace:
        raise ConfigError(f"{path} defines no get_config()")
    return complete(namespace["get_config"](), changes)


def complete(config: Any, changes: Sequence[str] = ()) -> dict[str, Any]:
    """A config with its optional fields filled in and changes applied, as a plain dict."""
    missing = [field for field in REQUIRED if field not in config]
    if missing:
        raise ConfigError(f"the config lacks {', '.join(missing)}")
    known = {*REQUIRED, *OPTIONAL}
    for field in config:
        if field not in known:
            raise ConfigError(f"no field config.{field} is known{configs.suggest(field, known)}")
    # a copy, as a placeholder keeps the value that one config gives it
    full = ml_collections.ConfigDict(copy.deepcopy(OPTIONAL))
    with full.unlocked():
        for field in config:  # references between fields survive, so that they follow changes
            get = getattr(config, "get_ref", config.get)
            value = config[field] if configs.is_group(config[field]) else get(field)
            try:
                full[field] = value
            except TypeError as error:
                raise ConfigError(f"config.{field}: {error}") from error
    overrides.apply(full, changes)
    plain = full.to_dict()
    _check_types(plain)
    return plain


def _check_types(config: Mapping[str, Any]) -> None:
    for field in NUMBERS:
        if type(config[field]) is not int:
            raise ConfigError(f"config.{field} is {config[field]!r}; expected a whole number")
    for field in ("data", "model", "loss", "optimizer", "sampler"):
        if not configs.is_group(config[field]):
            raise ConfigError(
                f"config.{field} is {config[field]!r}; expected dict(name=…) or dict(bind=…)"
            )


def read_workdir(workdir: Path, changes: Sequence[str] = ()) -> dict[str, Any]:
    """The config that a run was made with."""
    try:
        stored = json.loads((workdir / "config.json").read_text())
    except FileNotFoundError:
        raise ConfigError(f"{workdir} holds no run (no config.json); train one there") from None
    return complete(_tuples(stored), changes)


def _tuples(value: Any) -> Any:
    """Lists, which is what JSON makes of tuples, as the tuples that configs are written with."""
    if isinstance(value, dict):
        return {k: _tuples(v) for k, v in value.items()}
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def check_identity(workdir: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Raise unless both define the same model, data and objective.

    A recorded codec is left to `check_codec`: what it is made of says more than the names here.
    """
    fields = [f for f in IDENTITY if f != "codec" or not recorded_codec(workdir)]
    changed = [f for f in fields if record.digest(old[f]) != record.digest(new[f])]
    if changed:
        shown = "; ".join(f"{f}: {old[f]} there, {new[f]} here" for f in changed)
        raise ConfigError(
            f"{workdir} holds a run of another config ({shown}). Choose another --workdir, undo "
            "the change, or pass --allow-changes to go on with the new config"
        )


def recorded_codec(workdir: Path) -> str:
    """What the codec of a run depends on; empty where it has no weights or nothing was recorded."""
    file = workdir / CODEC
    return json.loads(file.read_text())["depends_on"] if file.exists() else ""


def record_codec(workdir: Path, depends_on: str) -> None:
    """Keep in the work directory what the run's codec depends on, a network's weights among it."""
    if depends_on:
        record.write_json(workdir / CODEC, {"depends_on": depends_on})
    else:
        (workdir / CODEC).unlink(missing_ok=True)


def check_codec(workdir: Path, config: Mapping[str, Any], depends_on: str) -> None:
    """ConfigError unless the config's codec, of `depends_on`, is the one the run was trained with.

    The config may well be the same: a codec of another run has its newest weights.
    """
    recorded = recorded_codec(workdir)
    if recorded in ("", depends_on):
        return
    came = f"depends on {depends_on[:12]}…" if depends_on else "depends on nothing"
    raise ConfigError(
        f"{workdir} was trained with a codec that depends on {recorded[:12]}… ({CODEC}); "
        f"config.codec, {config['codec']}, {came}. If the run that it names was trained on since, "
        "name the step it had then, with --config.codec.step=…, if it is still kept; if a file, a "
        "tokenizer or an alphabet was replaced, put it back; or pass --allow-changes to go on with "
        "the new codec (in Python, and in config.data of a reflow, allow_changes=True)"
    )
