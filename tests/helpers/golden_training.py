"""Exact outputs of training: the first steps of every config, shrunk, on one and eight devices."""

import atexit
import functools
import shutil
import tempfile
from types import SimpleNamespace

import jax
import numpy as np
import prepared
import stages
from helpers import golden_store

from fmjax import assemble, run, settings

STEPS = 5
DEVICES = (1, 8)
FRESH = SimpleNamespace(restore=lambda state: None)  # a store without checkpoints


def entries():
    """Name -> what computes it."""
    return {
        f"{path.stem}/devices={devices}": functools.partial(trained, path, devices)
        for path in sorted(stages.CONFIGS.glob("*.py"))
        for devices in DEVICES
    }


@functools.cache
def shared(name):
    """The earlier run that a config builds on, which a process trains once; else the config."""
    path = stages.CONFIGS / f"{name}.py"
    small = settings.load_config(path, settings.load_config(path)["tiny"])
    return next((earlier for _, earlier in stages.earlier(small)), name)


def trained(path, devices):
    prepared.prepare_for(path, folder())
    changes = (
        *stages.changes(path),
        f"data_dir={folder()}",
        f"parallel.devices={devices}",
        f"steps={STEPS}",
        "steps_per_call=1",
    )
    parts = run.taught(assemble.assemble(settings.load_config(path, changes)))
    _, state = run.begin(parts, FRESH, lambda text: None)
    call, batches = assemble.make_call(parts), assemble.make_batches(parts)
    _, key, _ = assemble.keys(parts.config)
    frozen = parts.teacher and parts.teacher[1]
    rows, losses = [], []
    for step in range(STEPS):
        batch = batches(step)
        rows += leaves(batch)
        state, metrics = call(state, frozen, key, batch)
        losses += np.asarray(metrics["loss"]).ravel().tolist()
        assert metrics["loss"].dtype == np.float32
    _, params, averages, opt_state = state
    return {
        "losses": [golden_store.exact(np.float32(loss)) for loss in losses],
        **({"rows": golden_store.digest(rows)} if rows else {}),
        "parameters": golden_store.digest(leaves(params)),
        "averages": golden_store.digest(leaves(averages)),
        "optimizer": golden_store.digest(leaves(opt_state)),
    }


def leaves(tree):
    """Host arrays."""
    return jax.device_get(jax.tree.leaves(tree))


@functools.cache
def folder():
    made = tempfile.mkdtemp(prefix="fmjax-goldens-")
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made
