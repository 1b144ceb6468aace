"""What metrics share: rows, distances, draws, the judging classifier; on the host, float64."""

import functools
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int, Real

from fmjax import types

# Any real dtype, any trailing shape. Anonymous sizes: two sets may differ in rows, and a wrong
# width gets the error of `pair` rather than a type checker's.
Rows = Real[np.ndarray | Array, "_ ..."]
Flat = Float[np.ndarray, "_ _"]
UNLIMITED_ROWS = 2048  # rows taken of a split without end, where the caller names no number


def flat(x: Rows) -> Flat:
    """Rows `[n, *d]` as `[n, prod(d)]` in float64. ValueError: no rows, or rows not finite."""
    x = np.asarray(x, np.float64)
    if x.ndim == 0 or x.size == 0:
        raise ValueError(f"expected rows [n, *d] with n > 0, got an array of shape {x.shape}")
    x = x.reshape(len(x), -1)
    bad = int(np.sum(~np.isfinite(x).all(axis=1)))
    if bad:
        raise ValueError(f"{bad} of {len(x)} rows are not finite: did the sampler diverge?")
    return x


def pair(x: Rows, y: Rows) -> tuple[Flat, Flat]:
    """Both sets flattened. ValueError if an example of one is not as wide as of the other."""
    if np.shape(x)[1:] != np.shape(y)[1:]:
        raise ValueError(
            f"examples of shape {np.shape(x)[1:]} cannot be compared with examples of shape "
            f"{np.shape(y)[1:]}: bring both to the same space first"
        )
    return flat(x), flat(y)


def distances(x: Flat, y: Flat, *, entries: int = 2**18) -> Iterator[tuple[slice, Flat]]:
    """Yield `(rows of x, |x_i - y_j|)` in blocks of about `entries` numbers: 2 MB, within a cache.

    Differences, not |x|² + |y|² - 2xy: equal rows are at distance 0 exactly.
    """
    # Costs 0.4 s, which a run that never evaluates need not pay.
    from scipy.spatial import distance

    step = max(1, entries // len(y))
    for start in range(0, len(x), step):
        block = slice(start, min(start + step, len(x)))
        yield block, distance.cdist(x[block], y)


def mean_over_pairs(function: Callable[[Any], Any], x: Flat, y: Flat) -> float:
    """Mean of `function(|x_i - y_j|)` over all pairs, those of a row with itself included."""
    total = sum(float(np.sum(function(d))) for _, d in distances(x, y))
    return total / (len(x) * len(y))


def nearest(x: Flat, y: Flat) -> Float[np.ndarray, " n"]:
    """Distance of each row of `x` to its nearest row of `y`."""
    return np.concatenate([d.min(axis=1) for _, d in distances(x, y)])


def count(data: types.Data, split: str, n: int | None) -> int:
    """Rows to use of a split: `n`, at most its size; `None`: all (2048 if it has no end)."""
    if split not in data.splits:
        raise ValueError(f"no split {split!r}: the data has {sorted(data.splits)}")
    size = data.splits[split]
    if n is not None and n < 1:
        raise ValueError(f"n = {n} rows: expected at least 1, or None for all")
    if size == 0:
        return UNLIMITED_ROWS if n is None else n
    return size if n is None else min(n, size)


def real(data: types.Data, split: str, n: int) -> Rows:
    """The first `n` rows of a split."""
    return np.asarray(data.take(split, n).x1)


def generated(sample: Callable[[int], types.Batch], n: int) -> Rows:
    """`n` generated rows. ValueError if the sampler returned another number."""
    (batch,) = generated_chunks(sample, n, n)
    return np.asarray(batch.x1)


def generated_chunks(
    sample: Callable[[int], types.Batch], n: int, size: int
) -> Iterator[types.Batch]:
    """Yield `n` generated rows, `size` at a time: by `sample.chunks(n, size)`, where it has that.

    ValueError if the sampler returned another number.
    """
    if hasattr(sample, "chunks"):
        yield from sample.chunks(n, size)
        return
    whole = sample(n)
    if len(whole.x1) != n:
        raise ValueError(f"asked the sampler for {n} examples, got {len(whole.x1)}")
    for start in range(0, n, size):
        yield jax.tree.map(lambda a, rows=slice(start, start + size): a[rows], whole)


def reference_draws(
    key: types.PRNGKey, data: types.Data, split: str, reference: str, n: int, draws: int
) -> Iterator[Rows]:
    """Yield `draws` sets of `n` rows of `reference`, real data to compare with `split`.

    Without replacement within a set; consecutive blocks where `reference` has no end.
    ValueError if `reference` is `split` itself or has fewer than `n` rows.
    """
    total, places = reference_places(key, data, split, reference, n, draws)
    rows = real(data, reference, total)
    for own in places:
        yield rows[own]


def reference_places(
    key: types.PRNGKey, data: types.Data, split: str, reference: str, n: int, draws: int
) -> tuple[int, list[Int[np.ndarray, "_"]]]:
    """How many rows `reference_draws` draws from, and the places of each draw among them."""
    if reference == split:
        raise ValueError(f"split {split!r} cannot be its own reference: name another split")
    if data.splits.get(reference) == 0:
        return n * draws, np.split(np.arange(n * draws), draws)
    size = count(data, reference, None)
    if n > size:
        raise ValueError(
            f"a draw of {n} rows from {reference!r}, which has {size}: pass n={size} or less"
        )
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    return size, [rng.permutation(size)[:n] for _ in range(draws)]


def labels(batch: types.Batch, of: str | None = None) -> Int[np.ndarray, " n"]:
    """The conditions of a batch as class labels. ValueError if they are anything else.

    `of`: which of several conditions, where they are a dict.
    """
    cond = batch.cond
    if isinstance(cond, Mapping):
        if of not in cond:
            raise ValueError(f"conditions are {sorted(cond)}: name one with of=, got of={of!r}")
        cond = cond[of]
    elif of is not None:
        raise ValueError(f"of={of!r} names one of several conditions, but there is only one")
    cond = None if cond is None else np.asarray(cond)
    if cond is None or cond.ndim != 1 or not np.issubdtype(cond.dtype, np.integer):
        got = "none" if cond is None else f"{cond.dtype}{list(cond.shape)}"
        raise ValueError(
            f"a classifier needs one integer label an example as condition, got {got}: "
            "leave this evaluator out for this data"
        )
    return cond


class Classifier(NamedTuple):
    """A fitted classifier: `predict(x) -> [n]` labels, `features(x) -> [n, 64]`."""

    predict: Callable[[Any], Any]
    features: Callable[[Any], Any]


def classifier(data: types.Data, split: str = "train", of: str | None = None) -> Classifier:
    """A ReLU network 256-64 fitted on the real rows of `split`, once for each data set.

    `of`: the condition that it reads, where they are a dict.

    Its seed is fixed, so every run on the same data has the same judge.
    Digits (1,437 rows): 2 s, 98 % on the test split. Not for photographs: it sees a flat vector,
    and 50,000 of them take minutes; pass the features of a pretrained network instead.
    """
    return _fit(data.take, split, count(data, split, None), of)


# Keyed by the function that yields the rows: a `Data` holds a dict and has no hash of its own.
@functools.lru_cache(maxsize=4)
def _fit(take: Callable[..., types.Batch], split: str, n: int, of: str | None) -> Classifier:
    # Costs 1 s, which a run that never evaluates need not pay.
    import threadpoolctl
    from sklearn import exceptions, neural_network

    batch = take(split, n)
    x, y = flat(batch.x1), labels(batch, of)
    # One scale for all coordinates: one each would blow up pixels that are almost constant in
    # the data, and the judge would then see nothing but a generator's faint noise in them.
    mean, scale = x.mean(axis=0), x.std() or 1.0
    # A fixed number of epochs: digits gain nothing after 30, and scikit-learn warns of that.
    epochs = 60
    model = neural_network.MLPClassifier(
        (256, 64), alpha=0.1, max_iter=epochs, n_iter_no_change=epochs, random_state=0
    )
    # One BLAS thread: on busy cores the threads of such small products wait for each other,
    # and a fit of 2 s was measured to take 47.
    with threadpoolctl.threadpool_limits(1, "blas"), warnings.catch_warnings():
        warnings.simplefilter("ignore", exceptions.ConvergenceWarning)
        model.fit((x - mean) / scale, y)

    def predict(rows: Rows) -> Int[np.ndarray, " n"]:
        return model.predict((flat(rows) - mean) / scale)

    def features(rows: Rows) -> Flat:
        h = (flat(rows) - mean) / scale
        for weight, bias in zip(model.coefs_[:-1], model.intercepts_[:-1], strict=True):
            h = np.maximum(h @ weight + bias, 0)
        return h

    return Classifier(predict, features)


def flat_features(data: types.Data, x: Rows) -> Flat:
    """The example itself as its feature vector."""
    del data
    return flat(x)


def classifier_features(data: types.Data, x: Rows, *, of: str | None = None) -> Flat:
    """The 64 activations below the logits of the classifier fitted on the real training split."""
    return classifier(data, of=of).features(x)


classifier_features.name = "classifier"


def title(features: Any, names: Mapping[str, str], other: str) -> str:
    """A metric's name in an extractor's features: `names[extractor]`, or `other_extractor`.

    ValueError unless `features` is an extractor of `fmjax.pretrained`.
    """
    if not hasattr(features, "stream"):
        raise ValueError(
            f"features={features!r} is no extractor of a pretrained network: give features=dict("
            'name="fmjax.pretrained.efficientnet_lite0:extractor"), or use the evaluator '
            "fmjax.metrics.frechet:frechet for features of other kinds"
        )
    return names.get(features.name, f"{other}_{features.name}")


def suffix(split: str) -> str:
    """What names say of the split that is compared with: nothing of "train", as published."""
    return "" if split == "train" else f"_{split}"


def feature_name(features: Any, name: str = "") -> str:
    """What names say of a space of features: `name`, or the space's own; "" for the data.

    ValueError: another space, and no name for it.
    """
    if name or features is flat_features:
        return name
    function = getattr(features, "func", features)
    if not hasattr(function, "name"):
        raise ValueError("features other than the data need a name=, which says so in the keys")
    return function.name


def named(title: str, features: Any, name: str = "") -> str:
    """`title`, with the name of the features that it is measured in."""
    space = feature_name(features, name)
    return f"{title}_{space}" if space else title
