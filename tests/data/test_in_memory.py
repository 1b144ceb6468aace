import jax
import numpy as np
import pytest

from fmjax.data import _common
from fmjax.data.in_memory import in_memory
from fmjax.types import Batch

ROWS = 10


def rows(n=ROWS, start=0):
    """Every field of row i says i."""
    i = np.arange(start, start + n, dtype=np.float32)
    return Batch(i[:, None], i.astype(np.int32), {"a": -i}, i / 2)


def data(**kw):
    return in_memory({"train": rows(), "test": rows(4, 100)}, **({"batch_size": 3} | kw))


def ids(batch):
    return batch.x1[:, 0].astype(int).tolist()


@pytest.mark.parametrize("batch_size", [3, 5, 7, 10, 23])
def test_every_epoch_shows_every_row_exactly_once(batch_size):
    epochs = 21
    made = data(batch_size=batch_size)
    steps = -(-epochs * ROWS // batch_size)
    stream = np.concatenate([ids(made.batch("train", s)) for s in range(steps)])
    shown = stream[: epochs * ROWS].reshape(epochs, ROWS)
    np.testing.assert_array_equal(np.sort(shown, axis=1), np.tile(np.arange(ROWS), (epochs, 1)))
    # the order changes from epoch to epoch
    assert len({tuple(epoch) for epoch in shown}) == epochs


def test_batch_is_a_pure_function_of_split_and_step():
    made, again = data(), data()
    in_order = {s: ids(made.batch("train", s)) for s in range(40)}
    for s in reversed(range(40)):
        again.batch("test", s)
        assert ids(again.batch("train", s)) == in_order[s]


def test_seed_and_split_change_the_order():
    def order(seed, split):
        same = {"a": rows(50), "b": rows(50)}
        return ids(in_memory(same, batch_size=50, seed=seed).batch(split, 0))

    assert len({tuple(order(seed, split)) for seed in (0, 1) for split in "ab"}) == 4


def test_the_order_is_for_ever():
    # a run continued under another release must see the rows it would have seen
    assert ids(data(seed=3).batch("train", 7)) == [8, 4, 2]


@pytest.mark.parametrize("count", [2, 3, 6])
def test_processes_together_see_the_global_batch_in_its_order(count):
    whole = data(batch_size=6)
    shares = [data(batch_size=6, process=(i, count)) for i in range(count)]
    for step in range(9):
        together = [i for share in shares for i in ids(share.batch("train", step))]
        assert together == ids(whole.batch("train", step))


def test_fields_are_permuted_together():
    for batch in (data().batch("train", 5), data().take("train", 6)):
        np.testing.assert_array_equal(batch.cond, batch.x1[:, 0])
        np.testing.assert_array_equal(batch.x0["a"], -batch.x1[:, 0])
        np.testing.assert_array_equal(batch.weight, batch.x1[:, 0] / 2)


def test_take_is_a_prefix_of_one_fixed_order():
    everything = ids(data().take("train", None))
    assert sorted(everything) == list(range(ROWS))
    assert everything != list(range(ROWS))
    assert ids(data(seed=9, process=(2, 3)).take("train", 4)) == everything[:4]
    assert ids(data().take("train", 4, start=3)) == everything[3:7]
    assert ids(data().take("train", None, start=3)) == everything[3:]


def test_spec_and_splits_describe_the_batches():
    made = data()
    assert dict(made.splits) == {"train": 10, "test": 4}
    assert made.spec.x1 == jax.ShapeDtypeStruct((1,), np.float32)
    assert made.spec.cond == jax.ShapeDtypeStruct((), np.int32)
    assert made.sample is None


def test_arrays_are_in_the_type_that_jax_gives_them():
    made = in_memory({"train": Batch(np.ones((3, 2)), np.arange(3))}, batch_size=2)
    assert made.batch("train", 0).x1.dtype == made.spec.x1.dtype == np.float32
    assert made.batch("train", 0).cond.dtype == made.spec.cond.dtype == np.int32


def test_names_are_read():
    made = data(names=["a", "b"], null=np.int32(2))
    assert made.names == ("a", "b")
    assert made.null == 2
    assert made.read("b") == 1
    with pytest.raises(ValueError, match=r"no class 'c'; there are: a, b"):
        made.read("c")
    assert data(names=["a"], read=len).read("word") == 4
    assert data().read is None


def test_one_permutation_is_made_an_epoch(monkeypatch):
    made, calls = data(batch_size=2), []
    real = _common.permutation
    monkeypatch.setattr(_common, "permutation", lambda *a: calls.append(a) or real(*a))
    for step in range(10):
        made.batch("train", step)
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("splits", "kw", "message"),
    [
        ({}, {}, "no split"),
        ({"train": rows(0)}, {}, "'train' is empty"),
        ({"train": Batch(None)}, {}, "'train' is empty"),
        ({"train": Batch(np.ones(3), np.ones(2))}, {}, r"\[2, 3\] rows"),
        ({"train": Batch(np.ones(3), np.float32(1))}, {}, "holds a scalar"),
        ({"train": rows(), "test": Batch(np.ones((3, 1)))}, {}, "'test'.*same fields"),
        ({"train": rows()}, {"process": (0, 2)}, "batch_size=3.*multiple of 2"),
        ({"train": rows()}, {"batch_size": 0}, "batch_size=0"),
        ({"train": rows()}, {"process": (3, 3)}, r"process=\(3, 3\)"),
    ],
)
def test_bad_sets_are_refused(splits, kw, message):
    with pytest.raises(ValueError, match=message):
        in_memory(splits, **({"batch_size": 3} | kw))


def test_bad_requests_are_refused():
    made = data()
    for call in (made.batch, made.take):
        with pytest.raises(ValueError, match="no split 'valid'; there are: test, train"):
            call("valid", 1)
    with pytest.raises(ValueError, match="5 rows asked of split 'test', which has 4"):
        made.take("test", 5)
    with pytest.raises(ValueError, match="0 rows asked"):
        made.take("test", 0)
    with pytest.raises(ValueError, match="2 rows asked of split 'test', which has 1 from row 3 on"):
        made.take("test", 2, start=3)
    for start in (-1, 4):
        with pytest.raises(
            ValueError, match=f"rows from {start} on .* which has 4; start is 0 to 3"
        ):
            made.take("test", None, start=start)


def test_contents_are_those_of_the_split_whatever_its_order():
    def contents(x, cond, split="train", **options):
        rows = Batch(np.asarray(x), np.asarray(cond))
        other = Batch(np.zeros(2), np.zeros(2))
        data = in_memory({"train": rows, "test": other}, **{"batch_size": 2, **options})
        return data.contents(split)

    x, cond = [1.0, 2.0, 3.0], [0.0, 1.0, 0.0]
    first = contents(x, cond)
    assert first == contents(x, cond, seed=3, batch_size=1)
    assert first not in (contents([1.0, 2.0, 4.0], cond), contents(x, [0.0, 1.0, 1.0]))
    assert contents(x, cond, "test") == contents([5.0, 2.0, 3.0], cond, "test")
    with pytest.raises(ValueError, match="no split 'dev'"):
        contents(x, cond, "dev")
