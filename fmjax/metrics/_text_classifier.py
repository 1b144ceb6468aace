"""A linear classifier of texts by their words and letters, fitted on the spot: a judge of text."""

import functools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from fmjax import codecs, types
from fmjax.metrics import _common, _texts

WORDS, LETTERS = 50_000, 20_000  # n-grams kept, the most frequent
ITERATIONS = 100


def text(
    data: types.Data,
    split: str = "train",
    of: str | None = None,
    *,
    codec: codecs.Codec,
) -> _common.Classifier:
    """Logistic regression on TF-IDF of 1 to 2 words and of 2 to 4 letters, once for each data set.

    Fitted on the real rows of `split`, as `codec` writes them; words are what lies between spaces.
    `of`: the condition that it reads, where they are a dict. `features`: log-probabilities of the
    classes. 8,000 rows of 256 letters in 8 classes: 10 s of a CPU core.
    It reads topics, not whether a text makes sense: a bag of the right words is enough. Wang &
    Manning 2012, "Baselines and bigrams". ValueError: no tokens, a codec that writes no text.
    """
    return _fit(data.take, split, _common.count(data, split, None), of, codec)


@functools.lru_cache(maxsize=4)
def _fit(
    take: Callable[..., types.Batch], split: str, n: int, of: str | None, codec: codecs.Codec
) -> _common.Classifier:
    # Costs 1 s, which a run that never evaluates need not pay.
    import threadpoolctl
    from sklearn import exceptions, feature_extraction, linear_model, pipeline

    tfidf = functools.partial(
        feature_extraction.text.TfidfVectorizer, sublinear_tf=True, dtype=np.float32
    )
    words = tfidf(ngram_range=(1, 2), token_pattern=r"\S+", max_features=WORDS)
    letters = tfidf(analyzer="char", ngram_range=(2, 4), max_features=LETTERS)
    model = pipeline.make_pipeline(
        pipeline.make_union(words, letters),
        linear_model.LogisticRegression(C=10.0, max_iter=ITERATIONS),
    )
    batch = take(split, n)
    # one BLAS thread: see `_common.classifier`
    with threadpoolctl.threadpool_limits(1, "blas"), warnings.catch_warnings():
        warnings.simplefilter("ignore", exceptions.ConvergenceWarning)
        model.fit(_texts.written(codec, batch.x1), _common.labels(batch, of))

    def predict(rows: Any) -> Any:
        return model.predict(_texts.written(codec, rows))

    def features(rows: Any) -> Any:
        return model.predict_log_proba(_texts.written(codec, rows)).astype(np.float64)

    return _common.Classifier(predict, features)
