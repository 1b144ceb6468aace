import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from fmjax import checkpoint

PROCESS = """
import sys
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from fmjax import checkpoint

port, index, directory = sys.argv[1], int(sys.argv[2]), sys.argv[3]
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(f"localhost:{port}", 2, index)
mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
split, whole = (NamedSharding(mesh, spec) for spec in (PartitionSpec("data"), PartitionSpec()))

def make(value):
    w = jax.make_array_from_callback((8, 2), split, lambda i: W[i] + value)
    b = jax.make_array_from_callback((3,), whole, lambda i: np.full(3, value, np.float32)[i])
    return {"params": {"w": w, "b": b}, "step": b}

def same(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.sharding == y.sharding
        for p, q in zip(x.addressable_shards, y.addressable_shards, strict=True):
            np.testing.assert_array_equal(p.data, q.data)

def damage(step):
    if index == 0:
        with open(f"{directory}/{step}/state/_METADATA", "ab") as file:
            file.write(b"x")
    multihost_utils.sync_global_devices(f"damage {step}")

W = np.arange(16, dtype=np.float32).reshape(8, 2)
with checkpoint.Store(directory) as store:
    assert store.restore(make(0)) is None
    for step in (1, 2, 3):
        store.save(step, make(step))
    step, state = store.restore(make(0))
    assert step == 3
    same(state, make(3))
    alone = checkpoint.load(directory)  # on a device of each process
    np.testing.assert_array_equal(alone["w"], W + 3)
    same(checkpoint.load(directory, like=make(0)["params"]), make(3)["params"])

    damage(3)
    step, state = store.restore(make(0))
    assert step == 2
    same(state, make(2))
    damage(2)
    try:
        store.restore(make(0))
    except checkpoint.CheckpointError as error:
        print("refused", index, error)
with checkpoint.Store(directory + "/again") as store:
    store.save(4, make(4))
"""


def test_two_processes_save_restore_and_fall_back_together(tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    root = Path(checkpoint.__file__).parents[1]
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", PROCESS, port, str(index), str(tmp_path)],
            cwd=root,
            env={"PATH": "", "HOME": str(tmp_path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    try:
        outputs = [process.communicate(timeout=60) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert "no undamaged checkpoint" in outputs[0][0]
    assert "refused 1 process 0 says" in outputs[1][0]

    # One process, on one device, takes up what two processes with four devices saved.
    like = {"params": {"w": jnp.zeros((8, 2)), "b": jnp.zeros(3)}, "step": jnp.zeros(3)}
    step, state = checkpoint.Store(tmp_path / "again").restore(like)
    assert step == 4
    np.testing.assert_array_equal(
        state["params"]["w"], np.arange(16, dtype=np.float32).reshape(8, 2) + 4
    )
    assert state["params"]["w"].sharding.device_set == {jax.devices()[0]}
