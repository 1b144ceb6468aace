"""Are the digits of configs/digits.py good, and not copies? Over seeds, with the floors beside.

    python experiments/digits.py                                    # 3 seeds under jit
    XLA_FLAGS=--xla_force_host_platform_device_count=8 \\
        python experiments/digits.py --out=runs/digits_pmap --config.parallel=fmjax.shard:pmap

Trains the main job once a seed (a finished one is only judged again), with the energy distance
averaged over 20 draws, and prints each figure's mean, its standard deviation over seeds, and
what it should be. Writes `table.json` into --out.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import launch  # noqa: E402

ROWS = {
    "classifier_test_accuracy": "the judge's own, on real test digits",
    "conditional_accuracy": "at least 0.98",
    "energy_ratio": "at most 1.5; 1 for draws of the training split",
    "memorisation_ratio": "0.85 to 1.15; 1 for test digits",
    "memorisation_close": "0.05 for test digits",
    "precision": "that of training digits below",
    "precision_reference": "",
    "recall": "that of training digits below",
    "recall_reference": "",
    "frechet_classifier": "the floor below; not FID",
    "frechet_classifier_floor": "",
    "nfe": "",
    "steps_per_second": "",
    "seconds": "training, start-up included",
}


def trained(config: str, seed: int, out: Path, changes: list[str]) -> dict[str, float]:
    """One run of a config, in `out`/seedN; its metrics and times."""
    workdir = out / f"seed{seed}"
    flags = [f"--config={config}", f"--workdir={workdir}", f"--config.seed={seed}", *changes]
    code = launch.main(flags)
    if code:
        sys.exit(code)
    record = json.loads((workdir / "record.json").read_text())
    return record["metrics"] | record["training"]


def table(runs: list[dict[str, float]], expectations: dict[str, str] = ROWS) -> list[dict]:
    """Mean and standard deviation over runs, of every row."""
    rows = []
    for name, expected in expectations.items():
        values = [run[name] for run in runs if name in run]
        if values:
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            mean = statistics.mean(values)
            rows.append({"name": name, "mean": mean, "sd": spread, "expected": expected})
    return rows


def show(title: str, rows: list[dict], seeds: list[int]) -> None:
    """Print the rows of a table."""
    print(f"\n{title:28} {'mean':>9} {'sd':>9}   over seeds {seeds}; should be")
    for row in rows:
        print(f"{row['name']:28} {row['mean']:9.4g} {row['sd']:9.2g}   {row['expected']}")


def main(argv: list[str]) -> list[dict]:
    """Train and judge every seed; the rows of the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--config", default=str(ROOT / "configs" / "digits.py"))
    parser.add_argument("--out", type=Path, default=Path("runs/digits_seeds"))
    parser.add_argument("--draws", type=int, default=20, help="draws for the energy distance")
    args, rest = parser.parse_known_args(argv)
    changes = [f"--config.evaluators.energy.draws={args.draws}", *rest]
    runs = [trained(args.config, seed, args.out, changes) for seed in args.seeds]
    rows = table(runs)
    show("", rows, args.seeds)
    (args.out / "table.json").write_text(json.dumps({"seeds": runs, "rows": rows}, indent=2))
    return rows


if __name__ == "__main__":
    main(sys.argv[1:])
