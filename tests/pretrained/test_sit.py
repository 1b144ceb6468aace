"""A file with the names and shapes of SiT's fills the network, every number in its place."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from fmjax import types
from fmjax.models import _transformer, dit
from fmjax.pretrained.sit import params, sit

WIDTH, DEPTH, PATCH, CHANNELS, CLASSES = 16, 2, 2, 3, 5
MODEL = dit.sit(size="S", depth=DEPTH, width=WIDTH, heads=2, num_classes=CLASSES)


def state():
    rng, w = np.random.default_rng(0), WIDTH
    linears = {
        "t_embedder.mlp.0": (w, 256),
        "t_embedder.mlp.2": (w, w),
        "final_layer.linear": (PATCH * PATCH * 2 * CHANNELS, w),
        "final_layer.adaLN_modulation.1": (2 * w, w),
    }
    for i in range(DEPTH):
        linears |= {
            f"blocks.{i}.attn.qkv": (3 * w, w),
            f"blocks.{i}.attn.proj": (w, w),
            f"blocks.{i}.mlp.fc1": (4 * w, w),
            f"blocks.{i}.mlp.fc2": (w, 4 * w),
            f"blocks.{i}.adaLN_modulation.1": (6 * w, w),
        }
    shapes = {f"{name}.weight": shape for name, shape in linears.items()}
    shapes |= {f"{name}.bias": shape[:1] for name, shape in linears.items()}
    shapes |= {
        "x_embedder.proj.weight": (w, CHANNELS, PATCH, PATCH),
        "x_embedder.proj.bias": (w,),
        "y_embedder.embedding_table.weight": (CLASSES + 1, w),
    }
    tensors = {name: rng.normal(size=s).astype(np.float32) for name, s in shapes.items()}
    return tensors | {"pos_embed": _transformer.positions(4, 4, w, column_first=True)[None]}


def test_names_and_shapes_are_those_of_the_network(tmp_path):
    batch = types.Batch(jnp.zeros((1, 8, 8, CHANNELS)), jnp.zeros(1, jnp.int32))
    shapes = jax.tree.map(jnp.shape, jax.eval_shape(MODEL.init, jax.random.key(0), batch))
    save_file(state(), tmp_path / "released.safetensors")
    assert jax.tree.map(jnp.shape, sit(tmp_path / "released.safetensors")) == shapes
    both = {f"{which}.{k}": v for which in ("ema", "model") for k, v in state().items()}
    save_file(both, tmp_path / "checkpoint.safetensors")
    assert jax.tree.map(jnp.shape, sit(tmp_path / "checkpoint.safetensors")) == shapes
    with pytest.raises(ValueError, match=r"no entry .other'; it has .'ema', 'model'"):
        sit(tmp_path / "checkpoint.safetensors", which="other")
    with pytest.raises(FileNotFoundError, match=r"SiT-XL-2-256x256\.pt"):
        sit(tmp_path / "nowhere.pt")


def test_patches_and_times_meet_the_weights_that_they_met_in_the_file():
    tensors, rng = state(), np.random.default_rng(1)
    tree = params(tensors)
    x, t = rng.normal(size=(2, 4, 4, CHANNELS)), np.array([0.3, 0.9])
    # token (row 1, column 0): a convolution's window
    window = x[:, 2:4, 0:2]
    theirs = np.einsum("bijc,wcij->bw", window, tensors["x_embedder.proj.weight"])
    tokens = dit.patchify(jnp.asarray(x, jnp.float32), PATCH)[:, 2]
    np.testing.assert_allclose(tokens @ tree["input"]["kernel"], theirs, rtol=1e-4, atol=1e-4)
    angles = t[:, None] * 10_000.0 ** (-np.arange(128) / 128)
    features = np.concatenate([np.cos(angles), np.sin(angles)], axis=-1)
    theirs = features @ tensors["t_embedder.mlp.0.weight"].T
    angles = t[:, None] * np.geomspace(10_000.0 ** (-127 / 128), 1.0, 128)
    ours = np.concatenate([np.cos(angles), np.sin(angles)], axis=-1) @ tree["time_in"]["kernel"]
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_other_networks_are_refused():
    with pytest.raises(ValueError, match="keeps fixed"):
        params({**state(), "pos_embed": np.ones((1, 16, WIDTH), np.float32)})
    with pytest.raises(ValueError, match=r"1 tensors .* have no place in it"):
        params({**state(), "blocks.0.norm1.weight": np.ones(WIDTH, np.float32)})
