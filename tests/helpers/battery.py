"""Every config shrunk and built, for the checks that all of them go through.

What is built of a config is kept, and all checks of one config run in one process (conftest.py),
so that its data are prepared, its network is compiled and its stages are trained once.
"""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import prepared
import pytest
import stages

from fmjax import assemble, run, settings, train

# those that compile soonest first: they are the ones that introduce what several configs have
CONFIGS = sorted(
    stages.CONFIGS.glob("*.py"),
    key=lambda path: ("unet" in settings.load_config(path)["model"]["name"], path.stem),
)
KEY = jax.random.key(0)


@functools.cache
def shrunk(path, *changes):
    """The config at its `tiny`."""
    assert settings.load_config(path)["tiny"], f"{path.name}: config.tiny is empty"
    return settings.load_config(path, (*stages.changes(path), *changes))


@functools.cache
def built(path, data_dir):
    """The parts of a shrunk config."""
    prepared.prepare_for(path, data_dir)
    return run.taught(assemble.assemble(shrunk(path, f"data_dir={data_dir}")))


class Whole(NamedTuple):
    """A config's parts, its parameters with a little noise, and a batch in model space.

    `x` is a point on the way, where a net of tokens has something to say. `net`, compiled, takes
    (t, x, cond), and with `key=` is stochastic.
    """

    parts: Any
    params: Any
    batch: Any
    x: Any
    net: Any


@functools.cache
def whole(path, data_dir, rows=16):
    """What the checks of a network share."""
    parts = built(path, data_dir)
    data = parts.datas[0]
    batch = data.sample(KEY, rows) if data.sample else data.batch("train", 0)
    batch = jax.tree.map(jnp.asarray, batch)
    batch = batch if data.encoded else batch._replace(x1=parts.codec.encode(batch.x1))
    params = filled(
        jax.eval_shape(lambda: train.init_params(parts.model, KEY, assemble.example(parts)))
    )
    x = batch.x1
    if parts.codec.vocabulary:  # the second half is noise yet
        noise = parts.source(jax.random.key(3), x)
        x = jnp.where(2 * jnp.arange(x.shape[1])[None] < x.shape[1], x, noise)
    call = jax.jit(
        lambda t, x, cond, key=None: train.bind(parts.model, params)(t, x, cond, key=key)
    )
    return Whole(parts, params, batch, x, call)


def filled(shapes, noise=0.1):
    """Parameters as initialisers make them, and noise, so that none is zero; compiles nothing."""
    rng = np.random.default_rng(1)

    def draw(path, leaf):
        first = 1.0 if "scale" in jax.tree_util.keystr(path[-1:]) else 0.0
        deviation = np.hypot(noise, np.prod(leaf.shape[:-1]) ** -0.5 if leaf.ndim > 1 else 0.0)
        return jnp.asarray(first + deviation * rng.normal(size=leaf.shape), leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def nodes(node):
    """The callables named anywhere in a config."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key in ("name", "bind") and isinstance(value, str):
                yield value
            else:
                yield from nodes(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from nodes(value)


def every(*fields, where=lambda path: True):
    """All configs; in the quick tier those that name, in these fields, what none before them does.

    Of models a file is one part. "loss.bind" is the objective without the arguments it is given.
    Without fields, all are of the complete tier.
    """
    seen, params = set(), []
    for path in filter(where, CONFIGS):
        settled = settings.load_config(path)
        named = (functools.reduce(dict.get, field.split("."), settled) for field in fields)
        names = {
            name for node in named for name in ([node] if isinstance(node, str) else nodes(node))
        }
        names = {n.partition(":")[0] if "fmjax.models." in n else n for n in names}
        marks = () if names - seen else pytest.mark.complete
        params.append(pytest.param(path, marks=marks, id=path.stem))
        seen |= names
    return pytest.mark.parametrize("path", params)
