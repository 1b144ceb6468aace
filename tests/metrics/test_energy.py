import numpy as np
import pytest

from fmjax.metrics import energy


def test_two_point_sets_by_hand():
    x, y = np.array([[0.0], [2.0]]), np.array([[1.0], [5.0]])
    # E|X-Y| = (1 + 5 + 1 + 3) / 4; within: 2 and 4 for different rows, half that over all pairs.
    assert energy.energy_distance(x, y) == pytest.approx(2 * 2.5 - 1 - 2)
    assert energy.energy_distance_unbiased(x, y) == pytest.approx(2 * 2.5 - 2 - 4)


def test_single_points_give_twice_their_distance():
    assert energy.energy_distance(np.zeros((1, 2)), np.array([[3.0, 4.0]])) == pytest.approx(10)


def test_v_statistic_is_zero_for_a_set_and_itself_in_any_order(fresh):
    x = fresh[:300]
    assert energy.energy_distance(x, x) == 0
    assert energy.energy_distance(x, x[::-1]) == pytest.approx(0, abs=1e-12)


def test_shift_between_one_dimensional_normals():
    # N(0, 1) and N(s, 1): E|N(s, 2)| = 2 exp(-s²/4)/sqrt(pi) + s erf(s/2); at s = 1 below.
    x = np.random.default_rng(0).normal(size=(4000, 1))
    y = np.random.default_rng(1).normal(size=(4000, 1)) + 1
    exact = 2 * (2 * np.exp(-0.25) / np.sqrt(np.pi) + 0.5204998778) - 4 / np.sqrt(np.pi)
    assert energy.energy_distance_unbiased(x, y) == pytest.approx(exact, abs=0.05)


def test_unbiased_averages_zero_and_biased_its_stated_bias(fresh):
    pairs = fresh[:4000].reshape(100, 2, 20, 2)
    unbiased = [energy.energy_distance_unbiased(x, y) for x, y in pairs]
    biased = [energy.energy_distance(x, y) for x, y in pairs]
    error = 4 * np.std(unbiased) / 10
    assert np.mean(unbiased) == pytest.approx(0, abs=error)
    assert min(unbiased) < 0 < min(biased)
    # E|X - X'| = sqrt(pi) for standard normals in the plane.
    assert np.mean(biased) == pytest.approx(2 * np.sqrt(np.pi) / 20, abs=error)


def test_unbiased_needs_two_rows():
    with pytest.raises(ValueError, match="1 and 3 rows"):
        energy.energy_distance_unbiased(np.zeros((1, 2)), np.zeros((3, 2)))


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="cannot be compared"):
        energy.energy_distance(np.zeros((3, 2)), np.zeros((3, 3)))


def test_evaluator_gives_one_for_fresh_rows_and_much_more_for_shifted(
    key, normal, fresh, make_sample
):
    good = energy.energy(None, key, normal, make_sample(fresh))
    assert good["energy_ratio"] == pytest.approx(1, abs=0.25)
    assert good["energy_ratio"] == pytest.approx(good["energy_distance"] / good["energy_floor"])
    assert (good["energy_n"], good["energy_draws"]) == (200, 20)
    assert all(isinstance(value, float) for value in good.values())
    bad = energy.energy(None, key, normal, make_sample(fresh + 1))
    assert bad["energy_ratio"] > 10
    assert bad["energy_floor"] == good["energy_floor"]


def test_evaluator_takes_consecutive_blocks_of_the_sample(key, normal, fresh, make_sample):
    out = energy.energy(None, key, normal, make_sample(fresh), draws=2, n=50)
    test = normal.take("test", 50).x1
    each = [energy.energy_distance(fresh[:50], test), energy.energy_distance(fresh[50:100], test)]
    assert out["energy_distance"] == pytest.approx(np.mean(each))
    assert out["energy_distance_sd"] == pytest.approx(np.std(each))


def test_evaluator_on_unlimited_splits(key, fresh, make_data, make_sample):
    splits = {"train": (fresh[:4000], None), "test": (fresh[4000:], None)}
    data = make_data(splits, unlimited=("train", "test"))
    out = energy.energy(None, key, data, make_sample(fresh[::-1] * 1.0), draws=1)
    assert out["energy_n"] == 2048


def test_evaluator_refuses_a_reference_of_the_same_rows(key, normal, make_data, make_sample):
    rows = normal.take("test", None)
    data = make_data({"train": (rows.x1, None), "test": (rows.x1, None)}, unlimited=("train",))
    with pytest.raises(ValueError, match="'train' gives the same rows as 'test'"):
        energy.energy(None, key, data, make_sample(rows.x1), draws=1)
