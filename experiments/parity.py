"""Claim: the same functions of the same arrays give the same numbers as the peers, to 1e-5.

    pip install -r experiments/requirements.txt
    python experiments/parity.py            the table; exit code 1 if a row is above its threshold
    python experiments/parity.py --write    also into docs/parity.md

Both sides compute in double precision (rows marked f32: ours in single, as that function always
does) on 17 times from 0 to 1, dyadic, so that no rounding of t enters. Where a conversion has no
value at an end, that end is left out, and the row says which times were compared. Arguments are
random and shared; every random draw of a peer is replaced by the given one.
"""

import argparse
import functools
import importlib.metadata
import platform
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

PEERS = ("torchcfm", "flow_matching", "torchdiffeq", "POT", "torch")
T = np.arange(17) / 16
RNG = np.random.default_rng(0)
X0, X1, Z = RNG.normal(size=(3, 17, 3))
W_IN, W_OUT, W_T = RNG.normal(size=(3, 8)) / 2, RNG.normal(size=(8, 3)) / 2, RNG.normal(size=8)


class Row(NamedTuple):
    """One comparison: what of the peer with what of ours, both `[…]`, at which times."""

    peer: str
    ours: str
    theirs_value: Any
    ours_value: Any
    times: str = "0 … 1"
    note: str = ""
    threshold: float = 1e-5

    @property
    def difference(self):
        """Max abs difference; infinite where shapes differ or a number is not finite."""
        a, b = (np.asarray(v, np.float64) for v in (self.theirs_value, self.ours_value))
        if a.shape != b.shape or not (np.isfinite(a).all() and np.isfinite(b).all()):
            return np.inf
        return float(np.abs(a - b).max())


def span(mask):
    """The times of a contiguous mask over T, in words."""
    t = T[mask]
    return f"{t[0]:g} … {t[-1]:g}"


def field_jax(t, x, cond=None, *, key=None):
    import jax.numpy as jnp

    t = jnp.broadcast_to(jnp.asarray(t, x.dtype), x.shape[:1])
    return jnp.tanh(x @ W_IN + t[:, None] * W_T[None]) @ W_OUT


def field_torch(x, t, **_):
    import torch

    w_in, w_out, w_t = (torch.from_numpy(w) for w in (W_IN, W_OUT, W_T))
    t = torch.as_tensor(t, dtype=x.dtype).expand(x.shape[0])
    return torch.tanh(x @ w_in + t[:, None] * w_t[None]) @ w_out


def matchers():
    """TorchCFM's conditional flow matchers against paths and bridges; their noise is our Z."""
    import jax
    import torch
    from torchcfm import conditional_flow_matching as cfm

    from fmjax import bridges, paths

    t, x0, x1, z = (torch.from_numpy(a) for a in (T, X0, X1, Z))
    sigma = 0.3

    def noisy(path, gamma, eps=1e-3):
        """Our bridge with its z replaced by Z."""
        bridge = bridges.stochastic_interpolant(path=path, gamma=gamma, eps=eps)
        normal, jax.random.normal = jax.random.normal, lambda *_: jax.numpy.asarray(Z)
        try:
            return bridge(jax.random.key(0), *(jax.numpy.asarray(a) for a in (T, X0, X1)))
        finally:
            jax.random.normal = normal

    def row(name, ours, peer, point, keep=slice(None), times="0 … 1", note=""):
        xt = peer.sample_xt(x0, x1, t, z)
        ut = peer.compute_conditional_flow(x0, x1, t, xt)
        yield Row(f"{name}.sample_xt", f"{ours} xt", xt, point.xt)
        name = f"{name}.compute_conditional_flow"
        yield Row(name, f"{ours} ut", ut[keep], point.ut[keep], times, note)

    constant = functools.partial(bridges.constant, scale=sigma)
    linear, cosine = paths.linear(), paths.cosine()
    point = paths.bridge(linear)(None, T, *(jax.numpy.asarray(a) for a in (X0, X1)))
    yield from row(
        "ConditionalFlowMatcher(0)", "paths.linear", cfm.ConditionalFlowMatcher(0.0), point
    )
    for name in ("ConditionalFlowMatcher", "ExactOptimalTransportConditionalFlowMatcher"):
        peer = getattr(cfm, name)(sigma)
        yield from row(name, "linear + bridges.constant", peer, noisy(linear, constant))
    peer = cfm.VariancePreservingConditionalFlowMatcher(sigma)
    yield from row(
        "VariancePreservingConditionalFlowMatcher", "cosine + bridges.constant", peer,
        noisy(cosine, constant),
    )  # fmt: skip
    # its noise is our x0
    point = paths.bridge(paths.linear(sigma_min=sigma))(
        None, T, *(jax.numpy.asarray(a) for a in (Z, X1))
    )
    name, peer = "TargetConditionalFlowMatcher", cfm.TargetConditionalFlowMatcher(sigma)
    yield from row(name, "paths.linear(sigma_min)", peer, point)
    point = noisy(linear, functools.partial(bridges.root, scale=sigma))
    peer = cfm.SchrodingerBridgeConditionalFlowMatcher(sigma)
    yield from row(
        "SchrodingerBridgeConditionalFlowMatcher", "bridges.brownian", peer, point,
        slice(1, -1), span(slice(1, -1)), "infinite at the ends",
    )  # fmt: skip
    yield Row(
        "SchrodingerBridgeConditionalFlowMatcher.compute_sigma_t", "bridges.root",
        peer.compute_sigma_t(t), bridges.root(jax.numpy.asarray(T), scale=sigma),
    )  # fmt: skip


def schedulers():
    """By the peer's name, its scheduler and our path."""
    from flow_matching.path import scheduler as s

    from fmjax import paths

    named = {
        "CondOTScheduler": (s.CondOTScheduler(), paths.linear()),
        "VPScheduler": (s.VPScheduler(), paths.vp()),
        "LinearVPScheduler": (s.LinearVPScheduler(), paths.linear_vp()),
        "CosineScheduler": (s.CosineScheduler(), paths.cosine()),
    }
    for n in (2, 3):
        name = f"PolynomialConvexScheduler({n})"
        named[name] = s.PolynomialConvexScheduler(n), paths.polynomial(power=float(n))
    return named


def affine_paths():
    """flow_matching's schedulers, AffineProbPath.sample and its six conversions."""
    import jax
    import torch
    from flow_matching.path import AffineProbPath

    from fmjax import paths

    t, x0, x1 = (torch.from_numpy(a) for a in (T, X0, X1))
    tj, xtj, given = (jax.numpy.asarray(a) for a in (T, X0, X1))
    rows = {"target": paths.x1, "velocity": paths.velocity, "epsilon": paths.x0}
    for name, (scheduler, path) in schedulers().items():
        peer = AffineProbPath(scheduler)
        found = peer.sample(x_0=x0, x_1=x1, t=t)
        xt, ut = paths.interpolate(path, tj, *(jax.numpy.asarray(a) for a in (X0, X1)))
        yield Row(f"{name}, AffineProbPath.sample x_t", "paths.interpolate", found.x_t, xt)
        keep = np.isfinite(np.asarray(ut)).all(axis=1)
        yield Row(
            f"{name}, AffineProbPath.sample dx_t", "paths.interpolate",
            found.dx_t[keep], ut[keep], span(keep),
        )  # fmt: skip
        for a, b in ((a, b) for a in rows for b in rows if a != b):
            keep = np.all(np.isfinite(paths.coefficients(path, tj, of=rows[a], to=rows[b])), axis=0)
            theirs = getattr(peer, f"{a}_to_{b}")(x1, x0, t[:, None])
            ours = paths.convert(path, tj, xtj, given, of=rows[a], to=rows[b])
            yield Row(f"{name}, {a}_to_{b}", "paths.convert", theirs[keep], ours[keep], span(keep))


def tokens_of_mixtures():
    """MixtureDiscreteProbPath.posterior_to_velocity and the generalised KL of its rates."""
    import jax
    import torch
    from flow_matching.loss import MixturePathGeneralizedKL
    from flow_matching.path import MixtureDiscreteProbPath
    from flow_matching.path import scheduler as s

    from fmjax import paths, tokens

    v, keep = 5, T < 1
    logits = RNG.normal(size=(keep.sum(), 3, v))
    x, x1 = RNG.integers(0, v, size=(2, keep.sum(), 3))
    t, given = torch.from_numpy(T[keep]), torch.from_numpy(logits)
    here, there = torch.from_numpy(x), torch.from_numpy(x1)
    log_m = jax.nn.log_softmax(jax.numpy.asarray(logits))
    laws = {
        "CondOTScheduler": (s.CondOTScheduler(), paths.linear()),
        "PolynomialConvexScheduler(2)": (
            s.PolynomialConvexScheduler(2.0),
            paths.polynomial(power=2.0),
        ),
    }
    for name, (scheduler, path) in laws.items():
        peer, ours = MixtureDiscreteProbPath(scheduler), tokens.mixture(path=path)
        theirs = peer.posterior_to_velocity(given, here, t[:, None, None])
        away = np.arange(v) != x[..., None]  # theirs has what leaves, too, at the place itself
        u = np.asarray(ours.rates(T[keep], x, np.exp(log_m)))[..., :v]
        yield Row(
            f"{name}, MixtureDiscreteProbPath.posterior_to_velocity", "tokens.mixture rates",
            theirs.numpy()[away], u[away], span(keep), "off the diagonal",
        )  # fmt: skip
        theirs = MixturePathGeneralizedKL(peer, reduction="none")(given, there, here, t)
        bound = ours.bound(T[keep], x, x1, log_m)
        yield Row(
            f"{name}, MixturePathGeneralizedKL", "tokens.mixture bound", theirs, bound, span(keep)
        )


def rescheduled():
    """ScheduleTransformedModel from the linear and the cosine path to every other."""
    import jax
    import torch
    from flow_matching.path.scheduler import ScheduleTransformedModel

    from fmjax import nets

    every = schedulers()
    keep = slice(1, -1)  # the peer divides by σ, or by 0 through it, at either end
    t, x = torch.from_numpy(T[keep])[:, None], torch.from_numpy(X0[keep])
    for name in ("CondOTScheduler", "CosineScheduler"):
        old, path = every[name]
        for other, (new, to) in every.items():
            peer = ScheduleTransformedModel(lambda x, t: field_torch(x, t[:, 0]), old, new)
            ours = nets.reschedule(field_jax, path=path, to=to)
            value = ours(jax.numpy.asarray(T[keep]), jax.numpy.asarray(X0[keep]))
            yield Row(
                f"ScheduleTransformedModel, {name} → {other}", "nets.reschedule",
                peer(x=x, t=t), value, span(keep), "f32; ours is finite at the ends, too",
            )  # fmt: skip


def solvers():
    """ODESolver.sample (torchdiffeq) with fixed steps and with adapted ones, both directions."""
    import diffrax
    import jax
    import torch
    from flow_matching.solver import ODESolver

    from fmjax.samplers.ode import ode

    peer, x = ODESolver(field_torch), torch.from_numpy(X0)
    for method, solver in (("euler", diffrax.Euler()), ("midpoint", diffrax.Midpoint())):
        for t0, t1 in ((0.0, 1.0), (1.0, 0.0)):
            grid = torch.tensor([t0, t1])
            theirs = peer.sample(x, step_size=1 / 8, method=method, time_grid=grid)
            options = {"solver": solver, "steps": 8, "t0": t0, "t1": t1}
            ours, _ = ode(field_jax, None, jax.numpy.asarray(X0), **options)
            yield Row(
                f"ODESolver.sample {method}, 8 steps", "samplers.ode", theirs, ours,
                f"{t0:g} → {t1:g}",
            )  # fmt: skip
    pairs = {}
    for tolerance in (1e-9, 1e-5):
        options = {"rtol": tolerance, "atol": tolerance}
        theirs = peer.sample(x, step_size=None, method="dopri5", **options).numpy()
        ours, _ = ode(field_jax, None, jax.numpy.asarray(X0), **options)
        pairs[tolerance] = theirs, np.asarray(ours)
    name = "ODESolver.sample dopri5 at tolerance"
    yield Row(f"{name} 1e-9", "samplers.ode", *pairs[1e-9], "0 → 1", "two step controls")
    truth = pairs[1e-9][1]
    theirs_off, ours_off = (np.abs(x - truth).max() for x in pairs[1e-5])
    yield Row(
        f"{name} 1e-5", "samplers.ode", *pairs[1e-5], "0 → 1",
        f"two step controls, threshold 1e-3: theirs is off by {theirs_off:.1e}, ours by "
        f"{ours_off:.1e}", 1e-3,
    )  # fmt: skip


def likelihoods():
    """ODESolver.compute_likelihood, exact and with the same Rademacher probe."""
    import diffrax
    import jax
    import torch
    from flow_matching.solver import ODESolver

    from fmjax import likelihood
    from fmjax.samplers.ode import ode

    peer, x = ODESolver(field_torch), torch.from_numpy(X1)
    probe = np.where(Z < 0, -1.0, 1.0)
    normal = torch.distributions.Normal(0.0, 1.0)
    law = lambda key, shape, dtype: jax.numpy.asarray(probe)[:, None]  # noqa: E731
    kinds = {True: likelihood.exact(), False: likelihood.hutchinson(law=law)}
    solve = functools.partial(ode, solver=diffrax.Midpoint(), steps=16)
    for exact, divergence in kinds.items():
        drawn, torch.randn_like = torch.randn_like, lambda _: torch.from_numpy(-probe)
        try:
            noise, theirs = peer.compute_likelihood(
                x, lambda x: normal.log_prob(x).sum(1), step_size=1 / 16, method="midpoint",
                exact_divergence=exact,
            )  # fmt: skip
        finally:
            torch.randn_like = drawn
        ours, info = likelihood.log_likelihood(
            field_jax, jax.random.key(0), jax.numpy.asarray(X1), divergence=divergence, solve=solve
        )
        kind = "exact" if exact else "hutchinson, same probe"
        name = f"ODESolver.compute_likelihood, {kind}"
        yield Row(f"{name}, log p", "likelihood.log_likelihood", theirs, ours, "1 → 0")
        yield Row(f"{name}, x_0", "likelihood.log_likelihood", noise, info.x0, "1 → 0")


def plans():
    """TorchCFM's OTPlanSampler (POT) against couplings, in units of a row's mass."""
    import jax
    import ot
    import torch
    from torchcfm.optimal_transport import OTPlanSampler

    from fmjax.couplings import sinkhorn
    from fmjax.couplings.exact import exact
    from fmjax.couplings.partial import partial

    n, key = 64, jax.random.key(0)
    a, b = np.random.default_rng(1).normal(size=(2, n, 2))
    cost = ((a[:, None] - b[None]) ** 2).sum(-1)

    def theirs(method, **options):
        sampler = OTPlanSampler(method, **options)
        return n * sampler.get_map(torch.from_numpy(a), torch.from_numpy(b))

    rows = exact(key, a, b)
    plan = np.zeros((n, n))
    plan[rows.x0, rows.x1] = 1
    yield Row("OTPlanSampler('exact').get_map", "couplings.exact", theirs("exact"), plan, "–")
    tight = {"threshold": 1e-9, "max_iterations": 100_000}

    def ours(epsilon, tau=(1.0, 1.0)):
        log = sinkhorn.log_plan(jax.numpy.asarray(cost), epsilon=epsilon, tau=tau, **tight)
        return n * np.exp(np.asarray(log))

    for epsilon in (0.5, 2.0):
        name = f"OTPlanSampler('sinkhorn', reg={epsilon}).get_map"
        plan = theirs("sinkhorn", reg=epsilon)
        yield Row(name, "couplings.sinkhorn", plan, ours(epsilon), "–")
    epsilon, reg_m = 0.5, 2.0
    tau = reg_m / (reg_m + epsilon)
    stop = {"stopThr": 1e-12, "numItermax": 100_000}
    plan = n * ot.unbalanced.sinkhorn_knopp_unbalanced(
        np.full(n, 1 / n), np.full(n, 1 / n), cost, epsilon, reg_m, **stop
    )
    found = ours(epsilon, (tau, tau))
    name = f"OTPlanSampler('unbalanced', reg={epsilon}, reg_m={reg_m}), POT's solver"
    yield Row(
        name, "couplings.unbalanced", n * plan / plan.sum(), n * found / found.sum(), "–",
        "both normalised, as pairs are drawn",
    )  # fmt: skip
    rows, mass = partial(key, a, b, mass=0.5), 0.5
    pairs = sorted(set(zip(rows.x0.tolist(), rows.x1.tolist(), strict=True)))
    plan = np.zeros((n, n))
    plan[tuple(np.array(pairs).T)] = 1
    found = n * ot.partial.partial_wasserstein(np.full(n, 1 / n), np.full(n, 1 / n), cost, m=mass)
    yield Row(
        "POT partial_wasserstein(m=0.5)", "couplings.partial", found, plan, "–",
        "TorchCFM's 'partial' is entropic, of the whole mass: not offered",
    )  # fmt: skip


PARTS = {
    "TorchCFM: conditional flow matchers": matchers,
    "flow_matching: schedulers, paths and conversions": affine_paths,
    "flow_matching: mixtures of tokens": tokens_of_mixtures,
    "flow_matching: change of scheduler": rescheduled,
    "flow_matching, torchdiffeq: ODE solvers": solvers,
    "flow_matching: likelihood": likelihoods,
    "TorchCFM, POT: couplings": plans,
}


def versions():
    """The versions that the table depends on, in one line."""
    named = [f"{name} {importlib.metadata.version(name)}" for name in (*PEERS, "jax", "diffrax")]
    return f"{', '.join(named)}; Python {platform.python_version()}"


def line(row):
    """A row of the table in Markdown."""
    good = "" if row.difference <= row.threshold else " **above**"
    return (
        f"| `{row.peer}` | `{row.ours}` | {row.times} | {row.difference:.1e}{good} | {row.note} |"
    )


def main(argv):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="keep the table in docs/parity.md")
    args = parser.parse_args(argv)
    try:
        import flow_matching  # noqa: F401
        import ot  # noqa: F401
        import torch
        import torchcfm  # noqa: F401
    except ImportError as error:
        sys.exit(f"{error}; pip install -r experiments/requirements.txt")
    import jax

    jax.config.update("jax_enable_x64", True)
    torch.set_default_dtype(torch.float64)
    text, rows = [f"Measured with {versions()}.", ""], []
    for title, part in PARTS.items():
        found = list(part())
        rows += found
        text += [f"## {title}", "", "| peer | fmjax | t | max abs difference | |", "|-|-|-|-|-|"]
        text += [*map(line, found), ""]
    above = [row.peer for row in rows if row.difference > row.threshold]
    text.append(f"{len(rows)} rows, {len(above)} above their threshold.")
    print("\n".join(text))
    if args.write:
        head = "# The same numbers as the peers\n\n" + __doc__.split("\n\n", 1)[1].rstrip() + "\n\n"
        (ROOT / "docs" / "parity.md").write_text(head + "\n".join(text) + "\n")
    return 1 if above else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
