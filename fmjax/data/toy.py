"""Distributions in the plane as pure functions of a key, and the `Data` that wraps one or two."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fmjax.data import _common
from fmjax.types import Batch, Data, PRNGKey

Draw = Callable[[PRNGKey, int], Any]


def toy(
    target: Draw,
    *,
    x0: Draw | None = None,
    null: Any = None,
    read: Callable[[str], Any] | None = None,
    names: Sequence[str] = (),
) -> Data:
    """Fresh examples at every step from `target(key, n) -> x1 or Batch`; nothing is stored.

    `x0(key, n)`, where given, draws `Batch.x0` independently of the target.
    Splits `train` and `test` are unlimited; `take` draws each from a key of its own (None: 2048
    rows), the same in every run. `names` without `read`: classes are read by their names.
    ValueError: a draw without `n` rows, or a target that brings an x0 itself.
    """

    def sample(key: PRNGKey, n: int) -> Batch:
        key_target, key_x0 = jax.random.split(key)
        drawn = target(key_target, n)
        batch = drawn if isinstance(drawn, Batch) else Batch(drawn)
        if x0 is None:
            return batch
        if batch.x0 is not None:
            raise ValueError("the target draws x0 itself; leave out x0=")
        return batch._replace(x0=x0(key_x0, n))

    splits = {"train": 0, "test": 0}

    def take(split: str, n: int | None) -> Batch:
        _common.check_split(split, splits)
        key = jax.random.key(_common.split_word(split))
        drawn = jax.jit(sample, static_argnums=1)(key, 2048 if n is None else n)
        return jax.tree.map(np.asarray, drawn)

    read = _common.class_reader(names) if names and read is None else read
    spec = _spec(sample)
    return Data(spec, splits, take, sample=sample, null=null, read=read, names=tuple(names))


def _spec(sample: Callable[[PRNGKey, int], Batch], n: int = 3) -> Batch:
    drawn = jax.eval_shape(lambda: sample(jax.random.key(0), n))
    shapes = [leaf.shape for leaf in jax.tree.leaves(drawn)]
    if not shapes or any(shape[:1] != (n,) for shape in shapes):
        raise ValueError(f"draws of {n} rows have the shapes {shapes}; expected a leading axis {n}")
    return _common.spec_of(drawn)


def gaussian(
    key: PRNGKey, n: int, *, mean: Sequence[float] = (0.0, 0.0), std: float = 1.0
) -> Float[Array, "n 2"]:
    """N(mean, std² I)."""
    return jnp.asarray(mean, jnp.float32)[None] + std * jax.random.normal(key, (n, 2))


def gaussians8_classes(
    key: PRNGKey, n: int, *, radius: float = 5.0, var: float = 0.1**0.5
) -> Batch:
    """`gaussians8` with the mode as the condition: cond int32 in 0..7, at angle 2π·cond/8."""
    key_mode, key_noise = jax.random.split(key)
    mode = jax.random.randint(key_mode, (n,), 0, 8)
    angle = mode * (2 * jnp.pi / 8)
    centre = radius * jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)
    return Batch(centre + var**0.5 * jax.random.normal(key_noise, (n, 2)), mode)


def gaussians8(
    key: PRNGKey, n: int, *, radius: float = 5.0, var: float = 0.1**0.5
) -> Float[Array, "n 2"]:
    """Eight equal modes N(c, var·I) on a circle: E x = 0, Cov x = (radius²/2 + var) I.

    The default is what TorchCFM draws (Tong et al. 2023, arXiv 2302.00482): it asks for a variance
    of 0.1, whose root it then hands on as a covariance, so that the variance is √0.1 ≈ 0.316.
    """
    return gaussians8_classes(key, n, radius=radius, var=var).x1


def moons(
    key: PRNGKey, n: int, *, noise: float = 0.2, scale: float = 3.0, shift: float = -1.0
) -> Float[Array, "n 2"]:
    """scale·(m + noise·u·(1, 1)) + shift, m on either of two half circles of radius 1, u ~ U[0, 1].

    m is (cos θ, sin θ) or (1 − cos θ, ½ − sin θ), θ ~ U[0, π]. TorchCFM's `sample_moons`: its
    noise (torchdyn's) is uniform, never negative, and the same in both coordinates, unlike
    scikit-learn's normal one; published distances differ threefold between such moons.
    """
    key_side, key_angle, key_noise = jax.random.split(key, 3)
    inner = jax.random.bernoulli(key_side, shape=(n, 1))
    angle = jax.random.uniform(key_angle, (n,), maxval=jnp.pi)
    outer = jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)
    moon = jnp.where(inner, jnp.asarray([[1.0, 0.5]]) - outer, outer)
    return scale * (moon + noise * jax.random.uniform(key_noise, (n, 1))) + shift


def checkerboard(key: PRNGKey, n: int, *, scale: float = 2.0) -> Float[Array, "n 2"]:
    """Uniform on the cells of even ⌊x/scale⌋ + ⌊y/scale⌋ among the 4×4 around the origin.

    Spans [−2·scale, 2·scale]², as in FFJORD (Grathwohl et al. 2018, arXiv 1810.01367).
    """
    key_x, key_y, key_cell = jax.random.split(key, 3)
    x = jax.random.uniform(key_x, (n,), minval=-2.0, maxval=2.0)
    lower = -2.0 * jax.random.bernoulli(key_cell, shape=(n,))
    y = jax.random.uniform(key_y, (n,)) + lower + jnp.floor(x) % 2
    return scale * jnp.stack([x, y], axis=-1)


def scurve(key: PRNGKey, n: int, *, noise: float = 0.05, scale: float = 1.0) -> Float[Array, "n 2"]:
    """scale·((sin t, sgn(t)(cos t − 1)) + noise·N(0, I)), t ~ U[−3π/2, 3π/2].

    The x-z plane of scikit-learn's `make_s_curve`.
    """
    key_place, key_noise = jax.random.split(key)
    t = jax.random.uniform(key_place, (n,), minval=-1.5 * jnp.pi, maxval=1.5 * jnp.pi)
    curve = jnp.stack([jnp.sin(t), jnp.sign(t) * (jnp.cos(t) - 1)], axis=-1)
    return scale * (curve + noise * jax.random.normal(key_noise, (n, 2)))


def spirals(key: PRNGKey, n: int, *, width: float = 0.5, noise: float = 0.1) -> Float[Array, "n 2"]:
    """±(−r cos r + u, r sin r + u')/3 + noise·N(0, I), r = 3π√U[0, 1], u, u' ~ U[0, width].

    FFJORD's two spirals of one and a half turns (Grathwohl et al. 2018, arXiv 1810.01367).
    """
    key_arm, key_radius, key_width, key_noise = jax.random.split(key, 4)
    arm = jax.random.rademacher(key_arm, (n, 1), jnp.float32)
    r = 3 * jnp.pi * jnp.sqrt(jax.random.uniform(key_radius, (n,)))
    curve = jnp.stack([-r * jnp.cos(r), r * jnp.sin(r)], axis=-1)
    curve += width * jax.random.uniform(key_width, (n, 2))
    return arm * curve / 3 + noise * jax.random.normal(key_noise, (n, 2))


def rings(
    key: PRNGKey,
    n: int,
    *,
    radii: Sequence[float] = (0.75, 1.5, 2.25, 3.0),
    noise: float = 0.08,
) -> Float[Array, "n 2"]:
    """r·(cos φ, sin φ) + noise·N(0, I), r one of `radii` with equal chances, φ ~ U[0, 2π].

    FFJORD's rings (Grathwohl et al. 2018, arXiv 1810.01367).
    """
    key_ring, key_angle, key_noise = jax.random.split(key, 3)
    radius = jax.random.choice(key_ring, jnp.asarray(radii, jnp.float32), (n, 1))
    angle = jax.random.uniform(key_angle, (n,), maxval=2 * jnp.pi)
    circle = jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)
    return radius * circle + noise * jax.random.normal(key_noise, (n, 2))


def pinwheel(
    key: PRNGKey,
    n: int,
    *,
    arms: int = 5,
    radial: float = 0.3,
    tangential: float = 0.1,
    rate: float = 0.25,
    scale: float = 2.0,
) -> Float[Array, "n 2"]:
    """`arms` Gaussians N((1, 0), diag(radial², tangential²)), each turned by −(2πk/arms + rate·eˣ).

    x is the point's own first coordinate before the turn, and all is scaled by `scale`.
    With three arms or more: E x = 0, Cov x = scale²(1 + radial² + tangential²)/2 I.
    FFJORD's pinwheel (Johnson et al. 2016, arXiv 1603.06277).
    """
    key_arm, key_point = jax.random.split(key)
    arm = jax.random.randint(key_arm, (n,), 0, arms)
    spread = jnp.asarray([[radial, tangential]]) * jax.random.normal(key_point, (n, 2))
    x, y = 1 + spread[:, 0], spread[:, 1]
    angle = arm * (2 * jnp.pi / arms) + rate * jnp.exp(x)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return scale * jnp.stack([x * cos + y * sin, y * cos - x * sin], axis=-1)
