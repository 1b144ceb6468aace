"""Images of any size to squares of one: what `transform` of a TFDS set or a folder needs."""

from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

FILTERS = {"box": Image.Resampling.BOX, "bicubic": Image.Resampling.BICUBIC}


def resized(
    *, size: int, crop: bool = True, method: str = "bicubic", channels: int | None = None
) -> Callable[[Any], np.ndarray]:
    """A function from an image `[h, w, c]` of bytes to float32 `[size, size, c]` in 0..255.

    crop:     the middle square, as `centre_cropped`; False: squeezed to a square
    method:   "box" (means, as of the downsampled ImageNets) or "bicubic"
    channels: 1 makes colours grey, 3 repeats grey; None keeps either

    In a config transform=dict(name="fmjax.data.resize:resized", size=64).
    ValueError: no such filter, values that are not bytes, other shapes.
    """
    if method not in FILTERS or size < 1 or channels not in (None, 1, 3):
        raise ValueError(
            f"size={size}, method={method!r}, channels={channels}: expected a positive size, "
            f"one of {', '.join(FILTERS)}, and None, 1 or 3"
        )

    def transform(image: Any) -> np.ndarray:
        image = np.asarray(image)
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] not in (1, 3):
            raise ValueError(
                f"an image of shape {image.shape} and type {image.dtype}; expected bytes, "
                "[height, width, 1 or 3]"
            )
        picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
        if channels is not None:
            picture = picture.convert("L" if channels == 1 else "RGB")
        if crop:
            picture = centre_cropped(picture, size, method=method)
        elif picture.size != (size, size):
            picture = picture.resize((size, size), FILTERS[method])
        return as_floats(picture)

    return transform


def centre_cropped(picture: Image.Image, size: int, *, method: str = "bicubic") -> Image.Image:
    """The middle square of the picture at `size`: the shorter side is scaled to it, the rest cut.

    As long as the shorter side is at least twice as long, it is halved by means of 2×2; `method`
    does what remains. What ADM did with ImageNet, and all who compare with it (Dhariwal and Nichol
    2021, arXiv 2105.05233).
    """
    while min(picture.size) >= 2 * size:
        picture = picture.resize((picture.width // 2, picture.height // 2), FILTERS["box"])
    scale = size / min(picture.size)
    width, height = (max(size, round(side * scale)) for side in picture.size)
    if (width, height) != picture.size:
        picture = picture.resize((width, height), FILTERS[method])
    left, top = (width - size) // 2, (height - size) // 2
    return picture.crop((left, top, left + size, top + size))


def as_floats(picture: Image.Image) -> np.ndarray:
    """float32 `[h, w, c]` in 0..255 of a grey or coloured picture."""
    values = np.asarray(picture, np.float32)
    return values[..., None] if values.ndim == 2 else values
