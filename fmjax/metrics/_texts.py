"""What metrics of text share: rows of tokens, and the same as texts."""

from typing import Any

import numpy as np
from jaxtyping import Int

from fmjax import codecs


def tokens(rows: Any) -> Int[np.ndarray, "_ _"]:
    """Rows of tokens `[b, n]`. ValueError if they are anything else, or none."""
    rows = np.asarray(rows)
    if rows.ndim != 2 or not rows.size or not np.issubdtype(rows.dtype, np.integer):
        raise ValueError(
            f"expected rows of tokens, whole numbers [b, n], got {rows.dtype}{list(rows.shape)}: "
            "leave this evaluator out for data that are no text"
        )
    return rows


def until(rows: Int[np.ndarray, "_ _"], end: int | None) -> list[Int[np.ndarray, "_"]]:
    """Each row's tokens before its first `end`; all of them where there is none."""
    if end is None:
        return list(rows)
    lengths = np.where((rows == end).any(axis=1), (rows == end).argmax(axis=1), rows.shape[1])
    return [row[:length] for row, length in zip(rows, lengths, strict=True)]


def written(codec: codecs.Codec, rows: Any) -> list[str]:
    """Each row as its text. ValueError: no tokens, or a codec that writes no text."""
    if codec.write is None:
        raise ValueError(
            "config.codec has no `write`, so samples are no text that a person reads: use a codec "
            "of text, or leave this evaluator out"
        )
    return [codec.write(row) for row in tokens(rows)]
