"""Claim: FID's network and FID, KID and the Inception Score are those of torch-fidelity.

    pip install -r experiments/requirements.txt
    python experiments/metric_parity.py            the table; exit code 1 if a row fails
    python experiments/metric_parity.py --write    also into docs/metric_parity.md

Both networks have the same random weights, written to one file that each reads in its own way:
the published ones are not needed. The running statistics of every normalisation are those of a
batch, so that activations stay O(1) through all 94 of them; one whose error is 1e-5 of nothing
would otherwise hide any mistake. Every block is given torch-fidelity's input to it; differences
are the largest over the largest value there is, in single precision on both sides. Then come
networks with one deliberate fault each, whose difference must be above the threshold, and the
metrics, each side from the images onwards. Of torch-fidelity only the network and the formulas are
imported, not its data pipeline, which needs torchvision.
"""

import argparse
import hashlib
import importlib
import importlib.metadata
import importlib.util
import platform
import sys
import tempfile
import types
from pathlib import Path
from typing import NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

BLOCK, METRIC = 1e-4, 1e-3
LAYERS = ("64", "192", "768", "2048", "logits_unbiased")


class Row(NamedTuple):
    """What was compared, the relative difference, its threshold; `fault`: must be above it."""

    what: str
    difference: float
    threshold: float
    fault: bool = False

    @property
    def good(self):
        """Whether the row is as claimed."""
        return (self.difference > self.threshold) == self.fault


def peer(name):
    """A module of torch-fidelity, without what its package imports beside it."""
    if "torch_fidelity" not in sys.modules:
        spec = importlib.util.find_spec("torch_fidelity")
        if spec is None:
            sys.exit("no torch_fidelity; pip install -r experiments/requirements.txt")
        package = types.ModuleType("torch_fidelity")
        package.__path__ = list(spec.submodule_search_locations)
        sys.modules["torch_fidelity"] = package
        # the formulas import their pipeline from here, and call none of it
        pipeline = types.ModuleType("torch_fidelity.utils")
        pipeline.__getattr__ = lambda name: None
        sys.modules["torch_fidelity.utils"] = pipeline
    return importlib.import_module(f"torch_fidelity.{name}")


def images(n, *, seed, side=32):
    """Bytes `[n, side, side, 3]`: coloured plane waves and noise."""
    rng = np.random.default_rng(seed)
    place = np.stack(np.meshgrid(*[np.arange(side)] * 2, indexing="ij"))
    waves = rng.normal(size=(n, 3, 2)) * (0.2 + 0.1 * seed)
    phase = np.einsum("nkp,phw->nhwk", waves, place) + rng.uniform(0, 6, (n, 1, 1, 3))
    x = 128 + 80 * np.cos(phase) + 20 * rng.normal(size=phase.shape)
    return np.clip(np.round(x), 0, 255).astype(np.uint8)


def random_weights(net, x):
    """Random weights for torch-fidelity's network, normalised by the statistics of batch `x`."""
    import torch

    generator = torch.Generator().manual_seed(0)

    def normal(like, std):
        return torch.randn(like.shape, generator=generator) * std

    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
                module.weight.copy_(normal(module.weight, module.weight[0].numel() ** -0.5))
            if isinstance(module, torch.nn.Linear):
                module.bias.copy_(normal(module.bias, 1))
                module.weight.mul_(30)  # classes that differ between images
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.copy_(1 + normal(module.weight, 0.2))
                module.bias.copy_(normal(module.bias, 0.2))
                module.momentum = 1.0  # a batch in training: the running statistics are its own
        net.train()
        net(x)
        net.eval()


def network(file):
    """torch-fidelity's network with random weights, which are saved as `file`, too."""
    import torch

    module = peer("feature_extractor_inceptionv3")
    kept = module.load_state_dict_from_url
    # its constructor loads weights over the network; here they are drawn afterwards
    module.load_state_dict_from_url = lambda *_, **__: torch.load(file)
    cls = module.FeatureExtractorInceptionV3
    loading, cls.load_state_dict = cls.load_state_dict, lambda self, state: None
    torch.save({}, file)
    net = cls("inception", list(LAYERS))
    module.load_state_dict_from_url, cls.load_state_dict = kept, loading
    random_weights(net, torch.from_numpy(images(8, seed=2).transpose(0, 3, 1, 2)))
    torch.save(net.state_dict(), file)
    return net


def theirs(net, x, chunk=16):
    """torch-fidelity's features of bytes `[n, h, w, 3]`, by layer."""
    import torch

    parts = [
        [f.numpy() for f in net(torch.from_numpy(x[i : i + chunk].transpose(0, 3, 1, 2).copy()))]
        for i in range(0, len(x), chunk)
    ]
    return dict(zip(LAYERS, map(np.concatenate, zip(*parts, strict=True)), strict=True))


def relative(a, b):
    """Largest difference over the largest value of `b`; infinite where shapes differ."""
    if a.shape != b.shape or not np.isfinite(a).all():
        return np.inf
    return float(np.abs(a - b).max() / np.abs(b).max())


def inputs_and_outputs(net, x):
    """`{block: (input, output)}` `[b, h, w, c]` of torch-fidelity's network."""
    import torch

    found, hooks = {}, []

    def keep(name):
        def hook(module, args, out):
            found[name] = tuple(v.permute(0, 2, 3, 1).numpy().copy() for v in (args[0], out))

        return hook

    for name, child in net.named_children():
        if name not in ("AvgPool", "fc"):
            hooks.append(child.register_forward_hook(keep(name)))
    net(torch.from_numpy(x.transpose(0, 3, 1, 2).copy()))
    for hook in hooks:
        hook.remove()
    return found


def blocks(net, params):
    """Each block of both networks on the same input; then those with a fault."""
    import flax.linen as nn
    import jax
    import torch

    from fmjax.pretrained import inception

    x = images(4, seed=0)
    resize = peer("interpolate_compat_tensorflow").interpolate_bilinear_2d_like_tensorflow1x
    for shape in ((32, 32), (40, 300), (512, 299)):
        whole = np.random.default_rng(0).integers(0, 256, (2, *shape, 3)).astype(np.float32)
        wanted = resize(
            torch.from_numpy(whole.transpose(0, 3, 1, 2)), (299, 299), align_corners=False
        )
        wanted = wanted.permute(0, 2, 3, 1).numpy()
        yield Row(
            f"resizing {shape} to 299",
            relative(np.asarray(inception.resized(jax.numpy.asarray(whole))), wanted),
            BLOCK,
        )
    centred = jax.image.resize(whole, (2, 299, 299, 3), "bilinear")
    yield Row("fault: resizing between centres", relative(np.asarray(centred), wanted), BLOCK, True)

    known = inputs_and_outputs(net, x)

    def of(name, block, **changed):
        before, after = known[name]
        block = block.clone(**changed) if changed else block
        if isinstance(block, nn.Module):
            block = jax.jit(lambda h, own=block: own.apply({"params": params[name]}, h))
        return relative(np.asarray(block(before)), after)

    for name, block in inception.BLOCKS.items():
        yield Row(name, of(name, block), BLOCK)

    def padded_mean(h):
        return nn.avg_pool(h, (3, 3), (1, 1), "SAME", count_include_pad=True)

    ours = inception.BLOCKS
    for name in ("Mixed_5b", "Mixed_6b", "Mixed_7b"):
        fault = of(name, ours[name], pool=padded_mean)
        yield Row(f"fault: {name}, the padding within its means", fault, BLOCK, True)
    fault = of("Mixed_7c", ours["Mixed_7c"], pool=inception.mean_pool)
    yield Row("fault: Mixed_7c, means for maxima", fault, BLOCK, True)
    fault = of("Mixed_7b", ours["Mixed_7b"], pool=inception.max_pool)
    yield Row("fault: Mixed_7b, maxima for means", fault, BLOCK, True)
    shifted = ((2, 0), (2, 0))
    fault = of("Conv2d_2b_3x3", ours["Conv2d_2b_3x3"], padding=shifted)
    yield Row("fault: Conv2d_2b_3x3, padded on one side", fault, BLOCK, True)
    swapped = jax.tree.map(lambda v: v, params["Mixed_6b"])
    swapped["branch7x7_2"], swapped["branch7x7dbl_3"] = (
        swapped["branch7x7dbl_3"], swapped["branch7x7_2"],
    )  # fmt: skip
    before, after = known["Mixed_6b"]
    fault = relative(np.asarray(ours["Mixed_6b"].apply({"params": swapped}, before)), after)
    yield Row("fault: Mixed_6b, two convolutions for each other", fault, BLOCK, True)


def metrics(net, file, n):
    """Each side's features and metrics of the same two sets of images."""
    import torch

    from fmjax.metrics import _statistics, frechet, inception_score, kid
    from fmjax.pretrained import inception

    sets = images(n, seed=0), images(n, seed=1)
    wanted = [theirs(net, x) for x in sets]
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    found = [{}, {}]
    for layer in ("64", "2048", "logits_unbiased"):
        extractor = inception.extractor(weights=str(file), layer=layer, sha256=sha256, chunk=16)
        for i, x in enumerate(sets):
            found[i][layer] = extractor(None, x)
            yield Row(
                f"features {layer}, set {i}", relative(found[i][layer], wanted[i][layer]), BLOCK
            )

    fids = peer("metric_fid")
    for layer in ("64", "2048"):
        each = [fids.fid_features_to_statistics(torch.from_numpy(w[layer])) for w in wanted]
        theirs_value = fids.fid_statistics_to_metric(*each, False)[fids.KEY_METRIC_FID]
        a, b = (_statistics.moments(np.array_split(f[layer], 3)) for f in found)
        ours_value = frechet.frechet_gaussian(a.mean, a.cov, b.mean, b.cov)
        what = f"FID, features {layer}: {theirs_value:.6g}, ours {ours_value:.6g}"
        yield Row(what, abs(ours_value / theirs_value - 1), METRIC)

    subsets, size = 20, n // 2
    kids = peer("metric_kid")
    theirs_value = kids.kid_features_to_metric(
        *(torch.from_numpy(w["2048"]) for w in wanted), kid_subsets=subsets, kid_subset_size=size,
        rng_seed=2020, verbose=False,
    )  # fmt: skip
    rng = np.random.RandomState(2020)  # torch-fidelity's draws
    draws = [[rng.choice(n, size, replace=False) for _ in range(2)] for _ in range(subsets)]
    a, b = (f["2048"] for f in found)
    each = [kid.polynomial_mmd2(a[i], b[j]) for i, j in draws]
    for term, ours_value in (("mean", np.mean(each)), ("std", np.std(each))):
        value = theirs_value[f"kernel_inception_distance_{term}"]
        what = f"KID, {term} over {subsets} subsets of {size}: {value:.6g}, ours {ours_value:.6g}"
        yield Row(what, abs(ours_value / value - 1), METRIC)

    splits = 4
    scores = peer("metric_isc")
    for i in range(2):
        logits = torch.from_numpy(wanted[i]["logits_unbiased"])
        value = scores.isc_features_to_metric(logits, splits, shuffle=False)
        parts = np.split(found[i]["logits_unbiased"], splits)
        each = [inception_score.score(part) for part in parts]
        ours_value, value = np.mean(each), value["inception_score_mean"]
        what = f"Inception Score, {splits} splits, set {i}: {value:.6g}, ours {ours_value:.6g}"
        yield Row(what, abs(ours_value / value - 1), METRIC)


def line(row):
    """A row of the table in Markdown."""
    return f"| {row.what} | {row.difference:.1e} | {'yes' if row.good else '**no**'} |"


def main(argv):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="keep it in docs/metric_parity.md")
    parser.add_argument("--images", type=int, default=80, help="in each set; a multiple of 8 > 64")
    args = parser.parse_args(argv)
    try:
        import torch
    except ImportError as error:
        sys.exit(f"{error}; pip install -r experiments/requirements.txt")
    from fmjax.pretrained import _common, inception

    names = ("torch-fidelity", "torch", "jax", "flax")
    stated = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    text = [f"Measured with {stated}; Python {platform.python_version()}, on a CPU.", ""]
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        file = Path(folder) / "weights.pth"
        net = network(file)
        params = inception.converted(_common.tensors(file), layer="logits")
        compared = list(blocks(net, params))
        measured = list(metrics(net, file, args.images))
    limits = f"features within {BLOCK:g}, metrics within {METRIC:g}"
    parts = {
        f"Blocks: within {BLOCK:g}, faults above it": compared,
        f"{args.images} images a set: {limits}": measured,
    }
    for title, rows in parts.items():
        text += [f"## {title}", "", "| what | relative difference | as claimed |", "|-|-|-|"]
        text += [*map(line, rows), ""]
    rows = compared + measured
    bad = [row.what for row in rows if not row.good]
    text.append(f"{len(rows)} rows, {len(bad)} not as claimed.")
    print("\n".join(text))
    if args.write:
        head = "# FID's network and metrics beside torch-fidelity's\n\n"
        head += __doc__.split("\n\n", 1)[1].rstrip() + "\n\n"
        (ROOT / "docs" / "metric_parity.md").write_text(head + "\n".join(text) + "\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
