"""A page of generated texts, to be read."""

import textwrap
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fmjax import codecs, pictures
from fmjax.types import Batch, Data


def page(
    data: Data,
    samples: Callable[[int], Batch],
    paths: Callable[[int], Any],
    *,
    codec: codecs.Codec,
    n: int = 12,
    width: int = 100,
) -> pictures.Figure:
    """`n` texts as the codec writes them, in lines of `width` letters, under their classes' names.

    NotDrawn: the codec writes none.
    """
    del paths
    if codec.write is None:
        raise pictures.NotDrawn("the codec writes no text; of images use fmjax.pictures:grid")
    batch = samples(n)
    lines = []
    for i, row in enumerate(np.asarray(batch.x1)[:n]):
        title = [f"[{_named(data.names, batch.cond, i)}]"] if data.names else []
        lines += [*title, *(textwrap.wrap(codec.write(row), width) or [""]), ""]
    # inches of a letter and a line: 0.60 and 1.19 times 8 points
    figure = pictures.blank(figsize=(width * 0.067 + 0.4, len(lines) * 0.132 + 0.4), dpi=150)
    left, top = 0.2 / figure.get_figwidth(), 1 - 0.2 / figure.get_figheight()
    # no mathematics: a text may have dollars
    options = {"family": "monospace", "fontsize": 8, "va": "top", "parse_math": False}
    figure.text(left, top, _drawable("\n".join(lines)), **options)
    return figure


def _drawable(text: str) -> str:
    """`text` with a sign in the place of each letter that the font lacks."""
    from matplotlib import font_manager  # here, as training does not wait for it

    known = font_manager.get_font(font_manager.findfont("monospace")).get_charmap()
    return "".join(c if c == "\n" or ord(c) in known else "\N{REPLACEMENT CHARACTER}" for c in text)


def _named(names: Any, cond: Any, i: int) -> str:
    """The class of example `i`, or each of its classes, by name."""
    parts = [(cond, names)]
    if isinstance(names, Mapping):
        parts = [(cond[part], own) for part, own in names.items()]
    labels = [(int(labels[i]), own) for labels, own in parts]
    return ", ".join(own[label] if label < len(own) else "any" for label, own in labels)
