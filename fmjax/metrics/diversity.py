"""How much a set of texts repeats itself: distinct n-grams, and BLEU against one another."""

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

import numpy as np

from fmjax import codecs, types
from fmjax.metrics import _common, _texts

Text = Sequence[Hashable]  # its words


def distinct(texts: Sequence[Text], n: int) -> float:
    """Different n-grams over all n-grams, those within a text; in (0, 1].

    It falls with the number of words: compare equal ones. NaN where no text has `n` words, as of
    samples before training. Li et al. 2016 (1510.03055).
    """
    grams = [gram for text in texts for gram in _grams(text, n)]
    return len(set(grams)) / len(grams) if grams else math.nan


def self_bleu(texts: Sequence[Text], *, n: int = 4) -> float:
    """Mean BLEU-`n` of each text with all others as its references, in [0, 1]; 1: all alike.

    Uniform weights; 0.1 matches of an order that has none, 0 for a text without a word of others
    (Chen & Cherry 2014, method 1): NLTK's numbers, as in the paper's code, in time linear in the
    words. It grows with the number of texts: compare equal ones. Zhu et al. 2018 (1802.01886),
    section 3.3. ValueError: fewer than two texts.
    """
    if len(texts) < 2:
        raise ValueError(f"{len(texts)} texts have no others to be compared with: take 2 or more")
    logs = np.zeros(len(texts))
    for order in range(1, n + 1):
        counts = [Counter(_grams(text, order)) for text in texts]
        logs += _log_precisions(counts, least=0.1 if order > 1 else 0.0) / n
    lengths = np.array([len(text) for text in texts])
    return float(np.mean(np.exp(logs + _log_brevity(lengths))))


def diversity(
    net: Any,
    key: types.PRNGKey,
    data: types.Data,
    sample: Callable[[int], types.Batch],
    *,
    codec: codecs.Codec,
    split: str = "test",
    n: int | None = 1000,
    words: Callable[[str], Sequence[Hashable]] = str.split,
    orders: Sequence[int] = (1, 2, 3),
    bleu: int = 4,
) -> dict[str, float]:
    """`distinct_<k>` and `self_bleu` of `n` samples; `_real`: of as many rows of `split`.

    Of words between spaces; `words=dict(bind="builtins:list")`: of characters. `distinct_<k>`
    compares the first `diversity_words` words of both, the number that the shorter set has;
    `self_bleu` (BLEU-`bleu`) compares texts whole. Low temperatures and modes that collapse show
    as less diversity than real text has; noise as more. Not a measure of quality.
    """
    del net, key
    n = _common.count(data, split, n)
    rows = {"": _common.generated(sample, n), "_real": _common.real(data, split, n)}
    texts = {end: [words(text) for text in _texts.written(codec, x)] for end, x in rows.items()}
    most = min(sum(map(len, own)) for own in texts.values())
    found = {f"self_bleu{end}": self_bleu(own, n=bleu) for end, own in texts.items()}
    for end, own in texts.items():
        cut = _first(own, most)
        found |= {f"distinct_{k}{end}": distinct(cut, k) for k in orders}
    return found | {"diversity_n": float(n), "diversity_words": float(most)}


def _grams(text: Text, n: int) -> Iterable[tuple[Hashable, ...]]:
    return zip(*(text[i:] for i in range(n)), strict=False)


def _first(texts: Sequence[Text], words: int) -> list[Text]:
    """The first texts, up to so many words in all."""
    kept = []
    for text in texts:
        kept.append(text[:words])
        words -= len(kept[-1])
    return kept


def _log_precisions(counts: Sequence[Counter], *, least: float) -> np.ndarray:
    """log of the share of each text's n-grams that another has, as often as it; `least` for 0."""
    # the most often that a text has the n-gram, which text, and the most often among the others
    most: dict[Any, tuple[int, int, int]] = {}
    for i, own in enumerate(counts):
        for gram, c in own.items():
            first, where, second = most.get(gram, (0, -1, 0))
            most[gram] = (c, i, first) if c > first else (first, where, max(second, c))
    shares = []
    for i, own in enumerate(counts):
        matches = 0
        for gram, c in own.items():
            first, where, second = most[gram]
            matches += min(c, second if where == i else first)
        shares.append((matches or least) / max(own.total(), 1))
    with np.errstate(divide="ignore"):
        return np.log(shares)


def _log_brevity(lengths: np.ndarray) -> np.ndarray:
    """min(0, 1 − r/c): c words, and r of the other text closest in length (of two, the shorter)."""
    order = np.sort(lengths)
    logs = []
    for c in lengths:
        at = np.searchsorted(order, c)  # one of those as long is the text itself
        near = [order[i] for i in (at - 1, at + 1) if 0 <= i < len(order)]
        r = min(near, key=lambda r: (abs(r - c), r))
        logs.append(min(0.0, 1 - r / c) if c else -math.inf)
    return np.array(logs)
