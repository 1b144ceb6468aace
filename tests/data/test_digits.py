import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from fmjax.data.digits import SklearnDigits, digits
from fmjax.data.tfds_memory import tfds_in_memory


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("digits")
    digits(data_dir=path, batch_size=4)
    return path


def test_digits_are_scikit_learns_unchanged(data_dir):
    from sklearn import datasets

    data = digits(data_dir=data_dir, batch_size=4)
    splits = [data.take(split, None) for split in ("train", "test")]
    ours = np.concatenate([np.c_[s.x1.reshape(len(s.x1), -1), s.cond] for s in splits])
    theirs = np.c_[datasets.load_digits(return_X_y=True)]
    np.testing.assert_array_equal(ours[np.lexsort(ours.T)], theirs[np.lexsort(theirs.T)])


def test_splits_are_stratified_and_do_not_depend_on_the_seed(data_dir):
    first, other = (digits(data_dir=data_dir, batch_size=4, seed=seed) for seed in (0, 1))
    train, test = first.take("train", None), first.take("test", None)
    assert dict(first.splits) == {"train": len(train.x1), "test": len(test.x1)}
    assert (len(train.x1), len(test.x1)) == (1437, 360)
    share = np.bincount(test.cond) / (np.bincount(train.cond) + np.bincount(test.cond))
    np.testing.assert_allclose(share, 0.2, atol=0.005)
    np.testing.assert_array_equal(other.take("test", None).x1, test.x1)
    assert (first.batch("train", 0).x1 != other.batch("train", 0).x1).any()


def test_spec_classes_and_null(data_dir):
    data = digits(data_dir=data_dir, batch_size=6, process=(1, 2))
    batch = data.batch("train", 0)
    assert batch.x1.shape == (3, *data.spec.x1.shape) == (3, 8, 8, 1)
    assert batch.x1.dtype == data.spec.x1.dtype == np.float32
    assert batch.cond.dtype == data.spec.cond.dtype == np.int32
    assert data.null == 10
    assert data.null.dtype == np.int32
    assert data.names == tuple("0123456789")
    assert data.read("3") == 3
    with pytest.raises(ValueError, match="no class 'three'; there are: 0, 1, 2"):
        data.read("three")


def test_a_set_that_is_not_prepared_says_how(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"sklearn_digits.*--mode=prepare") as error:
        digits(data_dir=tmp_path, batch_size=4, prepare=False)
    assert str(tmp_path) in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_prepared_set_is_read_without_preparing(data_dir, monkeypatch):
    monkeypatch.setattr(SklearnDigits, "download_and_prepare", None)
    monkeypatch.setattr(tempfile, "mkdtemp", None)
    for prepare in (False, True):
        assert digits(data_dir=data_dir, batch_size=4, prepare=prepare).splits["test"] == 360


def test_an_unwritable_data_dir_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"cannot write.*file/below.*--config.data_dir"):
        digits(data_dir=tmp_path / "file" / "below", batch_size=4)


def test_home_is_expanded(data_dir, monkeypatch):
    monkeypatch.setenv("HOME", str(data_dir.parent))
    digits(data_dir=f"~/{data_dir.name}", batch_size=4, prepare=False)


def test_slices_and_unlabelled_sets(data_dir):
    data = tfds_in_memory(
        SklearnDigits,
        data_dir=data_dir,
        batch_size=4,
        splits={"train": "train[:10%]", "valid": "train[10%:]"},
        label=None,
        transform=lambda image: image.ravel() / np.float32(16),
    )
    assert data.splits["train"] == 144
    assert data.splits["train"] + data.splits["valid"] == 1437
    assert data.spec.cond is data.null is data.read is None
    assert data.take("train", None).x1.shape == (144, 64)
    assert data.take("train", None).x1.max() == 1


def test_unknown_features_are_listed(data_dir):
    with pytest.raises(ValueError, match="no feature 'class'; it has: image, label"):
        tfds_in_memory(SklearnDigits, data_dir=data_dir, batch_size=4, label="class")


def test_another_file_format_is_refused(data_dir, tmp_path):
    shutil.copytree(data_dir, tmp_path / "copy")
    info = tmp_path / "copy/sklearn_digits/1.0.0/dataset_info.json"
    info.write_text(info.read_text().replace('"array_record"', '"tfrecord"'))
    with pytest.raises(ValueError, match="format tfrecord; expected array_record"):
        digits(data_dir=tmp_path / "copy", batch_size=4)


class NeedsAPackage(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = tfds.features.FeaturesDict({"image": tfds.features.Scalar(np.int32)})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        import a_package_that_nobody_has  # noqa: F401

        yield 0, {"image": 0}


def test_a_set_that_cannot_be_prepared_here_leaves_nothing(tmp_path):
    with pytest.raises(ImportError, match=r"'needs_a_package' needs a package.*tfds build"):
        tfds_in_memory(NeedsAPackage, data_dir=tmp_path, batch_size=1, prepare=True)
    assert not list(tmp_path.glob(".preparing*"))


def before_the_rename(monkeypatch, data_dir, do):
    """`do(made, final)` before the prepared set gets its name; the calls."""
    real, calls = os.rename, []

    def rename(made, final, **options):
        # TFDS renames, too, within the temporary folder
        if Path(final).parent.parent == data_dir:
            calls.append(final)
            do(made, final)
        real(made, final, **options)

    monkeypatch.setattr(os, "rename", rename)
    return calls


def test_a_failed_rename_is_not_hidden(tmp_path, monkeypatch):
    calls = before_the_rename(monkeypatch, tmp_path, lambda made, final: shutil.rmtree(made))
    with pytest.raises(FileNotFoundError, match=r"1\.0\.0' -> '"):
        digits(data_dir=tmp_path, batch_size=4)
    assert len(calls) == 1


RACE = """
import os, pathlib, sys, time
from fmjax.data.digits import digits
assert not {"tensorflow", "grain", "sklearn"} & set(sys.modules), "imported for nothing"
import sklearn.datasets, sklearn.model_selection  # so that the four start close together
data_dir, results = map(pathlib.Path, sys.argv[1:])
start = time.time() + 0.2
for i in range(4):
    if os.fork() == 0:
        time.sleep(start - time.time())
        total = digits(data_dir=data_dir, batch_size=4).take("train", None).x1.sum()
        (results / str(i)).write_text(str(float(total)))
        os._exit(0)
sys.exit(any([os.wait()[1] for _ in range(4)]))
"""


def test_four_processes_may_prepare_at_once(tmp_path, data_dir):
    shared, results = tmp_path / "shared", tmp_path / "results"
    results.mkdir()
    command = [sys.executable, "-c", RACE, str(shared), str(results)]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=env, text=True, capture_output=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    expected = str(float(digits(data_dir=data_dir, batch_size=4).take("train", None).x1.sum()))
    assert [(results / str(i)).read_text() for i in range(4)] == [expected] * 4
    assert not list(shared.glob(".preparing*"))
    assert [p.name for p in (shared / "sklearn_digits").iterdir()] == ["1.0.0"]
    # others of the group may read what one prepared
    assert stat.S_IMODE((shared / "sklearn_digits/1.0.0").stat().st_mode) & stat.S_IRGRP


def test_the_loser_of_a_race_discards_its_copy(tmp_path, monkeypatch):
    calls = before_the_rename(monkeypatch, tmp_path, shutil.copytree)  # another was first
    assert digits(data_dir=tmp_path, batch_size=4).splits["test"] == 360
    assert len(calls) == 1
    assert not list(tmp_path.glob(".preparing*"))
