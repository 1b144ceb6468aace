"""Digests: equal for what is made alike, in every process and on every Python, and else not."""

import dataclasses
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fmjax import digests
from fmjax.data.resize import resized

HERE = __name__


def test_a_tree_of_arrays_has_one_digest():
    tree = {"a": np.zeros(3), "b": np.ones((2, 2))}
    assert digests.arrays(tree) == digests.arrays(dict(reversed(tree.items())))
    for other in ({"a": np.zeros(3)}, {**tree, "a": np.zeros((3, 1))}, {**tree, "a": np.ones(3)}):
        assert digests.arrays(other) != digests.arrays(tree)
    small = {"half": jnp.ones(2, jnp.bfloat16), "none": np.zeros((0, 2)), "one": np.float32(1)}
    assert digests.arrays(small)[:12] == "a0ec1a8609fa"


def scaled(*, by, seed=0):
    def transform(x, offset=by + 1, *, again=False):
        return x * by + offset + seed

    return transform


def recursive(depth):
    def count(n):
        return count(n - 1) if n > depth else n

    return count


@dataclasses.dataclass
class Crop:
    size: int
    seed: int = 0

    def __call__(self, x):
        return x[: self.size]


class Chain:
    def __init__(self, *parts):
        self.parts, self._seen = parts, object()

    def run(self, x):
        return x


NAME = f"{HERE}:scaled.<locals>.transform"
HELD = {"by": 2, "offset": 3, "again": False}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ((1, 2.5, "a", None, True, np.int32(3), Path("x/y")), [1, 2.5, "a", None, True, 3, "x/y"]),
        ({"b": {3, 1, 2}}, {"b": [1, 2, 3]}),
        (resized, "fmjax.data.resize:resized"),
        (
            functools.partial(resized, size=8, seed=1),
            ["fmjax.data.resize:resized", [], {"size": 8}],
        ),
        (functools.partial(resized, seed=1), "fmjax.data.resize:resized"),
        (scaled(by=2, seed=5), [NAME, HELD | {"seed": 5}]),
        (jax.jit(scaled(by=2)), [NAME, HELD | {"seed": 0}]),
        (recursive(4), [f"{HERE}:recursive.<locals>.count", {"count": "…", "depth": 4}]),
        (Crop(3, seed=4), [f"{HERE}:Crop", {"size": 3, "seed": 4}]),
        (Chain(Crop(3)), [f"{HERE}:Chain", {"parts": [[f"{HERE}:Crop", {"size": 3, "seed": 0}]]}]),
        (Chain().run, [f"{HERE}:Chain.run", [f"{HERE}:Chain", {"parts": []}]]),
        (object(), "builtins:object"),
        (np, "numpy"),
        (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (np.array(["a", 1], object), ["a", 1]),
        (np.ones(2), digests.arrays(np.ones(2))),
        (jax.random.key(1), digests.arrays(np.asarray([0, 1], np.uint32))),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_things_are_made_of(value, expected):
    assert digests.described(value, without=("seed",)) == expected


def test_arguments_of_what_was_made_are_told_apart():
    made = [resized(size=8), resized(size=9), resized(size=8, method="box"), resized(size=8)]
    texts = [str(digests.described(transform)) for transform in made]
    assert texts[0] == texts[3]
    assert len(set(texts)) == 3


def test_rows_of_a_table():
    table = [("a", 1, None), ("b", 2, None)]
    assert digests.rows(iter(table)) == digests.rows(table)
    assert digests.rows(table) != digests.rows([("a", 1, None), ("b", 2, 0)])
