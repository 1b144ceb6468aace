import numpy as np
import pytest

from fmjax import codecs
from fmjax.metrics import copied


def slow(rows, train):
    """The same by looking for every passage in every row."""
    rows, train = (["".join(map(chr, row + 97)) for row in x] for x in (rows, train))
    return [
        max(
            b - a
            for a in range(len(row))
            for b in range(a, len(row) + 1)
            if any(row[a:b] in other for other in train)
        )
        for row in rows
    ]


def letters(*texts):
    return np.array([[ord(c) - 97 for c in t] for t in texts], np.int32)


def test_by_hand():
    train = letters("abcdefgh", "hgfedcba")
    rows = letters("xxabcdyy", "abcdefgh", "zzzzzzzz", "ghhgxxxx", "xxxxxxgh")
    # "ghhg" goes on from one row of train to the next: only half of it counts
    assert copied.longest_copied(rows, train).tolist() == [4, 8, 0, 2, 2]


def test_what_fills_a_row_after_its_end_is_no_text():
    train, rows = letters("abczzzzz", "dezabcde"), letters("xbczzzzz", "zzzzzzzz", "abcdexxx")
    assert copied.longest_copied(rows, train).tolist() == [7, 5, 5]
    assert copied.longest_copied(rows, train, end=25).tolist() == [2, 0, 3]


@pytest.mark.parametrize("values", [2, 3, 6])
@pytest.mark.parametrize("widths", [(12, 12), (7, 20), (9, 1)])
def test_it_is_what_a_search_finds(values, widths):
    rng = np.random.default_rng(values)
    rows = rng.integers(0, values, (20, widths[0]))
    train = rng.integers(0, values, (5, widths[1]))
    assert copied.longest_copied(rows, train).tolist() == slow(rows, train)
    assert copied.longest_copied(train, train).tolist() == [widths[1]] * 5


def test_evaluator_has_real_rows_beside_samples(key, make_data, make_sample):
    rng = np.random.default_rng(0)
    train, test = rng.integers(0, 26, (200, 32)), rng.integers(0, 26, (10, 32))
    data = make_data({"train": (train, None), "test": (test, None)})
    half = np.concatenate([train[:10, 5:21], rng.integers(0, 26, (10, 16))], axis=1)
    half[0] = train[7]
    out = copied.copied(None, key, data, make_sample(half), n=8)
    assert (out["copied_max"], out["copied_width"], out["copied_n"]) == (32, 32, 8)
    assert 16 <= out["copied_mean"] - 16 / 8 <= 18
    assert out["copied_max_real"] < 8
    assert (
        copied.copied(None, key, data, make_sample(test))["copied_mean_real"]
        == (copied.copied(None, key, data, make_sample(test))["copied_mean"])
    )
    assert all(isinstance(value, float) for value in out.values())
    codec = codecs.identity()._replace(end=int(half[0, 9]))
    ended = copied.copied(None, key, data, make_sample(half[:1]), n=1, codec=codec)
    assert ended["copied_max"] <= 9


def test_what_cannot_be_copied_is_refused(key, normal, fresh, make_data, make_sample):
    with pytest.raises(ValueError, match=r"whole numbers \[b, n\], got float32\[200, 1, 2\]"):
        copied.copied(None, key, normal, make_sample(fresh))
    splits = {s: (letters("abc", "def"), None) for s in ("train", "test")}
    endless = make_data(splits, unlimited=("train",))
    with pytest.raises(ValueError, match="'train' is unlimited"):
        copied.copied(None, key, endless, make_sample(letters("abc", "abc")))
    with pytest.raises(ValueError, match=r"samples \[2, 2\] beside rows \[2, 3\]"):
        copied.copied(None, key, make_data(splits), make_sample(letters("ab", "ab")))
