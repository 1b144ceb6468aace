"""The bound of discrete flow matching: a divergence of rates, whose mean bounds the likelihood."""

from collections.abc import Callable
from typing import Any

from jaxtyping import Array, Float

from fmjax import times, tokens
from fmjax.losses import _common, _tokens
from fmjax.types import Batch, Metrics, Nets, PRNGKey, Rows


def generalised_kl(
    nets: Nets,
    key: PRNGKey,
    batch: Batch,
    *,
    source: Callable[..., Any],
    bridge: Callable[..., Any] = tokens.mixture(),
    sample_t: Callable[[PRNGKey, int], Float[Array, " b"]] = times.stratified,
    coupling: Callable[..., Rows] | None = None,
    fixed: _tokens.Fixed | None = None,
    null: Any = None,
    drop: _common.Drop = 0.0,
) -> tuple[Float[Array, " b"], Metrics]:
    """Mean over positions of D(u_t(·, x | x1), u_t(·, x)), D the generalised KL divergence.

    With t uniform its expectation is a bound of −log p(x1)/n, in nats for each token: for a path
    whose x_0 tells nothing of x1 and a net that is not guided. With the exact net it is the
    entropy where the source is masks, and above it with others, whose chain may jump again where
    the paths to one x1 do not. The rates grow without bound
    towards t = 1, hence times spread evenly (`stratified`).
    `fixed`: as in `discrete_flow_matching`, which has the same minimiser and less variance.
    Shaul et al. 2024 (2412.03487), eq. 26; Gat et al. 2024 (2407.15595).
    """
    at = _tokens.noised(
        nets, key, batch, bridge=bridge, sample_t=sample_t, source=source, coupling=coupling,
        fixed=fixed, null=null, drop=drop,
    )  # fmt: skip
    bound = _tokens.mean(bridge.bound(at.t, at.x, at.x1, at.log_m), at.known)
    entropy = _tokens.mean(-tokens.at(at.log_m, at.x1), at.known)
    return bound, {"cross_entropy_nats": entropy}
