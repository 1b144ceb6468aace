import jax
import jax.numpy as jnp
import numpy as np

from fmjax import paths, train
from fmjax.models.mlp import mlp
from fmjax.models.predict import predict
from fmjax.models.velocity_score import VelocityScore
from fmjax.types import Batch, Model

X = jnp.ones((3, 2))


def test_it_is_bound_net_by_net_and_called_as_its_velocity():
    model = VelocityScore(mlp(width=4, depth=1), mlp(width=4, depth=1))
    params = train.init_params(model, jax.random.key(0), Batch(X))
    net = train.bind(model, params)
    assert isinstance(params, VelocityScore)
    np.testing.assert_array_equal(net(0.5, X), net.velocity(0.5, X))
    assert np.abs(net(0.5, X) - net.score(0.5, X)).max() > 0  # keys of their own
    np.testing.assert_array_equal(net(jnp.asarray(0.5), X, None, key=None), net(0.5, X))


def test_a_velocity_needs_no_conversion():
    model = VelocityScore(mlp(width=4), mlp(width=4))
    same = jax.tree.map(
        lambda m: predict(m, path=paths.linear()), model, is_leaf=lambda m: isinstance(m, Model)
    )
    assert same == model
