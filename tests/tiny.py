"""The smallest whole run: two classes of points in the plane, a perceptron of width 16, 8 steps."""

import hashlib
import os
import sys
from pathlib import Path

import jax
import ml_collections
import numpy as np

import launch
from fmjax import assemble, checkpoint, record, settings
from fmjax.data.in_memory import in_memory
from fmjax.types import Batch

FILE = Path(__file__).resolve()
JUDGED = FILE.with_name("tiny_judged.py")  # the same with an evaluator and two pictures


def points(*, batch_size, seed=0, process=(0, 1)):
    """96 and 32 points around (-2, 0) and (2, 0)."""
    rng = np.random.default_rng(0)

    def rows(n):
        label = np.arange(n) % 2
        x = np.stack([4.0 * label - 2, np.zeros(n)], 1) + 0.3 * rng.normal(size=(n, 2))
        return Batch(x.astype(np.float32), label.astype(np.int32))

    return in_memory(
        {"train": rows(96), "test": rows(32)},
        batch_size=batch_size,
        seed=seed,
        process=process,
        null=np.int32(2),
        names=("left", "right"),
    )


def digest(batch):
    return hashlib.sha256(b"".join(x.tobytes() for x in jax.tree.leaves(batch))).hexdigest()


def stopping(*, batch_size, folder, at, sign, seed=0, process=(0, 1)):
    """`points`, whose process sends itself the signal `sign` at step `at`, once for a `folder`.

    Every batch leaves its step and hash in `folder`/batches.
    """
    data = points(batch_size=batch_size, seed=seed, process=process)
    sent = Path(folder) / "sent"

    def batch(split, step):
        rows = data.batch(split, step)
        with (Path(folder) / "batches").open("a") as file:
            file.write(f"{step} {digest(rows)}\n")
        if step == at and not sent.exists():
            sent.touch()
            os.kill(os.getpid(), sign)
        return rows

    return data._replace(batch=batch)


def spiked(*, batch_size, at, seed=0, process=(0, 1)):
    """`points`, which are far away at step `at`: its squared error there is not finite."""
    data = points(batch_size=batch_size, seed=seed, process=process)

    def batch(split, step):
        rows = data.batch(split, step)
        return rows._replace(x1=rows.x1 + np.float32(1e30 * (step == at)))

    return data._replace(batch=batch)


def get_config():
    config = ml_collections.ConfigDict()
    config.seed = 0
    config.steps = 8
    config.batch_size = 24
    config.log_every = 1
    config.save_every = 4
    config.ema = (0.9,)
    config.data = {"name": f"{FILE}:points"}
    config.model = {"name": "fmjax.models.mlp:mlp", "width": 16, "depth": 1}
    config.loss = {"bind": "fmjax.losses.flow_matching:flow_matching", "drop": 0.1}
    config.optimizer = {"name": "optax:adam", "learning_rate": 1e-2}
    config.sampler = {
        "bind": "fmjax.samplers.ode:ode",
        "solver": {"name": "diffrax:Euler"},
        "steps": 2,
    }
    config.sample_chunk = 32
    config.parallel = {"name": "fmjax.shard:jit", "devices": 1}
    return config


def launched(workdir, *changes, mode="train", config=FILE, flags=()):
    """`launch.py` in this process; its exit code."""
    words = [f"--mode={mode}", f"--workdir={workdir}", *flags]
    if config is not None:
        words.append(f"--config={config}")
    path = list(sys.path)
    try:
        return launch.main([*words, *(f"--config.{change}" for change in changes)])
    finally:
        sys.path[:] = path


def state(workdir, step):
    """The whole training state of a finished run, which is at `step`, as host arrays."""
    parts = assemble.assemble(settings.read_workdir(Path(workdir)))
    with checkpoint.Store(Path(workdir) / "checkpoints") as store:
        found, restored = store.restore(assemble.abstract_state(parts))
    assert found == step
    return jax.device_get(restored)


def lines(workdir, name="loss"):
    """[(step, value)] of a metric, as they stand in `metrics.jsonl`."""
    found = record.read_jsonl(Path(workdir) / "metrics.jsonl")
    return [(line["step"], line[name]) for line in found if name in line]


def losses(workdir):
    return np.asarray([value for _, value in lines(workdir)])


def assert_same(a, b):
    """Equal trees, bit for bit."""
    jax.tree.map(np.testing.assert_array_equal, a, b)
