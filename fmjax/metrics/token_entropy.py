"""Entropy of the tokens of a sample: whether it repeats a few of them."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Int

from fmjax import codecs, types
from fmjax.metrics import _common, _texts


def entropy_nats(tokens: Int[np.ndarray, " n"]) -> float:
    """−Σ p log p, p the shares of the tokens; from 0, all alike (or none), to log n."""
    shares = np.unique(tokens, return_counts=True)[1] / max(len(tokens), 1)
    return float(np.sum(shares * np.log(1 / shares)))


def token_entropy(
    net: Any,
    key: types.PRNGKey,
    data: types.Data,
    sample: Callable[[int], types.Batch],
    *,
    split: str = "test",
    n: int | None = 1000,
    codec: codecs.Codec = codecs.identity(),
) -> dict[str, float]:
    """`token_entropy_nats`, mean of a sample's own; `_real`: of as many rows of `split`.

    Over `n` samples, before the codec's `end`. It depends on what a token is and on how many a
    text has (`token_entropy_length`, their mean). Give it beside a perplexity, which repetition
    and low sampling precision lower: samples below real text are less diverse than it. Blind to
    order, so noise may be as high. Reported so by Dieleman et al. 2022 (2211.15089) and Zheng et
    al. 2024 (2409.02908).
    """
    del net, key
    n = _common.count(data, split, n)
    made, rows = _common.generated(sample, n), _common.real(data, split, n)
    found = {"token_entropy_n": float(n)}
    for end, x in (("", made), ("_real", rows)):
        texts = _texts.until(_texts.tokens(x), codec.end)
        found[f"token_entropy_nats{end}"] = float(np.mean([entropy_nats(text) for text in texts]))
        found[f"token_entropy_length{end}"] = float(np.mean([len(text) for text in texts]))
    return found
