"""Guidance maps a net to a net: v_guided = v + (w − 1)(v − v_base), with w = 1 where it is off.

`classifier_free` takes v_base from the same net without its condition, `autoguidance` from a
weaker net. Every sampler has both. A guided velocity is not the velocity of any known path from
source to data: neither for likelihoods nor as a teacher whose samples should follow the data.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

Net = Callable[..., Any]
Scale = float | int | Float[Array, ""] | Float[Array, " b"]
Interval = tuple[float | int, float | int]
EVERYWHERE = (0.0, 1.0)


def classifier_free(
    net: Net, *, scale: Scale, null: PyTree, interval: Interval = EVERYWHERE
) -> Net:
    """v_null + scale (v_cond − v_null): both from one call of `net` on 2b rows.

    scale:    1 the conditional net (`net` itself is returned), 0 the unconditional; `[b]` one for
              each example (not with per-sample steps, which see one example at a time).
    null:     the absent value of one condition, without batch axis.
    interval: the times where guidance is on. Outside only the conditional velocity is evaluated,
              on b rows, if t is one time; with t `[b]`, or under `vmap`, all rows are evaluated.

    Keyword arrays whose leading axis is b (such as `r`) are doubled with the rows.
    ValueError: no condition, or one unlike `null`.
    A NamedTuple of nets (velocity and score) is guided net by net.
    Ho and Salimans 2022 (2207.12598); the interval, Kynkäänniemi et al. 2024 (2404.07724).
    """
    if isinstance(net, tuple):
        options = {"scale": scale, "null": null, "interval": interval}
        return type(net)(*(classifier_free(n, **options) for n in net))

    def pair(t: Any, x: Any, cond: Any, *, key: Any, **kw: Any) -> tuple[Array, Array]:
        b = x.shape[0]

        def double(a: Any) -> Any:
            return jnp.concatenate([a, a]) if jnp.shape(a)[:1] == (b,) else a

        conds = jax.tree.map(lambda c, n: jnp.concatenate([c, n]), cond, _rows(null, cond, b))
        v = net(double(t), double(x), conds, key=key, **jax.tree.map(double, kw))
        return v[:b], v[b:]

    return _guided(net, pair, scale, interval, conditional=True)


def autoguidance(net: Net, *, weak: Net, scale: Scale, interval: Interval = EVERYWHERE) -> Net:
    """v_weak + scale (v − v_weak): away from a smaller, or less trained, net of the same task.

    scale, interval: as in `classifier_free`. Each net is called once, `weak` not where guidance
    is off. Not for a `weak` trained on other data: the difference then is more than its faults.
    NamedTuples of nets are guided net by net. Karras et al. 2024 (2406.02507).
    """
    if isinstance(net, tuple):
        options = {"scale": scale, "interval": interval}
        pairs = zip(net, weak, strict=True)
        return type(net)(*(autoguidance(n, weak=w, **options) for n, w in pairs))

    def pair(t: Any, x: Any, cond: Any, *, key: Any, **kw: Any) -> tuple[Array, Array]:
        key, key_weak = (None, None) if key is None else jax.random.split(key)
        return net(t, x, cond, key=key, **kw), weak(t, x, cond, key=key_weak, **kw)

    return _guided(net, pair, scale, interval, conditional=False)


def _guided(net: Net, pair: Net, scale: Scale, interval: Interval, *, conditional: bool) -> Net:
    low, high = interval
    if not 0 <= low < high <= 1:
        raise ValueError(f"interval {interval}: expected 0 ≤ low < high ≤ 1, t = 1 being data")
    if isinstance(scale, int | float) and scale == 1:
        return net

    everywhere = tuple(interval) == EVERYWHERE

    def guided(t: Any, x: Any, cond: Any = None, *, key: Any = None, **kw: Any) -> Array:
        if conditional and cond is None:
            raise ValueError("guidance needs a condition: pass cond, or scale=1 for none")
        inside = (low <= t) & (t <= high)

        def on() -> Array:
            v, base = pair(t, x, cond, key=key, **kw)
            off = not everywhere and jnp.ndim(t) == 1
            w = _per_example(jnp.where(inside, scale, 1.0) if off else scale, v)
            return (v + (w - 1) * (v - base)).astype(v.dtype)

        if everywhere or jnp.ndim(t) == 1:
            return on()
        return jax.lax.cond(inside, on, lambda: net(t, x, cond, key=key, **kw))

    return guided


def _rows(null: PyTree, cond: PyTree, b: int) -> PyTree:
    """`null` once for each of `b` examples, like `cond` in type."""
    rows, one = ([jnp.shape(a) for a in jax.tree.leaves(tree)] for tree in (cond, null))
    same = jax.tree.structure(cond) == jax.tree.structure(null)
    if not same or rows != [(b, *shape) for shape in one]:
        raise ValueError(
            f"null {null!r} is not one condition of cond {jax.eval_shape(lambda: cond)}"
        )
    return jax.tree.map(lambda c, n: jnp.broadcast_to(jnp.asarray(n, c.dtype), c.shape), cond, null)


def _per_example(scale: Any, v: Array) -> Any:
    if jnp.ndim(scale) == 0:
        return scale
    if jnp.shape(scale) != v.shape[:1]:
        raise ValueError(
            f"scale has shape {jnp.shape(scale)}: expected a number or one for each of "
            f"{v.shape[0]} examples (per-sample steps give a net one example: use a number there)"
        )
    return jnp.reshape(scale, (-1,) + (1,) * (v.ndim - 1))
