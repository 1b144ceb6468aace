import closed_forms
import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fmjax import guidance
from fmjax.samplers import ode

DATA = closed_forms.mixture([0.3, 0.7], [[-2.0, 0.0], [1.0, 1.0]], [[0.5, 1.0], [0.8, 0.6]])
NET = jax.jit(closed_forms.field(lambda t: t, lambda t: 1 - t, DATA))
LABELS = jnp.array([0, 1, 1, 0])
NONE = -jnp.ones(4, int)
NULL = jnp.asarray(-1)
T = jnp.array([0.1, 0.4, 0.6, 0.9])
X = jax.random.normal(jax.random.key(0), (4, 2))


def close(a, b):
    np.testing.assert_allclose(a, b, atol=2e-6)


def counted(calls):
    def net(t, x, cond=None, *, key=None):
        jax.debug.callback(lambda: calls.append(x.shape[0]))
        return NET(t, x, cond)

    return net


@pytest.mark.parametrize("t", [0.3, jnp.asarray(0.3), T])
def test_guidance_is_the_line_through_both_velocities(t):
    guided = guidance.classifier_free(NET, scale=2.5, null=NULL)
    v, base = NET(t, X, LABELS), NET(t, X, NONE)
    close(guided(t, X, LABELS), base + 2.5 * (v - base))
    close(guidance.classifier_free(NET, scale=0.0, null=NULL)(t, X, LABELS), base)
    close(guidance.classifier_free(NET, scale=jnp.asarray(1.0), null=NULL)(t, X, LABELS), v)
    assert np.max(np.abs(v - base)) > 0.1


def test_gaussian_classes_against_numbers_by_hand():
    # at t = 0 the velocity is E[x1 | class] - x0, and without class the mean of the mixture
    guided = guidance.classifier_free(NET, scale=3.0, null=NULL)
    means, mean = np.array([[-2.0, 0.0], [1.0, 1.0]]), np.array([[0.1, 0.7]])
    close(guided(0.0, X, LABELS), mean + 3 * (means[LABELS] - mean) - X)


def test_scale_per_example():
    scale = jnp.array([0.0, 1.0, 2.0, 5.0])
    v, base = NET(T, X, LABELS), NET(T, X, NONE)
    guided = guidance.classifier_free(NET, scale=scale, null=NULL)
    close(guided(T, X, LABELS), base + scale[:, None] * (v - base))
    with pytest.raises(ValueError, match="one for each of 2 examples"):
        guided(0.5, X[:2], LABELS[:2])


def test_scale_one_is_the_net_itself():
    assert guidance.classifier_free(NET, scale=1, null=NULL) is NET
    assert guidance.autoguidance(NET, weak=NET, scale=1.0) is NET


def test_interval_with_a_time_for_each_example():
    guided = guidance.classifier_free(NET, scale=4.0, null=NULL, interval=(0.3, 0.7))
    plain = guidance.classifier_free(NET, scale=4.0, null=NULL)
    out = guided(T, X, LABELS)
    close(out[1:3], plain(T, X, LABELS)[1:3])
    close(out[::3], NET(T, X, LABELS)[::3])


def test_interval_with_one_time_evaluates_only_what_it_needs():
    calls = []
    limited = guidance.classifier_free(counted(calls), scale=4.0, null=NULL, interval=(0.3, 0.7))
    limited = jax.jit(limited)
    plain = guidance.classifier_free(NET, scale=4.0, null=NULL)
    for t, rows in [(0.29, 4), (0.3, 8), (0.7, 8), (0.71, 4)]:
        calls.clear()
        out = limited(jnp.asarray(t), X, LABELS)
        jax.effects_barrier()
        assert calls == [rows]
        close(out, (plain if rows == 8 else NET)(jnp.asarray(t), X, LABELS))


def test_guidance_inside_the_sampler():
    guided = guidance.classifier_free(NET, scale=2.0, null=NULL, interval=(0.3, 0.7))
    options = {"solver": diffrax.Euler(), "steps": 10}
    x1, info = jax.jit(lambda x: ode.ode(guided, None, x, LABELS, **options))(X)
    x = X
    for t in np.arange(10) / 10:
        v, base = NET(t, x, LABELS), NET(t, x, NONE)
        x = x + (base + 2 * (v - base) if 0.3 <= t <= 0.7 else v) / 10
    assert info.nfe == 10
    np.testing.assert_allclose(x1, x, atol=1e-4)
    own, _ = ode.ode(guided, None, X, LABELS, per_sample=True, **options)
    np.testing.assert_allclose(own, x1, atol=1e-4)


def test_conditions_and_keywords_are_doubled():
    def net(t, x, cond=None, *, key=None, r=None):
        shift = cond["a"] + jnp.where(cond["b"][:, None] == 7, 10.0, 0.0)
        return shift + x * jnp.reshape(r - t, (-1, 1)) + jax.random.normal(key)

    cond = {"a": jnp.ones((4, 2)), "b": jnp.arange(4)}
    null = {"a": np.zeros(2), "b": 7}
    key = jax.random.key(1)
    out = guidance.classifier_free(net, scale=3.0, null=null)(T, X, cond, key=key, r=T + 1)
    close(out, 10 + 3 * (1 - 10) + X + jax.random.normal(key))


def test_autoguidance_leaves_the_weak_net():
    def weak(t, x, cond=None, *, key=None):
        return 0.5 * NET(t, x)

    v, base = NET(T, X), weak(T, X)
    guided = guidance.autoguidance(NET, weak=weak, scale=2.0)
    close(guided(T, X), base + 2 * (v - base))
    limited = guidance.autoguidance(NET, weak=weak, scale=2.0, interval=(0.5, 1))
    close(limited(T, X), jnp.where(T[:, None] >= 0.5, guided(T, X), v))
    close(limited(0.2, X), NET(0.2, X))


def test_autoguidance_gives_each_net_a_key_of_its_own():
    def noise(t, x, cond=None, *, key=None):
        return jax.random.normal(key, x.shape)

    out = guidance.autoguidance(noise, weak=noise, scale=2.0)(T, X, key=jax.random.key(3))
    key, key_weak = jax.random.split(jax.random.key(3))
    close(out, 2 * jax.random.normal(key, X.shape) - jax.random.normal(key_weak, X.shape))


@pytest.mark.parametrize("null", [jnp.zeros(2, int), None, {"a": 1}])
def test_a_null_unlike_the_condition_is_refused(null):
    with pytest.raises(ValueError, match="is not one condition of cond"):
        guidance.classifier_free(NET, scale=2.0, null=null)(T, X, LABELS)


def test_other_mistakes_are_named():
    with pytest.raises(ValueError, match="guidance needs a condition"):
        guidance.classifier_free(NET, scale=2.0, null=NULL)(T, X)
    for interval in [(0.5, 0.5), (-0.1, 1.0), (0.0, 2.0)]:
        with pytest.raises(ValueError, match="expected 0 ≤ low < high ≤ 1"):
            guidance.classifier_free(NET, scale=2.0, null=NULL, interval=interval)
