import importlib.util

import numpy as np
import pytest
from fresh import fresh

from fmjax import text
from fmjax.data import wikipedia as module
from fmjax.data.wikipedia import plain, wikipedia

CODEC = text.characters()


@pytest.fixture(scope="module")
def data():
    return wikipedia(codec=CODEC, batch_size=4)


def test_whole_articles_are_held_out():
    train, test = module.texts("train"), module.texts("test")
    assert (len(train), len(test)) == (95, 11)
    assert (sum(map(len, train)), sum(map(len, test))) == (2_581_261, 247_832)
    assert set("".join(train + test)) == set(text.LETTERS)
    assert not any("  " in article or article != article.strip() for article in train + test)
    assert train[0].startswith("autism is a neurodevelopmental disorder characterized by")
    assert test[0].startswith("anarchism is a political philosophy that advocates self governed")
    # sixty characters in a row are of one side only, but for what is quoted or repeated
    line = " ".join(train)
    parts = [t[i : i + 60] for t in test for i in range(0, len(t) - 60, 600)]
    assert sum(part in line for part in parts) < 0.01 * len(parts)


def test_nothing_of_the_markup_is_left():
    words = " ".join(module.texts("train") + module.texts("test")).split()
    for word in ("nbsp", "colspan", "rowspan", "bgcolor", "px", "https", "jpg", "ndash"):
        assert words.count(word) < 3, word


def test_windows_of_the_articles(data):
    assert dict(data.splits) == {"train": 10083, "test": 968}
    assert (data.spec.x1.shape, data.spec.x1.dtype, data.spec.cond) == ((256,), np.int32, None)
    line = " ".join(module.texts("test")) + " "
    for x in data.take("test", 20).x1:
        assert CODEC.write(x) in line
    whole = " ".join(module.texts("train")) + " "
    batch = data.batch("train", 3)
    assert all(CODEC.write(x) in whole + whole[:256] for x in batch.x1)
    np.testing.assert_array_equal(data.batch("train", 3).x1, batch.x1)
    other = wikipedia(codec=CODEC, batch_size=4, seed=1)
    np.testing.assert_array_equal(other.take("test", 5).x1, data.take("test", 5).x1)
    assert (other.batch("train", 3).x1 != batch.x1).any()


@pytest.mark.parametrize(
    ("markup", "expected"),
    [
        ("A [[dog]] and [[Felis|cats]]; [[Category:X]]", "A dog and cats;"),
        ("[[File:a.jpg|thumb|A [[dog]] {{x}}]]So<ref name=a>b</ref><ref name='a'/> it", "So it"),
        ("of {{convert|5|km|mi}}, {{convert|4|to|6|m}}, {{lang|fr|été}}", "of 5 km, 4 to 6 m, été"),
        ("a {{Infobox|x={{y|[[z]]}}}} b {{lang-de|Haus}}", "a b Haus"),
        ("a\n{| class=x\n| b\n{|\n| c\n|}\n|}\nd<!-- e\n -->", "a d"),
        ("== See also ==\n* [[x]]\n=== y ===\nz\n== Next ==\nIt is.", "It is."),
        ("''It'' is '''so'''.&nbsp;[http://x.org A site] <b>q</b>", "It is so. A site q"),
        ("E <math>mc^2</math> is\n* J. Doe, ISBN 123\n* item", "E is * item"),
        ("http://a.b/c d [[fr:Chat]]", "d"),
    ],
)
def test_sentences_come_out_of_their_markup(markup, expected):
    assert " ".join(plain(markup).split()) == expected


def test_bad_requests_are_refused(monkeypatch):
    with pytest.raises(ValueError, match="no split 'valid'; there are: test, train"):
        module.texts("valid")
    unread = fresh(module)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"package gensim is missing\. pip install --no-deps"):
        unread.texts("test")
