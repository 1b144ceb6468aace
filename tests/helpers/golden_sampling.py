"""Exact outputs of samplers and guidance: a few samples by each, from small nets that are fixed."""

import inspect
import math
from functools import partial as bound

import diffrax
import jax
import numpy as np
from helpers import golden_nets as nets
from helpers import golden_store

from fmjax import codecs, guidance, sources, tokens
from fmjax.samplers import (
    adaptive_ctmc,
    autoregressive,
    confidence,
    ctmc,
    edit_ctmc,
    inpaint,
    ode,
    partial,
    predictor_corrector,
    reconstruct,
    refresh,
    restart,
    sde,
)

KEY = jax.random.key(7)
V, END = nets.VOCABULARY, nets.END
HEUN = bound(ode.ode, solver=diffrax.Heun(), steps=3)
SDE = bound(sde.sde, steps=4)
CORRECTED = bound(predictor_corrector.predictor_corrector, steps=4, corrections=2)
MASKED = bound(ctmc.ctmc, source=bound(sources.mask, vocabulary=V), steps=4)
CHAIN = bound(ctmc.ctmc, source=bound(sources.uniform_tokens, vocabulary=V), steps=4)
SUREST = bound(confidence.confidence, vocabulary=V, steps=4)
AFTER = bound(autoregressive.autoregressive, vocabulary=V)
EDITS = bound(edit_ctmc.edit_ctmc, end=END, steps=4)
KNOWN = {"given": np.arange(6) % V, "known": np.arange(6) < 2}


def squared(u):
    """A grid that is not uniform."""
    return u**2


def samplers():
    """Name -> what computes it, for each file of samplers and each net that it may have."""
    image, half = nets.image(), np.arange(16).reshape(4, 4, 1) % 3 == 0
    painted = bound(inpaint.inpaint, image=image, mask=half)
    varied = bound(partial.partial, image=image)
    images = {
        "ode/euler": bound(ode.ode, solver=diffrax.Euler(), steps=4),
        "ode/heun": bound(HEUN, grid=squared),
        "ode/dopri5": bound(ode.ode, rtol=1e-4),
        "ode/per_sample": bound(ode.ode, per_sample=True),
        "ode/backwards": bound(HEUN, t0=1, t1=0, ts=(0.9, 0.2)),
        "sde/heun": bound(SDE, solver=diffrax.Heun(), grid=squared),
        "sde/levy": bound(SDE, solver=diffrax.ShARK(), ts=(0.3, 1.0)),
        # one that does not vanish with the noise needs a last step without any
        **{f"sde/{f.__name__}": bound(SDE, diffusion=f, last=0.1) for f in diffusions()},
        "refresh/ancestral": bound(refresh.refresh, steps=4, grid=squared),
        "refresh/ddim": bound(refresh.refresh, steps=4, eta=0),
        "restart/heun": bound(restart.restart, steps=5),
        "restart/grid": bound(restart.restart, interval=(0.2, 0.6), steps=5, grid=squared),
        "predictor_corrector/euler": CORRECTED,
        "predictor_corrector/grid": bound(CORRECTED, solver=diffrax.Heun(), grid=squared),
        "partial/ode": bound(varied, sampler=HEUN),
        "partial/sde": bound(varied, sampler=SDE, strength=0.3),
        "inpaint/heun": bound(painted, steps=4, repeats=2, jump=2),
        "inpaint/grid": bound(painted, steps=4, grid=squared),
        "inpaint/sde": bound(painted, steps=2, sampler=bound(sde.sde, steps=2)),
    }
    metric = tokens.metric(distance=tokens.linear_distance(vocabulary=V))
    uniform = {
        "ctmc/uniform": bound(CHAIN, grid=squared),
        "ctmc/metric": bound(CHAIN, bridge=metric),
        "ctmc/correctors": bound(CHAIN, correctors=2),
        "ctmc/sharper": bound(CHAIN, temperature=0.7, top_p=0.8, high=False),
        "adaptive_ctmc/uniform": bound(adaptive_ctmc.adaptive_ctmc, jumps=1.5, most=12),
    }
    masks = {
        "ctmc/masks": MASKED,
        "ctmc/churn": bound(MASKED, churn=2.0),
        "ctmc/given": bound(MASKED, **KNOWN),
        "adaptive_ctmc/masks": bound(adaptive_ctmc.adaptive_ctmc, longest=0.3),
        "confidence/noisy": bound(SUREST, grid=squared),
        "confidence/greedy": bound(SUREST, noise=0, path=tokens.cosine(), **KNOWN),
    }
    causal = {
        "autoregressive/whole": AFTER,
        "autoregressive/given": bound(AFTER, top_p=0.9, **KNOWN),
    }
    edits = {
        "edit_ctmc/edits": EDITS,
        "edit_ctmc/sharper": bound(EDITS, temperature=0.7, grid=squared),
    }
    two = {"sde/score": bound(SDE, diffusion=bound(sde.constant, g=0.7))}
    codec = codecs.affine(low=-3.0, high=3.0)
    coded = {"reconstruct/codec": bound(reconstruct.reconstruct, codec=codec)}
    by_net = (
        (nets.images, images),
        (nets.uniform, uniform),
        (nets.masks, masks),
        (nets.causal, causal),
        (nets.edits, edits),
        (nets.two, two),
        (nets.autoencoder, coded),
    )
    return {
        name: bound(drawn, net, sampler) for net, own in by_net for name, sampler in own.items()
    }


def diffusions():
    """Every `(path, t) -> g²` of the stochastic sampler's file."""
    found = [f for _, f in inspect.getmembers(sde, inspect.isfunction)]
    first = [(f, [*inspect.signature(f).parameters][:2]) for f in found]
    return [f for f, names in first if f.__module__ == sde.__name__ and names == ["path", "t"]]


def guided():
    """Name -> what computes it, for each function of guidance."""
    free = bound(guidance.classifier_free, null=np.int32(nets.CLASSES), scale=2.0)
    scales = {"group": 2.0, "style": 0.5}
    composed = bound(guidance.compose, null=nets.NO_PARTS, scales=scales)
    nested = bound(composed, nested=("style", "group"), interval=(0.1, 1))
    away = bound(weakened, scale=2.0)
    dial = np.linspace(0, 2, nets.ROWS).astype(np.float32)
    other = bound(guidance.blend, other={"style": np.int32(1)}, amount=dial / 2)
    cases = {
        "classifier_free/everywhere": (nets.images, HEUN, free),
        "classifier_free/interval": (nets.images, HEUN, bound(free, interval=(0.2, 0.7))),
        "classifier_free/each": (nets.images, HEUN, bound(free, scale=dial)),
        "classifier_free/score": (nets.two, SDE, free),
        "classifier_free/tokens": (nets.masks, MASKED, free),
        "classifier_free/edits": (nets.edits, EDITS, free),
        "autoguidance/everywhere": (nets.images, HEUN, away),
        "autoguidance/interval": (nets.images, HEUN, bound(away, interval=(0.0, 0.5))),
        "compose/beside": (nets.parts, HEUN, composed),
        "compose/nested": (nets.parts, HEUN, nested),
        "blend/classes": (nets.images, HEUN, bound(guidance.blend, other=np.int32(0), amount=0.4)),
        "blend/parts": (nets.parts, HEUN, other),
    }
    return {
        **{name: bound(drawn, *case) for name, case in cases.items()},
        "blend_values/line": bound(blended, spherical=False),
        "blend_values/arc": bound(blended, spherical=True),
    }


def weakened(net, **options):
    """Away from the same net at half its strength."""
    weak = lambda t, x, cond=None, *, key=None: 0.5 * net(t, x, cond, key=key)  # noqa: E731
    return guidance.autoguidance(net, weak=weak, **options)


def blended(*, spherical):
    """Captions' values on the way from one to another, as a net would be given them."""
    a, b = np.random.default_rng(5).normal(size=(2, 8, 3)).astype(np.float32)
    amount = np.linspace(0, 1, 8).astype(np.float32)
    return described(jax.jit(bound(guidance.blend_values, spherical=spherical))(a, b, amount))


def drawn(fixed, sampler, guide=lambda net: net):
    """Samples by a small net, described."""
    net, params, x0, cond = fixed()
    x1, info = jax.jit(lambda p, x, c: sampler(guide(net(p)), KEY, x, c))(params, x0, cond)
    return {**described(x1, info.xs), "nfe": np.asarray(info.nfe).tolist()}


def described(x, xs=None):
    """The digest of samples and save points; mean and deviation of the samples, summed exactly."""
    arrays = jax.device_get(jax.tree.leaves((x, xs)))
    numbers = np.asarray(x, np.float64).ravel().tolist()
    if not all(map(math.isfinite, numbers)):
        raise ValueError("samples are not finite")
    mean = math.fsum(numbers) / len(numbers)
    variance = math.fsum((a - mean) ** 2 for a in numbers) / len(numbers)
    return {"samples": golden_store.digest(arrays), "mean": mean, "std": math.sqrt(variance)}
