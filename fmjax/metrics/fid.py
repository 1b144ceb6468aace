"""Fréchet distance in a pretrained network's features; FID where the network is FID's.

weights = "~/weights/pt_inception-2015-12-05-6726825d.pth"
inception = dict(name="fmjax.pretrained.inception:extractor", weights=weights)
config.evaluators.fid = dict(bind="fmjax.metrics.fid:fid", features=inception)
config.evaluators.fid_test = dict(bind="fmjax.metrics.fid:fid", features=inception, split="test")
"""

from collections.abc import Callable
from typing import Any

from fmjax import types
from fmjax.metrics import _common, _featured, _statistics, frechet

# FID is its network with its weights: the extractor has this name only where both are those.
FID_FEATURES = "inception"


def fid(
    net: Any,
    key: types.PRNGKey,
    data: types.Data,
    sample: Callable[[int], types.Batch],
    *,
    features: Any,
    split: str = "train",
    n: int | None = None,
    reference_n: int | None = None,
    floor: str = "",
    data_dir: str | None = None,
) -> dict[str, float]:
    """Fréchet distance of the Gaussians of features of generated and real rows.

    features:    an extractor: `fmjax.pretrained.inception:extractor` for FID, named `fid`;
                 `fmjax.pretrained.efficientnet_lite0:extractor`: `frechet_efficientnet_lite0`
    split:       what is real; published FIDs are against "train", whose copies score best: add a
                 second evaluator against "test" (its names then end in `_test`)
    n:           generated rows (default: as many as the split has); 50,000 in published FIDs
    reference_n: real rows, the first of the split (default: all)
    floor:       another split whose rows are scored, too, as if generated: the value to reach
    data_dir:    where statistics of the real rows are kept between runs (None: nowhere)

    Covariances divided by n − 1, in float64, from features computed in chunks over all devices.
    Biased upwards by the finite n (by about 1/n): compare at equal n, extractor and split only,
    all of which the names and `…_n` state. Heusel et al. 2017 (1706.08500).
    ValueError: too few rows for a covariance.
    """
    del net, key
    title = _common.title(features, {FID_FEATURES: "fid"}, "frechet") + _common.suffix(split)
    size = _common.count(data, split, reference_n)
    n = _common.count(data, split, None) if n is None else n
    _statistics.check_enough(min(n, size), features.dims)
    real = _statistics.of_real(data.take, split, size, features, data_dir)
    batches = _common.generated_chunks(sample, n, _featured.size(features, n))
    made = _statistics.of_batches(batches, features)
    found = {title: frechet.frechet_gaussian(made.mean, made.cov, real.mean, real.cov)}
    if floor:
        if floor == split:
            raise ValueError(f"split {split!r} cannot be its own floor: name another split")
        count = _common.count(data, floor, None if data.splits.get(floor) else n)
        _statistics.check_enough(count, features.dims)
        other = _statistics.of_real(data.take, floor, count, features, data_dir)
        least = frechet.frechet_gaussian(other.mean, other.cov, real.mean, real.cov)
        found |= {f"{title}_floor": least, f"{title}_floor_n": float(count)}
    return found | {
        f"{title}_n": float(n),
        f"{title}_reference_n": float(size),
        f"{title}_dims": float(features.dims),
    }
