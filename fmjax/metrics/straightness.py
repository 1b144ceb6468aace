"""Straightness: how far the paths of the net's ODE are from straight lines at constant speed."""

from collections.abc import Callable
from typing import Any

import numpy as np

from fmjax import codecs, sources, types
from fmjax.metrics import _common, _flows
from fmjax.samplers.ode import ode


def straightness(
    net: Any,
    key: types.PRNGKey,
    data: types.Data,
    sample: Any,
    *,
    n: int = 1000,
    split: str = "test",
    source: Callable[..., Any] = sources.normal,
    codec: codecs.Codec = codecs.identity(),
    solve: Callable[..., Any] = ode,
) -> dict[str, float]:
    """∫ E|x(1) − x(0) − v(t, x(t))|² dt along the net's own paths; 0: one Euler step is exact.

    Since x(1) − x(0) = ∫ v dt, this is ∫ E|v|² dt − E|x(1) − x(0)|², one solve for `n` paths,
    summed over an example's numbers, in model space; as a difference of two it is as accurate as
    the tolerance times ∫ E|v|² dt, and may be that much below 0.
    `straightness_relative`: over E|x(1) − x(0)|². Compare models by that. Unguided; conditions of
    `split`. Not a measure of the samples' quality: a constant field is perfectly straight.
    Liu et al. 2022 (2209.03003), eq. 3.
    """
    del sample
    n = _common.count(data, split, n)
    x0, x1, energy, nfe = _flows.travelled(
        net, key, data, n, split=split, source=source, codec=codec, solve=solve
    )
    distance = float(np.mean(np.sum((_common.flat(x1) - _common.flat(x0)) ** 2, axis=1)))
    bend = float(np.mean(energy)) - distance
    results = {
        "straightness": bend,
        "straightness_relative": bend / distance,
        "straightness_nfe": nfe,
        "straightness_n": float(n),
    }
    return results | _flows.solved_by(solve, "straightness")
