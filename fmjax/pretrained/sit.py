"""The weights of SiT, as its authors released them or its training wrote them.

from fmjax import train
from fmjax.models import dit
from fmjax.pretrained.sit import sit

net = train.bind(dit.sit(size="XL", patch=2), sit("SiT-XL-2-256x256.pt"))
latents, _ = fmjax.samplers.ode.ode(net, None, noise, classes)  # noise [b, 32, 32, 4]
"""

import os

import numpy as np

from fmjax import types
from fmjax.models import _transformer
from fmjax.pretrained import _common

WHAT = "a SiT"
WHERE = (
    "SiT-XL-2-256x256.pt, to which download.py of github.com/willisma/SiT leads, or a checkpoint "
    "that its training wrote"
)


def sit(
    path: str | os.PathLike[str], *, which: str = "ema", sha256: str | None = None
) -> types.Params:
    """The parameters of `models.dit.sit` from a state dict of its PyTorch twin's.

    which:  of a checkpoint of its training: "ema" or "model"; a released file has no such entries
    sha256: the hash that the file must have

    Give `dit.sit` the size and patch that the weights were trained with.
    FileNotFoundError, ValueError: no such file, or weights of another network.
    """
    tensors = _common.tensors(_common.found(path, what=WHAT, where=WHERE, sha256=sha256))
    if "x_embedder.proj.weight" not in tensors:
        begins = f"{which}."
        entries = sorted({name.split(".")[0] for name in tensors})
        tensors = {k.removeprefix(begins): v for k, v in tensors.items() if k.startswith(begins)}
        if not tensors:
            raise ValueError(
                f"{path} is no state dict of a SiT and has no entry {which!r}; it has "
                f"{entries[:6]}. Give one of them as which=…"
            )
    # what DataParallel adds
    return params({k.removeprefix("module."): v for k, v in tensors.items()})


def params(tensors: dict[str, np.ndarray]) -> types.Params:
    """The parameters of `models.dit.sit` from a state dict; the layers follow from the names.

    ValueError: a tensor is missing or left, or the file's positions are not SiT's fixed ones.
    """
    taker = _common.Taker(tensors, WHAT)
    patches = taker.take("x_embedder.proj.weight")  # [width, channels, p, p]
    time = taker.linear("t_embedder.mlp.0")
    # theirs go from the fastest frequency to the slowest, cosines and then sines
    half = len(time["kernel"]) // 2
    cosines, sines = time["kernel"][:half][::-1], time["kernel"][half:][::-1]
    _check_positions(taker.take("pos_embed"))
    tree = {
        "input": {
            "kernel": patches.transpose(2, 3, 1, 0).reshape(-1, len(patches)),
            "bias": taker.take("x_embedder.proj.bias"),
        },
        "time_in": {**time, "kernel": np.concatenate([cosines, sines])},
        "time_out": taker.linear("t_embedder.mlp.2"),
        "condition": {"embedding": taker.take("y_embedder.embedding_table.weight")},
        "output": {
            "modulation": taker.linear("final_layer.adaLN_modulation.1"),
            "projection": taker.linear("final_layer.linear"),
        },
    }
    depth = 0
    while f"blocks.{depth}.attn.qkv.weight" in taker:
        begins = f"blocks.{depth}"
        attention = {"qkv": taker.linear(f"{begins}.attn.qkv")}
        tree[f"block_{depth}"] = {
            "attention": attention | {"out": taker.linear(f"{begins}.attn.proj")},
            "mlp_in": taker.linear(f"{begins}.mlp.fc1"),
            "mlp_out": taker.linear(f"{begins}.mlp.fc2"),
            "modulation": taker.linear(f"{begins}.adaLN_modulation.1"),
        }
        depth += 1
    taker.done()
    return tree


def _check_positions(table: np.ndarray) -> None:
    """The table in the file is fixed, and ours is computed: they have to be one."""
    side = round(table.shape[1] ** 0.5)
    ours = _transformer.positions(side, side, table.shape[2], column_first=True)
    if ours.shape != table.shape[1:] or np.abs(ours - table[0]).max() > 1e-4:
        raise ValueError(
            f"pos_embed {table.shape} of {WHAT} is not the table of sines and cosines that SiT "
            "keeps fixed: these are weights of another network"
        )
