import numpy as np
import pytest

from fmjax.metrics import _statistics


def test_streamed_moments_are_those_of_all_rows_far_from_zero_too():
    rows = np.random.default_rng(0).normal(size=(50, 4)) + 1e6
    found = _statistics.moments(np.split(rows, [1, 20, 33]))
    assert found.n == 50
    np.testing.assert_allclose(found.mean, rows.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.cov, np.cov(rows, rowvar=False), rtol=1e-7)


def test_one_row_and_infinite_rows_are_refused():
    with pytest.raises(ValueError, match="1 rows have no covariance"):
        _statistics.moments([np.zeros((1, 3))])
    with pytest.raises(ValueError, match="not finite"):
        _statistics.moments([np.full((3, 3), np.inf)])


@pytest.fixture
def counted(make_extractor_named):
    """Extractors whose images are counted."""

    def make(**options):
        features = make_extractor_named(**options)
        seen = []
        stream = features.stream
        object.__setattr__(features, "stream", lambda x: (seen.append(len(x)), stream(x))[1])
        return features, seen

    return make


def test_statistics_of_real_rows_are_kept_by_all_that_they_depend_on(counted, images, tmp_path):
    features, seen = counted()
    first = _statistics.of_real(images.take, "train", 200, features, str(tmp_path))
    assert _statistics.of_real(images.take, "train", 200, features, str(tmp_path)) is first
    assert seen == [200]
    # another process: the same file
    again, unseen = counted()
    found = _statistics.of_real(images.take, "train", 200, again, str(tmp_path))
    assert unseen == []
    for a, b in zip(found, first, strict=True):
        np.testing.assert_array_equal(a, b)
    # other rows, another split, other weights
    _statistics.of_real(images.take, "train", 100, again, str(tmp_path))
    _statistics.of_real(images.take, "test", 60, again, str(tmp_path))
    assert unseen == [100, 60]
    other, computed = counted(sha256="1")
    _statistics.of_real(images.take, "train", 200, other, str(tmp_path))
    assert computed == [200]
    files = sorted(p.name for p in (tmp_path / "fmjax_statistics").iterdir())
    assert len(files) == 4
    assert all(name.startswith("tiny_t") and name.endswith(".npz") for name in files)
