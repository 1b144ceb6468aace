"""What people look at: grids, trajectories, loss curves. Every function returns a figure.

A picture in a config is `(data, samples, paths) -> Figure`: `samples(n) -> Batch` and
`paths(n) -> (ts [k], xs [k, n, *d])`, both in data space, from noise to data.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fmjax.types import Batch, Data

if TYPE_CHECKING:
    from matplotlib.figure import Figure
else:
    Figure = Any


class NotDrawn(Exception):
    """A picture that this run cannot have; the message says why."""


def _figure(**options: Any) -> Figure:
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


def _show(figure: Figure, picture: np.ndarray, low: float, high: float) -> Any:
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    scaled = np.nan_to_num(np.clip((picture - low) / (high - low), 0, 1), nan=1.0)
    axes.imshow(
        scaled.squeeze(-1) if scaled.shape[-1] == 1 else scaled, cmap="gray", vmin=0, vmax=1
    )
    return axes


def _sheet(picture: np.ndarray, low: float, high: float, *, inches: float = 6.0) -> Figure:
    height, width = picture.shape[:2]
    figure = _figure(figsize=(inches, inches * height / width), dpi=150)
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
    figure = _figure(figsize=(8, 4), dpi=150, layout="constrained")
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
    figure = _figure(figsize=(5, 5), dpi=150, layout="constrained")
    axes = figure.subplots()
    axes.plot(xs[:, :, 0], xs[:, :, 1], color="0.8", linewidth=0.4, zorder=0)
    axes.scatter(xs[0, :, 0], xs[0, :, 1], s=4, color="0.4", label="noise, t = 0")
    axes.scatter(xs[-1, :, 0], xs[-1, :, 1], s=4, color="C0", label="samples, t = 1")
    axes.set(aspect="equal")
    axes.legend(loc="upper right")
    return figure


def loss_curve(lines: Sequence[dict[str, Any]], *, name: str = "loss") -> Figure:
    """A metric against the step, from the lines of `metrics.jsonl`; one curve a seed."""
    figure = _figure(figsize=(6, 3.5), dpi=150, layout="constrained")
    axes = figure.subplots()
    points = [(line["step"], np.atleast_1d(line[name])) for line in lines if name in line]
    if points:
        steps, values = zip(*points, strict=True)
        axes.plot(steps, np.stack(values), linewidth=1)
    axes.set(xlabel="step", ylabel=name, yscale="log")
    axes.grid(alpha=0.3)
    return figure
