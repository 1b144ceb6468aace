"""[SF]²M: velocity and score together, on a bridge with noise of its own."""

from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import Array, Float

from fmjax import bridges, paths, sources, times
from fmjax.losses import _common
from fmjax.types import Batch, Metrics, Nets, PRNGKey, Rows


def score_and_flow_matching(
    nets: Nets,
    key: PRNGKey,
    batch: Batch,
    *,
    bridge: paths.Bridge = bridges.brownian(),
    sample_t: Callable[[PRNGKey, int], Float[Array, " b"]] = times.uniform,
    source: Callable[..., Any] = sources.normal,
    coupling: Callable[..., Rows] | None = None,
    weight: Callable[[Float[Array, " b"]], Float[Array, " b"]] | None = None,
    score_weight: float | int = 1.0,
    null: Any = None,
    drop: _common.Drop = 0.0,
) -> tuple[Float[Array, " b"], Metrics]:
    """w(t) |v(t, x_t) − u_t|² + c |γ(t) s(t, x_t) + z|²; minimisers: velocity and score of x_t.

    The score's error is weighted by γ², so that its target is unit noise at every time; at an
    end where γ = 0 the score is what its net makes of the times beside it.
    `nets.*`: a velocity net with the score net as `.score` (`models.velocity_score`).
    `bridge`: one of `fmjax.bridges`. With `brownian(sigma=σ)` and the entropic plan of
    regularisation σ² (2σ² for the cost |x0 − x1|²) as `coupling`, `samplers.sde` with the
    constant g = σ samples the Schrödinger bridge.
    `weight`: a function of t for the velocity's error, e.g. 4t(1 − t), which makes its variance
    finite where γ' is not. `score_weight`: c. `coupling`, `null`, `drop`: as in `flow_matching`.
    Tong et al. 2023 (2307.03672), whose weight λ(t) is ours up to a constant.
    """
    key_x0, key_t, key_bridge, key_drop, key_net, key_score, key_pair = jax.random.split(key, 7)
    batch = sources.pair(key_x0, key_pair, batch, source=source, coupling=coupling)
    t = sample_t(key_t, batch.x1.shape[0])
    xt, ut, latent = bridge(key_bridge, t, batch.x0, batch.x1)
    if not hasattr(nets.online, "velocity") or not hasattr(nets.online, "score"):
        raise ValueError(
            "the model is one net, and this objective trains two: set config.model = dict(name="
            '"fmjax.models.velocity_score:VelocityScore", velocity=…, score=…)'
        )
    if latent is None:
        raise ValueError(
            "the bridge has no noise of its own, hence no score to learn: set config.bridge, e.g. "
            'dict(name="fmjax.bridges:brownian", sigma=1.0)'
        )
    cond = _common.drop_condition(key_drop, batch.cond, null, drop)
    velocity_mse = _common.squared_error(nets.online.velocity(t, xt, cond, key=key_net), ut)
    score = nets.online.score(t, xt, cond, key=key_score)
    if score.shape != xt.shape:
        raise ValueError(f"the score net returned shape {score.shape}, expected {xt.shape}")
    noise_mse = _common.squared_error(-paths.like(latent.gamma, xt) * score, latent.z)
    weighted = velocity_mse if weight is None else weight(t) * velocity_mse
    metrics = {"velocity_mse": velocity_mse, "noise_mse": noise_mse}
    return weighted + score_weight * noise_mse, metrics
