"""Question: which discrete flow predicts characters best at equal training time, and how well?

    pip install --no-deps -r configs/requirements-nodeps.txt
    python experiments/text_char.py --minutes 60 --seeds 0 1
    python experiments/text_char.py --minutes 20 --shares 1 0.1 --widths 64 128 --depths 3 6

Wikipedia in 27 symbols (`fmjax.data.wikipedia`), windows of 256. One transformer, one optimizer and
one clock for all: masks and uniform tokens as the source, three losses, and the autoregressive
baseline, whose likelihood is exact; the others' is a bound, of the EMA 0.999, on all held-out rows,
8 draws of the time each. The learning rate falls with the clock, not with the step, so that each
has had its whole schedule when its time is up; evaluation and compilation are not counted. Beside
them, Kneser-Ney n-grams of the same text, which see the same windows. `--steps` instead of minutes
for equal steps.

Writes `results.jsonl`, which keeps finished cells, `table.md` and `figure.png` into --out. The
column of text8 has what was published there, of larger networks and 100 M characters, and cannot be
compared (MD4: Shi et al. 2024, 2406.04329).

Not yet run for an hour, nor the other methods. Measured with 6 minutes of one CPU core each
(2026-11, jax 0.12.0, seed 0; `--clock cpu --minutes 6`), ± the standard error over windows:

    autoregressive                       2.219 ± 0.009   455 steps   1.9 M parameters
    mask, generalised KL                 3.677 ± 0.008   460         1.9 M
    mask, generalised KL, 64 × 3         3.011 ± 0.012   2,625       0.26 M
    Kneser-Ney, order 3, 5, 7            2.861, 2.025, 1.850

At equal time order is worth 1.46 bits to this network. What limits the flow is the number of its
steps: a seventh of the parameters, which makes 5.7 times as many, gains 0.67 bits, and the large
network has 2.353 ± 0.015 after 7,000 (configs/text_wiki.py, 106 minutes of a core), 0.33 above the
5-gram, where the baseline has 1.861 ± 0.010 after 2,000 (28 minutes of a core). The text does not
limit it: there the bound is 2.322 ± 0.020 on training windows.
"""

import argparse
import functools
import itertools
import json
import math
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import _ngrams  # noqa: E402
import _tables  # noqa: E402

from fmjax import optimizers, sources, text, times, tokens, train  # noqa: E402
from fmjax.data import wikipedia  # noqa: E402
from fmjax.losses.autoregressive import autoregressive  # noqa: E402
from fmjax.losses.discrete_flow_matching import discrete_flow_matching  # noqa: E402
from fmjax.losses.generalised_kl import generalised_kl  # noqa: E402
from fmjax.metrics.token_nll import token_nll  # noqa: E402
from fmjax.models.token_transformer import token_transformer  # noqa: E402
from fmjax.types import Batch  # noqa: E402

CODEC = text.characters()
EMA = 0.999
PEAK, WARMUP = 2e-3, 1 / 30  # of the learning rate, and the share of time that it rises for
MASK = partial(sources.mask, vocabulary=CODEC.vocabulary)
UNIFORM = partial(sources.uniform_tokens, vocabulary=CODEC.vocabulary)
TRAIN_T = partial(times.stratified, high=0.999)
BOUND_T = partial(times.stratified, high=0.9999)


class Method(NamedTuple):
    """What is trained, what judges it, what the net is told of its source, and text8's figure."""

    loss: Callable[..., Any]
    judged: Callable[..., Any]
    net: dict[str, bool]
    draws: int = 8
    text8: str = ""


def flow(loss, source, carry, text8="", **options):
    """A flow from `source`, judged by the bound of that source."""
    return Method(
        partial(loss, source=source, sample_t=TRAIN_T, **options),
        partial(generalised_kl, source=source, sample_t=BOUND_T),
        {"carry": carry},
        text8=text8,
    )


EXACT = partial(autoregressive, vocabulary=CODEC.vocabulary)
METHODS = {
    "mask, generalised KL": flow(generalised_kl, MASK, True, "≤ 1.37 (MD4)"),
    "mask, cross-entropy": flow(discrete_flow_matching, MASK, True),
    "mask, cross-entropy × hazard": flow(
        discrete_flow_matching, MASK, True, "≤ 1.37 (MD4)", weight=tokens.hazard
    ),
    "uniform, cross-entropy": flow(discrete_flow_matching, UNIFORM, False),
    "uniform, generalised KL": flow(generalised_kl, UNIFORM, False),
    "autoregressive": Method(EXACT, EXACT, {"causal": True}, draws=1),
}


class Cell(NamedTuple):
    """One run, by name: what the table is by."""

    method: str
    share: float  # of the training text, its first articles
    width: int
    depth: int
    budget: float
    unit: str  # of the budget: minutes of the clock "wall" or "cpu", or "steps"
    seed: int


class Size(NamedTuple):
    """What all cells have in common."""

    length: int = 256
    batch: int = 16
    per_call: int = 5  # steps; alone, one spends a third of its CPU time on fresh memory
    head: int = 64  # numbers of one
    points: int = 6  # of the curve
    rows: int = 256  # held out, that these are measured on
    final: int | None = None  # rows of the table's figure: all


class Timed(NamedTuple):
    """The learning rate, put there by whoever holds the clock."""

    rate: Any


def timed() -> optax.GradientTransformation:
    """Updates times `Timed.rate`, which is changed from outside between steps."""

    def update(updates, state, params=None):
        del params
        return jax.tree.map(lambda u: state.rate * u, updates), state

    return optax.GradientTransformation(lambda params: Timed(jnp.zeros(())), update)


def optimizer():
    """As in configs/text_wiki.py, of learning rate 1 times that of the clock."""
    muon = optax.contrib.muon(
        1.0,
        weight_decay=0.01,
        consistent_rms=0.2,
        muon_weight_dimension_numbers=optimizers.matrices,
    )
    return optax.chain(optax.clip_by_global_norm(1.0), muon, timed())


def rate(part):
    """The learning rate when this part of the time is over: up, then down along a cosine."""
    if part < WARMUP:
        return PEAK * (part + 1e-3) / (WARMUP + 1e-3)
    return PEAK * (1 + math.cos(math.pi * min(1.0, (part - WARMUP) / (1 - WARMUP)))) / 2


@functools.cache
def stream(share=1.0):
    """The characters to train on in one line, articles apart by a space; the first `share`."""
    whole = CODEC.tokens(" ".join(wikipedia.texts("train")))
    return whole[: max(round(share * len(whole)), 1)]


def batches(share, size, seed):
    """Yield the batches of a call, `[per_call, batch, length]`, from anywhere in the text."""
    line, rng = stream(share), np.random.default_rng(seed)
    while True:
        first = rng.integers(0, len(line) - size.length + 1, (size.per_call, size.batch))
        yield Batch(jnp.asarray(line[first[..., None] + np.arange(size.length)]))


def started(cell, size):
    """The model, its state before step 0, and the compiled steps of a call."""
    own = METHODS[cell.method]
    model = token_transformer(
        vocabulary=CODEC.vocabulary, width=cell.width, depth=cell.depth,
        heads=max(cell.width // size.head, 1), **own.net,
    )  # fmt: skip
    tx, key = optimizer(), jax.random.key(cell.seed)
    call = next(batches(cell.share, size, cell.seed))
    state = train.init(model, tx, key, Batch(call.x1[0]), ema=(EMA,))
    many = train.repeat(train.make_step(model, own.loss, tx, ema=(EMA,)), size.per_call)
    return model, state, jax.jit(many, donate_argnums=0).lower(state, None, key, call).compile()


def bits(cell, size, model, state, held_out, n, draws):
    """The method's figure of its EMA on `n` held-out rows."""
    return token_nll(
        train.bind(model, state.ema[str(EMA)]), jax.random.key(1), held_out, None,
        objective=METHODS[cell.method].judged, codec=CODEC, n=n, draws=draws,
    )  # fmt: skip


def trained(cell, size):
    """Train one cell until its time is up, measuring on the way; what the table needs of it."""
    held_out = wikipedia.wikipedia(codec=CODEC, batch_size=size.batch, length=size.length)
    model, state, step = started(cell, size)
    source, key = batches(cell.share, size, 100 + cell.seed), jax.random.key(200 + cell.seed)
    spent = {"steps": 0, "wall": 0.0, "cpu": 0.0}
    whole = cell.budget if cell.unit == "steps" else 60 * cell.budget
    curve, marks = [], iter((*np.linspace(0, 1, size.points + 1)[1:-1], math.inf))
    mark = next(marks)
    while spent[cell.unit] < whole:
        part = spent[cell.unit] / whole
        if part >= mark:
            mark = next(marks)
            found = bits(cell, size, model, state, held_out, size.rows, 1)
            curve.append(spent | {"bits": found["bits_per_char"]})
        now, cpu = time.perf_counter(), time.process_time()
        rates = (*state.opt_state[:-1], Timed(jnp.asarray(rate(part), jnp.float32)))
        state, metrics = step(state._replace(opt_state=rates), None, key, next(source))
        jax.block_until_ready(metrics)
        spent["wall"] += time.perf_counter() - now
        spent["cpu"] += time.process_time() - cpu
        spent["steps"] += size.per_call
    final = bits(cell, size, model, state, held_out, size.final, METHODS[cell.method].draws)
    # of the same few rows as the rest of the curve
    last = bits(cell, size, model, state, held_out, size.rows, 1)
    curve.append(spent | {"bits": last["bits_per_char"]})
    return {
        **cell._asdict(), **spent, "final": final, "curve": curve,
        "parameters": train.total_parameters(state.params), "length": size.length,
    }  # fmt: skip


def n_grams(orders, share, length):
    """Kneser-Ney's bits per character of the held-out windows, and the seconds to count."""
    held_out = wikipedia.wikipedia(codec=CODEC, batch_size=1, length=length)
    windows = held_out.take("test", None).x1
    for order in orders:
        began, cpu = time.perf_counter(), time.process_time()
        model = _ngrams.fit(stream(share), order, CODEC.vocabulary)
        spent = {"wall": time.perf_counter() - began, "cpu": time.process_time() - cpu}
        yield {
            "order": order,
            "share": share,
            "bits": _ngrams.bits_per_token(model, windows),
        } | spent


def table(found, counted):
    """One row for all seeds of a cell, which follow each other, then the n-grams."""
    by = lambda r: tuple(r[name] for name in Cell._fields[:-1])  # noqa: E731
    rows = []
    for _, group in itertools.groupby(found, by):
        runs = list(group)
        mean = lambda name, runs=runs: float(np.mean([r[name] for r in runs]))  # noqa: E731
        first = runs[0]
        rows.append({
            "method": first["method"],
            "text": first["share"],
            "width × depth": f"{first['width']} × {first['depth']}",
            "bits/char": _tables.over_seeds(r["final"]["bits_per_char"] for r in runs),
            "± of rows": float(np.mean([r["final"]["nll_nats_se"] for r in runs]) / math.log(2)),
            "seeds": len(runs),
            "steps": round(mean("steps")),
            "seconds": round(mean("wall")),
            "CPU seconds": round(mean("cpu")),
            "on text8": METHODS[first["method"]].text8,
        })  # fmt: skip
    for row in counted:
        rows.append({
            "method": f"Kneser-Ney, order {row['order']}", "text": row["share"],
            "bits/char": f"{row['bits']:.3f}", "seconds": round(row["wall"]),
            "CPU seconds": round(row["cpu"]),
        })  # fmt: skip
    return rows


def figure(found, counted, path):
    """Bits per character against training time, the n-grams as level lines."""
    from matplotlib.figure import Figure

    page = Figure(figsize=(7, 5), layout="constrained")
    axes, colours = page.subplots(), {}
    for run in found:
        colour = colours.setdefault(run["method"], f"C{len(colours)}")
        label = run["method"] if run["seed"] == found[0]["seed"] else None
        points = [(p["wall"], p["bits"]) for p in run["curve"]]
        axes.plot(*zip(*points, strict=True), color=colour, label=label, marker=".")
    for row in counted:
        axes.axhline(row["bits"], color="grey", linewidth=0.7)
        axes.text(1.0, row["bits"], f" {row['order']}-gram", transform=axes.get_yaxis_transform(),
                  fontsize=7, va="center")  # fmt: skip
    axes.set(xlabel="training, seconds", ylabel="held-out bits per character, few rows")
    axes.legend(fontsize=7)
    page.savefig(path, dpi=120)


def cells(args):
    """All combinations of what the command line lists."""
    budgets, unit = (args.steps, "steps") if args.steps else (args.minutes, args.clock)
    names = args.methods, args.shares, args.widths, args.depths, budgets, [unit], args.seeds
    return [Cell(*c) for c in itertools.product(*names)]


def finished(path, size):
    """The records of an earlier call."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [r for r in map(json.loads, lines) if r["length"] == size.length]


def main(argv, size=Size()):
    """Train every cell, count the n-grams; the rows of the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/text_char"))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--minutes", type=float, nargs="+", default=[60.0])
    parser.add_argument("--steps", type=int, nargs="+", help="instead of minutes")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="of minutes")
    parser.add_argument("--shares", type=float, nargs="+", default=[1.0], help="of the text")
    parser.add_argument("--widths", type=int, nargs="+", default=[128])
    parser.add_argument("--depths", type=int, nargs="+", default=[6])
    parser.add_argument("--orders", type=int, nargs="+", default=[3, 5, 7], help="of n-grams")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    file, wanted = args.out / "results.jsonl", cells(args)
    found = {Cell(*(r[n] for n in Cell._fields)): r for r in finished(file, size)}
    for cell in wanted:
        if cell not in found:
            found[cell] = trained(cell, size)
            with file.open("a") as lines:
                lines.write(json.dumps(found[cell]) + "\n")
            print(f"{cell}: {found[cell]['final']['bits_per_char']:.3f} bits/char", flush=True)
    runs = [found[cell] for cell in wanted]
    counted = [row for s in args.shares for row in n_grams(args.orders, s, size.length)]
    rows = table(runs, counted)
    (args.out / "table.md").write_text(_tables.markdown(rows))
    (args.out / "n_grams.json").write_text(json.dumps(counted, indent=1))
    figure(runs, [row for row in counted if row["share"] == args.shares[0]],
           args.out / "figure.png")  # fmt: skip
    print(_tables.markdown(rows) + f"in {args.out}: results.jsonl, table.md, figure.png")
    return rows


if __name__ == "__main__":
    main(sys.argv[1:])
