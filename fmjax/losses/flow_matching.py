"""Conditional flow matching: regress the net on the velocity of a bridge between x0 and x1."""

from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import Array, Float

from fmjax import paths, sources, times
from fmjax.losses import _common
from fmjax.types import Batch, Metrics, Nets, PRNGKey, Rows


def flow_matching(
    nets: Nets,
    key: PRNGKey,
    batch: Batch,
    *,
    bridge: paths.Bridge = paths.bridge(paths.linear()),
    sample_t: Callable[[PRNGKey, int], Float[Array, " b"]] = times.uniform,
    source: Callable[..., Any] = sources.normal,
    coupling: Callable[..., Rows] | None = None,
    weight: Callable[[Float[Array, " b"]], Float[Array, " b"]] | None = None,
    direction: float | int = 0.0,
    null: Any = None,
    drop: _common.Drop = 0.0,
) -> tuple[Float[Array, " b"], Metrics]:
    """w(t) |v(t, x_t) − u_t|², whose minimiser is the marginal velocity E[u_t | x_t].

    `coupling`: who is paired with whom (`fmjax.couplings`), inside the step; None: as they come.
    `weight`: a function of t, e.g. `paths.weight` for the same error measured in x1; None: 1.
    `direction`: adds direction · (1 − cos(v, u_t)), of the last axis (an image's channels), the
    mean over all others, after Yao & Wang 2025 (2501.01423). The mean of cosines is greatest
    along the mean of u_t/|u_t|: the minimum then is, in general, no longer the conditional
    expectation, and the flow no longer exact, however long it is trained.
    `drop`: the share of examples whose condition is replaced by `null`, or dict part → share.
    Lipman et al. 2022 (2210.02747), eq. 9; Tong et al. 2023 (2302.00482), eq. 10.
    """
    key_x0, key_t, key_bridge, key_drop, key_net, key_pair = jax.random.split(key, 6)
    batch = sources.pair(key_x0, key_pair, batch, source=source, coupling=coupling)
    t = sample_t(key_t, batch.x1.shape[0])
    xt, ut, _ = bridge(key_bridge, t, batch.x0, batch.x1)
    cond = _common.drop_condition(key_drop, batch.cond, null, drop)
    v = nets.online(t, xt, cond, key=key_net)
    error = _common.squared_error(v, ut)
    loss, metrics = error if weight is None else weight(t) * error, {"velocity_mse": error}
    if not direction:
        return loss, metrics
    cosines = _common.cosine(v, ut)
    metrics["velocity_cosine"] = cosines.reshape(len(cosines), -1).mean(axis=1)
    return loss + direction * (1 - metrics["velocity_cosine"]), metrics
