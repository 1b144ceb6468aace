import json
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds

from fmjax import reading
from fmjax.data import _tfds
from fmjax.data.digits import SklearnDigits
from fmjax.data.grain_source import tfds_grain
from fmjax.data.tfds_memory import tfds_in_memory

# 14 rows, so that epochs are short
SPLITS = {"train": "train[:14]", "test": "test[:5]"}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("digits")
    SklearnDigits(data_dir=path).download_and_prepare(file_format="array_record")
    return path


def data(data_dir, factory=tfds_grain, **kw):
    return factory(SklearnDigits, data_dir=data_dir, **({"batch_size": 4, "splits": SPLITS} | kw))


def ids(batch):
    """One number an image."""
    return (batch.x1.reshape(len(batch.x1), -1) @ np.arange(64)).astype(int).tolist()


def test_it_is_the_set_in_memory_read_otherwise(data_dir):
    grain, memory = data(data_dir), data(data_dir, tfds_in_memory)
    assert grain.spec == memory.spec
    assert dict(grain.splits) == dict(memory.splits) == {"train": 14, "test": 5}
    assert (grain.null, grain.names) == (memory.null, memory.names) == (10, tuple("0123456789"))
    assert grain.read("7") == 7
    for n in (3, None):
        ours, theirs = grain.take("train", n), memory.take("train", n)
        np.testing.assert_array_equal(ours.x1, theirs.x1)
        np.testing.assert_array_equal(ours.cond, theirs.cond)
        assert ours.x1.dtype == theirs.x1.dtype
        assert ours.cond.dtype == theirs.cond.dtype


def test_rows_are_read_without_those_before_them(data_dir):
    decoded = []

    def transform(image):
        decoded.append(None)
        return np.float32(image)

    made = data(data_dir, transform=transform)
    whole = ids(made.take("train", None))
    decoded.clear()
    parts = list(reading.chunks(made.take, "train", 14, 5))
    assert [len(part.x1) for part in parts] == [5, 5, 4]
    assert [i for part in parts for i in ids(part)] == whole
    assert len(decoded) == 14
    (picked,) = reading.picked(made.take, "train", 14, np.asarray([13, 2]))
    assert ids(picked) == [whole[13], whole[2]]
    assert len(decoded) == 16


def test_labels_follow_their_images(data_dir):
    made = data(data_dir)
    everything = made.take("train", None)
    label = dict(zip(ids(everything), everything.cond.tolist(), strict=True))
    batch = made.batch("train", 2)
    assert [label[i] for i in ids(batch)] == batch.cond.tolist()


@pytest.mark.parametrize("batch_size", [4, 14, 30])
def test_every_epoch_shows_every_row_exactly_once(data_dir, batch_size):
    made, epochs = data(data_dir, batch_size=batch_size), 4
    everything = sorted(ids(made.take("train", None)))
    steps = -(-epochs * 14 // batch_size)
    stream = [i for s in range(steps) for i in ids(made.batch("train", s))]
    shown = [stream[e * 14 : (e + 1) * 14] for e in range(epochs)]
    assert [sorted(epoch) for epoch in shown] == [everything] * epochs
    assert len({tuple(epoch) for epoch in shown}) == epochs


def test_batch_is_a_pure_function_of_split_and_step(data_dir):
    made, again = data(data_dir), data(data_dir, workers=1, ahead=1)
    in_order = [ids(made.batch("train", s)) for s in range(8)]
    for s in (5, 6, 6, 0, 7, 3, 4):
        again.batch("test", s)
        assert ids(again.batch("train", s)) == in_order[s]
    assert ids(data(data_dir, seed=1).batch("train", 0)) != in_order[0]


@pytest.mark.parametrize("count", [2, 4])
def test_processes_together_see_the_global_batch_in_its_order(data_dir, count):
    whole = data(data_dir)
    shares = [data(data_dir, process=(i, count)) for i in range(count)]
    for step in (0, 1, 2, 9):
        together = [i for share in shares for i in ids(share.batch("train", step))]
        assert together == ids(whole.batch("train", step))


def test_steps_in_order_are_read_ahead_once(data_dir):
    decoded = []

    def transform(image):
        decoded.append(None)
        return np.float32(image)

    made = data(data_dir, transform=transform, ahead=2, workers=1)
    decoded.clear()
    for step in range(10):
        made.batch("train", step)
    # a reader that started anew at every step would decode three times as much
    assert 10 * 4 <= len(decoded) <= (10 + 4) * 4


def test_a_failed_read_is_raised_and_can_be_tried_again(data_dir):
    broken = []

    def transform(image):
        if broken:
            raise OSError("disk gone")
        return np.float32(image)

    made = data(data_dir, transform=transform, ahead=1, workers=1)
    made.batch("train", 2)
    broken.append(True)
    step = 3
    with pytest.raises(OSError, match="disk gone"):  # noqa: PT012
        while step < 9:  # the first few were read ahead
            made.batch("train", step)
            step += 1
    broken.clear()
    assert ids(made.batch("train", step)) == ids(data(data_dir).batch("train", step))


def test_bad_requests_are_refused(data_dir, tmp_path):
    made = data(data_dir)
    for call in (made.batch, made.take):
        with pytest.raises(ValueError, match="no split 'valid'; there are: test, train"):
            call("valid", 1)
    with pytest.raises(ValueError, match="6 rows asked of split 'test', which has 5"):
        made.take("test", 6)
    with pytest.raises(ValueError, match=r"batch_size=4.*multiple of 3"):
        data(data_dir, process=(0, 3))
    with pytest.raises(FileNotFoundError, match="--mode=prepare"):
        data(tmp_path, prepare=False)


@pytest.mark.parametrize(
    ("name", "version", "shape"),
    [("mnist", "3.0.1", (28, 28, 1)), ("cifar10", "3.0.2", (32, 32, 3))],
)
def test_sets_of_the_literature_by_name(tmp_path, name, version, shape):
    # what a prepared set leaves on the disk; its examples are TFDS's random ones
    info = {
        "name": name,
        "version": version,
        "fileFormat": "array_record",
        "splits": [
            {
                "name": split,
                "shardLengths": ["20"],
                "numBytes": "1",
                "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
            }
            for split in ("train", "test")
        ],
    }
    folder = tmp_path / name / version
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text(json.dumps(info))
    with tfds.testing.mock_data(num_examples=20, data_dir=str(tmp_path)):
        made = tfds_grain(name, data_dir=tmp_path, batch_size=8, prepare=False)
        assert dict(made.splits) == {"train": 20, "test": 20}
        assert made.spec.x1.shape == shape
        assert made.null == len(made.names) == 10
        batch = made.batch("train", 3)
        assert batch.x1.shape == (8, *shape)
        assert batch.x1.dtype == np.float32
        assert batch.cond.shape == (8,)
        assert batch.cond.dtype == np.int32
        np.testing.assert_array_equal(made.batch("train", 3).x1, batch.x1)


def test_contents_are_known_by_version_slice_and_files(data_dir, tmp_path):
    first = data(data_dir).contents("train")
    assert data(data_dir, seed=2).contents("train") == first != data(data_dir).contents("test")
    other = {**SPLITS, "train": "train[1:15]"}
    assert data(data_dir, splits=other).contents("train") != first
    copy = tmp_path / "copy"
    shutil.copytree(data_dir, copy)
    assert data(copy).contents("train") == first
    for file in copy.rglob("*train.array_record*"):
        file.write_bytes(file.read_bytes() + b"0")
    made = _tfds.opened(SklearnDigits, data_dir=copy, prepare=False)
    assert _tfds.contents_of(made, SPLITS)("train") != first
