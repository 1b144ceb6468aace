"""Flow matching whose middle tokens are aligned with the features of the clean image (REPA)."""

from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import Array, Float

from fmjax import paths, sources, times
from fmjax.losses import _common
from fmjax.types import Batch, Metrics, Nets, PRNGKey, Rows


def repa(
    nets: Nets,
    key: PRNGKey,
    batch: Batch,
    *,
    features: Callable[[Any], Float[Array, "b n k"]] | None = None,
    coefficient: float | int = 0.5,
    bridge: paths.Bridge = paths.bridge(paths.linear()),
    sample_t: Callable[[PRNGKey, int], Float[Array, " b"]] = times.uniform,
    source: Callable[..., Any] = sources.normal,
    coupling: Callable[..., Rows] | None = None,
    null: Any = None,
    drop: _common.Drop = 0.0,
) -> tuple[Float[Array, " b"], Metrics]:
    """|v(t, x_t) − u_t|² + c · meanₙ (1 − cos(hₙ(t, x_t), fₙ(x1))), h a projection of tokens.

    The net returns (v, h `[b, n, k]`) when called with align=True, as `models.dit.dit` built with
    `align` does. `features`: the frozen f, of x1 in model space, as many numbers a token and
    tokens as h; None: the aligned tokens of `nets.teacher` at t = 1, of the run `config.teacher`.
    The paper's f is DINOv2's. The published c is 0.5. ValueError: shapes that differ.
    Yu et al. 2024 (2410.06940), eq. 8.
    """
    key_x0, key_t, key_bridge, key_drop, key_net, key_pair = jax.random.split(key, 6)
    batch = sources.pair(key_x0, key_pair, batch, source=source, coupling=coupling)
    t = sample_t(key_t, batch.x1.shape[0])
    xt, ut, _ = bridge(key_bridge, t, batch.x0, batch.x1)
    if features is not None:
        target = features(batch.x1)
    elif nets.teacher is not None:
        _, target = nets.teacher(1.0, batch.x1, batch.cond, align=True)
    else:
        raise ValueError(
            "repa has neither features nor a teacher: give features=…, a function of x1 to "
            "[b, n, k], or config.teacher, the directory of a run whose net has `align`"
        )
    cond = _common.drop_condition(key_drop, batch.cond, null, drop)
    v, tokens = nets.online(t, xt, cond, key=key_net, align=True)
    if tokens.shape != target.shape:
        raise ValueError(
            f"the net's tokens are {tokens.shape}, the features {target.shape}; expected the same "
            "[b, n, k]: choose patch and align.features after the features"
        )
    error = _common.squared_error(v, ut)
    apart = 1 - _common.cosine(tokens, jax.lax.stop_gradient(target)).mean(axis=1)
    metrics = {"velocity_mse": error, "alignment_cosine": 1 - apart}
    return error + coefficient * apart, metrics
