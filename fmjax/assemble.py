"""From a config to the objects it names, all of them built before the first step.

So a mistake in a config costs seconds. `make_*` compile what a run does with them.
"""

import functools
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fmjax import codecs, evaluate, paths, sources, train
from fmjax import config as configs
from fmjax.config import ConfigError
from fmjax.models.predict import predict
from fmjax.shard import Parallel, check_batch
from fmjax.types import Batch, Data, Model, Params


class Parts(NamedTuple):
    """The objects of a run.

    datas:   one a seed, which differ in the order of their batches
    teacher: the model and the parameters of another run, where training has one
    """

    config: dict[str, Any]
    datas: list[Data]
    codec: codecs.Codec
    source: Callable[..., Any]
    model: Any
    objective: Callable[..., Any]
    tx: optax.GradientTransformation
    parallel: Parallel
    sampler: Callable[..., Any]
    guidance: Callable[..., Any] | None
    evaluators: dict[str, Callable[..., Any]]
    pictures: dict[str, Callable[..., Any]]
    teacher: tuple[Any, Params] | None = None


def assemble(config: dict[str, Any], codec: codecs.Codec | None = None) -> Parts:
    """Build every object that the config names, but the codec where it is there already."""
    build = functools.partial(_build, config)
    codec = build_codec(config) if codec is None else codec
    words = _of_tokens(codec)
    path, source = build("path"), build("source", **words)
    parallel = build("parallel")
    datas = build_data(config, codec=codec, source=source)
    null, names = datas[0].null, datas[0].names
    bare = build("model", num_classes=_counted(names), **words)
    row = build("predict")
    model = jax.tree.map(
        functools.partial(predict, path=path, row=row),
        bare,
        is_leaf=lambda m: isinstance(m, Model),
    )
    offered = {
        "path": path,
        "bridge": build("bridge", path=path, **words) or paths.bridge(path),
        "coupling": build("coupling") or None,
        "source": source,
        "codec": codec,
        "null": null,
        "data_dir": os.path.expanduser(config["data_dir"]),
        **words,
    }
    objective, sampler = build("loss", **offered), build("sampler", **offered)
    _warn_of_pairs(config, sampler, model, datas[0])
    _check_masks(config, {"sampler": sampler, "loss": objective}, source)

    codecs.check_size(codec, datas[0].encoded)

    def encoded(nets: Any, key: Any, batch: Batch) -> Any:
        x1 = batch.x1 if datas[0].encoded else codec.encode(batch.x1)
        return objective(nets, key, batch._replace(x1=x1))

    tx = build("optimizer")
    if config["clip_norm"] is not None:
        tx = optax.chain(optax.clip_by_global_norm(config["clip_norm"]), tx)
    return Parts(
        config,
        datas,
        codec,
        source,
        model,
        encoded,
        tx,
        parallel,
        sampler,
        build("guidance", **offered) or None,
        build("evaluators", **offered),
        build("pictures", **offered),
    )


def _build(config: Mapping[str, Any], field: str, **offered: Any) -> Any:
    try:
        return configs.build(config[field], f"config.{field}", **offered)
    except FileNotFoundError as error:  # weights of others, which the message says where to get
        raise ConfigError(f"config.{field}: {error}") from error


def build_codec(config: Mapping[str, Any]) -> codecs.Codec:
    """The codec alone, which the data may be encoded by."""
    return _build(config, "codec", data_dir=os.path.expanduser(config["data_dir"]))


def _of_tokens(codec: codecs.Codec) -> dict[str, Any]:
    """What the parts of a run of tokens are offered; nothing where examples are numbers."""
    return {"vocabulary": codec.vocabulary, "end": codec.end} if codec.vocabulary else {}


def _counted(names: Any) -> Any:
    """How many classes there are: a number, or one for each part of the condition that has any."""
    if isinstance(names, Mapping):
        return {part: len(own) for part, own in names.items()} or None
    return len(names) or None


def _warn_of_pairs(config: Mapping[str, Any], sampler: Any, model: Any, data: Data) -> None:
    """Warn where a sampler takes the score from a velocity that does not give it."""
    function, node = getattr(sampler, "func", sampler), config["sampler"]
    if not getattr(function, "needs_independent_normal", False) or hasattr(model, "score"):
        return
    # a latent interpolant may have an affine path of its own, which the sampler is then told
    bridged = config["bridge"] and "path" not in node
    if bridged or config["coupling"] or data.spec.x0 is not None:
        warnings.warn(
            f"config.sampler ({node['bind']}) takes the score from the velocity, which gives it "
            "only where x0 is normal, independent of x1, and the path affine. This run has a "
            "bridge, a coupling or data with noise of their own: its samples will be biased. Use "
            "fmjax.samplers.ode:ode, or train a score, too: fmjax.models.velocity_score with "
            "fmjax.losses.score_and_flow_matching",
            stacklevel=3,
        )


def _check_masks(config: Mapping[str, Any], built: Mapping[str, Any], source: Any) -> None:
    """Raise where a sampler or a loss replaces masks and the source has none."""
    for field, part in built.items():
        needs = getattr(getattr(part, "func", part), "needs_masks", False)
        if needs and getattr(source, "func", source) is not sources.mask:
            raise ConfigError(
                f"config.{field} ({config[field]['bind']}) replaces masks, and config.source is "
                f"{config['source']}: give dict(bind='fmjax.sources:mask'), or another {field}"
            )


def build_data(config: Mapping[str, Any], **options: Any) -> list[Data]:
    """The data set, once a seed. `prepare=True` also makes those that a run does not."""
    data_dir = os.path.expanduser(config["data_dir"])
    if "codec" not in options:
        options["codec"] = build_codec(config)
    if "source" not in options:
        options["source"] = _build(config, "source", **_of_tokens(options["codec"]))
    offered = {
        "batch_size": config["batch_size"],
        "data_dir": data_dir,
        "process": (jax.process_index(), jax.process_count()),
        **options,
    }
    seeds = range(config["seed"], config["seed"] + config["seeds"])
    try:
        datas = [configs.build(config["data"], "config.data", seed=s, **offered) for s in seeds]
    except (OSError, ImportError) as error:  # not prepared, not writable, a package is missing
        raise ConfigError(f"config.data: {error}") from error
    for split in ("train", "test"):
        if split not in datas[0].splits:
            raise ConfigError(
                f"config.data ({config['data']['name']}) has the splits {list(datas[0].splits)}; "
                f"a run needs {split!r}, too"
            )
    return datas


def check_numbers(config: Mapping[str, Any], parallel: Parallel) -> None:
    """Raise unless training can go on these devices in these numbers of steps and examples."""
    for field in ("steps", "steps_per_call", "accumulate", "seeds", "log_every", "sample_chunk"):
        if config[field] < 1:
            raise ConfigError(f"config.{field} is {config[field]}; expected at least 1")
    for field in ("steps", "log_every", "save_every", "eval_every"):
        every, per_call = config[field], config["steps_per_call"]
        if every % per_call:
            near = max(round(every / per_call), 1) * per_call
            raise ConfigError(
                f"config.{field}={every} is not a multiple of steps_per_call={per_call}; try {near}"
            )
    try:
        check_batch(config["batch_size"], parallel.devices, config["accumulate"])
    except ValueError as error:
        raise ConfigError(f"config.batch_size: {error}") from error
    if config["seeds"] > 1 and parallel.axis_name:
        raise ConfigError("config.seeds > 1 runs under fmjax.shard:jit only")


def example(parts: Parts) -> Batch:
    """A batch of one example of zeros in model space, for the initial parameters."""
    spec = jax.tree.map(lambda s: jax.ShapeDtypeStruct((1, *s.shape), s.dtype), parts.datas[0].spec)
    encoded = spec._replace(x1=jax.eval_shape(parts.codec.encode, spec.x1))
    return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), encoded)


def keys(config: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    """Keys for parameters, training and evaluation, `[seeds]` each (a scalar for one seed)."""
    roots = jnp.stack([jax.random.key(config["seed"] + i) for i in range(config["seeds"])])
    split = jax.vmap(lambda k: jax.random.split(k, 3))(roots)
    return tuple(split[0] if config["seeds"] == 1 else split.T)


def make_init(parts: Parts) -> Callable[[Any], train.TrainState]:
    """`init(key) -> TrainState`; over several seeds, `key` and state have a leading axis."""
    batch = example(parts)
    init = functools.partial(
        train.init, parts.model, parts.tx, batch=batch, ema=parts.config["ema"]
    )
    return jax.vmap(init) if parts.config["seeds"] > 1 else init


def abstract_state(parts: Parts) -> train.TrainState:
    """The state's shapes, with the shardings it is to have on the present devices."""
    state = jax.eval_shape(make_init(parts), keys(parts.config)[0])
    return jax.tree.map(
        lambda s, where: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=where),
        state,
        parts.parallel.shardings(state),
    )


def make_call(parts: Parts) -> Callable[..., Any]:
    """`steps_per_call` training steps, compiled for the run's devices."""
    config, data, parallel = parts.config, parts.datas[0], parts.parallel
    draw = None
    if data.sample is not None:
        rows = config["batch_size"]
        rows = rows // parallel.devices if parallel.axis_name else rows
        draw = lambda key: parallel.constrain(data.sample(key, rows))  # noqa: E731
    step = train.make_step(
        parts.model,
        parts.objective,
        parts.tx,
        ema=config["ema"],
        accumulate=config["accumulate"],
        draw=draw,
        teacher=parts.teacher and parts.teacher[0],
        axis_name=parallel.axis_name,
    )
    many = train.repeat(step, config["steps_per_call"])
    if config["seeds"] > 1:
        many = jax.vmap(many, in_axes=(0, None, 0, 0))
    return parallel.compile(many)


def make_batches(parts: Parts) -> Callable[[int], Any]:
    """`batches(step)`: what the call that begins at `step` takes, on the devices."""
    config, per_call = parts.config, parts.config["steps_per_call"]
    if parts.datas[0].sample is not None:
        return lambda step: None

    def stacked(data: Data, step: int) -> Batch:
        return _stack([data.batch("train", s) for s in range(step, step + per_call)])

    def batches(step: int) -> Batch:
        if config["seeds"] == 1:
            return parts.parallel.put(stacked(parts.datas[0], step), 1)
        return parts.parallel.put(_stack([stacked(d, step) for d in parts.datas]), 2)

    return batches


def _stack(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *xs: np.stack(xs), *trees)


def make_generate(parts: Parts, *, chunk: int | None = None, **options: Any) -> evaluate.Generate:
    """The run's sampler, compiled; `options` go to it (such as its save points `ts`)."""
    return evaluate.make_generate(
        parts.model,
        parts.datas[0],
        source=parts.source,
        sampler=functools.partial(parts.sampler, **options) if options else parts.sampler,
        guidance=parts.guidance,
        codec=parts.codec,
        rows=parts.parallel.rows,
        chunk=chunk or parts.config["sample_chunk"],
    )
