"""The n-gram baseline, against a dictionary's and by hand."""

import math
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def ngrams(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "experiments"))
    import _ngrams

    return _ngrams


def slow(rows, order, vocabulary, discounts):
    """`p(context, token)` of the same model, by dictionaries and recursion."""
    counts = {order: Counter(tuple(r[i : i + order]) for r in rows for i in range(len(r)))}
    counts[order] = {g: c for g, c in counts[order].items() if len(g) == order}
    for k in range(order - 1, 0, -1):
        before = defaultdict(set)
        for gram in counts[k + 1]:
            before[gram[1:]].add(gram[0])
        counts[k] = {gram: len(found) for gram, found in before.items()}
    taken = {k: (0, *discounts(np.array(list(counts[k].values())))) for k in range(2, order + 1)}

    def p(context, token):
        if not context:
            extra = len(counts[1]) < vocabulary
            total = sum(counts[1].values()) + extra * vocabulary
            return (counts[1].get((token,), 0) + extra) / total
        k = len(context) + 1
        after = {g[-1]: c for g, c in counts[k].items() if g[:-1] == context}
        if not after:
            return p(context[1:], token)
        total = sum(after.values())
        left = sum(taken[k][min(c, 3)] for c in after.values()) / total
        c = after.get(token, 0)
        return (c - taken[k][min(c, 3)]) / total + left * p(context[1:], token)

    return p


@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize("vocabulary", [3, 6])
def test_it_is_a_dictionarys_model(ngrams, order, vocabulary):
    rng = np.random.default_rng(order)
    rows = np.minimum(rng.geometric(0.4, (7, 40)) - 1, 4) % vocabulary
    model, p = (
        ngrams.fit(rows, order, vocabulary),
        slow(rows.tolist(), order, vocabulary, ngrams.discounts),
    )
    held_out = rng.integers(0, vocabulary, (3, 30))
    expected = [
        [math.log2(p(tuple(r[max(i - order + 1, 0) : i]), r[i])) for i in range(len(r))]
        for r in held_out.tolist()
    ]
    np.testing.assert_allclose(ngrams.log2_prob(model, held_out), expected, atol=1e-10)
    assert ngrams.bits_per_token(model, held_out) == pytest.approx(-np.mean(expected))


@pytest.mark.parametrize("order", [2, 4])
def test_probabilities_sum_to_one_in_seen_and_unseen_contexts(ngrams, order):
    rng = np.random.default_rng(0)
    model = ngrams.fit(np.minimum(rng.geometric(0.5, 300) - 1, 5), order, 8)
    contexts = rng.integers(0, 8, (200, order - 1))
    seen = np.isin(contexts @ 8 ** np.arange(order - 1)[::-1], model.levels[-1].contexts)
    assert 0 < seen.mean() < 1
    rows = np.stack([np.insert(contexts, order - 1, w, axis=1) for w in range(8)])
    np.testing.assert_allclose(np.exp2(ngrams.log2_prob(model, rows))[..., -1].sum(0), 1)


def test_a_small_text_by_hand(ngrams):
    # "abac": ab ba ac, each once: the discounts fall back to (0.5, 1, 1.5).
    model = ngrams.fit(np.array([0, 1, 0, 2]), 2, 3)
    # How many tokens each follows: a: {b}, b: {a}, c: {a}.
    np.testing.assert_allclose(model.unigram, [1 / 3, 1 / 3, 1 / 3])
    # P(b | a) = (1 − ½)/2 + (½ + ½)/2 · ⅓;  c was never a context: P(a | c) = ⅓
    found = np.exp2(ngrams.log2_prob(model, np.array([[0, 1], [0, 0], [1, 0], [2, 0]])))[:, 1]
    np.testing.assert_allclose(found, [1 / 4 + 1 / 6, 1 / 6, 1 / 2 + 1 / 6, 1 / 3])


def test_discounts_by_hand(ngrams):
    # n1 … n4 = 4, 2, 1, 1: Y = ½
    counts = np.array([1, 1, 1, 1, 2, 2, 3, 4, 9])
    assert ngrams.discounts(counts) == pytest.approx((0.5, 2 - 3 / 4, 3 - 4 / 2))
    assert ngrams.discounts(np.array([1, 2, 3])) == ngrams.FALLBACK  # none was seen four times
    assert ngrams.discounts(np.array([1, 2, 3, *[4] * 9])) == ngrams.FALLBACK  # D3+ < 0


def test_a_unigram_is_the_shares(ngrams):
    tokens = np.array([0, 0, 1, 2])
    np.testing.assert_allclose(ngrams.fit(tokens, 1, 3).unigram, [0.5, 0.25, 0.25])
    np.testing.assert_allclose(ngrams.fit(tokens, 1, 4).unigram, np.array([3, 2, 2, 1]) / 8)


def test_bits_of_a_markov_chain_are_its_entropy(ngrams):
    step = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.3, 0.5, 0.2]])
    uniform, tokens, at = np.random.default_rng(0).random(200_000), [], 0
    edges = step.cumsum(1).tolist()
    for u in uniform.tolist():
        at = (u > edges[at][0]) + (u > edges[at][1])
        tokens.append(at)
    tokens = np.array(tokens)
    rows = -(step * np.log2(step)).sum(1)
    stationary = np.linalg.matrix_power(step, 100)[0]
    train, held_out = tokens[:100_000], tokens[100_000:]
    for order in (2, 3, 5):
        bits = ngrams.bits_per_token(ngrams.fit(train, order, 3), held_out)
        assert bits == pytest.approx(rows @ stationary, abs=0.006)
    one = ngrams.bits_per_token(ngrams.fit(train, 1, 3), held_out)
    assert one == pytest.approx(-(stationary * np.log2(stationary)).sum(), abs=0.006)


def test_what_is_no_text_is_refused(ngrams):
    with pytest.raises(ValueError, match=r"in \[0, 3\), got int64\[4\], values 0 … 3"):
        ngrams.fit(np.arange(4), 2, 3)
    with pytest.raises(ValueError, match=r"whole numbers .* got float64\[2\]"):
        ngrams.fit(np.zeros(2), 1, 3)
    with pytest.raises(ValueError, match=r"vocabulary \*\* order < 2"):
        ngrams.fit(np.arange(4), 14, 27)
    with pytest.raises(ValueError, match="rows of 4 tokens have no 5-gram"):
        ngrams.fit(np.arange(4), 5, 27)
