"""Whether a classifier of real data reads in a generated example the class it was asked for."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Int

from fmjax import types
from fmjax.metrics import _common, _convolutional, _text_classifier

# The classifiers to choose from (`judge=`), and the `features=` of the evaluators that compare in
# a feature space: `fmjax.metrics.classifier:convolutional_features`.
mlp, features = _common.classifier, _common.classifier_features
convolutional = _convolutional.convolutional
convolutional_features = _convolutional.convolutional_features
text = _text_classifier.text


def accuracy(predicted: Int[np.ndarray, " n"], wanted: Int[np.ndarray, " n"]) -> float:
    """Share of equal entries, in [0, 1]."""
    return float(np.mean(predicted == wanted))


def classifier_accuracy(
    net: Any,
    key: types.PRNGKey,
    data: types.Data,
    sample: Callable[[int], types.Batch],
    *,
    split: str = "test",
    fit: str = "train",
    of: str | None = None,
    judge: Callable[..., _common.Classifier] = mlp,
    n: int | None = None,
) -> dict[str, float]:
    """Share of generated examples that a classifier of real data gives the conditioned label.

    `conditional_accuracy`: over `n` generated rows (default: as many as `split`).
    `classifier_test_accuracy`: the classifier's own, over the real rows of `split`.
    `of`: which of several conditions is the label; the names then end in it.
    `judge`: `mlp` for small rows of any kind, `convolutional` for images such as MNIST's, `text`
    for tokens of text.
    They depend on the classifier (fitted on `fit`, fixed seed) and on the guidance scale.
    A generator above the classifier's own accuracy makes typical examples, not better ones:
    read it beside a distance. ValueError unless conditions are integer labels.
    """
    del net, key
    n = _common.count(data, split, n)
    fitted = judge(data, fit, of)
    test = data.take(split, _common.count(data, split, None))
    made = sample(n)
    found = {
        "classifier_test_accuracy": accuracy(fitted.predict(test.x1), _common.labels(test, of)),
        "conditional_accuracy": accuracy(fitted.predict(made.x1), _common.labels(made, of)),
        "conditional_n": float(n),
    }
    return {f"{term}_{of}" if of else term: value for term, value in found.items()}
