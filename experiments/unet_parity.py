"""Claim: TorchCFM's U-Net on its weights gives its numbers, and is trained at 0.8 of its speed.

    pip install -r experiments/requirements.txt
    python experiments/unet_parity.py            the table; exit code 1 if a row is above 1e-4
    python experiments/unet_parity.py --speed    one training step, on the CPU
        [--peer-python other/bin/python]         PyTorch in another environment than JAX

Parity: every weight of TorchCFM's module is random, those that start at zero, too; its state dict
goes through fmjax.pretrained.torchcfm_unet. The largest difference is divided by the largest
output. Meta's networks are TorchCFM's class with Meta's arguments (its own file differs in code
paths that these do not take).

Speed: one step (loss of flow matching, gradient, Adam) of the network of TorchCFM's MNIST example,
28 x 28 x 1, 32 channels, one block a level, attention at full size, 10 classes, batch 128. "native"
is ours with XLA's own convolutions and attention everywhere. Each side has a process of its own,
and all take turns. CPU time is of all threads; memory is the peak of the process less what it held
before its network was built.
"""

import argparse
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
sys.path.insert(0, str(ROOT))

THRESHOLD, BATCH = 1e-4, 128
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
        dict(channels=32, multipliers=(1, 2, 2), blocks=1, attention=(1,), num_classes=10),
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


def our_side(native):
    """`run(steps)` of ours, and what it is."""
    import jax
    import jax.numpy as jnp
    import optax

    from fmjax import train, types
    from fmjax.losses.flow_matching import flow_matching
    from fmjax.models import _convolutional
    from fmjax.models.unet import unet

    if native:
        _convolutional._PRODUCTS = _convolutional._LOGITS = float("inf")
    model, tx, key = unet(**NETWORKS[1][3]), optax.adam(1e-3), jax.random.key(0)
    x1 = jnp.asarray(RNG.normal(size=(BATCH, 28, 28, 1)), jnp.float32)
    batch = types.Batch(x1, jnp.asarray(RNG.integers(0, 10, BATCH)))
    state = train.init(model, tx, key, batch, ema=())
    step = jax.jit(train.make_step(model, flow_matching, tx, ema=()), donate_argnums=0)
    began = time.perf_counter()
    step = step.lower(state, None, key, batch).compile()
    compiled = time.perf_counter() - began

    def run(steps):
        nonlocal state
        for _ in range(steps):
            state, _ = step(state, None, key, batch)
        jax.block_until_ready(state)

    return run, f"JAX {jax.__version__}, compiled in {compiled:.1f} s"


def peer_side():
    """`run(steps)` of TorchCFM's, and what it is."""
    import torch
    from torchcfm.conditional_flow_matching import ConditionalFlowMatcher
    from torchcfm.models.unet import UNetModel

    model = UNetModel(dim=(1, 28, 28), num_channels=32, num_res_blocks=1, num_classes=10,
                      class_cond=True)  # fmt: skip
    optimizer, matcher = torch.optim.Adam(model.parameters(), 1e-3), ConditionalFlowMatcher(0.0)
    x1 = torch.from_numpy(RNG.normal(size=(BATCH, 1, 28, 28)).astype(np.float32))
    classes = torch.from_numpy(RNG.integers(0, 10, BATCH))

    def run(steps):
        for _ in range(steps):
            optimizer.zero_grad()
            t, xt, ut = matcher.sample_location_and_conditional_flow(torch.randn_like(x1), x1)
            loss = torch.mean((model(t, xt, classes) - ut) ** 2)
            loss.backward()
            optimizer.step()

    return run, f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads"


SIDES = {
    "fmjax": lambda: our_side(native=False),
    "native": lambda: our_side(native=True),
    "PyTorch": peer_side,
}


def serve(side):
    """Reads numbers of steps, writes what they cost, a line each."""
    if side == "PyTorch":
        import torchcfm.conditional_flow_matching  # noqa: F401
    else:
        import jax

        jax.block_until_ready(jax.numpy.zeros(3))
    peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # noqa: E731
    before = peak()
    run, note = SIDES[side]()
    print(json.dumps(note), flush=True)
    for line in sys.stdin:
        steps, wall, cpu = int(line), time.perf_counter(), time.process_time()
        run(steps)
        wall, cpu = (time.perf_counter() - wall) / steps, (time.process_time() - cpu) / steps
        print(json.dumps([wall, cpu, peak() - before]), flush=True)


def speed(args):
    workers, notes = {}, {}
    for side in SIDES:
        python = args.peer_python if side == "PyTorch" else sys.executable
        workers[side] = subprocess.Popen(
            [python, __file__, "--serve", side],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        notes[side] = json.loads(workers[side].stdout.readline() or '"did not start"')

    def turn(side, steps):
        workers[side].stdin.write(f"{steps}\n")
        workers[side].stdin.flush()
        return json.loads(workers[side].stdout.readline())

    try:
        for side in workers:
            turn(side, 1)
        found = {side: [] for side in workers}
        for _ in range(args.rounds):
            for side, values in found.items():
                values.append(turn(side, args.steps))
    finally:
        for worker in workers.values():
            worker.stdin.close()
            worker.wait()
    load = f"load average {os.getloadavg()[0]:.1f}"
    print(
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, {load}"
    )
    print("one training step, medians; speed against PyTorch: median of rounds")
    for side, values in found.items():
        wall, cpu, memory = (statistics.median(column) for column in zip(*values, strict=True))
        pairs = zip(found["PyTorch"], values, strict=True)
        ratio = statistics.median(peer[0] / mine[0] for peer, mine in pairs)
        print(
            f"  {side:8}{1e3 * wall:8.0f} ms{1e3 * cpu:8.0f} ms CPU{memory:8.0f} MiB"
            f"   {ratio:.2f} of PyTorch's speed   ({notes[side]})"
        )
    print("  expected: fmjax at least 0.55 on jax 0.12 (aim: 0.8)")


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--speed", action="store_true", help="measure a step instead")
    parser.add_argument("--rounds", type=int, default=5, help="each of all sides (default 5)")
    parser.add_argument("--steps", type=int, default=2, help="of each side a round (default 2)")
    parser.add_argument("--peer-python", default=sys.executable, help="one that has torchcfm")
    parser.add_argument("--serve", choices=SIDES, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.serve:
        return serve(args.serve)
    if args.speed:
        return speed(args)
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
