"""Examples of tokens: long texts in windows, short ones in rows."""

import bisect
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Int32

from fmjax import codecs, digests
from fmjax.data import _common
from fmjax.data.in_memory import in_memory
from fmjax.types import Batch, Data


class Stream(NamedTuple):
    """Tokens in one line, in any whole type, and the condition that they share."""

    tokens: Any
    cond: Any = None


def stream(texts: Sequence[str], codec: codecs.Codec, cond: Any = None) -> Stream:
    """The texts in one line, each with what ends it (`after`)."""
    tokens, last = tokens_of(codec), after(codec)
    parts = [part for text in texts for part in (tokens(text), last)]
    return Stream(np.concatenate(parts) if parts else last[:0], cond)


def after(codec: codecs.Codec, joined: str | None = None) -> np.ndarray:
    """What follows each text of a line: the codec's end; where it has none, `joined`.

    None: a newline, or a space where the codec has no newline.
    """
    if codec.end is not None:
        return np.array([codec.end], np.int32)
    tokens = tokens_of(codec)
    try:
        return tokens("\n" if joined is None else joined)
    except ValueError:
        if joined is None:
            return tokens(" ")
        raise


def windows(
    splits: Mapping[str, Sequence[Stream]],
    *,
    length: int,
    batch_size: int,
    seed: int = 0,
    process: tuple[int, int] = (0, 1),
    offsets: bool = True,
    contents: Callable[[str], str] | None = None,
    **rest: Any,
) -> Data:
    """x1 int32 `[length]`: a split's streams cut into windows, which never hold two streams.

    offsets: batches of "train" start their windows anywhere: in every epoch all windows of a
             stream move by one number of tokens, drawn from (seed, epoch), and the stream goes on
             at its start where it ends. False: always at multiples of `length`, as in `take` and
             in the other splits
    rest:    the `null`, `read` and `names` of `Data`

    An epoch shows each window once, in an order drawn from (seed, epoch) as in `in_memory`. What
    is left of a stream, shorter than a window, is dropped (with offsets another part each epoch).
    The tokens may be mapped files: rows are read when their turn comes.
    ValueError: a split without a whole window.
    """
    if length < 1:
        raise ValueError(f"length={length}: expected at least one token")
    cut = {name: _Windows.of(name, streams, length) for name, streams in splits.items()}
    rows = {name: int(own.firsts[-1]) for name, own in cut.items()}
    start, stop = _common.local_share(batch_size, process)

    @functools.lru_cache(maxsize=4)
    def order(split: str, epoch: int) -> tuple[np.ndarray, int]:
        """The rows of an epoch, and by how many tokens they move, before it is cut to a stream."""
        word = _common.split_word(split)
        bits = np.random.Philox(np.random.SeedSequence((seed, epoch, word, 1))).random_raw()
        moved = int(bits >> 1) if offsets and split == "train" else 0
        return _common.permutation(rows[split], seed, epoch, word), moved

    def batch(split: str, step: int) -> Batch:
        _common.check_split(split, rows)
        positions = np.arange(step * batch_size + start, step * batch_size + stop)
        epochs, places = np.divmod(positions, rows[split])
        parts = []
        for epoch in np.unique(epochs):
            chosen, moved = order(split, int(epoch))
            parts.append(cut[split](chosen[places[epochs == epoch]], moved))
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)

    def take(split: str, n: int | None, start: int = 0) -> Batch:
        _common.check_split(split, rows)
        return cut[split](_common.fixed_rows(split, rows[split], n, start))

    def own_contents(split: str) -> str:
        _common.check_split(split, rows)
        return digests.arrays([list(splits[split]), np.int32(length)])

    spec = _common.spec_of(next(iter(cut.values()))(np.arange(1)))
    return Data(spec, rows, take, batch=batch, contents=contents or own_contents, **rest)


def windows_of_classes(
    found: Mapping[str, Sequence[Sequence[str]]],
    codec: codecs.Codec,
    *,
    names: tuple[str, ...],
    clean: Callable[[str], str] | None,
    **options: Any,
) -> Data:
    """Windows of the texts of each split and class, in the order of `names`; cond is the class.

    clean: changes each text before it becomes tokens; `options`: those of `windows`
    """
    change = clean or str
    splits = {
        split: [
            stream([change(text) for text in own], codec, np.int32(i))
            for i, own in enumerate(classes)
        ]
        for split, classes in found.items()
    }
    null, read = np.int32(len(names)), _common.class_reader(names)
    return windows(splits, null=null, names=names, read=read, **options)


class _Windows(NamedTuple):
    """A split: its streams, and the first row of each, the last being how many there are."""

    streams: Sequence[Stream]
    length: int
    firsts: np.ndarray

    @classmethod
    def of(cls, name: str, streams: Sequence[Stream], length: int) -> "_Windows":
        counts = [len(own.tokens) // length for own in streams]
        if not sum(counts):
            longest = max((len(own.tokens) for own in streams), default=0)
            raise ValueError(
                f"split {name!r} has no window of {length} tokens, its longest text in one line "
                f"having {longest}; give a length of at most that, or more text"
            )
        return cls(streams, length, np.cumsum([0, *counts]))

    def __call__(self, rows: np.ndarray, moved: int = 0) -> Batch:
        x1 = np.empty((len(rows), self.length), np.int32)
        owners = np.searchsorted(self.firsts, rows, side="right") - 1
        for owner in np.unique(owners):
            tokens, own = self.streams[owner].tokens, owners == owner
            starts = (rows[own] - self.firsts[owner]) * self.length + moved % len(tokens)
            x1[own] = tokens[(starts[:, None] + np.arange(self.length)) % len(tokens)]
        conds = [own.cond for own in self.streams]
        if conds[0] is None:
            return Batch(x1)
        return Batch(x1, jax.tree.map(lambda *c: np.stack(c)[owners], *conds))


def rows(
    splits: Mapping[str, tuple[Sequence[str], Any]],
    *,
    codec: codecs.Codec,
    length: int,
    longer: str = "cut",
    **options: Any,
) -> Data:
    """x1 int32 `[length]`: one text an example, filled with the codec's end.

    splits:  of each split the texts, and their conditions, which have a leading axis (or None)
    longer:  "cut": a longer text loses its last words (a word longer than all, its last tokens);
             "drop": it is left out
    options: of `in_memory`

    Not for text that is long: `windows`.
    ValueError: a codec without an end, another word for `longer`.
    """
    if longer not in ("cut", "drop"):
        raise ValueError(f"longer={longer!r}: expected 'cut' or 'drop'")
    tokens, fill = tokens_of(codec), filled(codec, length)
    sets = {}
    for split, (texts, conds) in splits.items():
        kept = [i for i, t in enumerate(texts) if longer == "cut" or len(tokens(t)) <= length]
        x1 = np.array([fill(texts[i]) for i in kept], np.int32).reshape(-1, length)
        sets[split] = Batch(x1, jax.tree.map(lambda c, kept=kept: np.asarray(c)[kept], conds))
    return in_memory(sets, **options)


def filled(codec: codecs.Codec, length: int) -> Callable[[str], Int32[np.ndarray, " length"]]:
    """From a text to `length` tokens: its first words, and then the codec's end."""
    tokens = tokens_of(codec)
    if codec.end is None:
        raise ValueError(
            "texts of one example each are filled up with the codec's end, and config.codec has "
            "none: give it end=True"
        )

    def fill(text: str) -> np.ndarray:
        ids = cut(text, tokens, length)
        return np.append(ids, np.full(length - len(ids), codec.end, np.int32))

    return fill


def cut(text: str, tokens: Callable[[str], np.ndarray], length: int) -> np.ndarray:
    """At most `length` tokens of the text's first words; of one that is longer, its first."""
    if len(ids := tokens(text)) <= length:
        return ids
    words = text.split(" ")
    size = lambda k: len(tokens(" ".join(words[:k])))  # noqa: E731
    fit = bisect.bisect_right(range(1, len(words) + 1), length, key=size)
    return tokens(" ".join(words[: max(fit, 1)]))[:length]


def tokens_of(codec: codecs.Codec) -> Callable[[str], np.ndarray]:
    """The codec's `tokens`; ValueError for a codec of numbers."""
    if codec.tokens is None:
        raise ValueError(
            "text needs a codec of tokens, and config.codec is one of numbers: give "
            'config.codec = dict(name="fmjax.text:characters") or "fmjax.text:bpe"'
        )
    return codec.tokens
