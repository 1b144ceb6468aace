"""Where flow matching struggles, as pure functions of a key: fine, thin, heavy-tailed, mislabelled.

Each has one number that makes it harder; boards, gaskets and filaments have about unit variance
whatever that number is, so that only the intricacy changes. `on_board` and `on_sierpinski` say
which points lie where the density is not 0, which distances between samples hardly see.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from fmjax.types import Batch, PRNGKey

ANGLES = np.pi * (0.5 + 2 * np.arange(3) / 3)
CORNERS = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)  # of the triangle in the unit circle


def board(key: PRNGKey, n: int, *, cells: int = 8, half: float = 3**0.5) -> Float[Array, "n 2"]:
    """Uniform on every other of the `cells`² squares of [−half, half]², (0, 0) among them.

    E x = 0 and Cov x ≈ half²/3 I for even `cells` of 4 or more. `toy.checkerboard` has 4.
    """
    if cells < 2 or cells % 2:
        raise ValueError(f"cells={cells}: expected an even number of at least 2")
    key_column, key_row, key_place = jax.random.split(key, 3)
    column = jax.random.randint(key_column, (n,), 0, cells)
    row = 2 * jax.random.randint(key_row, (n,), 0, cells // 2) + column % 2
    place = jnp.stack([column, row], axis=1) + jax.random.uniform(key_place, (n, 2))
    return half * (2 * place / cells - 1)


def on_board(x: Float[Array, "n 2"], *, cells: int = 8, half: float = 3**0.5) -> Bool[Array, " n"]:
    """Whether a point is where `board` has density; half of the square's area is."""
    place = jnp.floor((x / half + 1) / 2 * cells)
    inside = jnp.all((place >= 0) & (place < cells), axis=1)
    return inside & (jnp.sum(place, axis=1) % 2 == 0)


def sierpinski(
    key: PRNGKey, n: int, *, depth: int = 4, scale: float = 6**0.5
) -> Float[Array, "n 2"]:
    """Uniform on the 3^depth triangles of the Sierpinski gasket's stage `depth` (0: a triangle).

    x = scale·(Σ_k 2^−k c_k + 2^−depth u), c_k a corner of the triangle in the unit circle, u
    uniform in it. E x = 0, Cov x = scale²(1/6 − 4^−depth/24) I. In the limit the set has the
    dimension log 3/log 2 = 1.58.
    """
    key_corner, key_place = jax.random.split(key)
    corners = jnp.asarray(CORNERS, jnp.float32)
    chosen = corners[jax.random.randint(key_corner, (n, depth), 0, 3)]
    sizes = 0.5 ** jnp.arange(1, depth + 1)[None, :, None]
    u = jax.random.uniform(key_place, (n, 2))
    u = jnp.where(jnp.sum(u, axis=1, keepdims=True) > 1, 1 - u, u)  # a square folded to a triangle
    weights = jnp.concatenate([u, 1 - jnp.sum(u, axis=1, keepdims=True)], axis=1)
    # sums, as a product of matrices may be rounded to a few bits on an accelerator
    place = jnp.sum(weights[:, :, None] * corners[None], axis=1)
    return scale * (jnp.sum(sizes * chosen, axis=1) + 0.5**depth * place)


def on_sierpinski(
    x: Float[Array, "n 2"], *, depth: int = 4, scale: float = 6**0.5
) -> Bool[Array, " n"]:
    """Whether a point is in a triangle of `sierpinski`: (3/4)^depth of the outer one's area."""
    corners = jnp.asarray(CORNERS, x.dtype)[None]
    # barycentric coordinates in the outer triangle
    b = 1 / 3 + 2 / 3 * jnp.sum(x[:, None] / scale * corners, axis=2)
    inside = jnp.all(b >= 0, axis=1)
    for _ in range(depth):  # zoom into the corner triangle that holds it, or leave by the hole
        largest = jnp.argmax(b, axis=1)
        b = 2 * b - jax.nn.one_hot(largest, 3, dtype=b.dtype)
        inside &= jnp.all(b >= 0, axis=1)
    return inside


def lissajous_curve(
    u: Float[Array, " n"], *, frequencies: Sequence[int] = (3, 4), scale: float = 2**0.5
) -> Float[Array, "n 2"]:
    """scale·(sin 2πau, sin(2πbu + π/4)): a closed curve that crosses itself, u in [0, 1]."""
    a, b = frequencies
    turn = 2 * jnp.pi * u
    return scale * jnp.stack([jnp.sin(a * turn), jnp.sin(b * turn + jnp.pi / 4)], axis=1)


def filament(
    key: PRNGKey,
    n: int,
    *,
    width: float = 0.03,
    frequencies: Sequence[int] = (3, 4),
    scale: float = 2**0.5,
) -> Float[Array, "n 2"]:
    """`lissajous_curve` at u ~ U[0, 1], plus N(0, width² I): nearly one-dimensional.

    E x = 0, Cov x = (scale²/2 + width²) I for different frequencies.
    """
    key_place, key_noise = jax.random.split(key)
    u = jax.random.uniform(key_place, (n,))
    noise = width * jax.random.normal(key_noise, (n, 2))
    return lissajous_curve(u, frequencies=frequencies, scale=scale) + noise


def student(key: PRNGKey, n: int, *, df: float = 3.0, dim: int = 2) -> Float[Array, "n dim"]:
    """z/√(χ²_df/df), z ~ N(0, I): P(|x| > r) falls as r^−df. The variance is infinite for df ≤ 2.

    The tails of several coordinates are shared: the multivariate t. Normal as df → ∞.
    """
    if df <= 0:
        raise ValueError(f"df={df}: expected a positive number of degrees of freedom")
    key_normal, key_scale = jax.random.split(key)
    chi2 = 2 * jax.random.gamma(key_scale, df / 2, (n, 1))
    return jax.random.normal(key_normal, (n, dim)) / jnp.sqrt(chi2 / df)


def moons_classes(key: PRNGKey, n: int, *, std: float = 0.05) -> Batch:
    """Two interleaved half circles of radius 1 with N(0, std² I), the moon as the condition.

    As scikit-learn's `make_moons`, centred: cond 0 is (cos θ − ½, sin θ − ¼), 1 its image under
    x → −x, θ ~ U[0, π].
    """
    key_side, key_angle, key_noise = jax.random.split(key, 3)
    side = jax.random.bernoulli(key_side, shape=(n,)).astype(jnp.int32)
    angle = jax.random.uniform(key_angle, (n,), maxval=jnp.pi)
    outer = jnp.stack([jnp.cos(angle) - 0.5, jnp.sin(angle) - 0.25], axis=1)
    moon = jnp.where(side[:, None] == 1, -outer, outer)
    return Batch(moon + std * jax.random.normal(key_noise, (n, 2)), side)


def mislabelled(
    key: PRNGKey, n: int, *, draw: Callable[[PRNGKey, int], Batch], classes: int, share: float
) -> Batch:
    """`draw`'s examples, a `share` of which has another class than its own, all others equally."""
    if not 0 <= share <= 1 or classes < 2:
        raise ValueError(f"share={share}, classes={classes}: expected 0 to 1, and at least 2")
    key_draw, key_flip, key_class = jax.random.split(key, 3)
    batch = draw(key_draw, n)
    shift = jax.random.randint(key_class, (n,), 1, classes)
    other = (batch.cond + shift) % classes
    flip = jax.random.bernoulli(key_flip, share, (n,))
    return batch._replace(cond=jnp.where(flip, other, batch.cond).astype(batch.cond.dtype))


def blurred(key: PRNGKey, n: int, *, draw: Callable[[PRNGKey, int], Any], std: float) -> Any:
    """`draw`'s examples, arrays or a `Batch`, with N(0, std² I) added to x1."""
    key_draw, key_noise = jax.random.split(key)
    drawn = draw(key_draw, n)
    batch = drawn if isinstance(drawn, Batch) else Batch(drawn)
    x1 = batch.x1 + std * jax.random.normal(key_noise, batch.x1.shape, batch.x1.dtype)
    return batch._replace(x1=x1) if isinstance(drawn, Batch) else x1
