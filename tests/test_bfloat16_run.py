"""A run whose parameters are bfloat16: it trains, goes on and is sampled, by a float32 average."""

import jax
import jax.numpy as jnp
import numpy as np
import tiny
import tiny_models

from fmjax.models.mlp import mlp


def halved(*, num_classes):
    """A small network with parameters in bfloat16."""
    return tiny_models.in_bfloat16(mlp(width=8, depth=1, num_classes=num_classes))


def test_it_trains_goes_on_and_is_sampled(tmp_path):
    changes = (f"model={__file__}:halved", "steps_per_call=2", "log_every=2")
    assert tiny.launched(tmp_path, *changes, "steps=4") == 0
    assert tiny.launched(tmp_path, *changes) == 0
    state = tiny.state(tmp_path, 8)
    assert {a.dtype for a in jax.tree.leaves(state.params)} == {jnp.dtype(jnp.bfloat16)}
    assert {a.dtype for a in jax.tree.leaves(state.ema)} == {jnp.dtype(jnp.float32)}
    assert tiny.launched(tmp_path, config=None, mode="sample", flags=["--n=4"]) == 0
    assert np.isfinite(np.load(tmp_path / "samples" / "samples.npz")["x1"]).all()
