"""A run keeps what its codec was made of, and is not continued or used with another by mistake."""

import json
import shutil

import pytest
import tiny

import fmjax
from fmjax import inference, reflow, run, settings
from fmjax.config import ConfigError


@pytest.fixture
def trained(finished, tmp_path):
    """A run whose codec's file said 2, as `old` still does; by now `weight` says 3."""
    workdir = shutil.copytree(finished, tmp_path / "run")
    stored = json.loads((workdir / "config.json").read_text())
    stored["codec"] = {"name": "watched:of_a_file", "file": str(tmp_path / "weight")}
    (workdir / "config.json").write_text(json.dumps(stored))
    (tmp_path / "weight").write_text("3")
    (tmp_path / "old").write_text("2")
    settings.record_codec(workdir, "the number 2")
    return workdir


def goes_on(workdir, weight, **options):
    """Resume the run, which has no steps left, with the codec of that file."""
    file = workdir.with_name(weight)
    changes = ("codec=watched:of_a_file", f"codec.file={file}")
    config = settings.load_config(tiny.FILE, changes)
    return run.train_run(config, workdir, say=lambda text: None, **options) == 0


@pytest.mark.parametrize(
    "use",
    [
        lambda workdir: goes_on(workdir, "weight"),
        fmjax.load,
        inference.sample_run,
        inference.evaluate_run,
        lambda workdir: reflow.reflow(run=workdir, n=4, batch_size=2),
    ],
    ids=("train", "load", "sample", "evaluate", "reflow"),
)
def test_weights_that_changed_beneath_a_run_are_refused(use, trained):
    before = {f: f.read_bytes() for f in trained.iterdir() if f.is_file()}
    recorded = r"trained with a codec that depends on the number 2… \(codec\.json\); "
    came = r".*watched:of_a_file.* depends on the number 3….*--config\.codec\.step.*allow_changes"
    with pytest.raises(ConfigError, match=recorded + came):
        use(trained)
    assert {f: f.read_bytes() for f in trained.iterdir() if f.is_file()} == before


def test_the_same_weights_by_another_name_go_on(trained):
    old = f"codec.file={trained.with_name('old')}"
    assert fmjax.load(trained, changes=[old]).codec.depends_on == "the number 2"
    assert goes_on(trained, "old")
    fmjax.load(trained)


def test_a_change_that_is_allowed_is_recorded(trained):
    assert fmjax.load(trained, allow_changes=True).codec.depends_on == "the number 3"
    assert goes_on(trained, "weight", allow_changes=True)
    assert settings.recorded_codec(trained) == "the number 3"
    settings.record_codec(trained, "")  # as of a codec without weights
    assert not (trained / "codec.json").exists()


@pytest.mark.parametrize("mode", ["sample", "evaluate"])
def test_a_flag_allows_it_in_all_modes(mode, trained, capsys):
    options = {"mode": mode, "config": None}
    assert tiny.launched(trained, **options) == 2
    assert "depends on the number 3…" in capsys.readouterr().err
    assert tiny.launched(trained, **options, flags=["--allow-changes", "--ema=0.5"]) == 2
    assert "no EMA of decay 0.5" in capsys.readouterr().err  # what is looked at next


def test_a_run_without_a_record_goes_on_by_the_names(trained):
    (trained / "codec.json").unlink()
    fmjax.load(trained)
    with pytest.raises(ConfigError, match="another config"):
        goes_on(trained, "old")


def test_a_teacher_has_the_codec_that_it_was_trained_with(trained):
    def teacher(weight):
        changes = ("codec=watched:of_a_file", f"codec.file={trained.with_name(weight)}")
        config = settings.load_config(tiny.FILE, (*changes, f"teacher={trained}"))
        student = trained.with_name("student")
        return run.taught(inference.assembled(student, config)).teacher

    with pytest.raises(ConfigError, match=r"made of the number 2… and the number 3…; a teacher"):
        teacher("weight")
    assert teacher("old") is not None
