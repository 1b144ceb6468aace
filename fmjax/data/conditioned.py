"""Another data set with some parts of its condition, or one of them alone."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fmjax import codecs
from fmjax.data import _common
from fmjax.types import Batch, Data


def conditioned(
    data: Any,
    *,
    keep: str | Sequence[str] | Mapping[str, str],
    batch_size: int,
    seed: int = 0,
    process: tuple[int, int] = (0, 1),
    codec: codecs.Codec = codecs.identity(),
) -> Data:
    """`data` with the parts `keep` of its condition, the others left out; all else as it is.

    data: a data set to be made here, in a config dict(bind="fmjax.data.…:…", …)
    keep: one part by its name: the condition is that array, no dict; several: a dict of them;
          a dict new name → part: several under new names; none, (): no condition.
    Null, names and what is read from words follow. ValueError: parts that are not there.
    """
    options = {"batch_size": batch_size, "seed": seed, "process": process, "codec": codec}
    inner = _common.made("conditioned", data, **options)
    if not isinstance(inner.spec.cond, Mapping):
        raise ValueError("conditioned: the data set's condition has no parts to choose from")
    alone = isinstance(keep, str)
    parts = {keep: keep} if alone else keep if isinstance(keep, Mapping) else {p: p for p in keep}
    unknown = sorted(set(parts.values()) - set(inner.spec.cond))
    if unknown:
        raise ValueError(f"keep={keep!r}: no parts {unknown}; there are {sorted(inner.spec.cond)}")

    def chosen(cond: Any) -> Any:
        return cond[keep] if alone else {new: cond[old] for new, old in parts.items()} or None

    def of(batch: Batch) -> Batch:
        return batch._replace(cond=chosen(batch.cond))

    def read(text: str) -> Any:
        if alone:
            return inner.read(f"{keep}={text}")[keep]
        pieces = (piece.partition("=") for piece in text.split(","))
        # a piece without "=" goes on with the word before its comma
        words = [
            (parts.get(new.strip(), new) if equals else new) + equals + word
            for new, equals, word in pieces
        ]
        found = inner.read(",".join(words))
        for part in set(inner.spec.cond) - set(parts.values()):
            if not np.array_equal(found[part], inner.null[part]):
                raise ValueError(f"{text!r}: the part {part!r} was left out; there are {[*parts]}")
        return chosen(found)

    names = inner.names if isinstance(inner.names, Mapping) else {}
    names = {new: names[old] for new, old in parts.items() if old in names}
    return inner._replace(
        spec=of(inner.spec),
        null=None if inner.null is None else chosen(inner.null),
        read=None if inner.read is None or not parts else read,
        names=names.get(keep, ()) if alone else names or (),
        take=_common.then(inner.take, of),
        batch=_common.then(inner.batch, of),
        sample=_common.then(inner.sample, of),
    )
