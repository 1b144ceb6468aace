"""Texts as whole numbers: codecs whose examples are tokens.

The ids are 0 … vocabulary − 1. The id `vocabulary` is no token: it stands for what is not known,
which data never hold. A codec's `end`, where it has one, is its last id: it ends a text and fills
what is left of an example.
"""

import hashlib
import os
import re
import tempfile
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int32

from fmjax import digests
from fmjax.codecs import Codec

LETTERS = " abcdefghijklmnopqrstuvwxyz"
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
BYTES = 256  # the least that a byte-level vocabulary holds


def characters(*, alphabet: str = LETTERS, end: bool = False, blank: str = "_") -> Codec:
    """A token is a character: ids are places in `alphabet`, 27 by default as in text8.

    end:   one more id, which ends a text and fills the rest of its example
    blank: stands for a character that is not known, in what `read` takes and `write` gives

    `tokens(text)`; `read("the _at", spec)` knows 6 characters, and nothing of what follows;
    `write` stops at the first `end`.
    ValueError: an alphabet that is empty, repeats a character or holds the blank; to `tokens` and
    `read`, a text with other characters; to `read`, one longer than an example.
    """
    if not alphabet:
        raise ValueError("alphabet='': expected at least one character, such as the 27 of text8")
    if repeated := sorted({c for c in alphabet if alphabet.count(c) > 1}):
        raise ValueError(f"alphabet={alphabet!r} repeats {repeated}; name each character once")
    _check_blank(blank)
    if blank in alphabet:
        raise ValueError(
            f"blank={blank!r} is in the alphabet {alphabet!r}; choose another blank, such as '█'"
        )
    points = _points(alphabet)
    order = np.argsort(points)

    def tokens(text: str) -> Int32[np.ndarray, " k"]:
        found = _points(text)
        at = np.minimum(np.searchsorted(points[order], found), len(points) - 1)
        ids = order[at].astype(np.int32)
        if (unknown := np.flatnonzero(points[ids] != found)).size:
            raise ValueError(_unknown(text, unknown, alphabet))
        return ids

    shown = [*alphabet, ""] if end else list(alphabet)
    depends_on = digests.rows([("characters", alphabet, end)])
    return _codec(tokens, lambda ids: "".join(shown[i] for i in ids), len(shown), end, blank,
                  depends_on)  # fmt: skip


def bpe(
    *,
    data_dir: str | os.PathLike[str],
    corpus: Callable[[str], Sequence[str]] | None = None,
    vocabulary: int = 2048,
    end: bool = True,
    blank: str = "_",
    file: str | os.PathLike[str] | None = None,
) -> Codec:
    """A token is some bytes that are often together (byte-pair encoding): no text is unknown.

    corpus:     `split -> texts`, whose training split the pairs are counted in, once; in a config
                dict(bind="fmjax.data.wikipedia:texts")
    vocabulary: how many tokens, at least 256 and the `end`; fewer, where the corpus has no more
                pairs
    file:       instead of a corpus, a tokenizer.json of the library `tokenizers`
    end, blank: as of `characters`; the end is a token beside those of the file, too

    `read`: the pieces of text between blanks are cut into tokens each for itself, and each blank
    is one token, whatever its length: "the __ sat" has two unknown tokens between "the " and
    " sat". A text with the blank in it is read with another `blank`.
    What was counted is kept in `data_dir`/tokenizers, under a digest of the texts and the options.
    ValueError: neither or both of `corpus` and `file`, too small a vocabulary, a corpus without
    texts. FileNotFoundError: no such file.
    Source: Sennrich et al. (2016), arXiv 1508.07909; on bytes, Radford et al. (2019), GPT-2.
    """
    import tokenizers  # 0.1 s, for those who ask for it

    if (corpus is None) == (file is None):
        raise ValueError(
            "bpe needs a corpus or a file, and not both: give corpus=dict(bind="
            '"fmjax.data.wikipedia:texts") to count its pairs, or file=… to read a tokenizer.json'
        )
    _check_blank(blank)
    path = _counted(corpus, vocabulary - end, Path(data_dir)) if corpus else _existing(file)
    written = path.read_text(encoding="utf-8")
    tokenizer = tokenizers.Tokenizer.from_str(written)
    tokenizer.no_padding()
    tokenizer.no_truncation()

    def tokens(text: str) -> Int32[np.ndarray, " k"]:
        return np.array(tokenizer.encode(text, add_special_tokens=False).ids, np.int32)

    size = max(tokenizer.get_vocab().values()) + 1  # ids of another's file may have holes
    depends_on = hashlib.sha256(f"{written}{end}".encode()).hexdigest()
    return _codec(tokens, tokenizer.decode, size + end, end, blank, depends_on)


def letters(text: str) -> str:
    """The text in a-z and single spaces as text8: lower case, digits spelled out, no accents.

    "In 1984" becomes "in one nine eight four"; what is no letter separates words, but for
    apostrophes and commas within numbers.
    Source: Mahoney (2006), mattmahoney.net/dc/textdata.
    """
    text = unicodedata.normalize("NFKD", text.lower())
    text = re.sub("[\u0300-\u036f'’]+", "", text)  # accents, now apart from their letters
    text = re.sub(r"(?<=\d),(?=\d\d\d)", "", text)
    text = re.sub("[0-9]", lambda digit: f" {DIGITS[int(digit[0])]} ", text)
    return " ".join(re.sub("[^a-z]+", " ", text).split())


def _codec(
    tokens: Callable[[str], np.ndarray],
    text_of: Callable[[list[int]], str],
    vocabulary: int,
    end: bool,
    blank: str,
    depends_on: str,
) -> Codec:
    """The codec of what makes tokens of a text without blanks, and a text of tokens without end."""

    def read(given: str, spec: Any) -> tuple[Int32[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
        (n,) = spec.shape
        pieces = [tokens(piece) for piece in given.split(blank)]
        unknown = np.array([vocabulary], np.int32)
        found = np.concatenate([p for piece in pieces for p in (unknown, piece)][1:])
        if len(found) > n:
            raise ValueError(
                f"the text has {len(found)} tokens, an example {n}: shorten it by {len(found) - n}"
            )
        x = np.full(n, vocabulary, np.int32)
        x[: len(found)] = found
        return x, x != vocabulary

    def write(x: Any) -> str:
        ids = np.asarray(x).astype(np.int64)
        if ids.size and not 0 <= ids.min() <= ids.max() <= vocabulary:
            raise ValueError(
                f"tokens from {ids.min()} to {ids.max()}: expected 0 to {vocabulary - 1}, or "
                f"{vocabulary} for what is not known"
            )
        ends = np.flatnonzero(ids == vocabulary - 1) if end else ()
        ids = ids[: ends[0]] if len(ends) else ids
        pieces = np.split(ids, np.flatnonzero(ids == vocabulary))
        texts = [text_of(piece[piece < vocabulary].tolist()) for piece in pieces]
        return blank.join(texts)

    return Codec(
        lambda x: x,
        lambda z: z,
        depends_on=depends_on,
        vocabulary=vocabulary,
        tokens=tokens,
        read=read,
        write=write,
        end=vocabulary - 1 if end else None,
    )


def _points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def _check_blank(blank: str) -> None:
    if len(blank) != 1:
        raise ValueError(f"blank={blank!r}: expected one character")


def _unknown(text: str, places: np.ndarray, alphabet: str) -> str:
    symbols = sorted({text[i] for i in places})
    first = int(places[0])
    around = text[max(first - 20, 0) : first + 20]
    return (
        f"{len(places)} characters are not in the alphabet {alphabet!r}: "
        f"{', '.join(map(repr, symbols[:10]))}{', …' if len(symbols) > 10 else ''}; the first is "
        f"at {first}, in {around!r}. Leave them out (in lower case, without accents?) or give "
        "the codec an alphabet with them"
    )


def _existing(file: Any) -> Path:
    path = Path(file).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}; file= names a tokenizer.json")
    return path


def _counted(corpus: Callable[[str], Sequence[str]], size: int, data_dir: Path) -> Path:
    """The file of the tokenizer made of the corpus's training split, made where it is missing."""
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers, trainers

    if size < BYTES:
        raise ValueError(
            f"{size} tokens: a vocabulary holds at least the {BYTES} bytes, and the end where it "
            f"has one: give vocabulary={BYTES + 1} or more"
        )
    texts = corpus("train")
    if not any(texts):
        raise ValueError("the corpus has no text in its training split, so there are no pairs")
    # not the library's version: a run goes on with the tokenizer that it had
    digest = digests.rows([("bpe", size), *((text,) for text in texts)])
    path = data_dir.expanduser() / "tokenizers" / f"bpe-{size}-{digest[:16]}.json"
    if path.exists():
        return path
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    path.parent.mkdir(parents=True, exist_ok=True)
    # whole or not at all, as several processes may do so at once
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".making-") as made:
        (Path(made) / path.name).write_text(tokenizer.to_str(), encoding="utf-8")
        os.replace(Path(made) / path.name, path)
    return path
