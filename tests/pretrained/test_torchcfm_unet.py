"""U-Net weights of TorchCFM: the names of its release, and what is wrong with a file."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from fmjax import types
from fmjax.models.unet import unet
from fmjax.pretrained.torchcfm_unet import torchcfm_unet

RNG = np.random.default_rng(0)
E = 32  # four times 8 channels


def layer(name, *shape):
    draw = {f"{name}.weight": RNG.normal(size=shape), f"{name}.bias": RNG.normal(size=shape[:1])}
    return {k: v.astype(np.float32) for k, v in draw.items()}


def block(name, c, k, scale_shift=False):
    return {
        **layer(f"{name}.in_layers.0", c),
        **layer(f"{name}.in_layers.2", k, c, 3, 3),
        **layer(f"{name}.emb_layers.1", (1 + scale_shift) * k, E),
        **layer(f"{name}.out_layers.0", k),
        **layer(f"{name}.out_layers.3", k, k, 3, 3),
        **(layer(f"{name}.skip_connection", k, c, 1, 1) if c != k else {}),
    }


def attention(name, c):
    return {
        **layer(f"{name}.norm", c),
        **layer(f"{name}.qkv", 3 * c, c, 1),
        **layer(f"{name}.proj_out", c, c, 1),
    }


def state(blocks=False):
    """The names of TorchCFM's UNetModel: 8 channels, (1, 2), one block, attention at half size."""
    down = block("input_blocks.2.0", 8, 8, blocks)
    up = block("output_blocks.1.2", 16, 16, blocks)
    return {
        **layer("time_embed.0", E, 8),
        **layer("time_embed.2", E, E),
        **layer("input_blocks.0.0", 8, 3, 3, 3),
        **block("input_blocks.1.0", 8, 8, blocks),
        **(down if blocks else layer("input_blocks.2.0.op", 8, 8, 3, 3)),
        **block("input_blocks.3.0", 8, 16, blocks),
        **attention("input_blocks.3.1", 16),
        **block("middle_block.0", 16, 16, blocks),
        **attention("middle_block.1", 16),
        **block("middle_block.2", 16, 16, blocks),
        **block("output_blocks.0.0", 32, 16, blocks),
        **attention("output_blocks.0.1", 16),
        **block("output_blocks.1.0", 24, 16, blocks),
        **attention("output_blocks.1.1", 16),
        **(up if blocks else layer("output_blocks.1.2.conv", 16, 16, 3, 3)),
        **block("output_blocks.2.0", 24, 8, blocks),
        **block("output_blocks.3.0", 16, 8, blocks),
        **layer("out.0", 8),
        **layer("out.2", 3, 8, 3, 3),
    }


def written(tmp_path, tensors, prefix="ema_model."):
    file = tmp_path / "weights.safetensors"
    save_file({prefix + name: array for name, array in tensors.items()}, file)
    return file


@pytest.mark.parametrize("blocks", [False, True])
def test_it_is_the_tree_of_our_unet(tmp_path, blocks):
    options = {"resblock_updown": blocks, "scale_shift_norm": blocks}
    model = unet(channels=8, multipliers=(1, 2), blocks=1, **options)
    x = jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32)
    born = jax.eval_shape(model.init, jax.random.key(0), types.Batch(x))
    params = torchcfm_unet(written(tmp_path, state(blocks)))
    assert jax.tree.map(np.shape, params) == jax.tree.map(np.shape, born)


def test_layouts_are_turned_and_the_absent_class_is_zero(tmp_path):
    tensors = state() | {"label_emb.weight": np.ones((10, E), np.float32)}
    plain = torchcfm_unet(written(tmp_path, tensors, "net_model.module."), which="net_model")
    kernel = tensors["input_blocks.3.0.in_layers.2.weight"]
    np.testing.assert_array_equal(plain["down_3"]["conv_in"]["kernel"][1, 2], kernel[:, :, 1, 2].T)
    weight = tensors["middle_block.1.qkv.weight"]
    np.testing.assert_array_equal(plain["middle_0_attention"]["qkv"]["kernel"], weight[:, :, 0].T)
    table = plain["condition"]["embedding"]
    np.testing.assert_array_equal(table, np.concatenate([np.ones((10, E)), np.zeros((1, E))]))
    bare = torchcfm_unet(written(tmp_path, tensors, ""), which=None, absent=False)
    assert bare["condition"]["embedding"].shape == (10, E)


def test_other_files_are_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"release 1\.0\.4 of .*conditional-flow-matching"):
        torchcfm_unet(tmp_path / "none.pt")
    file = written(tmp_path, state())
    with pytest.raises(ValueError, match=r"no entry 'net_model'; it has .'ema_model'."):
        torchcfm_unet(file, which="net_model")
    with pytest.raises(ValueError, match="expected 0123"):
        torchcfm_unet(file, sha256="0123")
    with pytest.raises(ValueError, match=r"lack 'out\.2\.weight'"):
        torchcfm_unet(written(tmp_path, {k: v for k, v in state().items() if "out.2" not in k}))
    more = state() | layer("input_blocks.0.1", 3)
    with pytest.raises(ValueError, match=r"2 tensors .* have no place"):
        torchcfm_unet(written(tmp_path, more))
