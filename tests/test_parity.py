"""Numbers that the peers gave for these arrays, in double precision, rounded to 1e-6.

Recorded with flow_matching 1.0.10 (torchdiffeq 0.2.5) and torchcfm 1.0.7 (POT 0.9.7).
"""

import functools
import sys
from pathlib import Path

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fmjax import bridges, likelihood, nets, paths
from fmjax.couplings.exact import exact
from fmjax.samplers.ode import ode

X0 = jnp.array([[0.5, -1.0], [2.0, 1.0]])
X1 = jnp.array([[1.0, 3.0], [-2.0, 0.25]])
Z = jnp.array([[-0.5, 0.75], [1.5, -1.0]])
T = jnp.array([0.25, 0.75])

# x_t, u_t; then x1 (the peer's "target"), velocity, x0 ("epsilon") = X1 converted at x_t = X0
PATHS = {
    "linear": (
        paths.linear(),
        [[0.625, 0.0], [-1.0, 0.4375]], [[0.5, 4.0], [-4.0, -0.75]],
        {
            ("x1", "velocity"): [[0.666667, 5.333333], [-16.0, -3.0]],
            ("x1", "x0"): [[0.333333, -2.333333], [14.0, 3.25]],
            ("velocity", "x1"): [[1.25, 1.25], [1.5, 1.0625]],
            ("velocity", "x0"): [[0.25, -1.75], [3.5, 0.8125]],
            ("x0", "x1"): [[-1.0, -13.0], [3.333333, 1.25]],
            ("x0", "velocity"): [[-2.0, -16.0], [5.333333, 1.0]],
        },
        [[0.536782, -1.301839], [0.59127, 1.222574]],
    ),
    "polynomial": (
        paths.polynomial(power=3.0),
        [[0.507812, -0.9375], [0.3125, 0.683594]], [[0.09375, 0.75], [-6.75, -1.265625]],
        {
            ("x1", "velocity"): [[0.095238, 0.761905], [-11.675676, -2.189189]],
            ("velocity", "x1"): [[5.75, 14.75], [1.314815, 1.085648]],
            ("x0", "velocity"): [[-6.0, -48.0], [16.0, 3.0]],
        },
        [[0.079578, -0.207116], [0.494281, 1.597162]],
    ),
    "vp": (
        paths.vp(),
        [[0.557802, -0.822287], [-0.066995, 0.871074]],
        [[0.42776, 1.348027], [-7.523372, -1.466336]],
        {
            ("x1", "velocity"): [[0.42926, 1.352637], [-13.28987, -1.826014]],
            ("velocity", "x0"): [[0.366257, -1.396925], [1.924287, 0.622164]],
            ("x0", "x1"): [[-8.49383, -68.097424], [4.671161, 1.143442]],
        },
        [[0.37373, -0.843551], [1.742955, 1.55033]],
    ),
    "linear_vp": (
        paths.linear_vp(),
        [[0.734123, -0.218246], [-0.177124, 0.848938]],
        [[0.870901, 3.258199], [-4.267787, -0.883893]],
        {
            ("x1", "x0"): [[0.258199, -1.807392], [5.291503, 1.228385]],
            ("velocity", "x1"): [[1.0625, 2.5625], [0.625, 0.859375]],
            ("x0", "velocity"): [[-2.131182, -16.393547], [6.698288, 0.829381]],
        },
        [[0.67643, -1.499356], [0.893555, 0.838066]],
    ),
    "cosine": (
        paths.cosine(),
        [[0.844623, 0.224171], [-1.082392, 0.613653]],
        [[1.150668, 4.954797], [-4.104689, -1.300947]],
        {
            ("x1", "velocity"): [[1.374895, 5.751298], [-15.793853, -2.766066]],
            ("velocity", "x0"): [[0.218316, -1.654751], [1.941687, 0.235643]],
            ("x0", "x1"): [[-1.107651, -9.855767], [2.993212, 0.978839]],
        },
        [[0.861723, -1.903573], [0.045154, 0.595159]],
    ),
}  # fmt: skip

same = functools.partial(np.testing.assert_allclose, rtol=5e-6, atol=5e-6)


def field(t, x, cond=None):
    t = jnp.broadcast_to(jnp.asarray(t, x.dtype), x.shape[:1])[:, None]
    return jnp.sin(x) * (1 + t) - x**2 / 4


@pytest.mark.parametrize("name", PATHS)
def test_affine_paths_and_conversions_are_flow_matchings(name):
    path, xt, ut, conversions, _ = PATHS[name]
    found = paths.interpolate(path, T, X0, X1)
    same(found[0], xt)
    same(found[1], ut)
    for (of, to), value in conversions.items():
        of, to = getattr(paths, of), getattr(paths, to)
        same(paths.convert(path, T, X0, X1, of=of, to=to), value)


@pytest.mark.parametrize("name", PATHS)
def test_a_change_of_scheduler_is_flow_matchings(name):
    path, *_, value = PATHS[name]
    same(nets.reschedule(field, path=paths.linear(), to=path)(T, X0), value)


@pytest.mark.parametrize(
    ("path", "gamma", "x0", "xt", "ut"),
    [
        (paths.linear(), bridges.constant, X0,
         [[0.475, 0.225], [-0.55, 0.1375]], [[0.5, 4.0], [-4.0, -0.75]]),
        (paths.linear(), bridges.root, X0,
         [[0.560048, 0.097428], [-0.805144, 0.307596]],
         [[0.413397, 4.129904], [-4.259808, -0.576795]]),
        (paths.cosine(), bridges.constant, X0,
         [[0.694623, 0.449171], [-0.632392, 0.313653]],
         [[1.150668, 4.954797], [-4.104689, -1.300947]]),
    ],
    ids=["conditional", "schroedinger", "variance preserving"],
)  # fmt: skip
def test_bridges_are_torchcfms_matchers(path, gamma, x0, xt, ut, monkeypatch):
    monkeypatch.setattr(jax.random, "normal", lambda *_: Z)
    gamma = functools.partial(gamma, scale=0.3)
    point = bridges.stochastic_interpolant(path=path, gamma=gamma)(jax.random.key(0), T, x0, X1)
    same(point.xt, xt)
    same(point.ut, ut)


def test_sigma_min_is_torchcfms_target_conditional_matcher():
    xt, ut = paths.interpolate(paths.linear(sigma_min=0.3), T, Z, X1)  # its noise is the x0
    same(xt, [[-0.1625, 1.36875], [-0.7875, -0.2875]])
    same(ut, [[1.35, 2.475], [-3.05, 0.95]])


@pytest.mark.parametrize(
    ("solver", "value"),
    [
        (diffrax.Euler(), [[1.284454, -2.877349], [2.203457, 1.879226]]),
        (diffrax.Midpoint(), [[1.440307, -3.104107], [2.226735, 1.918597]]),
    ],
)
def test_fixed_steps_are_torchdiffeqs(solver, value):
    same(ode(field, None, X0, solver=solver, steps=4)[0], value)


def test_likelihood_is_flow_matchings():
    solve = functools.partial(ode, solver=diffrax.Midpoint(), steps=4)
    value, info = likelihood.log_likelihood(field, jax.random.key(0), X1, solve=solve)
    same(info.x0, [[0.28907, 13.026932], [-0.492679, 0.062416]])
    same(value, [-84.245328, -4.534847])


def test_the_exact_plan_is_torchcfms():
    a = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0], [3.0, 1.0]])
    b = np.array([[2.0, 1.0], [0.0, 1.5], [0.5, 0.5], [-1.0, 0.0]])
    rows = exact(jax.random.key(0), a, b)
    plan = {0: 3, 1: 2, 2: 1, 3: 0}
    assert dict(zip(rows.x0.tolist(), rows.x1.tolist(), strict=True)) == plan


@pytest.fixture
def parity(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "experiments"))
    import parity

    return parity


def test_a_row_above_its_threshold_is_marked(parity):
    row = functools.partial(parity.Row, "theirs", "ours", np.zeros(2))
    assert "| 5.0e-06 |" in parity.line(row(np.array([0, 5e-6])))
    for value in (np.array([0, 2e-5]), np.zeros(3), np.array([0, np.nan])):
        assert "**above**" in parity.line(row(value))
    assert parity.span(parity.T > 0.1) == "0.125 … 1"


def test_missing_peers_are_named(parity, monkeypatch):
    monkeypatch.setitem(sys.modules, "flow_matching", None)
    with pytest.raises(SystemExit, match=r"pip install -r experiments/requirements\.txt"):
        parity.main([])
