"""Two tokens whose law is a table: everything about paths of them is a sum of a few numbers."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from fmjax import paths, sources, tokens

V = 4
LAW = np.random.default_rng(3).dirichlet(np.full(V * V, 0.5)).reshape(V, V).astype(np.float32)
CONDITIONAL = np.stack(
    [LAW, np.random.default_rng(5).dirichlet(np.full(V * V, 0.7)).reshape(V, V)]
).astype(np.float32)
PAIRS = np.array(list(itertools.product(range(V), repeat=2)), np.int32)
ENTROPY = float(-(LAW * np.log(LAW)).sum())
DISTANCE = np.abs(np.arange(V)[:, None] - np.arange(V)) / 3.0


def mask_law(t, path):
    """p_t(y | x1 = v) [v, s] of a mixture from masks."""
    k = path.alpha(t)
    return k * jnp.eye(V, V + 1) + (1 - k) * jnp.tile(jnp.eye(V + 1)[V:], (V, 1))


def uniform_law(t, path):
    k = path.alpha(t)
    return k * jnp.eye(V, V + 1) + (1 - k) * jnp.pad(jnp.full((V, V), 1 / V), ((0, 0), (0, 1)))


def metric_law(t, path):
    del path
    beta = 3.0 * (t / (1 - t)) ** 0.9
    return jnp.pad(jax.nn.softmax(-beta * DISTANCE, axis=-1), ((0, 0), (0, 1)))


def cases():
    """Name → (bridge, source, law of one position given x1, path)."""
    mask = functools.partial(sources.mask, vocabulary=V)
    uniform = functools.partial(sources.uniform_tokens, vocabulary=V)
    linear, cosine = paths.linear(), tokens.cosine()
    return {
        "mask": (tokens.mixture(path=linear), mask, mask_law, linear),
        "mask_cosine": (tokens.mixture(path=cosine), mask, mask_law, cosine),
        "uniform": (tokens.mixture(path=linear), uniform, uniform_law, linear),
        "metric": (tokens.metric(distance=DISTANCE), uniform, metric_law, linear),
    }


def joint(t, law, path, table):
    """p_t(x, y, v, w) [s, s, v, w]: where two positions are, and what x1 is."""
    p = law(t, path)
    return jnp.einsum("vx,wy,vw->xyvw", p, p, table)


def log_posterior(t, x, law, path, table=LAW):
    """log p(x1_i = v | x_t = x) [b, 2, v], by Bayes' rule, t a number."""
    of = law(t, path)[:, x]  # [v, b, 2]
    p = of[:, None, :, 0] * of[None, :, :, 1] * table[..., None]
    each = jnp.stack([p.sum(axis=1).T, p.sum(axis=0).T], axis=1)
    return jnp.log(each + 1e-30) - jnp.log(each.sum(axis=-1, keepdims=True) + 1e-30)


def net(law, path, table=LAW):
    """The exact net, at one time for all rows or one for each; classes choose a table."""
    table = jnp.asarray(table)

    def one(t, x, c):
        own = table if table.ndim == 2 else table[c]
        return log_posterior(t, x[None], law, path, own)[0]

    def masses(t, x, cond=None, *, key=None):
        t = jnp.maximum(t, 1e-3)  # at 0 nothing but noise has a posterior
        c = jnp.zeros(len(x), jnp.int32) if cond is None else cond
        if jnp.ndim(t):
            return jax.vmap(one)(t, x, c)
        return jax.vmap(one, in_axes=(None, 0, 0))(t, x, c)

    return masses


@functools.partial(jax.jit, static_argnames="n")
def draws(key, n, table=LAW):
    rows = jax.random.choice(key, len(PAIRS), (n,), p=jnp.asarray(table).reshape(-1))
    return jnp.asarray(PAIRS)[rows]


def variation(x, table):
    """Half of Σ |share − probability|; a token out of range is an error."""
    x = np.asarray(x)
    assert x.min() >= 0
    assert x.max() < V
    found = np.bincount(x[:, 0] * V + x[:, 1], minlength=V * V) / len(x)
    return np.abs(found - np.asarray(table).reshape(-1)).sum() / 2


STATES = np.array(list(itertools.product(range(V + 1), repeat=2)), np.int32)


@functools.cache
def step(bridge, net):
    """(p, t, s) -> the law at s of the chain whose law at t is p."""

    def onwards(p, t, s):
        x = jnp.asarray(STATES)
        m = jnp.exp(net(t, x))
        after = jnp.where(
            s < 1, bridge.advance(t, jnp.minimum(s, 0.9999), x, m), tokens.with_mask(m)
        )
        step = jnp.einsum("xi,xj->xij", after[:, 0], after[:, 1])
        return jnp.einsum("x,xij->ij", p, step / step.sum(axis=(1, 2), keepdims=True)).reshape(-1)

    return jax.jit(onwards)


def chain(bridge, net, times, start):
    """The law [s, s] at the end of a chain's steps from the law `start`, without drawing any."""
    p, onwards = np.asarray(start).reshape(-1), step(bridge, net)
    for t, s in itertools.pairwise(np.asarray(times, np.float32)):
        p = onwards(p, t, s)
    return np.asarray(p).reshape(V + 1, V + 1)


@functools.cache
def noise(law, path):
    """The law [s, s] of x0."""
    p = np.asarray(jax.jit(lambda: law(0.0, path)[0])())
    return np.outer(p, p)


def apart(p, table=LAW):
    return np.abs(p[:V, :V] - table).sum() / 2 + p[V].sum() + p[:V, V].sum()
