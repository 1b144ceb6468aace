"""Train, evaluate or sample a flow.  Example:

    python launch.py --config=configs/digits.py --workdir=runs/digits

The same command again resumes where the run stopped. Any field of the config can be changed:

    --config.steps=1000 --config.model.width=128 --config.clip_norm=None
    --config.loss=my_losses:huber --config.loss.delta=0.5      (a callable, and its arguments)
    --config.loss.sample_t=fmjax.times:logit_normal            (an argument that is a callable)

Exit codes: 0 done · 1 unexpected error · 2 wrong input · 3 the loss or a sample is not finite
            75 stopped by SIGTERM or Ctrl-C, and saved: run the same command again
"""

import argparse
import contextlib
import errno
import os
import sys
from pathlib import Path

# flags that mean nothing in other modes
ONLY = {
    "n": ("sample",),
    "cond": ("sample",),
    "image": ("sample",),
    "mask": ("sample",),
    "strength": ("sample",),
    "given": ("sample",),
    "seed": ("sample",),
    "step": ("sample", "evaluate"),
    "ema": ("sample", "evaluate"),
    "config": ("train", "prepare"),
}


def parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Flags, and the config changes as 'field=value'."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="On several hosts start the same command on each; see the README.",
        allow_abbrev=False,
    )  # fmt: skip
    add = parser.add_argument
    add("--config", metavar="FILE", help="a file with get_config(); see configs/")
    add("--workdir", metavar="DIR", type=Path, help="where the run lives")
    add(
        "--mode",
        choices=("train", "prepare", "sample", "evaluate"),
        default="train",
        help="train (then evaluate), prepare the data only, sample or evaluate a trained run",
    )
    add("--n", type=int, help="sample: how many (default 64)")
    add("--cond", action="append", metavar="WORDS",
        help='sample: conditions, such as 3,5 (repeated in turn). Of several parts: '
        '"group=flags,style=line;group=objects", ";" between conditions, parts left out are '
        "absent. May be given again")  # fmt: skip
    add("--image", metavar="FILE", help="sample: variants of this image (PNG, JPEG)")
    add("--strength", type=float,
        help="sample: how far from the image, above 0 to 1 (default 0.6)")  # fmt: skip
    add("--mask", metavar="FILE", help="sample: paint only where this image is white")
    add("--given", metavar="TEXT",
        help="sample: what the run's codec reads and all samples have: of text a beginning, and "
        "'_' for each blank to fill")  # fmt: skip
    add("--seed", type=int, help="sample: the seed (default 0; a run's own is --config.seed)")
    add("--step", type=int, help="sample, evaluate: which checkpoint (default: the newest)")
    add("--ema", type=float, help="sample, evaluate: which EMA decay (default: the first)")
    add("--allow-changes", action="store_true",
        help="go on although the model, data or objective of the config changed, or the weights "
        "of its codec")  # fmt: skip
    add("--profile", metavar="DIR", help="write a profiler trace there; with few --config.steps")
    add("--debug-nans", action="store_true", help="stop at the operation that makes a NaN (slow)")
    add("--no-cache", action="store_true", help="do not keep compiled programs between runs")
    add(
        "--distributed",
        action="store_true",
        help="several hosts: start JAX's distributed runtime, which finds them on TPU and Slurm",
    )
    add("--coordinator", metavar="HOST:PORT", help="several hosts elsewhere: the first host")
    add("--processes", type=int, help="… how many processes there are")
    add("--process", type=int, help="… which one this is, from 0")
    args, rest = parser.parse_known_args(argv)
    wrong = [word for word in rest if not word.startswith("--config.")]
    if wrong:
        parser.error(f"unknown argument {wrong[0]!r}; see --help")
    for flag, modes in ONLY.items():
        if getattr(args, flag) is not None and args.mode not in modes:
            parser.error(f"--{flag} is for --mode={' and --mode='.join(modes)}")
    if args.mode in ("train", "prepare") and args.config is None:
        parser.error(f"--mode={args.mode} needs --config=FILE")
    several = (args.coordinator, args.processes, args.process)
    if None in several and any(flag is not None for flag in several):
        parser.error("--coordinator, --processes and --process belong together")
    if args.mode != "prepare" and args.workdir is None:
        parser.error(f"--mode={args.mode} needs --workdir=DIR")
    return args, [word.removeprefix("--config.") for word in rest]


def conditions(given: list[str] | None) -> list[str]:
    """One word a condition: split at ';', and where there are no parts ('='), at ',', too."""
    texts = [text for each in given or () for text in each.split(";")]
    words = [[text] if "=" in text or ";" in "".join(given) else text.split(",") for text in texts]
    return [word.strip() for several in words for word in several if word.strip()]


def start_jax(args: argparse.Namespace) -> None:
    """Settings and devices, before anything is compiled."""
    import jax

    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if not args.no_cache and not jax.config.jax_compilation_cache_dir:
        jax.config.update("jax_compilation_cache_dir", os.path.join(cache, "fmjax", "xla"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    jax.config.update("jax_debug_nans", args.debug_nans)
    if args.distributed or args.coordinator:
        jax.distributed.initialize(args.coordinator, args.processes, args.process)
    devices = jax.devices()
    if jax.process_index() == 0:
        first = f"{devices[0].device_kind} ({devices[0].platform})"
        print(f"{len(devices)} × {first}, JAX {jax.__version__}")
    accelerator = next(
        (p for p in ("/dev/nvidia0", "/dev/accel0", "/dev/vfio/0") if os.path.exists(p)), None
    )
    if accelerator and devices[0].platform == "cpu":
        print(
            f"warning: there is an accelerator ({accelerator}), but this JAX runs on the CPU only; "
            'install "jax[cuda13]" or "jax[tpu]"',
            file=sys.stderr,
        )


def main(argv: list[str]) -> int:
    """Run one mode; the exit code."""
    args, changes = parse(argv)
    sys.path.insert(0, os.getcwd())
    start_jax(args)
    import jax

    from fmjax import checkpoint, config, evaluate, inference, loop, run, settings

    say = print if jax.process_index() == 0 else lambda text: None
    trace = jax.profiler.trace(args.profile) if args.profile else contextlib.nullcontext()
    try:
        with trace:
            if args.mode == "sample":
                return inference.sample_run(
                    args.workdir,
                    changes,
                    n=64 if args.n is None else args.n,
                    cond=conditions(args.cond),
                    image=args.image,
                    mask=args.mask,
                    strength=args.strength,
                    given=args.given,
                    seed=args.seed or 0,
                    ema=args.ema,
                    step=args.step,
                    allow_changes=args.allow_changes,
                    say=say,
                )
            if args.mode == "evaluate":
                return inference.evaluate_run(
                    args.workdir,
                    changes,
                    ema=args.ema,
                    step=args.step,
                    allow_changes=args.allow_changes,
                    say=say,
                )
            settled = settings.load_config(args.config, changes)
            if args.mode == "prepare":
                return run.prepare_run(settled, say=say)
            return run.train_run(settled, args.workdir, allow_changes=args.allow_changes, say=say)
    except (config.ConfigError, checkpoint.CheckpointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; checkpoints written so far are kept", file=sys.stderr)
        return 130
    except (loop.NotFinite, evaluate.NotFinite) as error:
        print(f"error: {error}. The checkpoints written so far are kept", file=sys.stderr)
        return 3
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        print(f"error: disk full: {error}. Free space, run the same command again", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
