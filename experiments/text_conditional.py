"""Question: what does guidance by sentiment buy, and what does it cost in diversity?

    pip install --no-deps -r configs/requirements-nodeps.txt
    python experiments/text_conditional.py --workdir=runs/text_films
    python experiments/text_conditional.py --scales 1 2 --n 256 --config.steps=6000

From a run of configs/text_films.py, which is trained first where there is none; fresh and rotten
reviews are asked for as often as the held-out ones are. For each scale, mean ± standard deviation
over `--seeds` of the sampling (the network is one):

agreement:  share of texts in which a linear judge of words and letters, fitted on real reviews,
            reads the sentiment that was asked for. It sees real ones right as often as the first
            row says; above that is exaggeration, not skill
distinct-3: different trigrams of words over all, of as many words as the real rows have; and over
            theirs, where below 1 is less diverse than people
self-BLEU:  of each text against all others; depends on the number of texts
copied:     tokens of the longest passage that stands in the training reviews, too: the mean
            and the most of all texts
tokens:     of a text, on average

Writes `table.md`, `results.json` and `texts.md`, some texts of each scale, into --out.

Measured (2026-11, jax 0.12.0, `--n 256`; scale 6 with three seeds, the others with one):

    scale      agreement      distinct-3, of real   self-BLEU       copied, mean, most
    real text  0.799          0.988, 1              0.064           6.0, 12
    4          0.820          0.998, 1.010          0.047           3.3, 5
    6          0.896 ± 0.011  0.999, 1.011          0.045 ± 0.002   3.3 ± 0.1, 5
    8          0.941          0.998, 1.010          0.048           3.3, 5

Nothing is copied, and distinct-3 is high because many words are none: a better network would have
less of both.
"""

import argparse
import json
import sys
from pathlib import Path

import jax

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import _runs  # noqa: E402
import _tables  # noqa: E402

from fmjax import inference  # noqa: E402
from fmjax.metrics import classifier  # noqa: E402
from fmjax.metrics.copied import copied  # noqa: E402
from fmjax.metrics.diversity import diversity  # noqa: E402
from fmjax.metrics.token_entropy import token_entropy  # noqa: E402


def figures(batch, loaded, judge):
    """Every metric of one batch of texts beside as many real ones."""
    key = jax.random.key(0)  # which none of these uses
    rest = {"net": None, "key": key, "data": loaded.data, "sample": lambda n: batch}
    n, codec = len(batch.x1), loaded.codec
    return (
        classifier.classifier_accuracy(**rest, judge=lambda *_: judge, n=n)
        | diversity(**rest, codec=codec, n=n)
        | copied(**rest, codec=codec, n=n)
        | token_entropy(**rest, codec=codec, n=n)
    )


def row(name, found, end=""):
    """One line of the table; `end`: "_real" for that of the held-out texts."""
    over = lambda key, digits=3: _tables.over_seeds((f[key + end] for f in found), digits)  # noqa: E731
    accuracy = "classifier_test_accuracy" if end else "conditional_accuracy"
    ratios = [f[f"distinct_3{end}"] / f["distinct_3_real"] for f in found]
    return {
        "scale": name,
        "agreement": _tables.over_seeds(f[accuracy] for f in found),
        "distinct-3": over("distinct_3"),
        "of real": _tables.over_seeds(ratios),
        "self-BLEU": over("self_bleu"),
        "copied, mean": over("copied_mean", 1),
        "copied, most": max(int(f[f"copied_max{end}"]) for f in found),
        "tokens": over("token_entropy_length", 0),
    }


def shown(scale, batch, loaded, n=6):
    """Some texts as Markdown."""
    names = loaded.data.names
    pairs = list(zip(batch.cond, batch.x1, strict=True))[:n]
    lines = [f"* {names[int(c)]}: {loaded.codec.write(x)}" for c, x in pairs]
    return "\n".join([f"## Scale {scale:g}", *lines, ""])


def main(argv):
    """Sample at each scale; the rows of the table, real text first."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", type=Path, default=Path("runs/text_films"))
    parser.add_argument("--out", type=Path, default=Path("runs/text_conditional"))
    parser.add_argument("--scales", type=float, nargs="+", default=[1.0, 2.0, 4.0, 6.0, 8.0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--n", type=int, default=256, help="texts of a seed")
    parser.add_argument("--fit", default="train", help="the split that the judge is fitted on")
    parser.add_argument("--sampler", nargs="*", default=[], help="such as steps=64")
    args, changes = parser.parse_known_args(argv)
    _runs.ready("text_films", args.workdir, changes)
    args.out.mkdir(parents=True, exist_ok=True)
    sampler = [f"sampler.{change}" for change in args.sampler]
    results, texts, judge = {}, [], None
    for scale in args.scales:
        own = [*sampler, f"guidance.scale={scale}"]
        loaded = inference.load(args.workdir, changes=own)
        judge = judge or classifier.text(loaded.data, args.fit, codec=loaded.codec)
        batches = [loaded.sample(args.n, seed=seed) for seed in args.seeds]
        results[scale] = [figures(batch, loaded, judge) for batch in batches]
        texts.append(shown(scale, batches[0], loaded))
        print(_tables.markdown([row(f"{scale:g}", results[scale])]), flush=True)
    # what is said of real text is the same in each
    real = row("real text", results[args.scales[0]][:1], "_real")
    rows = [real, *(row(f"{scale:g}", found) for scale, found in results.items())]
    (args.out / "results.json").write_text(json.dumps(results, indent=1))
    (args.out / "table.md").write_text(_tables.markdown(rows))
    (args.out / "texts.md").write_text("\n".join(texts))
    print(_tables.markdown(rows) + f"in {args.out}: table.md, results.json, texts.md")
    return rows


if __name__ == "__main__":
    main(sys.argv[1:])
