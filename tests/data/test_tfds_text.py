import numpy as np
import pytest
import tensorflow_datasets as tfds

from fmjax import text
from fmjax.data.tfds_text import tfds_text

CODEC = text.characters(end=True)
TEXTS = ["the cat sat", "a dog", "one two three four", "so it was", "it is", "yes", "no", "x y"]


class Sentences(tfds.core.GeneratorBasedBuilder):
    """Eight texts to train and two to test, with the parity of their row as a class."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "text": tfds.features.Text(),
            "label": tfds.features.ClassLabel(names=["even", "odd"]),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {
            "train": self._generate_examples(TEXTS),
            "test": self._generate_examples(["à", "b"]),
        }

    def _generate_examples(self, texts):
        for i, words in enumerate(texts):
            yield i, {"text": words, "label": i % 2}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("sentences")
    Sentences(data_dir=path).download_and_prepare(file_format="array_record")
    return path


def made(data_dir, **options):
    options = {"codec": CODEC, "batch_size": 4, "length": 12, "clean": text.letters} | options
    return tfds_text(Sentences, data_dir=data_dir, **options)


def test_an_example_is_a_text_filled_or_cut_at_a_word(data_dir):
    data = made(data_dir, label="label")
    assert dict(data.splits) == {"train": 8, "test": 2}
    train = data.take("train", None)
    written = dict(zip(map(CODEC.write, train.x1), train.cond.tolist(), strict=True))
    assert written == {t if i != 2 else "one two": i % 2 for i, t in enumerate(TEXTS)}
    assert {CODEC.write(x) for x in data.take("test", None).x1} == {"a", "b"}
    assert (data.spec.x1.shape, data.spec.x1.dtype) == ((12,), np.int32)
    assert (data.null, data.names, data.read("odd")) == (2, ("even", "odd"), 1)
    assert made(data_dir).spec.cond is None


def test_batches_are_pure_and_shared_by_processes(data_dir):
    data = made(data_dir)
    whole = [data.batch("train", s).x1 for s in range(5)]
    np.testing.assert_array_equal(made(data_dir).batch("train", 3).x1, whole[3])
    np.testing.assert_array_equal(data.batch("train", 1).x1, whole[1])
    for epoch in (whole[0:2], whole[2:4]):
        assert len({CODEC.write(x) for x in np.concatenate(epoch)}) == 8
    shares = [made(data_dir, process=(i, 2)) for i in range(2)]
    for step, expected in enumerate(whole):
        together = np.concatenate([share.batch("train", step).x1 for share in shares])
        np.testing.assert_array_equal(together, expected)


def test_splits_may_be_slices_and_contents_follow_them(data_dir):
    first = made(data_dir, splits={"train": "train[:6]", "test": "train[6:]"})
    assert dict(first.splits) == {"train": 6, "test": 2}
    assert first.contents("train") != made(data_dir).contents("train")


def test_bad_requests_are_refused(data_dir, tmp_path):
    with pytest.raises(ValueError, match="has no feature 'words'; it has: label, text"):
        made(data_dir, text="words")
    with pytest.raises(ValueError, match="give it end=True"):
        made(data_dir, codec=text.characters())
    with pytest.raises(ValueError, match="are not in the alphabet"):
        made(data_dir, clean=None).take("test", None)
    with pytest.raises(FileNotFoundError, match="--mode=prepare"):
        made(tmp_path)
