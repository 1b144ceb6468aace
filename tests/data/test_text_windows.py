import numpy as np
import pytest

from fmjax import codecs, text
from fmjax.data import _text

LETTERS = text.characters(alphabet="abcdefghijklmnopqrstuvwxyz ", end=True)


def numbered(n, start=0, cond=None):
    """Token i of the stream is start + i."""
    return _text.Stream(np.arange(start, start + n, dtype=np.uint16), cond)


def made(**options):
    splits = {
        "train": [numbered(23, 0, np.int32(0)), numbered(2, 50), numbered(9, 100, np.int32(1))],
        "test": [numbered(8, 200, np.int32(1))],
    }
    splits["train"][1] = numbered(2, 50, np.int32(0))
    return _text.windows(splits, **{"length": 4, "batch_size": 3} | options)


def shown(data, split="train", epochs=6):
    """The windows of each epoch, `[epochs, rows, length]`, with batches across epochs."""
    rows = data.splits[split]
    batches = [data.batch(split, s).x1 for s in range(-(-epochs * rows // 3))]
    return np.concatenate(batches)[: epochs * rows].reshape(epochs, rows, -1)


def test_streams_are_cut_and_their_rests_dropped():
    data = made()
    assert dict(data.splits) == {"train": 7, "test": 2}
    train = data.take("train", None)
    assert (train.x1.dtype, train.cond.dtype, data.spec.x1.shape) == (np.int32, np.int32, (4,))
    starts = sorted(train.x1[:, 0].tolist())
    assert starts == [0, 4, 8, 12, 16, 100, 104]
    np.testing.assert_array_equal(np.diff(train.x1, axis=1), 1)
    np.testing.assert_array_equal(train.cond, train.x1[:, 0] >= 100)
    np.testing.assert_array_equal(data.take("test", None, 1).x1, data.take("test", 2).x1[1:])


def test_windows_of_an_epoch_start_anywhere_and_never_overlap():
    data = made()
    epochs = shown(data, epochs=60)
    assert len({x.tobytes() for x in epochs}) == 60
    for windows in epochs:
        first = windows[windows[:, 0] < 50]
        assert len(np.unique(first)) == first.size == 20
        steps = np.diff(windows, axis=1)  # at its end a stream goes on at its start
        assert set(np.unique(steps)) <= {1, -22, -8}
    starts = epochs[..., 0]
    assert set(np.unique(starts)) == {*range(23), *range(100, 109)}
    np.testing.assert_array_equal(np.unique(shown(data, "test", 30)[..., 0]), [200, 204])


def test_without_offsets_an_epoch_shows_each_window_of_take():
    data = made(offsets=False)
    whole = sorted(data.take("train", None).x1.tolist())
    epochs = shown(data)
    assert all(sorted(windows.tolist()) == whole for windows in epochs)
    assert len({x.tobytes() for x in epochs}) == 6


def test_batches_are_pure_and_shared_by_processes():
    first, other = made(batch_size=6), made(batch_size=6)
    in_order = [first.batch("train", s) for s in range(9)]
    shares = [made(batch_size=6, process=(i, 3)) for i in range(3)]
    for s in reversed(range(9)):
        again = other.batch("train", s)
        np.testing.assert_array_equal(again.x1, in_order[s].x1)
        np.testing.assert_array_equal(again.cond, in_order[s].x1[:, 0] >= 100)
        together = np.concatenate([share.batch("train", s).x1 for share in shares])
        np.testing.assert_array_equal(together, in_order[s].x1)
    assert (made(batch_size=6, seed=1).batch("train", 0).x1 != in_order[0].x1).any()
    np.testing.assert_array_equal(made(seed=1).take("train", None).x1, first.take("train", None).x1)


def test_contents_are_those_of_the_split():
    data = made()
    assert data.contents("train") == made(seed=3, batch_size=1).contents("train")
    others = [data.contents("test"), made(length=5).contents("train")]
    assert data.contents("train") not in others


def test_texts_are_joined_by_the_end_or_as_told():
    found = _text.stream(["ab", "c"], LETTERS, 3)
    np.testing.assert_array_equal(found.tokens, [0, 1, 27, 2, 27])
    assert found.cond == 3
    endless = text.characters(alphabet="abc\n ")
    np.testing.assert_array_equal(_text.stream(["ab", "c"], endless).tokens, [0, 1, 3, 2, 3])
    spaced = text.characters(alphabet="abc ")
    np.testing.assert_array_equal(_text.stream(["ab", "c"], spaced).tokens, [0, 1, 3, 2, 3])
    assert _text.after(endless, "a").tolist() == [0]
    with pytest.raises(ValueError, match="not in the alphabet"):
        _text.after(spaced, "\n")
    assert len(_text.stream([], LETTERS).tokens) == 0


def test_rows_are_filled_and_long_ones_lose_their_last_words():
    texts = ["ab c", "the cat sat", "abcdefghi", "eight ch"]
    conds = np.arange(4, dtype=np.int32)
    options = {"codec": LETTERS, "length": 8, "batch_size": 2}
    data = _text.rows({"train": (texts, conds)}, **options)
    whole = data.take("train", None)
    written = dict(zip(whole.cond.tolist(), map(LETTERS.write, whole.x1), strict=True))
    assert written == {0: "ab c", 1: "the cat", 2: "abcdefgh", 3: "eight ch"}
    assert whole.x1[whole.cond == 0].tolist() == [[0, 1, 26, 2, 27, 27, 27, 27]]
    data = _text.rows({"train": (texts, conds)}, longer="drop", **options)
    assert sorted(data.take("train", None).cond) == [0, 3]
    assert _text.rows({"train": (texts, None)}, **options).spec.cond is None


def test_long_texts_of_pairs_are_cut_at_a_word(tmp_path):
    codec = text.bpe(corpus=lambda split: ["the cat sat"] * 3, vocabulary=257, data_dir=tmp_path)
    ids = _text.cut("the cat sat on", codec.tokens, 9)
    assert codec.write(ids) == "the cat"


def test_bad_requests_are_refused():
    with pytest.raises(ValueError, match=r"'test' has no window of 9 tokens, .* having 8; give a"):
        made(length=9)
    with pytest.raises(ValueError, match=r"'train' has no window of 4 tokens, .* having 0"):
        _text.windows({"train": []}, length=4, batch_size=2)
    with pytest.raises(ValueError, match="length=0"):
        made(length=0)
    for call in (made().batch, made().take, lambda split, n: made().contents(split)):
        with pytest.raises(ValueError, match="no split 'valid'; there are: test, train"):
            call("valid", 1)
    with pytest.raises(ValueError, match="3 rows asked of split 'test', which has 2"):
        made().take("test", 3)
    with pytest.raises(ValueError, match=r"config\.codec is one of numbers: give"):
        _text.stream(["a"], codecs.identity())
    options = {"length": 4, "batch_size": 2}
    with pytest.raises(ValueError, match=r"config\.codec has none: give it end=True"):
        _text.rows({"train": (["a"], None)}, codec=text.characters(), **options)
    with pytest.raises(ValueError, match="longer='x': expected 'cut' or 'drop'"):
        _text.rows({"train": (["a"], None)}, codec=LETTERS, longer="x", **options)
