"""One run: train, evaluate, sample. It lives in a work directory; the same command resumes it."""

import functools
import inspect
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from fmjax import assemble, checkpoint, codecs, evaluate, loop, pictures, record, settings, train
from fmjax.assemble import Parts
from fmjax.config import ConfigError
from fmjax.types import Batch, Data, Params


def check_workdir(workdir: Path, config: Mapping[str, Any], *, allow_changes: bool) -> None:
    """Make the directory and write the config, unless it holds a run of another."""
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        stored = workdir / "config.json"
        if stored.exists() and not allow_changes:
            settings.check_identity(workdir, settings.read_workdir(workdir), config)
        if jax.process_index() == 0:
            record.write_json(stored, config)
    except OSError as error:
        raise ConfigError(
            f"cannot write to the work directory {workdir}: {error}; choose another --workdir"
        ) from error


INTERRUPTED = 75  # the exit code of a run that was asked to stop, and saved


def train_run(
    config: dict[str, Any],
    workdir: Path,
    *,
    allow_changes: bool = False,
    say: Callable[[str], None] = print,
) -> int:
    """Train (from the newest checkpoint, if there is one), then evaluate. The exit code."""
    check_workdir(workdir, config, allow_changes=allow_changes)
    teacher = None
    if config["teacher"] is not None:
        other = load(config["teacher"])
        teacher = (other.model, other.params)
    parts = assemble.assemble(config, teacher)
    began = time.monotonic()
    with checkpoint.Store(workdir / "checkpoints", say=say, **config["checkpoint"]) as store:
        start, state = _start(parts, store, say)
        if start > config["steps"]:
            raise ConfigError(f"{workdir} is at step {start}, beyond steps={config['steps']}")
        done = _train(parts, store, state, start, workdir)
        store.wait()
    if done.interrupted:
        say(f"stopped and saved at step {done.step}; the same command goes on from there")
        return INTERRUPTED
    training = {
        "steps": done.step,
        "steps_here": done.step - start,
        "steps_per_second": done.steps_per_second,
        "seconds_to_first_step": done.seconds_to_first_step,
        "seconds": time.monotonic() - began,
    }
    if start == done.step and (workdir / "record.json").exists():
        training = json.loads((workdir / "record.json").read_text())["training"]
    results = judge(parts, _weights(parts, done.state), workdir, say)
    written = _write_record(parts, done.state, training, results, workdir)
    say(_report(results, training, written))
    return 0


def _start(parts: Parts, store: Any, say: Callable[[str], None]) -> tuple[int, train.TrainState]:
    restored = store.restore(_abstract(parts))
    if restored is not None:
        say(f"resuming from step {restored[0]}")
        return restored
    state = parts.parallel.init(assemble.make_init(parts), assemble.keys(parts.config)[0])
    if parts.config["init_from"] is None:
        return 0, state
    other = Path(parts.config["init_from"])
    decays = settings.read_workdir(other)["ema"]
    loaded = checkpoint.init_from(
        state.params, other / "checkpoints", ema=str(decays[0]) if decays else None, say=say
    )
    say(f"{len(loaded.loaded)} arrays from {other}, {len(loaded.fresh)} fresh: {loaded.fresh[:8]}")
    copies = {d: jax.tree.map(lambda x: x.copy(), loaded.params) for d in state.ema}
    return 0, state._replace(params=loaded.params, ema=copies)


def _abstract(parts: Parts) -> train.TrainState:
    """The state's shapes, with the shardings it is to have on the present devices."""
    state = jax.eval_shape(assemble.make_init(parts), assemble.keys(parts.config)[0])
    return jax.tree.map(
        lambda s, where: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=where),
        state,
        parts.parallel.shardings(state),
    )


def _train(parts: Parts, store: Any, state: Any, start: int, workdir: Path) -> loop.Done:
    config, first = parts.config, jax.process_index() == 0
    _, key_train, key_eval = assemble.keys(config)
    metrics = record.Metrics(workdir, start) if first else None
    progress = record.Progress(start, config["steps"], quiet=not first)
    latest: dict[str, Any] = {}

    def log(step: int, means: dict[str, Any]) -> None:
        latest.update(means)
        if metrics is not None:
            metrics.write(step, means)
        progress.update(step, float(np.mean(means["loss"])))

    def evaluated(step: int, state: train.TrainState) -> None:
        results, _ = _evaluate(parts, _weights(parts, state), key_eval)
        latest.update(results)
        if metrics is not None:
            metrics.write(step, {f"eval/{name}": value for name, value in results.items()})

    def save(step: int, state: train.TrainState) -> None:
        store.save(step, state, {name: float(np.mean(v)) for name, v in latest.items()})

    try:
        with loop.stop_signal() as interrupted:
            return loop.loop(
                assemble.make_call(parts),
                state,
                parts.teacher and parts.teacher[1],
                key_train,
                start=start,
                stop=config["steps"],
                per_call=config["steps_per_call"],
                batches=assemble.make_batches(parts),
                log=log,
                log_every=config["log_every"],
                save=save,
                save_every=config["save_every"],
                evaluate=evaluated,
                eval_every=config["eval_every"],
                interrupted=interrupted,
            )
    finally:
        progress.close()
        if metrics is not None:
            metrics.close()


def _weights(parts: Parts, state: train.TrainState) -> Params:
    decays = parts.config["ema"]
    return state.ema[str(decays[0])] if decays else state.params


def _of_seed(parts: Parts, params: Params, seed: int) -> Params:
    return jax.tree.map(lambda x: x[seed], params) if parts.config["seeds"] > 1 else params


def _evaluate(parts: Parts, params: Params, key: Any) -> tuple[dict[str, Any], evaluate.Samples]:
    """Every evaluator's figures (lists over seeds), and the samples of the first seed."""
    generate, data, seeds = assemble.make_generate(parts), parts.datas[0], parts.config["seeds"]
    tables, kept = [], []
    for i in range(seeds):
        key_samples, key_metrics = jax.random.split(key if seeds == 1 else key[i])
        weights = _of_seed(parts, params, i)
        samples = evaluate.Samples(generate, weights, key_samples, data)
        kept.append(samples)
        tables.append(
            evaluate.evaluate(parts.evaluators, parts.model, weights, key_metrics, data, samples)
        )
    if seeds == 1:
        return tables[0], kept[0]
    return {name: [table[name] for table in tables] for name in tables[0]}, kept[0]


def judge(
    parts: Parts, params: Params, workdir: Path, say: Callable[[str], None] = print
) -> dict[str, Any]:
    """Evaluate, and draw every picture of the config into `workdir`."""
    key = assemble.keys(parts.config)[2]
    results, samples = _evaluate(parts, params, key)
    paths = functools.partial(_paths, parts, _of_seed(parts, params, 0))
    for name, picture in parts.pictures.items():
        try:
            figure = picture(parts.datas[0], samples, paths)
        except pictures.NotDrawn as reason:
            say(f"no picture {name}: {reason}")
            continue
        if jax.process_index() == 0:
            figure.savefig(workdir / f"{name}.png")
    if jax.process_index() == 0:
        lines = record.read_jsonl(workdir / "metrics.jsonl")
        pictures.loss_curve(lines).savefig(workdir / "loss.png")
    return results


def _paths(parts: Parts, params: Params, n: int, points: int = 9) -> tuple[Any, Any]:
    """`points` save points of `n` examples on their way, one of each class first."""
    if "ts" not in inspect.signature(parts.sampler).parameters:
        raise pictures.NotDrawn("the sampler has no save points (an argument `ts`)")
    options = getattr(parts.sampler, "keywords", {})
    ts = np.linspace(options.get("t0", 0.0), options.get("t1", 1.0), points, dtype=np.float32)
    generate = assemble.make_generate(parts, chunk=n, ts=ts)
    cond = parts.datas[0].take("test", None).cond
    if cond is not None:
        rows = np.arange(len(jax.tree.leaves(cond)[0]))
        if parts.datas[0].names:
            rows = np.unique(cond, return_index=True)[1]
        cond = jax.tree.map(lambda c: c[np.resize(rows, n)], cond)
    seed = jax.random.key(parts.config["seed"])
    _, info = generate(params, seed, cond, n)
    return info.ts, info.xs


def _write_record(
    parts: Parts,
    state: train.TrainState,
    training: Mapping[str, Any],
    results: Mapping[str, Any],
    workdir: Path,
) -> list[str]:
    """Write `record.json`; the names of all files in the work directory."""
    config = parts.config
    parameters = loop.total_parameters(state.params) // config["seeds"]
    if jax.process_index() == 0:
        record.write_json(
            workdir / "record.json",
            {
                "config_sha256": record.digest(config),
                "seed": config["seed"],
                "seeds": config["seeds"],
                "global_batch": config["batch_size"],
                "parameters": parameters,
                "training": training,
                "metrics": results,
                "depends_on": depends_on(parts),
                **record.environment(),
                "config": config,
            },
        )
    return sorted(p.name for p in workdir.iterdir())


def depends_on(parts: Parts) -> dict[str, Any]:
    """What the metrics depend on beside the weights."""
    fields = ("sampler", "guidance", "evaluators", "source", "sample_chunk")
    return {
        **{field: parts.config[field] for field in fields},
        "ema": parts.config["ema"][0] if parts.config["ema"] else None,
        "rows": dict(parts.datas[0].splits),
    }


def _report(results: Mapping[str, Any], training: Mapping[str, Any], files: list[str]) -> str:
    rate = {"steps_per_second": training["steps_per_second"], "seconds": training["seconds"]}
    return f"{record.table({**results, **rate})}\nwrote {', '.join(files)}"


def evaluate_run(
    workdir: Path, changes: Sequence[str] = (), *, say: Callable[[str], None] = print
) -> int:
    """Evaluate a run again, e.g. with another sampler; writes `evaluation.json` and pictures."""
    parts = assemble.assemble(settings.read_workdir(workdir, changes))
    results = judge(parts, load_params(parts, workdir), workdir, say)
    if jax.process_index() == 0:
        record.write_json(
            workdir / "evaluation.json",
            {"metrics": results, "depends_on": depends_on(parts), **record.environment()},
        )
    say(record.table(results))
    return 0


def sample_run(
    workdir: Path,
    changes: Sequence[str] = (),
    *,
    n: int = 64,
    cond: Sequence[str] = (),
    seed: int = 0,
    say: Callable[[str], None] = print,
) -> int:
    """Draw `n` samples into `samples.npz`; `cond`: words read by the data, repeated in turn."""
    loaded = load(workdir, changes=changes)
    given = None
    if cond:
        if loaded.data.read is None:
            raise ConfigError(f"--cond={','.join(cond)}: this data set has no conditions to name")
        try:
            words = [loaded.data.read(word) for word in cond]
        except ValueError as error:
            raise ConfigError(f"--cond: {error}") from error
        given = jax.tree.map(lambda *xs: np.stack([xs[i % len(xs)] for i in range(n)]), *words)
    batch = loaded.sample(n, given, seed)
    if jax.process_index() == 0:
        arrays = {"x1": batch.x1} if batch.cond is None else {"x1": batch.x1, "cond": batch.cond}
        np.savez(workdir / "samples.npz", **arrays)
    say(f"wrote {workdir / 'samples.npz'}: x1 {batch.x1.shape}")
    return 0


def prepare_run(config: dict[str, Any], *, say: Callable[[str], None] = print) -> int:
    """Prepare the data of a config, and nothing else."""
    data = assemble.build_data(config, prepare=True)[0]
    say(f"{config['data']['name']} is ready: {dict(data.splits)} rows in {config['data_dir']}")
    return 0


class Loaded(NamedTuple):
    """A trained run: `net(t, x, cond)` in model space, `sample(n, …)` in data space."""

    net: Any
    sample: Callable[..., Batch]
    codec: codecs.Codec
    data: Data
    model: Any
    params: Params
    config: dict[str, Any]


def load(
    workdir: str | os.PathLike[str],
    *,
    ema: float | None = None,
    step: int | None = None,
    changes: Sequence[str] = (),
) -> Loaded:
    """A run's net at its (first) EMA, its sampler, codec and data, for notebooks.

    `sample(n, cond=None, seed=0)`: `cond` holds `n` conditions; None takes the test split's.
    `changes`: config changes such as "sampler.steps=50".
    """
    workdir = Path(workdir)
    parts = assemble.assemble(settings.read_workdir(workdir, changes))
    params = load_params(parts, workdir, ema=ema, step=step)
    params = _of_seed(parts, params, 0)
    generate = assemble.make_generate(parts)
    data = parts.datas[0]

    def sample(n: int, cond: Any = None, seed: int = 0) -> Batch:
        if cond is None:
            samples = evaluate.Samples(generate, params, jax.random.key(seed), data)
            return samples(n)
        return generate(params, jax.random.key(seed), cond, n)[0]

    net = train.bind(parts.model, params)
    return Loaded(net, sample, parts.codec, data, parts.model, params, parts.config)


def load_params(
    parts: Parts, workdir: Path, *, ema: float | None = None, step: int | None = None
) -> Params:
    """The EMA parameters of a run (the first decay unless `ema` names one), nothing else."""
    decays = parts.config["ema"]
    which = ema if ema is not None else (decays[0] if decays else None)
    if which is not None and which not in decays:
        raise ConfigError(f"no EMA of decay {which}; the run kept {list(decays)}")
        name = None if which is None else str(which)
    like = _abstract(parts).params
    return checkpoint.load(workdir / "checkpoints", ema=name, step=step, like=like)
