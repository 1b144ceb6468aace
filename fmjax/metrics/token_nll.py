"""Held-out negative log-likelihood of tokens, or a bound of it, in bits for what people count."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from fmjax import codecs, types
from fmjax.metrics import _common, _flows, _texts
from fmjax.types import Batch, Nets

LN2 = math.log(2)


def token_nll(
    net: Any,
    key: types.PRNGKey,
    data: types.Data,
    sample: Any,
    *,
    objective: Callable[..., Any],
    codec: codecs.Codec = codecs.identity(),
    split: str = "test",
    n: int | None = None,
    draws: int = 8,
    chunk: int = 128,
    name: str = "",
) -> dict[str, float]:
    """Mean of an objective over `n` rows of `split` (None: all), `draws` times each.

    The objective's expectation has to be −log p(x1), or a bound of it, in nats for each token:
    `losses.generalised_kl` (a bound, an integral over random times) or `losses.autoregressive`
    (exact: `draws=1`). In a config `objective=dict(bind="fmjax.losses.generalised_kl:…")`.

    `nll_nats` for each token up to the codec's first `end`, which counts (what fills a row does
    not); `bits_per_token`, `perplexity`, and of a codec that writes text `bits_per_char` and
    `perplexity_per_word` (of words between spaces; an end is no character). `nll_nats_se`:
    standard error over rows; `nll_nats_spread`: of the means of the draws, which is what random
    times add. `name`: put before each.
    Of the net itself: neither guidance nor the sampler enter. ValueError: it is not finite.
    """
    if draws < 1:
        raise ValueError(f"draws={draws}: expected at least 1")
    n = _common.count(data, split, n)
    rows = data.take(split, n)
    x1, found = _texts.tokens(rows.x1), []
    for start in range(0, n, chunk):  # the last is shorter: times are spread over all of its rows
        own = slice(start, min(start + chunk, n))
        part = jax.tree.map(lambda a, own=own: np.asarray(a)[own], Batch(x1, rows.cond))
        keys = jax.random.split(jax.random.fold_in(key, start), draws)
        values = [_values(_flows.argument(net), k, part, objective=objective) for k in keys]
        found.append(np.stack([np.asarray(a, np.float64) for a in values]))
    each = np.concatenate(found, axis=1)
    if not np.isfinite(each).all():
        raise ValueError(
            f"the objective is not finite for {int(np.sum(~np.isfinite(each)))} of {each.size} "
            "rows: did the net diverge? Keep its times below 1, as with high=0.999"
        )
    nats = each * x1.shape[1]
    before = np.array([len(row) for row in _texts.until(x1, codec.end)])
    results = _summary(nats, np.minimum(before + 1, x1.shape[1]))
    results |= _of_text(float(nats.mean(axis=0).sum()), x1, codec)
    results |= {"nll_draws": float(draws), "nll_n": float(n)}
    return {(f"{name}_{k}" if name else k): v for k, v in results.items()}


@functools.partial(jax.jit, static_argnames="objective")
def _values(
    net: Any, key: types.PRNGKey, batch: Batch, *, objective: Callable[..., Any]
) -> Float[Array, " b"]:
    return objective(Nets(net, net, net), key, batch)[0]


def _summary(nats: Float[np.ndarray, "draws n"], counts: Int[np.ndarray, " n"]) -> dict[str, float]:
    """Of each row's nats and tokens: the ratio of their sums, and how sure it is."""
    draws, n = nats.shape
    rows, whole = nats.mean(axis=0), nats.sum(axis=1) / counts.sum()
    mean = float(rows.sum() / counts.sum())
    apart = (rows - mean * counts) / counts.mean()
    return {
        "nll_nats": mean,
        "nll_nats_se": float(apart.std(ddof=1) / math.sqrt(n)) if n > 1 else math.nan,
        "nll_nats_spread": float(whole.std(ddof=1) / math.sqrt(draws)) if draws > 1 else math.nan,
        "bits_per_token": mean / LN2,
        "perplexity": math.exp(min(mean, 700.0)),
    }


def _of_text(nats: float, x: Any, codec: codecs.Codec) -> dict[str, float]:
    if codec.write is None:
        return {}
    texts = [codec.write(row) for row in x]
    characters, words = sum(map(len, texts)), sum(len(text.split()) for text in texts)
    return {
        "bits_per_char": nats / LN2 / max(characters, 1),
        "perplexity_per_word": math.exp(min(nats / max(words, 1), 700.0)),
    }
