import functools

import numpy as np
import prepared
import pytest

from fmjax.couplings.exact import exact
from fmjax.data.augment import augmented, cropped, mirrored
from fmjax.data.coupled import coupled
from fmjax.data.grain_source import tfds_grain
from fmjax.data.in_memory import in_memory
from fmjax.data.tfds_memory import tfds_in_memory
from fmjax.data.toy import gaussian, toy
from fmjax.types import Batch

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (40, 6, 5, 3)).astype(np.float32)
SPLITS = {"train": Batch(IMAGES[:30], np.arange(30)), "test": Batch(IMAGES[30:], np.arange(10))}
MEMORY = functools.partial(in_memory, SPLITS)


def made(data=MEMORY, batch_size=16, **options):
    return augmented(data, batch_size=batch_size, **options)


def rows_of(data, steps=8, split="train"):
    batches = [data.batch(split, s) for s in range(steps)]
    x, label = (np.concatenate(parts) for parts in zip(*(b[:2] for b in batches), strict=True))
    return x, IMAGES[:30][label]


def test_half_of_the_training_images_are_mirrored():
    x, plain = rows_of(made(flip=True), 64)
    same = (x == plain).all(axis=(1, 2, 3))
    mirrored_ = (x == plain[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (same ^ mirrored_).all()
    assert abs(mirrored_.mean() - 0.5) < 4 * 0.5 / len(x) ** 0.5
    # and each one both ways, not always the same
    assert len(np.unique(np.c_[plain[:, 0, 0], mirrored_], axis=0)) == 60


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("channels", [1, 3])
def test_mirrored(dtype, channels):
    x = RNG.integers(0, 256, (5, 4, 6, channels)).astype(dtype)
    rows = np.array([True, False, True, False, False])
    expected = np.where(rows[:, None, None, None], x[:, :, ::-1], x)
    before = x.copy()
    np.testing.assert_array_equal(mirrored(x, rows), expected)
    np.testing.assert_array_equal(x, before)


def test_crops_are_windows_of_the_padded_image():
    x, plain = rows_of(made(crop=1, pad="constant"), 40)
    padded = np.pad(plain, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = [padded[:, i : i + 6, j : j + 5] for i in range(3) for j in range(3)]
    at = np.stack([(x == w).all(axis=(1, 2, 3)) for w in windows])
    assert (at.sum(axis=0) == 1).all()
    counts = at.sum(axis=1)
    assert counts.sum() == len(x)
    assert (np.abs(counts - len(x) / 9) < 4 * (len(x) / 9) ** 0.5).all()
    least, middle, most = (np.full(16, i) for i in range(3))
    corner = cropped(plain[:16], least, most, crop=1, pad="constant")
    np.testing.assert_array_equal(corner, padded[:16, :6, 2:])
    np.testing.assert_array_equal(
        cropped(plain[:16], middle, middle, crop=1, pad="edge"), plain[:16]
    )


def test_dequantisation_is_uniform_above_the_level():
    x, plain = rows_of(made(dequantise=1.0), 20)
    noise = (x - plain).ravel()
    assert x.dtype == np.float32
    assert 0 <= noise.min() < 1e-3 < 0.999 < noise.max() < 1
    assert abs(noise.mean() - 0.5) < 4 * (1 / 12 / noise.size) ** 0.5
    assert abs(noise.var() - 1 / 12) < 1e-3
    assert len(np.unique(noise[:1000])) > 900


@pytest.mark.parametrize("options", [{"flip": True}, {"crop": 2}, {"dequantise": 0.5}])
def test_only_batches_of_train_change_and_seed_and_step_alone_decide(options):
    plain, data = MEMORY(batch_size=16), made(**options)
    for split in ("train", "test"):
        np.testing.assert_array_equal(data.take(split, None).x1, plain.take(split, None).x1)
    np.testing.assert_array_equal(data.batch("test", 2).x1, plain.batch("test", 2).x1)
    assert (data.batch("train", 2).x1 != plain.batch("train", 2).x1).any()
    np.testing.assert_array_equal(data.batch("train", 2).x1, made(**options).batch("train", 2).x1)
    assert (data.batch("train", 2).x1 != made(**options, seed=1).batch("train", 2).x1).any()
    np.testing.assert_array_equal(SPLITS["train"].x1, IMAGES[:30])


@pytest.mark.parametrize("options", [{"flip": True}, {"crop": 2}, {"dequantise": 0.5}])
def test_one_image_is_changed_anew_in_every_step_and_row(options):
    alike = functools.partial(in_memory, {"train": Batch(np.repeat(IMAGES[:1], 16, axis=0))})
    one, other = (made(alike, **options).batch("train", step).x1 for step in (0, 1))
    assert (one != other).any()
    assert (one != one[:1]).any()


@pytest.mark.parametrize("count", [2, 8])
def test_rows_do_not_depend_on_the_number_of_processes(count):
    options = {"flip": True, "crop": 1, "dequantise": 1.0, "seed": 3}
    whole = made(**options)
    shares = [made(**options, process=(i, count)) for i in range(count)]
    for step in (0, 5):
        together = np.concatenate([s.batch("train", step).x1 for s in shares])
        np.testing.assert_array_equal(together, whole.batch("train", step).x1)


@pytest.mark.parametrize("factory", [tfds_in_memory, tfds_grain])
def test_sets_of_the_literature(factory, tmp_path_factory):
    data_dir = tmp_path_factory.getbasetemp() / "sets"
    prepared.prepare("cifar10", data_dir)
    inner = functools.partial(factory, "cifar10", data_dir=data_dir)
    data, plain = made(inner, 8, flip=True), inner(batch_size=8)
    for step in (0, 1, 1):
        x, y = data.batch("train", step), plain.batch("train", step)
        turned = (x.x1 != y.x1).any(axis=(1, 2, 3))
        assert 0 < turned.sum() < 8
        np.testing.assert_array_equal(x.x1[turned], y.x1[turned][:, :, ::-1])
        np.testing.assert_array_equal(x.cond, y.cond)
    assert (data.names, data.null) == (plain.names, plain.null)


def test_augmented_data_can_be_coupled():
    unlabelled = {"train": Batch(IMAGES)}
    inner = functools.partial(augmented, functools.partial(in_memory, unlabelled), flip=True)
    data = coupled(inner, block=8, batch_size=8, coupling=exact)
    assert data.batch("train", 0).x0.shape == (8, 6, 5, 3)
    with pytest.raises(ValueError, match="wrap the other way round"):
        made(functools.partial(coupled, MEMORY, block=8), 8, flip=True)


def test_bad_requests_are_refused():
    with pytest.raises(ValueError, match="nothing to do: give flip=True"):
        made()
    with pytest.raises(ValueError, match="crop=-1"):
        made(crop=-1)
    with pytest.raises(TypeError, match="dict\\(bind=…\\)"):
        made(MEMORY(batch_size=4), flip=True)
    with pytest.raises(ValueError, match="has only `sample`"):
        made(functools.partial(toy, gaussian), flip=True)
    encoded = lambda batch_size: MEMORY(batch_size=batch_size)._replace(encoded=True)  # noqa: E731
    with pytest.raises(ValueError, match="latents already"):
        made(encoded, flip=True)
    flat = {"train": Batch(IMAGES.reshape(40, -1))}
    with pytest.raises(ValueError, match=r"images \[height, width, channels\] are expected"):
        made(functools.partial(in_memory, flat), flip=True)
