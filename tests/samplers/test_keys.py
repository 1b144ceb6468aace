"""No sampler draws two things from one key.

Except `sde`, whose key diffrax's loop carries along, which JAX's check takes for a second use:
that each of its increments has a noise of its own is tested beside it.
"""

import functools

import jax
import jax.numpy as jnp
import pytest
import toy_edits

from fmjax import sources
from fmjax.samplers.adaptive_ctmc import adaptive_ctmc
from fmjax.samplers.autoregressive import autoregressive
from fmjax.samplers.confidence import confidence
from fmjax.samplers.ctmc import ctmc
from fmjax.samplers.edit_ctmc import edit_ctmc
from fmjax.samplers.inpaint import inpaint
from fmjax.samplers.predictor_corrector import predictor_corrector
from fmjax.samplers.refresh import refresh
from fmjax.samplers.restart import restart

X0, MASKS = jnp.ones((3, 2)), jnp.full((3, 2), 4)
SOURCE = functools.partial(sources.uniform_tokens, vocabulary=4)


def velocity(t, x, cond=None, *, key=None):
    return -x


def masses(t, x, cond=None, *, key=None):
    return jnp.zeros((*x.shape, 4))


def case(sampler, net, x0, **options):
    return pytest.param(functools.partial(sampler, **options), net, x0, id=sampler.__name__)


CASES = [
    case(refresh, velocity, X0, steps=3),
    case(restart, velocity, X0, steps=4, interval=(0.25, 0.75)),
    case(predictor_corrector, velocity, X0, steps=3, corrections=2),
    case(inpaint, velocity, X0, steps=2, jump=1, repeats=2, image=X0, mask=X0 > 0),
    case(ctmc, masses, MASKS, source=SOURCE, steps=3, churn=1.0, correctors=2),
    case(adaptive_ctmc, masses, MASKS),
    case(confidence, masses, MASKS, vocabulary=4, steps=2),
    case(autoregressive, masses, MASKS, vocabulary=4),
    case(
        edit_ctmc,
        toy_edits.net("left"),
        jnp.zeros((3, toy_edits.N), jnp.int32),
        end=toy_edits.END,
        steps=3,
    ),
]


@pytest.mark.parametrize(("sampler", "net", "x0"), CASES)
def test_no_key_is_used_twice(sampler, net, x0):
    with jax.debug_key_reuse(True):
        jax.jit(lambda key, x: sampler(net, key, x))(jax.random.key(0), x0)
