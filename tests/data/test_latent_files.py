"""Cached latents: what is written, what is read, in which order, and when it is made anew."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from fmjax import codecs
from fmjax.data.image_folder import image_folder
from fmjax.data.in_memory import in_memory
from fmjax.data.latents import latents, normals
from fmjax.types import Batch

ROWS = 50
RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(ROWS + 10, 4, 6, 1)).astype(np.float32)
LABELS = np.arange(ROWS + 10, dtype=np.int32)


def images(*, batch_size, seed=0, process=(0, 1), shift=0.0):
    rows = [slice(0, ROWS), slice(ROWS, None)]
    train, test = (Batch(IMAGES[r] + np.float32(shift), LABELS[r]) for r in rows)
    options = {"batch_size": batch_size, "seed": seed, "process": process}
    return in_memory({"train": train, "test": test}, null=np.int32(60), **options)


def codec(weight=2.0, depends_on=None):
    """z is the left half and `weight` times the right one, of deviation 0.1 or none."""

    def make(w):
        def posterior(x):
            z = jnp.concatenate([x[:, :, :3], w * x[:, :, 3:]], axis=-1)
            return z, jnp.full(z.shape, 0.1)

        return codecs.Codec(lambda x: posterior(x)[0], lambda z: z, posterior)

    depends = f"weight {weight}" if depends_on is None else depends_on
    return codecs.with_arrays(make, np.float32(weight), depends_on=depends)


def made(folder, *, data=images, batch_size=8, **options):
    options = {"codec": codec(), "chunk": 8, "file_rows": 16, "say": lambda text: None, **options}
    return latents(data=data, data_dir=folder, batch_size=batch_size, **options)


def files(folder):
    return sorted((folder / "latents").glob("*/*-z.npy"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cached")


def test_an_epoch_has_every_row_once_with_its_condition(folder):
    data = made(folder, sample=False)
    batches = [data.batch("train", s) for s in range(7)]  # 56 rows: an epoch of 50, and 6 more
    x1, cond = (
        np.concatenate(part) for part in zip(*((b.x1, b.cond) for b in batches), strict=True)
    )
    assert sorted(cond[:ROWS]) == list(range(ROWS))
    np.testing.assert_allclose(x1, codec().encode(IMAGES[cond]), rtol=1e-6)
    assert x1.dtype == np.float32
    assert data.encoded
    assert len(files(folder)) == 4  # of 16, 16, 16 and 2 rows
    np.testing.assert_array_equal(data.take("test", None).x1.shape, (10, 4, 6, 1))
    assert data.spec.x1.shape == (4, 6, 1)


def test_batches_are_a_function_of_step_and_seed_and_not_of_processes(folder):
    data = made(folder)
    jax.tree.map(np.testing.assert_array_equal, data.batch("train", 3), data.batch("train", 3))
    parts = [made(folder, process=(i, 2)).batch("train", 6) for i in range(2)]
    joined = jax.tree.map(lambda *a: np.concatenate(a), *parts)
    jax.tree.map(np.testing.assert_array_equal, joined, data.batch("train", 6))
    other = made(folder, seed=1).batch("train", 6)
    assert not np.array_equal(other.cond, joined.cond)


def test_each_epoch_draws_the_posterior_anew(folder):
    data = made(folder, batch_size=ROWS)
    first, second = (data.batch("train", s) for s in (0, 1))
    gaps = [b.x1 - np.asarray(codec().encode(IMAGES[b.cond])) for b in (first, second)]
    for gap in gaps:
        assert gap.std() == pytest.approx(0.1, rel=0.1)
        assert abs(gap.mean()) < 0.02
    order = [np.argsort(b.cond) for b in (first, second)]
    assert abs(np.corrcoef(*(g[o].ravel() for g, o in zip(gaps, order, strict=True)))[0, 1]) < 0.1


def test_flips_encode_the_mirrored_image_of_half_the_rows(tmp_path):
    data = made(tmp_path, flips=True, sample=False, batch_size=ROWS)
    seen = []
    for step in range(2):
        batch = data.batch("train", step)
        plain = np.asarray(codec().encode(IMAGES[batch.cond]))
        mirrored = np.asarray(codec().encode(IMAGES[batch.cond][:, :, ::-1]))
        flipped = np.isclose(batch.x1, mirrored).all(axis=(1, 2, 3))
        assert (flipped | np.isclose(batch.x1, plain).all(axis=(1, 2, 3))).all()
        assert 10 < flipped.sum() < 40
        seen.append(flipped[np.argsort(batch.cond)])
    assert (seen[0] != seen[1]).any()


def test_what_is_there_is_not_encoded_again_and_what_is_missing_is(tmp_path):
    said = []
    data = made(tmp_path, say=said.append, sample=False)
    expected = data.batch("train", 0)
    files(tmp_path)[2].unlink()
    stamps = {f: f.stat().st_mtime_ns for f in files(tmp_path)}
    again = made(tmp_path, say=said.append, sample=False)
    assert [text.split(" in ")[0] for text in said] == [
        "encoding latents: 4 of 4 files",
        "encoding latents: 1 of 4 files",
    ]
    assert {f: f.stat().st_mtime_ns for f in stamps} == stamps
    jax.tree.map(np.testing.assert_array_equal, again.batch("train", 0), expected)


@pytest.mark.parametrize(
    "change",
    [
        {"codec": codec(3.0)},
        {"flips": True},
        {"data": functools.partial(images, shift=1.0)},
        {"cached": ("train", "test")},
    ],
    ids=lambda c: next(iter(c)),
)
def test_other_weights_data_or_options_are_encoded_anew(tmp_path, change):
    made(tmp_path)
    made(tmp_path, **change)
    assert folders(tmp_path) == 2
    files = (tmp_path / "latents").glob("*/depends_on.json")
    depends = [json.loads(file.read_text()) for file in files]
    assert depends[0] != depends[1]


def folders(path):
    return len(list((path / "latents").iterdir()))


def test_one_number_of_one_row_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr("fmjax.data.latents.SAMPLE", 1)
    looked = images(batch_size=1).take("train", 1).cond[0]
    made(tmp_path)
    IMAGES[(row := (looked + 1) % ROWS), 0, 0, 0] += 1
    made(tmp_path)
    IMAGES[row, 0, 0, 0] -= 1
    assert folders(tmp_path) == 2


def opaque(*, batch_size, transform):
    """`images` through a transform that `take` does not show; and no word of their contents."""
    data = images(batch_size=batch_size)

    def batch(split, step):
        rows = data.batch(split, step)
        return rows._replace(x1=transform(rows.x1))

    return data._replace(batch=batch, contents=None)


def shifted(by):
    return lambda x: x + np.float32(by)


def test_arguments_of_closures_and_some_rows_are_noticed(tmp_path):
    for by, count in ((1, 1), (2, 2), (1, 2)):
        made(tmp_path, data=functools.partial(opaque, transform=shifted(by)))
        assert folders(tmp_path) == count
    LABELS[:] += 1
    made(tmp_path, data=functools.partial(opaque, transform=shifted(1)))
    LABELS[:] -= 1
    assert folders(tmp_path) == 3


def test_a_replaced_file_of_a_folder_is_noticed(tmp_path):
    for i in range(20):
        Image.fromarray(np.full((4, 6), i, np.uint8)).save(tmp_path / f"{i:02}.png")
    folder = functools.partial(image_folder, path=tmp_path, memory_gb=0.0, test_share=0.01)
    made(tmp_path / "a", data=folder)
    before = files(tmp_path / "a")
    made(tmp_path / "a", data=folder)
    assert files(tmp_path / "a") == before
    file = tmp_path / "07.png"
    Image.fromarray(np.full((4, 6), 99, np.uint8)).save(file)
    after = made(tmp_path / "a", data=folder, sample=False, batch_size=19)
    assert len(files(tmp_path / "a")) == 2 * len(before)
    assert np.asarray(after.batch("train", 0).x1).max() == 198


def test_what_a_run_offers_its_data_does_not_matter(tmp_path):
    made(tmp_path)
    made(tmp_path, data=functools.partial(images, batch_size=3, seed=7), batch_size=4)
    assert len(list((tmp_path / "latents").iterdir())) == 1


def test_a_table_of_normals_is_read_anywhere():
    whole = normals((1, 2), 0, (4000, 3, 7))
    np.testing.assert_array_equal(whole[100:103], normals((1, 2), 100, (3, 3, 7)))
    assert abs(whole.mean()) < 0.02
    assert whole.std() == pytest.approx(1, abs=0.02)
    assert (whole**4).mean() == pytest.approx(3, abs=0.2)
    assert abs(np.corrcoef(whole.reshape(4000, -1).T) - np.eye(21)).max() < 0.08
    assert not np.array_equal(normals((1, 3), 0, (4, 5)), normals((1, 2), 0, (4, 5)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"codec": codecs.identity()}, "no network"),
        ({"cached": ("dev",)}, "no split 'dev'"),
        ({"cached": ()}, "at least one split"),
        ({"chunk": 7}, "no multiple of chunk=7"),
    ],
)
def test_bad_input_is_named(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        made(tmp_path, **options)


def test_latents_that_are_not_finite_are_not_kept(tmp_path):
    with pytest.raises(ValueError, match="not finite"):
        made(tmp_path, codec=codec(np.nan))
    assert not files(tmp_path)
