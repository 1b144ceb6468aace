"""Inception Score: exp E KL(p(y|x) ‖ p(y)), the classes that a network reads in samples."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from fmjax import types
from fmjax.metrics import _common, _featured

SCORE_FEATURES = "inception_logits_unbiased"


def score(logits: _common.Rows) -> float:
    """exp of the mean over rows of KL(p(y|x) ‖ mean p(y|x)): 1 to the number of classes.

    `[n, classes]`; biased downwards by the finite n. Salimans et al. 2016 (1606.03498), section 4.
    """
    logits = _common.flat(logits)
    logits = logits - logits.max(axis=1, keepdims=True)
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    p = np.exp(log_p)
    # a class that no row can be of adds 0
    log_marginal = np.log(np.maximum(p.mean(axis=0), np.finfo(np.float64).tiny))
    return float(np.exp(np.mean(np.sum(p * (log_p - log_marginal), axis=1))))


def inception_score(
    net: Any,
    key: types.PRNGKey,
    data: types.Data,
    sample: Callable[[int], types.Batch],
    *,
    features: Any,
    n: int = 50_000,
    splits: int = 10,
    split: str = "",
) -> dict[str, float]:
    """Mean over `splits` parts of the samples of the score of each, and its deviation.

    `inception_score` only with `fmjax.pretrained.inception:extractor`, layer="logits_unbiased"
    (the published figure is of 50,000 samples in 10 parts); with another classifier's logits
    `class_score_{name}`. It knows nothing of the data: a distance beside it does.
    `split`: also the score of that many real rows at most, as `…_real`, the value to reach.
    """
    del net
    if not 1 <= splits <= n:
        raise ValueError(f"{splits} splits of {n} samples: expected 1 to {n}")
    title = _common.title(features, {SCORE_FEATURES: "inception_score"}, "class_score")
    if "logits" not in features.name:
        raise ValueError(
            f"a score of classes needs logits, and these features are {features.name!r}: build "
            'the extractor with layer="logits_unbiased" (Inception) or "logits" (EfficientNet)'
        )
    # samples come in the order of their conditions: in parts of like ones p(y) would be narrow
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))

    def scores(logits: Any) -> list[float]:
        parts = np.array_split(rng.permutation(len(logits)), min(splits, len(logits)))
        return [score(logits[part]) for part in parts]

    made = scores(_featured.generated(features, data, sample, n).x1)
    found = {
        title: float(np.mean(made)),
        f"{title}_std": float(np.std(made)),
        f"{title}_n": float(n),
        f"{title}_splits": float(splits),
    }
    if split:
        size = _common.count(data, split, n)
        real = scores(_featured.real(features, data, split, size).x1)
        found[f"{title}_real"] = float(np.mean(real))
        found[f"{title}_real_n"] = float(size)
    return found
