"""Interpolated, modified Kneser-Ney n-grams of tokens: the baseline that a text model has to beat.

    P_k(w | h) = max(c(hw) − D(c(hw)), 0) / c(h·)  +  γ(h) P_{k−1}(w | h′)

h is of k − 1 tokens and h′ lacks the first of them. c counts, for the longest n-gram, how often it
occurs; for shorter ones, how many tokens it was seen to follow. D takes D1, D2, D3+ for c = 1, 2,
≥ 3, and γ(h) is what it took away, so that probabilities sum to 1. Chen & Goodman 1998,
"An empirical study of smoothing techniques for language modeling", section 4.1.6.
"""

from typing import NamedTuple

import numpy as np

FALLBACK = (0.5, 1.0, 1.5)  # KenLM's, where counts of counts give no discounts (Heafield 2013)


class Level(NamedTuple):
    """The n-grams of one length, as numbers in base `vocabulary`, in order; and their contexts."""

    grams: np.ndarray  # [g]
    shares: np.ndarray  # [g]: the first term
    contexts: np.ndarray  # [h]
    backoff: np.ndarray  # [h]: γ


class NGram(NamedTuple):
    """P_1 `[vocabulary]`, and the levels of 2, 3, …, `order` tokens."""

    unigram: np.ndarray
    levels: tuple[Level, ...]


def fit(tokens, order, vocabulary):
    """An n-gram of `order` of the rows of `tokens` `[…, n]`, whole numbers below `vocabulary`.

    n-grams do not cross rows. A 1-gram has the counts' shares, undiscounted; tokens that training
    lacks get a probability by one more count for each token. 2.2 M tokens: seconds.
    """
    tokens = _checked(tokens, vocabulary)
    if order < 1 or vocabulary**order >= 2**63:
        raise ValueError(
            f"order={order} with vocabulary={vocabulary}: expected order >= 1 and "
            "vocabulary ** order < 2 ** 63, so that an n-gram is one number"
        )
    grams, counts = np.unique(_coded(tokens, order, vocabulary), return_counts=True)
    if not len(grams):
        raise ValueError(f"rows of {tokens.shape[-1]} tokens have no {order}-gram: join them first")
    levels = []
    for k in range(order, 1, -1):
        levels.append(_level(grams, counts, vocabulary))
        grams, counts = np.unique(grams % vocabulary ** (k - 1), return_counts=True)
    unigram = np.zeros(vocabulary)
    unigram[grams] = counts
    unigram += unigram.min() == 0
    return NGram(unigram / unigram.sum(), tuple(reversed(levels)))


def log2_prob(model, tokens):
    """log₂ P of each token `[…, n]` given up to `order` − 1 tokens before it in its row.

    The first tokens of a row have shorter contexts, and so the lower orders' probabilities.
    """
    vocabulary = len(model.unigram)
    tokens = _checked(tokens, vocabulary)
    p = model.unigram[tokens]
    for k, level in enumerate(model.levels, 2):
        grams = _coded(tokens, k, vocabulary)
        share = _looked_up(level.grams, level.shares, grams, 0.0)
        backoff = _looked_up(level.contexts, level.backoff, grams // vocabulary, 1.0)
        p[..., k - 1 :] = share + backoff * p[..., k - 1 :]
    return np.log2(p)


def bits_per_token(model, held_out):
    """−mean log₂ P of the tokens of `held_out` `[…, n]`: bits per character, if they are such."""
    return -float(np.mean(log2_prob(model, held_out)))


def discounts(counts):
    """(D1, D2, D3+) from how many n-grams were seen once, twice, thrice and four times.

    With Y = n1 / (n1 + 2 n2): D_i = i − (i + 1) Y n_{i+1} / n_i. `FALLBACK` where one of them is
    missing or a discount is outside [0, i], as of short text or few symbols.
    """
    n = np.bincount(np.minimum(counts, 5), minlength=6)[1:5]
    if not n.all():
        return FALLBACK
    y = n[0] / (n[0] + 2 * n[1])
    found = tuple(float(i - (i + 1) * y * n[i] / n[i - 1]) for i in (1, 2, 3))
    return found if all(0 <= d <= i for i, d in enumerate(found, 1)) else FALLBACK


def _level(grams, counts, vocabulary):
    contexts, starts = np.unique(grams // vocabulary, return_index=True)
    taken = np.asarray((0.0, *discounts(counts)))[np.minimum(counts, 3)]
    totals = np.add.reduceat(counts, starts)
    each = np.repeat(totals, np.diff(starts, append=len(grams)))
    return Level(grams, (counts - taken) / each, contexts, np.add.reduceat(taken, starts) / totals)


def _coded(tokens, k, vocabulary):
    """The k-grams `[…, n − k + 1]`, each as one number; the last token is the lowest digit."""
    n = max(tokens.shape[-1] - k + 1, 0)
    grams = np.zeros((*tokens.shape[:-1], n), np.int64)
    for i in range(k):
        grams *= vocabulary
        grams += tokens[..., i : i + n]
    return grams


def _looked_up(keys, values, wanted, default):
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[places] == wanted, values[places], default)


def _checked(tokens, vocabulary):
    tokens = np.asarray(tokens)
    whole = tokens.ndim and np.issubdtype(tokens.dtype, np.integer) and tokens.size
    if not whole or tokens.min() < 0 or tokens.max() >= vocabulary:
        got = f"{tokens.dtype}{list(tokens.shape)}"
        values = f", values {tokens.min()} … {tokens.max()}" if tokens.size else ""
        raise ValueError(f"expected whole numbers [..., n] in [0, {vocabulary}), got {got}{values}")
    return tokens
