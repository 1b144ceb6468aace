"""Claim: 2-D training takes at least 6 times TorchCFM's steps per second, and digits start in 12 s.

    pip install -r experiments/requirements.txt
    python experiments/throughput.py                    both parts, about 5 minutes on 2 cores
    python experiments/throughput.py --parts startup    without the peer

training: 8 Gaussians to 2 moons, independent coupling, batch 256, fresh data at every step, a
    3 x 64 SELU network, Adam, EMA, the loss written every 100 steps. Ours is configs/moons.py in
    the loop that launch.py runs; the peer is the loop of TorchCFM's 2-D tutorial with an EMA and
    a log; its paths have noise of sigma 0.1, ours none. They take turns in one process, so that
    the ratio of a round is fair on a busy machine.
    "vectorised data": the peer with its Gaussians drawn without its Python loop over examples.
startup: from starting `launch.py --config=configs/digits.py` until its first training step is in
    metrics.jsonl; cold with an empty compilation cache, warm with the one that the cold start left.
    The data set is prepared before.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

BATCH, LOG_EVERY, EMA, RATE = 256, 100, 0.999, 1e-3
CHANGES = (f"batch_size={BATCH}", f"log_every={LOG_EVERY}", f"ema=({EMA},)")


def ours(workdir, changes=CHANGES):
    """`run(steps) -> steps per second` of configs/moons.py, compiled, and its parameter count."""
    import jax

    from fmjax import assemble, loop, record, settings, train

    parts = assemble.assemble(settings.load_config(ROOT / "configs" / "moons.py", changes))
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


def peer(workdir, *, vectorised):
    """The same of TorchCFM; `vectorised`: with Gaussians drawn at once."""
    import torch
    from torchcfm.conditional_flow_matching import ConditionalFlowMatcher
    from torchcfm.models import MLP
    from torchcfm.utils import sample_8gaussians, sample_moons

    angle = torch.arange(8) * (2 * torch.pi / 8)
    centres = 5 * torch.stack([torch.cos(angle), torch.sin(angle)], dim=1)

    def at_once(n):
        return centres[torch.randint(8, (n,))] + 0.1**0.25 * torch.randn(n, 2)

    source = at_once if vectorised else sample_8gaussians
    net = MLP(dim=2, time_varying=True, w=64)
    average = torch.optim.swa_utils.AveragedModel(
        net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(EMA)
    )
    optimizer = torch.optim.Adam(net.parameters(), lr=RATE)
    matcher = ConditionalFlowMatcher(sigma=0.1)
    step = 0

    def run(steps):
        with (Path(workdir) / "peer.jsonl").open("a") as log:
            return timed(steps, log)

    def timed(steps, log):
        nonlocal step
        began = time.perf_counter()
        for _ in range(steps):
            optimizer.zero_grad()
            t, xt, ut = matcher.sample_location_and_conditional_flow(
                source(BATCH), sample_moons(BATCH)
            )
            loss = torch.mean((net(torch.cat([xt, t[:, None]], dim=-1)) - ut) ** 2)
            loss.backward()
            optimizer.step()
            average.update_parameters(net)
            step += 1
            if step % LOG_EVERY == 0:
                log.write(json.dumps({"step": step, "loss": loss.item()}) + "\n")
                log.flush()
        return steps / (time.perf_counter() - began)

    run(LOG_EVERY)  # warms up
    return run, sum(p.numel() for p in net.parameters())


def best_threads(run, steps, choices=(1, 2)):
    """The faster number of PyTorch's threads, now set."""
    import torch

    rates = {}
    for n in choices:
        torch.set_num_threads(n)
        rates[n] = statistics.median(run(steps) for _ in range(3))
    best = max(rates, key=rates.get)
    torch.set_num_threads(best)
    return best


def training(args, workdir):
    """Rates by name, one a round, and what is to be said about them."""
    run_ours, size = ours(workdir)
    runs, notes = {"fmjax": run_ours}, [f"{size} parameters, batch {BATCH}"]
    if not args.no_peer:
        for name, vectorised in (("TorchCFM", False), ("TorchCFM, vectorised data", True)):
            runs[name], peer_size = peer(workdir, vectorised=vectorised)
            if peer_size != size:
                sys.exit(f"networks differ: {size} parameters here, {peer_size} in TorchCFM")
        threads = best_threads(runs["TorchCFM"], args.peer_steps)
        packages = ", ".join(f"{p} {importlib.metadata.version(p)}" for p in ("torch", "torchcfm"))
        notes.append(f"{packages}, the better of 1 and 2 threads: {threads}")
    rates = {name: [] for name in runs}
    for _ in range(args.rounds):
        for name, run in runs.items():
            rates[name].append(run(args.steps if name == "fmjax" else args.peer_steps))
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


def report_training(rates, notes):
    print(f"\ntraining, steps per second ({'; '.join(notes)})")
    print(f"  {'':28}{'median':>9}{'min':>9}{'max':>9}   ours / this, median of rounds")
    for name, values in rates.items():
        ratio = statistics.median(a / b for a, b in zip(rates["fmjax"], values, strict=True))
        middle = statistics.median(values)
        print(f"  {name:28}{middle:9.0f}{min(values):9.0f}{max(values):9.0f}   {ratio:.2f}")
    if "TorchCFM" in rates:
        print("  expected: at least 6 times TorchCFM (aim: 8)")


def report_startup(times):
    print("\nstart of configs/digits.py until its first training step, seconds")
    for name, values in times.items():
        limit = {"cold": 12, "warm": 6}[name]
        middle = statistics.median(values)
        shown = " ".join(f"{v:.1f}" for v in values)
        print(f"  {name:6}{middle:6.1f}   expected: at most {limit}   ({shown})")


def parse(argv):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--parts", nargs="+", choices=("training", "startup"), default=["training", "startup"])
    add("--rounds", type=int, default=7, help="of training, each of all sides (default 7)")
    add("--steps", type=int, default=3000, help="of ours a round, in hundreds (default 3000)")
    add("--peer-steps", type=int, default=500, help="of the peer a round (default 500)")
    add("--starts", type=int, default=3, help="pairs of a cold and a warm start (default 3)")
    add("--no-peer", action="store_true", help="training: ours alone")
    return parser.parse_args(argv)


def main(argv=None):
    args = parse(argv)
    if "training" in args.parts and not args.no_peer:
        try:
            import torchcfm  # noqa: F401
        except ImportError as error:
            sys.exit(
                f"error: cannot import TorchCFM ({error}); run\n"
                "    pip install -r experiments/requirements.txt\nor measure ours with --no-peer"
            )
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        if "training" in args.parts:
            report_training(*training(args, folder))
        if "startup" in args.parts:
            prepare_digits()
            times = {"cold": [], "warm": []}
            for i in range(args.starts):
                for name, values in times.items():
                    values.append(startup(Path(folder) / f"{name}{i}", Path(folder) / f"cache{i}"))
            report_startup(times)
    print(machine())


if __name__ == "__main__":
    main()
