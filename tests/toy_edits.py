"""Texts of at most two of two tokens: the process of their edits, enumerated."""

import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fmjax import edits, sources

V, END, N = 3, 2, 4
TEXTS = [text for k in range(3) for text in itertools.product(range(2), repeat=k)]
LAW = np.random.default_rng(3).dirichlet(np.full(len(TEXTS), 1.0)).astype(np.float32)
KINDS = 2 * V + 1


def row(text):
    return [*text, *[END] * (N - len(text))]


ROWS = np.array([row(text) for text in TEXTS], np.int32)
DISTINCT = np.array([len(set(text)) == len(text) for text in TEXTS])
ONCE = np.where(DISTINCT, LAW, 0) / LAW[DISTINCT].sum()  # no text has a token twice


class Case(NamedTuple):
    """How x0 is drawn, its law, and how it is aligned with x1."""

    source: object
    start: np.ndarray
    align: object


def cases():
    uniform = np.array([1 / 3 / 2 ** len(text) for text in TEXTS])
    short = functools.partial(sources.short_text, vocabulary=V, end=END, longest=2)
    empty = functools.partial(sources.empty, end=END)
    return {
        "empty": Case(empty, np.eye(len(TEXTS))[0], edits.left),
        "left": Case(short, uniform, edits.left),
        "shortest": Case(short, uniform, edits.shortest),
    }


def code(x):
    """A number for each row."""
    return sum(x[..., i] * V**i for i in range(N))


def counted(z, z1):
    """The text of aligned tokens, and how many places wait for each edit of it."""
    text, count = [], np.zeros((N, KINDS))
    for here, there in zip(z, z1, strict=True):
        kind = there if here == END else V + there if there != END else 2 * V
        if here != there:
            count[len(text), kind] += 1
        text += [here] if here != END else []
    return row(text), count.reshape(-1)


@functools.cache
def process(name, once=False):
    """Of every pair and every set of places that have jumped: weight, both numbers, row, counts."""
    case, law = cases()[name], ONCE if once else LAW
    pairs = [(i, j) for i in range(len(TEXTS)) for j in range(len(TEXTS))]
    pairs = [(i, j) for i, j in pairs if case.start[i] * law[j] > 0]
    a, b = (ROWS[[pair[k] for pair in pairs]] for k in range(2))
    align = jax.jit(functools.partial(case.align, end=END))
    with jax.ensure_compile_time_eval():  # whoever traces may be the first to ask
        aligned = [np.asarray(z).tolist() for z in align(jax.random.key(0), a, b)]
    found = []
    for (i, j), z0, z1 in zip(pairs, *aligned, strict=True):
        places = [k for k in range(len(z0)) if z0[k] != z1[k]]
        for jumped in itertools.product([False, True], repeat=len(places)):
            z = list(z0)
            for k, jumps in zip(places, jumped, strict=True):
                z[k] = z1[k] if jumps else z0[k]
            x, count = counted(z, z1)
            left = len(places) - sum(jumped)
            found.append((case.start[i] * law[j], sum(jumped), left, code(np.array(x)), count))
    return [np.array(column, np.float32) for column in zip(*found, strict=True)]


def net(name, once=False):
    """The exact net, at one time for all rows or one for each; κ = t."""
    weight, done, left, of, counts = map(jnp.asarray, process(name, once))

    def one(t, number):
        p = weight * t**done * (1 - t) ** left * (of == number)
        u = p @ counts / jnp.maximum(p.sum(), 1e-30)
        return jnp.log(jnp.maximum(u, 1e-30))

    def rates(t, x, cond=None, *, key=None):
        numbers = code(x).astype(jnp.float32)
        if jnp.ndim(t):
            log_u = jax.vmap(one)(jnp.clip(t, 1e-6, 1 - 1e-6), numbers)
        else:
            t = jnp.clip(t, 1e-6, 1 - 1e-6)
            table = jax.vmap(lambda number: one(t, number))(jnp.arange(V**N, dtype=jnp.float32))
            log_u = table[code(x)]
        log_u = log_u.reshape(*x.shape, KINDS)
        return edits.Edits(log_u[..., :V], log_u[..., 2 * V], log_u[..., V : 2 * V])

    return rates


def draws(key, n, once=False):
    law = jnp.asarray(ONCE if once else LAW)
    return jnp.asarray(ROWS)[jax.random.choice(key, len(ROWS), (n,), p=law)]


def variation(x, once=False):
    """Half of Σ |share − probability| over all rows that there could be."""
    wanted = np.zeros(V**N)
    wanted[code(ROWS)] = ONCE if once else LAW
    found = np.bincount(code(np.asarray(x)), minlength=V**N) / len(x)
    return np.abs(found - wanted).sum() / 2
