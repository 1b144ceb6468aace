"""How a step written for one logical device is compiled for many.

`jit` (the default): global arrays with named shardings; random bits and results do not depend on
the number of devices. `pmap`: the same step mapped over a data axis, each device with its own
noise. Both keep the state as one logical copy, so their checkpoints are the same.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree


class Parallel(NamedTuple):
    """One way to run a step on devices.

    compile:   step -> compiled step, state donated
    init:      (function, *args) -> state, born in its shardings
    shardings: abstract state -> the same tree of shardings
    put:       (host batch, leading axes before the batch axis) -> what the compiled step takes
    constrain: for batches that are made inside the step
    rows:      the sharding of a batch axis over all devices, for programs outside the step
    """

    devices: int
    axis_name: str | None
    compile: Callable[..., Any]
    init: Callable[..., Any]
    shardings: Callable[[PyTree], PyTree]
    put: Callable[..., PyTree]
    constrain: Callable[[PyTree], PyTree]
    rows: NamedSharding


def _devices(count: int | None) -> list[jax.Device]:
    devices = jax.devices()
    if count is not None and not 0 < count <= len(devices):
        raise ValueError(
            f"devices={count}, but JAX sees {len(devices)}; choose 1 to {len(devices)}, e.g. with "
            "--config.parallel.devices=1"
        )
    return devices[:count]


def make_mesh(devices: list[jax.Device], *, fsdp: int = 1) -> Mesh:
    """A mesh with axes `data` × `fsdp`; the batch is divided over both, the state over `fsdp`."""
    if fsdp < 1 or len(devices) % fsdp:
        raise ValueError(f"fsdp={fsdp} does not divide the {len(devices)} devices")
    grid = np.asarray(devices).reshape(-1, fsdp)
    return Mesh(grid, ("data", "fsdp"), axis_types=(AxisType.Auto, AxisType.Auto))


def state_sharding(mesh: Mesh, state: PyTree, *, smallest: int = 2**16) -> PyTree:
    """Each leaf's largest axis that `fsdp` divides is divided over it; small leaves are copied."""
    size = mesh.shape["fsdp"]

    def spec(leaf: Any) -> NamedSharding:
        axes = [i for i in range(len(leaf.shape)) if leaf.shape[i] % size == 0]
        if size == 1 or not axes or math.prod(leaf.shape) < smallest:
            return NamedSharding(mesh, PartitionSpec())
        largest = max(axes, key=lambda i: leaf.shape[i])
        return NamedSharding(mesh, PartitionSpec(*[None] * largest, "fsdp"))

    return jax.tree.map(spec, state)


def jit(*, devices: int | None = None, fsdp: int = 1) -> Parallel:
    """`jax.jit` over a named mesh: the batch divided over all devices, the state over `fsdp`."""
    mesh = make_mesh(_devices(devices), fsdp=fsdp)
    axes = ("data", "fsdp")
    rows = NamedSharding(mesh, PartitionSpec(axes))
    replicated = NamedSharding(mesh, PartitionSpec())

    def shardings(state: PyTree) -> PyTree:
        return state_sharding(mesh, state)

    def put(batch: PyTree, leading: int = 0) -> PyTree:
        sharding = NamedSharding(mesh, PartitionSpec(*[None] * leading, axes))
        return jax.tree.map(
            lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), batch
        )

    def init(function: Callable[..., PyTree], *args: Any) -> PyTree:
        where = shardings(jax.eval_shape(function, *args))
        return jax.jit(function, out_shardings=where)(*args)

    def compile(step: Callable[..., Any]) -> Callable[..., Any]:
        @functools.partial(jax.jit, donate_argnums=0)
        def compiled(state: PyTree, frozen: PyTree, key: Any, batch: PyTree) -> Any:
            new, metrics = step(state, frozen, key, batch)
            return jax.lax.with_sharding_constraint(
                (new, metrics), (shardings(new), jax.tree.map(lambda _: replicated, metrics))
            )

        return compiled

    def constrain(batch: PyTree) -> PyTree:
        return jax.lax.with_sharding_constraint(batch, rows)

    return Parallel(mesh.size, None, compile, init, shardings, put, constrain, rows)


def pmap(*, devices: int | None = None) -> Parallel:
    """`jax.pmap` over a data axis: each device takes its rows and its own noise.

    The curve depends on the number of devices; prefer `jit` where that matters. One process only.
    """
    if jax.process_count() > 1:
        raise ValueError("pmap runs in one process; on several hosts use fmjax.shard:jit")
    chosen = _devices(devices)
    mesh = make_mesh(chosen)
    replicated = NamedSharding(mesh, PartitionSpec())

    def put(batch: PyTree, leading: int = 0) -> PyTree:
        def split(x: Any) -> Any:
            n = len(chosen)
            shape = (*x.shape[:leading], n, x.shape[leading] // n, *x.shape[leading + 1 :])
            return np.moveaxis(np.asarray(x).reshape(shape), leading, 0)

        return jax.tree.map(split, batch)

    def shardings(state: PyTree) -> PyTree:
        return jax.tree.map(lambda _: replicated, state)

    def init(function: Callable[..., PyTree], *args: Any) -> PyTree:
        return jax.jit(function, out_shardings=replicated)(*args)

    def compile(step: Callable[..., Any]) -> Callable[..., Any]:
        # the state goes in and comes out as one logical copy: in_axes and out_axes None
        return jax.pmap(
            step,
            axis_name="data",
            in_axes=(None, None, None, 0),
            out_axes=None,
            devices=chosen,
            donate_argnums=0,
        )

    return Parallel(
        len(chosen),
        "data",
        compile,
        init,
        shardings,
        put,
        lambda batch: batch,
        NamedSharding(mesh, PartitionSpec("data")),
    )


def check_batch(batch_size: int, devices: int, accumulate: int = 1) -> None:
    """Raise unless every micro-batch divides evenly over the devices."""
    unit = devices * accumulate
    if batch_size < 1 or batch_size % unit:
        below = batch_size // unit * unit
        choices = " or ".join(str(n) for n in (below, below + unit) if n)
        raise ValueError(
            f"batch_size {batch_size} does not divide over {devices} devices"
            f" × {accumulate} micro-batches; choose {choices}"
        )
