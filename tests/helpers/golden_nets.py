"""Small nets with parameters that are fixed and nowhere zero, and what they start from."""

import functools

import jax
import numpy as np
from helpers import golden_store

from fmjax import sources, train
from fmjax.models import autoencoder as autoencoders
from fmjax.models import edit_transformer, resmlp, token_transformer
from fmjax.models.velocity_score import VelocityScore
from fmjax.types import Batch

ROWS, CLASSES, VOCABULARY, END = 8, 3, 5, 4
NO_PARTS = {"group": np.int32(2), "style": np.int32(2)}
KEY = jax.random.key(1)
SMALL = {"width": 16, "depth": 1, "features": 8}


def image():
    return np.random.default_rng(2).normal(size=(4, 4, 1)).astype(np.float32)


def labels(n=CLASSES):
    return (np.arange(ROWS) % n).astype(np.int32)


def noise():
    return np.random.default_rng(3).normal(size=(ROWS, 4, 4, 1)).astype(np.float32)


@functools.cache
def images():
    """4 × 4 pixels of three classes."""
    return built(resmlp.resmlp(**SMALL, num_classes=CLASSES), noise(), labels())


@functools.cache
def parts():
    """4 × 4 pixels whose condition has two parts."""
    model = resmlp.resmlp(**SMALL, num_classes={"group": 2, "style": 2})
    return built(model, noise(), {"group": labels(2), "style": labels(2)[::-1].copy()})


@functools.cache
def two():
    """A velocity and a score."""
    one = resmlp.resmlp(**SMALL, num_classes=CLASSES)
    return built(VelocityScore(one, one), noise(), labels())


@functools.cache
def autoencoder():
    """Its condition is what is to be reconstructed."""
    model = autoencoders.autoencoder(width=4, multipliers=(1,), latent=2, groups=2)
    return built(model, noise(), noise()[::-1].copy())


@functools.cache
def uniform():
    """Six tokens, from any others."""
    return _tokens(functools.partial(sources.uniform_tokens, vocabulary=VOCABULARY))


@functools.cache
def masks():
    """Six tokens, from masks."""
    return _tokens(functools.partial(sources.mask, vocabulary=VOCABULARY), carry=True)


@functools.cache
def causal():
    """Six tokens, each of which sees those before it."""
    return _tokens(functools.partial(sources.mask, vocabulary=VOCABULARY), causal=True)


def _tokens(source, **options):
    model = token_transformer.token_transformer(
        vocabulary=VOCABULARY, heads=2, num_classes=CLASSES, **SMALL, **options
    )
    return built(model, _start(source), labels())


@functools.cache
def edits():
    """Texts of up to eight tokens, from short ones."""
    model = edit_transformer.edit_transformer(
        vocabulary=VOCABULARY, end=END, heads=2, num_classes=CLASSES, **SMALL
    )
    short = functools.partial(sources.short_text, vocabulary=VOCABULARY, end=END, longest=4)
    return built(model, _start(short, 8), labels())


def _start(source, length=6):
    return jax.jit(source)(jax.random.key(4), np.zeros((ROWS, length), np.int32))


def built(model, x0, cond):
    """(params -> net, params, x0, cond)."""
    params = jax.jit(functools.partial(train.init_params, model))(KEY, Batch(x0, cond))
    return functools.partial(train.bind, model), jax.tree.map(_noisy, params), x0, cond


def _noisy(leaf):
    """Seeded by the leaf itself, so that neither its name nor its place matters."""
    leaf = np.asarray(leaf)
    seed = int(golden_store.digest([leaf]), 16)
    return leaf + np.float32(0.1) * np.random.default_rng(seed).normal(size=leaf.shape).astype(
        leaf.dtype
    )
