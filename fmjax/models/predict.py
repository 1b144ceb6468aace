"""A network that predicts x1, x0 or the score, wrapped once into a velocity."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from fmjax import paths
from fmjax.types import Model, Time


def predict(
    model: Model, *, path: paths.Path, row: paths.Row = paths.velocity, eps: float = 1e-3
) -> Model:
    """The model whose net is the velocity converted from `model`'s prediction of `row`.

    Conversions are singular at an end of time, so their coefficients are taken at t clipped to
    [eps, 1 − eps]; the network itself sees t. A network that predicts the velocity is untouched.
    Of a tuple (`align=True` of `dit`: prediction, projections) only the first is converted.
    """
    if row is paths.velocity:
        return model

    def apply(params: Any, t: Time, x: Float[Array, " b *d"], cond: Any = None, **kw: Any) -> Any:
        safe = jnp.clip(jnp.asarray(t, jnp.float32), eps, 1 - eps)
        out = model.apply(params, t, x, cond, **kw)
        prediction, *others = out if isinstance(out, tuple) else (out,)
        v = paths.convert(path, safe, x, prediction, of=row, to=paths.velocity)
        return (v, *others) if others else v

    return Model(model.init, apply)
