"""The judgement of one run's weights: every evaluator's figures, and every picture."""

import functools
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fmjax import assemble, evaluate, pictures, reading, record, train
from fmjax.assemble import Parts
from fmjax.types import Data, Params

LOOKED_AT = 2048  # rows among which one of each class is looked for
# every evaluator's figures, and the samples they are of
Judged = tuple[dict[str, Any], evaluate.Samples]


def weights(parts: Parts, state: train.TrainState) -> Params:
    """The parameters that are judged and sampled: the first EMA, where there is one."""
    decays = parts.config["ema"]
    params = state.ema[str(decays[0])] if decays else state.params
    # pmap leaves them on a mesh of its own, which a program over the run's mesh may refuse
    return jax.device_put(params, parts.parallel.shardings(params))


def of_seed(parts: Parts, params: Params, seed: int) -> Params:
    """The parameters of one of the seeds that ran together."""
    return jax.tree.map(lambda x: x[seed], params) if parts.config["seeds"] > 1 else params


def figures(parts: Parts, generate: evaluate.Generate, params: Params, key: Any) -> Judged:
    """Every evaluator's figures (lists over seeds), and the samples of the first seed."""
    data, seeds = parts.datas[0], parts.config["seeds"]
    tables, kept = [], []
    for i in range(seeds):
        key_samples, key_metrics = jax.random.split(key if seeds == 1 else key[i])
        own = of_seed(parts, params, i)
        samples = evaluate.Samples(generate, own, key_samples, data)
        kept.append(samples)
        tables.append(
            evaluate.evaluate(parts.evaluators, parts.model, own, key_metrics, data, samples)
        )
    if seeds == 1:
        return tables[0], kept[0]
    return {name: [table[name] for table in tables] for name in tables[0]}, kept[0]


def judge(
    parts: Parts,
    generate: evaluate.Generate,
    params: Params,
    workdir: Path,
    say: Callable[[str], None] = print,
    *,
    judged: Judged | None = None,
) -> dict[str, Any]:
    """Evaluate (unless these parameters just were), and draw every picture into `workdir`."""
    key = assemble.keys(parts.config)[2]
    results, samples = judged or figures(parts, generate, params, key)
    own, first = of_seed(parts, params, 0), key if parts.config["seeds"] == 1 else key[0]
    paths = functools.partial(_paths, parts, own)
    draw = Draw(parts, own, jax.random.fold_in(first, 2))
    for name, picture in parts.pictures.items():
        try:
            figure = picture_of(picture, parts.datas[0], samples, paths, draw)
        except pictures.NotDrawn as reason:
            say(f"no picture {name}: {reason}")
            continue
        if jax.process_index() == 0:
            figure.savefig(workdir / f"{name}.png")
    if jax.process_index() == 0:
        lines = record.read_jsonl(workdir / "metrics.jsonl")
        if lines:
            pictures.loss_curve(lines).savefig(workdir / "loss.png")
    return results


def picture_of(
    picture: Callable[..., Any], data: Data, samples: Any, paths: Any, draw: "Draw"
) -> Any:
    """The figure; a picture with an argument `draw` is given it, and samples what it likes."""
    takes = "draw" in inspect.signature(picture).parameters
    return picture(data, samples, paths, **({"draw": draw} if takes else {}))


class Draw:
    """`draw(n, cond) -> x1 [n, *d]` in data space: under other guidance, with another sampler.

    `guidance` and `sampler` are those of the run, to be built upon.
    """

    def __init__(self, parts: Parts, params: Params, key: Any) -> None:
        self._parts, self._params, self._key = parts, params, key
        self.guidance, self.sampler = parts.guidance, parts.sampler
        self.codec = parts.codec

    def __call__(
        self,
        n: int,
        cond: Any = None,
        *,
        noise: Any = None,
        guidance: Callable[..., Any] | None = None,
        sampler: Callable[..., Any] | None = None,
        rows: Mapping[str, Any] | None = None,
    ) -> np.ndarray:
        """All `n` at once, compiled anew.

        cond:     `n` conditions. `noise`: row i starts from noise number noise[i] < n.
        guidance: `(net, **rows) -> net` instead of the run's; `sampler`: `(net, key, x0, cond,
                  **rows) -> (x1, Info)` instead of the run's.
        rows:     arrays of `n` rows that these take, such as a scale for each example.
        """
        parts, rows = self._parts, dict(rows or {})
        size = parts.parallel.rows.mesh.size
        index = np.resize(np.arange(n), -(-n // size) * size)
        numbers = (np.arange(n) if noise is None else np.asarray(noise))[index]
        cond, rows = jax.tree.map(lambda a: np.asarray(a)[index], (cond, rows))
        source = lambda key, like: parts.source(key, like)[numbers]  # noqa: E731
        changed = parts._replace(source=source)
        if guidance is not None:
            changed = changed._replace(guidance=functools.partial(guidance, **rows))
        if sampler is not None:
            changed = changed._replace(sampler=functools.partial(sampler, **rows))
        generate = assemble.make_generate(changed, chunk=len(index))
        x1 = generate(self._params, self._key, cond, len(index))[0].x1[:n]
        evaluate.check_finite(x1)
        return x1


def _paths(parts: Parts, params: Params, n: int, points: int = 9) -> tuple[Any, Any]:
    """`points` save points of `n` examples on their way, one of each class first."""
    if "ts" not in inspect.signature(parts.sampler).parameters:
        raise pictures.NotDrawn("the sampler has no save points (an argument `ts`)")
    options = getattr(parts.sampler, "keywords", {})
    ts = np.linspace(options.get("t0", 0.0), options.get("t1", 1.0), points, dtype=np.float32)
    generate = assemble.make_generate(parts, chunk=n, ts=ts)
    cond = None if parts.datas[0].spec.cond is None else one_of_each(parts.datas[0], n)
    own = assemble.keys(parts.config)[2]
    key = jax.random.fold_in(own if parts.config["seeds"] == 1 else own[0], 1)
    _, info = generate(params, key, cond, n)
    if info.xs is None:
        raise pictures.NotDrawn("the sampler returned no save points (`Info.xs`)")
    return info.ts, info.xs


def one_of_each(data: Data, n: int) -> Any:
    """`n` conditions, one of each class first, of the first rows of the test split."""
    looked = max(n, LOOKED_AT) if data.names else n
    looked = min(looked, data.splits["test"] or looked)
    cond = reading.conditions(data.take, "test", looked)
    rows = np.arange(looked)
    if data.names:
        own = [cond[part] for part in data.names] if isinstance(data.names, Mapping) else [cond]
        rows = np.unique(np.stack(own), axis=1, return_index=True)[1]
    return jax.tree.map(lambda c: c[np.resize(rows, n)], cond)


def depends_on(parts: Parts) -> dict[str, Any]:
    """What the metrics depend on beside the weights, defaults of the callables included."""
    return {
        "sampler": _arguments(parts.sampler, parts.config["sampler"]),
        "guidance": _arguments(parts.guidance, parts.config["guidance"]),
        "evaluators": {
            name: _arguments(evaluator, parts.config["evaluators"][name]) | _extractors(evaluator)
            for name, evaluator in parts.evaluators.items()
        },
        "source": parts.config["source"],
        "sample_chunk": parts.config["sample_chunk"],
        "ema": parts.config["ema"][0] if parts.config["ema"] else None,
        "rows": dict(parts.datas[0].splits),
    }


def _extractors(evaluator: Any) -> dict[str, Any]:
    """What the networks that an evaluator compares in depend on, such as their files' hashes."""
    bound = getattr(evaluator, "keywords", {})
    return {
        f"{name}_depends": dict(value.depends)
        for name, value in bound.items()
        if hasattr(value, "depends")
    }


def _arguments(function: Any, node: dict[str, Any]) -> dict[str, Any]:
    """A config node with the defaults it leaves to the function."""
    parameters = {} if function is None else inspect.signature(function).parameters
    plain = (int, float, str, bool, tuple, type(None))
    defaults = {k: p.default for k, p in parameters.items() if isinstance(p.default, plain)}
    return defaults | node
