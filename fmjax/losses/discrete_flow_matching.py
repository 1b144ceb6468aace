"""Discrete flow matching: the cross-entropy of the net's posterior of x1."""

from collections.abc import Callable
from typing import Any

from jaxtyping import Array, Float

from fmjax import times, tokens
from fmjax.losses import _common, _tokens
from fmjax.types import Batch, Metrics, Nets, PRNGKey, Rows


def discrete_flow_matching(
    nets: Nets,
    key: PRNGKey,
    batch: Batch,
    *,
    source: Callable[..., Any],
    bridge: Callable[..., Any] = tokens.mixture(),
    sample_t: Callable[[PRNGKey, int], Float[Array, " b"]] = times.uniform,
    coupling: Callable[..., Rows] | None = None,
    weight: Callable[[Float[Array, " b"]], Float[Array, " b"]] | None = None,
    fixed: _tokens.Fixed | None = None,
    null: Any = None,
    drop: _common.Drop = 0.0,
) -> tuple[Float[Array, " b"], Metrics]:
    """w(t) · mean over positions of −log m(x1 | x_t), whose minimiser is the posterior of x1.

    `weight`: a function of t; None: 1. With `tokens.hazard` and a net that carries what is no
    mask this is the bound of masked diffusion (Sahoo et al. 2024, 2406.07524; Shi et al.
    2024, 2406.04329), the same as `generalised_kl`. `fixed`: `(key, x1) -> bool`, the positions
    that are given and not counted (`tokens.prefix`, `tokens.scattered`), for a net that is to
    continue or to fill in; a net of the mask source that carries tokens knows how without.
    Gat et al. 2024 (2407.15595), eq. 28. In nats for each token, where w = 1.
    """
    at = _tokens.noised(
        nets, key, batch, bridge=bridge, sample_t=sample_t, coupling=coupling, fixed=fixed,
        source=source, null=null, drop=drop,
    )  # fmt: skip
    entropy = _tokens.mean(-tokens.at(at.log_m, at.x1), at.known)
    loss = entropy if weight is None else weight(at.t) * entropy
    return loss, {"cross_entropy_nats": entropy}
