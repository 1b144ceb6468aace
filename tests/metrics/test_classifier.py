import numpy as np
import pytest

from fmjax import types
from fmjax.metrics import _common, _convolutional, classifier, frechet


def test_accuracy_is_the_share_of_equal_labels():
    assert classifier.accuracy(np.array([1, 2, 3, 4]), np.array([1, 2, 3, 0])) == 0.75


def test_real_digits_are_read_and_wrong_labels_are_not(key, digits, make_sample):
    x1, cond, *_ = digits.take("test", None)
    right = classifier.classifier_accuracy(None, key, digits, make_sample(x1, cond))
    assert right["classifier_test_accuracy"] >= 0.97
    assert right["conditional_accuracy"] == right["classifier_test_accuracy"]
    assert right["conditional_n"] == 360
    wrong = make_sample(x1, (cond + 1) % 10)
    assert classifier.classifier_accuracy(None, key, digits, wrong)["conditional_accuracy"] < 0.02
    assert all(isinstance(value, float) for value in right.values())


def test_rows_generated_are_as_many_as_asked(key, digits, make_sample):
    x1, cond, *_ = digits.take("test", None)
    wrong_after_ten = np.where(np.arange(len(cond)) < 10, cond, (cond + 1) % 10)
    sample = make_sample(x1, wrong_after_ten)
    out = classifier.classifier_accuracy(None, key, digits, sample, n=10)
    assert out["conditional_accuracy"] >= 0.9
    assert out["conditional_n"] == 10


def test_faint_noise_in_constant_pixels_changes_no_label(digits):
    judge = _common.classifier(digits)
    x = digits.take("test", None).x1
    noisy = x + 0.01 * np.random.default_rng(0).normal(size=x.shape)
    assert classifier.accuracy(judge.predict(x), judge.predict(noisy)) >= 0.99


def test_unconditional_data_is_refused(key, normal, fresh, make_sample):
    with pytest.raises(ValueError, match=r"needs one integer label .* got none"):
        classifier.classifier_accuracy(None, key, normal, make_sample(fresh))


def test_one_of_several_conditions_is_read(key, digits, make_sample):
    def several(split, n=None):
        x1, cond, *_ = digits.take(split, n)
        return types.Batch(x1, {"digit": cond, "even": cond % 2})

    data, test = digits._replace(take=several), several("test")
    out = classifier.classifier_accuracy(None, key, data, lambda n: test, of="even")
    ends = ("classifier_test_accuracy", "conditional_accuracy", "conditional_n")
    assert set(out) == {f"{end}_even" for end in ends}
    assert out["conditional_accuracy_even"] >= 0.95
    with pytest.raises(ValueError, match=r"conditions are \['digit', 'even'\]"):
        classifier.classifier_accuracy(None, key, data, lambda n: test, of="odd")


def test_a_convolutional_judge_reads_images_and_its_features_have_its_name(
    key, digits, make_sample, monkeypatch
):
    monkeypatch.setattr(_convolutional, "EPOCHS", 12)
    x1, cond, *_ = digits.take("test", None)
    out = classifier.classifier_accuracy(
        None, key, digits, make_sample(x1, cond), judge=classifier.convolutional
    )
    assert out["classifier_test_accuracy"] >= 0.95
    made = make_sample(digits.take("train", None).x1)
    options = {"features": classifier.convolutional_features, "draws": 2, "dims": 8}
    found = frechet.frechet(None, key, digits, made, **options)
    assert found["frechet_convolutional_ratio"] == pytest.approx(1, abs=0.5)
    assert (found["frechet_convolutional_dims"], found["frechet_convolutional_of_dims"]) == (8, 64)
    judge = classifier.convolutional(digits)
    assert judge.predict(x1[:7]).tolist() == judge.predict(x1)[:7].tolist()
    with pytest.raises(ValueError, match=r"expected finite images of \(8, 8, 1\), got \(64,\)"):
        judge.features(x1.reshape(-1, 64))


def test_a_convolutional_judge_of_rows_is_refused(normal):
    data = normal._replace(take=lambda split, n: types.Batch(np.zeros((9, 2)), np.arange(9)))
    with pytest.raises(ValueError, match=r"takes images .* got \[9, 2\]: use .*:mlp"):
        classifier.convolutional(data)
