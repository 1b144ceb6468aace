"""What data sets share: the rows of a step, the names of classes, and errors about splits."""

import functools
import inspect
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Int

from fmjax import codecs
from fmjax.types import Batch, Data


def permutation(rows: int, *words: int) -> Int[np.ndarray, " rows"]:
    """A permutation of `rows` that depends on the non-negative `words` and nothing else.

    NumPy promises the raw bits of a bit generator for ever, but not what `Generator.permutation`
    makes of them; sorting the bits keeps an old run's data order under a newer NumPy.
    """
    bits = np.random.Philox(np.random.SeedSequence(words)).random_raw(rows)
    return np.argsort(bits, kind="stable")


def split_word(split: str) -> int:
    """A number for a split's name, the same in every process (`hash` of a string is not)."""
    return zlib.crc32(split.encode())


def fixed_rows(split: str, rows: int, n: int | None, start: int = 0) -> Int[np.ndarray, " n"]:
    """`n` (None: all) rows from `start` on of one fixed order: the first are an unbiased subset.

    Raises ValueError when the split has no such rows.
    """
    left = rows - start
    if not 0 <= start < rows:
        raise ValueError(
            f"rows from {start} on asked of split {split!r}, which has {rows}; "
            f"start is 0 to {rows - 1}"
        )
    if n is not None and not 0 < n <= left:
        where = f" from row {start} on" if start else ""
        raise ValueError(
            f"{n} rows asked of split {split!r}, which has {left}{where}; "
            f"ask for 1 to {left}, or for None to get all of them"
        )
    return _fixed_order(split, rows)[start:][:n]


# read in chunks, a million rows would be put in order thousands of times
@functools.lru_cache(maxsize=8)
def _fixed_order(split: str, rows: int) -> Int[np.ndarray, " rows"]:
    order = permutation(rows, split_word(split))
    order.flags.writeable = False
    return order


def local_share(batch_size: int, process: tuple[int, int]) -> tuple[int, int]:
    """Process i of P takes rows [i·B/P, (i+1)·B/P) of the global batch: (start, stop).

    Contiguous, so that a row's place in the global batch does not depend on P.
    """
    index, count = process
    if not 0 <= index < count:
        raise ValueError(f"process={process}: expected (index, count) with 0 <= index < count")
    if batch_size < 1 or batch_size % count:
        raise ValueError(
            f"batch_size={batch_size} is global and cannot be shared equally by {count} "
            f"process(es); choose a positive multiple of {count}"
        )
    share = batch_size // count
    return index * share, (index + 1) * share


def check_split(split: str, splits: Mapping[str, int]) -> None:
    """Raise ValueError, listing the splits, for one that is not there."""
    if split not in splits:
        raise ValueError(f"there is no split {split!r}; there are: {', '.join(sorted(splits))}")


def spec_of(batch: Batch) -> Batch:
    """One example of `batch` as `jax.ShapeDtypeStruct`s, without the leading axis."""
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), batch)


def with_noise(spec: Batch, codec: codecs.Codec) -> Batch:
    """`spec` with an x0 of the shape and type that x1 has in model space."""
    one = jax.ShapeDtypeStruct((1, *spec.x1.shape), spec.x1.dtype)
    encoded = jax.eval_shape(codec.encode, one)
    return spec._replace(x0=jax.ShapeDtypeStruct(encoded.shape[1:], encoded.dtype))


def made(name: str, data: Any, **options: Any) -> Data:
    """The data set that the data set `name` builds on, with those `options` that it takes."""
    if not callable(data):
        raise TypeError(
            f"{name} makes its data set itself: name it with dict(bind=…), not dict(name=…)"
        )
    takes = inspect.signature(data).parameters
    return data(**{option: value for option, value in options.items() if option in takes})


def then(f: Callable[..., Any] | None, change: Callable[[Any], Any]) -> Any:
    """`change(f(…))`, with the arguments of `f`, of which `start` is not in every `take`."""
    return f and functools.wraps(f)(lambda *args, **options: change(f(*args, **options)))


def canonical(array: Any) -> np.ndarray:
    """A host array in the type that JAX gives it: 32 bits unless 64 are enabled."""
    array = np.asarray(array)
    return array.astype(jax.dtypes.canonicalize_dtype(array.dtype), copy=False)


def class_reader(names: Sequence[str]) -> Callable[[str], np.int32]:
    """From a class's name to its number; ValueError that lists the choices for any other word."""
    numbers = {name: np.int32(i) for i, name in enumerate(names)}

    def read(word: str) -> np.int32:
        if word not in numbers:
            raise ValueError(f"there is no class {word!r}; there are: {', '.join(numbers)}")
        return numbers[word]

    return read


def all_names(names: Any) -> Any:
    """The names of classes as tuples: of one condition, or of the parts of a dict of conditions."""
    if isinstance(names, Mapping):
        return {part: tuple(own) for part, own in names.items()}
    return tuple(names)


def parts_reader(
    readers: Mapping[str, Callable[[str], Any]], null: Mapping[str, Any]
) -> Callable[[str], dict[str, Any]]:
    """From "group=animals,style=line" to a condition of parts; those not named are absent (`null`).

    A word that holds a comma goes on until the next "part=". The empty word is the condition
    without any part. ValueError that lists the choices: an unknown part or word, a part named
    twice.
    """
    if set(readers) - set(null):
        raise ValueError(f"readers of {sorted(readers)}, but null has only {sorted(null)}")

    def read(text: str) -> dict[str, Any]:
        found, last = {}, None
        for piece in text.split(",") if text.strip() else ():
            part, equals, word = piece.partition("=")
            if equals and part.strip() in readers:
                last = part.strip()
                if last in found:
                    raise ValueError(f"{text!r} names the part {last!r} twice; once is enough")
                found[last] = word
            elif equals or last is None:
                raise ValueError(
                    f"{piece!r} in {text!r}: expected part=word, the parts being "
                    f"{', '.join(readers)}"
                )
            else:
                found[last] += f",{piece}"
        return {**null, **{part: readers[part](word.strip()) for part, word in found.items()}}

    return read
