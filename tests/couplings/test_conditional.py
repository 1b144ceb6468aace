import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fmjax.couplings import _common
from fmjax.couplings.conditional import classes, constant, continuous, reachable
from fmjax.couplings.exact import exact
from fmjax.couplings.sinkhorn import sinkhorn
from fmjax.couplings.stable import stable

KEY = jax.random.key(0)


def labelled(n=64, seed=0):
    """Noise around 0 and two classes, at −2 and at 2 of the first axis."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, n).astype(np.int32)
    x0, x1 = (rng.normal(size=(n, 2)).astype(np.float32) for _ in range(2))
    x1[:, 0] = 0.3 * x1[:, 0] + np.where(label == 1, 2, -2)
    return x0, x1, label


def start_of_class_one(coupling, draws=60):
    """Mean of the noise that class 1 starts from, first axis."""
    means = []
    for seed in range(draws):
        x0, x1, label = labelled(seed=seed)
        rows = coupling(KEY, x0, x1, label)
        means.append(x0[np.asarray(rows.x0)[label[np.asarray(rows.x1)] == 1], 0].mean())
    return np.mean(means)


def test_within_classes_the_noise_stays_the_source_and_plain_transport_skews_it():
    aware = functools.partial(classes, coupling=exact)
    # its standard deviation is 1 / √(32 · 60) = 0.023; half a normal's mean is 0.8
    assert abs(start_of_class_one(aware)) < 0.1
    plain = lambda key, x0, x1, cond: exact(key, x0, x1)  # noqa: E731
    assert start_of_class_one(plain) > 0.6


def test_on_the_host_each_class_has_its_own_optimal_plan():
    x0, x1, label = labelled()
    rows = classes(KEY, x0, x1, label, coupling=exact)
    assert (rows.x1 == np.arange(64)).all()
    assert sorted(rows.x0) == list(range(64))
    assert (label[rows.x0] == label).all()
    for c in (0, 1):
        own = np.flatnonzero(label == c)
        assert (rows.x0[own] == own[exact(KEY, x0[own], x1[own]).x0]).all()


@pytest.mark.parametrize("coupling", [exact, stable], ids=["exact", "stable"])
def test_classes_that_are_moved_apart_are_coupled_as_if_alone(coupling):
    arrays = labelled()
    host = classes(KEY, *arrays, coupling=coupling)
    device = classes(KEY, *(jnp.asarray(a) for a in arrays), coupling=coupling)
    assert (np.asarray(device.x0) == host.x0).all()


def test_an_entropic_plan_in_the_step_leaks_nothing_between_classes():
    x0, x1, label = (jnp.asarray(a) for a in labelled(16))
    couple = jax.jit(lambda *a: classes(*a, coupling=functools.partial(sinkhorn, epsilon=1.0)))
    for seed in range(20):
        rows = couple(jax.random.key(seed), x0, x1, label)
        assert (label[rows.x0] == label[rows.x1]).all()


def test_a_class_is_one_combination_and_one_of_a_single_row_keeps_its_pair():
    x0, x1, _ = labelled(6)
    tree = {"a": np.array([0, 0, 1, 1, 0, 0]), "b": np.array([[0, 1]] * 3 + [[1, 1]] * 3)}
    rows = classes(KEY, x0, x1, tree, coupling=exact)
    together = [{0, 1}, {2}, {3}, {4, 5}]
    assert [set(rows.x0[sorted(group)]) for group in together] == together


def test_every_class_is_coupled_with_a_key_of_its_own():
    x0, x1, label = labelled()
    seen = []

    def coupling(key, x0, x1, cond):
        seen.append(jax.random.key_data(key).tolist())
        return exact(key, x0, x1)

    classes(KEY, x0, x1, label, coupling=coupling)
    assert len(seen) == 2
    assert seen[0] != seen[1]


def on_a_line(n=128, seed=0):
    """Data along a line and its place there as the condition; noise around its middle."""
    rng = np.random.default_rng(seed)
    x0, x1 = (rng.normal(size=(n, 2)).astype(np.float32) for _ in range(2))
    cond = rng.uniform(-2, 2, (n, 1)).astype(np.float32)
    x1[:, :1] = cond
    return x0, x1, cond


def correlation(weight):
    """Of the condition with the noise of its row, over blocks."""
    noise, conds = [], []
    for seed in range(10):
        x0, x1, cond = on_a_line(seed=seed)
        rows = continuous(KEY, x0, x1, cond, coupling=exact, weight=weight)
        noise.append(x0[rows.x0, 0]), conds.append(cond[rows.x1, 0])
    return np.corrcoef(np.concatenate(noise), np.concatenate(conds))[0, 1]


def test_a_heavy_condition_unties_the_noise_from_it():
    # standard deviation of an independent one: 0.03
    assert abs(correlation(reachable)) < 0.1
    assert correlation(functools.partial(constant, value=0.0)) > 0.85


def test_without_weight_it_is_plain_and_with_much_it_is_independent():
    x0, x1, cond = on_a_line()
    plan = lambda value: continuous(  # noqa: E731
        KEY, x0, x1, cond, coupling=exact, weight=functools.partial(constant, value=value)
    )
    assert (plan(0).x0 == exact(KEY, x0, x1).x0).all()
    assert (plan(1e9).x0 == np.arange(128)).all()


def test_it_is_the_plan_of_both_distances_added():
    x0, x1, cond = on_a_line()
    weight = functools.partial(constant, value=4.0)
    rows = continuous(KEY, x0, x1, cond, coupling=exact, weight=weight)
    gaps = _common.squared_distances(cond, cond)
    both = exact(KEY, x0, x1, cost=lambda a, b: _common.squared_distances(a, b) + 4 * gaps)
    assert (rows.x0 == both.x0).all()
    assert (rows.x0 != exact(KEY, x0, x1).x0).any()


@pytest.mark.parametrize("share", [0.02, 0.2])
def test_the_weight_lets_a_share_of_pairs_beat_staying(share):
    x0, x1, cond = on_a_line()
    costs, gaps = (_common.squared_distances(*pair) for pair in ((x0, x1), (cond, cond)))
    w = reachable(costs, gaps, share=share)
    better = costs + w * gaps < np.diagonal(costs)[:, None]
    assert better.mean() == pytest.approx(share, abs=2e-4)
    # and does not depend on units
    assert reachable(9 * costs, 4 * gaps, share=share) == pytest.approx(9 / 4 * w)
    traced = jax.jit(functools.partial(reachable, share=share))(
        jnp.asarray(costs), jnp.asarray(gaps)
    )
    assert float(traced) == pytest.approx(w, rel=1e-4)
    assert reachable(costs, np.zeros_like(gaps)) == 0


def test_trees_of_conditions_and_the_step():
    x0, x1, cond = on_a_line()
    tree = {"a": cond[:, 0], "b": np.zeros((128, 2, 2), np.float32)}
    alone = continuous(KEY, x0, x1, cond, coupling=stable)
    host = continuous(KEY, x0, x1, tree, coupling=stable)
    step = jax.jit(functools.partial(continuous, coupling=stable))(
        KEY, *jax.tree.map(jnp.asarray, (x0, x1, tree))
    )
    assert (host.x0 == alone.x0).all()
    assert (step.x0 == alone.x0).all()


def test_the_wrong_kind_of_condition_names_the_right_coupling():
    x0, x1, label = labelled()
    with pytest.raises(ValueError, match=r"classes got a condition of float32.*continuous"):
        classes(KEY, x0, x1, x1, coupling=exact)
    with pytest.raises(ValueError, match=r"continuous got a condition of int32.*classes"):
        continuous(KEY, x0, x1, label, coupling=exact)
    for aware in (classes, continuous):
        with pytest.raises(ValueError, match=r"needs a condition, and the data have none"):
            aware(KEY, x0, x1, None, coupling=exact)
