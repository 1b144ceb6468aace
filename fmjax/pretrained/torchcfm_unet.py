"""The weights of U-Nets that TorchCFM trained, and of others with the names of ADM's.

from fmjax import train
from fmjax.models.unet import unet
from fmjax.pretrained.torchcfm_unet import torchcfm_unet

model = unet(channels=128, head_channels=64, dropout=0.1)
net = train.bind(model, torchcfm_unet("otcfm_cifar10_weights_step_400000.pt"))
images, _ = fmjax.samplers.ode.ode(net, None, noise)  # noise [b, 32, 32, 3]; images in [-1, 1]
"""

import os
import re
from typing import Any

import numpy as np

from fmjax import types
from fmjax.pretrained import _common

WHERE = (
    "cfm_, otcfm_ or fm_cifar10_weights_step_400000.pt of release 1.0.4 of "
    "github.com/atong01/conditional-flow-matching, or the file that its training wrote"
)
_KINDS = {"in_layers": "block", "qkv": "attention", "op": "resample", "conv": "resample"}
_SIDES = {"input_blocks": "down", "middle_block": "middle", "output_blocks": "up"}


def torchcfm_unet(
    path: str | os.PathLike[str],
    *,
    which: str | None = "ema_model",
    absent: bool = True,
    sha256: str | None = None,
) -> types.Params:
    """The parameters of `models.unet.unet` from a file of its PyTorch twin's.

    which:  the state dict in the file: "ema_model", "net_model"; None: the file is one
    absent: the table of classes has no absent class and gets one, zeros (Meta's has one already)
    sha256: the hash that the file must have

    What the names do not tell is yours to give to `unet` as it was trained: `heads` or
    `head_channels`, `new_attention_order`, `scale_shift_norm`, and what resamples; and
    `norm_groups=32` where a level has 32 channels or fewer, as in TorchCFM's MNIST example.
    FileNotFoundError, ValueError: no such file, or weights of another network.
    """
    what = "a TorchCFM U-Net"
    file = _common.found(path, what=what, where=WHERE, sha256=sha256)
    tensors = _common.tensors(file)
    if which is not None:
        entries = sorted({name.split(".")[0] for name in tensors})
        if which not in entries:
            raise ValueError(
                f"{file} has no entry {which!r}; it has {entries[:6]}. Give one of them as "
                "which=…, or which=None where the file is a state dict itself"
            )
        begins = f"{which}."
        tensors = {k.removeprefix(begins): v for k, v in tensors.items() if k.startswith(begins)}
    # what DataParallel adds
    return params({k.removeprefix("module."): v for k, v in tensors.items()}, absent=absent)


def params(tensors: dict[str, np.ndarray], *, absent: bool = True) -> types.Params:
    """The parameters of `models.unet.unet` from a state dict: the layers follow from the names."""
    taker = _common.Taker(tensors, "a TorchCFM U-Net")
    tree: dict[str, Any] = {
        "time_in": taker.linear("time_embed.0"),
        "time_out": taker.linear("time_embed.2"),
        "input": taker.conv("input_blocks.0.0"),
        "norm": taker.norm("out.0"),
        "output": taker.conv("out.2"),
    }
    if "label_emb.weight" in taker:
        table = taker.take("label_emb.weight")
        rows = [table, np.zeros_like(table[:1])] if absent else [table]
        tree["condition"] = {"embedding": np.concatenate(rows)}
    for prefix, place, kind in sorted(_layers(tensors)):
        if kind == "block":
            # a second one in the same place halves or doubles
            again = place in tree
            tree[f"{place}_resample" if again else place] = _block(taker, prefix)
        elif kind == "attention":
            layers = {"norm": taker.norm(f"{prefix}.norm"), "qkv": taker.linear(f"{prefix}.qkv")}
            tree[f"{place}_attention"] = layers | {"out": taker.linear(f"{prefix}.proj_out")}
        else:
            inner = "op" if f"{prefix}.op.weight" in taker else "conv"
            tree[f"{place}_resample"] = taker.conv(f"{prefix}.{inner}")
    taker.done()
    return tree


def _layers(tensors: dict[str, np.ndarray]) -> set[tuple[str, str, str]]:
    """(prefix in the file, our name, what it is), in the file's order where it matters."""
    found = set()
    for name in tensors:
        match = re.match(r"((\w+_blocks?)\.(\d+)(?:\.(\d+))?)\.([a-z_]+)\.", name)
        if match and match[2] in _SIDES and match[5] in _KINDS:
            side, kind = _SIDES[match[2]], _KINDS[match[5]]
            number = "0" if side == "middle" and kind == "attention" else match[3]
            number = "1" if side == "middle" and match[3] == "2" else number
            found.add((match[1], f"{side}_{number}", kind))
    return found


def _block(taker: _common.Taker, prefix: str) -> dict[str, Any]:
    block = {
        "norm_in": taker.norm(f"{prefix}.in_layers.0"),
        "conv_in": taker.conv(f"{prefix}.in_layers.2"),
        "modulation": taker.linear(f"{prefix}.emb_layers.1"),
        "norm_out": taker.norm(f"{prefix}.out_layers.0"),
        "conv_out": taker.conv(f"{prefix}.out_layers.3"),
    }
    if f"{prefix}.skip_connection.weight" in taker:
        block["skip"] = taker.linear(f"{prefix}.skip_connection")
    return block
