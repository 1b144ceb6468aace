import numpy as np
import pytest

from fmjax.metrics import inception_score


def test_certain_and_even_classes_score_their_number_and_one_class_1():
    sure = 1e3 * np.eye(5)[np.arange(50) % 5]
    assert inception_score.score(sure) == pytest.approx(5)
    assert inception_score.score(sure[:1].repeat(9, axis=0)) == pytest.approx(1)
    assert inception_score.score(np.zeros((7, 5))) == pytest.approx(1)


def test_two_rows_by_hand():
    p = np.array([[0.8, 0.2], [0.4, 0.6]])
    expected = np.exp(np.mean(np.sum(p * np.log(p / p.mean(axis=0)), axis=1)))
    assert inception_score.score(np.log(p) + 3) == pytest.approx(expected)


def test_evaluator(key, images, make_extractor_named, make_sample):
    sample = make_sample(images.take("train").x1)
    features = make_extractor_named("tiny_logits")
    options = {"features": features, "n": 100, "splits": 4}
    out = inception_score.inception_score(None, key, images, sample, split="test", **options)
    assert 1 <= out["class_score_tiny_logits"] <= 3
    assert (out["class_score_tiny_logits_n"], out["class_score_tiny_logits_splits"]) == (100, 4)
    assert out["class_score_tiny_logits_real"] == pytest.approx(1, abs=0.1)
    assert out["class_score_tiny_logits_real_n"] == 60
    features = make_extractor_named("inception_logits_unbiased")
    true = inception_score.inception_score(
        None, key, images, sample, **options | {"features": features}
    )
    assert set(true) == {f"inception_score{end}" for end in ("", "_std", "_n", "_splits")}
    assert true["inception_score"] == pytest.approx(out["class_score_tiny_logits"])


def test_parts_have_all_classes_whatever_the_order_of_samples(
    key, images, make_extractor_named, make_sample
):
    # the first half has one bright channel, the second another: apart, each would score 1
    x = np.zeros((100, 8, 8, 3), np.uint8)
    x[:50, ..., 0] = x[50:, ..., 1] = 255
    features = make_extractor_named("tiny_logits")
    out = inception_score.inception_score(
        None, key, images, make_sample(x), features=features, n=100, splits=2
    )
    assert out["class_score_tiny_logits"] > 1.05


def test_features_that_are_no_logits_are_refused(key, images, extractor, make_sample):
    sample = make_sample(images.take("train").x1)
    with pytest.raises(ValueError, match="needs logits, and these features are 'tiny'"):
        inception_score.inception_score(None, key, images, sample, features=extractor)
    with pytest.raises(ValueError, match="no extractor of a pretrained network"):
        inception_score.inception_score(None, key, images, sample, features=len)
    with pytest.raises(ValueError, match="10 splits of 5 samples"):
        inception_score.inception_score(None, key, images, sample, features=extractor, n=5)
