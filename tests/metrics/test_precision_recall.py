import numpy as np
import pytest

from fmjax.metrics import _common, classifier, precision_recall


@pytest.fixture
def rows(fresh):
    return fresh[:200]


def test_identical_sets_are_perfect(rows):
    out = precision_recall.precision_recall(rows, rows[::-1])
    assert (out["precision"], out["recall"], out["coverage"]) == (1, 1, 1)
    # Each ball of radius "third neighbour" holds the row itself and three others.
    assert out["density"] == pytest.approx(4 / 3, rel=1e-6)


def test_disjoint_sets_share_nothing(rows):
    assert set(precision_recall.precision_recall(rows, rows + 100).values()) == {0.0}


def test_one_of_two_modes_is_precise_and_recalls_half(rows):
    both = np.concatenate([rows, rows + 100])
    out = precision_recall.precision_recall(both, rows)
    assert (out["precision"], out["recall"], out["coverage"]) == (1, 0.5, 0.5)
    out = precision_recall.precision_recall(rows, both)
    assert (out["precision"], out["recall"], out["coverage"]) == (0.5, 1, 1)


def test_balls_on_a_line_by_hand():
    real, fake = np.array([[0.0], [1.0], [3.0]]), np.array([[1.5], [6.0], [6.5]])
    # k = 1: radii of real 1, 1, 2; of fake 4.5, 0.5, 0.5. 1.5 lies in two real balls, 6 in none.
    out = precision_recall.precision_recall(real, fake, k=1)
    assert out["precision"] == pytest.approx(1 / 3)
    assert out["recall"] == 1
    assert out["density"] == pytest.approx(2 / 3)
    assert out["coverage"] == pytest.approx(2 / 3)


def test_order_of_rows_does_not_matter(rows, fresh):
    out = precision_recall.precision_recall(rows, fresh[200:500])
    assert precision_recall.precision_recall(rows[::-1], fresh[200:500][::-1]) == out


def test_blocks_do_not_change_the_numbers(rows, fresh, monkeypatch):
    whole = precision_recall.precision_recall(rows, fresh[200:500])
    blocks = _common.distances
    monkeypatch.setattr(_common, "distances", lambda x, y: blocks(x, y, entries=1000))
    assert precision_recall.precision_recall(rows, fresh[200:500]) == whole


def test_errors_say_what_is_missing():
    with pytest.raises(ValueError, match="k = 3 neighbours among 3 rows"):
        precision_recall.precision_recall(np.zeros((9, 2)), np.zeros((3, 2)))
    with pytest.raises(ValueError, match="cannot be compared"):
        precision_recall.precision_recall(np.zeros((9, 2)), np.zeros((9, 3)))


def test_evaluator_reaches_the_reference_with_fresh_rows(key, normal, fresh, make_sample):
    out = precision_recall.manifold(None, key, normal, make_sample(fresh))
    for name in ("precision", "recall", "density", "coverage"):
        assert out[name] == pytest.approx(out[f"{name}_reference"], abs=0.12)
    assert (out["manifold_k"], out["manifold_n"]) == (3, 200)
    narrow = precision_recall.manifold(None, key, normal, make_sample(fresh * 0.2))
    assert narrow["precision"] >= 0.9
    assert narrow["recall"] < 0.3
    assert all(isinstance(value, float) for value in out.values())


def test_evaluator_in_classifier_features_says_so(key, digits, make_sample):
    sample = make_sample(digits.take("train", None).x1)
    out = precision_recall.manifold(
        None, key, digits, sample, features=classifier.features, name="classifier"
    )
    assert out["classifier_precision"] > 0.7
    assert out["classifier_manifold_n"] == 360
    with pytest.raises(ValueError, match="need a name="):
        precision_recall.manifold(None, key, digits, sample, features=lambda data, x: x)


def test_an_extractor_names_itself(key, images, extractor, make_sample):
    sample = make_sample(images.take("train").x1)
    out = precision_recall.manifold(None, key, images, sample, features=extractor, k=5)
    assert out["tiny_coverage"] > 0.8
    assert out["tiny_manifold_k"] == 5
