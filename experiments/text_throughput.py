"""Claim: transformers of tokens are trained on CPUs about as fast as PyTorch trains them.

    pip install -r experiments/requirements.txt
    python experiments/text_throughput.py [--rounds 5] [--compiled]
        [--peer-python other/bin/python]         PyTorch in another environment than JAX
    python experiments/text_throughput.py --width 256 --heads 4 --length 512

One step is: times, masks, cross-entropy of the masked text, its gradient, AdamW. The network is
that of configs/text_wiki.py (width 128, 6 blocks, 2 heads, 256 characters, batch 16),
bidirectional, with rotary positions, adaLN-Zero and normalised queries and keys. The peer,
`_peers_text`, has the same parameters and mathematics in eager PyTorch, its own fused attention and
a fused AdamW; `--compiled` adds `torch.compile`, which needs a C++ compiler.

Each side has a process of its own, and all take turns; figures are medians of rounds, and ratios
are taken round by round. CPU time is of all threads.

Measured on 2 quiet cores, 5 rounds (2026-11, jax 0.12.0, torch 2.13.0): 10,970 tokens a second
against 10,300, 1.09 of PyTorch's speed (1.13 in another call), with ten steps in a compiled call,
as configs/text_wiki.py has them. With one (`--per-call 1`) 0.71: a third of its time goes into
pages that the system hands out anew.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

EXPECTED = "at least PyTorch's speed, with ten steps a call"


class Size(NamedTuple):
    """Of the network and its batch; the names are options of the command line."""

    width: int = 128
    depth: int = 6
    heads: int = 2
    length: int = 256
    batch: int = 16
    vocabulary: int = 27
    per_call: int = 10  # steps in a compiled call of ours


def ours(size):
    """`run(steps)` of our transformer, and what it is."""
    import functools

    import jax
    import jax.numpy as jnp
    import optax

    from fmjax import sources, train, types
    from fmjax.losses.discrete_flow_matching import discrete_flow_matching
    from fmjax.models.token_transformer import token_transformer

    model = token_transformer(
        vocabulary=size.vocabulary, width=size.width, depth=size.depth, heads=size.heads
    )
    masks = functools.partial(sources.mask, vocabulary=size.vocabulary)
    loss = functools.partial(discrete_flow_matching, source=masks)
    tx, key = optax.adamw(1e-3, weight_decay=0.01), jax.random.key(0)
    x1 = jax.random.randint(key, (size.batch, size.length), 0, size.vocabulary)
    state = train.init(model, tx, key, types.Batch(x1), ema=())
    batches = types.Batch(jnp.stack([x1] * size.per_call))
    many = train.repeat(train.make_step(model, loss, tx, ema=()), size.per_call)
    parameters = train.total_parameters(state.params)
    began = time.perf_counter()
    many = jax.jit(many, donate_argnums=0).lower(state, None, key, batches).compile()
    compiled = time.perf_counter() - began

    def run(steps):
        nonlocal state
        for _ in range(steps // size.per_call):
            state, _ = many(state, None, key, batches)
        jax.block_until_ready(state)

    return run, f"JAX {jax.__version__}, {parameters} parameters, compiled in {compiled:.1f} s"


def peer(size, compiled=False):
    """The same of PyTorch."""
    import _peers_text

    return _peers_text.training(size, compiled)


SIDES = {
    "fmjax": ours,
    "PyTorch": peer,
    "compiled": lambda size: peer(size, compiled=True),
}


def serve(side, size):
    """Reads numbers of steps, writes what one cost, a line each."""
    run, note = SIDES[side](size)
    print(json.dumps(note), flush=True)
    for line in sys.stdin:
        steps, wall, cpu = int(line), time.perf_counter(), time.process_time()
        run(steps)
        spent = time.perf_counter() - wall, time.process_time() - cpu
        print(json.dumps([s / steps for s in spent]), flush=True)


def measure(args, size):
    """[wall, CPU] seconds a step of each side in each round, and what the sides are."""
    options = [f"--{name.replace('_', '-')}={value}" for name, value in size._asdict().items()]
    workers, notes, found = {}, {}, {}
    try:
        for side in ("fmjax", "PyTorch", "compiled")[: 3 if args.compiled else 2]:
            python = sys.executable if side == "fmjax" else args.peer_python
            workers[side] = subprocess.Popen(
                [python, __file__, "--serve", side, *options],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            notes[side], found[side] = _answer(side, workers[side]), []
        for i in range(args.rounds + 1):
            for side, worker in workers.items():
                worker.stdin.write(f"{args.steps}\n")
                worker.stdin.flush()
                values = _answer(side, worker)
                found[side] += [values] if i else []  # the first round warms up
    finally:
        for worker in workers.values():
            worker.stdin.close()
            worker.wait()
            worker.stdout.close()
    return found, notes


def _answer(side, worker):
    line = worker.stdout.readline()
    if not line:
        where = "pip install -r experiments/requirements.txt, or --peer-python one that has torch"
        sys.exit(f"{side} ended without an answer, see above; if a package is missing: {where}")
    return json.loads(line)


def rows(found, size):
    """Medians of each side, and of its speed over PyTorch's, round by round."""
    table = {}
    for side, values in found.items():
        wall, cpu = (statistics.median(column) for column in zip(*values, strict=True))
        pairs = list(zip(found["PyTorch"], values, strict=True))
        table[side] = {
            "tokens_per_second": size.batch * size.length / wall,
            "milliseconds": 1e3 * wall,
            "cpu_milliseconds": 1e3 * cpu,
            "of_pytorch": statistics.median(p[0] / v[0] for p, v in pairs),
            "of_pytorch_by_cpu": statistics.median(p[1] / v[1] for p, v in pairs),
        }
    return table


def report(table, notes):
    """Print the table."""
    cores = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    print(f"\none training step, medians; {cores}, load average {os.getloadavg()[0]:.1f}")
    for side, row in table.items():
        print(
            f"  {side:9}{row['tokens_per_second']:9.0f} tokens/s{row['milliseconds']:8.1f} ms"
            f"{row['cpu_milliseconds']:8.1f} ms CPU   {row['of_pytorch']:.2f} of PyTorch's speed "
            f"({row['of_pytorch_by_cpu']:.2f} by CPU time)   ({notes[side]})"
        )
    print(f"  expected: {EXPECTED}")


def main(argv=None):
    """Measure all sides; the table by side."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="each of all sides (default 5)")
    parser.add_argument("--steps", type=int, default=10, help="of a side a round")
    parser.add_argument("--compiled", action="store_true", help="torch.compile, too")
    parser.add_argument("--peer-python", default=sys.executable, help="one that has torch")
    parser.add_argument("--serve", choices=SIDES, help=argparse.SUPPRESS)
    for name, value in Size()._asdict().items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=value)
    args = parser.parse_args(argv)
    size = Size(**{name: getattr(args, name) for name in Size._fields})
    if args.serve:
        serve(args.serve, size)
        return None
    if args.steps % size.per_call:
        parser.error(f"--steps={args.steps} is not a multiple of --per-call={size.per_call}")
    found, notes = measure(args, size)
    table = rows(found, size)
    report(table, notes)
    return table


if __name__ == "__main__":
    main()
