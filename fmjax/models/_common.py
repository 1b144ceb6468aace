"""What the networks share: times, conditions, dense layers, and the pair (init, apply)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from fmjax import types


def dense(x: Float[Array, "*n d"], features: int, **options: Any) -> Float[Array, "*n {features}"]:
    """x W + b on the last axis, all others flattened into one; call it inside a compact module.

    XLA on the CPU differentiates `[b, n, d] @ [d, k]` 1.4 to 2 times slower than the same product
    as `[b n, d] @ [d, k]`; on accelerators the reshape costs nothing. `options` are `nn.Dense`'s.
    """
    flat = nn.Dense(features, **options)(x.reshape(-1, x.shape[-1]))
    return flat.reshape(*x.shape[:-1], features)


def broadcast_time(t: Any, x: Float[Array, " b *d"]) -> Float[Array, " b"]:
    """One time for each example, from a number, a scalar array or `[b]`; at least float32.

    Raises ValueError on any other shape.
    """
    t = jnp.asarray(t, jnp.promote_types(x.dtype, jnp.float32))
    if t.shape not in ((), x.shape[:1]):
        raise ValueError(
            f"t has shape {t.shape}; expected () or {x.shape[:1]}, one time for each example of x "
            f"{x.shape}. Pass a number, or drop the other axes of t."
        )
    return jnp.broadcast_to(t, x.shape[:1])


def time_features(
    t: Float[Array, " b"], n: int, *, slowest: float = 1.0, fastest: float = 100.0
) -> Float[Array, " b n"]:
    """[cos ωₖ t, sin ωₖ t], k = 1 … n/2, ω spaced geometrically from `slowest` to `fastest`.

    Angular frequencies for t in [0, 1]: the fastest resolves about 2π/100 of the interval.
    Diffusion codes reach 1000, which makes ∂v/∂t rough for adaptive solvers and for losses that
    differentiate in time (Lu & Song 2024, arXiv 2410.11081, section 4.1).
    """
    if n < 2 or n % 2:
        raise ValueError(
            f"{n} time features: expected an even number of at least 2, "
            "for each frequency takes a cosine and a sine."
        )
    frequencies = np.geomspace(slowest, fastest, n // 2)
    angles = t[:, None] * jnp.asarray(frequencies, t.dtype)[None]
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


def check_labels(cond: Any, num_classes: int | None) -> bool:
    """True for classes, integers `[b]`; False for values, floats `[b, k]`; else ValueError."""
    shape, dtype = cond.shape, cond.dtype
    if jnp.issubdtype(dtype, jnp.integer) and len(shape) == 1:
        if num_classes is None:
            raise ValueError(
                f"a condition of classes ({dtype}{list(shape)}) needs num_classes: pass "
                "num_classes=… to the model, or give the condition as floats [b, k]."
            )
        return True
    if jnp.issubdtype(dtype, jnp.floating) and len(shape) == 2:
        return False
    raise ValueError(
        f"cond is {dtype}{list(shape)}; expected classes, integers [b], or values, floats [b, k]. "
        "Reshape or cast the condition of the batch."
    )


def condition(
    cond: Any, width: int, num_classes: int | None, dtype: Any = None
) -> Float[Array, " b {width}"]:
    """A row of a table for a class, a linear map for values; call it inside a compact module.

    The table has num_classes + 1 rows: the last is the absent class, `null = num_classes`.
    Values have no bias, so that zeros are their natural absent value.
    """
    if check_labels(cond, num_classes):
        rows, init = num_classes + 1, nn.initializers.normal(0.02)
        return nn.Embed(rows, width, dtype=dtype, embedding_init=init, name="condition")(cond)
    return nn.Dense(width, use_bias=False, dtype=dtype, name="condition")(cond)


def embed(
    t: Float[Array, " b"],
    cond: Any,
    width: int,
    features: int,
    num_classes: int | None,
    dtype: Any = None,
) -> Float[Array, " b {width}"]:
    """c = W silu(W features(t)) + condition; call it inside a compact module."""
    h = nn.Dense(width, dtype=dtype, name="time_in")(time_features(t, features))
    c = nn.Dense(width, dtype=dtype, name="time_out")(jax.nn.silu(h))
    return c if cond is None else c + condition(cond, width, num_classes, dtype)


def check_condition(params: types.Params, cond: Any) -> None:
    """Raise ValueError unless `cond` is of the kind that `params` were initialised with."""
    had = "no condition"
    if "condition" in params:
        had = "classes" if "embedding" in params["condition"] else "values"
    got = "no condition"
    if cond is not None:
        got = "classes" if check_labels(cond, num_classes=0) else "values"
    if had != got:
        raise ValueError(
            f"the model was initialised with {had} and is called with {got}. Pass what the batch "
            "given to init had (the data's null where a condition is absent), or initialise again."
        )


def selu(x: Float[Array, " *d"]) -> Float[Array, " *d"]:
    """λ x where x > 0, λ α (eˣ − 1) elsewhere: `jax.nn.selu` with exp instead of expm1.

    Differs by 3e-7 at most. expm1 is slow on CPUs: a training step of a 3 × 64 network on 512
    rows took 15 % longer with it. Klambauer et al. 2017, arXiv 1706.02515.
    """
    alpha, scale = 1.6732632423543772, 1.0507009873554805
    positive = x > 0
    return scale * jnp.where(positive, x, alpha * jnp.exp(jnp.where(positive, 0, x)) - alpha)


def modulate(x: Array, shift: Array, scale: Array) -> Array:
    """x (1 + scale) + shift, of equal ranks."""
    return x * (1 + scale) + shift


class Head(nn.Module):
    """W (norm(h) (1 + scale(c)) + shift(c)) + b, starting at zero; `c` of the rank of `h`."""

    features: int
    dtype: Any = None

    @nn.compact
    def __call__(self, h: Float[Array, " b *n d"], c: Float[Array, " b *m d"]) -> Array:
        """Normalise, modulate, project."""
        zeros, width = nn.initializers.zeros_init(), h.shape[-1]
        options = {"dtype": self.dtype, "kernel_init": zeros}
        modulation = dense(jax.nn.silu(c), 2 * width, name="modulation", **options)
        shift, scale = jnp.split(modulation, 2, axis=-1)
        h = nn.LayerNorm(use_scale=False, use_bias=False, dtype=self.dtype)(h)
        h = modulate(h, shift, scale)
        return dense(h, self.features, name="projection", **options)


def example(batch: types.Batch) -> tuple[Array, Array | None]:
    """One row of zeros shaped as the batch: initial parameters depend on its shapes alone."""

    def zeros(a: Any) -> Array:
        return jnp.zeros((1, *a.shape[1:]), jax.dtypes.canonicalize_dtype(a.dtype))

    return zeros(batch.x1), None if batch.cond is None else zeros(batch.cond)


def model(module: Callable[[bool], nn.Module]) -> types.Model:
    """The pair (init, apply) of a Linen network, `module(deterministic)(t, x, cond)`.

    The parameters are float32, in plain nested dicts; the output has the dtype of `x`.
    """

    def init(key: types.PRNGKey, batch: types.Batch) -> types.Params:
        x, cond = example(batch)
        return module(True).init({"params": key}, broadcast_time(0.0, x), x, cond)["params"]

    def apply(
        params: types.Params, t: Any, x: Float[Array, " b *d"], cond: Any = None, *, key: Any = None
    ) -> Float[Array, " b *d"]:
        check_condition(params, cond)
        rngs = {} if key is None else {"dropout": key}
        net = module(key is None)
        out = net.apply({"params": params}, broadcast_time(t, x), x, cond, rngs=rngs)
        return out.astype(x.dtype)

    return types.Model(init, apply)
