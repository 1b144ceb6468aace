"""Claim: our autoencoder computes what diffusers' AutoencoderKL does, to 1e-4 relative.

    pip install -r experiments/requirements.txt diffusers
    python experiments/sd_vae_parity.py                the architecture at random weights
    python experiments/sd_vae_parity.py --path FILE    the published weights

The peer's state dict is written to a safetensors file and read by `fmjax.pretrained.sd_vae`, so
that the converter is compared, too. All weights are drawn, biases and scales of norms included, of
a size that keeps activations O(1). Relative: max |difference| over max |peer's|. A mutated copy
(the encoder's one-sided padding made symmetric) shows that the threshold tells networks apart.
Exit code 1 if a row is above its threshold, or the mutated copy below.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
THRESHOLD = 1e-4


def peer(path, seed=0):
    """The peer at the weights of the file, or at random ones, as a PyTorch module."""
    import torch
    from diffusers import AutoencoderKL
    from safetensors.torch import load_file

    kinds = [f"{side}Block2D" for side in ("DownEncoder", "UpDecoder")]
    net = AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=kinds[:1] * 4,
        up_block_types=kinds[1:] * 4,
        layers_per_block=2,
        latent_channels=4,
        norm_num_groups=32,
    )
    if path:
        net.load_state_dict(load_file(path))
        return net.eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in net.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            if p.ndim > 1:
                p.copy_(noise / p[0].numel() ** 0.5)
            else:
                p.copy_(0.1 * noise + (1.0 if "norm" in name and name.endswith("weight") else 0.0))
    return net.eval()


def relative(ours, theirs):
    """max |difference| over max |theirs|, and ours NHWC."""
    theirs = theirs.numpy().transpose(0, 2, 3, 1)
    return float(np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max())


def compare(net, side, file):
    """[(what, relative difference)], the last of a mutated copy."""
    import jax
    import torch

    from fmjax.models.autoencoder import sd_vae as published
    from fmjax.pretrained import sd_vae

    params, model = sd_vae.load(file), published()
    x = np.random.default_rng(1).uniform(-1, 1, (2, side, side, 3)).astype(np.float32)
    z = np.random.default_rng(2).normal(size=(2, side // 8, side // 8, 4)).astype(np.float32)
    images, latents = (torch.from_numpy(a.transpose(0, 3, 1, 2).copy()) for a in (x, z))
    with torch.no_grad():
        moments = net.quant_conv(net.encoder(images))
        decoded = net.decoder(net.post_quant_conv(latents))
        for block in net.encoder.down_blocks[:-1]:
            block.downsamplers[0].conv.padding, block.downsamplers[0].padding = (1, 1), 1
        mutated = net.quant_conv(net.encoder(images))
    with jax.default_matmul_precision("highest"):
        ours = jax.jit(model.encoder.apply)(params.encoder, 1.0, x)
        ours_decoded = jax.jit(model.decoder.apply)(params.decoder, 1.0, z)
    return [
        ("moments", relative(ours, moments)),
        ("decoded", relative(ours_decoded, decoded)),
        ("moments of a mutated copy", relative(ours, mutated)),
    ]


def main(argv=None):
    """Print the table; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--path", help="a published safetensors file (default: random weights)")
    parser.add_argument("--side", type=int, default=64, help="pixels a side of the images")
    args = parser.parse_args(argv)
    try:
        import diffusers
        from safetensors.torch import save_file
    except ImportError as error:
        raise SystemExit(
            f"{error}: pip install -r experiments/requirements.txt diffusers"
        ) from error
    net = peer(args.path)
    size = sum(p.numel() for p in net.parameters())
    print(f"diffusers {diffusers.__version__}, {size:,} parameters, {args.side}x{args.side} images")
    with tempfile.TemporaryDirectory() as folder:
        file = args.path or Path(folder) / "weights.safetensors"
        if not args.path:
            save_file(net.state_dict(), file)
        *rows, mutated = compare(net, args.side, file)
    for what, difference in (*rows, mutated):
        print(f"  {what:<28} {difference:.2e}")
    return int(any(d > THRESHOLD for _, d in rows) or mutated[1] < THRESHOLD)


if __name__ == "__main__":
    sys.exit(main())
