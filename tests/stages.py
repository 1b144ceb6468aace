"""Configs shrunk for tests, those that build on an earlier run with a tiny one of it."""

import atexit
import functools
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from fmjax import run, settings

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


def changes(path):
    """What shrinks a config: its `tiny`; and "runs/NAME" anywhere in it becomes `trained(NAME)`."""
    tiny = settings.load_config(path)["tiny"]
    small = settings.load_config(path, tiny)
    return (*tiny, *(f"{field}={trained(name)}" for field, name in earlier(small)))


def earlier(node, field=""):
    """(field, NAME) of each "runs/NAME" in a config."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from earlier(value, f"{field}.{key}" if field else key)
    elif isinstance(node, str) and node.startswith("runs/"):
        yield field, node.removeprefix("runs/")


@functools.cache
def trained(name):
    """The work directory of a tiny run of configs/NAME.py, trained once; only to be read."""
    folder = Path(tempfile.mkdtemp(prefix="fmjax-stages-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = CONFIGS / f"{name}.py"
    own = (f"data_dir={folder / 'data'}", "parallel.devices=1")
    # nobody looks at it: it is neither judged nor drawn
    config = settings.load_config(path, (*changes(path), *own)) | {"evaluators": {}, "pictures": {}}
    assert run.train_run(config, folder / name) == 0
    return folder / name
