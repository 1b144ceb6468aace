"""Guidance maps a net to a net: v_guided = v + (w − 1)(v − v_base), with w = 1 where it is off.

`classifier_free` takes v_base from the same net without its condition, `autoguidance` from a
weaker net. `compose` dials each part of a condition, `blend` goes from one condition to another.
Every sampler has them all. A guided velocity is not the velocity of any known path from
source to data: neither for likelihoods nor as a teacher whose samples should follow the data.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

Net = Callable[..., Any]
Scale = float | int | Float[Array | np.ndarray, ""] | Float[Array | np.ndarray, " b"]
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

    def pair(t: Any, x: Any, cond: Any, *, key: Any, **kw: Any) -> list[Any]:
        return _together(net, t, x, [cond, _rows(null, cond, x.shape[0])], key=key, **kw)

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

    def pair(t: Any, x: Any, cond: Any, *, key: Any, **kw: Any) -> tuple[Any, Any]:
        key, key_weak = (None, None) if key is None else jax.random.split(key)
        return net(t, x, cond, key=key, **kw), weak(t, x, cond, key=key_weak, **kw)

    return _guided(net, pair, scale, interval, conditional=False)


def compose(
    net: Net,
    *,
    null: PyTree,
    scales: Mapping[str, Scale],
    nested: Sequence[str] = (),
    interval: Interval = EVERYWHERE,
) -> Net:
    """v_base + Σ_i w_i (v_{only part i} − v_base): a scale for each part of a dict of conditions.

    From one call of `net` on (k + 1) b rows. v_base has all parts named in `scales` absent; parts
    not named there stay in every row. One part, and it alone: `classifier_free`.
    scales:   part → w_i, a number or one for each example.
    nested:   all parts of `scales`, outermost first: v_base + Σ_i w_i (v_{parts 1 … i} −
              v_{parts 1 … i − 1}), where a part refines those before it rather than standing
              alone; with all w = 1 the net itself. Brooks et al. 2022 (2211.09800), eq. 3.
    null, interval: as in `classifier_free`; outside the interval the net itself.

    The net has to know the conditions with parts absent: drop each by a coin of its own
    (`loss.drop = dict(all=0.1, group=0.2, style=0.2)`). Scales of 1 for several parts are not the
    conditional net, but a product of experts. Liu et al. 2022 (2206.01714), eq. 11.
    ValueError: a condition that is no dict, parts that it lacks. NamedTuples net by net.
    """
    if isinstance(net, tuple):
        options = {"null": null, "scales": scales, "nested": nested, "interval": interval}
        return type(net)(*(compose(n, **options) for n in net))
    low, high = _checked(interval)
    names = tuple(nested) or tuple(sorted(scales))
    if not scales or sorted(names) != sorted(scales):
        raise ValueError(
            f"scales {dict(scales)}, nested={tuple(nested)}: expected a scale for each of at least "
            "one part, and in nested all of them, once each, or none"
        )

    def on(t: Any, x: Any, cond: Any, *, key: Any, **kw: Any) -> Any:
        absent = _rows(null, cond, x.shape[0])
        kept = [names[:i] if nested else names[i - 1 : i] for i in range(len(names) + 1)]
        conds = [_only(cond, absent, names, k if i else ()) for i, k in enumerate(kept)]

        def total(base: Array, *others: Array) -> Array:
            before = [base, *others[:-1]] if nested else [base] * len(others)
            pairs = zip(names, others, before, strict=True)
            terms = (_per_example(scales[n], v) * (v - u) for n, v, u in pairs)
            return sum(terms, start=base).astype(base.dtype)

        return jax.tree.map(total, *_together(net, t, x, conds, key=key, **kw))

    def composed(t: Any, x: Any, cond: Any = None, *, key: Any = None, **kw: Any) -> Any:
        missing = [n for n in names if not isinstance(cond, Mapping) or n not in cond]
        if missing:
            had = sorted(cond) if isinstance(cond, Mapping) else "no parts"
            raise ValueError(f"scales for the parts {missing}; the condition has {had}")
        if (low, high) == EVERYWHERE:
            return on(t, x, cond, key=key, **kw)
        inside = (low <= t) & (t <= high)
        if jnp.ndim(t) == 0:
            options = {"key": key, **kw}
            return jax.lax.cond(
                inside, lambda: on(t, x, cond, **options), lambda: net(t, x, cond, **options)
            )
        both = on(t, x, cond, key=key, **kw), net(t, x, cond, key=key, **kw)
        return jax.tree.map(lambda v, u: jnp.where(_per_example(inside, v), v, u), *both)

    return composed


def blend(net: Net, *, other: PyTree, amount: Scale) -> Net:
    """(1 − λ) v(cond) + λ v(other), λ = `amount`: from one condition (a style) to another.

    other:  a condition without batch axis, or one for each example; of a dict only the parts that
            it names are exchanged.
    amount: 0 is `net` itself; a number, or one for each example.
    Both from one call of `net` on 2b rows; `net` may be guided. Between embeddings
    `blend_values` costs half as much, but asks the net for conditions it has never seen.
    NamedTuples net by net.
    """
    if isinstance(net, tuple):
        return type(net)(*(blend(n, other=other, amount=amount) for n in net))
    if isinstance(amount, int | float) and amount == 0:
        return net

    def blended(t: Any, x: Any, cond: Any = None, *, key: Any = None, **kw: Any) -> Any:
        b = x.shape[0]
        if isinstance(other, Mapping) and isinstance(cond, Mapping):
            unknown = sorted(set(other) - set(cond))
            if unknown:
                raise ValueError(f"other has {unknown}, the condition {sorted(cond)}")
            new = {**cond, **{n: _many(c, cond[n], b) for n, c in other.items()}}
        elif cond is None or isinstance(cond, Mapping) or isinstance(other, Mapping):
            raise ValueError(f"no way from cond {jax.eval_shape(lambda: cond)} to other {other!r}")
        else:
            new = _many(other, cond, b)

        def between(v: Array, far: Array) -> Array:
            return (v + _per_example(amount, v) * (far - v)).astype(v.dtype)

        return jax.tree.map(between, *_together(net, t, x, [cond, new], key=key, **kw))

    return blended


def blend_values(
    a: Float[Array, "*b k"], b: Float[Array, "*b k"], amount: Scale, *, spherical: bool = False
) -> Float[Array, "*b k"]:
    """(1 − λ) a + λ b of the last axis, such as two captions' embeddings; λ = `amount`.

    spherical: directions along the great circle (sin((1 − λ)θ) a + sin(λθ) b)/sin θ, lengths along
    a line: for embeddings of one length. Undefined for opposite directions (NaN there).
    """
    weight = jnp.asarray(amount, a.dtype)
    weight = weight[..., None] if weight.ndim else weight
    if not spherical:
        return (1 - weight) * a + weight * b
    length_a, length_b = (jnp.linalg.norm(c, axis=-1, keepdims=True) for c in (a, b))
    cosine = jnp.sum((a / length_a) * (b / length_b), axis=-1, keepdims=True)
    angle = jnp.arccos(jnp.clip(cosine, -1, 1))
    near = angle < 1e-3  # sin θ ≈ θ, and the line is the arc
    sine = jnp.where(near, 1, jnp.sin(angle))
    of_a = jnp.where(near, 1 - weight, jnp.sin((1 - weight) * angle) / sine)
    of_b = jnp.where(near, weight, jnp.sin(weight * angle) / sine)
    direction = of_a * a / length_a + of_b * b / length_b
    return direction * ((1 - weight) * length_a + weight * length_b)


def _together(
    net: Net, t: Any, x: Any, conds: Sequence[PyTree], *, key: Any, **kw: Any
) -> list[Any]:
    """The velocities (or rates of edits) under each of `conds` at t and x, from one call."""
    n, b = len(conds), x.shape[0]

    def repeat(a: Any) -> Any:
        return jnp.concatenate([a] * n) if jnp.shape(a)[:1] == (b,) else a

    rows = jax.tree.map(lambda *parts: jnp.concatenate(parts), *conds)
    v = net(repeat(t), repeat(x), rows, key=key, **jax.tree.map(repeat, kw))
    parts = jax.tree.map(lambda a: jnp.split(a, n), v)
    return parts if isinstance(parts, list) else [type(v)(*own) for own in zip(*parts, strict=True)]


def _only(cond: Any, absent: Any, dialled: Sequence[str], kept: Sequence[str]) -> dict[str, Any]:
    """`cond` without the dialled parts that are not kept."""
    return {n: absent[n] if n in dialled and n not in kept else c for n, c in cond.items()}


def _many(other: Any, like: Any, b: int) -> Array:
    """One condition, or one for each of `b` examples, shaped like `like`."""
    if jnp.shape(other) not in (like.shape, like.shape[1:]):
        raise ValueError(
            f"other has shape {jnp.shape(other)}: expected that of one condition, "
            f"{like.shape[1:]}, or of {b}, {like.shape}"
        )
    return jnp.broadcast_to(jnp.asarray(other, like.dtype), like.shape)


def _checked(interval: Interval) -> Interval:
    low, high = interval
    if not 0 <= low < high <= 1:
        raise ValueError(f"interval {interval}: expected 0 ≤ low < high ≤ 1, t = 1 being data")
    return low, high


def _guided(net: Net, pair: Net, scale: Scale, interval: Interval, *, conditional: bool) -> Net:
    low, high = _checked(interval)
    if isinstance(scale, int | float) and scale == 1:
        return net

    everywhere = tuple(interval) == EVERYWHERE

    def guided(t: Any, x: Any, cond: Any = None, *, key: Any = None, **kw: Any) -> Any:
        if conditional and cond is None:
            raise ValueError("guidance needs a condition: pass cond, or scale=1 for none")
        inside = (low <= t) & (t <= high)

        def on() -> Any:
            off = not everywhere and jnp.ndim(t) == 1
            own = jnp.where(inside, scale, 1.0) if off else scale

            def away(v: Array, base: Array) -> Array:
                return (v + (_per_example(own, v) - 1) * (v - base)).astype(v.dtype)

            # one array, but for edits of texts, whose log-rates are several
            return jax.tree.map(away, *pair(t, x, cond, key=key, **kw))

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
