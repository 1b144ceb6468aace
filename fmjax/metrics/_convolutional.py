"""A small convolutional classifier of images, fitted on the spot: the judge of real pictures."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fmjax import types
from fmjax.metrics import _common

BATCH, EPOCHS, CHUNK = 64, 30, 500
FEATURES = 64


def convolutional(
    data: types.Data, split: str = "train", of: str | None = None
) -> _common.Classifier:
    """Two strided 3×3 convolutions, 64 features and logits, fitted once for each data set.

    Adam for 30 epochs on the real rows of `split`, shifted at random by up to 1/14 of their side,
    with a fixed seed. `of`: the condition that it reads, where they are a dict. 4,000 of MNIST's
    digits: 98.0 % on 1,000 others, 22 s on a busy CPU core (the fully connected one: 94.9 %).
    For many or large images, a pretrained network's features instead.
    ValueError unless rows are images `[n, height, width, channels]` of at least 8 × 8.
    """
    return _fit(data.take, split, _common.count(data, split, None), of)


def convolutional_features(
    data: types.Data, x: _common.Rows, *, of: str | None = None
) -> _common.Flat:
    """The 64 activations below the logits of `convolutional`, fitted on the real training split."""
    return convolutional(data, of=of).features(x)


convolutional_features.name = "convolutional"


@functools.lru_cache(maxsize=4)
def _fit(
    take: Callable[..., types.Batch], split: str, n: int, of: str | None
) -> _common.Classifier:
    batch = take(split, n)
    x, y = np.asarray(batch.x1, np.float32), _common.labels(batch, of)
    if x.ndim != 4 or min(x.shape[1:3]) < 8:
        raise ValueError(
            f"this classifier takes images [n, height, width, channels] of at least 8 × 8, got "
            f"{list(x.shape)}: use fmjax.metrics.classifier:mlp"
        )
    mean, scale = x.mean(axis=0), x.std() or 1.0
    params = _initial(jax.random.key(0), x.shape[1:], int(y.max()) + 1)
    rows = jnp.asarray((x - mean) / scale), jnp.asarray(y)
    params = _trained(params, *rows, jax.random.key(1), max(x.shape[1] // 14, x.shape[1] > 14))

    def features(rows: Any) -> Any:
        rows = np.asarray(rows, np.float32)
        if rows.shape[1:] != x.shape[1:] or not np.isfinite(rows).all():
            raise ValueError(f"expected finite images of {x.shape[1:]}, got {rows.shape[1:]}")
        parts = []
        for start in range(0, len(rows), CHUNK):
            part = (rows[start : start + CHUNK] - mean) / scale
            full = part[np.arange(CHUNK) % len(part)]
            parts.append(np.asarray(_features(params, full), np.float64)[: len(part)])
        return np.concatenate(parts)

    last = jax.tree.map(lambda w: np.asarray(w, np.float64), params["classes"])

    def predict(rows: Any) -> Any:
        return np.argmax(features(rows) @ last["w"] + last["b"], axis=1)

    return _common.Classifier(predict, features)


def _initial(key: Any, shape: tuple[int, ...], classes: int) -> Any:
    height, width, channels = shape
    places = -(-height // 4) * -(-width // 4)
    sizes = {
        "first": (9 * channels, 32),
        "second": (9 * 32, 64),
        "dense": (places * 64, FEATURES),
        "classes": (FEATURES, classes),
    }
    keys = jax.random.split(key, len(sizes))
    return {
        name: {"w": jax.random.normal(k, size) * (2 / size[0]) ** 0.5, "b": jnp.zeros(size[1])}
        for k, (name, size) in zip(keys, sizes.items(), strict=True)
    }


def _dense(layer: Any, x: Any) -> Any:
    return x @ layer["w"] + layer["b"][(None,) * (x.ndim - 1)]


def _windows(x: Any) -> Any:
    """Every other place's 3×3 neighbours, joined along the channels: a product is then quick."""
    height, width = (-(-n // 2) for n in x.shape[1:3])
    x = jnp.pad(x, ((0, 0), (1, 2), (1, 2), (0, 0)))
    return jnp.concatenate(
        [x[:, i : i + 2 * height : 2, j : j + 2 * width : 2] for i in range(3) for j in range(3)],
        axis=-1,
    )


@jax.jit
def _features(params: Any, x: Any) -> Any:
    for name in ("first", "second"):
        x = jax.nn.relu(_dense(params[name], _windows(x)))
    return jax.nn.relu(_dense(params["dense"], x.reshape(len(x), -1)))


@functools.partial(jax.jit, static_argnums=4)
def _trained(params: Any, x: Any, y: Any, key: Any, most: int) -> Any:
    steps = max(EPOCHS * len(x) // BATCH, 1)
    tx = optax.adamw(optax.cosine_decay_schedule(2e-3, steps), weight_decay=1e-2)
    pad = ((most, most), (most, most), (0, 0))

    def shifted(image: Any, at: Any) -> Any:
        corner = (at[0], at[1], 0)
        return jax.lax.dynamic_slice(jnp.pad(image, pad, mode="edge"), corner, image.shape)

    def loss(params: Any, images: Any, labels: Any) -> Any:
        logits = _dense(params["classes"], _features(params, images))
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def step(state: Any, i: Any) -> Any:
        params, opt_state = state
        key_rows, key_shifts = jax.random.split(jax.random.fold_in(key, i))
        rows = jax.random.randint(key_rows, (BATCH,), 0, len(x))
        images = x[rows]
        if most:
            at = jax.random.randint(key_shifts, (BATCH, 2), 0, 2 * most + 1)
            images = jax.vmap(shifted)(images, at)
        updates, opt_state = tx.update(jax.grad(loss)(params, images, y[rows]), opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), None

    return jax.lax.scan(step, (params, tx.init(params)), jnp.arange(steps))[0][0]
