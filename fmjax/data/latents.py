"""Any data set as latents of a codec, computed once, kept in files and mapped into memory.

A file of a split holds the latents of `file_rows` rows in order, `[rows, versions, k, *latent]`:
k is 2, mean and deviation of z given x; versions is 2 with flips, as it is and mirrored. What
goes with the rows (conditions, weights) has files of its own beside it. All are `.npy`.
"""

import functools
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Float

from fmjax import codecs, digests, shard
from fmjax.data import _common
from fmjax.types import Batch, Data

FORMAT = 1
SAMPLE = 64  # rows of a split that are looked at: at every start, and an image takes some ms
# what a run offers to every data set: it orders or places the rows, and does not change them
OFFERED = ("batch_size", "seed", "process", "data_dir", "prepare", "codec", "source")


def latents(
    *,
    data: Any,
    codec: codecs.Codec,
    batch_size: int,
    data_dir: str | os.PathLike[str],
    seed: int = 0,
    process: tuple[int, int] = (0, 1),
    prepare: bool = False,
    sample: bool = True,
    flips: bool = False,
    cached: Sequence[str] = ("train",),
    chunk: int = 256,
    file_rows: int = 4096,
    say: Callable[[str], None] = print,
) -> Data:
    """`data`, whose batches have x1 = z of the run's codec; `take` gives x1 itself.

    data:   a data set to be made here, in a config dict(bind="fmjax.data.mnist_5k:mnist_5k")
    codec:  the run's, a network's: `fmjax.latents.codec` or `fmjax.pretrained.sd_vae.codec`
    sample: z is drawn from q(z|x) anew in every epoch; False: its mean
    flips:  a row is mirrored with probability 1/2, which needs images `[h, w, c]`. Both versions
            are encoded, as the latents of a mirrored image are not mirrored latents
    cached: the splits whose batches are asked for
    chunk, file_rows: rows encoded at a time, and in a file (a multiple of chunk)

    The files lie in `data_dir`/latents/<digest of codec, data and options>, with what they depend
    on in `depends_on.json`: other weights or data have another directory, and are computed anew.
    Data are told by all rows in memory, by names, sizes and times of a folder's files, and by
    the version of a TFDS set; and by how they are made, closures with what they hold.
    They are written whole or not at all, so that what was cut short goes on; several processes
    share the work and have to see the directory. The order of rows is that of `in_memory`.
    ValueError: a codec without weights of its own, data without rows or with noise of their own.
    """
    if not codec.depends_on:
        raise ValueError(
            "config.codec is no network with weights, so its latents need no cache: give the data "
            "set itself, or a codec such as fmjax.latents:codec"
        )
    if chunk < 1 or file_rows < 1 or file_rows % chunk:
        raise ValueError(f"file_rows={file_rows} is no multiple of chunk={chunk}")
    # the rows in one order, whole in every process
    options = {"batch_size": chunk, "seed": 0, "process": (0, 1), "data_dir": data_dir}
    options |= {"prepare": True} if prepare else {}  # the data's own default otherwise
    inner = _common.made("latents", data, **options)
    _check(inner, cached, flips)
    depends = {
        "format": FORMAT,
        "codec": codec.depends_on,
        **_depends(inner, data, cached),
        "flips": flips,
        "chunk": chunk,
        "file_rows": file_rows,
    }
    text = json.dumps(depends, indent=2, sort_keys=True)
    name = _agreed(hashlib.sha256(text.encode()).hexdigest()[:16])
    folder = Path(data_dir).expanduser() / "latents" / name
    _write_missing(inner, codec, folder, depends, text, say)
    stores = {s: _Store(folder, s, -(-inner.splits[s] // file_rows), inner) for s in cached}
    kept = {split: inner.splits[split] for split in cached}
    start, stop = _common.local_share(batch_size, process)

    @functools.lru_cache(maxsize=4)
    def order(split: str, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The rows of an epoch, and which of them are mirrored, by row."""
        rows, word = inner.splits[split], _common.split_word(split)
        coins = np.random.Philox(np.random.SeedSequence((seed, epoch, word, 1))).random_raw(rows)
        return _common.permutation(rows, seed, epoch, word), (coins >> 63).astype(np.int64) * flips

    def batch(split: str, step: int) -> Batch:
        _common.check_split(split, kept)
        positions = np.arange(step * batch_size + start, step * batch_size + stop)
        epochs, places = np.divmod(positions, inner.splits[split])
        rows, mirrored = (np.empty_like(places) for _ in range(2))
        for epoch in np.unique(epochs):
            now = epochs == epoch
            whole, coins = order(split, int(epoch))
            rows[now] = whole[places[now]]
            mirrored[now] = coins[rows[now]]
        moments, rest = stores[split](rows, mirrored)
        z = moments[:, 0]
        if sample and moments.shape[1] == 2:
            words = (seed, _common.split_word(split), 2)
            z = z + moments[:, 1] * normals(words, int(positions[0]), z.shape)
        return rest._replace(x1=z)

    return inner._replace(batch=batch, encoded=True)


def normals(
    words: Sequence[int], start: int, shape: tuple[int, ...]
) -> Float[np.ndarray, "rows ..."]:
    """Rows start, start + 1, … of an endless table of normal numbers, which `words` name.

    By Box and Muller (1958) from raw bits, which NumPy promises for ever; a row is found by its
    number, so that a process draws its share only.
    """
    size = int(np.prod(shape[1:]))
    per_row = -(-size // 8)  # a count of this generator is 256 bits, and four pairs of numbers
    generator = np.random.Philox(np.random.SeedSequence(tuple(words))).advance(start * per_row)
    bits = generator.random_raw(shape[0] * per_row * 4).view(np.uint32).reshape(shape[0], 2, -1)
    u = (bits.astype(np.float32) + 0.5) * np.float32(2**-32)
    radius, angle = np.sqrt(-2 * np.log(u[:, 0])), np.float32(2 * np.pi) * u[:, 1]
    table = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return table[:, :size].reshape(shape)


def _check(inner: Data, cached: Sequence[str], flips: bool) -> None:
    if not cached:
        raise ValueError('cached=(): expected at least one split, such as ("train",)')
    for split in cached:
        _common.check_split(split, inner.splits)
    if inner.batch is None or not all(inner.splits[split] for split in cached):
        raise ValueError("latents: the data are drawn from a key, so there are no rows to encode")
    if inner.spec.x0 is not None or inner.encoded:
        raise ValueError("latents: the data have noise of their own, or are latents already")
    if flips and len(inner.spec.x1.shape) != 3:
        raise ValueError(f"flips=True needs images [h, w, c]; x1 is {inner.spec.x1.shape}")


def _depends(inner: Data, data: Any, cached: Sequence[str]) -> dict[str, Any]:
    """What the rows depend on: how they are made, their contents, and some of them as they are.

    Some, drawn from all, tell what neither says: other code, or the rows of unknown sources.
    """
    some = {split: min(SAMPLE, inner.splits[split]) for split in cached}
    contents = inner.contents
    return {
        "data": digests.described(data, without=OFFERED),
        "rows": {split: inner.splits[split] for split in cached},
        "contents": {split: contents and contents(split) for split in cached},
        "some": {split: digests.arrays(inner.take(split, n)) for split, n in some.items()},
    }


def _agreed(name: str) -> str:
    """The first process's: times of files, or last bits of numbers, may differ between hosts."""
    if jax.process_count() == 1:
        return name
    first = multihost_utils.broadcast_one_to_all(np.frombuffer(name.encode(), np.uint8))
    return np.asarray(first).tobytes().decode()


def _write_missing(
    inner: Data,
    codec: codecs.Codec,
    folder: Path,
    depends: Mapping[str, Any],
    text: str,
    say: Callable[[str], None],
) -> None:
    """Encode the rows whose files are not there, each process its share of the files."""
    index, count = jax.process_index(), jax.process_count()
    files = [
        (split, i)
        for split, rows in depends["rows"].items()
        for i in range(-(-rows // depends["file_rows"]))
    ]
    missing = [f for f in files if not _file(folder, *f, "z").exists()]
    if missing:
        if index == 0:
            say(f"encoding latents: {len(missing)} of {len(files)} files in {folder}")
        folder.mkdir(parents=True, exist_ok=True)
        if index == 0:
            (folder / "depends_on.json").write_text(text + "\n")
        encode = _encoder(codec, depends["flips"], depends["chunk"])
        for split, i in missing:
            if files.index((split, i)) % count == index:
                _write(inner, encode, folder, depends, split, i)
    if count > 1:
        multihost_utils.sync_global_devices("latents")


def _encoder(codec: codecs.Codec, flips: bool, chunk: int) -> Callable[[Any], np.ndarray]:
    """`x [n, …] -> [n, versions, k, *latent]`, compiled once for at most `chunk` rows."""
    mesh = shard.make_mesh(jax.local_devices())
    rows = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
    chunk = -(-chunk // mesh.size) * mesh.size
    weights = jax.device_put(codecs.arrays(codec), NamedSharding(mesh, PartitionSpec()))

    @jax.jit
    def encoded(weights: Any, x: Any) -> Any:
        own = codecs.at(codec, weights)
        versions = [x, x[:, :, ::-1]] if flips else [x]
        parts = [own.posterior(v) if own.posterior else (own.encode(v),) for v in versions]
        return jax.numpy.stack([jax.numpy.stack(part, axis=1) for part in parts], axis=1)

    def encode(x: Any) -> np.ndarray:
        padded = np.asarray(x)[np.arange(chunk) % len(x)]
        found = jax.device_get(encoded(weights, jax.device_put(padded, rows)))
        if not np.isfinite(found).all():
            raise ValueError("latents are not finite: are these the codec's weights and its data?")
        return found[: len(x)]

    return encode


def _write(
    inner: Data,
    encode: Callable[[Any], np.ndarray],
    folder: Path,
    depends: Mapping[str, Any],
    split: str,
    i: int,
) -> None:
    """File `i` of a split. An epoch shows every row once, so epoch 0 is an order of all rows."""
    per_file, chunk, rows = depends["file_rows"], depends["chunk"], depends["rows"][split]
    found, rests = [], []
    for first in range(i * per_file, min((i + 1) * per_file, rows), chunk):
        batch = jax.tree.map(lambda a, f=first: a[: rows - f], inner.batch(split, first // chunk))
        found.append(encode(batch.x1))
        rests.append(jax.tree.leaves(batch._replace(x1=None)))
    for k, leaf in enumerate(zip(*rests, strict=True)):
        _save(_file(folder, split, i, f"rest{k}"), np.concatenate(leaf))
    _save(_file(folder, split, i, "z"), np.concatenate(found))  # last: then the others are there


def _file(folder: Path, split: str, i: int, what: str) -> Path:
    return folder / f"{split}-{i:06d}-{what}.npy"


def _save(file: Path, array: np.ndarray) -> None:
    temporary = file.with_suffix(f".{os.getpid()}.tmp")
    with temporary.open("wb") as out:
        np.save(out, array)
    os.replace(temporary, file)


class _Store:
    """`store(rows, mirrored) -> (moments [n, k, *latent], Batch without x1)` of one split."""

    def __init__(self, folder: Path, split: str, count: int, inner: Data) -> None:
        leaves, self._tree = jax.tree.flatten(inner.spec._replace(x1=None))
        names = ["z", *(f"rest{k}" for k in range(len(leaves)))]
        self._files = [
            [np.load(_file(folder, split, i, what), mmap_mode="r") for what in names]
            for i in range(count)
        ]
        self._starts = np.cumsum([0, *(len(z) for z, *_ in self._files)])

    def __call__(self, rows: np.ndarray, mirrored: np.ndarray) -> tuple[np.ndarray, Batch]:
        files = np.searchsorted(self._starts, rows, side="right") - 1
        order = np.argsort(files, kind="stable")
        parts = []
        for i in np.unique(files):
            here = order[files[order] == i]
            z, *rest = self._files[i]
            own = rows[here] - self._starts[i]
            parts.append([z[own, mirrored[here]], *(r[own] for r in rest)])
        back = np.argsort(order, kind="stable")
        z, *rest = (np.concatenate(part)[back] for part in zip(*parts, strict=True))
        return z, jax.tree.unflatten(self._tree, rest)
