"""Random flips, crops and dequantisation of the training images of another data set."""

from typing import Any

import numpy as np
from jaxtyping import Int, Shaped

from fmjax.data import _common
from fmjax.types import Batch, Data

# words of randomness for an example, of which some may be spare: a Philox block has four
WORDS = 4


def augmented(
    data: Any,
    *,
    batch_size: int,
    seed: int = 0,
    process: tuple[int, int] = (0, 1),
    flip: bool = False,
    crop: int = 0,
    pad: str = "reflect",
    dequantise: float | int = 0.0,
) -> Data:
    """`data` with x1 `[h, w, c]` of `batch("train", step)` changed at random; all else as it is.

    data:       a data set to be made here, in a config dict(bind="fmjax.data.…:…", …)
    flip:       mirrors left and right, each image with probability ½
    crop:       pads by so many pixels on each side, then cuts the size back out, anywhere
    pad:        with what: a mode of `numpy.pad`, "reflect", "edge" or "constant" (black)
    dequantise: adds U[0, `dequantise`) to each number, in steps of 2⁻¹⁶ of it: 1 for bytes

    Row j of step s depends on (seed, s, j) alone, not on the processes. `take` gives images as
    they are, so evaluators see no augmented ones. For 256 images of 32×32×3 a flip costs 0.7 to
    3 ms (as memory is at hand or fresh), a crop 5, dequantisation 1.4; gathering the batch 0.4.
    Not for images of which the mirror image is no example (digits, text).
    ValueError: nothing to do, x1 that are no images, a set without `batch`, or with an x0 of its
    own, which was chosen for the unchanged x1: couple the augmented set, not the reverse.
    """
    inner = _common.made("augmented", data, batch_size=batch_size, process=process, seed=seed)
    _check(inner, flip=flip, crop=crop, dequantise=dequantise)
    start, stop = _common.local_share(batch_size, process)
    height, width, channels = inner.spec.x1.shape

    def random(use: int, step: int, words: int) -> np.ndarray:
        """`words` of 64 random bits for each row of this process, a multiple of four."""
        bits = np.random.Philox(np.random.SeedSequence((seed, use, step)))
        bits.advance(start * words // 4)
        return bits.random_raw((stop - start) * words).reshape(stop - start, words)

    def batch(split: str, step: int) -> Batch:
        rows = inner.batch(split, step)
        if split != "train":
            return rows
        x = np.ascontiguousarray(rows.x1)
        choices = random(0, step, WORDS)
        if flip:
            x = mirrored(x, choices[:, 0] >> np.uint64(63) == 1)
        if crop:
            down, right = (choices[:, i] % np.uint64(2 * crop + 1) for i in (1, 2))
            x = cropped(x, down.astype(np.int64), right.astype(np.int64), crop=crop, pad=pad)
        if dequantise:
            # sixteen bits for a number; float32 has no more between 128 and 256
            size = height * width * channels
            noise = random(1, step, -(-size // 16) * 4).view(np.uint16)[:, :size]
            x = x + noise.reshape(x.shape) * np.float32(dequantise * 2.0**-16)
        return rows._replace(x1=x)

    return inner._replace(batch=batch)


def mirrored(x: Shaped[np.ndarray, "b h w c"], rows: Any) -> Shaped[np.ndarray, "b h w c"]:
    """`x` with the chosen `rows` (booleans `[b]`) mirrored left and right."""
    out = x.copy()
    # a pixel at a time takes half of the time of reversing floats; an image at a time, no memory
    pixel = f"V{x.itemsize * x.shape[-1]}"
    pixels, mirror = out.view(pixel)[..., 0], x.view(pixel)[..., 0]
    for i in np.flatnonzero(rows):
        pixels[i] = mirror[i, :, ::-1]
    return out


def cropped(
    x: Shaped[np.ndarray, "b h w c"],
    down: Int[np.ndarray, " b"],
    right: Int[np.ndarray, " b"],
    *,
    crop: int,
    pad: str,
) -> Shaped[np.ndarray, "b h w c"]:
    """`x` padded by `crop` pixels on each side, and its size cut out at (`down`, `right`)."""
    height, width = x.shape[1:3]
    padded = np.pad(x, ((0, 0), (crop, crop), (crop, crop), (0, 0)), mode=pad)
    out = np.empty_like(x)
    for i, (top, left) in enumerate(zip(down.tolist(), right.tolist(), strict=True)):
        out[i] = padded[i, top : top + height, left : left + width]
    return out


def _check(inner: Data, *, flip: bool, crop: int, dequantise: float | int) -> None:
    if not (flip or crop or dequantise):
        raise ValueError("nothing to do: give flip=True, crop=4 or dequantise=1.0")
    if crop < 0 or dequantise < 0:
        raise ValueError(f"crop={crop}, dequantise={dequantise}: neither may be negative")
    if inner.encoded:
        raise ValueError(
            "the rows are latents already, and a changed image's are not changed latents: flip by "
            "fmjax.latents:latents(flips=True)"
        )
    if inner.batch is None:
        raise ValueError("augmented changes rows of `batch`, and this set has only `sample`")
    shape = getattr(inner.spec.x1, "shape", None)
    if shape is None or len(shape) != 3:
        raise ValueError(f"x1 is {inner.spec.x1}; images [height, width, channels] are expected")
    if inner.spec.x0 is not None:
        raise ValueError(
            "this set has an x0 of its own, chosen for images as they are; wrap the other way "
            "round: coupled(data=dict(bind='fmjax.data.augment:augmented', …))"
        )
