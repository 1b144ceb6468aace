import numpy as np
import pytest

from fmjax.metrics import memorisation


def test_ratio_by_hand():
    train = np.array([[0.0], [10.0]])
    test = np.array([[2.0], [6.0], [9.0]])  # 2, 4, 1 from train
    samples = np.array([[1.0], [9.5], [7.0]])  # 1, 0.5, 3 from train
    assert memorisation.memorisation_ratio(samples, train, test) == pytest.approx(1 / 2)
    close = memorisation.memorisation_close(samples, train, test, quantile=0.0)
    assert close == pytest.approx(1 / 3)


def test_copies_give_zero_exactly(normal):
    train, test = normal.take("train", None).x1, normal.take("test", None).x1
    copies = train[::-1][:100] + np.float32(0)
    assert memorisation.memorisation_ratio(copies, train, test) == 0
    assert memorisation.memorisation_close(copies, train, test) == 1


def test_a_fifth_of_copies_shows_in_the_close_share(normal, fresh):
    train, test = normal.take("train", None).x1, normal.take("test", None).x1
    mixed = np.concatenate([train[:200], fresh[:800]])
    assert memorisation.memorisation_ratio(mixed, train, test) > 0.6
    assert memorisation.memorisation_close(mixed, train, test) > 0.2


def test_evaluator_gives_one_for_fresh_rows_and_none_for_order(key, normal, fresh, make_sample):
    out = memorisation.memorisation(None, key, normal, make_sample(fresh))
    assert out["memorisation_ratio"] == pytest.approx(1, abs=0.2)
    assert out["memorisation_close"] == pytest.approx(0.05, abs=0.05)
    assert (out["memorisation_n"], out["memorisation_train_n"]) == (200, 6000)
    shuffled = make_sample(fresh[:200][::-1])
    assert memorisation.memorisation(None, key, normal, shuffled) == out
    assert all(isinstance(value, float) for value in out.values())


def test_test_rows_that_were_trained_on_are_refused():
    rows = np.arange(6.0)[:, None]
    with pytest.raises(ValueError, match="half the test rows are training rows"):
        memorisation.memorisation_ratio(rows, rows, rows[:3])


def test_unlimited_training_data_and_other_shapes_are_refused(key, fresh, make_data, make_sample):
    splits = {"train": (fresh[:100], None), "test": (fresh[100:200], None)}
    data = make_data(splits, unlimited=("train",))
    with pytest.raises(ValueError, match="'train' is unlimited"):
        memorisation.memorisation(None, key, data, make_sample(fresh))
    with pytest.raises(ValueError, match="cannot be compared"):
        memorisation.memorisation(
            None, key, make_data(splits), make_sample(fresh.reshape(-1, 4)), n=10
        )
