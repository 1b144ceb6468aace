import os
import warnings

import numpy as np
import pytest
from PIL import Image

from fmjax.data.image_folder import SkippedImages, image_folder

RNG = np.random.default_rng(0)
KINDS = pytest.mark.parametrize("memory_gb", [1.0, 0.0], ids=["memory", "streamed"])


def write(folder, count=12, shape=(6, 8, 3), start=0):
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(start, start + count):
        bits = RNG.integers(0, 256, shape, np.uint8)
        Image.fromarray(bits[..., 0] if shape[-1] == 1 else bits).save(folder / f"{i:03}.png")
    return folder


def made(folder, batch_size=4, **options):
    return image_folder(folder, batch_size=batch_size, **options)


def everything(data):
    parts = [data.take(split, None) for split in ("train", "test")]
    return np.concatenate([p.x1 for p in parts]), parts


@KINDS
def test_every_image_is_in_one_split(tmp_path, memory_gb):
    write(tmp_path, 30)
    write(tmp_path / "below", 10)
    data = made(tmp_path, memory_gb=memory_gb, test_share=0.25)
    x, _ = everything(data)
    files = sorted(tmp_path.rglob("*.png"))
    there = {np.asarray(Image.open(f), np.float32).tobytes() for f in files}
    assert {image.tobytes() for image in x} == there
    assert (len(x), x.dtype, data.spec.x1.shape) == (40, np.float32, (6, 8, 3))
    assert 1 <= data.splits["test"] <= 20
    assert data.null is data.read is data.spec.cond is None
    np.testing.assert_array_equal(data.batch("train", 3).x1, data.batch("train", 3).x1)
    shares = [made(tmp_path, memory_gb=memory_gb, process=(i, 2), test_share=0.25) for i in (0, 1)]
    together = np.concatenate([s.batch("train", 1).x1 for s in shares])
    np.testing.assert_array_equal(together, data.batch("train", 1).x1)


def test_memory_and_streams_give_the_same_rows(tmp_path):
    for kind in ("cats", "dogs"):
        write(tmp_path / kind)
    memory, streamed = (made(tmp_path, labels="folders", memory_gb=g) for g in (1, 0))
    assert memory.spec == streamed.spec
    assert dict(memory.splits) == dict(streamed.splits)
    assert (memory.names, memory.null) == (streamed.names, streamed.null) == (("cats", "dogs"), 2)
    assert memory.read("dogs") == streamed.read("dogs") == 1
    for split in ("train", "test"):
        a, b = memory.take(split, None), streamed.take(split, None)
        np.testing.assert_array_equal(a.x1, b.x1)
        np.testing.assert_array_equal(a.cond, b.cond)


def test_a_file_stays_on_its_side_when_others_come(tmp_path):
    write(tmp_path, 40)
    before = {x.tobytes() for x in made(tmp_path).take("test", None).x1}
    write(tmp_path, 40, start=100)
    after = {x.tobytes() for x in made(tmp_path).take("test", None).x1}
    assert before < after


def test_classes_of_folders_and_of_a_table(tmp_path):
    for i, kind in enumerate(("cats", "dogs")):
        (tmp_path / "images" / kind / "deep").mkdir(parents=True)
        for j in range(6):
            bits = np.full((4, 4, 3), 100 * i + j, np.uint8)
            Image.fromarray(bits).save(tmp_path / "images" / kind / "deep" / f"{j}.png")
    data = made(tmp_path / "images", labels="folders")
    for part in everything(data)[1]:
        np.testing.assert_array_equal(part.x1[:, 0, 0, 0] >= 100, part.cond == 1)
        assert part.cond.dtype == np.int32
    table = tmp_path / "labels.csv"
    lines = [f"{k}/deep/{j}.png,{'even' if j % 2 == 0 else 'odd'}" for k in ("cats", "dogs")
             for j in range(6)]  # fmt: skip
    table.write_text("\n".join(["file,label", *lines]))
    data = made(tmp_path / "images", labels=str(table))
    assert data.names == ("even", "odd")
    for part in everything(data)[1]:
        np.testing.assert_array_equal(part.x1[:, 0, 0, 0] % 2, part.cond)
    table.write_text("\n".join(["file,label", *lines[1:]]))
    with pytest.raises(ValueError, match=r"cats/deep/0.png has no label \(1 such files\): name it"):
        made(tmp_path / "images", labels=str(table))
    table.write_text("name,class\n")
    with pytest.raises(ValueError, match=r"columns \['name', 'class'\]; expected file and label"):
        made(tmp_path / "images", labels=str(table))
    write(tmp_path / "images", 1)
    with pytest.raises(ValueError, match=r"000.png has no label.*put it into a folder directly"):
        made(tmp_path / "images", labels="folders", size=4)


def test_turned_and_transparent_images(tmp_path):
    half = np.zeros((6, 6, 4), np.uint8)
    half[:, :3] = (10, 20, 30, 255)
    for name in "ab":
        Image.fromarray(half).save(tmp_path / f"{name}.png")
    x, _ = everything(made(tmp_path))
    np.testing.assert_array_equal(x[0, :, :3], np.broadcast_to((10, 20, 30), (6, 3, 3)))
    np.testing.assert_array_equal(x[0, :, 3:], 255)
    turned = tmp_path / "turned"
    turned.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    wide = np.zeros((16, 32, 3), np.uint8)
    wide[:8] = 255
    for name in "ab":
        Image.fromarray(wide).save(turned / f"{name}.jpg", exif=exif, quality=95)
    x, _ = everything(made(turned))
    assert x.shape == (2, 32, 16, 3)
    assert x[0, :, 9:].min() > 240 > 15 > x[0, :, :7].max()


@KINDS
def test_mixed_sizes_and_colours(tmp_path, memory_gb):
    write(tmp_path, 10)
    write(tmp_path, 1, (9, 5, 3), start=50)
    with pytest.raises(ValueError, match=r"050.png has 5×9 pixels, others 8×6: give size="):
        made(tmp_path, memory_gb=memory_gb)
    with pytest.warns(SkippedImages, match="1 left out: 050.png has 5×9"):
        assert sum(made(tmp_path, skip_bad=True, memory_gb=memory_gb).splits.values()) == 10
    assert made(tmp_path, size=4, memory_gb=memory_gb).take("train", None).x1.shape[1:] == (4, 4, 3)
    write(tmp_path, 1, (6, 8, 1), start=70)
    with pytest.raises(ValueError, match=r"070.png is grey, others in colour: give channels=1 or"):
        made(tmp_path, size=4, memory_gb=memory_gb)
    x, _ = everything(made(tmp_path, size=4, channels=3, memory_gb=memory_gb))
    assert x.shape == (12, 4, 4, 3)
    assert (x[..., 0] == x[..., 2]).all(axis=(1, 2)).sum() == 1
    assert everything(made(tmp_path, size=4, channels=1, memory_gb=memory_gb))[0].shape[-1] == 1


def test_broken_files_are_named(tmp_path):
    write(tmp_path, 6, (32, 32, 3))
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ValueError, match=r"text.png cannot be read.*or leave such out with skip_b"):
        made(tmp_path)
    (tmp_path / "text.png").unlink()
    whole = (tmp_path / "003.png").read_bytes()
    (tmp_path / "003.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"003.png cannot be read \(.*mend or remove it"):
        made(tmp_path)
    with pytest.warns(SkippedImages, match="1 left out: 003.png cannot be read"):
        assert sum(made(tmp_path, skip_bad=True).splits.values()) == 5
    # behind its header a file is read only when its turn comes
    data = made(tmp_path, memory_gb=0, test_share=0.3)
    with pytest.raises(ValueError, match=r"003.png cannot be read: .*truncated.*Mend or remove it"):
        everything(data)
    with pytest.raises(ValueError, match=r"003.png cannot be read"):
        [data.batch(split, step) for split in data.splits for step in range(2)]
    deep = tmp_path / "deep"
    write(deep, 2)
    Image.fromarray(np.zeros((6, 8), np.uint16)).save(deep / "sixteen.png")
    with pytest.raises(ValueError, match=r"sixteen.png cannot be read \(its mode is I;16, 8 bits"):
        made(deep)


@KINDS
@pytest.mark.parametrize("side", [11, 20])  # Pillow warns of the one, and refuses the other
def test_huge_files_are_named(tmp_path, monkeypatch, memory_gb, side):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    write(tmp_path, 6)
    write(tmp_path, 1, (side, side, 3), start=50)
    with pytest.raises(ValueError, match=r"050.png cannot be read \(Image size .* exceeds limit"):
        made(tmp_path, size=4, memory_gb=memory_gb)

    def rest():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        return made(tmp_path, size=4, skip_bad=True, memory_gb=memory_gb).splits

    with pytest.warns(SkippedImages, match="1 left out: 050.png cannot be read"):
        assert sum(rest().values()) == 6


def test_bad_requests_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        made(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"no image below .* files in \.png, \.jpg, \.jpeg"):
        made(tmp_path)
    write(tmp_path, 1)
    with pytest.raises(ValueError, match="1 image; at least two make a train and a test split"):
        made(tmp_path)
    with pytest.raises(ValueError, match="test_share=1: expected"):
        made(tmp_path, test_share=1)
    (tmp_path / "000.png").write_text("")
    with pytest.raises(ValueError, match=r"no image is left: 000\.png"):
        made(tmp_path, skip_bad=True)


@KINDS
def test_contents_notice_every_file(tmp_path, memory_gb):
    write(tmp_path, 12)
    (tmp_path / "labels.csv").write_text(labels := "file,label\n" + "".join(
        f"{i:03}.png,{'ab'[i % 2]}\n" for i in range(12)
    ))  # fmt: skip

    def contents():
        data = made(tmp_path, memory_gb=memory_gb, labels=str(tmp_path / "labels.csv"))
        return [data.contents(split) for split in ("train", "test")]

    first = contents()
    assert contents() == first
    file = tmp_path / "003.png"
    old = file.stat()
    image = np.asarray(Image.open(file)).copy()
    image[0, 0, 0] ^= 1
    Image.fromarray(image).save(file)
    os.utime(file, ns=(old.st_atime_ns, old.st_mtime_ns + 1000))
    second = contents()
    assert sum(a != b for a, b in zip(first, second, strict=True)) == 1  # it is in one split
    (tmp_path / "labels.csv").write_text(labels.replace("003.png,b", "003.png,a"))
    assert contents() not in (first, second)
