"""Claim: TorchCFM's U-Net on its weights gives its numbers.

    pip install -r experiments/requirements.txt
    python experiments/unet_parity.py            the table; exit code 1 if a row is above 1e-4

Every weight of TorchCFM's module is random, those that start at zero, too; its state dict
goes through fmjax.pretrained.torchcfm_unet. The largest difference is divided by the largest
output. Meta's networks are TorchCFM's class with Meta's arguments (its own file differs in code
paths that these do not take).
"""

import argparse
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

THRESHOLD = 1e-4
RNG = np.random.default_rng(0)
# name, (size, channels of images), arguments of TorchCFM's UNetModel, ours
NETWORKS = (
    (
        "TorchCFM CIFAR-10", (32, 3),
        dict(model_channels=128, num_res_blocks=2, attention_resolutions=(2,), dropout=0.1,
             channel_mult=(1, 2, 2, 2), num_heads=4, num_head_channels=64),
        dict(channels=128, head_channels=64, dropout=0.1),
    ),
    (
        "TorchCFM MNIST, classes", (28, 1),
        dict(model_channels=32, num_res_blocks=1, attention_resolutions=(1,), dropout=0,
             channel_mult=(1, 2, 2), num_classes=10),
        dict(channels=32, multipliers=(1, 2, 2), blocks=1, attention=(1,), num_classes=10,
             norm_groups=32),
    ),
    (
        "Meta CIFAR-10", (32, 3),
        dict(model_channels=128, num_res_blocks=4, attention_resolutions=(2,), dropout=0.3,
             channel_mult=(2, 2, 2), conv_resample=False, use_scale_shift_norm=True,
             use_new_attention_order=True),
        dict(channels=128, multipliers=(2, 2, 2), blocks=4, conv_resample=False,
             scale_shift_norm=True, new_attention_order=True),
    ),
    (
        "Meta ImageNet, a third as wide", (64, 3),
        dict(model_channels=64, num_res_blocks=3, attention_resolutions=(2, 4, 8), dropout=0.1,
             channel_mult=(1, 2, 3, 4), num_classes=1001, num_heads=4, num_head_channels=64,
             use_scale_shift_norm=True, resblock_updown=True, use_new_attention_order=True),
        dict(channels=64, multipliers=(1, 2, 3, 4), blocks=3, attention=(2, 4, 8),
             head_channels=64, scale_shift_norm=True, resblock_updown=True,
             new_attention_order=True, num_classes=1000),
    ),
)  # fmt: skip


def parity(size, colours, theirs, ours):
    """(largest difference / largest output, our number of parameters less the peer's)."""
    import jax
    import jax.numpy as jnp
    import torch
    from torchcfm.models.unet.unet import UNetModel

    from fmjax import train
    from fmjax.models.unet import unet
    from fmjax.pretrained import torchcfm_unet

    torch.manual_seed(0)
    peer = UNetModel(size, colours, out_channels=colours, **theirs).eval()
    with torch.no_grad():
        for name, p in peer.named_parameters():
            scale = p[0].numel() ** -0.5 if p.ndim > 1 and "emb.w" not in name else 0.3
            p.copy_(scale * torch.randn_like(p) + (p.ndim == 1 and name.endswith("weight")))
    has_absent = theirs.get("num_classes") == 1001
    state = {name: value.numpy() for name, value in peer.state_dict().items()}
    params = torchcfm_unet.params(state, absent=not has_absent)
    x, t = RNG.normal(size=(3, size, size, colours)).astype(np.float32), np.float32([0, 0.3, 1])
    classes = np.array([0, 7, 9]) if "num_classes" in theirs else None
    with torch.no_grad():
        y = {} if classes is None else {"y": torch.from_numpy(classes)}
        expected = peer(torch.from_numpy(t), torch.from_numpy(x.transpose(0, 3, 1, 2)), **y).numpy()
    cond = None if classes is None else jnp.asarray(classes)
    out = jax.jit(unet(**ours).apply)(params, jnp.asarray(t), jnp.asarray(x), cond)
    expected = expected.transpose(0, 2, 3, 1)
    theirs_total = sum(p.numel() for p in peer.parameters())
    apart = np.abs(np.asarray(out) - expected).max() / np.abs(expected).max()
    return float(apart), train.total_parameters(params) - theirs_total


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args(argv)
    try:
        import torchcfm  # noqa: F401
    except ImportError as error:
        sys.exit(f"{error}; pip install -r experiments/requirements.txt")
    print(f"{'network':34}{'difference / largest':>22}{'parameters more':>18}")
    above = 0
    for name, images, theirs, ours in NETWORKS:
        apart, more = parity(*images, theirs, ours)
        above += apart > THRESHOLD
        print(f"{name:34}{apart:22.1e}{more:18d}{' **above**' if apart > THRESHOLD else ''}")
    print("an absent class, zeros, is added to TorchCFM's table: a row of 4 x channels")
    return 1 if above else 0


if __name__ == "__main__":
    sys.exit(main())
