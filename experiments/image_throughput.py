"""Claim: image networks are trained on CPUs about as fast as PyTorch trains them, or faster.

    pip install -r experiments/requirements.txt
    python experiments/image_throughput.py [--parts dit unet] [--rounds 5]
        [--peer-python other/bin/python]         PyTorch in another environment than JAX

One step is: the loss of flow matching, its gradient, Adam.

dit: a DiT of width 256, 6 blocks and 4 heads on 64 tokens (32 x 32 x 3 in patches of 4), batch 64;
    ours in calls of 10 steps. The peer has the same parameters and mathematics, in `_peers_images`,
    with PyTorch's own fused attention.
unet: the network of TorchCFM's MNIST example, 28 x 28 x 1, 32 channels, one block a level,
    attention at full size, 10 classes, batch 128; a step a call, as inside loops XLA's gradients
    of convolutions are far slower on CPUs. "native" is ours with XLA's own convolutions and
    attention everywhere.

Each side has a process of its own, and all take turns. CPU time is of all threads; memory is the
peak of the process less what it held before its network was built.
"""

import argparse
import functools
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

RNG = np.random.default_rng(0)
EXPECTED = {
    "dit": "at least 0.9 (aim: 1.0)",
    "unet": "at least 0.55 on jax 0.12 (aim: 0.8)",
}


def ours(model, x1, classes, per_call):
    """`run(steps)` of one of our models, and what it is."""
    import jax
    import jax.numpy as jnp
    import optax

    from fmjax import train, types
    from fmjax.losses.flow_matching import flow_matching

    tx, key = optax.adam(1e-3), jax.random.key(0)
    batch = types.Batch(jnp.asarray(x1), None if classes is None else jnp.asarray(classes))
    state = train.init(model, tx, key, batch, ema=())
    many = train.repeat(train.make_step(model, flow_matching, tx, ema=()), per_call)
    batches = jax.tree.map(lambda a: jnp.stack([a] * per_call), batch)
    size = train.total_parameters(state.params)
    began = time.perf_counter()
    many = jax.jit(many, donate_argnums=0).lower(state, None, key, batches).compile()
    compiled = time.perf_counter() - began

    def run(steps):
        nonlocal state
        for _ in range(steps // per_call):
            state, _ = many(state, None, key, batches)
        jax.block_until_ready(state)

    return run, f"JAX {jax.__version__}, {size} parameters, compiled in {compiled:.1f} s"


def our_dit():
    from fmjax.models.dit import dit

    model = dit(patch=4, width=256, depth=6, heads=4)
    return ours(model, RNG.normal(size=(64, 32, 32, 3)).astype(np.float32), None, 10)


def our_unet(native):
    from fmjax.models import _convolutional
    from fmjax.models.unet import unet

    if native:
        _convolutional._PRODUCTS = _convolutional._LOGITS = float("inf")
    model = unet(channels=32, multipliers=(1, 2, 2), blocks=1, attention=(1,), num_classes=10)
    x1 = RNG.normal(size=(128, 28, 28, 1)).astype(np.float32)
    return ours(model, x1, RNG.integers(0, 10, 128), 1)


def peer(name):
    import _peers_images

    return getattr(_peers_images, name)(RNG)


SIDES = {
    "dit": {"fmjax": our_dit, "PyTorch": functools.partial(peer, "dit")},
    "unet": {
        "fmjax": functools.partial(our_unet, native=False),
        "native": functools.partial(our_unet, native=True),
        "PyTorch": functools.partial(peer, "unet"),
    },
}


def serve(part, side):
    """Reads numbers of steps, writes what they cost, a line each."""
    if side == "PyTorch":
        import torch  # noqa: F401
    else:
        import jax

        jax.block_until_ready(jax.numpy.zeros(3))
    peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # noqa: E731
    before = peak()
    run, note = SIDES[part][side]()
    print(json.dumps(note), flush=True)
    for line in sys.stdin:
        steps, wall, cpu = int(line), time.perf_counter(), time.process_time()
        run(steps)
        wall, cpu = (time.perf_counter() - wall) / steps, (time.process_time() - cpu) / steps
        print(json.dumps([wall, cpu, peak() - before]), flush=True)


def measure(args, part):
    """[wall, CPU, memory] of each side in each round, and what the sides are."""
    workers, notes, found = {}, {}, {}
    for side in SIDES[part]:
        python = args.peer_python if side == "PyTorch" else sys.executable
        workers[side] = subprocess.Popen(
            [python, __file__, "--parts", part, "--serve", side],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        notes[side], found[side] = json.loads(workers[side].stdout.readline()), []
    try:
        for i in range(args.rounds + 1):
            for side, worker in workers.items():
                worker.stdin.write(f"{args.steps}\n")
                worker.stdin.flush()
                values = json.loads(worker.stdout.readline())
                found[side] += [values] if i else []  # the first round warms up
    finally:
        for worker in workers.values():
            worker.stdin.close()
            worker.wait()
    return found, notes


def report(part, found, notes):
    cores = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    print(f"\n{part}: one training step, medians; {cores}, load average {os.getloadavg()[0]:.1f}")
    for side, values in found.items():
        wall, cpu, memory = (statistics.median(column) for column in zip(*values, strict=True))
        pairs = list(zip(found["PyTorch"], values, strict=True))
        ratio, by_cpu = (statistics.median(p[i] / v[i] for p, v in pairs) for i in (0, 1))
        print(
            f"  {side:8}{1e3 * wall:8.0f} ms{1e3 * cpu:8.0f} ms CPU{memory:8.0f} MiB   {ratio:.2f} "
            f"of PyTorch's speed ({by_cpu:.2f} by CPU time)   ({notes[side]})"
        )
    print(f"  expected: {EXPECTED[part]}")


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--rounds", type=int, default=5, help="each of all sides (default 5)")
    parser.add_argument("--steps", type=int, default=10, help="of a side a round, in tens")
    parser.add_argument("--peer-python", default=sys.executable, help="one that has torchcfm")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.serve:
        serve(args.parts[0], args.serve)
        return
    for part in args.parts:
        report(part, *measure(args, part))


if __name__ == "__main__":
    main()
