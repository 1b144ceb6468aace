"""The command line: modes, and what bad input is told."""

import json
import os
import shutil

import numpy as np
import pytest
import tiny

import launch
from fmjax import checkpoint, settings


def refused(capsys, *args, **options):
    """What is said on the error output when a run ends with exit code 2."""
    assert tiny.launched(*args, **options) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("stepz=5", "no field config.stepz; did you mean 'steps'?"),
        ("optimizer.learning_rat=1.0", "no argument 'learning_rat'; did you mean 'learning_rate'?"),
        ("steps=many", "config.steps is of type int (now 8); got 'many'"),
        ("model.name=fmjax.models.resmpl:resmlp", "cannot import 'fmjax.models.resmpl'"),
        ("model.name=fmjax.models.resmlp:resmpl", "has no 'resmpl'; did you mean 'resmlp'?"),
        ("loss=/nowhere/mine.py:huber", "no file /nowhere/mine.py"),
        ("batch_size=13", "13 does not divide over 8 devices × 1 micro-batches; choose 8 or 16"),
        ("steps_per_call=3", "config.steps=8 is not a multiple of steps_per_call=3; try 9"),
        ("parallel.devices=9", "devices=9, but JAX sees 8"),
        ("checkpoint.best_mode=least", "config.checkpoint: keep_last must be at least 1"),
        ("teacher=nowhere", "nowhere holds no run"),
        ("init_from=nowhere", "nowhere holds no run"),
    ],
)
def test_a_bad_config_is_refused_and_leaves_the_directory_to_the_next(
    change, message, tmp_path, capsys
):
    changes = ("parallel.devices=8", change) if "batch" in change else (change,)
    assert message in refused(capsys, tmp_path / "run", *changes)
    assert not (tmp_path / "run" / "config.json").exists()


def test_weights_that_are_not_there_are_named_and_where_to_get_them(tmp_path, capsys):
    changes = ("codec=fmjax.pretrained.sd_vae:codec", "codec.path=/nowhere/vae")
    said = refused(capsys, tmp_path / "run", *changes)
    assert (
        "config.codec: Stable Diffusion's autoencoder: there is no file /nowhere/vae. Get" in said
    )


def test_a_directory_of_another_config_is_refused_unless_told_otherwise(tmp_path, finished, capsys):
    workdir = shutil.copytree(finished, tmp_path / "run")
    before = (workdir / "config.json").read_text()
    changes = ("loss.drop=0.5", "steps=9")
    said = refused(capsys, workdir, *changes)
    assert "holds a run of another config (loss: " in said
    assert "--allow-changes" in said
    assert "Choose another --workdir" in said
    # another model does not fit what is saved, even then; nothing of the run is lost
    other = refused(capsys, workdir, "model.width=32", flags=["--allow-changes"])
    assert "holds another state" in other
    assert (workdir / "config.json").read_text() == before
    assert tiny.launched(workdir, *changes, flags=["--allow-changes"]) == 0
    assert json.loads((workdir / "config.json").read_text())["loss"]["drop"] == 0.5


@pytest.mark.parametrize("below", ["file/run", "file"])
def test_a_directory_that_cannot_be_written_is_refused(below, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    said = refused(capsys, tmp_path / below)
    assert "cannot write to the work directory" in said
    assert "choose another --workdir" in said


def test_data_that_are_not_prepared_are_refused_and_how_to_prepare_them_said(tmp_path, capsys):
    changes = ("data=fmjax.data.digits:digits", "data.prepare=False", f"data_dir={tmp_path}/data")
    said = refused(capsys, tmp_path / "run", *changes)
    assert "is not prepared" in said
    assert "--mode=prepare" in said


def test_prepare_makes_the_data_and_nothing_else(tmp_path, capsys):
    changes = ("data=fmjax.data.digits:digits", f"data_dir={tmp_path}/data")
    argv = ["--mode=prepare", f"--config={tiny.FILE}", *(f"--config.{c}" for c in changes)]
    assert launch.main(argv) == 0
    assert "'train': 1437" in capsys.readouterr().out
    assert [p.name for p in tmp_path.iterdir()] == ["data"]


def test_a_loss_that_is_not_finite_exits_with_3_and_keeps_the_checkpoints(tmp_path, capsys):
    changes = (f"data={tiny.FILE}:spiked", "data.at=6", "save_every=2")
    assert tiny.launched(tmp_path / "run", *changes) == 3
    assert "error: loss is inf at step 6" in capsys.readouterr().err
    assert checkpoint.steps(tmp_path / "run" / "checkpoints") == [4, 6]


def test_a_full_disk_is_named_and_the_run_goes_on_when_there_is_room(
    tmp_path, finished, capsys, monkeypatch
):
    workdir = tmp_path / "run"
    save = checkpoint.ocp.save_async

    def full(path, *args, **kw):
        if path.name == "8":
            raise OSError(28, os.strerror(28), str(path))
        return save(path, *args, **kw)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.ocp, "save_async", full)
        said = refused(capsys, workdir)
    assert "disk full while saving step 8" in said
    assert "last good checkpoint is step 4" in said
    assert tiny.launched(workdir) == 0
    tiny.assert_same(tiny.state(workdir, 8), tiny.state(finished, 8))


def test_a_full_disk_under_the_metrics_is_named_too(tmp_path, capsys, monkeypatch):
    def full(*args):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("fmjax.record.Metrics.write", full)
    assert "disk full" in refused(capsys, tmp_path / "run")


def test_sample_reads_conditions_by_name_in_turn(tmp_path, finished, capsys):
    workdir = shutil.copytree(finished, tmp_path / "run")
    flags = ["--n=5", "--cond=right,left", "--seed=3"]
    assert tiny.launched(workdir, mode="sample", config=None, flags=flags) == 0
    assert "samples.npz" in capsys.readouterr().out
    made = np.load(workdir / "samples" / "samples.npz")
    np.testing.assert_array_equal(made["cond"], [1, 0, 1, 0, 1])
    assert made["x1"].shape == (5, 2)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--cond=11"], "conditions: there is no class '11'; there are: left, right"),
        (["--n=0"], "--n=0: expected at least 1"),
    ],
)
def test_bad_requests_for_samples_are_refused(flags, message, finished, capsys):
    assert message in refused(capsys, finished, mode="sample", config=None, flags=flags)


@pytest.mark.parametrize("mode", ["sample", "evaluate"])
def test_a_directory_without_a_run_is_refused(mode, tmp_path, capsys):
    assert "holds no run" in refused(capsys, tmp_path, mode=mode, config=None)


def test_evaluate_takes_another_sampler_and_leaves_the_record_alone(tmp_path, finished, capsys):
    workdir = shutil.copytree(finished, tmp_path / "run")
    before = (workdir / "record.json").read_text()
    assert tiny.launched(workdir, "sampler.steps=3", mode="evaluate", config=None) == 0
    assert "mean_gap" in capsys.readouterr().out
    found = json.loads((workdir / "evaluation" / "record.json").read_text())
    assert found["metrics"]["nfe"] == 3
    assert found["depends_on"]["sampler"]["steps"] == 3
    assert (workdir / "record.json").read_text() == before


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--work=x"], "unknown argument '--work=x'"),
        (["--workdir=x"], "--mode=train needs --config"),
        (["--config=x"], "--mode=train needs --workdir"),
        (["--mode=sample"], "--mode=sample needs --workdir"),
        (["--mode=run"], "invalid choice: 'run'"),
        (["--workdir=x", "--n=few"], "invalid int value"),
    ],
)
def test_wrong_flags_exit_with_2(argv, message, capsys):
    with pytest.raises(SystemExit) as stop:
        launch.main(argv)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_help_says_what_there_is(capsys):
    with pytest.raises(SystemExit) as stop:
        launch.main(["--help"])
    assert stop.value.code == 0
    said = capsys.readouterr().out
    for word in ("prepare", "sample", "evaluate", "--config.steps=1000", "Exit codes", "75"):
        assert word in said


def test_an_accelerator_that_jax_does_not_use_is_warned_about(monkeypatch, capsys):
    exists = os.path.exists
    monkeypatch.setattr(os.path, "exists", lambda p: p == "/dev/nvidia0" or exists(p))
    args, _ = launch.parse(["--mode=sample", "--workdir=x"])
    launch.start_jax(args)
    said = capsys.readouterr()
    assert said.out.startswith("8 × cpu (cpu), JAX ")
    assert "there is an accelerator (/dev/nvidia0), but this JAX runs on the CPU" in said.err


def test_compiled_programs_are_kept_in_the_users_cache_unless_told_otherwise(monkeypatch):
    import jax

    kept = jax.config.jax_compilation_cache_dir
    try:
        for flags, expected in ((["--no-cache"], None), ([], "/somewhere/fmjax/xla")):
            jax.config.update("jax_compilation_cache_dir", None)
            monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
            launch.start_jax(launch.parse(["--mode=sample", "--workdir=x", *flags])[0])
            assert jax.config.jax_compilation_cache_dir == expected
    finally:
        jax.config.update("jax_compilation_cache_dir", kept)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def test_a_profile_is_written(tmp_path):
    flags = [f"--profile={tmp_path / 'trace'}"]
    assert tiny.launched(tmp_path / "run", mode="prepare", flags=flags) == 0
    assert list((tmp_path / "trace").rglob("*.xplane.pb"))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--config=a.py", "--workdir=w", "--seed=1"], "--seed is for --mode=sample"),
        (["--mode=evaluate", "--workdir=w", "--n=3"], "--n is for --mode=sample"),
        (["--mode=sample", "--workdir=w", "--config=a.py"], "--config is for --mode=train"),
        (["--config=a.py", "--workdir=w", "--processes=2"], "belong together"),
    ],
)
def test_flags_that_would_be_ignored_are_refused(flags, words, capsys):
    with pytest.raises(SystemExit) as stopped:
        launch.main(flags)
    assert stopped.value.code == 2
    assert words in capsys.readouterr().err


def test_the_changes_that_help_shows_fit_the_main_job():
    shown = [w for line in launch.__doc__.splitlines() for w in line.split() if "--config." in w]
    config = str(tiny.FILE.parent.parent / "configs" / "digits.py")
    _, changes = launch.parse([f"--config={config}", "--workdir=w", *shown])
    assert len(changes) >= 5
    settings.load_config(config, changes)
