"""Held-out negative log-likelihood of tokens, or a bound of it, in bits for what people count."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from fmjax import codecs, types
from fmjax.metrics import _common, _flows
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

    `nll_nats` for each token; `bits_per_token`, `perplexity`, and of a codec that writes text
    `bits_per_char` and `perplexity_per_word` (of words between spaces; what ends a text counts in
    the bits and not in the characters). `nll_nats_se`: standard error over rows; `nll_nats_spread`:
    of the means of the draws, which is what random times add. `name`: put before each.
    Of the net itself: neither guidance nor the sampler enter. ValueError: it is not finite.
    """
    if draws < 1:
        raise ValueError(f"draws={draws}: expected at least 1")
    n = _common.count(data, split, n)
    rows = data.take(split, n)
    found = []
    for i in range(math.ceil(n / chunk)):
        at = np.arange(i * chunk, (i + 1) * chunk) % n  # one shape, so one compilation
        part = jax.tree.map(lambda a, at=at: np.asarray(a)[at], Batch(rows.x1, rows.cond))
        keys = jax.random.split(jax.random.fold_in(key, i), draws)
        own = [_values(_flows.argument(net), k, part, objective=objective) for k in keys]
        found.append(np.stack([np.asarray(a, np.float64) for a in own]))
    each = np.concatenate(found, axis=1)[:, :n]
    if not np.isfinite(each).all():
        raise ValueError(
            f"the objective is not finite for {int(np.sum(~np.isfinite(each)))} of {each.size} "
            "rows: did the net diverge? Keep its times below 1, as with high=0.999"
        )
    results = _summary(each) | _of_text(each.mean(), rows.x1, codec)
    results |= {"nll_draws": float(draws), "nll_n": float(n)}
    return {(f"{name}_{k}" if name else k): v for k, v in results.items()}


@functools.partial(jax.jit, static_argnames="objective")
def _values(
    net: Any, key: types.PRNGKey, batch: Batch, *, objective: Callable[..., Any]
) -> Float[Array, " b"]:
    return objective(Nets(net, net, net), key, batch)[0]


def _summary(each: Float[np.ndarray, "draws n"]) -> dict[str, float]:
    draws, n = each.shape
    rows, whole = each.mean(axis=0), each.mean(axis=1)
    mean = float(rows.mean())
    return {
        "nll_nats": mean,
        "nll_nats_se": float(rows.std(ddof=1) / math.sqrt(n)) if n > 1 else math.nan,
        "nll_nats_spread": float(whole.std(ddof=1) / math.sqrt(draws)) if draws > 1 else math.nan,
        "bits_per_token": mean / LN2,
        "perplexity": math.exp(min(mean, 700.0)),
    }


def _of_text(mean: float, x: Any, codec: codecs.Codec) -> dict[str, float]:
    if codec.write is None:
        return {}
    texts = [codec.write(row) for row in np.asarray(x)]
    nats = mean * np.asarray(x).size
    characters, words = sum(map(len, texts)), sum(len(text.split()) for text in texts)
    return {
        "bits_per_char": nats / LN2 / max(characters, 1),
        "perplexity_per_word": math.exp(min(nats / max(words, 1), 700.0)),
    }
