"""Shakespeare's plays and poems by genre, embedded in the package shakespeare: nothing to load."""

import functools
import re
from collections.abc import Callable

from fmjax import codecs
from fmjax.data import _common, _packages, _text
from fmjax.types import Data

ALPHABET = "\n !\"'(),-.:;?[]ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
# as in the First Folio, with Cymbeline and Troilus among the tragedies
WORKS = {
    "comedy": (
        "alls_well_that_ends_well as_you_like_it comedy_of_errors loves_labours_lost "
        "measure_for_measure merchant_of_venice merry_wives_of_windsor midsummer_nights_dream "
        "much_ado_about_nothing pericles taming_of_the_shrew tempest twelfth_night "
        "two_gentlemen_of_verona winters_tale"
    ),
    "history": (
        "john richard_ii henry_iv_part_1 henry_iv_part_2 henry_v henry_vi_part_1 "
        "henry_vi_part_2 henry_vi_part_3 richard_iii henry_viii"
    ),
    "tragedy": (
        "antony_and_cleopatra coriolanus cymbeline hamlet julius_caesar lear macbeth othello "
        "romeo_and_juliet timon_of_athens tragedy_of_titus_andronicus troilus_and_cressida"
    ),
    "poetry": "lovers_complaint passionate_pilgrim phoenix_and_the_turtle rape_of_lucrece sonnets",
}
NAMES = tuple(WORKS)
# one of each genre; The Passionate Pilgrim repeats sonnets and songs of other works
HELD_OUT = ("twelfth_night", "henry_v", "macbeth", "lovers_complaint")


def shakespeare(
    *,
    codec: codecs.Codec,
    batch_size: int,
    seed: int = 0,
    process: tuple[int, int] = (0, 1),
    length: int = 256,
    offsets: bool = True,
    clean: Callable[[str], str] | None = None,
) -> Data:
    """x1 int32 `[length]`, windows of works of one genre; cond int32 of 4, null 4.

    codec:   of tokens; with characters, those of `ALPHABET`, or of what `clean` leaves
    offsets: an epoch's training windows start anywhere, see `_text.windows`
    clean:   from text to text, such as `fmjax.text:letters`, which leaves 27 symbols

    comedy, history, tragedy, poetry. Titles, numbers and indents are left out; acts, scenes,
    directions and who speaks are not. 38 works of 4,647,448 characters to train; held out are
    four whole ones of 384,195, one a genre (Twelfth Night, Henry V, Macbeth, A Lover's
    Complaint). The splits never depend on `seed`. Read in 0.3 s. It is not the Shakespeare of
    char-rnn and nanoGPT, which is 1.1 M characters of plays: figures are not comparable.
    ImportError, naming the pip command: the package is missing (its files are read; it never runs).
    Project Gutenberg's editions, public domain.
    """
    return _text.windows_of_classes(
        _works(),
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
    """The works of "train" or "test", genre by genre."""
    found = _works()
    _common.check_split(split, {name: len(own) for name, own in found.items()})
    return [text for genre in found[split] for text in genre]


@functools.cache
def _works() -> dict[str, list[list[str]]]:
    """Of each split and genre the works."""
    folder = _packages.file("shksprdata", "texts", what="Shakespeare's works")
    splits = {"train": [], "test": []}
    for names in WORKS.values():
        for split, own in splits.items():
            chosen = [name for name in names.split() if (name in HELD_OUT) == (split == "test")]
            files = [folder / f"{name}_gut.txt" for name in chosen]
            own.append([plain(file.read_text(encoding="utf-8")) for file in files])
    return splits


def plain(text: str) -> str:
    """A work without its title and the few characters beyond `ALPHABET`, its lines at the left.

    Dramatis personae, acts, scenes and directions stay.
    """
    _, _, text = text.partition("by William Shakespeare")
    text = text.replace("{", "[").replace("}", "]").replace("&", "and")
    text = re.sub(r"\n\s*THE END\s*$", "", text)
    text = re.sub(r"^\s*\d+\.", "", text, flags=re.M)  # of speakers and songs
    text = re.sub(f"[^{re.escape(ALPHABET)}]", "", text)
    lines = (" ".join(line.split()) for line in text.split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()
