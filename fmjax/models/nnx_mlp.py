"""The perceptron of `mlp`, as an NNX network behind the same pair of functions."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from fmjax import types
from fmjax.models import _common


class _MLP(nnx.Module):
    def __init__(
        self,
        x: Any,
        cond: Any,
        rngs: nnx.Rngs,
        width: int,
        depth: int,
        activation: Callable[..., Any],
        num_classes: _common.Classes,
        dropout: float,
    ) -> None:
        self.activation, self.depth = activation, depth
        self.dropout = nnx.Dropout(dropout)
        size = x[0].size
        sizes = [size + 1, *[width] * depth, size]
        for i in range(depth + 1):
            setattr(self, f"layer_{i}", nnx.Linear(sizes[i], sizes[i + 1], rngs=rngs))
        given = {} if cond is None else _common.parts(cond, num_classes)
        for name, (part, classes) in given.items():
            if _common.check_labels(part, classes, name):
                setattr(self, name, nnx.Embed(classes + 1, width, rngs=rngs))
            else:
                setattr(self, name, nnx.Linear(part.shape[-1], width, use_bias=False, rngs=rngs))

    def __call__(self, t: Any, x: Any, cond: Any, key: Any) -> Any:
        keys = [None] * self.depth if key is None else jax.random.split(key, self.depth)
        h = jnp.concatenate([x.reshape(x.shape[0], -1), t[:, None]], axis=-1)
        for i in range(self.depth):
            h = getattr(self, f"layer_{i}")(h)
            if i == 0 and cond is not None:
                for name, (part, _) in _common.parts(cond).items():
                    h = h + getattr(self, name)(part)
            h = self.dropout(self.activation(h), deterministic=key is None, rngs=keys[i])
        return getattr(self, f"layer_{self.depth}")(h).reshape(x.shape)


def nnx_mlp(
    *,
    width: int = 64,
    depth: int = 3,
    activation: Callable[..., Any] = _common.selu,
    num_classes: _common.Classes = None,
    dropout: float = 0.0,
) -> types.Model:
    """v = W f(… f(W [x, t] + b) …) + b, written with `flax.nnx`: a pattern to copy.

    An NNX network is an object that holds its arrays. `init` makes one and keeps its parameters,
    a plain nested dict; `apply` traces its structure from the shapes at hand, which costs nothing
    in a compiled program, and merges the parameters in. Networks with state other than parameters
    (batch statistics, an `nnx.Rngs` attribute) do not fit. In experiments use `mlp`, which is the
    same network and also offers Fourier features and a computing dtype.
    """
    options = (width, depth, activation, num_classes, dropout)

    def init(key: types.PRNGKey, batch: types.Batch) -> types.Params:
        network = _MLP(*_common.example(batch), nnx.Rngs(key), *options)
        return nnx.to_pure_dict(nnx.state(network, nnx.Param))

    def apply(
        params: types.Params, t: Any, x: Float[Array, " b *d"], cond: Any = None, *, key: Any = None
    ) -> Float[Array, " b *d"]:
        _common.check_condition(params, cond)
        structure = nnx.eval_shape(lambda: _MLP(x, cond, nnx.Rngs(0), *options))
        graph, state = nnx.split(structure)
        nnx.replace_by_pure_dict(state, params)
        out = nnx.merge(graph, state)(_common.broadcast_time(t, x), x, cond, key)
        return out.astype(x.dtype)

    return types.Model(init, apply)
