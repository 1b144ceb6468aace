"""The likelihood of tokens one after another, by a net that sees those before: a baseline."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fmjax import tokens
from fmjax.losses import _common, _tokens
from fmjax.types import Batch, Metrics, Nets, PRNGKey


def autoregressive(
    nets: Nets,
    key: PRNGKey,
    batch: Batch,
    *,
    vocabulary: int,
    null: Any = None,
    drop: _common.Drop = 0.0,
) -> tuple[Float[Array, " b"], Metrics]:
    """Mean over i of −log p(x_i | x_1 … x_{i − 1}): in nats for each token, exact.

    For a causal net (`token_transformer(causal=True)`), asked at t = 1 with the tokens moved on by
    one place, the mask in the first. A net that sees all positions learns to copy: a loss that
    falls to 0 says so.
    """
    key_drop, key_net = jax.random.split(key)
    cond = _common.drop_condition(key_drop, batch.cond, null, drop)
    log_m = nets.online(1.0, tokens.shifted(batch.x1, vocabulary), cond, key=key_net)
    loss = _tokens.mean(-tokens.at(log_m.astype(jnp.float32), batch.x1), None)
    return loss, {"cross_entropy_nats": loss}
