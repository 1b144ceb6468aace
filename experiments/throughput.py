"""Claim: faster than the PyTorch peers, with exact plans too, and digits start in 12 s.

    pip install -r experiments/requirements.txt
    python experiments/throughput.py                    all parts, about 15 minutes on 2 cores
    python experiments/throughput.py --parts startup    without the peers

training: 8 Gaussians to 2 moons, independent coupling, batch 256, fresh data at every step, a
    3 x 64 SELU network, Adam, EMA, the loss written every 100 steps. Ours is configs/moons.py in
    the loop that launch.py runs; the peer is the loop of TorchCFM's 2-D tutorial with an EMA and
    a log; its paths have noise of sigma 0.1, ours none.
    "vectorised data": the peer with its Gaussians drawn without its Python loop over examples.
ot: the same with exact plans of 256 rows, configs/ot_cfm.py. Ours are computed by two threads
    ahead of the step, the peer's in the loop.
cells: the FM and the I-CFM cell of ot_cfm_2d.py (batch 512 of 10,000 fixed points, AdamW): ours
    trains both, 5 seeds each, at once on all cores and counts the steps of all; the peer trains one
    seed after another. "loaders": fed by DataLoaders of the fixed points, as in TorchCFM's own runs
    of that table; "indexed": by indexing a tensor and fresh noise, the least that it could cost.
solve: an adaptive Dopri5 solve of 2,048 points with one trained network, tolerance 1e-5, in
    microseconds per network evaluation; the peer is torchdiffeq.
coupling: what exact plans of 256 rows add to a step of about 60 and about 200 ms.
startup: from starting `launch.py --config=configs/digits.py` until its first training step is in
    metrics.jsonl; cold with an empty compilation cache, warm with the one that the cold start left.
    The data set is prepared before.

Sides take turns in one process, so that the ratio of a round is fair on a busy machine.
"""

import argparse
import functools
import importlib.metadata
import itertools
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

BATCH, LOG_EVERY, EMA = 256, 100, 0.999
WIDTHS = ((60, 1280), (200, 2400))  # milliseconds a step, width of the network
CHANGES = (f"batch_size={BATCH}", f"log_every={LOG_EVERY}", f"ema=({EMA},)")


def ours(workdir, changes=CHANGES, config="moons"):
    """`run(steps) -> steps per second` of a config, compiled, and its parameter count."""
    import jax

    from fmjax import assemble, loop, record, settings, train

    parts = assemble.assemble(settings.load_config(ROOT / "configs" / f"{config}.py", changes))
    config = parts.config
    key_init, key, _ = assemble.keys(config)
    state = parts.parallel.init(assemble.make_init(parts), key_init)
    call, batches = assemble.make_call(parts), assemble.make_batches(parts)
    step = 0

    def run(steps):
        nonlocal state, step
        metrics = record.Metrics(Path(workdir), step)
        began = time.perf_counter()
        done = loop.loop(
            call,
            state,
            None,
            key,
            start=step,
            stop=step + steps,
            per_call=config["steps_per_call"],
            batches=batches,
            log=metrics.write,
            log_every=config["log_every"],
            save=lambda step, state: None,
        )
        state, step = jax.block_until_ready(done.state), done.step
        seconds = time.perf_counter() - began
        metrics.close()
        return steps / seconds

    run(config["steps_per_call"])  # compiles
    return run, train.total_parameters(state.params)


def against_torchcfm(args, workdir, config, matcher):
    """Rates of a config and of TorchCFM, one a round, and what is to be said about them."""
    run_ours, size = ours(workdir, config=config)
    runs, notes = {"fmjax": run_ours}, [f"{size} parameters, batch {BATCH}"]
    if not args.no_peer:
        import _peers
        from torchcfm.utils import sample_8gaussians, sample_moons

        log = {"log_to": Path(workdir) / "peer.jsonl", "log_every": LOG_EVERY, "ema": EMA}
        sources = {
            "TorchCFM": sample_8gaussians,
            "TorchCFM, vectorised data": _peers.gaussians8,
        }
        for name, source in sources.items():
            draw = lambda source=source: (source(BATCH), sample_moons(BATCH))  # noqa: E731
            runs[name], peer_size = _peers.training(matcher(sigma=0.1), draw, **log)
            if peer_size != size:
                sys.exit(f"networks differ: {size} parameters here, {peer_size} in TorchCFM")
        threads = _peers.best_threads(lambda: runs["TorchCFM"](args.peer_steps // 2))
        notes.append(versions(threads))
    return take_turns(args, runs), notes


def training(args, workdir):
    """The independent coupling."""
    from_peer = torchcfm_matcher(args, "ConditionalFlowMatcher")
    return against_torchcfm(args, workdir, "moons", from_peer)


def ot(args, workdir):
    """Exact plans."""
    from_peer = torchcfm_matcher(args, "ExactOptimalTransportConditionalFlowMatcher")
    return against_torchcfm(args, workdir, "ot_cfm", from_peer)


def torchcfm_matcher(args, name):
    if args.no_peer:
        return None
    from torchcfm import conditional_flow_matching

    return getattr(conditional_flow_matching, name)


def versions(threads):
    packages = ", ".join(f"{p} {importlib.metadata.version(p)}" for p in ("torch", "torchcfm"))
    return f"{packages}, the better of 1 and 2 threads: {threads}"


def take_turns(args, runs):
    rates = {name: [] for name in runs}
    for _ in range(args.rounds):
        for name, run in runs.items():
            rates[name].append(run(args.steps if name.startswith("fmjax") else args.peer_steps))
    return rates


def cells(args, workdir):
    """One FM and one I-CFM cell of the table, N -> moons: steps of all seeds per second."""
    import jax
    import ot_cfm_2d as table

    seeds, task = list(range(5)), "N -> moons"
    methods = {"FM": "TargetConditionalFlowMatcher", "I-CFM": "ConditionalFlowMatcher"}
    options = {"block": table.BATCH, "batch": table.BATCH, "coupling": table.independent}
    states, advance = table.setup(task, list(methods), seeds, **options)
    done = 0

    def run(steps):
        nonlocal states, done
        began, stop = time.perf_counter(), done + steps // table.PER_CALL
        while done < stop:
            states, losses = advance(states, done)
            done += 1
        jax.block_until_ready(losses)
        return steps * len(seeds) * len(methods) / (time.perf_counter() - began)

    run(table.PER_CALL)  # compiles
    runs = {"fmjax, both cells at once": run}
    devices = f"{len(jax.devices())} devices"
    notes = [f"batch {table.BATCH}, {len(seeds)} seeds on {devices} here, one by one there"]
    if not args.no_peer:
        import _peers
        import torch

        rows = torch.from_numpy(table.points(task, 0)["train"].x1)
        draws = {
            "loaders": _peers.loaded(torch.randn_like(rows), rows, table.BATCH),
            "indexed": _peers.indexed(rows, table.BATCH),
        }
        adamw = functools.partial(torch.optim.AdamW, weight_decay=1e-5)
        log = {"log_to": Path(workdir) / "peer.jsonl", "log_every": LOG_EVERY}
        for (data, draw), method in itertools.product(draws.items(), methods):
            matcher = torchcfm_matcher(args, methods[method])(sigma=table.SIGMA)
            peer, _ = _peers.training(matcher, draw, optimizer=adamw, **log)
            runs[f"TorchCFM, {method}, {data}"] = peer
        notes.append(versions(_peers.best_threads(lambda: peer(args.peer_steps // 2))))
    return take_turns(args, runs), notes


def solve(args, workdir):
    """Microseconds per network evaluation of an adaptive solve, one a round."""
    import jax
    import jax.numpy as jnp
    import optax

    from fmjax import train
    from fmjax.data import toy
    from fmjax.losses.flow_matching import flow_matching
    from fmjax.models.mlp import mlp
    from fmjax.samplers.ode import ode
    from fmjax.types import Batch

    model, key = mlp(), jax.random.key(0)
    draw = lambda key: Batch(toy.moons(key, 256))  # noqa: E731
    step = train.make_step(model, flow_matching, optax.adam(1e-3), draw=draw)
    state = train.init(model, optax.adam(1e-3), key, draw(key))
    state, _ = jax.jit(train.repeat(step, 3000))(state, None, key, None)
    x0, tolerance = jax.random.normal(jax.random.key(1), (2048, 2)), 1e-5
    solver = jax.jit(
        lambda params, x: ode(train.bind(model, params), None, x, rtol=tolerance, atol=tolerance)
    )

    def run():
        began = time.perf_counter()
        x1, info = jax.block_until_ready(solver(state.params, x0))
        return time.perf_counter() - began, int(info.nfe), x1

    run()
    runs, notes = {"fmjax": run}, [f"2048 points, tolerance {tolerance}"]
    if not args.no_peer:
        import _peers

        runs["torchdiffeq"] = _peers.dopri5(state.params, x0, tolerance)
        threads = _peers.best_threads(lambda: 1 / runs["torchdiffeq"]()[0])
        apart = float(jnp.max(jnp.abs(run()[2] - runs["torchdiffeq"]()[2])))
        notes.append(f"torchdiffeq with {threads} threads; its points are within {apart:.1e}")
    times = {name: [] for name in runs}
    for _ in range(3 * args.rounds):
        for name, side in runs.items():
            seconds, nfe, _ = side()
            times[name].append(1e6 * seconds / nfe)
    notes += [f"NFE of {name}: {side()[1]}" for name, side in runs.items()]
    return times, notes


def coupling(args, workdir):
    """Steps per second with exact plans and without, at two lengths of step."""
    rates, notes = {}, []
    for wanted, width in WIDTHS:
        runs = {}
        for name in ("independent", "exact"):
            changes = (
                f"model.width={width}",
                f"data.coupling=fmjax.couplings.{name}:{name}",
                "steps_per_call=1",
                "log_every=20",
            )
            folder = Path(workdir) / f"{wanted}{name}"
            folder.mkdir()
            runs[name], _ = ours(folder, changes, "ot_cfm")
        found = {name: [] for name in runs}
        for _ in range(args.rounds):
            for name, run in runs.items():
                found[name].append(run(max(20, 4000 // wanted // 20 * 20)))
        rates[wanted] = found
    notes.append("a 3-layer MLP made so wide that a step takes that long")
    return rates, notes


def startup(workdir, cache, python=sys.executable):
    """Seconds from starting launch.py until its first step is recorded."""
    lines = Path(workdir) / "metrics.jsonl"
    environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    command = [python, "launch.py", "--config=configs/digits.py", f"--workdir={workdir}"]
    command += ["--config.steps_per_call=1", "--config.log_every=1"]
    began = time.perf_counter()
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**environment, "XDG_CACHE_HOME": str(cache)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        while not (lines.exists() and lines.stat().st_size):
            if process.poll() is not None:
                sys.exit(f"{' '.join(command)} failed:\n{process.stderr.read()}")
            time.sleep(0.01)
        return time.perf_counter() - began
    finally:
        process.kill()
        process.communicate()


def prepare_digits():
    command = [sys.executable, "launch.py", "--config=configs/digits.py", "--mode=prepare"]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def machine():
    """What the figures depend on."""
    import jax

    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return (
        f"{os.cpu_count()} cores, {platform.machine()}, {jax.devices()[0].device_kind}, "
        f"Python {platform.python_version()}, JAX {jax.__version__}, load average {load:.1f}"
    )


def report_rates(name, rates, notes, expected):
    print(f"\n{name}, steps per second ({'; '.join(notes)})")
    print(f"  {'':28}{'median':>9}{'min':>9}{'max':>9}   ours / this, median of rounds")
    mine = next(iter(rates.values()))  # ours comes first
    for side, values in rates.items():
        ratio = statistics.median(a / b for a, b in zip(mine, values, strict=True))
        middle = statistics.median(values)
        print(f"  {side:28}{middle:9.0f}{min(values):9.0f}{max(values):9.0f}   {ratio:.2f}")
    print(f"  expected: {expected}")


def report_solve(times, notes):
    print(f"\nsolve, microseconds per network evaluation ({'; '.join(notes)})")
    for name, values in times.items():
        ratio = statistics.median(a / b for a, b in zip(times["fmjax"], values, strict=True))
        middle = statistics.median(values)
        print(
            f"  {name:28}{middle:9.0f}{min(values):9.0f}{max(values):9.0f}"
            f"   ours / this {ratio:.2f}"
        )
    print("  expected: at most 1.3 times torchdiffeq's (aim: 1.0)")


def report_coupling(rates, notes):
    print(f"\ncoupling, milliseconds a step ({'; '.join(notes)})")
    for wanted, found in rates.items():
        pairs = zip(found["independent"], found["exact"], strict=True)
        overhead = statistics.median(a / b - 1 for a, b in pairs)
        plain, exact = (1e3 / statistics.median(found[n]) for n in ("independent", "exact"))
        print(f"  about {wanted}: {plain:.0f} without plans, {exact:.0f} with: {overhead:+.1%}")
    print("  expected: at most 15 % at 60 ms, 5 % at 200 ms")


def report_startup(times):
    print("\nstart of configs/digits.py until its first training step, seconds")
    for name, values in times.items():
        limit = {"cold": 12, "warm": 6}[name]
        middle = statistics.median(values)
        shown = " ".join(f"{v:.1f}" for v in values)
        print(f"  {name:6}{middle:6.1f}   expected: at most {limit}   ({shown})")


EXPECTED = {
    "training": "at least 6 times TorchCFM (aim: 8)",
    "ot": "at least 2 times TorchCFM (aim: 2.5)",
    "cells": "at least 6 times TorchCFM (aim: 10)",
}
PARTS = ("training", "ot", "cells", "solve", "coupling", "startup")


def parse(argv):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    add("--rounds", type=int, default=7, help="each of all sides (default 7)")
    add("--steps", type=int, default=2000, help="of ours a round, in hundreds (default 2000)")
    add("--peer-steps", type=int, default=500, help="of the peer a round (default 500)")
    add("--starts", type=int, default=3, help="pairs of a cold and a warm start (default 3)")
    add("--no-peer", action="store_true", help="ours alone")
    return parser.parse_args(argv)


def main(argv=None):
    args = parse(argv)
    if set(args.parts) - {"startup", "coupling"} and not args.no_peer:
        try:
            import torchcfm  # noqa: F401
            import torchdiffeq  # noqa: F401
        except ImportError as error:
            sys.exit(
                f"error: cannot import the peers ({error}); run\n"
                "    pip install -r experiments/requirements.txt\nor measure ours with --no-peer"
            )
    if len(args.parts) > 1:
        # a process each: cores that are devices of their own, as in `cells`, serve others worse
        rest = sys.argv[1:] if argv is None else list(argv)
        for part in args.parts:
            subprocess.run([sys.executable, __file__, *rest, "--parts", part], check=True)
        return
    if args.parts == ["cells"]:
        import jax

        jax.config.update("jax_num_cpu_devices", os.cpu_count())
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        measure(args, args.parts[0], Path(folder) / args.parts[0])
    print(machine())


def measure(args, part, folder):
    folder.mkdir()
    if part == "startup":
        prepare_digits()
        times = {"cold": [], "warm": []}
        for i in range(args.starts):
            for name, values in times.items():
                values.append(startup(folder / f"{name}{i}", folder / f"cache{i}"))
        report_startup(times)
    elif part == "solve":
        report_solve(*solve(args, folder))
    elif part == "coupling":
        report_coupling(*coupling(args, folder))
    else:
        sides = {"training": training, "ot": ot, "cells": cells}
        report_rates(part, *sides[part](args, folder), EXPECTED[part])


if __name__ == "__main__":
    main()
