"""Reflow: train again on the pairs (x0, x1) that a trained flow makes, whose paths cross less.

    python launch.py --config=configs/moons.py --workdir=runs/moons
    python launch.py --config=configs/moons.py --workdir=runs/moons_reflow \\
        --config.data=fmjax.reflow:reflow --config.data.run=runs/moons --config.data.n=100000 \\
        --config.init_from=runs/moons --config.evaluators.energy.reference=real \\
        --config.evaluators.wasserstein.reference=real
    python launch.py --mode=evaluate --workdir=runs/moons_reflow \\
        --config.sampler.solver=diffrax:Euler --config.sampler.steps=1

W2 between 1,000 samples and 1,000 real points (0.43 between two real draws), one seed, 2026-11:

    Euler steps        1      2      4    Dopri5
    runs/moons         2.25   1.71   1.13  0.31 (151 evaluations)
    runs/moons_reflow  0.40   0.39   0.37  0.35 (97)

The second took 45 s on 2 CPU cores, its pairs included.

Any config can be the second stage; its source and codec have to be the first run's, its path
`linear` (of tokens, its bridge a mixture), and it has no coupling: the pairs are one. To reflow
again, name `runs/moons_reflow`. The first run's directory stays part of the second: it holds the
pairs and the real data's config.
Liu et al. 2022 (2209.03003), algorithm 1.
"""

import functools
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from fmjax import (
    assemble,
    checkpoint,
    codecs,
    evaluate,
    inference,
    judge,
    reading,
    record,
    settings,
)
from fmjax.assemble import Parts
from fmjax.config import ConfigError
from fmjax.data.in_memory import in_memory
from fmjax.types import Batch, Data, PRNGKey

LOST = 1e-3  # of the samples' size: what a codec may lose before a warning


class LossyCodec(UserWarning):
    """What the codec makes of a sample does not lead back to the sample."""


def reflow(
    *,
    run: str | os.PathLike[str],
    n: int,
    batch_size: int,
    seed: int = 0,
    process: tuple[int, int] = (0, 1),
    data_dir: str | None = None,
    source: Callable[..., Any] | None = None,
    codec: codecs.Codec | None = None,
    draw: int = 0,
    ema: float | None = None,
    step: int | None = None,
    changes: Sequence[str] = (),
    allow_changes: bool = False,
    say: Callable[[str], None] = print,
) -> Data:
    """`n` pairs (x0, x1, cond) of the run in the directory `run`, drawn once and kept there.

    They are drawn by the run's own source, guidance and sampler, `config.sample_chunk` rows at a
    time, with the conditions of its training split in turn. A chunk is a file in `run`/pairs/
    <digest of what it depends on>, written whole or not at all: what was cut short goes on where
    it was, and a greater `n` adds to what is there. All of them have to fit in memory.

    Splits: "train" are the pairs; the others are the real data, without an x0: "real" is what the
    run was trained on, the rest have their own names. An evaluator's floor needs real data, so
    give it `reference="real"`.

    draw:      seed of the pairs (`seed` is that of their order); another gives others.
    ema, step: which weights; by default the first EMA at the newest step, so name the step of a
               run that may go on. Of several seeds that ran together, the first.
    changes:   of the run's config, such as "sampler.steps=50", or "parallel.devices=1" where it
               had more devices. A codec that rounds or clips spoils the pairs, which is warned
               of: "codec.levels=None", "codec.clip=False".
    allow_changes: of the weights of the run's codec, which are checked to be those it trained with.
    source, codec: those of the second run, which are checked against the first's.

    Several processes draw together; the first writes, so all have to see the directory.
    Of numbers, not for samplers with noise of their own: x1 has to be a function of x0. Of tokens
    what a chain draws is part of the pair (Yoo et al. 2025, 2507.15897), but for `churn` and
    `correctors`, which draw x0 anew; of masks x0 tells nothing.
    """
    workdir = Path(run).expanduser()
    config = settings.read_workdir(workdir, changes)
    config |= {} if data_dir is None else {"data_dir": data_dir}
    parts = inference.assembled(workdir, config, allow_changes=allow_changes)
    _check_source(parts, source, workdir)
    _check_codec(parts, codec, workdir)
    found = checkpoint.steps(workdir / "checkpoints") if step is None else [step]
    if n < 1 or not found:
        why = "has no finished checkpoint: train it first" if n > 0 else f"n={n}: expected pairs"
        raise ConfigError(f"{workdir}: {why}")
    depends = {name: config[name] for name in (*settings.IDENTITY, "sampler", "guidance")}
    depends |= {"sample_chunk": config["sample_chunk"], "draw": draw, "ema": ema, "step": found[-1]}
    if parts.codec.depends_on:  # the config names a network's run or file, which may change
        depends["codec_depends_on"] = parts.codec.depends_on
    folder = workdir / "pairs" / record.digest(depends)[:16]
    files = [folder / f"{i:06d}.npz" for i in range(-(-n // config["sample_chunk"]))]
    missing = _missing(files)
    if missing:
        if jax.process_index() == 0:
            say(f"drawing pairs: {len(missing)} of {len(files)} files in {folder}")
            folder.mkdir(parents=True, exist_ok=True)
            record.write_json(folder / "depends_on.json", depends)
        params = inference.load_params(parts, workdir, ema=ema, step=found[-1])
        params = judge.of_seed(parts, params, 0)
        # a run's own keys, and those of its samples, are others
        key = jax.random.fold_in(jax.random.split(jax.random.key(draw), 4)[3], 1)
        for i, batch in _drawn(parts, params, key, missing, codec or parts.codec):
            _write(files[i], batch)
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices("pairs")
    return _served(_read(files, parts.datas[0], n), parts.datas[0], batch_size, seed, process)


def _check_source(parts: Parts, source: Callable[..., Any] | None, workdir: Path) -> None:
    """ConfigError unless both sources draw the same noise, which both give for a few rows."""
    if source is None:
        return
    like, key = jnp.concatenate([assemble.example(parts).x1] * 4), jax.random.key(0)
    if not np.array_equal(source(key, like), parts.source(key, like)):
        raise ConfigError(
            f"config.source is not that of {workdir}, from whose noise the pairs start: "
            f"{parts.config['source']}"
        )


def _check_codec(parts: Parts, codec: codecs.Codec | None, workdir: Path) -> None:
    """ConfigError unless both codecs encode a few real rows alike."""
    if codec is None:
        return
    data = parts.datas[0]
    x1 = data.take("train", min(data.splits["train"], 64) or 64).x1
    if not np.allclose(codec.encode(x1), parts.codec.encode(x1), atol=1e-4):
        raise ConfigError(
            f"config.codec does not encode as that of {workdir}, in whose space the pairs are: "
            f"{parts.config['codec']}"
        )


def _missing(files: Sequence[Path]) -> list[int]:
    """The files that are not there, as the first process sees it."""
    missing = np.asarray([not file.exists() for file in files])
    if jax.process_count() > 1:
        missing = multihost_utils.broadcast_one_to_all(missing)
    return np.flatnonzero(missing).tolist()


def _drawn(
    parts: Parts, params: Any, key: PRNGKey, chunks: Sequence[int], second: codecs.Codec
) -> Iterator[tuple[int, Batch]]:
    """Chunk by chunk `(its number, its pairs)`; chunk i depends on the key and on i only."""
    key_samples, key_cond = jax.random.split(key)
    rows = parts.config["sample_chunk"]
    conditions = _conditions(parts.datas[0], key_cond, rows, rows * (max(chunks) + 1))
    generate = evaluate.make_generate(
        parts.model,
        parts.datas[0],
        source=parts.source,
        sampler=parts.sampler,
        guidance=parts.guidance,
        # decoded below, to see what that loses; `frozen` would make the whole codec anew
        codec=parts.codec._replace(decode=lambda z: z, frozen=None),
        rows=parts.parallel.rows,
        chunk=rows,
        pairs=True,
    )

    both = parts.codec, second
    # once, and as an argument: a constant is copied into the program
    weights = jax.device_put([codecs.arrays(codec) for codec in both])

    @jax.jit
    def decoded(weights: Any, z: Any) -> tuple[Any, Any]:
        own, other = map(codecs.at, both, weights)
        x = own.decode(z)
        return x, jnp.sqrt(jnp.mean((other.encode(x) - z) ** 2) / jnp.mean(z**2))

    for i in chunks:
        batch, _ = generate(params, jax.random.fold_in(key_samples, i), conditions(i), rows)
        evaluate.check_finite(batch.x1)
        x1, lost = jax.device_get(decoded(weights, batch.x1))
        if i == chunks[0] and lost > LOST:
            warnings.warn(
                f"config.codec changes the samples by {lost:.1%} of their size, so that a pair is "
                "no longer one trajectory; if it rounds or clips, try "
                'config.data.changes=("codec.levels=None", "codec.clip=False")',
                LossyCodec,
                stacklevel=3,
            )
        yield i, batch._replace(x1=x1)


def _conditions(data: Data, key: PRNGKey, rows: int, most: int) -> Callable[[int], Any]:
    """From a chunk's number to its conditions, those of the training split, in turn."""
    if data.spec.cond is None:
        return lambda i: None
    if data.sample is not None:
        sample = jax.jit(data.sample, static_argnums=1)
        return lambda i: jax.device_get(sample(jax.random.fold_in(key, i), rows).cond)
    size = min(data.splits["train"] or most, most)  # fewer are a prefix, and so are their chunks
    cond = reading.conditions(data.take, "train", size)
    return lambda i: jax.tree.map(lambda c: c[np.arange(i * rows, (i + 1) * rows) % size], cond)


def _write(file: Path, batch: Batch) -> None:
    if jax.process_index() != 0:
        return
    cond = {f"cond{i}": leaf for i, leaf in enumerate(jax.tree.leaves(batch.cond))}
    temporary = file.with_suffix(".tmp")
    with temporary.open("wb") as out:
        np.savez(out, x0=batch.x0, x1=batch.x1, **cond)
    os.replace(temporary, file)


def _read(files: Sequence[Path], data: Data, n: int) -> Batch:
    chunks = []
    for file in files:
        with np.load(file) as arrays:
            chunks.append({name: arrays[name] for name in arrays.files})
    whole = {name: np.concatenate([c[name] for c in chunks])[:n] for name in chunks[0]}
    kinds, structure = jax.tree.flatten(data.spec.cond)
    cond = jax.tree.unflatten(structure, [whole[f"cond{i}"] for i in range(len(kinds))])
    return Batch(whole["x1"], cond, whole["x0"])


def _served(pairs: Batch, data: Data, batch_size: int, seed: int, process: Any) -> Data:
    """The pairs as a training split, beside the splits of the real data."""
    served = in_memory(
        {"train": pairs},
        batch_size=batch_size,
        seed=seed,
        process=process,
        null=data.null,
        read=data.read,
        names=data.names,
    )
    real = {"real" if name == "train" else name: name for name in data.splits}

    @functools.wraps(data.take)  # with its arguments, of which `start` is not in every `take`
    def take(split: str, n: int | None, **start: int) -> Batch:
        if split not in real:
            return served.take(split, n, **start)
        return data.take(real[split], n, **start)._replace(x0=None)

    splits = {**served.splits, **{name: data.splits[own] for name, own in real.items()}}
    return served._replace(splits=splits, take=take)
