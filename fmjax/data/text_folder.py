"""A folder of texts as a data set: text8, WikiText, FineWeb, or one's own."""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fmjax import codecs, digests
from fmjax.data import _common, _text
from fmjax.types import Data

FORMAT = 1
ENDINGS = (".txt", ".jsonl")
# words in the names of folders and files, and the split that they mean
SIDES = {
    "train": "train", "training": "train", "test": "test", "valid": "valid",
    "validation": "valid", "val": "valid", "dev": "valid",
}  # fmt: skip
BLOCK = 2**20  # characters that become tokens at a time


def text_folder(
    folder: str | os.PathLike[str],
    *,
    codec: codecs.Codec,
    data_dir: str | os.PathLike[str],
    batch_size: int,
    seed: int = 0,
    process: tuple[int, int] = (0, 1),
    length: int = 256,
    offsets: bool = True,
    test_share: float | int = 0.1,
    field: str = "text",
    joined: str | None = None,
    clean: Callable[[str], str] | None = None,
    say: Callable[[str], None] = print,
) -> Data:
    """x1 int32 `[length]`, windows of all .txt and .jsonl files below `folder`, in UTF-8.

    folder:  or one file, of any name. A .txt file is one text, and so is a line of a .jsonl file,
             under the key `field`
    offsets: an epoch's training windows start anywhere, see `_text.windows`
    joined:  what follows each text, where the codec has no end; None: a newline, or a space where
             it has no newline
    clean:   from text to text, such as `fmjax.text:letters`, which leaves 27 symbols

    Splits: by folders directly below called train, valid and test (or validation, val, dev); else
    by such words in the files' names, as in wiki.train.txt; else one file is cut by position into
    90 % train, 5 % valid and 5 % test, as text8 is in the literature; else `test_share` of the
    files is held out, by a hash of their names. Where there is a valid split and no test split,
    it is called test.

    Tokens are made once and mapped from `data_dir`/tokens/<digest of the files' names, sizes and
    times, the codec and the options>: they need not fit in memory, but each .txt file has to. A
    megabyte takes 0.02 s as characters, 0.6 s as byte pairs (one core); a batch of 256 windows of
    256 tokens 0.5 ms.
    FileNotFoundError: no folder, no such file. ValueError: a file that is empty, is not UTF-8 or
    holds other lines than objects with the field; files of which only some name their split.
    """
    if not 0 < test_share < 1:
        raise ValueError(f"test_share={test_share}: expected a share between 0 and 1")
    root = Path(folder).expanduser()
    files = _files(root)
    splits = _splits(root, files, test_share)
    options = [FORMAT, codec.depends_on, field, joined, digests.described(clean)]
    keys = {split: _key(root, parts, options) for split, parts in splits.items()}
    name = digests.rows(sorted(keys.items()))[:16]
    if not codec.depends_on:
        raise ValueError(
            "the codec has no `depends_on`, so tokens kept for another one could be taken for its "
            "own: give it a digest of what defines it, as fmjax.text:characters does"
        )
    store = Path(data_dir).expanduser() / "tokens" / name
    stored = {split: store / f"{split}.npy" for split in splits}
    if missing := [split for split, file in stored.items() if not file.exists()]:
        say(f"making tokens of {len(files)} files in {store}")
        for split in missing:
            _write(stored[split], _texts(splits[split], field), codec, joined, clean or str)

    def contents(split: str) -> str:
        _common.check_split(split, dict.fromkeys(keys, 0))
        return keys[split]

    mapped = {split: [_text.Stream(np.load(file, "r"))] for split, file in stored.items()}
    return _text.windows(
        mapped,
        length=length,
        batch_size=batch_size,
        seed=seed,
        process=process,
        offsets=offsets,
        contents=contents,
    )


class _Part(NamedTuple):
    """A file, or of one that makes all splits the share from `start` to `stop`, in percent."""

    file: Path
    start: int = 0
    stop: int = 100


def _files(root: Path) -> list[Path]:
    if root.is_file():
        return [root]
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {root}; folder= names one that holds texts")
    files = sorted(p for p in root.rglob("*") if p.suffix.lower() in ENDINGS and p.is_file())
    if not files:
        raise FileNotFoundError(
            f"no text below {root}: expected files in {', '.join(ENDINGS)}; one of another name "
            "is given itself, as in folder=…/text8"
        )
    return files


def _splits(root: Path, files: Sequence[Path], test_share: float | int) -> dict[str, list[_Part]]:
    sides = {} if root.is_file() else {file: _side(file.relative_to(root)) for file in files}
    named = [file for file in files if sides.get(file)]
    if not named and len(files) == 1:
        cuts = {"train": (0, 90), "valid": (90, 95), "test": (95, 100)}
        return {split: [_Part(files[0], *cut)] for split, cut in cuts.items()}
    if not named:
        return _shared(root, files, test_share)
    if len(named) < len(files):
        bare = next(file for file in files if not sides[file])
        raise ValueError(
            f"{named[0]} is of the split {sides[named[0]]!r} by its name, and {bare} of none: put "
            f"all into folders train, valid and test directly below {root}"
        )
    found: dict[str, list[_Part]] = {}
    for file in files:
        found.setdefault(sides[file], []).append(_Part(file))
    if "test" not in found and "valid" in found:
        found["test"] = found.pop("valid")
    for split in ("train", "test"):
        if split not in found:
            raise ValueError(
                f"no file below {root} is of the split {split!r}, only of {', '.join(found)}: put "
                f"some into {root / split}"
            )
    return {split: found[split] for split in ("train", "valid", "test") if split in found}


def _side(name: Path) -> str:
    """The split that the first folder names, or else the file; empty where neither does."""
    if len(name.parts) > 1 and name.parts[0].lower() in SIDES:
        return SIDES[name.parts[0].lower()]
    words = re.split("[^a-z]+", name.stem.lower())
    found = {SIDES[word] for word in words if word in SIDES}
    return found.pop() if len(found) == 1 else ""


def _shared(root: Path, files: Sequence[Path], test_share: float | int) -> dict[str, list[_Part]]:
    """By a hash, so that a file stays on its side when others come; at least one on each side."""
    names = [file.relative_to(root).as_posix().encode() for file in files]
    place = np.array([int(hashlib.sha256(n).hexdigest()[:8], 16) / 2**32 for n in names])
    test = place < min(max(test_share, place.min() + 2**-33), place.max())
    return {
        split: [_Part(file) for file, of_test in zip(files, test, strict=True) if of_test == wanted]
        for split, wanted in (("train", False), ("test", True))
    }


def _key(root: Path, parts: Sequence[_Part], options: Sequence[Any]) -> str:
    """What a split's tokens depend on."""
    table = [(json.dumps(list(options)),)]
    for file, start, stop in parts:
        name, written = os.path.relpath(file, root), file.stat()
        table.append((name, written.st_size, written.st_mtime_ns, start, stop))
    return digests.rows(table)


def _texts(parts: Sequence[_Part], field: str) -> Iterator[tuple[Path, str]]:
    """Each text, and the file that it is in."""
    for file, start, stop in parts:
        whole = _lines(file, field) if file.suffix.lower() == ".jsonl" else [_read(file)]
        if (start, stop) == (0, 100):
            yield from ((file, text) for text in whole)
            continue
        whole = list(whole)
        # a single text is cut itself, and of several some are taken
        found = whole[0] if len(whole) == 1 else whole
        own = found[len(found) * start // 100 : len(found) * stop // 100]
        yield from ((file, text) for text in ([own] if isinstance(own, str) else own))


def _read(file: Path) -> str:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{file} is not UTF-8 (byte {error.start} is {error.object[error.start]:#04x}): "
            "convert it, as with iconv -f latin1 -t utf-8"
        ) from error
    if not text.strip():
        raise ValueError(f"{file} is empty: remove it, or put text into it")
    return text


def _lines(file: Path, field: str) -> Iterator[str]:
    empty = True
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            empty = False
            try:
                row = json.loads(line)
            except ValueError as error:  # of JSON or of UTF-8
                raise ValueError(f"line {number} of {file} is no JSON: {error}") from error
            text = row.get(field) if isinstance(row, Mapping) else None
            if not isinstance(text, str):
                keys = sorted(row) if isinstance(row, Mapping) else type(row).__name__
                raise ValueError(
                    f"line {number} of {file} has no text under {field!r}, but {keys}; "
                    "field= names the key of the text"
                )
            yield text
    if empty:
        raise ValueError(f"{file} is empty: remove it, or put text into it")


def _write(
    file: Path,
    texts: Iterator[tuple[Path, str]],
    codec: codecs.Codec,
    joined: str | None,
    clean: Callable[[str], str],
) -> None:
    """The tokens of all texts in one line, in the smallest type; whole or not at all."""
    tokens, after = _text.tokens_of(codec), _text.after(codec, joined)
    kind = np.dtype(np.uint16 if codec.vocabulary <= 2**16 else np.uint32)
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=".making-") as made:
        line, final = Path(made) / "tokens", Path(made) / "tokens.npy"
        with line.open("wb") as out:
            for source, text in texts:
                try:
                    for block in _blocks(clean(text)):
                        out.write(tokens(block).astype(kind).tobytes())
                except ValueError as error:
                    raise ValueError(f"{source}: {error}") from error
                out.write(after.astype(kind).tobytes())
        with line.open("rb") as raw, final.open("wb") as out:
            shape = (line.stat().st_size // kind.itemsize,)
            head = {"descr": kind.str, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(out, head)
            shutil.copyfileobj(raw, out)
        os.replace(final, file)


def _blocks(text: str) -> Iterator[str]:
    """Pieces of about `BLOCK` characters, which start with the blank between two words."""
    start = 0
    while start < len(text):
        stop = start + BLOCK
        if stop < len(text):
            space = max(text.rfind(" ", start + 1, stop), text.rfind("\n", start + 1, stop))
            stop = space if space > start else stop
        yield text[start:stop]
        start = stop
