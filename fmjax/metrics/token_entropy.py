"""Entropy of the tokens of a sample: whether it repeats a few of them."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from fmjax import types
from fmjax.metrics import _common, _texts


def entropy_nats(rows: Int[np.ndarray, "b n"]) -> Float[np.ndarray, " b"]:
    """−Σ p log p of each row, p the shares of its tokens; from 0, all alike, to log n."""
    rows = np.sort(_texts.tokens(rows), axis=1)
    b, n = rows.shape
    first = np.concatenate([np.ones((b, 1), bool), rows[:, 1:] != rows[:, :-1]], axis=1)
    starts = np.flatnonzero(first)
    shares = np.diff(starts, append=b * n) / n
    return np.bincount(starts // n, -shares * np.log(shares), minlength=b) + 0.0  # no -0


def token_entropy(
    net: Any,
    key: types.PRNGKey,
    data: types.Data,
    sample: Callable[[int], types.Batch],
    *,
    split: str = "test",
    n: int | None = 1000,
) -> dict[str, float]:
    """`token_entropy_nats`, mean of a sample's own; `_real`: of as many rows of `split`.

    Over `n` samples. It depends on the tokens and on a row's length (`token_entropy_width`). Give
    it beside a perplexity, which repetition and low sampling precision lower: samples below real
    text are less diverse than it. Blind to order, so noise may be as high. Reported so by
    Dieleman et al. 2022 (2211.15089) and Zheng et al. 2024 (2409.02908).
    """
    del net, key
    n = _common.count(data, split, n)
    made = entropy_nats(_texts.tokens(_common.generated(sample, n)))
    rows = _texts.tokens(_common.real(data, split, n))
    return {
        "token_entropy_nats": float(made.mean()),
        "token_entropy_nats_real": float(entropy_nats(rows).mean()),
        "token_entropy_n": float(n),
        "token_entropy_width": float(rows.shape[1]),
    }
