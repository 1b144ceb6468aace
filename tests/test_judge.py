import jax
import numpy as np
import pytest

from fmjax import judge
from fmjax.types import Batch, Data


def data(classes, rows=100_000, names=("a", "b", "c"), asked=None):
    """Row i is of class `classes(i)`, and says so twice where there are several parts."""

    def take(split, n, start=0):
        asked.append((n, start + n))
        label = np.asarray([classes(i) for i in range(start, start + n)], np.int32)
        cond = dict.fromkeys(names, label) if isinstance(names, dict) else label
        return Batch(np.zeros((n, 2)), cond)

    spec = Batch(jax.ShapeDtypeStruct((2,), np.float32), jax.ShapeDtypeStruct((), np.int32))
    return Data(spec, {"test": rows}, take, names=names)


def test_one_of_each_class_comes_first_and_few_rows_are_read_for_it():
    asked = []
    made = data(lambda i: 2 - i % 3, asked=asked)
    np.testing.assert_array_equal(judge.one_of_each(made, 7), [0, 1, 2, 0, 1, 2, 0])
    assert max(n for n, _ in asked) <= 256
    assert max(end for _, end in asked) == judge.LOOKED_AT


@pytest.mark.parametrize(("rows", "n", "read"), [(100_000, 5, 5), (3, 5, 3), (0, 5, 5)])
def test_without_classes_the_first_rows_give_the_conditions(rows, n, read):
    asked = []
    made = data(lambda i: i, rows, names=(), asked=asked)
    np.testing.assert_array_equal(judge.one_of_each(made, n), np.resize(np.arange(read), n))
    assert max(end for _, end in asked) == read


def test_parts_are_of_one_row():
    made = data(lambda i: i % 2, names={"group": ("a", "b"), "style": ("c", "d")}, asked=[])
    found = judge.one_of_each(made, 3)
    for part in ("group", "style"):
        np.testing.assert_array_equal(found[part], [0, 1, 0])
