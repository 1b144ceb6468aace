"""The parity of metrics, as far as it runs without its peer."""

import sys
from pathlib import Path

import numpy as np
import pytest

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"


@pytest.fixture
def experiment(monkeypatch):
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    import metric_parity

    return metric_parity


def test_a_fault_must_be_seen_and_an_agreement_kept(experiment):
    row = experiment.Row("a block", 1e-6, 1e-4)
    assert row.good
    assert not row._replace(difference=2e-4).good
    assert not row._replace(fault=True).good
    assert row._replace(difference=2e-4, fault=True).good
    assert experiment.line(row._replace(fault=True)).endswith("**no** |")


def test_differences_are_relative_and_other_shapes_infinite(experiment):
    assert experiment.relative(np.array([1.0, 10.1]), np.array([1.0, 10.0])) == pytest.approx(0.01)
    assert experiment.relative(np.zeros(2), np.zeros(3)) == np.inf
    assert experiment.relative(np.array([np.nan]), np.ones(1)) == np.inf


def test_images_are_bytes_of_a_seed(experiment):
    found = experiment.images(3, seed=1)
    assert (found.shape, found.dtype) == ((3, 32, 32, 3), np.uint8)
    assert found.std() > 20
    np.testing.assert_array_equal(found, experiment.images(3, seed=1))


def test_a_missing_peer_is_named(experiment, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(SystemExit, match=r"pip install -r experiments/requirements\.txt"):
        experiment.main([])


def test_the_page_says_that_all_is_as_claimed():
    page = (EXPERIMENTS.parent / "docs" / "metric_parity.md").read_text()
    assert "41 rows, 0 not as claimed." in page
