"""How long a passage of a generated text is word for word in the training rows."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from fmjax import codecs, types
from fmjax.metrics import _common, _texts

Tokens = Int[np.ndarray, "_ _"]


def longest_copied(rows: Tokens, train: Tokens, *, end: int | None = None) -> Int[np.ndarray, " b"]:
    """Of each row, the tokens of its longest passage that is in one row of `train`; exact.

    Suffixes of all rows are sorted by doubling (Manber & Myers 1993, "Suffix arrays"); each of
    `rows` shares most with one of its two neighbours of `train`. 2.2 M tokens in rows of 256:
    4 s of a CPU core, 0.5 GB. `end`: the token that ends a row's text, if any.
    """
    own = _joined(rows, end)
    text, start = np.append(_joined(train, end), own), len(train) * (train.shape[1] + 1)
    ranks = _ranks(text, rows.shape[1])
    longest = np.zeros(len(text), np.int64)
    for at, near in _neighbours(np.argsort(ranks[-1]), start):
        longest[at] = np.maximum(longest[at], _shared(ranks, at, near))
    longest, own = longest[start:].reshape(len(rows), -1), own.reshape(len(rows), -1)
    # what lies beyond the end of a row is the next one's
    left = (own > 0).sum(axis=1)[:, None] - np.arange(own.shape[1])
    return np.minimum(longest, np.maximum(left, 0)).max(axis=1)


def copied(
    net: Any,
    key: types.PRNGKey,
    data: types.Data,
    sample: Callable[[int], types.Batch],
    *,
    split: str = "test",
    train: str = "train",
    n: int | None = 1000,
    codec: codecs.Codec = codecs.identity(),
) -> dict[str, float]:
    """`copied_mean` and `copied_max`, tokens of a sample's longest passage in the training rows.

    Over `n` samples; `_real`: over as many rows of `split`, which share phrases with `train`, too.
    Longer than those by much is copying. Passages lie within one row of `train` (a window that
    moves from epoch to epoch may be found in two halves), and before the codec's `end`; they grow
    with the size of `train` and with a row's length, `copied_width`.
    ValueError: no tokens, or `train` has no end.
    """
    del net, key
    size, n = _common.count(data, train, None), _common.count(data, split, n)
    if data.splits[train] == 0:
        raise ValueError(
            f"split {train!r} is unlimited, so there is nothing to copy: "
            "leave this evaluator out for this data"
        )
    made = _texts.tokens(_common.generated(sample, n))
    real = _texts.tokens(_common.real(data, split, n))
    seen = _texts.tokens(_common.real(data, train, size))
    if made.shape != real.shape:
        raise ValueError(f"samples {list(made.shape)} beside rows {list(real.shape)}: not alike")
    found = np.split(longest_copied(np.concatenate([made, real]), seen, end=codec.end), 2)
    results = {"copied_width": float(made.shape[1]), "copied_n": float(n)}
    for end, lengths in zip(("", "_real"), found, strict=True):
        results[f"copied_mean{end}"] = float(np.mean(lengths))
        results[f"copied_max{end}"] = float(np.max(lengths))
    return results


def _joined(rows: Tokens, end: int | None) -> Int[np.ndarray, " k"]:
    """One row after another, as numbers from 1, with 0 at least once after a row's text."""
    ended = np.zeros(rows.shape, bool) if end is None else rows == end
    ended = np.logical_or.accumulate(ended, axis=1)
    return np.pad(np.where(ended, 0, rows.astype(np.int64) + 1), ((0, 0), (0, 1))).ravel()


def _ranks(text: Int[np.ndarray, " k"], width: int) -> Sequence[Int[np.ndarray, " k"]]:
    """Numbers in the order of the 1, 2, 4, … tokens from each place on, up to `width` or more."""
    found, step = [text], 1
    while step < width:
        now = found[-1]
        if now.max() >= 2**31:  # two side by side would not fit
            now = found[-1] = np.unique(now, return_inverse=True)[1]
        later = np.zeros_like(now)
        later[:-step] = now[step:] + 1
        found.append(now * (later.max() + 1) + later)
        step *= 2
    return found


def _neighbours(order: np.ndarray, start: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield places from `start` on, with the next before `start` on one side in order, if any."""
    places, below = np.arange(len(order)), order < start
    before = np.maximum.accumulate(np.where(below, places, -1))
    after = np.minimum.accumulate(np.where(below, places, len(order))[::-1])[::-1]
    for near in (before, after):
        found = ~below & (near >= 0) & (near < len(order))
        yield order[found], order[near[found]]


def _shared(ranks: Sequence[Any], i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """How many tokens from places `i` on are those from `j` on: whole doublings, longest first."""
    total = np.zeros(len(i), np.int64)
    for k in reversed(range(len(ranks))):
        rank = ranks[k]
        a, b = i + total, j + total
        inside = (a < len(rank)) & (b < len(rank))
        a, b = np.minimum(a, len(rank) - 1), np.minimum(b, len(rank) - 1)
        total += 2**k * (inside & (rank[a] == rank[b]))
    return total
