"""Question: how many evaluations, which sampler and which precision do texts of a flow need?

    pip install --no-deps -r configs/requirements-nodeps.txt
    python experiments/text_sampling.py
    python experiments/text_sampling.py --nfe 16 64 --samplers ctmc confidence --n 64

Texts of a run of configs/text_wiki.py, judged by one of configs/text_autoregressive.py; each is
trained first where there is none. Each cell has `--n` texts, of one network and the seed `--seed`:

judge:    bits per character under the autoregressive judge, ± the standard error over texts. It
          is low for text that is good, and for text that repeats itself or its commonest words:
          read it only beside the entropy
n-gram:   the same under Kneser-Ney of order 5 of the training text, which no network taught
entropy:  of a text's characters, in bits, on average: real text's is the one to have
NFE:      that were made (an adaptive chain takes `length / NFE` jumps a step to come near)
seconds:  for each text, in batches of `--chunk`, compilation left out

precision "low" draws states by Gumbel's noise of float32, whose tail ends at 15.9: likelier texts
than the model's (Zheng et al. 2024, 2409.02908). The rows of real text and of the judge's own
samples are what to come near. Writes `table.md`, `results.json`, `texts.md` and `figure.png` into
--out.

Measured on one CPU core (2026-11, jax 0.12.0; `--nfe 8 32 --samplers ctmc confidence --n 64`), bits
per character of the judge and of the n-grams, entropy in bits, seconds a text:

                             judge           n-gram  entropy  seconds
    real text                1.908 ± 0.044   2.066   4.007
    ctmc, NFE 8, high        4.099 ± 0.024   4.029   4.058    0.113
    ctmc, NFE 32, high       3.638 ± 0.028   3.552   4.039    0.432
    ctmc, NFE 32, low        3.603 ± 0.031   3.524   4.051    0.509
    confidence, NFE 8, high  3.098 ± 0.026   3.101   3.793    0.144
    confidence, NFE 32, high 2.135 ± 0.028   2.080   3.750    0.528
    confidence, NFE 32, low  2.175 ± 0.027   2.148   3.758    0.529

A text of 256 characters costs 14 to 17 ms for each evaluation. The surest first are near real text
by the judges, at 0.26 bits less entropy: they are commoner words, not better text. Of 27 symbols
none is so rare that the precision makes a difference. Not run: more evaluations, churn, adaptive.
"""

import argparse
import json
import sys
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import _ngrams  # noqa: E402
import _runs  # noqa: E402
import _tables  # noqa: E402

from fmjax import inference, sources, train  # noqa: E402
from fmjax.data import wikipedia  # noqa: E402
from fmjax.losses.autoregressive import autoregressive as exact  # noqa: E402
from fmjax.metrics.token_entropy import entropy_nats  # noqa: E402
from fmjax.samplers.adaptive_ctmc import adaptive_ctmc  # noqa: E402
from fmjax.samplers.autoregressive import autoregressive  # noqa: E402
from fmjax.samplers.confidence import confidence  # noqa: E402
from fmjax.samplers.ctmc import ctmc  # noqa: E402
from fmjax.types import Batch, Nets  # noqa: E402

LN2 = float(np.log(2))
NAMES = ("ctmc", "churn", "confidence", "adaptive")
ORDER = 5  # of the n-gram judge


def samplers(vocabulary, length, churn):
    """`nfe -> sampler(net, key, x0, high=…)` by name; all from masks."""
    masks = partial(sources.mask, vocabulary=vocabulary)
    return {
        "ctmc": lambda nfe: partial(ctmc, source=masks, steps=nfe),
        f"ctmc, churn {churn:g}": lambda nfe: partial(ctmc, source=masks, steps=nfe, churn=churn),
        "confidence": lambda nfe: partial(confidence, vocabulary=vocabulary, steps=nfe),
        "adaptive": lambda nfe: partial(adaptive_ctmc, jumps=length / nfe, most=4 * nfe),
    }


def drawn(run, sampler, n, chunk, seed):
    """`n` texts, the evaluations they took, and seconds for each, compilation left out."""
    x0 = jnp.full((chunk, *run.data.spec.x1.shape), run.codec.vocabulary, jnp.int32)

    @jax.jit
    def program(params, key, x0):
        return sampler(train.bind(run.model, params), key, x0)

    keys = jax.random.split(jax.random.key(seed), -(-n // chunk))
    compiled = program.lower(run.params, keys[0], x0).compile()
    began, parts = time.perf_counter(), []
    for key in keys:
        parts.append(jax.device_get(compiled(run.params, key, x0)))
    seconds = (time.perf_counter() - began) / (len(keys) * chunk)
    x1 = np.concatenate([x for x, _ in parts])[:n]
    return x1, float(np.mean([info.nfe for _, info in parts])), seconds


def judge_of(run):
    """`texts [n, length] -> bits per character [n]` of an autoregressive run."""

    @jax.jit
    def bits(params, x):
        net = train.bind(run.model, params)
        key, batch = jax.random.key(0), Batch(x)  # nothing is dropped, so nothing random
        return exact(Nets(net, net, net), key, batch, vocabulary=run.codec.vocabulary)[0] / LN2

    def judge(x, chunk=64):
        rows = np.resize(np.arange(len(x)), -(-len(x) // chunk) * chunk).reshape(-1, chunk)
        return np.concatenate([np.asarray(bits(run.params, x[i])) for i in rows])[: len(x)]

    return judge


def judged(x, judge, model):
    """The figures of some texts."""
    own = judge(x)
    return {
        "judge": float(own.mean()),
        "judge_se": float(own.std(ddof=1) / np.sqrt(len(own))),
        "n_gram": _ngrams.bits_per_token(model, x),
        "entropy": float(np.mean([entropy_nats(row) for row in x]) / LN2),
    }


def table(results):
    """The rows of the printed table."""
    return [
        {
            "sampler": r["sampler"],
            "precision": r.get("precision", ""),
            "NFE": f"{r['nfe']:.0f}" if "nfe" in r else "",
            "judge, bits/char": f"{r['judge']:.3f} ± {r['judge_se']:.3f}",
            "n-gram, bits/char": f"{r['n_gram']:.3f}",
            "entropy, bits": f"{r['entropy']:.3f}",
            "seconds": f"{r['seconds']:.3f}" if "seconds" in r else "",
        }
        for r in results
    ]


def figure(results, path):
    """The judge's bits and the entropy against NFE; low precision dashed, real text level."""
    from matplotlib.figure import Figure

    page = Figure(figsize=(10, 4), layout="constrained")
    colours = {}
    for axes, column in zip(page.subplots(1, 2), ("judge", "entropy"), strict=True):
        axes.axhline(results[0][column], color="grey", label="real text")
        for name, precision in dict.fromkeys((r["sampler"], r.get("precision")) for r in results):
            own = [r for r in results if (r["sampler"], r.get("precision")) == (name, precision)]
            if precision:
                style = "-" if precision == "high" else "--"
                points = zip(*[(r["nfe"], r[column]) for r in own], strict=True)
                colour = colours.setdefault(name, f"C{len(colours)}")
                label = f"{name}, {precision}"
                axes.plot(*points, style, marker=".", label=label, color=colour)
        axes.set(xscale="log", xlabel="NFE", ylabel=f"{column}, bits per character")
    axes.legend(fontsize=7)
    page.savefig(path, dpi=120)


def references(run, judge, model, args):
    """Yield real held-out text and, if asked for, the judge's own samples."""
    n = min(args.n, run.data.splits["test"])
    yield {"sampler": "real text"} | judged(run.data.take("test", n).x1, *model), None
    if not args.baseline:
        return
    sampler = partial(autoregressive, vocabulary=judge.codec.vocabulary)
    x1, nfe, seconds = drawn(judge, sampler, args.n, args.chunk, args.seed)
    spent = {"sampler": "the judge itself", "nfe": nfe, "seconds": seconds}
    yield spent | judged(x1, *model), x1


def cells(run, model, args):
    """Yield the figures and the texts of every sampler, precision and number of evaluations."""
    known = samplers(run.codec.vocabulary, run.data.spec.x1.shape[0], args.churn)
    for name, make in known.items():
        if name.split(",")[-1].split()[0] not in args.samplers:
            continue
        for precision in args.precisions:
            for nfe in args.nfe:
                sampler = partial(make(nfe), high=precision == "high")
                x1, made, seconds = drawn(run, sampler, args.n, args.chunk, args.seed)
                spent = {"sampler": name, "precision": precision, "asked": nfe, "nfe": made}
                yield spent | {"seconds": seconds} | judged(x1, *model), x1


def parsed(argv):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", type=Path, default=Path("runs/text_wiki"))
    parser.add_argument("--judge", type=Path, default=Path("runs/text_autoregressive"))
    parser.add_argument("--out", type=Path, default=Path("runs/text_sampling"))
    parser.add_argument("--nfe", type=int, nargs="+", default=[8, 16, 32, 64, 128, 256])
    parser.add_argument("--samplers", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--precisions", nargs="+", choices=["high", "low"], default=["high", "low"])
    parser.add_argument("--churn", type=float, default=1.0)
    parser.add_argument("--n", type=int, default=128, help="texts of a cell")
    parser.add_argument("--chunk", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--baseline", action=argparse.BooleanOptionalAction, default=True)
    return parser.parse_args(argv)


def main(argv):
    """Sample and judge every cell; the rows of the table."""
    args = parsed(argv)
    run = inference.load(_runs.ready("text_wiki", args.workdir, []))
    judge = inference.load(_runs.ready("text_autoregressive", args.judge, []))
    if run.codec.depends_on != judge.codec.depends_on:
        sys.exit(f"{args.judge} reads other tokens than {args.workdir} writes")
    line = run.codec.tokens(" ".join(wikipedia.texts("train")))
    model = judge_of(judge), _ngrams.fit(line, ORDER, run.codec.vocabulary)
    args.out.mkdir(parents=True, exist_ok=True)
    results, texts = [], []
    for part in (references(run, judge, model, args), cells(run, model, args)):
        for found, x1 in part:
            results.append(found)
            (args.out / "results.json").write_text(json.dumps(results, indent=1))
            (row,) = table([found])
            print(", ".join(f"{name} {value}" for name, value in row.items() if value), flush=True)
            if x1 is not None:
                shown = [f"* {run.codec.write(x)}" for x in x1[:3]]
                title = f"## {row['sampler']}, {row['precision']}, NFE {row['NFE']}"
                texts.append("\n".join([title, *shown, ""]))
    rows = table(results)
    (args.out / "table.md").write_text(_tables.markdown(rows))
    (args.out / "texts.md").write_text("\n".join(texts))
    figure(results, args.out / "figure.png")
    print("\n" + _tables.markdown(rows) + f"in {args.out}: table.md, results.json, figure.png")
    return rows


if __name__ == "__main__":
    main(sys.argv[1:])
