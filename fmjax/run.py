"""Training a run from its newest checkpoint, or anew, to its record, in its work directory."""

import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fmjax import assemble, checkpoint, evaluate, inference, judge, loop, record, settings, train
from fmjax.assemble import Parts
from fmjax.config import ConfigError


def check_workdir(workdir: Path, config: Mapping[str, Any], *, allow_changes: bool) -> None:
    """Make the directory, and raise if it holds a run of another config."""
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        if (workdir / "config.json").exists() and not allow_changes:
            settings.check_identity(workdir, settings.read_workdir(workdir), config)
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
    began = time.monotonic()
    parts = inference.assembled(workdir, config, allow_changes=allow_changes)
    parts = taught(parts)
    assemble.check_numbers(config, parts.parallel)
    generate = assemble.make_generate(parts)
    with _store(workdir, config, say) as store:
        start, state = begin(parts, store, say)
        if start > config["steps"]:
            raise ConfigError(
                f"{workdir} is at step {start}, beyond config.steps={config['steps']}; "
                "raise steps or choose another --workdir"
            )
        if start % config["steps_per_call"]:
            raise ConfigError(
                f"{workdir} is at step {start}, which is no multiple of "
                f"config.steps_per_call={config['steps_per_call']}; choose a divisor of {start}"
            )
        # only now: a config that cannot be built or resumed leaves the stored one as it is
        if jax.process_index() == 0:
            record.write_json(workdir / "config.json", config)
            settings.record_codec(workdir, parts.codec.depends_on)
        if start < config["steps"]:
            say("compiling the step; the first one takes a moment")
        # until the last save is complete: a signal then must not cut it short
        with loop.stop_signal() as interrupted:
            done, judged = _train(parts, generate, store, state, start, workdir, interrupted, say)
            store.wait()
    training = _trained(done, start, time.monotonic() - began, workdir)
    if done.interrupted:
        say(f"stopped and saved at step {done.step}; the same command goes on from there")
        return INTERRUPTED
    again = "" if done.step > start else " before, nothing left to do"
    say(f"trained{again}; sampling and judging")
    params = judge.weights(parts, done.state)
    results = judge.judge(parts, generate, params, workdir, say, judged=judged.get(done.step))
    written = _write_record(parts, done.state, training, results, workdir)
    say(_report(results, training, workdir, written))
    return 0


def _trained(done: loop.Done, start: int, seconds: float, workdir: Path) -> dict[str, Any]:
    """Times of the training, over all the stretches it took; kept in `training.json`."""
    path = workdir / "training.json"
    before = json.loads(path.read_text()) if start and path.exists() else {}
    if start == done.step and before:
        return before
    training = {
        "steps": done.step,
        "steps_per_second": done.steps_per_second,
        "seconds_to_first_step": done.seconds_to_first_step,
        "seconds": before.get("seconds", 0.0) + seconds,
        "stretches": before.get("stretches", 0) + 1,
    }
    if jax.process_index() == 0:
        record.write_json(path, training)
    return training


def taught(parts: Parts) -> Parts:
    """With the model of the run `config.teacher` and its weights, on the devices of this one."""
    config, own = parts.config, parts.codec.depends_on
    if config["teacher"] is None:
        return parts
    workdir = Path(config["teacher"])
    other, recorded = settings.read_workdir(workdir), settings.recorded_codec(workdir)
    named_alike = record.digest(other["codec"]) == record.digest(config["codec"])
    if recorded != own if recorded else not named_alike:
        depend = f", made of {recorded[:12]}… and {own[:12]}…" if recorded and own else ""
        raise ConfigError(
            f"config.teacher: {workdir} has the codec {other['codec']}, this run "
            f"{config['codec']}{depend}; a teacher lives in the same space. If both name a run "
            "that was trained on since, name the step it had then, with --config.codec.step=…"
        )
    # the same codec, whatever the teacher's config would make of its names by now
    other |= {"parallel": config["parallel"], "codec": config["codec"]}
    whole = assemble.assemble(other, parts.codec)
    params = judge.of_seed(whole, inference.load_params(whole, workdir), 0)
    return parts._replace(teacher=(whole.model, params))


def _store(workdir: Path, config: Mapping[str, Any], say: Callable[[str], None]) -> Any:
    try:
        return checkpoint.Store(workdir / "checkpoints", say=say, **config["checkpoint"])
    except ValueError as error:
        raise ConfigError(f"config.checkpoint: {error}") from error


def begin(parts: Parts, store: Any, say: Callable[[str], None]) -> tuple[int, train.TrainState]:
    """(step, state) to train from: the newest checkpoint, or fresh, with `init_from`'s weights."""
    restored = store.restore(assemble.abstract_state(parts))
    if restored is not None:
        say(f"resuming from step {restored[0]}")
        return restored
    state = parts.parallel.init(assemble.make_init(parts), assemble.keys(parts.config)[0])
    if parts.config["init_from"] is None:
        return 0, state
    other = Path(parts.config["init_from"])
    decays = settings.read_workdir(other)["ema"]
    params, loaded, fresh = checkpoint.init_from(
        state.params, other / "checkpoints", ema=str(decays[0]) if decays else None, say=say
    )
    named = f": {fresh[:8]}" if fresh else ""
    say(f"{len(loaded)} arrays from {other}, {len(fresh)} fresh{named}")
    copies = train.copies(params, parts.config["ema"])
    # some optimizers keep a copy of the parameters, which is to be of these
    init = jax.vmap(parts.tx.init) if parts.config["seeds"] > 1 else parts.tx.init
    opt_state = parts.parallel.init(init, params)
    return 0, state._replace(params=params, ema=copies, opt_state=opt_state)


def _train(
    parts: Parts,
    generate: evaluate.Generate,
    store: Any,
    state: Any,
    start: int,
    workdir: Path,
    interrupted: Callable[[int], bool],
    say: Callable[[str], None],
) -> tuple[loop.Done, dict[int, judge.Judged]]:
    """The loop's end, and the last evaluation on the way by its step."""
    config, first = parts.config, jax.process_index() == 0
    best = config["checkpoint"]["best"] if config["checkpoint"]["keep_best"] else None
    _, key_train, key_eval = assemble.keys(config)
    metrics = record.Metrics(workdir, start) if first else None
    progress = record.Progress(start, config["steps"], quiet=not first)
    latest: dict[str, Any] = {}
    judged: dict[int, judge.Judged] = {}

    def check_best(names: Mapping[str, Any]) -> None:
        if best is not None and best not in names:
            raise ConfigError(
                f"config.checkpoint.best={best!r} is not measured; there are: "
                f"{', '.join(sorted(names))}"
            )

    def log(step: int, means: dict[str, Any]) -> None:
        latest.update(means)
        if not config["eval_every"]:
            check_best(latest)
        if metrics is not None:
            metrics.write(step, means)
        progress.update(step, float(np.mean(means["loss"])))

    def evaluated(step: int, state: train.TrainState) -> None:
        judged.clear()
        try:
            judged[step] = judge.figures(parts, generate, judge.weights(parts, state), key_eval)
        except evaluate.NotFinite as error:  # early nets diverge; training may well go on
            say(f"step {step}: {error}")
            return
        results = judged[step][0]
        check_best({**latest, **results})
        if metrics is not None:
            metrics.write(step, {f"eval/{name}": value for name, value in results.items()})

    def save(step: int, state: train.TrainState) -> None:
        found = {**latest, **(judged[step][0] if step in judged else {})}
        numbers = {name: float(np.mean(value)) for name, value in found.items()}
        if best is not None:
            numbers.setdefault(best, math.nan)  # not measured at this step, so not ranked
        store.save(step, state, numbers)

    try:
        done = loop.loop(
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
        return done, judged
    finally:
        progress.close()
        if metrics is not None:
            metrics.close()


def _write_record(
    parts: Parts,
    state: train.TrainState,
    training: Mapping[str, Any],
    results: Mapping[str, Any],
    workdir: Path,
) -> list[str]:
    """Write `record.json`; the names of all files in the work directory."""
    config = parts.config
    parameters = train.total_parameters(state.params) // config["seeds"]
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
                "depends_on": judge.depends_on(parts),
                **record.environment(),
                "config": config,
            },
        )
    return sorted(p.name for p in workdir.iterdir())


def _report(
    results: Mapping[str, Any], training: Mapping[str, Any], workdir: Path, files: list[str]
) -> str:
    rate = {"steps_per_second": training["steps_per_second"], "seconds": training["seconds"]}
    return f"{record.table({**results, **rate})}\nin {workdir}: {', '.join(files)}"


def prepare_run(config: dict[str, Any], *, say: Callable[[str], None] = print) -> int:
    """Prepare the data of a config, and nothing else."""
    data = assemble.build_data(config, prepare=True)[0]
    say(f"{config['data']['name']} is ready: {dict(data.splits)} rows in {config['data_dir']}")
    return 0
