"""The continuous-time Markov chain of tokens, from noise to data in steps of time."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree

from fmjax import tokens
from fmjax.samplers import _common, _tokens
from fmjax.types import Info, PRNGKey


def ctmc(
    net: Callable[..., Any],
    key: PRNGKey,
    x0: Int[Array, "b *n"],
    cond: PyTree = None,
    *,
    source: Callable[..., Any],
    bridge: tokens.Bridge = tokens.mixture(),
    steps: int = 64,
    grid: Callable[[Any], Any] = lambda u: u,
    churn: float | int = 0.0,
    correctors: int = 0,
    temperature: float | int = 1.0,
    top_p: float | int = 1.0,
    high: bool = True,
    given: Any = None,
    known: Any = None,
) -> tuple[Int[Array, "b *n"], Info]:
    """x ← a state of the bridge's `advance`, all positions at once; the last step draws x1 itself.

    grid:       from the uniform grid of times to another, such as `lambda u: 1 - (1 - u) ** 2`
    churn:      a rate at which positions are drawn anew from p_s(· | x1), x1 from the net's masses,
                within each step: with the source of masks, remasking (Wang et al. 2025,
                2503.00307). It keeps the marginals and lets a chain correct itself
    correctors: evaluations more at each time but the last, which only do that, each with a share
                of 1 − exp(−max(churn, 1) · step) of the positions (Gat et al. 2024, section 3.3)
    temperature, top_p: of the net's masses; other than 1 the law is no longer the model's
    high:       whether states are drawn with the tails of float64 or those of float32: see
                `tokens.categorical`, and say which with every figure
    given, known: tokens that stay as they are, where `known` is true, of one example or one for
                each: a prompt, blanks to fill, a continuation are all this. Exact for a net that
                was trained with what is known (`fixed` of the losses), and for masks that are
                carried

    NFE: steps, and correctors · (steps − 1) more. For masses that sum to 1 a step of a mixture is
    exact but for what one position tells another; the error in law falls as 1/steps.
    Campbell et al. 2022 (2205.14987); Gat et al. 2024 (2407.15595), algorithm 1.
    """
    if steps < 1 or churn < 0 or correctors < 0:
        raise ValueError(
            f"steps={steps}, churn={churn}, correctors={correctors}: expected at least 1, 0 and 0"
        )
    of = _tokens.masses(net, cond, temperature=temperature, top_p=top_p)
    kept = _tokens.given(given, known, x0).kept
    times = _common.times(grid, steps, 0.0, 1.0)

    def fresh(key: PRNGKey, t: Any, s: Any, x: Any, log_m: Any, rate: float) -> Any:
        """Positions of a share 1 − exp(−rate (s − t)) drawn anew from p_s, given x1 of masses."""
        key_who, key_x1, key_x0, key_path = jax.random.split(key, 4)
        who = jax.random.uniform(key_who, x.shape) < -jnp.expm1(-rate * (s - t))
        x1 = tokens.categorical(key_x1, log_m, high=high)
        again = bridge.sample(key_path, s, source(key_x0, x), x1)
        return jnp.where(who, again, x)

    def advance(x: Any, step: Any) -> Any:
        t, s, key = step
        key_step, key_churn, *keys = jax.random.split(key, 2 + correctors)
        log_m = of(t, x)
        x = tokens.draw(key_step, bridge.advance(t, s, x, jnp.exp(log_m)), high=high)
        if churn:
            x = fresh(key_churn, t, s, x, log_m, churn)
        x = kept(x)
        for own in keys:
            x = kept(fresh(own, t, s, x, of(s, x), max(churn, 1.0)))
        return x, None

    key, key_last = jax.random.split(key)
    x = kept(x0)
    if steps > 1:
        keys = jax.random.split(key, steps - 1)
        x, _ = jax.lax.scan(advance, x, (times[:-2], times[1:-1], keys))
    x = kept(tokens.categorical(key_last, of(times[-2], x), high=high))
    return x.astype(x0.dtype), Info(jnp.asarray(steps + correctors * (steps - 1)))
