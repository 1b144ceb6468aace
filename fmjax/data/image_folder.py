"""A folder of PNG and JPEG files as a data set."""

import csv
import hashlib
import os
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from fmjax import digests
from fmjax.data import _common, _grain, resize
from fmjax.data.in_memory import in_memory
from fmjax.types import Batch, Data

ENDINGS = (".png", ".jpg", ".jpeg")
GREY = ("1", "L", "LA")
COLOUR = ("P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
# what Pillow raises for files that it cannot read, and, where warnings are errors, for huge ones
BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


class SkippedImages(UserWarning):
    """Some files of a folder are not used."""


def image_folder(
    path: str | os.PathLike[str],
    *,
    batch_size: int,
    seed: int = 0,
    process: tuple[int, int] = (0, 1),
    size: int | None = None,
    channels: int | None = None,
    labels: str | None = None,
    test_share: float | int = 0.1,
    skip_bad: bool = False,
    memory_gb: float | int = 1.0,
    workers: int = 4,
    ahead: int = 8,
) -> Data:
    """x1 `[h, w, c]` float32 in 0..255 of all PNG and JPEG files below `path`; splits train, test.

    size:       each image's middle square at this size, as `resize.centre_cropped`; None: as it
                is, all being of one size
    channels:   1 makes colours grey, 3 repeats grey; None: all grey or all in colour
    labels:     None, "folders" (classes are the folders directly below `path`), or a CSV file
                with the columns file (relative to `path`) and label
    test_share: by a hash of the file's name, so a file stays on its side when others come
    skip_bad:   leave out, with a warning, what else is refused by name: files that cannot be
                read, or are beyond Pillow's limit (`PIL.Image.MAX_IMAGE_PIXELS`), sizes or
                channels other than most have
    memory_gb:  up to here, as float32, all is decoded into memory at the start; above, files are
                read by `workers` threads, `ahead` batches ahead, and only their headers first: a
                file broken behind its header then is an error when its turn comes

    Transparency is put on white; photos are turned as their EXIF says.
    FileNotFoundError: no folder, no images. ValueError: bad images, labels that do not fit.
    """
    if not 0 < test_share < 1:
        raise ValueError(f"test_share={test_share}: expected a share between 0 and 1")
    folder = Path(path).expanduser()
    heads = _uniform(_heads(folder, workers), size, channels, skip_bad)
    if memory_gb * 1e9 >= _bytes(heads, size, channels):
        images, heads = _decoded(heads, folder, size, channels, skip_bad, workers)
    else:
        images = None
    classes, numbers = _labels(folder, [head.name for head in heads], labels)
    null = {"null": np.int32(len(classes))} if classes else {}
    options = {"batch_size": batch_size, "seed": seed, "process": process, **null}
    splits = _split([head.name for head in heads], test_share)
    if images is not None:
        sets = {
            split: Batch(images[rows], None if numbers is None else numbers[rows])
            for split, rows in splits.items()
        }
        return in_memory(sets, names=classes, **options)

    def load(split: str, chosen: np.ndarray) -> Batch:
        rows = splits[split][chosen]
        x1 = np.stack([_image(folder, heads[row].name, size, channels) for row in rows])
        return Batch(x1, None if numbers is None else numbers[rows])

    def contents(split: str) -> str:
        label = [None] * len(heads) if numbers is None else numbers.tolist()
        return digests.rows((*heads[row], label[row]) for row in splits[split].tolist())

    options["contents"] = contents
    if classes:
        options |= {"names": classes, "read": _common.class_reader(classes)}
    rows = {split: len(rows) for split, rows in splits.items()}
    return _grain.streamed(rows, load, workers=workers, ahead=ahead, **options)


class _Head(NamedTuple):
    """What a file's first bytes say; `error` where they cannot be read.

    `written`: its bytes and its time in ns, which change with it.
    """

    name: str
    size: tuple[int, int] = (0, 0)
    channels: int = 0
    error: str = ""
    written: tuple[int, int] = (0, 0)


def _heads(folder: Path, workers: int) -> list[_Head]:
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}; path= names one that holds images")
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in ENDINGS and p.is_file())
    if not files:
        raise FileNotFoundError(f"no image below {folder}: expected files in {', '.join(ENDINGS)}")
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(lambda file: _head(folder, file), files))


def _head(folder: Path, file: Path) -> _Head:
    name = file.relative_to(folder).as_posix()
    try:
        with Image.open(file) as image:
            width, height = image.size
            # asked for its EXIF, a PNG file is decoded as a whole
            has_exif = image.format == "JPEG" or "exif" in image.info
            if has_exif and image.getexif().get(0x0112, 1) >= 5:  # lies on its side
                width, height = height, width
            if image.mode not in GREY + COLOUR:
                return _Head(name, error=f"its mode is {image.mode}, 8 bits are expected")
            written = file.stat()
            return _Head(
                name,
                (width, height),
                1 if image.mode in GREY else 3,
                written=(written.st_size, written.st_mtime_ns),
            )
    except BROKEN as error:
        return _Head(name, error=str(error))


def _uniform(
    heads: Sequence[_Head], size: int | None, channels: int | None, skip_bad: bool
) -> list[_Head]:
    """The heads that can be read and agree."""
    wrong = {head.name: f"cannot be read ({head.error})" for head in heads if head.error}
    good = _without(heads, wrong, skip_bad, "mend or remove it")
    if size is None:
        usual = Counter(head.size for head in good).most_common(1)[0][0]
        wrong = {
            head.name: f"has {head.size[0]}×{head.size[1]} pixels, others {usual[0]}×{usual[1]}"
            for head in good
            if head.size != usual
        }
        good = _without(good, wrong, skip_bad, "give size= to bring all to one")
    if channels is None:
        usual = Counter(head.channels for head in good).most_common(1)[0][0]
        words = {1: "grey", 3: "in colour"}
        wrong = {
            head.name: f"is {words[head.channels]}, others {words[usual]}"
            for head in good
            if head.channels != usual
        }
        good = _without(good, wrong, skip_bad, "give channels=1 or 3 to make all alike")
    return good


def _without(
    heads: Sequence[_Head], wrong: Mapping[str, str], skip_bad: bool, remedy: str
) -> list[_Head]:
    if not wrong:
        return list(heads)
    listed = "; ".join(f"{name} {why}" for name, why in list(wrong.items())[:5])
    more = f"; and {len(wrong) - 5} more" if len(wrong) > 5 else ""
    if not skip_bad:
        raise ValueError(f"{listed}{more}: {remedy}, or leave such out with skip_bad=True")
    if len(wrong) == len(heads):
        raise ValueError(f"no image is left: {listed}{more}")
    warnings.warn(f"{len(wrong)} left out: {listed}{more}", SkippedImages, stacklevel=4)
    return [head for head in heads if head.name not in wrong]


def _bytes(heads: Sequence[_Head], size: int | None, channels: int | None) -> int:
    width, height = heads[0].size if size is None else (size, size)
    return 4 * len(heads) * width * height * (channels or heads[0].channels)


def _decoded(
    heads: Sequence[_Head],
    folder: Path,
    size: int | None,
    channels: int | None,
    skip_bad: bool,
    workers: int,
) -> tuple[np.ndarray, list[_Head]]:
    """All images; a file may be broken behind its head."""

    def read(head: _Head) -> Any:
        try:
            return _image(folder, head.name, size, channels)
        except ValueError as error:
            return error

    with ThreadPoolExecutor(workers) as pool:
        images = list(pool.map(read, heads))
    found = zip(heads, images, strict=True)
    wrong = {
        h.name: f"cannot be read ({x.__cause__})" for h, x in found if isinstance(x, ValueError)
    }
    heads = _without(heads, wrong, skip_bad, "mend or remove it")
    return np.stack([x for x in images if not isinstance(x, ValueError)]), heads


def _image(folder: Path, name: str, size: int | None, channels: int | None) -> np.ndarray:
    try:
        with Image.open(folder / name) as image:
            image = ImageOps.exif_transpose(image)
            grey = image.mode in GREY if channels is None else channels == 1
            if "A" in image.mode or "transparency" in image.info:
                image = image.convert("RGBA")
                white = Image.new("RGBA", image.size, "white")
                image = Image.alpha_composite(white, image)
            image = image.convert("L" if grey else "RGB")
    except BROKEN as error:
        raise ValueError(
            f"{folder / name} cannot be read: {error}. Mend or remove it; skip_bad=True leaves out "
            "what is broken behind its header only where all is decoded at the start (memory_gb)."
        ) from error
    return resize.as_floats(image if size is None else resize.centre_cropped(image, size))


def _labels(
    folder: Path, names: Sequence[str], labels: str | None
) -> tuple[tuple[str, ...], np.ndarray | None]:
    """The classes, and each file's."""
    if labels is None:
        return (), None
    if labels == "folders":
        words = {name: name.split("/")[0] if "/" in name else "" for name in names}
        remedy = f"put it into a folder directly below {folder}"
    else:
        with open(Path(labels).expanduser(), newline="") as file:
            table = csv.DictReader(file)
            if not {"file", "label"} <= set(table.fieldnames or ()):
                raise ValueError(
                    f"{labels} has the columns {table.fieldnames}; expected file and label"
                )
            words = {row["file"]: row["label"] for row in table}
        remedy = f"name it in {labels}"
    bare = [name for name in names if not words.get(name)]
    if bare:
        raise ValueError(f"{bare[0]} has no label ({len(bare)} such files): {remedy}")
    classes = tuple(sorted({words[name] for name in names}))
    numbers = {word: i for i, word in enumerate(classes)}
    return classes, np.array([numbers[words[name]] for name in names], np.int32)


def _split(names: Sequence[str], test_share: float | int) -> dict[str, np.ndarray]:
    """The rows of each split, at least one."""
    if len(names) < 2:
        raise ValueError(f"{len(names)} image; at least two make a train and a test split")
    places = [hashlib.sha256(name.encode()).digest()[:4] for name in names]
    place = np.array([int.from_bytes(p, "big") / 2**32 for p in places])
    test = place < min(max(test_share, place.min() + 2**-33), place.max())
    return {"train": np.flatnonzero(~test), "test": np.flatnonzero(test)}
