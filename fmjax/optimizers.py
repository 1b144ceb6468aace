"""What optax leaves to the model: which parameters decay, which are matrices, whose optimizer."""

from collections.abc import Sequence
from typing import Any

import jax
import optax
from optax import contrib

from fmjax.types import Params


def kernels(params: Params) -> Params:
    """A weight-decay mask: True for matrices and larger, False for biases, gains and scalars."""
    return jax.tree.map(lambda p: p.ndim > 1, params)


def matrices(params: Params, *, adam: Sequence[str] = ("input", "output")) -> Params:
    """Which parameters Muon orthogonalises: kernels, their last axis against all others.

    For `optax.contrib.muon(muon_weight_dimension_numbers=…)`. None, which is Adam: biases, gains,
    tables of classes, and what is in layers called as one of `adam`: the first and the last, as
    its author advises, in U-Nets, DiT and the residual MLP; of other networks give their names,
    such as ("layer_0", "layer_3"). Jordan 2024, kellerjordan.github.io/posts/muon.
    """

    def numbers(path: tuple[Any, ...], leaf: Any) -> Any:
        names = [getattr(key, "key", None) for key in path]
        if names[-1] != "kernel" or set(adam) & set(names):
            return None
        return contrib.MuonDimensionNumbers(tuple(range(leaf.ndim - 1)), leaf.ndim - 1)

    return jax.tree_util.tree_map_with_path(numbers, params)


def by_network(**optimizers: optax.GradientTransformation) -> optax.GradientTransformation:
    """One optimizer for each network of a model that is a NamedTuple of models, by field name."""

    def labels(params: Params) -> Params:
        if set(getattr(params, "_fields", ())) != set(optimizers):
            raise ValueError(
                f"optimizers for {sorted(optimizers)}, but the model's networks are "
                f"{sorted(getattr(params, '_fields', ['(one unnamed network)']))}"
            )
        return type(params)(
            *(jax.tree.map(lambda _, n=name: n, getattr(params, name)) for name in params._fields)
        )

    return optax.partition(optimizers, labels)
