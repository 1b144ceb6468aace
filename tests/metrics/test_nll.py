import functools
import math

import compiled
import jax.numpy as jnp
import numpy as np
import pytest

from fmjax import codecs, likelihood, sources
from fmjax.metrics import nll
from fmjax.samplers.ode import ode

STD = 2.0
SOLVE = functools.partial(ode, steps=40)


def grown(t, x, cond=None):
    """x(1) = STD x(0)."""
    return math.log(STD) * x


def gaussian_nll(x, mean=0.0, std=STD):
    each = ((x - mean) / std) ** 2 / 2 + math.log(std * math.sqrt(2 * math.pi))
    return each.reshape(len(x), -1).sum(axis=1)


def test_a_gaussian_in_nats_with_its_standard_error(key, normal):
    out = nll.nll(grown, key, normal, None, n=150, chunk=64, solve=SOLVE)
    exact = gaussian_nll(normal.take("test", 150).x1)
    assert out["nll_nats"] == pytest.approx(exact.mean(), abs=1e-4)
    assert out["nll_nats_se"] == pytest.approx(exact.std(ddof=1) / math.sqrt(150), rel=1e-3)
    assert (out["nll_n"], out["nll_steps"], out["nll_probes"]) == (150, 40, 0)
    assert out["nll_nfe"] == 1 + 6 * 40
    assert "bits_per_dim" not in out


def test_another_source_codec_and_divergence(key, normal):
    out = nll.nll(
        grown,
        key,
        normal,
        None,
        source=functools.partial(sources.normal, std=3.0),
        codec=codecs.affine(low=-5.0, high=5.0, clip=False),
        divergence=likelihood.hutchinson(probes=2),
        solve=functools.partial(ode, steps=10),
    )
    # z = x / 5 has the standard deviation 3 STD, x five times that
    exact = gaussian_nll(normal.take("test", None).x1, std=15 * STD)
    assert out["nll_nats"] == pytest.approx(exact.mean(), abs=1e-3)
    assert out["nll_probes"] == 2


def test_levels_in_bits_and_conditions(key, make_data):
    x = np.random.default_rng(0).integers(0, 17, size=(300, 2, 1)).astype(np.uint8)
    label = np.arange(300, dtype=np.int32) % 2
    data = make_data({"train": (x, label), "test": (x, label)})

    def shifted(t, z, cond):
        return z * 0 + cond.reshape(-1, 1, 1).astype(z.dtype)

    options = {
        "codec": codecs.affine(low=0.0, high=16.0, levels=17),
        "spacing": 1.0,
        "solve": functools.partial(ode, steps=2),
    }
    out = nll.nll(shifted, key, data, None, draws=64, **options)
    # the cell of level k is k ± 1/2; z = x / 8 - 1 is N(cond, 1)
    from scipy import special

    ends = [special.ndtr((x + half) / 8 - 1 - label[:, None, None]) for half in (-0.5, 0.5)]
    exact = -np.log(ends[1] - ends[0]).reshape(300, -1).sum(axis=1)
    assert out["nll_nats"] == pytest.approx(exact.mean(), abs=2e-3)
    assert out["bits_per_dim"] == pytest.approx(exact.mean() / 2 / math.log(2), abs=2e-3)
    error = exact.std(ddof=1) / math.sqrt(300) / 2 / math.log(2)
    assert out["bits_per_dim_se"] == pytest.approx(error, rel=0.01)
    assert out["bits_per_dim_k"] == 64
    with pytest.raises(ValueError, match=r"draws=2 with 1 random probes.*too high"):
        nll.nll(shifted, key, data, None, draws=2, divergence=likelihood.hutchinson(), **options)


def test_a_source_without_density_needs_one(key, normal):
    other = functools.partial(sources.distribution, sample=lambda key, n: jnp.zeros((n, 1, 2)))
    with pytest.raises(ValueError, match=r"distribution has no density.*log_p0"):
        nll.nll(grown, key, normal, None, source=other)
    flat = lambda x0: jnp.full(len(x0), -3.0)  # noqa: E731
    out = nll.nll(grown, key, normal, None, source=other, log_p0=flat, n=64, solve=SOLVE)
    assert out["nll_nats"] == pytest.approx(3 + 2 * math.log(STD), abs=1e-4)


def test_what_has_no_density_is_refused(key, normal):
    def average(params, t, x, cond=None, *, r=None, key=None):
        return params * x

    with pytest.raises(ValueError, match="far end of time `r`"):
        nll.nll(functools.partial(average, 1.0), key, normal, None)
    mixing = codecs.Codec(lambda x: x[..., ::-1] + x, lambda z: z)
    with pytest.raises(ValueError, match="not number by number"):
        nll.nll(grown, key, normal, None, codec=mixing)
    with pytest.raises(ValueError, match="10 of 10 log-densities are not finite"):
        nll.nll(lambda t, x, c: x * jnp.nan, key, normal, None, n=10, solve=SOLVE)


def test_one_compilation_serves_all_parameters_and_chunks(key, normal):
    def apply(params, t, x, cond=None):
        return params * x

    def nats(rate, n):
        net = functools.partial(apply, jnp.asarray(rate))
        return nll.nll(net, key, normal, None, n=n, chunk=64, solve=SOLVE)["nll_nats"]

    with compiled.programs() as of_one_chunk:
        nats(0.0, 64)
    assert of_one_chunk
    with compiled.programs() as others:
        found = [nats(rate, None) for rate in (0.1, math.log(STD))]
    assert not others
    exact = [gaussian_nll(normal.take("test", None).x1, std=std).mean() for std in (1.10517, STD)]
    np.testing.assert_allclose(found, exact, atol=1e-3)
