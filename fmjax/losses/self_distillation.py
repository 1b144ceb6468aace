"""Self-distillation through time: what a teacher sees in several small steps, in one of its own."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fmjax import times, tokens
from fmjax.losses import _common, _tokens
from fmjax.types import Batch, Metrics, Nets, PRNGKey, Rows


def self_distillation(
    nets: Nets,
    key: PRNGKey,
    batch: Batch,
    *,
    source: Callable[..., Any],
    bridge: tokens.Bridge = tokens.mixture(),
    steps: int = 16,
    inner: int = 2,
    sample_t: Callable[[PRNGKey, int], Float[Array, " b"]] = times.stratified,
    guidance: Callable[[Any], Any] | None = None,
    coupling: Callable[..., Rows] | None = None,
    null: Any = None,
    drop: _common.Drop = 0.0,
) -> tuple[Float[Array, " b"], Metrics]:
    """Mean over masks of x_t of KL(m' ‖ m(t, x_t)), m' the masses of `nets.teacher`'s chain.

    t is k/steps. The teacher (the run `config.teacher`, from whose weights one starts, too, with
    `config.init_from`) makes `inner` steps from x_t to the next such time. m' of a position are
    its masses before the step that ends the mask there; of one that is a mask to the end, before
    the last step. So the net learns to make `steps` steps as the teacher makes steps · inner, and
    may then be the teacher of fewer. A teacher whose masses agree with its own chain is its own
    student: what is learned is where they do not; positions stay independent within a step.
    `guidance`: of the teacher, such as `fmjax.guidance:classifier_free`, which the student then
    has within. For the source of masks. Costs `inner` evaluations of the teacher more than a step.
    Deschenaux & Gulcehre 2024 (2410.21035). In nats for each mask. ValueError: no
    teacher; fewer than 1 of either step.
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
        nets, key, batch, bridge=bridge, source=source, coupling=coupling, fixed=None, null=null,
        drop=drop, sample_t=lambda k, n: jnp.floor(sample_t(k, n) * steps) / steps,
    )  # fmt: skip
    teacher = nets.teacher if guidance is None else guidance(nets.teacher)
    mask = at.log_m.shape[-1]

    def onwards(carry: Any, step: Any) -> Any:
        x, target = carry
        part, own = step
        t, s = (at.t + (part + more) / (steps * inner) for more in (0, 1))
        log_m = teacher(t, x, at.cond).astype(jnp.float32)
        target = jnp.where((x == mask)[..., None], jax.nn.log_softmax(log_m, axis=-1), target)
        # the last states are of no use, so s may stay short of 1
        law = bridge.advance(t, jnp.minimum(s, 1 - 1e-6), x, jnp.exp(jnp.minimum(log_m, 60.0)))
        return (tokens.categorical(own, jnp.log(jnp.maximum(law, 0.0))), target), None

    parts = jnp.arange(inner, dtype=jnp.float32), jax.random.split(key_chain, inner)
    (_, target), _ = jax.lax.scan(onwards, (at.x, at.log_m), parts)
    target, known = jax.lax.stop_gradient(target), at.x != mask
    each = jnp.sum(jnp.exp(target) * (target - at.log_m), axis=-1)
    loss = _tokens.mean(each, known)
    entropy = _tokens.mean(-tokens.at(at.log_m, at.x1), known)
    return loss, {"cross_entropy_nats": entropy}


self_distillation.needs_masks = True
