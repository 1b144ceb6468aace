"""Objectives, models and evaluators that tests of whole runs name in a config."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tiny_judged

from fmjax.data.toy import toy
from fmjax.types import Batch, Info, Model


def get_config():
    """`tiny` with an evaluator and no pictures."""
    config = tiny_judged.get_config()
    del config.pictures
    return config


class Pair(NamedTuple):
    fast: Any
    slow: Any


def pair(*, num_classes):
    """Two networks of one shape."""
    return Pair(line(num_classes=num_classes), line(num_classes=num_classes))


def line(*, num_classes):
    """v = a row of a table, of zeros at first: nothing compiles faster."""

    def init(key, batch):
        rows = 1 if num_classes is None else num_classes + 1
        return {"table": jnp.zeros((rows, batch.x1.shape[-1]))}

    def apply(params, t, x, cond=None, *, key=None):
        return jnp.broadcast_to(params["table"][0 if cond is None else cond], x.shape)

    return Model(init, apply)


def in_bfloat16(model):
    """The model with parameters in bfloat16 from the start."""
    cast = lambda p: p.astype(jnp.bfloat16)  # noqa: E731
    return model._replace(init=lambda key, batch: jax.tree.map(cast, model.init(key, batch)))


def both(nets, key, batch):
    """Each network of a pair is to give x1 at t = 0."""
    gaps = [net(0.0, batch.x1, batch.cond) - batch.x1 for net in nets.online]
    return sum((gap**2).mean(-1) for gap in gaps), {}


def from_fast(net, key, x0, cond=None):
    """One step of the pair's first network."""
    return x0 + net.fast(0.0, x0, cond), Info(jnp.asarray(1))


def imitate(nets, key, batch):
    """|online - teacher|² at t = 1/2, and how far the teacher is from the EMA."""
    taught = nets.teacher(0.5, batch.x1, batch.cond)
    gap = nets.online(0.5, batch.x1, batch.cond) - taught
    apart = jax.lax.stop_gradient(nets.ema(0.5, batch.x1, batch.cond) - taught)
    return (gap**2).mean(-1), {"teacher_size": (taught**2).mean(-1), "ema_gap": (apart**2).mean(-1)}


def uniform():
    """Fresh points of a square at every step."""
    return toy(lambda key, n: jax.random.uniform(key, (n, 2)))


def halves():
    """Fresh points of a square at every step; their class is the half that they are in."""

    def drawn(key, n):
        x = jax.random.uniform(key, (n, 2))
        return Batch(x, (x[:, 0] > 0.5).astype(jnp.int32))

    return toy(drawn, null=np.int32(2), names=("left", "right"))


def scripted(net, key, data, samples):
    """A figure that is another from call to call."""
    scripted.calls.append(float(np.abs(samples(8).x1).sum()))
    return {"figure": [3.0, 1.0, 2.0][len(scripted.calls) - 1]}


scripted.calls = []


def diverging(net, key, x0, cond=None):
    """Every other sample is NaN."""
    bad = jnp.arange(x0.shape[0])[:, None] % 2 == 1
    return jnp.where(bad, jnp.nan, x0), Info(jnp.asarray(1))
