"""Claim: SiT's network on its weights gives its numbers, to 1e-4 of the largest output.

    git clone https://github.com/willisma/SiT
    pip install torch timm
    python experiments/sit_parity.py --clone SiT    the table; exit code 1 if a row is above 1e-4

Every weight of the clone's module is random, those that start at zero, too; its state dict goes
through fmjax.pretrained.sit. Compared are forward passes in float32 at t = 0, 0.3 and 1, with two
classes and the absent one, at the depths and widths given in the table; no released weights. The
largest difference is divided by the largest output. The frozen position table is not counted.

Measured 2026-11, jax 0.10, not against the repository itself: against a module retyped from its
published models.py, timm's three layers (patches, attention, MLP) rewritten in plain PyTorch:
1.0e-6 for S/2, 8.4e-7 for S/8 and 9.5e-7 for B/4, equal numbers of parameters. XL/2 not yet run.
"""

import argparse
import importlib.util
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

THRESHOLD = 1e-4
NETWORKS = (("S", 2), ("S", 8), ("B", 4), ("XL", 2))


def load(clone):
    """The module `models` of the clone, under a name of its own."""
    file = Path(clone).expanduser() / "models.py"
    if not file.is_file():
        sys.exit(f"--clone {clone}: there is no {file}; clone github.com/willisma/SiT")
    spec = importlib.util.spec_from_file_location("sit_models", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def parity(models, size, patch):
    """(largest difference / largest output, our number of parameters less the peer's)."""
    import jax
    import jax.numpy as jnp
    import torch

    from fmjax import train
    from fmjax.models import dit
    from fmjax.pretrained import sit

    torch.manual_seed(0)
    peer = models.SiT_models[f"SiT-{size}/{patch}"]().eval()
    with torch.no_grad():
        for name, p in peer.named_parameters():
            if p.requires_grad:
                scale = p[0].numel() ** -0.5 if p.ndim > 1 and "table" not in name else 0.3
                p.copy_(scale * torch.randn_like(p))
    rng = np.random.default_rng(0)
    x, t = rng.normal(size=(3, 32, 32, 4)).astype(np.float32), np.float32([0, 0.3, 1])
    classes = np.array([0, 7, 1000])
    with torch.no_grad():
        inputs = (x.transpose(0, 3, 1, 2), t, classes)
        expected = peer(*map(torch.from_numpy, inputs)).numpy().transpose(0, 2, 3, 1)
    params = sit.params({name: value.numpy() for name, value in peer.state_dict().items()})
    model = dit.sit(size=size, patch=patch)
    out = jax.jit(model.apply)(params, jnp.asarray(t), jnp.asarray(x), jnp.asarray(classes))
    theirs = sum(p.numel() for p in peer.parameters() if p.requires_grad)
    apart = np.abs(np.asarray(out) - expected).max() / np.abs(expected).max()
    return float(apart), train.total_parameters(params), theirs


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clone", required=True, help="the folder of SiT's repository")
    parser.add_argument("--networks", nargs="+", default=[f"{s}/{p}" for s, p in NETWORKS])
    args = parser.parse_args(argv)
    models, above = load(args.clone), 0
    print(f"{'network':10}{'difference / largest':>22}{'parameters':>14}{'theirs':>14}")
    for name in args.networks:
        size, patch = name.split("/")
        apart, ours, theirs = parity(models, size, int(patch))
        failed = apart > THRESHOLD or ours != theirs
        above += failed
        print(f"{name:10}{apart:22.1e}{ours:14,d}{theirs:14,d}{' **apart**' * failed}", flush=True)
    return 1 if above else 0


if __name__ == "__main__":
    sys.exit(main())
