"""The rows of a data set, a few at a time: evaluators then need not hold what they read."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jaxtyping import Int

from fmjax.types import Batch

ROWS = 256  # read at a time: 200 MB of 256 × 256 images in float32

Take = Callable[..., Batch]


def chunks(take: Take, split: str, n: int, size: int = ROWS, *, every: int = 1) -> Iterator[Batch]:
    """Yield `take(split, n)` in parts of `size` rows, of which only each `every`-th is read.

    A `take` without `start` gives all rows at once, and they are cut.
    """
    starts = range(0, n, size * every)
    if starts_anywhere(take):
        for start in starts:
            yield take(split, min(size, n - start), start=start)
        return
    whole = take(split, n)
    for start in starts:
        yield jax.tree.map(lambda a, rows=slice(start, start + size): a[rows], whole)


def picked(
    take: Take, split: str, n: int, places: Int[np.ndarray, " k"], size: int = ROWS
) -> Iterator[Batch]:
    """Yield the rows at `places` of `take(split, n)`, `size` of them at a time."""
    parts = [places[i : i + size] for i in range(0, len(places), size)]
    if starts_anywhere(take):
        for part in parts:
            rows = [take(split, 1, start=int(place)) for place in part]
            yield jax.tree.map(lambda *a: np.concatenate(a), *rows)
        return
    whole = take(split, n)
    for part in parts:
        yield jax.tree.map(lambda a, part=part: a[part], whole)


def conditions(take: Take, split: str, n: int) -> Any:
    """The conditions of `take(split, n)`, of which no more than a chunk is held as a whole."""
    parts = [batch.cond for batch in chunks(take, split, n)]
    return jax.tree.map(lambda *a: np.concatenate(a), *parts)


def starts_anywhere(take: Take) -> bool:
    """Whether `take` has the argument `start`."""
    return "start" in inspect.signature(take).parameters
