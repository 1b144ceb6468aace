"""Sets below about 1 GB: whole in host arrays, indexed by a permutation of (seed, epoch)."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from fmjax import digests
from fmjax.data import _common
from fmjax.types import Batch, Data


def in_memory(
    splits: Mapping[str, Batch],
    *,
    batch_size: int,
    seed: int = 0,
    process: tuple[int, int] = (0, 1),
    null: Any = None,
    read: Callable[[str], Any] | None = None,
    names: Sequence[str] | Mapping[str, Sequence[str]] = (),
) -> Data:
    """Row j of step s is row perm(seed, epoch)[p mod rows] of its split, p = s·B + j.

    `epoch` is p // rows, so an epoch shows every row exactly once and a batch may straddle two.
    `batch` is a pure function of (split, step); it gives this process's contiguous share of the
    global batch of `batch_size` rows, and what all processes get together does not depend on
    how many there are. The fields of a `Batch` are permuted together.
    Every split has the same fields, shapes and dtypes. 64-bit arrays become 32-bit as in JAX.
    `names` without `read`: classes are read by their names, of a dict of conditions as
    "part=name,part=name".

    ValueError: no split, an empty one, rows or examples that do not match, a batch size that the
    processes cannot share equally. Not for sets that do not fit in the host's memory: `tfds_grain`.
    """
    sets = {name: jax.tree.map(_common.canonical, batch) for name, batch in splits.items()}
    rows = {name: _rows(name, batch) for name, batch in sets.items()}
    spec = _one_spec(sets)
    start, stop = _common.local_share(batch_size, process)

    # a batch straddles two epochs at most, unless the set is smaller than the batch
    @functools.lru_cache(maxsize=4)
    def order(split: str, epoch: int) -> np.ndarray:
        return _common.permutation(rows[split], seed, epoch, _common.split_word(split))

    def batch(split: str, step: int) -> Batch:
        _common.check_split(split, rows)
        positions = np.arange(step * batch_size + start, step * batch_size + stop)
        epochs, places = np.divmod(positions, rows[split])
        chosen = [order(split, int(e))[places[epochs == e]] for e in np.unique(epochs)]
        return _take(sets[split], np.concatenate(chosen))

    def take(split: str, n: int | None, start: int = 0) -> Batch:
        _common.check_split(split, rows)
        return _take(sets[split], _common.fixed_rows(split, rows[split], n, start))

    def contents(split: str) -> str:
        _common.check_split(split, rows)
        return digests.arrays(sets[split])

    names = _common.all_names(names)
    if names and read is None and isinstance(names, Mapping):
        readers = {part: _common.class_reader(own) for part, own in names.items()}
        read = _common.parts_reader(readers, null or {})
    elif names and read is None:
        read = _common.class_reader(names)
    options = {"null": null, "read": read, "names": names, "contents": contents}
    return Data(spec, rows, take, batch=batch, **options)


def _take(batch: Batch, rows: np.ndarray) -> Batch:
    return jax.tree.map(lambda a: a[rows], batch)


def _rows(name: str, batch: Batch) -> int:
    if any(a.ndim == 0 for a in jax.tree.leaves(batch)):
        raise ValueError(f"split {name!r} holds a scalar; every array needs a leading axis of rows")
    lengths = {len(a) for a in jax.tree.leaves(batch)}
    if len(lengths) > 1:
        raise ValueError(
            f"split {name!r}: its arrays have {sorted(lengths)} rows; give all as many"
        )
    if lengths in (set(), {0}):
        raise ValueError(f"split {name!r} is empty; leave it out or give it rows")
    return lengths.pop()


def _one_spec(sets: Mapping[str, Batch]) -> Batch:
    if not sets:
        raise ValueError("no split was given; expected at least one, such as {'train': Batch(x1)}")
    specs = {name: _common.spec_of(batch) for name, batch in sets.items()}
    first, *others = specs
    for name in others:
        if specs[name] != specs[first]:
            raise ValueError(
                f"examples of split {name!r} are {specs[name]}, those of {first!r} "
                f"{specs[first]}; give both the same fields, shapes and dtypes"
            )
    return specs[first]
