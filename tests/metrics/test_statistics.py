import jax
import numpy as np
import pytest

from fmjax import reading, types
from fmjax.metrics import _featured, _statistics


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


class Large:
    """700 images behind a `take` that says how many rows were asked for."""

    def __init__(self, changed=()):
        self.x1 = np.random.default_rng(0).integers(0, 256, (700, 8, 8, 3)).astype(np.uint8)
        self.x1[list(changed)] //= 2
        self.asked = []
        spec = types.Batch(jax.ShapeDtypeStruct((8, 8, 3), np.uint8))
        self.data = types.Data(spec, {"train": 700, "test": 700}, self.take)

    def take(self, split, n, start=0):
        self.asked.append(n)
        return types.Batch(self.x1[start:][:n], np.arange(start, start + n))


@pytest.mark.parametrize("kept", [False, True])
def test_real_rows_are_held_a_chunk_at_a_time(extractor, tmp_path, kept):
    large = Large()
    found = _statistics.of_real(
        large.take, "train", 690, extractor, str(tmp_path) if kept else None
    )
    assert max(large.asked) == reading.ROWS
    whole = _statistics.moments(extractor.stream(large.x1[:690]))
    for a, b in zip(found, whole, strict=True):
        np.testing.assert_array_equal(a, b)


def test_large_sets_are_known_by_some_of_their_rows(monkeypatch, counted, tmp_path):
    monkeypatch.setattr(_statistics, "SAMPLED", 400 * 8 * 8 * 3)

    def computed(**options):
        features, seen = counted()
        large = Large(**options)
        _statistics.of_real(large.take, "train", 700, features, str(tmp_path))
        return sum(seen), sum(large.asked)

    # one row to see their size, two of three chunks, and all of them once
    known = 1 + 256 + (700 - 512)
    assert computed() == (700, known + 700)
    assert computed() == (0, known)
    # other rows of the sample are another set; the rows between are not looked at
    assert computed(changed=[5]) == (700, known + 700)
    assert computed(changed=[699]) == (700, known + 700)
    assert computed(changed=[300]) == (0, known)
    monkeypatch.setattr(_statistics, "SAMPLED", 2**28)
    assert computed(changed=[300])[0] == 700


def test_an_extractors_features_are_of_rows_read_in_chunks(key, extractor):
    large = Large()
    found = _featured.real(extractor, large.data, "train", 690)
    np.testing.assert_array_equal(found.x1, extractor(None, large.x1[:690]))
    np.testing.assert_array_equal(found.cond, np.arange(690))
    assert max(large.asked) == reading.ROWS
    large.asked.clear()
    drawn = list(_featured.drawn(extractor, key, large.data, "test", "train", 300, 2))
    assert large.asked == [1] * 600

    def all_at_once(data, x):
        assert len(x) in (300, 690)
        return extractor(data, x)

    rows = _featured.drawn(all_at_once, key, large.data, "test", "train", 300, 2)
    np.testing.assert_array_equal(drawn, list(rows))
    np.testing.assert_array_equal(
        _featured.real(all_at_once, large.data, "train", 690).x1, found.x1
    )


def test_generated_rows_come_in_chunks_where_the_sampler_has_them(extractor, make_sample):
    large, sizes = Large(), []

    class Sample:
        def __call__(self, n):
            raise AssertionError("all rows at once")

        def chunks(self, n, size):
            sizes.append(size)
            return reading.chunks(large.take, "train", n, size)

    found = _featured.generated(extractor, large.data, Sample(), 600)
    assert sizes == [reading.ROWS]
    plain = _featured.generated(extractor, large.data, make_sample(large.x1), 600)
    np.testing.assert_array_equal(found.x1, plain.x1)
    np.testing.assert_array_equal(found.x1, extractor(None, large.x1[:600]))
    with pytest.raises(ValueError, match="asked the sampler for 701 examples, got 700"):
        _featured.generated(extractor, large.data, make_sample(large.x1), 701)
