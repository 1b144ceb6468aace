"""Self-distillation through time: what a teacher sees in several small steps, in one of its own."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fmjax import times, tokens
from fmjax.losses import _common, _tokens
from fmjax.types import Batch, Metrics, Nets, PRNGKey


def self_distillation(
    nets: Nets,
    key: PRNGKey,
    batch: Batch,
    *,
    source: Callable[..., Any],
    bridge: tokens.Bridge = tokens.mixture(),
    steps: int = 16,
    inner: int = 2,
    reverse: bool = False,
    guidance: Callable[[Any], Any] | None = None,
    null: Any = None,
    drop: _common.Drop = 0.0,
) -> tuple[Float[Array, " b"], Metrics]:
    """Mean over masks of x_t of KL(m' ‖ m(t, x_t)), m' the masses of `nets.teacher`'s chain.

    t is k/steps. The teacher (the run `config.teacher`; give it as `config.init_from`, too) makes
    `inner` steps from x_t towards the next such time. m' of a position are its masses before the
    step that ends the mask there, or before the last one. So a step of `steps` learns what the
    teacher says, position by position, in `inner` of its own, and a student may teach one of fewer
    steps. The path and a uniform grid of times are this run's, as for `ctmc`.

    reverse:  KL(m ‖ m') instead: sharper than the chain and less diverse, even of an exact teacher.
              The minimum of the other is E[m' | x_t], which is an exact teacher's own answer: what
              is learned there is only where a teacher's masses do not agree with its chain
    guidance: of the teacher, such as `fmjax.guidance:classifier_free`, which the student then has
              within: its masses, normalised, and not how it hastens jumps

    For the source of masks; states are drawn with float64's tails. `inner` evaluations of the
    teacher besides those of a usual step. In nats for each mask. ValueError: no teacher; fewer
    than 1 of either step. Deschenaux & Gulcehre 2024 (2410.21035).
    """
    if nets.teacher is None:
        raise ValueError(
            "self_distillation has no teacher: give config.teacher, the directory of the run "
            "whose chain is to be made in fewer steps"
        )
    if steps < 1 or inner < 1:
        raise ValueError(f"steps={steps}, inner={inner}: expected at least 1 of each")
    key, key_chain = jax.random.split(key)
    at = _tokens.noised(
        nets, key, batch, bridge=bridge, source=source, coupling=None, fixed=None, null=null,
        drop=drop, sample_t=lambda k, n: jnp.floor(times.stratified(k, n) * steps) / steps,
    )  # fmt: skip
    teacher = nets.teacher if guidance is None else guidance(nets.teacher)
    mask, small = at.log_m.shape[-1], 1 / (steps * inner)
    x, target = at.x, at.log_m
    for i, own in enumerate(jax.random.split(key_chain, inner)):
        t = at.t + i * small
        if i:
            x = tokens.draw(own, bridge.advance(t - small, t, x, jnp.exp(target)))
        log_m = jax.nn.log_softmax(teacher(t, x, at.cond).astype(jnp.float32), axis=-1)
        target = jnp.where((x == mask)[..., None], log_m, target)
    target, masks = jax.lax.stop_gradient(target), at.x == mask
    p, q = (at.log_m, target) if reverse else (target, at.log_m)
    loss = _tokens.mean(jnp.sum(jnp.exp(p) * (p - q), axis=-1), ~masks)
    entropy = _tokens.mean(-tokens.at(at.log_m, at.x1), None)
    return loss, {"cross_entropy_nats": entropy}


self_distillation.needs_masks = True
