"""Square patches of ten colour photos, embedded in scikit-image and scikit-learn."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from fmjax.data import _common, _packages
from fmjax.data.in_memory import in_memory
from fmjax.types import Batch, Data

# The right half of the stereo pair of a motorcycle is left out, being nearly the left one.
PHOTOS = {
    "astronaut": ("skimage", "data", "astronaut.png"),
    "cat": ("skimage", "data", "chelsea.png"),
    "china": ("sklearn", "datasets", "images", "china.jpg"),
    "coffee": ("skimage", "data", "coffee.png"),
    "flower": ("sklearn", "datasets", "images", "flower.jpg"),
    "galaxies": ("skimage", "data", "hubble_deep_field.jpg"),
    "motorcycle": ("skimage", "data", "motorcycle_left.png"),
    "retina": ("skimage", "data", "retina.jpg"),
    "rocket": ("skimage", "data", "rocket.jpg"),
    "tissue": ("skimage", "data", "ihc.png"),
}
TEST = 0.2  # share of the blocks
BLOCK = 4  # their side, in sides of a patch


def photo_patches(
    *,
    batch_size: int,
    seed: int = 0,
    process: tuple[int, int] = (0, 1),
    photos: Sequence[str] = tuple(PHOTOS),
    size: int = 32,
    stride: int = 16,
    contrast: float | int = 0.0,
) -> Data:
    """x1 `[size, size, 3]` float32 in 0..255; cond: its photo, one of `photos`, int32.

    Patches begin at every `stride`-th pixel. A photo is cut into blocks of 4 patches a side, of
    which a fixed fifth is for `test`; a patch that touches blocks of both splits is left out, so
    no test pixel is in a training patch. Both splits show all photos. With the defaults 14,067
    train, 2,919 test, of 18,322; the splits do not depend on `seed`, which orders the batches.
    contrast: least standard deviation of a patch's values; 5 leaves out night sky and borders.

    Retina and galaxies are 57 % of all, many of them black. Neighbours share half of their pixels
    or more, so there are far fewer independent ones.
    ImportError, naming the pip command: a package is missing (files are read, nothing is
    imported). ValueError: no such photo, or one without patches in both splits.
    """
    unknown = [name for name in photos if name not in PHOTOS]
    if unknown or not photos:
        raise ValueError(f"no photo {unknown}; choose at least one of: {', '.join(PHOTOS)}")
    if size < 1 or stride < 1:
        raise ValueError(f"size={size}, stride={stride}: each at least 1")
    found: dict[str, list[Batch]] = {"train": [], "test": []}
    for label, name in enumerate(photos):
        pixels, held_out = _pixels(_path(name)), _path(name).name
        x, sides = _patches(pixels, size, stride, _common.split_word(held_out))
        lively = x.reshape(len(x), -1).std(axis=1) >= contrast
        for side, split in enumerate(found):
            chosen = x[(sides == side) & lively].astype(np.float32)
            if not len(chosen):
                height, width = pixels.shape[:2]
                raise ValueError(
                    f"photo {name!r} ({width}×{height}) has no patch for {split!r} with "
                    f"size={size}, stride={stride}, contrast={contrast}; use smaller ones"
                )
            found[split].append(Batch(chosen, np.full(len(chosen), label, np.int32)))
    splits = {
        name: Batch(*(np.concatenate([part[i] for part in parts]) for i in range(2)))
        for name, parts in found.items()
    }
    return in_memory(
        splits,
        batch_size=batch_size,
        seed=seed,
        process=process,
        null=np.int32(len(photos)),
        names=tuple(photos),
    )


def _path(name: str) -> Path:
    package, *below = PHOTOS[name]
    return _packages.file(package, *below, what=f"photo {name!r}")


def _pixels(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def _patches(
    pixels: UInt8[np.ndarray, "h w 3"], size: int, stride: int, word: int
) -> tuple[UInt8[np.ndarray, "n s s 3"], np.ndarray]:
    """All patches in rows, and for each 0 (train), 1 (test) or −1 (touches both)."""
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (size, size), axis=(0, 1))
    windows = np.moveaxis(windows[::stride, ::stride], 2, -1)
    test = _test_pixels(*pixels.shape[:2], BLOCK * size, word)
    # a sum of booleans over each window: none, some or all of its pixels
    inside = np.lib.stride_tricks.sliding_window_view(test, (size, size))[::stride, ::stride]
    share = inside.mean(axis=(2, 3))
    sides = np.where(share == 0, 0, np.where(share == 1, 1, -1))
    return windows.reshape(-1, size, size, 3), sides.reshape(-1)


def _test_pixels(height: int, width: int, block: int, word: int) -> Bool[np.ndarray, "h w"]:
    """Which pixels are in the blocks held out: a fixed choice for each photo, at least one."""
    down, across = -(-height // block), -(-width // block)
    chosen = np.zeros(down * across, bool)
    count = max(1, round(TEST * len(chosen)))
    chosen[_common.permutation(len(chosen), word)[:count]] = True
    grid = chosen.reshape(down, across).repeat(block, axis=0).repeat(block, axis=1)
    return grid[:height, :width]
