"""What people look at: grids, trajectories, loss curves. Every function returns a figure.

A picture in a config is `(data, samples, paths) -> Figure`: `samples(n) -> Batch` and
`paths(n) -> (ts [k], xs [k, n, *d])`, both in data space, from noise to data. One with an
argument `draw` gets `judge.Draw`, which samples with other conditions, guidance and samplers.
"""

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from fmjax import codecs, guidance
from fmjax.samplers import inpaint
from fmjax.types import Batch, Data

if TYPE_CHECKING:
    from matplotlib.figure import Figure
else:
    Figure = Any


class NotDrawn(Exception):
    """A picture that this run cannot have; the message says why."""


def blank(**options: Any) -> Figure:
    """A figure with nothing on it."""
    # imported here, as training must not wait half a second for what is drawn at its end
    from matplotlib.figure import Figure

    return Figure(**options)


def mosaic(images: Any, *, border: int = 1) -> np.ndarray:
    """Rows of images `[rows, columns, h, w, c]` as one picture `[H, W, c]`, with white borders."""
    images = np.asarray(images, np.float32)
    pad = [(0, 0), (0, 0), (border, border), (border, border), (0, 0)]
    padded = np.pad(images, pad, constant_values=np.nan)
    rows, columns, h, w, c = padded.shape
    return padded.transpose(0, 2, 1, 3, 4).reshape(rows * h, columns * w, c)


def _show(figure: Figure, picture: np.ndarray, low: float | int, high: float | int) -> Any:
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    _draw_picture(axes, picture, low, high)
    return axes


def _draw_picture(axes: Any, picture: np.ndarray, low: float | int, high: float | int) -> None:
    scaled = np.nan_to_num(np.clip((picture - low) / (high - low), 0, 1), nan=1.0)
    axes.imshow(
        scaled.squeeze(-1) if scaled.shape[-1] == 1 else scaled, cmap="gray", vmin=0, vmax=1
    )


def _sheet(
    picture: np.ndarray, low: float | int, high: float | int, *, inches: float | int = 6
) -> Figure:
    height, width = picture.shape[:2]
    figure = blank(figsize=(inches, inches * height / width), dpi=150)
    _show(figure, picture, low, high)
    return figure


def _by_class(batch: Batch, names: Any, columns: int, of: str | None = None) -> list[np.ndarray]:
    """Row indices of the first `columns` examples of each class; of all, where none are named.

    `of`: the part of the condition that is the class; None: the first that has names.
    """
    labels = batch.cond
    if isinstance(names, Mapping) and names:
        part = next(iter(names)) if of is None else of
        if part not in names:
            raise ValueError(f"of={of!r}: the condition's parts of classes are {list(names)}")
        names, labels = names[part], None if labels is None else labels[part]
    elif of is not None:
        raise ValueError(f"of={of!r}, but the condition has no parts that are classes")
    if not names or labels is None:
        n = len(batch.x1) // columns * columns
        return list(np.arange(n).reshape(-1, columns))
    rows = [np.flatnonzero(np.asarray(labels) == c)[:columns] for c in range(len(names))]
    return [row for row in rows if len(row) == columns]


def grid(
    data: Data,
    samples: Callable[[int], Batch],
    paths: Callable[[int], Any],
    *,
    low: float,
    high: float,
    columns: int = 10,
    n: int = 360,
    of: str | None = None,
) -> Figure:
    """Generated images, one row a class (or `n` in rows, where there are no classes).

    `of`: which part of a condition of parts the classes are of; None: the first with names.
    """
    batch = samples(n)
    rows = _by_class(batch, data.names, columns, of)
    if not rows:
        raise NotDrawn(f"{n} samples do not fill a row of {columns}; raise n or lower columns")
    return _sheet(mosaic(np.stack([batch.x1[row] for row in rows])), low, high)


def strip(
    images: Any, *, low: float | int, high: float | int, columns: int = 8, inches: float | int = 6
) -> Figure:
    """Images `[n, h, w, c]` in rows of at most `columns`, white where the last row ends."""
    images = np.asarray(images, np.float32)
    columns = min(columns, len(images))
    blank = np.full((-len(images) % columns, *images.shape[1:]), high, np.float32)
    rows = np.concatenate([images, blank]).reshape(-1, columns, *images.shape[1:])
    return _sheet(mosaic(rows), low, high, inches=inches)


def trajectories(
    data: Data,
    samples: Callable[[int], Batch],
    paths: Callable[[int], Any],
    *,
    low: float,
    high: float,
    n: int = 10,
) -> Figure:
    """Images on their way from noise (left) to data (right), one row an example."""
    _, xs = paths(n)
    return _sheet(mosaic(np.swapaxes(xs, 0, 1)), low, high)


def scatter(
    data: Data,
    samples: Callable[[int], Batch],
    paths: Callable[[int], Any],
    *,
    n: int = 2048,
) -> Figure:
    """Generated points (right) beside as many real ones (left), first two coordinates."""
    n = min(n, data.splits["test"] or n)
    figure = blank(figsize=(8, 4), dpi=150, layout="constrained")
    real, fake = data.take("test", n).x1, samples(n).x1
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    for axes, points, title in ((left, real, "data"), (right, fake, "samples")):
        axes.scatter(points[:, 0], points[:, 1], s=2, alpha=0.5)
        axes.set(title=title, aspect="equal")
    return figure


def flow_lines(
    data: Data,
    samples: Callable[[int], Batch],
    paths: Callable[[int], Any],
    *,
    n: int = 256,
) -> Figure:
    """Points carried from noise (grey) to data (blue) along the learned field."""
    _, xs = paths(n)
    figure = blank(figsize=(5, 5), dpi=150, layout="constrained")
    axes = figure.subplots()
    axes.plot(xs[:, :, 0], xs[:, :, 1], color="0.8", linewidth=0.4, zorder=0)
    axes.scatter(xs[0, :, 0], xs[0, :, 1], s=4, color="0.4", label="noise, t = 0")
    axes.scatter(xs[-1, :, 0], xs[-1, :, 1], s=4, color="C0", label="samples, t = 1")
    axes.set(aspect="equal")
    axes.legend(loc="upper right")
    return figure


def art_sheet(
    data: Data,
    samples: Callable[[int], Batch],
    paths: Callable[[int], Any],
    *,
    draw: Callable[..., Any],
    low: float | int,
    high: float | int,
    codec: codecs.Codec,
    null: Any,
    subjects: Sequence[str] = (),
    styles: Sequence[str] = (),
    image_to_image: Callable[..., Any] | None = None,
    inpainting: Callable[..., Any] | None = None,
    noises: int = 3,
    scales: Sequence[float | int] = (0, 1, 2, 3, 4),
    amounts: Sequence[float | int] = (0, 0.25, 0.5, 0.75, 1),
    strengths: Sequence[float | int] = (0.2, 0.4, 0.6, 0.8),
    inches: float | int = 8,
) -> Figure:
    """What a condition of parts is good for: subjects × styles, dials, blends, edited images.

    subjects, styles: words that `data.read` knows, joined by a comma where they meet, such as
        "group=flags" or "caption=red apple", and "style=line". Default: the (first four) classes
        of the first, and those of the last part that is a class.
    image_to_image, inpainting: `samplers.partial`, `samplers.inpaint`, bound; None: left out.
    Every row has noise of its own, which is the same along the row, but for `noises` in the
    first section. NotDrawn: no condition of parts, no images.
    """
    names = data.names
    if not isinstance(null, Mapping) or not isinstance(names, Mapping) or len(names) < 2:
        raise NotDrawn("the sheet needs a condition of at least two parts that are classes")
    if len(data.spec.x1.shape) != 3:
        raise NotDrawn("the sheet is of images [h, w, c]")
    (first, own), *_, (last, others) = names.items()
    subjects = list(subjects) or [f"{first}={name}" for name in own[:4]]
    styles = list(styles) or [f"{last}={name}" for name in others]

    def conds(words: Sequence[str]) -> Any:
        return jax.tree.map(lambda *c: np.stack(c), *[data.read(word) for word in words])

    def parts_of(word: str) -> dict[str, Any]:
        found = data.read(word)
        return {p: c for p, c in found.items() if not np.array_equal(c, null[p])}

    sections = []

    def section(title: str, rows: Sequence[str], columns: Sequence[Any], images: Any) -> None:
        shaped = np.asarray(images).reshape(len(rows), len(columns), *data.spec.x1.shape)
        sections.append((title, rows, columns, shaped))

    words = [f"{s},{t}" for s in subjects for _ in range(noises) for t in styles]
    k = np.tile(np.repeat(np.arange(noises), len(styles)), len(subjects))
    of_row = np.repeat(np.arange(len(subjects)), noises * len(styles))
    x1 = draw(len(words), conds(words), noise=of_row * noises + k)
    section("subjects × styles", subjects, [t for _ in range(noises) for t in styles], x1)

    dials = sorted({*parts_of(subjects[0]), *parts_of(styles[0])})
    n = len(dials) * len(scales)
    dialled = {p: np.ones(n, np.float32) for p in dials}
    for i, p in enumerate(dials):
        dialled[p][i * len(scales) : (i + 1) * len(scales)] = scales
    x1 = draw(
        n,
        conds([f"{subjects[0]},{styles[0]}"] * n),
        noise=np.zeros(n, int),
        guidance=lambda net, **scales: guidance.compose(net, null=null, scales=scales),
        rows=dialled,
    )
    section(f"scale of a part, {subjects[0]}, {styles[0]}", dials, scales, x1)

    if len(styles) > 1:
        n = len(subjects) * len(amounts)
        guided = draw.guidance or (lambda net: net)
        other = parts_of(styles[-1])
        x1 = draw(
            n,
            conds([f"{s},{styles[0]}" for s in subjects for _ in amounts]),
            noise=np.repeat(np.arange(len(subjects)), len(amounts)),
            guidance=lambda net, amount: guidance.blend(guided(net), other=other, amount=amount),
            rows={"amount": np.tile(np.asarray(amounts, np.float32), len(subjects))},
        )
        section(f"from {styles[0]} to {styles[-1]}", subjects, amounts, x1)

    n = min(len(subjects), data.splits["test"] or len(subjects))
    real = data.take("test", n)
    cond = dict(real.cond)
    for part, value in parts_of(styles[-1]).items():
        cond[part] = np.stack([value] * n)
    rows, encoded = [""] * n, np.asarray(codec.encode(np.asarray(real.x1)))
    if image_to_image is not None:
        runs = [
            functools.partial(image_to_image, sampler=draw.sampler, strength=s) for s in strengths
        ]
        drawn = [draw(n, cond, sampler=run, rows={"image": encoded}) for run in runs]
        images = np.stack([real.x1, *drawn], axis=1)
        section(f"an image and {styles[-1]}, by strength", rows, ["image", *strengths], images)

    if inpainting is not None:
        h, w, _ = data.spec.x1.shape
        mask = np.zeros((h, w, 1), bool)
        mask[h // 4 : h - h // 4, w // 4 : w - w // 4] = True
        coarse = inpaint.fitted(mask, *encoded.shape[1:3])
        run = functools.partial(inpainting, mask=coarse)
        painted = [
            draw(n, real.cond, sampler=run, rows={"image": encoded}, noise=np.roll(np.arange(n), i))
            for i in range(2)
        ]
        hidden = np.where(mask[None], (low + high) / 2, real.x1)
        images = [np.where(mask[None], x, real.x1) for x in painted]
        images = np.stack([real.x1, hidden, *images], axis=1)
        section("inpainting", rows, ["image", "to be painted", "painted", "again"], images)
    return _sections(sections, low, high, inches)


def _sections(
    sections: Sequence[Any], low: float | int, high: float | int, inches: float | int
) -> Figure:
    """Mosaics under each other, with titles, and labels at rows and columns."""
    made = [mosaic(images) for *_, images in sections]
    shares = [m.shape[0] / m.shape[1] for m in made]
    height = inches * sum(shares) * 0.8 + 0.6 * len(made)
    figure = blank(figsize=(inches, height), dpi=150, layout="compressed")
    grid = figure.subplots(len(made), 1, squeeze=False, height_ratios=shares)[:, 0]
    for axes, picture, (title, rows, columns, _) in zip(grid, made, sections, strict=True):
        height, width = picture.shape[:2]
        _draw_picture(axes, picture, low, high)
        axes.set_title(title, fontsize=8)
        axes.set_yticks((np.arange(len(rows)) + 0.5) * height / len(rows) - 0.5, rows, fontsize=6)
        places = (np.arange(len(columns)) + 0.5) * width / len(columns) - 0.5
        slant = {"rotation": 45, "ha": "right"} if len(columns) > 6 else {}
        axes.set_xticks(places, [str(c) for c in columns], fontsize=6, **slant)
        axes.tick_params(length=0)
        axes.set_frame_on(False)
    return figure


def loss_curve(lines: Sequence[dict[str, Any]], *, name: str = "loss") -> Figure:
    """A metric against the step, from the lines of `metrics.jsonl`; one curve a seed."""
    figure = blank(figsize=(6, 3.5), dpi=150, layout="constrained")
    axes = figure.subplots()
    points = [(line["step"], np.atleast_1d(line[name])) for line in lines if name in line]
    if points:
        steps, values = zip(*points, strict=True)
        axes.plot(steps, np.stack(values), linewidth=1)
    axes.set(xlabel="step", ylabel=name, yscale="log")
    axes.grid(alpha=0.3)
    return figure


def read_image(file: str | os.PathLike[str], channels: int) -> np.ndarray:
    """A PNG or JPEG file as float32 `[h, w, channels]` in [0, 1], `channels` being 1 or 3.

    ValueError: no image, grey for colour or colour for grey, transparency.
    """
    pixels = _pixels(file)
    if pixels.shape[-1] in (2, 4):
        if not np.all(pixels[..., -1] == 1):
            raise ValueError(f"{file} has transparent pixels: put it on a background first")
        pixels = pixels[..., :-1]
    if pixels.shape[-1] == 3 and channels == 1 and np.all(np.ptp(pixels, axis=-1) == 0):
        pixels = pixels[..., :1]  # grey, stored in colour
    if pixels.shape[-1] != channels:
        kinds = {1: "grey", 3: "in colour"}
        raise ValueError(
            f"{file} is {kinds.get(pixels.shape[-1])}, the images of this run are "
            f"{kinds.get(channels, f'of {channels} channels')}: convert it"
        )
    return pixels


def read_mask(file: str | os.PathLike[str]) -> np.ndarray:
    """An image file `[h, w]`, true where it is white (above half)."""
    pixels = _pixels(file)
    return pixels[..., : 3 if pixels.shape[-1] > 2 else 1].mean(axis=-1) > 0.5


def _pixels(file: str | os.PathLike[str]) -> np.ndarray:
    """`[h, w, channels]` in [0, 1]."""
    from matplotlib import image

    try:
        pixels = image.imread(os.fspath(file))
    except FileNotFoundError:
        raise ValueError(f"there is no file {file}") from None
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{file} is no image that can be read: {error}") from error
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    scale = np.iinfo(pixels.dtype).max if np.issubdtype(pixels.dtype, np.integer) else 1
    return (pixels / scale).astype(np.float32)


def beside(
    data: Data,
    samples: Callable[[int], Batch],
    paths: Callable[[int], Any],
    *,
    low: float,
    high: float,
    columns: int = 12,
    rows: int = 4,
) -> Figure:
    """Originals, and below each what was made of it; of samples whose conditions are originals."""
    batch = samples(rows * columns)
    if batch.cond is None or np.shape(batch.cond) != np.shape(batch.x1):
        raise NotDrawn("the samples have no originals as conditions (fmjax.data.originals)")
    rows = min(rows, len(batch.x1) // columns)
    if not rows:
        raise NotDrawn(f"{len(batch.x1)} samples do not fill a row of {columns}")
    pair = np.stack([batch.cond[: rows * columns], batch.x1[: rows * columns]])
    sheet = pair.reshape(2, rows, columns, *pair.shape[2:]).swapaxes(0, 1)
    return _sheet(mosaic(sheet.reshape(2 * rows, columns, *pair.shape[2:])), low, high)
