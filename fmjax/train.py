"""The training state and one step of it, written for one logical device and the global batch."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from fmjax.types import Batch, Metrics, Model, Nets, Params, PRNGKey


class TrainState(NamedTuple):
    """Arrays and nothing else. `ema`: decay (as text) -> parameters."""

    step: Int[Array, "*seeds"]
    params: Params
    ema: dict[str, Params]
    opt_state: Any


Step = Callable[[TrainState, Any, PRNGKey, Any], tuple[TrainState, Metrics]]


def bind(model: Any, params: Params) -> Any:
    """The net of a model at these parameters; of a NamedTuple of models, the same of nets."""
    if isinstance(model, Model):
        return functools.partial(model.apply, params)
    return type(model)(*(bind(m, p) for m, p in zip(model, params, strict=True)))


def init_params(model: Any, key: PRNGKey, batch: Batch) -> Params:
    """Fresh parameters of a model, or of each network of a NamedTuple of models."""
    if isinstance(model, Model):
        return model.init(key, batch)
    keys = jax.random.split(key, len(model))
    return type(model)(*(init_params(m, k, batch) for m, k in zip(model, keys, strict=True)))


def init(
    model: Any,
    tx: optax.GradientTransformation,
    key: PRNGKey,
    batch: Batch,
    *,
    ema: Sequence[float] = (0.999,),
) -> TrainState:
    """The state before step 0. Every EMA starts as a copy of the parameters."""
    params = init_params(model, key, batch)
    return TrainState(jnp.zeros((), jnp.int32), params, copies(params, ema), tx.init(params))


def copies(params: Params, ema: Sequence[float]) -> dict[str, Params]:
    """A copy of the parameters for each decay, in float32 at least.

    In bfloat16, of 8 bits, an average of decay 0.999 would never move.
    """

    def copy(p: Any) -> Array:
        return jnp.array(p, jnp.promote_types(p.dtype, jnp.float32), copy=True)

    return {str(decay): jax.tree.map(copy, params) for decay in ema}


def ema_decay(decay: float, step: Int[Array, ""]) -> Array:
    """min(decay, (1 + step)/(10 + step)): short memory early, so that no correction is needed."""
    return jnp.minimum(decay, (1 + step) / (10 + step))


def make_step(
    model: Any,
    objective: Callable[..., Any],
    tx: optax.GradientTransformation,
    *,
    ema: Sequence[float] = (0.999,),
    accumulate: int = 1,
    draw: Callable[[PRNGKey], Batch] | None = None,
    teacher: Any = None,
    axis_name: str | None = None,
) -> Step:
    """`step(state, frozen, key, batch) -> (state, metrics)`, pure and ready to compile.

    The gradient is that of Σ w·l / Σ w over the global batch, in `accumulate` micro-batches.
    `draw`: makes the batch from a key inside the step (the argument is then None).
    `teacher`: a model whose parameters are `frozen`.
    `axis_name`: the axis of a surrounding `pmap`; adds the mean of gradients over it and folds
    the key with its index, and nothing else.
    """
    first = str(ema[0]) if ema else None

    def loss(params: Params, state: TrainState, frozen: Any, key: PRNGKey, batch: Batch) -> Any:
        nets = Nets(
            online=bind(model, params),
            stopped=bind(model, jax.lax.stop_gradient(params)),
            ema=bind(model, state.ema[first] if first else jax.lax.stop_gradient(params)),
            teacher=None if teacher is None else bind(teacher, frozen),
        )
        per_example, metrics = objective(nets, key, batch)
        _check_per_example(per_example, metrics, batch)
        weight = jnp.ones_like(per_example) if batch.weight is None else batch.weight
        sums = {k: jnp.sum(weight * v) for k, v in {**metrics, "loss": per_example}.items()}
        return sums["loss"], (sums, jnp.sum(weight))

    gradient = jax.grad(loss, has_aux=True)

    def step(state: TrainState, frozen: Any, key: PRNGKey, batch: Any) -> Any:
        key = jax.random.fold_in(key, state.step)
        if axis_name is not None:
            key = jax.random.fold_in(key, jax.lax.axis_index(axis_name))
        if draw is not None:
            key_draw, key = jax.random.split(key)
            batch = draw(key_draw)
        total = _accumulated(
            functools.partial(gradient, state.params, state, frozen), key, batch, accumulate
        )
        if axis_name is not None:
            total = jax.lax.pmean(total, axis_name)
        grads, (sums, count) = total
        grads = jax.tree.map(lambda g: (g / count).astype(g.dtype), grads)
        metrics = {k: v / count for k, v in sums.items()}
        metrics["grad_norm"] = optax.tree.norm(grads)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        averages = {
            d: optax.incremental_update(params, old, 1 - ema_decay(float(d), state.step))
            for d, old in state.ema.items()
        }
        new = TrainState(state.step + 1, params, averages, opt_state)
        _check_types(state, new)
        return new, metrics

    return step


def _accumulated(gradient: Callable[..., Any], key: PRNGKey, batch: Batch, parts: int) -> Any:
    """Σ over micro-batches of (gradient, (sums, Σ w)), one micro-batch in memory at a time."""
    if parts == 1:
        return gradient(key, batch)

    def split(x: Any) -> Any:
        # every micro-batch takes rows from every device's share, so none of them moves
        return x.reshape(x.shape[0] // parts, parts, *x.shape[1:]).swapaxes(0, 1)

    micro = (jax.random.split(key, parts), jax.tree.map(split, batch))
    zero = jax.eval_shape(lambda m: gradient(*jax.tree.map(lambda x: x[0], m)), micro)
    zero = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), zero)
    return jax.lax.scan(
        lambda total, m: (jax.tree.map(jnp.add, total, gradient(*m)), None), zero, micro
    )[0]


def repeat(step: Callable[..., Any], length: int) -> Callable[..., Any]:
    """`length` steps a call: batches stacked `[length, b, …]` (or None), metrics `[length]`."""

    def many(state: Any, frozen: Any, key: PRNGKey, batches: Any) -> Any:
        if length == 1:  # in a loop, XLA's convolutions on CPUs were measured 13 times as slow
            batch = jax.tree.map(lambda x: x[0], batches)
            state, metrics = step(state, frozen, key, batch)
            return state, jax.tree.map(lambda m: m[None], metrics)
        return jax.lax.scan(
            lambda s, batch: step(s, frozen, key, batch), state, batches, length=length
        )

    return many


def _check_per_example(per_example: Any, metrics: Metrics, batch: Batch) -> None:
    rows = jax.tree.leaves(batch.x1)[0].shape[0]
    found = {"a loss": per_example, **{f"a metric {k!r}": v for k, v in metrics.items()}}
    for what, value in found.items():
        if value.shape != (rows,):
            raise ValueError(
                f"the objective returned {what} of shape {value.shape} for {rows} examples; "
                f"expected one value an example, shape ({rows},)"
            )
    if batch.weight is not None and batch.weight.shape != (rows,):
        raise ValueError(f"weights have shape {batch.weight.shape}; expected ({rows},)")
    for name in ("loss", "grad_norm"):
        if name in metrics:
            raise ValueError(f"an objective's metric may not be called {name!r}; rename it")


def _check_types(old: TrainState, new: TrainState) -> None:
    """Raise where a step changes the type of a part of the state: it could not be repeated."""
    before, after = (jax.tree_util.tree_leaves_with_path(state) for state in (old, new))
    if jax.tree.structure(old) != jax.tree.structure(new):
        raise ValueError(
            "the step changes the structure of the state, which has to stay as the optimizer's "
            f"init made it: {jax.tree.structure(old)} became {jax.tree.structure(new)}"
        )
    for (path, a), (_, b) in zip(before, after, strict=True):
        if (a.shape, a.dtype) != (b.shape, b.dtype):
            raise ValueError(
                f"the step changes {jax.tree_util.keystr(path)} of the state from "
                f"{a.dtype}{list(a.shape)} to {b.dtype}{list(b.shape)}; a step has to keep every "
                "type. Cast in the optimizer's update, or the parameters in the model's init"
            )


def total_parameters(params: Any) -> int:
    """The number of scalars in a tree of parameters."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
