"""What convolutional networks share: convolutions, group norms, attention over pixels, resampling.

Images are `[b, h, w, c]`. Two computations have a form of their own on CPUs, chosen when the
program is compiled for one: the gradient of large convolutions with respect to their kernels, and
attention over many pixels. Both go image by image, so that what they make stays in the cache.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from fmjax.models import _common

Padding = tuple[tuple[int, int], tuple[int, int]]

# PyTorch's default for kernels, uniform on ±1/√fan_in
UNIFORM = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
ZEROS = nn.initializers.zeros_init()

# below these, the usual forms are as fast and compile sooner
PIXELS, PRODUCTS, LOGITS = 128, 100_000_000, 4_000_000


def convolve(
    x: Float[Array, "b h w c"],
    kernel: Float[Array, "i j c k"],
    *,
    stride: int = 1,
    padding: Padding | None = None,
) -> Float[Array, "b y x k"]:
    """Σ x[y + i, x + j] kernel[i, j]; zeros around, (i − 1)/2 and (j − 1)/2 of them if not given.

    On CPUs, XLA takes 3 to 4 times as long for the gradient with respect to a large kernel as for
    the convolution; there it is computed image by image as one matrix product of shifted columns
    and shifted rows. Derivatives of both modes and of any order, vmap and shardings of b pass.
    """
    b, h, w, c = x.shape
    i, j, _, k = kernel.shape
    usual = padding is None or padding == _same(i, j)
    plain = usual and stride == 1 and i % 2 == 1 and j % 2 == 1 and min(i, j) > 1
    large = h * w >= PIXELS and b * h * w * i * j * c * k >= PRODUCTS
    if plain and large and x.dtype in (jnp.float32, jnp.float64):
        return _large(x, kernel)
    return _native(x, kernel, stride, _same(i, j) if padding is None else padding)


def _same(i: int, j: int) -> Padding:
    return ((i - 1) // 2, i // 2), ((j - 1) // 2, j // 2)


def _native(x: Any, kernel: Any, stride: int = 1, padding: Padding | None = None) -> Array:
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        _same(*kernel.shape[:2]) if padding is None else padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


@jax.custom_jvp
def _large(x: Any, kernel: Any) -> Array:
    return _native(x, kernel)


@functools.partial(_large.defjvp, symbolic_zeros=True)
def _large_jvp(primals: Any, tangents: Any) -> Any:
    x, kernel = primals
    parts = []
    if not isinstance(tangents[0], jax.custom_derivatives.SymbolicZero):
        parts.append(_native(tangents[0], kernel))
    if not isinstance(tangents[1], jax.custom_derivatives.SymbolicZero):
        parts.append(_in_kernel(x, tangents[1]))
    return _large(x, kernel), sum(parts[1:], parts[0])


@functools.partial(jax.checkpoint, prevent_cse=False)
def _in_kernel(x: Any, kernel: Any) -> Array:
    """`_native`, in a form whose transpose in `kernel` suits the platform."""
    return jax.lax.platform_dependent(x, kernel, cpu=_columns_and_rows, default=_native)


def _columns_and_rows(x: Any, kernel: Any) -> Array:
    """`_native`: columns of the image shifted before, rows of the result after one product.

    Transposed in the kernel: [hw, j c]ᵀ [hw, i k] for each image, summed over the images.
    """
    i, j, c, k = kernel.shape
    _, h, w, _ = x.shape
    matrix = kernel.transpose(1, 2, 0, 3).reshape(j * c, i * k)

    @functools.partial(jax.checkpoint, prevent_cse=False)
    def one(image: Any, matrix: Any) -> Array:
        around = jnp.pad(image, ((0, 0), (j // 2, j // 2), (0, 0)))
        columns = jnp.concatenate([around[:, s : s + w] for s in range(j)], axis=-1)
        out = (columns.reshape(h * w, j * c) @ matrix).reshape(h, w, i * k)
        rows = [_shift_rows(part, i // 2 - s) for s, part in enumerate(jnp.split(out, i, axis=-1))]
        return sum(rows[1:], rows[0])

    return by_image(one, x, matrix)


def _shift_rows(x: Any, by: int) -> Array:
    """Down by so many rows, zeros coming in."""
    return jax.lax.pad(x, jnp.zeros((), x.dtype), ((by, -by, 0), (0, 0, 0), (0, 0, 0)))


def by_image(f: Callable[..., Any], x: Any, shared: Any) -> Any:
    """`f(x[i], shared)` for each i in turn; in turn on each device where b is sharded over all.

    `shared` is copied for each device, so that its gradient is summed over them once, at the end.
    """
    b = x.shape[0]
    n = math.gcd(b, jax.device_count())
    turns = jnp.swapaxes(x.reshape(n, b // n, *x.shape[1:]), 0, 1)
    copies = jax.tree.map(lambda a: jnp.broadcast_to(a[None], (n, *a.shape)), shared)
    out = jax.lax.map(lambda images: jax.vmap(f)(images, copies), turns)
    return jnp.swapaxes(out, 0, 1).reshape(b, *out.shape[2:])


class Convolution(nn.Module):
    """`convolve` with a kernel `[i, i, c, features]` and a bias."""

    features: int
    window: int = 3
    stride: int = 1
    padding: Padding | None = None
    dtype: Any = None
    kernel_init: Any = UNIFORM

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b y x k"]:
        """Convolve, and add the bias."""
        shape = (self.window, self.window, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        bias = self.param("bias", ZEROS, (self.features,))
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        y = convolve(x, kernel, stride=self.stride, padding=self.padding)
        return y + bias[None, None, None]


class GroupNorm(nn.Module):
    """(x − mean)/√(variance + eps) · scale + bias, moments over pixels and channels of a group.

    In float32 at least, whatever `dtype` the result has. With channels that `groups` does not
    divide: the largest number of groups that divides both.
    """

    groups: int = 32
    eps: float = 1e-5
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Float[Array, " b *n c"]) -> Float[Array, " b *n c"]:
        """Normalise."""
        c, pixels = x.shape[-1], tuple(range(1, x.ndim - 1))
        groups = math.gcd(self.groups, c)
        scale = self.param("scale", nn.initializers.ones_init(), (c,))
        bias = self.param("bias", ZEROS, (c,))
        dtype = self.dtype or x.dtype
        h = x.astype(jnp.promote_types(x.dtype, jnp.float32))

        def moment(a: Any) -> Array:
            # sums over pixels first: they run along the channels, which are contiguous
            of_groups = jnp.mean(a, axis=pixels).reshape(-1, groups, c // groups).mean(-1)
            each = jnp.repeat(of_groups, c // groups, axis=-1)
            return jnp.expand_dims(each, pixels)

        h = h - moment(h)
        factor = jax.lax.rsqrt(moment(h * h) + self.eps)
        ones = (None,) * (x.ndim - 1)
        return (h * (factor * scale[ones]) + bias[ones]).astype(dtype)


def mixing_groups(channels: int, groups: int = 32) -> int:
    """The largest number up to `groups` of equal groups of at least 2 channels, for `GroupNorm`.

    A norm of one channel a group removes what was added to each channel before it.
    """
    shared = math.gcd(groups, channels)
    return shared if shared < channels else channels // 2


class Attention(nn.Module):
    """x + W attend(qkv(norm(x))), over the pixels of each image; W starts at zero.

    order: how the 3 c channels of `qkv` divide: "heads" first, each into its q, k and v (as in
        Ho et al. 2020), or "qkv" first, each into its heads (Dhariwal & Nichol's new order).
    """

    heads: int = 1
    order: str = "heads"
    groups: int = 32
    eps: float = 1e-5
    dtype: Any = None
    kernel_init: Any = UNIFORM
    out_init: Any = ZEROS

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Normalise, attend, project, add."""
        b, height, w, c = x.shape
        if c % self.heads:
            raise ValueError(f"{c} channels do not divide into {self.heads} heads of attention")
        pixels = x.reshape(b, height * w, c)
        h = GroupNorm(self.groups, self.eps, self.dtype, name="norm")(pixels)
        options = {"dtype": self.dtype, "kernel_init": self.kernel_init}
        qkv = _common.dense(h, 3 * c, name="qkv", **options)
        each = c // self.heads
        if self.order == "heads":
            q, k, v = jnp.split(qkv.reshape(b, -1, self.heads, 3 * each), 3, axis=-1)
        else:
            q, k, v = (a.reshape(b, -1, self.heads, each) for a in jnp.split(qkv, 3, axis=-1))
        h = attend(q, k, v).reshape(b, -1, c)
        options = {"dtype": self.dtype, "kernel_init": self.out_init}
        return x + _common.dense(h, c, name="out", **options).reshape(x.shape)


def attend(
    q: Float[Array, "b n h d"], k: Float[Array, "b n h d"], v: Float[Array, "b n h d"]
) -> Float[Array, "b n h d"]:
    """softmax(q kᵀ / √d) v for each head; of many pixels on a CPU image by image.

    There, the weights are not kept for the backward pass, but made anew.
    """
    b, n, heads, _ = q.shape
    if b * heads * n * n < LOGITS:
        return _common.attend(q, k, v)
    return jax.lax.platform_dependent(q, k, v, cpu=_attend_by_image, default=_common.attend)


def _attend_by_image(q: Any, k: Any, v: Any) -> Array:
    @functools.partial(jax.checkpoint, prevent_cse=False)
    def one(qkv: Any, _: Any) -> Array:
        q, k, v = (a[None] for a in qkv)
        return _common.attend(q, k, v)[0]

    return by_image(one, jnp.stack([q, k, v], axis=1), ())


def upsample(x: Float[Array, "b h w c"]) -> Float[Array, "b y x c"]:
    """Each pixel as 2 × 2."""
    b, h, w, c = x.shape
    wide = jnp.broadcast_to(x[:, :, None, :, None, :], (b, h, 2, w, 2, c))
    return wide.reshape(b, 2 * h, 2 * w, c)


def downsample(x: Float[Array, "b h w c"]) -> Float[Array, "b y x c"]:
    """Means of 2 × 2 pixels."""
    b, h, w, c = x.shape
    return x.reshape(b, h // 2, 2, w // 2, 2, c).mean(axis=(2, 4))


def check_images(x: Any, levels: int, patch: int = 1) -> None:
    """ValueError unless `x` is `[b, h, w, c]` whose patches halve `levels` − 1 times."""
    factor = patch * 2 ** (levels - 1)
    if x.ndim != 4:
        raise ValueError(
            f"x has shape {x.shape}; expected images [b, height, width, channels]. "
            "Reshape the data, or use fmjax.models.resmlp for other shapes."
        )
    if x.shape[1] % factor or x.shape[2] % factor:
        patches = "" if patch == 1 else f" and patch={patch}"
        raise ValueError(
            f"images of {x.shape[1]}x{x.shape[2]} cannot be halved {levels - 1} times; expected "
            f"height and width to be multiples of {factor} for {levels} multipliers{patches}. "
            "Give fewer multipliers, or pad or crop the images."
        )
