import functools

import numpy as np
import pytest

from fmjax import codecs, config
from fmjax.metrics import classifier

LETTERS = " abcdefghijklmnopqrstuvwxyz"
TOPICS = ("stars orbit light planet", "bread flour oven salt", "goal ball team match")


def write(row):
    return "".join(LETTERS[i] for i in row)


CODEC = codecs.identity()._replace(vocabulary=27, write=write)
JUDGE = functools.partial(classifier.text, codec=CODEC)


@pytest.fixture(scope="module")
def topics():
    """Texts of 24 letters: words of a topic, among others that say nothing of it."""
    rng, rows, labels = np.random.default_rng(0), [], np.arange(150) % 3
    for topic in labels:
        common = "and the of in".split()  # noqa: SIM905
        line = " ".join(rng.choice(TOPICS[topic].split() + common, 12))
        rows.append([LETTERS.index(c) for c in line[:24]])
    return np.array(rows, np.int32), labels.astype(np.int32)


@pytest.fixture
def data(topics, make_data):
    x1, cond = topics
    return make_data({"train": (x1[:120], cond[:120]), "test": (x1[120:], cond[120:])})


def test_topics_are_read_and_wrong_ones_are_not(key, data, make_sample):
    x1, cond, *_ = data.take("test", None)
    accuracy = functools.partial(classifier.classifier_accuracy, None, key, data, judge=JUDGE)
    right = accuracy(make_sample(x1, cond))
    assert right["classifier_test_accuracy"] >= 0.9
    assert right["conditional_accuracy"] == right["classifier_test_accuracy"]
    assert accuracy(make_sample(x1, (cond + 1) % 3))["conditional_accuracy"] <= 0.1


def test_a_config_that_names_the_judge_gives_it_the_runs_codec(key, data, make_sample):
    name = "fmjax.metrics.classifier:"
    node = {"bind": f"{name}classifier_accuracy", "judge": {"bind": f"{name}text"}}
    evaluator = config.build(node, codec=CODEC)
    found = evaluator(None, key, data, make_sample(*data.take("test", None)[:2]), n=9)
    assert found["conditional_accuracy"] >= 0.8


def test_features_are_log_probabilities_and_it_is_fitted_once(data):
    judge = JUDGE(data)
    assert JUDGE(data) is judge
    x1 = data.take("test", None).x1
    found = judge.features(x1)
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1, rtol=1e-5)
    assert found.argmax(axis=1).tolist() == judge.predict(x1).tolist()


def test_the_order_of_words_is_read_in_pairs(make_data):
    lines = ["ab cd", "cd ab", "ef gh", "gh ef"] * 5
    x1 = np.array([[LETTERS.index(c) for c in line] for line in lines], np.int32)
    data = make_data({"train": (x1, np.array([0, 1, 0, 1] * 5)), "test": (x1, None)})
    assert JUDGE(data).predict(x1[:4]).tolist() == [0, 1, 0, 1]


def test_what_is_no_text_is_refused(normal, data):
    with pytest.raises(ValueError, match="no `write`"):
        classifier.text(data, codec=codecs.identity())
    with pytest.raises(ValueError, match=r"whole numbers \[b, n\], got float32"):
        JUDGE(normal)
