import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import tiny


def stopping_at(folder, step, sign):
    """Changes of the tiny config: its process sends itself `sign` at `step`."""
    folder.mkdir()
    return (
        f"data={tiny.FILE}:stopping",
        f"data.folder={folder}",
        f"data.at={step}",
        f"data.sign={int(sign)}",
        "save_every=2",
    )


def assert_like_uninterrupted(workdir, finished, folder):
    tiny.assert_same(tiny.state(workdir, 8), tiny.state(finished, 8))
    # one line a step, none twice, each as if nothing had happened
    assert tiny.lines(workdir) == tiny.lines(finished)
    data = tiny.points(batch_size=24)
    expected = {f"{s} {tiny.digest(data.batch('train', s))}" for s in range(8)}
    assert set((folder / "batches").read_text().splitlines()) == expected


def test_a_killed_run_goes_on_bit_for_bit(tmp_path, finished):
    workdir, folder = tmp_path / "run", tmp_path / "signal"
    changes = stopping_at(folder, 6, signal.SIGKILL)
    command = [
        sys.executable,
        str(tiny.FILE.parents[1] / "launch.py"),
        f"--config={tiny.FILE}",
        f"--workdir={workdir}",
        *(f"--config.{change}" for change in changes),
    ]
    killed = subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=120)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (workdir / "checkpoints" / "2" / "manifest.json").exists()
    assert not (workdir / "record.json").exists()
    assert tiny.launched(workdir, *changes) == 0
    assert_like_uninterrupted(workdir, finished, folder)


def test_sigterm_saves_exits_with_75_and_goes_on_bit_for_bit(tmp_path, finished, capsys):
    workdir, folder = tmp_path / "run", tmp_path / "signal"
    changes = stopping_at(folder, 4, signal.SIGTERM)
    assert tiny.launched(workdir, *changes) == 75
    assert "stopped and saved at step 5; the same command goes on" in capsys.readouterr().out
    assert tiny.launched(workdir, *changes) == 0
    assert "resuming from step 5" in capsys.readouterr().out
    assert_like_uninterrupted(workdir, finished, folder)


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    """Half a run, on 4 devices."""
    workdir = tmp_path_factory.mktemp("half") / "run"
    assert tiny.launched(workdir, "steps=4", "parallel.devices=4") == 0
    return workdir


@pytest.mark.parametrize("devices", [1, 2])
def test_a_run_of_four_devices_goes_on_with_others(devices, half, tmp_path, finished):
    shutil.copytree(half, tmp_path / "run")
    assert tiny.launched(tmp_path / "run", f"parallel.devices={devices}") == 0
    np.testing.assert_allclose(tiny.losses(tmp_path / "run"), tiny.losses(finished), rtol=1e-5)


def test_what_pmap_trained_goes_on_under_jit(tmp_path, capsys):
    workdir = tmp_path / "run"
    changes = ("parallel=fmjax.shard:pmap", "parallel.devices=2", "steps=4")
    assert tiny.launched(workdir, *changes) == 0
    mapped = tiny.losses(workdir)
    assert tiny.launched(workdir, "parallel.devices=2") == 0
    assert "resuming from step 4" in capsys.readouterr().out
    assert len(tiny.losses(workdir)) == 8
    np.testing.assert_array_equal(tiny.losses(workdir)[:4], mapped)
    config = json.loads((workdir / "config.json").read_text())
    assert config["parallel"] == {"name": "fmjax.shard:jit", "devices": 2}


def test_a_finished_run_is_judged_again_and_not_trained(tmp_path, finished):
    workdir = shutil.copytree(finished, tmp_path / "run")
    before = json.loads((workdir / "record.json").read_text())
    (workdir / "samples.png").unlink()
    assert tiny.launched(workdir, config=tiny.JUDGED) == 0
    after = json.loads((workdir / "record.json").read_text())
    assert (workdir / "samples.png").exists()
    assert after["training"] == before["training"]
    assert after["metrics"]["mean_gap"] == before["metrics"]["mean_gap"]


def damage(folder, how):
    """Flip a byte in, or cut short, the largest file of a checkpoint."""
    file = max((f for f in folder.rglob("*") if f.is_file()), key=lambda f: f.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content if how == "flipped" else content[: len(content) // 2])


@pytest.mark.parametrize("how", ["flipped", pytest.param("truncated", marks=pytest.mark.complete)])
def test_a_damaged_checkpoint_is_named_and_the_one_before_taken(how, tmp_path, finished, capsys):
    workdir = shutil.copytree(finished, tmp_path / "run")
    damage(workdir / "checkpoints" / "8", how)
    assert tiny.launched(workdir) == 0
    said = capsys.readouterr().out
    assert "checkpoints/8 is damaged" in said
    assert "resuming from step 4" in said
    tiny.assert_same(tiny.state(workdir, 8), tiny.state(finished, 8))
    assert tiny.lines(workdir) == tiny.lines(finished)


def test_more_steps_go_on_and_fewer_are_refused(tmp_path, finished, capsys):
    workdir = shutil.copytree(finished, tmp_path / "run")
    assert tiny.launched(workdir, "steps=9") == 0
    assert [step for step, _ in tiny.lines(workdir)] == list(range(1, 10))
    assert tiny.launched(workdir, "steps=4") == 2
    assert "is at step 9, beyond config.steps=4" in capsys.readouterr().err
    assert json.loads((workdir / "config.json").read_text())["steps"] == 9
