"""The plain multilayer perceptron of small flow-matching experiments."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from fmjax import types
from fmjax.models import _common


class _MLP(nn.Module):
    deterministic: bool
    width: int
    depth: int
    activation: Callable[..., Any]
    features: int
    num_classes: _common.Classes
    dropout: float
    dtype: Any

    @nn.compact
    def __call__(self, t: Any, x: Any, cond: Any) -> Any:
        time = _common.time_features(t, self.features) if self.features else t[:, None]
        flat = x.reshape(x.shape[0], -1)
        h = jnp.concatenate([flat, time], axis=-1)
        for i in range(self.depth):
            h = nn.Dense(self.width, dtype=self.dtype, name=f"layer_{i}")(h)
            if i == 0 and cond is not None:
                h = h + _common.condition(cond, self.width, self.num_classes, self.dtype)
            h = nn.Dropout(self.dropout, deterministic=self.deterministic)(self.activation(h))
        last = nn.Dense(flat.shape[-1], dtype=self.dtype, name=f"layer_{self.depth}")
        return last(h).reshape(x.shape)


def mlp(
    *,
    width: int = 64,
    depth: int = 3,
    activation: Callable[..., Any] = _common.selu,
    features: int = 0,
    num_classes: _common.Classes = None,
    dropout: float = 0.0,
    dtype: Any = None,
) -> types.Model:
    """v = W f(… f(W [x, t] + b) …) + b with `depth` hidden layers; x of any shape is flattened.

    `features` Fourier features of t replace t itself (0: t as it is). A condition is added before
    the first activation, which equals appending its one-hot code, or its values, to the input.
    The defaults are TorchCFM's network for 2-D data (Tong et al. 2023, arXiv 2302.00482),
    with LeCun's initialisation, which SELU is made for. Beyond some tens of dimensions prefer
    `resmlp`, and `dit` for images. With `dtype` bfloat16 a bare t has steps of 1/256: use features.
    """
    options = (width, depth, activation, features, num_classes, dropout, dtype)
    return _common.model(lambda deterministic: _MLP(deterministic, *options))
