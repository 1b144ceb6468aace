"""Image to image: noise an image in part, and let the sampler find its way back."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from fmjax import paths
from fmjax.samplers import _common
from fmjax.types import Info, PRNGKey


def partial(
    net: Callable[..., Any],
    key: PRNGKey | None,
    x0: Float[Array, " b *d"],
    cond: PyTree = None,
    *,
    sampler: Callable[..., Any],
    image: Any,
    strength: float | int = 0.6,
    path: paths.Path = paths.linear(),
) -> tuple[Float[Array, " b *d"], Info]:
    """`sampler` from x_s = α(s) image + σ(s) x0 at s = 1 − strength on to t = 1.

    image:    in model space, one `[*d]` or one for each example.
    strength: in (0, 1]: near 0 the image itself, 1 a sample that has forgotten it.
    sampler:  any with an argument `t0`, which is set here; its `steps` are laid over [s, 1], so
              NFE is that of the sampler and does not shrink with the strength.
    Another condition than the image's changes its content or its style; the coarse layout stays
    the longer, the smaller the strength. Meng et al. 2021 (SDEdit, 2108.01073).
    ValueError: another strength, an image of another shape.
    """
    if not 0 < strength <= 1:
        raise ValueError(f"strength={strength}: expected above 0 (the image) to 1 (all noise)")
    start = 1.0 - float(strength)
    a, s = (f(jnp.float32(start)) for f in path)
    image = _common.given(image, x0, "image").astype(x0.dtype)
    noisy = (a * image + s * x0).astype(x0.dtype) if start else x0
    return sampler(net, key, noisy, cond, t0=start)
