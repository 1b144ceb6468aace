"""Are the digits of configs/mnist.py good, and not copies? Do latents help at equal training time?

    pip install --no-deps -r configs/requirements-nodeps.txt
    python experiments/mnist.py                          # pixels and latents, seeds 0 and 1
    python experiments/mnist.py --spaces pixels --seeds 0

Trains, once a seed, configs/mnist.py; and configs/mnist_vae.py, then configs/mnist_latent.py in its
latents, whose time is the sum of both. A finished run is only judged again. Prints each figure's
mean and standard deviation over seeds, and what it should be. Writes `table.json` into --out.
"""

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import digits  # noqa: E402

ROWS = {
    "classifier_test_accuracy": "the judge's own, on real held-out digits",
    "conditional_accuracy": "at least 0.97",
    "frechet_convolutional": "in 32 dims of 1,000 rows; not FID",
    "frechet_convolutional_floor": "of 1,000 real training digits",
    "frechet_convolutional_ratio": "at most 3",
    "memorisation_ratio": "0.85 to 1.15; 1 for held-out digits",
    "memorisation_close": "0.05 for held-out digits",
    "precision": "that of training digits below",
    "precision_reference": "",
    "recall": "that of training digits below",
    "recall_reference": "",
    "psnr_db": "of the autoencoder, on held-out digits",
    "nfe": "",
    "steps_per_second": "",
    "seconds": "training, start-up included",
}


def trained(name: str, seed: int, out: Path, changes: list[str]) -> dict[str, float]:
    """One run of configs/NAME.py, in `out`/NAME."""
    return digits.trained(str(ROOT / "configs" / f"{name}.py"), seed, out / name, changes)


def pixels(seed: int, out: Path, changes: list[str]) -> dict[str, float]:
    return trained("mnist", seed, out, changes)


def latents(seed: int, out: Path, changes: list[str]) -> dict[str, float]:
    """The flow's figures, with the autoencoder's quality, and the time of both."""
    coded = trained("mnist_vae", seed, out, changes)
    codec = f"--config.codec.run={out / 'mnist_vae' / f'seed{seed}'}"
    found = trained("mnist_latent", seed, out, [codec, *changes])
    seconds = {"seconds": coded["seconds"] + found["seconds"]}
    return found | {"psnr_db": coded["psnr_db"]} | seconds


SPACES = {"pixels": pixels, "latents": latents}


def main(argv: list[str]) -> dict[str, list[dict]]:
    """Train and judge every seed in every space; the rows of each table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--spaces", nargs="+", choices=SPACES, default=list(SPACES))
    parser.add_argument("--out", type=Path, default=Path("runs/mnist_seeds"))
    args, rest = parser.parse_known_args(argv)
    runs = {s: [SPACES[s](seed, args.out, rest) for seed in args.seeds] for s in args.spaces}
    rows = {space: digits.table(found, ROWS) for space, found in runs.items()}
    for space, own in rows.items():
        digits.show(space, own, args.seeds)
    (args.out / "table.json").write_text(json.dumps({"runs": runs, "rows": rows}, indent=2))
    return rows


if __name__ == "__main__":
    main(sys.argv[1:])
