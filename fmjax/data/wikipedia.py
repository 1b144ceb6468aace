"""106 English Wikipedia articles in 27 symbols as text8's, embedded in gensim: nothing to load."""

import bz2
import functools
import html
import re
from collections.abc import Callable

from fmjax import codecs, text
from fmjax.data import _common, _packages, _text
from fmjax.types import Data

FILE = "enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
TEST = 0.1  # share of the articles
# what holds no sentences, from the heading on
LAST = (
    "see also|references|external links|further reading|bibliography|notes|sources|footnotes|"
    "citations|works cited|notes and references|references and notes|gallery"
)
# templates whose last argument belongs to its sentence
SAID = ("lang", "nowrap", "transl", "nobr", "smallcaps", "quote", "cquote", "blockquote")
BETWEEN = ("to", "and", "or", "by", "x", "-", "–")  # two numbers of one unit


def wikipedia(
    *,
    codec: codecs.Codec,
    batch_size: int,
    seed: int = 0,
    process: tuple[int, int] = (0, 1),
    length: int = 256,
    offsets: bool = True,
) -> Data:
    """x1 int32 `[length]`, windows of articles that follow each other; no condition.

    codec:   of tokens; with characters, those of `fmjax.text:characters()` are enough
    offsets: an epoch's training windows start anywhere, see `_text.windows`

    95 articles of 2,581,261 characters to train, and 11 whole ones of 247,832 held out: the splits
    never depend on `seed`. Cleaned as text8 was (Mahoney 2006): lower case, digits spelled
    out ("one nine eight four"), anything else a space; without accents, headings, tables, formulas,
    pictures and their captions, notes, and sections of sources and links. About 1 % is lists of
    numbers. It is no text8, whose 100 M characters hold many of these articles as they were in
    2006: figures are not comparable, and a model of text8 has read some of this test split. Read
    in 1 s.
    ImportError, naming the pip command: gensim is missing (its files are read; it never runs).
    Wikipedia's authors, CC BY-SA; a dump of May 2016, shortened by gensim.
    """
    splits = {split: [_text.stream(texts(split), codec)] for split in ("train", "test")}
    return _text.windows(
        splits, length=length, batch_size=batch_size, seed=seed, process=process, offsets=offsets
    )


def texts(split: str) -> list[str]:
    """The articles of "train" or "test", one string of a-z and spaces each."""
    found = _articles()
    _common.check_split(split, {name: len(own) for name, own in found.items()})
    return list(found[split])


@functools.cache
def _articles() -> dict[str, tuple[str, ...]]:
    path = _packages.file("gensim", "test", "test_data", FILE, what="Wikipedia's articles")
    with bz2.open(path, "rt", encoding="utf-8") as file:
        pages = file.read().split("<page>")[1:]
    found = [page for page in pages if "<redirect title=" not in page]
    cleaned = [text.letters(plain(_body(page))) for page in found]
    order = _common.permutation(len(cleaned), 0)
    held_out = set(order[: round(TEST * len(cleaned))].tolist())
    return {
        split: tuple(t for i, t in enumerate(cleaned) if (i in held_out) == (split == "test"))
        for split in ("train", "test")
    }


def _body(page: str) -> str:
    start = page.index(">", page.index("<text ")) + 1
    return html.unescape(page[start : page.index("</text>", start)])


def plain(markup: str) -> str:
    """An article's sentences out of its wiki markup."""
    text = re.sub(r"<!--.*?-->", "", markup, flags=re.S)
    text = re.sub(r"<(ref|references)\b[^<>]*/>", "", text, flags=re.I)
    tags = "ref|math|gallery|timeline|pre|source|syntaxhighlight|code|imagemap|score|hiero|table"
    text = re.sub(rf"<({tags})\b[^<>]*>.*?</\1\s*>", " ", text, flags=re.S | re.I)
    text = _innermost(r"\{\{([^{}]*)\}\}", text, _template)
    text = _innermost(r"\{\|((?!\{\|).)*?\|\}", text, lambda found: "\n")
    text = re.sub(rf"^(==+)\s*({LAST})\s*==+.*?(?=^==[^=]|\Z)", "", text, flags=re.S | re.I | re.M)
    text = re.sub(r"^=+.*?=+\s*$", "", text, flags=re.M)
    text = re.sub(r"^[*#:;].*\bISBN\b.*$", "", text, flags=re.M)
    text = _innermost(r"\[\[([^\[\]]*)\]\]", text, _link)
    text = re.sub(r"\[(?:https?:|ftp:|//)[^\s\]]*\s*([^\]]*)\]", r"\1", text)
    text = re.sub(r"https?://\S+", " ", text)
    text = re.sub(r"<[^<>]*>", " ", text)
    return re.sub(r"'{2,}", "", html.unescape(text))


def _innermost(pattern: str, text: str, change: Callable[[re.Match[str]], str]) -> str:
    """Replace until nothing is left to be: what is nested goes from the inside out."""
    count = 1
    while count:
        text, count = re.subn(pattern, change, text, flags=re.S)
    return text


def _template(found: re.Match[str]) -> str:
    name, *arguments = (part.strip() for part in found[1].split("|"))
    name = name.lower().split("-")[0]
    words = [a for a in arguments if not re.match(r"\w+\s*=", a)]
    if name == "convert":
        return " ".join(words[: 4 if words[1:2] and words[1] in BETWEEN else 2])
    if name in SAID:
        return words[-1] if words else ""
    return " "


def _link(found: re.Match[str]) -> str:
    target, *rest = found[1].split("|")
    if re.match(r"\s*(file|image|category|media|[a-z]{2,3}(-[a-z]+)?)\s*:", target, re.I):
        return " "
    return rest[-1] if rest else target.lstrip(":")
