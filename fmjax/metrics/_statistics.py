"""Mean and covariance of features, streamed in float64, and those of the real rows kept on disk."""

import functools
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Float, Real

from fmjax import reading, types
from fmjax.metrics import _featured

# of what is kept: another one where networks, resizing or moments are computed in another way
FORMAT = 1
SAMPLED = 2**28  # bytes of rows that tell data sets apart: all of a small set


class Moments(NamedTuple):
    """`n` rows' mean `[d]` and covariance `[d, d]` (divided by n − 1), in float64."""

    n: int
    mean: Float[np.ndarray, " d"]
    cov: Float[np.ndarray, "d d"]


def moments(parts: Iterable[Real[np.ndarray, "_ _"]]) -> Moments:
    """Moments of the rows of all parts, of which one is held at a time.

    Exact merging of partial sums about partial means, Chan, Golub and LeVeque 1979: nothing
    cancels, however far the features lie from 0. ValueError: fewer than 2 rows, or not finite.
    """
    n, mean, scatter = 0, np.zeros(0), np.zeros((0, 0))
    for part in parts:
        rows = np.asarray(part, np.float64)
        if not np.isfinite(rows).all():
            raise ValueError("features are not finite: did the sampler diverge?")
        m, own = len(rows), rows.mean(axis=0)
        centred = rows - own
        if n == 0:
            n, mean, scatter = m, own, centred.T @ centred
            continue
        apart = own - mean
        scatter += centred.T @ centred + np.outer(apart, apart) * (n * m / (n + m))
        mean, n = mean + apart * (m / (n + m)), n + m
    if n < 2:
        raise ValueError(f"{n} rows have no covariance: expected at least 2")
    return Moments(n, mean, scatter / (n - 1))


def check_enough(n: int, dims: int) -> None:
    """ValueError unless `n` rows of `dims` features give a covariance of full rank."""
    if n <= dims:
        raise ValueError(
            f"{n} rows of {dims} features give a singular covariance: pass at least {dims + 1} "
            "rows (several times as many for a stable figure), or features of fewer dimensions"
        )


# Keyed by the function that yields the rows and by the extractor, both by identity.
@functools.lru_cache(maxsize=8)
def of_real(
    take: Callable[..., types.Batch], split: str, n: int, features: Any, data_dir: str | None
) -> Moments:
    """Moments of an extractor's features of the first `n` real rows of a split.

    Kept in `data_dir`/fmjax_statistics, where there is one, under a hash of the rows themselves
    and of all that the extractor depends on: another file, size or data set is another entry.
    The hash is of all rows up to 256 MiB, and of as much, evenly spread, of more: of so large a
    set, a few rows may be others without its being noticed. Rows are held a chunk at a time.
    """
    if data_dir is None:
        return _computed(take, split, n, features)
    depends = {"format": FORMAT, **_told_by(take, split, n), "features": dict(features.depends)}
    text = json.dumps(depends, sort_keys=True)
    name = f"{features.name}_{split}_{n}_{hashlib.sha256(text.encode()).hexdigest()[:16]}.npz"
    file = Path(data_dir).expanduser() / "fmjax_statistics" / name
    found = _read(file, text)
    # an extractor's program is one for all processes: they compute together, or none does
    if not _everywhere(found is not None):
        found = _computed(take, split, n, features)
        _write(file, found._asdict() | {"depends": np.array(text)})
    return found


def _computed(take: Callable[..., types.Batch], split: str, n: int, features: Any) -> Moments:
    return of_batches(reading.chunks(take, split, n, _featured.size(features, n)), features)


def of_batches(batches: Iterable[types.Batch], features: Any) -> Moments:
    """Moments of an extractor's features of all rows of all batches."""
    return moments(part for batch in batches for part in features.stream(batch.x1))


def _told_by(take: Callable[..., types.Batch], split: str, n: int) -> dict[str, Any]:
    """What the first `n` rows of a split are told from others by."""
    row = next(reading.chunks(take, split, 1)).x1
    every = max(1, -(-n * row.nbytes // SAMPLED))
    digest = hashlib.sha256()
    for batch in reading.chunks(take, split, n, every=every):
        digest.update(np.ascontiguousarray(batch.x1).data)
    return {"rows": digest.hexdigest(), "shape": [n, *row.shape[1:]], "dtype": str(row.dtype)}


def _read(file: Path, text: str) -> Moments | None:
    if not file.exists():
        return None
    with np.load(file) as saved:
        same = str(saved["depends"]) == text
        return Moments(int(saved["n"]), saved["mean"], saved["cov"]) if same else None


def _everywhere(here: bool) -> bool:
    """Whether it is so in all processes, each of which may have a disk of its own."""
    if jax.process_count() == 1:
        return here
    return bool(np.all(multihost_utils.process_allgather(np.asarray(here))))


def _write(file: Path, arrays: Mapping[str, Any]) -> None:
    """At once or not at all: another process may read, or write the same."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(dir=file.parent, suffix=".part")
    with os.fdopen(handle, "wb") as out:
        np.savez(out, **arrays)
    os.replace(part, file)
