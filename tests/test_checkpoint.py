import errno
import hashlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from jax.sharding import AxisType, NamedSharding, PartitionSpec, SingleDeviceSharding

from fmjax import checkpoint, manifest


class Two(NamedTuple):
    enc: Any
    dec: Any


class State(NamedTuple):
    step: Any
    params: Any
    ema: Any
    opt_state: Any


class Empty(NamedTuple):
    pass


def make_state(value=0.0, rows=8):
    params = Two(
        {
            "w": value + jnp.arange(rows * 3.0).reshape(rows, 3),
            "b": jnp.full(3, 1 / 3, jnp.bfloat16),
        },
        {
            "scale": jnp.float32(value),
            "none": None,
            "nothing": {},
            "pair": (jnp.ones(2), jnp.zeros(1)),
        },
    )
    ema = {d: jax.tree.map(lambda x, d=d: x - jnp.asarray(d, x.dtype), params) for d in (0.99, 0.5)}
    return State(
        jnp.int32(value),
        params,
        {str(decay): tree for decay, tree in ema.items()},
        (Empty(), None, {"mu": jax.tree.map(jnp.zeros_like, params), "count": jnp.int32(7)}),
    )


def identical(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def abstract(state, sharding=None):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), state)


def fill(directory, steps, **options):
    with checkpoint.Store(directory, **options) as store:
        for step in steps:
            store.save(step, make_state(step))


def flip(path):
    data = bytearray(path.read_bytes()) or bytearray(b"x")
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def quiet(text):
    raise AssertionError(text)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    directory = tmp_path_factory.mktemp("checkpoints")
    fill(directory, (10, 20))
    return directory


@pytest.fixture
def copy(saved, tmp_path):
    return Path(shutil.copytree(saved, tmp_path / "copy"))


def test_every_kind_of_leaf_and_container_returns_bit_for_bit(saved):
    with checkpoint.Store(saved, say=quiet) as store:
        step, state = store.restore(abstract(make_state()))
    assert step == 20
    identical(state, make_state(20))
    assert checkpoint.steps(saved) == [10, 20]


def test_no_checkpoint_is_none(tmp_path):
    with checkpoint.Store(tmp_path / "new" / "folder", say=quiet) as store:
        assert store.restore(abstract(make_state())) is None
    assert checkpoint.steps(tmp_path / "nowhere") == []


def test_state_may_be_donated_at_once(tmp_path):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    advance = jax.jit(lambda x: -x - 1, donate_argnums=0)
    shardings = [NamedSharding(mesh, spec) for spec in (PartitionSpec(), PartitionSpec("data"))]
    for sharding in (SingleDeviceSharding(jax.devices()[0]), *shardings):
        directory = tmp_path / str(hash(sharding))
        x = jax.device_put(jnp.arange(1 << 20, dtype=jnp.int32), sharding)
        with checkpoint.Store(directory) as store, jax.transfer_guard("disallow"):
            store.save(0, {"x": x})
            for _ in range(5):
                x = advance(x)
        held = checkpoint.Store(directory).restore({"x": x})[1]["x"]
        np.testing.assert_array_equal(held, np.arange(1 << 20))


def shardings(state, count):
    devices = jax.devices()[:count]
    mesh = jax.make_mesh((count,), ("data",), axis_types=(AxisType.Auto,), devices=devices)
    split, whole = (NamedSharding(mesh, spec) for spec in (PartitionSpec("data"), PartitionSpec()))
    return jax.tree.map(lambda x: split if x.shape[:1] == (8,) else whole, state)


@pytest.mark.parametrize("devices", [1, 4])
def test_sharded_over_eight_devices_restores_on_fewer(tmp_path, devices):
    state = make_state(3)
    wanted = shardings(state, devices)
    with checkpoint.Store(tmp_path) as store:
        store.save(3, jax.device_put(state, shardings(state, 8)))
        _, restored = store.restore(jax.tree.map(abstract, state, wanted))
    identical(restored, state)
    assert jax.tree.map(lambda x: x.sharding, restored) == wanted
    assert len(restored.params.enc["w"].sharding.device_set) == devices
    alone = checkpoint.load(tmp_path)["enc"]["w"]
    assert alone.sharding.device_set == {jax.devices()[0]}
    np.testing.assert_array_equal(alone, state.params.enc["w"])


def test_several_seeds_are_one_state(tmp_path):
    state = jax.tree.map(lambda *x: jnp.stack(x), *(make_state(seed) for seed in range(3)))
    with checkpoint.Store(tmp_path) as store:
        store.save(5, state)
        step, restored = store.restore(abstract(state))
    assert (step, restored.step.shape) == (5, (3,))
    identical(restored, state)


def test_a_save_is_asynchronous_and_deletes_only_when_complete(tmp_path, monkeypatch):
    go, digest = threading.Event(), hashlib.file_digest
    with checkpoint.Store(tmp_path, keep_last=1) as store:
        store.save(1, make_state(1))
        store.wait()
        monkeypatch.setattr(hashlib, "file_digest", lambda *a: go.wait(30) and digest(*a))
        store.save(2, make_state(2))
        while not (tmp_path / "2").exists():
            time.sleep(0.01)
        finished = [(tmp_path / step / "manifest.json").exists() for step in "12"]
        go.set()  # before what may fail, else the store would wait for every file
        assert finished == [True, False]
        store.wait()
        assert os.listdir(tmp_path) == ["2"]


def test_keeps_the_last_and_the_best(tmp_path):
    losses = {1: 3.0, 2: 1.0, 3: 2.0, 4: float("nan"), 5: 9.0, 6: 8.0}
    for mode, kept in (("min", [2, 3, 5, 6]), ("max", [5, 6])):
        with checkpoint.Store(tmp_path / mode, keep_last=2, keep_best=2, best_mode=mode) as store:
            for step, loss in losses.items():
                store.save(step, {"x": jnp.float32(step)}, {"loss": loss})
        assert checkpoint.steps(tmp_path / mode) == kept
    # A save without metrics is no candidate, and no error.
    with checkpoint.Store(tmp_path / "min", keep_last=1, keep_best=1) as store:
        store.restore({"x": jnp.float32(0)})
        store.save(7, {"x": jnp.float32(7)})
    assert checkpoint.steps(tmp_path / "min") == [2, 7]


def test_a_flipped_byte_in_any_file_is_found(copy):
    files = [p for p in (copy / "20").rglob("*") if p.is_file() and p.name != "manifest.json"]
    assert len(files) > 5
    for path in files:
        before = path.read_bytes()
        flip(path)
        assert checkpoint.steps(copy) == [10], path
        path.unlink()
        assert checkpoint.steps(copy) == [10], path
        path.write_bytes(before)
    assert checkpoint.steps(copy) == [10, 20]


@pytest.mark.parametrize("damage", ["truncated", "no folder", "manifest"])
def test_falls_back_to_the_one_before_and_says_so(copy, damage):
    data = max((copy / "20" / "state" / "d").iterdir(), key=lambda p: p.stat().st_size)
    if damage == "truncated":
        data.write_bytes(data.read_bytes()[:10])
    elif damage == "no folder":
        shutil.rmtree(data.parent)
    else:
        (copy / "20" / "manifest.json").write_text('{"version": 1, "st')
    said = []
    with checkpoint.Store(copy, say=said.append) as store:
        step, state = store.restore(abstract(make_state()))
        assert step == 10
        identical(state, make_state(10))
        assert len(said) == 1
        assert "20 is damaged" in said[0]
        store.save(15, make_state(15))  # the damaged one does not count among those kept
    assert checkpoint.steps(copy) == [10, 15]
    assert not (copy / "20").exists()


def test_a_damaged_step_is_saved_again(copy):
    flip(copy / "20" / "state" / "_METADATA")
    with checkpoint.Store(copy, say=lambda _: None) as store:
        store.restore(abstract(make_state()))
        store.save(20, make_state(21))
        identical(store.restore(abstract(make_state()))[1], make_state(21))


def test_all_damaged_names_each(copy):
    for step in ("10", "20"):
        flip(copy / step / "state" / "_METADATA")
    with (
        checkpoint.Store(copy, say=lambda _: None) as store,
        pytest.raises(checkpoint.CheckpointError, match=r"10.*20|20.*10") as caught,
    ):
        store.restore(abstract(make_state()))
    assert str(caught.value).count("_METADATA differs") == 2


def test_without_a_manifest_it_is_unfinished(copy):
    (copy / "20" / "manifest.json").unlink()
    shutil.copytree(copy / "20", copy / "30.orbax-checkpoint-tmp")
    said = []
    with checkpoint.Store(copy, say=said.append) as store:
        assert store.restore(abstract(make_state()))[0] == 10
        assert ["unfinished" in line for line in said] == [True, True]
        store.save(20, make_state(20))
    assert sorted(os.listdir(copy)) == ["10", "20"]
    assert checkpoint.steps(copy) == [10, 20]


def test_half_removed_it_is_unfinished(copy, monkeypatch):
    def fail(path):
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(path))

    monkeypatch.setattr(type(epath.Path(copy)), "rmtree", fail)
    with pytest.raises(OSError, match="busy"):
        manifest.remove(epath.Path(copy) / "20")
    assert not manifest.is_finished(epath.Path(copy) / "20")
    assert checkpoint.steps(copy) == [10]


def test_a_newer_format_is_refused(copy):
    path = copy / "20" / "manifest.json"
    path.write_text(path.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(checkpoint.CheckpointError, match=r"version 2.*up to 1.*update"):
        checkpoint.load(copy)


def test_another_structure_is_named(saved):
    state = make_state()
    other = state._replace(step=jnp.zeros(2), opt_state={"nu": state.step})
    with (
        checkpoint.Store(saved) as store,
        pytest.raises(checkpoint.CheckpointError) as caught,
    ):
        store.restore(abstract(other))
    there, here = str(caught.value).split("Only here")
    assert "opt_state/2/count int32[]" in there
    assert "opt_state/nu int32[]" in here
    assert "step float32[2]" in here


def test_refuses_to_save_over_others(copy):
    with checkpoint.Store(copy) as store:
        with pytest.raises(checkpoint.SaveError, match="holds step 20 already"):
            store.save(20, make_state())
        store.restore(abstract(make_state()))
        before = (copy / "20" / "manifest.json").stat().st_mtime_ns
        store.save(20, make_state())  # what was restored is saved already
        store.wait()
        assert (copy / "20" / "manifest.json").stat().st_mtime_ns == before
        with pytest.raises(checkpoint.SaveError, match="step 19 is not"):
            store.save(19, make_state())


def test_mistakes_of_the_caller(tmp_path):
    with pytest.raises(ValueError, match="'lowest'"):
        checkpoint.Store(tmp_path, best_mode="lowest")
    with checkpoint.Store(tmp_path, keep_best=1) as store:
        with pytest.raises(checkpoint.SaveError, match=r"'loss'.*'accuracy'"):
            store.save(1, make_state(), {"accuracy": 1.0})
        with pytest.raises(checkpoint.SaveError, match="one name"):
            store.save(1, {"a.b": jnp.zeros(2), "a": {"b": jnp.ones(2)}})
    (tmp_path / "file").write_text("")
    with pytest.raises(checkpoint.SaveError, match="cannot write checkpoints"):
        checkpoint.Store(tmp_path / "file" / "run")


def big_state():
    return {"x": jax.random.normal(jax.random.key(0), (1 << 20,))}


def small_state():
    return {"x": jnp.zeros(1 << 20)}


def check_full(directory, fill_up, free_up, capfd, caplog):
    with checkpoint.Store(directory, say=quiet) as store:
        store.save(1, small_state())
        store.wait()
        fill_up()
        try:
            store.save(2, big_state())
            with pytest.raises(
                checkpoint.SaveError, match=r"disk full.*step 2.*good.*step 1\."
            ) as e:
                store.wait()
        finally:
            free_up()
        assert "run the same command again" in str(e.value)
        assert [path for path in os.listdir(directory) if path.startswith("2")] == []
        assert checkpoint.steps(directory) == [1]
        identical(store.restore(abstract(small_state()))[1], small_state())
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []  # of the tracebacks that Orbax logs for a failed save


def test_disk_full_by_a_limit_on_file_size(tmp_path, capfd, caplog):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    check_full(
        tmp_path,
        lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard)),
        lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard)),
        capfd,
        caplog,
    )
    with checkpoint.Store(tmp_path) as store:  # the same command again
        step, _ = store.restore(abstract(small_state()))
        store.save(step + 1, big_state())
    identical(checkpoint.Store(tmp_path).restore(abstract(big_state()))[1], big_state())


def test_disk_full_on_a_full_disk(tmp_path, capfd, caplog):
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(tmp_path)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("may not mount a file system")
    try:
        check_full(tmp_path, lambda: None, lambda: None, capfd, caplog)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_failure_after_the_commit(tmp_path, monkeypatch):
    def fail(file, name):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file))

    def stopped(store):
        with store:
            store.save(1, make_state())
            store.wait()
            monkeypatch.setattr(hashlib, "file_digest", fail)
            store.save(2, make_state())
            raise KeyError

    said = []
    with pytest.raises(KeyError):  # what ended the block is raised; the failed save is said
        stopped(checkpoint.Store(tmp_path, say=said.append))
    assert "disk full while saving step 2" in said[0]
    assert os.listdir(tmp_path) == ["1"]
    with (
        pytest.raises(checkpoint.SaveError, match="step 3"),
        checkpoint.Store(tmp_path) as store,
    ):
        store.save(3, make_state())


def test_weights_alone_without_the_model(saved, monkeypatch):
    state, reads = make_state(20), []
    original = checkpoint.ocp.load
    monkeypatch.setattr(
        checkpoint.ocp, "load", lambda at, plan: reads.append(plan) or original(at, plan)
    )
    for ema, tree in ((None, state.params), ("0.5", state.ema["0.5"])):
        alone = checkpoint.load(saved, ema=ema)
        assert set(alone) == {"enc", "dec"}
        identical(jax.tree.leaves(alone["enc"]), jax.tree.leaves(tree.enc))
        np.testing.assert_array_equal(alone["dec"]["scale"], tree.dec["scale"])
        identical(checkpoint.load(saved, ema=ema, like=abstract(tree)), tree)
    for plan in reads:
        asked = [x for x in jax.tree.leaves(plan) if x is not checkpoint.ocp.PLACEHOLDER]
        assert len(asked) == len(jax.tree.leaves(state.params))
    identical(checkpoint.load(saved, step=10, like=state.params), make_state(10).params)


def test_weights_that_are_not_there(copy, tmp_path):
    with pytest.raises(checkpoint.CheckpointError, match=r"no ema/0\.9;.*0\.5.*0\.99"):
        checkpoint.load(copy, ema="0.9")
    with pytest.raises(checkpoint.CheckpointError, match=r"no finished step 11.*\[10, 20\]"):
        checkpoint.load(copy, step=11)
    with pytest.raises(checkpoint.CheckpointError, match="no finished checkpoint"):
        checkpoint.load(tmp_path / "empty")
    with pytest.raises(checkpoint.CheckpointError, match="holds another state"):
        checkpoint.load(copy, like={"w": jnp.zeros(3)})
    flip(copy / "20" / "_CHECKPOINT_METADATA")
    with pytest.raises(checkpoint.CheckpointError, match="_CHECKPOINT_METADATA differs"):
        checkpoint.load(copy, step=20, say=lambda _: None)
    said = []
    identical(
        checkpoint.load(copy, like=abstract(make_state().params), say=said.append),
        make_state(10).params,
    )
    assert "damaged" in said[0]


def test_fine_tuning_takes_what_fits(saved):
    fresh = {
        "enc": {"w": jnp.zeros((8, 3), jnp.bfloat16), "b": jnp.zeros(4), "new": jnp.full(1, 5.0)},
        "dec": {"scale": jnp.float32(-1)},
    }
    params, loaded, left = checkpoint.init_from(fresh, saved, ema="0.99")
    ema = make_state(20).ema["0.99"]
    assert (set(loaded), set(left)) == ({"enc/w", "dec/scale"}, {"enc/b", "enc/new"})
    identical(params["enc"]["w"], ema.enc["w"].astype(jnp.bfloat16))
    identical(params["dec"]["scale"], ema.dec["scale"])
    identical(params["enc"]["new"], fresh["enc"]["new"])
    identical(params["enc"]["b"], fresh["enc"]["b"])
    with pytest.raises(checkpoint.CheckpointError, match=r"no array of .*enc/b.*other"):
        checkpoint.init_from({"other": jnp.zeros(3)}, saved)


KILLED = """
import sys, jax.numpy as jnp
from fmjax import checkpoint, manifest
with checkpoint.Store(sys.argv[1]) as store:
    for step in range(100000):
        store.save(step, {"x": jnp.full(1 << 18, step), "step": jnp.int32(step)})
"""


def test_killed_at_any_moment_the_newest_finished_one_is_whole(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], cwd=os.getcwd())
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "5").exists() and time.monotonic() < deadline:
            time.sleep(0.003)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    like = {"x": jnp.zeros(1 << 18, jnp.int32), "step": jnp.int32(0)}
    with checkpoint.Store(tmp_path, say=lambda line: None) as store:
        step, state = store.restore(like)
        assert step >= 3
        assert state["step"] == step
        assert (state["x"] == step).all()
        store.save(step + 1, like)
    assert checkpoint.steps(tmp_path) == [step, step + 1]
    assert sorted(os.listdir(tmp_path)) == sorted([str(step), str(step + 1)])
