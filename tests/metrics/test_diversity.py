import math

import numpy as np
import pytest

from fmjax import codecs
from fmjax.metrics import diversity

LETTERS = "_abcdefghijklmnopqrstuvwxyz"


def write(row):
    return "".join(LETTERS[i] for i in row).replace("_", " ")


CODEC = codecs.identity()._replace(vocabulary=27, write=write)


def rows(*texts):
    return np.array([[LETTERS.index(c) for c in t.replace(" ", "_")] for t in texts], np.int32)


def test_distinct_by_hand():
    texts = [list("abab"), list("ba")]
    assert diversity.distinct(texts, 1) == 2 / 6
    assert diversity.distinct(texts, 2) == 2 / 4  # ab ba ab | ba
    assert diversity.distinct(texts, 3) == 1.0
    assert math.isnan(diversity.distinct(texts, 5))


def test_self_bleu_of_equal_texts_is_one_and_of_strangers_zero():
    assert diversity.self_bleu([list("abcde")] * 3) == pytest.approx(1)
    assert diversity.self_bleu([list("abcde"), list("fghij")]) == 0
    with pytest.raises(ValueError, match="1 texts have no others"):
        diversity.self_bleu([list("abcde")])


def test_self_bleu_by_hand():
    # "a a b" of "a b c d": 2 of 3 words, 1 of 2 pairs, too short by exp(1 − 4/3);
    # the other way 2 of 4 words, 1 of 3 pairs, and longer, which costs nothing
    short = math.exp(1 - 4 / 3) * math.sqrt(2 / 3 * 1 / 2)
    found = diversity.self_bleu([list("aab"), list("abcd")], n=2)
    assert found == pytest.approx((short + math.sqrt(2 / 4 * 1 / 3)) / 2)
    # no pair matches: 0.1 of one
    found = diversity.self_bleu([list("ab"), list("ba")], n=2)
    assert found == pytest.approx(math.sqrt(0.1))


def test_self_bleu_is_that_of_nltk():
    # nltk 3.10.4: the mean of sentence_bleu(others, text, smoothing_function=method1)
    texts = [
        t.split()
        for t in (
            "the cat sat on the mat",
            "the cat sat on a mat today",
            "a dog sat on the mat",
            "the the the",
            "nothing alike",
        )
    ]
    assert diversity.self_bleu(texts) == pytest.approx(0.4062002251, abs=1e-9)
    assert diversity.self_bleu(texts, n=2) == pytest.approx(0.5088669275, abs=1e-9)


def test_evaluator_compares_equal_numbers_of_words(key, make_data, make_sample):
    test = rows("ab cd ef", "gh ij kl", "mn op qr")
    data = make_data({"test": (test, None)})
    same = diversity.diversity(None, key, data, make_sample(test), codec=CODEC)
    for name in ("distinct_1", "distinct_2", "distinct_3", "self_bleu"):
        assert same[name] == same[f"{name}_real"]
    assert same["distinct_1"] == 1
    assert (same["diversity_n"], same["diversity_words"]) == (3, 9)
    assert all(isinstance(value, float) for value in same.values())
    collapsed = make_sample(rows("abcd abc", "abcd abc", "abcd abc"))
    found = diversity.diversity(None, key, data, collapsed, codec=CODEC, orders=(1, 2), bleu=2)
    assert found["diversity_words"] == 6
    assert (found["distinct_1"], found["distinct_1_real"]) == (2 / 6, 1)
    assert (found["distinct_2"], found["self_bleu"]) == (1 / 3, 1)
    assert "distinct_3" not in found
    blank = make_sample(rows("        ", "a       ", "        "))
    found = diversity.diversity(None, key, data, blank, codec=CODEC)
    assert (found["diversity_words"], found["distinct_1_real"], found["self_bleu"]) == (1, 1, 0)
    assert math.isnan(found["distinct_2"])
    letters = diversity.diversity(None, key, data, collapsed, codec=CODEC, words=list)
    assert (letters["diversity_words"], letters["distinct_1"]) == (24, 5 / 24)


def test_what_is_no_text_is_refused(key, normal, fresh, make_sample):
    with pytest.raises(ValueError, match=r"no `write`, so samples are no text"):
        diversity.diversity(None, key, normal, make_sample(fresh), codec=codecs.identity())
    with pytest.raises(ValueError, match=r"whole numbers \[b, n\], got float32\[200, 1, 2\]"):
        diversity.diversity(None, key, normal, make_sample(fresh), codec=CODEC)
