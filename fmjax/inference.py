"""What a trained run is used for: loading it in a notebook, sampling it, evaluating it again."""

import inspect
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from fmjax import (
    assemble,
    checkpoint,
    codecs,
    evaluate,
    judge,
    keeping,
    pictures,
    record,
    settings,
    train,
)
from fmjax.assemble import Parts
from fmjax.config import ConfigError
from fmjax.types import Batch, Data, Params

SAID = 16  # texts that are printed, of however many


def assembled(workdir: Path, config: dict[str, Any], *, allow_changes: bool = False) -> Parts:
    """The parts of a run; ConfigError if its codec is no longer the one that it was trained with.

    The codec comes first, so that no data are encoded by a wrong one.
    """
    codec = assemble.build_codec(config)
    if not allow_changes:
        settings.check_codec(workdir, config, codec.depends_on)
    return assemble.assemble(config, codec)


class Loaded(NamedTuple):
    """A trained run: `net(t, x, cond)` in model space, `sample(n, …)` in data space."""

    net: Any
    sample: Callable[..., Batch]
    codec: codecs.Codec
    data: Data
    model: Any
    params: Params
    config: dict[str, Any]
    pictures: dict[str, Callable[..., Any]]
    draw: Callable[..., Any]


def load(
    workdir: str | os.PathLike[str],
    *,
    ema: float | None = None,
    step: int | None = None,
    changes: Sequence[str] = (),
    allow_changes: bool = False,
) -> Loaded:
    """A run's net at its (first) EMA, its sampler, codec and data, for notebooks.

    `sample(n, cond=None, seed=0)`: `cond` holds `n` conditions (or words that name them, such as
    "3"); None takes the test split's. Of several seeds that ran together, the first.
    With `image` (in data space, one or `n`) they are made from it, all at once: by `strength`
    (0.6) of noise, or where `mask` (of its height and width) is true, the rest as it is.
    With `given`, a word that the run's codec reads (text with blanks), all of them have it.
    `draw(n, cond, guidance=…, sampler=…, noise=…)`: `judge.Draw`, to compose and blend conditions.
    `changes`: config changes such as "sampler.steps=50"; `allow_changes`: of the codec's weights.
    """
    workdir = Path(workdir)
    config = settings.read_workdir(workdir, changes)
    parts = assembled(workdir, config, allow_changes=allow_changes)
    params = load_params(parts, workdir, ema=ema, step=step)
    params = judge.of_seed(parts, params, 0)
    generate = assemble.make_generate(parts)
    data = parts.datas[0]

    def sample(
        n: int,
        cond: Any = None,
        seed: int = 0,
        *,
        image: Any = None,
        mask: Any = None,
        strength: float | int | None = None,
        given: str | None = None,
    ) -> Batch:
        # a run's own keys are split from its seed: this one is none of them
        key = jax.random.fold_in(jax.random.split(jax.random.key(seed), 4)[3], 0)
        wanted = None if cond is None else conditions(data, cond, n)
        samples = evaluate.Samples(generate, params, key, data, cond=wanted)
        if image is None and (mask is not None or strength is not None):
            raise ConfigError("a mask or a strength is for an image, and there is none")
        if image is None and given is None:
            return samples(n)
        wanted, draw = samples.conditions(n), judge.Draw(parts, params, key)
        if given is None:
            x1 = keeping.edited(parts, draw, n, wanted, image=image, mask=mask, strength=strength)
        elif image is None:
            x1 = keeping.completed(parts, draw, n, wanted, given)
        else:
            raise ConfigError("an image, or what is given to the codec to read: not both")
        return Batch(x1, wanted)

    net = train.bind(parts.model, params)
    draw = judge.Draw(parts, params, jax.random.split(jax.random.key(0), 4)[3])
    return Loaded(
        net, sample, parts.codec, data, parts.model, params, parts.config, parts.pictures, draw
    )


def conditions(data: Data, cond: Any, n: int) -> Any:
    """`n` conditions, checked; words (such as "3") are read by the data, classes have to exist."""
    if isinstance(cond, list | tuple) and cond and all(isinstance(c, str) for c in cond):
        if data.read is None:
            raise ConfigError(f"conditions {cond}: this data set has none that can be named")
        try:
            cond = jax.tree.map(lambda *c: np.stack(c), *[data.read(word) for word in cond])
        except ValueError as error:
            raise ConfigError(f"conditions: {error}") from error
    cond = np.asarray(cond) if isinstance(cond, list | tuple) else jax.tree.map(np.asarray, cond)
    rows = {len(c) for c in jax.tree.leaves(cond)}
    if rows != {n}:
        raise ConfigError(f"{sorted(rows)} conditions for {n} samples; give one each")
    spec = data.spec.cond
    if isinstance(spec, Mapping) and (not isinstance(cond, Mapping) or set(cond) != set(spec)):
        given = sorted(cond) if isinstance(cond, Mapping) else "one array"
        raise ConfigError(
            f"conditions: {given}; this data set has the parts {sorted(spec)}. Give each, the "
            f"absent ones as data.null has them"
        )
    named = isinstance(data.names, Mapping)
    for part, names in data.names.items() if named else [(None, data.names)]:
        labels = cond[part] if named else cond
        if names and np.issubdtype(labels.dtype, np.integer):
            wrong = [int(c) for c in labels if not 0 <= c <= len(names)]
            if wrong:
                of = f" of {part!r}" if named else ""
                raise ConfigError(f"no class {wrong[0]}{of}; there are 0 to {len(names) - 1}")
    return cond


def load_params(
    parts: Parts, workdir: Path, *, ema: float | None = None, step: int | None = None
) -> Params:
    """The EMA parameters of a run (the first decay unless `ema` names one), nothing else."""
    decays = parts.config["ema"]
    which = ema if ema is not None else (decays[0] if decays else None)
    if which is not None and which not in decays:
        raise ConfigError(f"no EMA of decay {which}; the run kept {list(decays)}")
    name = None if which is None else str(which)
    state = assemble.abstract_state(parts)
    like = state.params if name is None else state.ema[name]
    return checkpoint.load(workdir / "checkpoints", ema=name, step=step, like=like)


def evaluate_run(
    workdir: Path,
    changes: Sequence[str] = (),
    *,
    ema: float | None = None,
    step: int | None = None,
    allow_changes: bool = False,
    say: Callable[[str], None] = print,
) -> int:
    """Evaluate a run again, e.g. with another sampler, into its folder `evaluation/`."""
    config = settings.read_workdir(workdir, changes)
    parts = assembled(workdir, config, allow_changes=allow_changes)
    params = load_params(parts, workdir, ema=ema, step=step)
    folder = workdir / "evaluation"
    folder.mkdir(exist_ok=True)
    results = judge.judge(parts, assemble.make_generate(parts), params, folder, say)
    if jax.process_index() == 0:
        depends = judge.depends_on(parts) | ({} if ema is None else {"ema": ema})
        record.write_json(
            folder / "record.json",
            {
                "metrics": results,
                "depends_on": depends,
                "step": step or "newest",
                **record.environment(),
                "config": parts.config,
            },
        )
    say(f"{record.table(results)}\nin {folder}: {', '.join(p.name for p in folder.iterdir())}")
    return 0


def sample_run(
    workdir: Path,
    changes: Sequence[str] = (),
    *,
    n: int = 64,
    cond: Sequence[str] = (),
    seed: int = 0,
    ema: float | None = None,
    step: int | None = None,
    image: str | os.PathLike[str] | None = None,
    mask: str | os.PathLike[str] | None = None,
    strength: float | int | None = None,
    given: str | None = None,
    allow_changes: bool = False,
    say: Callable[[str], None] = print,
) -> int:
    """Draw `n` samples into `samples/`; `cond`: words read by the data, repeated in turn.

    `image`, `mask`: files (PNG, JPEG); the mask is white where to paint. See `load`. Samples that
    the codec can write are kept in `samples.jsonl`, and the first of them said.
    """
    if n < 1:
        raise ConfigError(f"--n={n}: expected at least 1")
    loaded = load(workdir, ema=ema, step=step, changes=changes, allow_changes=allow_changes)
    words = [cond[i % len(cond)] for i in range(n)] if cond else None
    options = {
        "image": None if image is None else _in_data_space(loaded, image),
        "mask": None if mask is None else keeping.readable(pictures.read_mask, mask),
        "strength": strength,
        "given": given,
    }
    batch = loaded.sample(n, words, seed, **options)
    if jax.process_index() == 0:
        folder = workdir / "samples"
        folder.mkdir(exist_ok=True)
        cond_arrays = {} if batch.cond is None else {"cond": batch.cond}
        if isinstance(batch.cond, Mapping):
            cond_arrays = {f"cond_{part}": array for part, array in batch.cond.items()}
        np.savez(folder / "samples.npz", x1=batch.x1, **cond_arrays)
        drawn = ["samples.npz", *_draw(loaded, batch, folder)]
        if loaded.codec.write is not None:
            texts = [loaded.codec.write(row) for row in batch.x1]
            lines = (json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)
            (folder / "samples.jsonl").write_text("".join(lines), encoding="utf-8")
            drawn.append("samples.jsonl")
            say("\n\n".join(texts[:SAID]))
        if image is not None:
            low, high = _ends(loaded)
            row = np.stack([options["image"], *batch.x1])
            pictures.strip(row, low=low, high=high).savefig(folder / "edited.png")
            drawn.append("edited.png")
        say(f"in {folder}: {', '.join(drawn)}; x1 has shape {batch.x1.shape}")
    return 0


def _ends(loaded: Loaded) -> tuple[float, float]:
    """Black and white in data space, the `low` and `high` that the config knows."""
    nodes = [loaded.config["codec"], *loaded.config["pictures"].values()]
    ends = [(n["low"], n["high"]) for n in nodes if {"low", "high"} <= set(n)]
    shape = loaded.data.spec.x1.shape
    if not ends or len(shape) != 3:
        raise ConfigError(
            f"--image: examples of shape {list(shape)} and a config without `low` and `high` "
            "(of its codec or a picture) tell no way from files; in Python give arrays in data "
            "space, fmjax.load(workdir).sample(n, image=…)"
        )
    return ends[0]


def _in_data_space(loaded: Loaded, file: str | os.PathLike[str]) -> np.ndarray:
    (low, high), spec = _ends(loaded), loaded.data.spec.x1
    values = keeping.readable(pictures.read_image, file, spec.shape[-1]) * (high - low) + low
    return np.round(values) if np.issubdtype(spec.dtype, np.integer) else values


def _draw(loaded: Loaded, batch: Batch, folder: Path) -> list[str]:
    """The run's pictures of these samples, those that can be drawn of so few."""

    def paths(n: int) -> Any:
        raise pictures.NotDrawn("only the samples were drawn")

    names = []
    for name, picture in loaded.pictures.items():
        try:
            if "draw" in inspect.signature(picture).parameters:
                continue  # it samples on its own, whatever was asked for
            picture(loaded.data, lambda n: batch, paths).savefig(folder / f"{name}.png")
            names.append(f"{name}.png")
        except pictures.NotDrawn:
            continue
    return names
