"""Samples that keep what is given: an image but for some noise or a hole, the words of a text."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from fmjax import config as configs
from fmjax import judge
from fmjax.assemble import Parts
from fmjax.config import ConfigError
from fmjax.samplers import inpaint, partial


def edited(
    parts: Parts, draw: judge.Draw, n: int, cond: Any, *, image: Any, mask: Any, strength: Any
) -> np.ndarray:
    """`n` variants of an image, or of `n`: partly noised, or painted where the mask is true."""
    if parts.config["bridge"]:
        raise ConfigError(
            "images are noised along the run's path, and this run has a bridge with noise of its "
            "own (config.bridge)"
        )
    if mask is not None and strength is not None:
        raise ConfigError("strength is for whole images: leave out it or the mask")
    path = configs.build(parts.config["path"], "config.path")
    spec, image = parts.datas[0].spec.x1, np.asarray(image)
    if image.shape not in (spec.shape, (n, *spec.shape)):
        raise ConfigError(
            f"the image has shape {list(image.shape)}, those of this run have {list(spec.shape)} "
            "(height, width, channels): resize or crop it, and match its colours"
        )
    many = np.broadcast_to(image, (n, *spec.shape)).astype(spec.dtype)
    rows = {"image": np.asarray(parts.codec.encode(many))}
    if mask is None:
        options = {"strength": 0.6 if strength is None else strength, "sampler": draw.sampler}
        if not 0 < options["strength"] <= 1:
            raise ConfigError(f"strength {strength}: expected above 0 (the image) to 1 (all noise)")
        sampler = functools.partial(partial.partial, path=path, **options)
        return draw(n, cond, sampler=sampler, rows=rows)
    mask = np.asarray(mask).astype(bool)
    if mask.shape != spec.shape[:2]:
        raise ConfigError(
            f"the mask has shape {list(mask.shape)}, images have {list(spec.shape[:2])} (height, "
            "width): resize it without smoothing, so that it stays black and white"
        )
    coarse = inpaint.fitted(mask, *rows["image"].shape[1:3])[:, :, None]
    sampler = functools.partial(inpaint.inpaint, path=path, mask=coarse, repeats=4)
    painted = draw(n, cond, sampler=sampler, rows=rows)
    # a codec may change pixels that are known
    return np.where(mask[None, :, :, None], painted, many)


def completed(parts: Parts, draw: judge.Draw, n: int, cond: Any, given: str) -> np.ndarray:
    """`n` examples that have what is given where it is known, and the rest from the model."""
    codec = parts.codec
    takes = inspect.signature(parts.sampler).parameters
    if codec.read is None or not {"given", "known"} <= set(takes):
        raise ConfigError(
            f"given {given!r}: this run's codec reads nothing or its sampler keeps nothing. Text "
            "runs do both, with fmjax.samplers.ctmc:ctmc; of images give --image and --mask"
        )
    x, known = readable(codec.read, given, parts.datas[0].spec.x1)
    rows = {"given": np.tile(x, (n, 1)), "known": np.tile(known, (n, 1))}
    return draw(n, cond, rows=rows, sampler=parts.sampler)


def readable(reader: Callable[..., Any], *args: Any) -> Any:
    """`reader(*args)`, of what a user wrote or drew: its ValueError is a ConfigError."""
    try:
        return reader(*args)
    except ValueError as error:
        raise ConfigError(str(error)) from error
