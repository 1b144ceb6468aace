"""What optax leaves to the model: which parameters decay, and one optimizer per network."""

import jax
import optax

from fmjax.types import Params


def kernels(params: Params) -> Params:
    """A weight-decay mask: True for matrices and larger, False for biases, gains and scalars."""
    return jax.tree.map(lambda p: p.ndim > 1, params)


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
