"""How much of a net's output is due to each of its inputs."""

import jax
import jax.numpy as jnp
import numpy as np

from fmjax.models._tokens import IMPOSSIBLE


def effect(changed, usual):
    """The root mean square change of an output over its standard deviation.

    Certainties are left out: logarithms of 0 and 1 that a net of tokens gives by its construction.
    """
    changed, usual = (
        np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])
        for tree in (changed, usual)
    )
    open_ = (usual > IMPOSSIBLE) & (usual != 0)
    return np.sqrt(np.mean((changed - usual)[open_] ** 2)) / np.std(usual[open_])


def exchanged(cond):
    """(name, the condition with the values of that part exchanged among its rows)."""
    if cond is None:
        return {}
    roll = lambda a: jnp.roll(a, 1, axis=0)  # noqa: E731
    if not isinstance(cond, dict):
        return {"cond": roll(cond)}
    return {part: {**cond, part: roll(cond[part])} for part in cond}
