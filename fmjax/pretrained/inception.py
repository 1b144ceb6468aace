"""FID's InceptionV3: TensorFlow's graph of 2015-12-05, with its weights in PyTorch's file.

Szegedy et al. 2015 (1512.00567). Three things make it FID's, and not the InceptionV3 of today's
libraries: average pooling that leaves the padding out of its mean, maximum pooling in the last
block's pooling branch, and TensorFlow 1's bilinear resizing, whose pixels have no centres.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fmjax.pretrained import _common, _features

SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
WHERE = (
    "pt_inception-2015-12-05-6726825d.pth of the releases of github.com/mseitzer/pytorch-fid, or "
    "the same file, weights-inception-2015-12-05-6726825d.pth, of github.com/toshas/torch-fidelity"
)
SIZE = 299
LAYERS = {"64": 64, "192": 192, "768": 768, "2048": 2048, "logits_unbiased": 1008, "logits": 1008}
# A branch is a list of convolutions (name, channels, window), with "same" padding but for those
# that stride; the branches of a block are joined along the channels.
Convolution = tuple[str, int, tuple[int, int]]
Branch = tuple[Convolution, ...]


class Conv(nn.Module):
    """Convolution with its folded normalisation, then ReLU. `padding`: as in TensorFlow."""

    channels: int
    window: tuple[int, int]
    stride: int = 1
    padding: str = "SAME"

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b i j k"]:
        """All windows are odd, so "SAME" pads both sides alike."""
        strides = (self.stride, self.stride)
        conv = nn.Conv(self.channels, self.window, strides, self.padding, name="conv")
        return nn.relu(conv(x))


def mean_pool(x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """The mean over 3×3 places, of those only that lie in the image."""
    return nn.avg_pool(x, (3, 3), (1, 1), "SAME", count_include_pad=False)


def max_pool(x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """The maximum over 3×3 places."""
    return nn.max_pool(x, (3, 3), (1, 1), "SAME")


def shrink(x: Float[Array, "b h w c"]) -> Float[Array, "b i j c"]:
    """The maximum over 3×3 places, every other of them, without padding."""
    return nn.max_pool(x, (3, 3), (2, 2), "VALID")


class Mixed(nn.Module):
    """Branches of convolutions side by side; a pooled branch; in the order of their channels.

    branches: a branch ends in several convolutions side by side where its last entry is a tuple
              of convolutions
    pool:     what the last branch begins with; `pooled`: the channels of its 1×1 convolution
    shrinks:  the last convolution of each branch takes every other place, without padding, and
              the pooled branch has none
    """

    branches: tuple[Any, ...]
    pool: Any = mean_pool
    pooled: int = 0
    shrinks: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b i j k"]:
        """The joined branches."""
        found = []
        for branch in self.branches:
            *body, last = branch
            h = x
            for name, channels, window in body:
                h = Conv(channels, window, name=name)(h)
            ends = last if isinstance(last[0], tuple) else (last,)
            stride, padding = (2, "VALID") if self.shrinks else (1, "SAME")
            found += [Conv(c, window, stride, padding, name=name)(h) for name, c, window in ends]
        h = self.pool(x)
        if self.pooled:
            h = Conv(self.pooled, (1, 1), name="branch_pool")(h)
        return jnp.concatenate([*found, h], axis=-1)


def _a(pooled: int) -> Mixed:
    return Mixed(
        (
            (("branch1x1", 64, (1, 1)),),
            (("branch5x5_1", 48, (1, 1)), ("branch5x5_2", 64, (5, 5))),
            (
                ("branch3x3dbl_1", 64, (1, 1)),
                ("branch3x3dbl_2", 96, (3, 3)),
                ("branch3x3dbl_3", 96, (3, 3)),
            ),
        ),
        pooled=pooled,
    )


def _b() -> Mixed:
    return Mixed(
        (
            (("branch3x3", 384, (3, 3)),),
            (
                ("branch3x3dbl_1", 64, (1, 1)),
                ("branch3x3dbl_2", 96, (3, 3)),
                ("branch3x3dbl_3", 96, (3, 3)),
            ),
        ),
        pool=shrink,
        shrinks=True,
    )


def _c(c: int) -> Mixed:
    return Mixed(
        (
            (("branch1x1", 192, (1, 1)),),
            (
                ("branch7x7_1", c, (1, 1)),
                ("branch7x7_2", c, (1, 7)),
                ("branch7x7_3", 192, (7, 1)),
            ),
            (
                ("branch7x7dbl_1", c, (1, 1)),
                ("branch7x7dbl_2", c, (7, 1)),
                ("branch7x7dbl_3", c, (1, 7)),
                ("branch7x7dbl_4", c, (7, 1)),
                ("branch7x7dbl_5", 192, (1, 7)),
            ),
        ),
        pooled=192,
    )


def _d() -> Mixed:
    return Mixed(
        (
            (("branch3x3_1", 192, (1, 1)), ("branch3x3_2", 320, (3, 3))),
            (
                ("branch7x7x3_1", 192, (1, 1)),
                ("branch7x7x3_2", 192, (1, 7)),
                ("branch7x7x3_3", 192, (7, 1)),
                ("branch7x7x3_4", 192, (3, 3)),
            ),
        ),
        pool=shrink,
        shrinks=True,
    )


def _e(pool: Any) -> Mixed:
    def ends(name: str) -> Branch:
        return (f"{name}a", 384, (1, 3)), (f"{name}b", 384, (3, 1))

    return Mixed(
        (
            (("branch1x1", 320, (1, 1)),),
            (("branch3x3_1", 384, (1, 1)), ends("branch3x3_2")),
            (
                ("branch3x3dbl_1", 448, (1, 1)),
                ("branch3x3dbl_2", 384, (3, 3)),
                ends("branch3x3dbl_3"),
            ),
        ),
        pool=pool,
        pooled=192,
    )


def _stem(channels: int, window: int, stride: int = 1, padding: str = "VALID") -> Conv:
    return Conv(channels, (window, window), stride, padding)


# In order; after a name in `ENDS` the mean over places is the layer of that many features.
BLOCKS: dict[str, Any] = {
    "Conv2d_1a_3x3": _stem(32, 3, 2),
    "Conv2d_2a_3x3": _stem(32, 3),
    "Conv2d_2b_3x3": _stem(64, 3, 1, "SAME"),
    "MaxPool_1": shrink,
    "Conv2d_3b_1x1": _stem(80, 1),
    "Conv2d_4a_3x3": _stem(192, 3),
    "MaxPool_2": shrink,
    "Mixed_5b": _a(32),
    "Mixed_5c": _a(64),
    "Mixed_5d": _a(64),
    "Mixed_6a": _b(),
    "Mixed_6b": _c(128),
    "Mixed_6c": _c(160),
    "Mixed_6d": _c(160),
    "Mixed_6e": _c(192),
    "Mixed_7a": _d(),
    "Mixed_7b": _e(mean_pool),
    "Mixed_7c": _e(max_pool),
}
ENDS = {"MaxPool_1": "64", "MaxPool_2": "192", "Mixed_6e": "768", "Mixed_7c": "2048"}


class InceptionV3(nn.Module):
    """`[b, h, w, 3]` in 0 … 255, already of 299 × 299 pixels, to `layer`, a key of `LAYERS`."""

    layer: str = "2048"

    @nn.compact
    def __call__(self, images: Float[Array, "b h w 3"]) -> Float[Array, "b dims"]:
        """The mean over places, or logits with or without their bias."""
        x = (images - 128) / 128
        for name, block in BLOCKS.items():
            x = block.clone(name=name, parent=self)(x) if isinstance(block, nn.Module) else block(x)
            if ENDS.get(name) == self.layer:
                return x.mean(axis=(1, 2))
        dense = nn.Dense(LAYERS[self.layer], use_bias=self.layer == "logits", name="fc")
        return dense(x.mean(axis=(1, 2)))


def resized(images: Float[Array, "b h w c"], size: int = SIZE) -> Float[Array, "b s s c"]:
    """Bilinear as TensorFlow 1: pixel i of n looks at i · old / n, counted from the corner.

    No centres and no antialiasing. In float32 throughout, the positions too.
    """
    for axis in (1, 2):
        old = images.shape[axis]
        place = np.arange(size, dtype=np.float32) * np.float32(old / size)
        low = place.astype(np.int32)
        high = np.minimum(low + 1, old - 1)
        shape = [1] * images.ndim
        shape[axis] = size
        weight = jnp.asarray((place - low.astype(np.float32)).reshape(shape))
        below, above = (jnp.take(images, i, axis=axis) for i in (low, high))
        images = below + (above - below) * weight
    return images


def converted(tensors: _common.Tensors, *, layer: str = "2048") -> dict[str, Any]:
    """Parameters of `InceptionV3(layer)` from the file's tensors. ValueError: other tensors."""
    taker, params = _common.Taker(tensors, "FID's InceptionV3"), {}

    def conv(name: str) -> dict[str, Any]:
        return {"conv": _features.folded(taker, f"{name}.conv", f"{name}.bn", eps=1e-3)}

    for name, block in BLOCKS.items():
        if isinstance(block, Mixed):
            params[name] = {part: conv(f"{name}.{part}") for part in _parts(block)}
        elif isinstance(block, Conv):
            params[name] = conv(name)
    classes = taker.linear("fc")
    taker.done(ignore=_features.counters(tensors))
    last = next((name for name, end in ENDS.items() if end == layer), None)
    names = list(BLOCKS)[: None if last is None else list(BLOCKS).index(last) + 1]
    kept = {name: params[name] for name in names if name in params}
    if last is not None:
        return kept
    return kept | {"fc": classes if layer == "logits" else {"kernel": classes["kernel"]}}


def _parts(block: Mixed) -> list[str]:
    """The names of a block's convolutions."""
    found = ["branch_pool"] if block.pooled else []
    for *body, last in block.branches:
        ends = last if isinstance(last[0], tuple) else (last,)
        found += [name for name, *_ in (*body, *ends)]
    return found


# Evaluators of one run that name the same extractor share it, its weights and its features.
@functools.lru_cache(maxsize=4)
def extractor(
    *,
    weights: str,
    layer: str = "2048",
    low: float | int = 0,
    high: float | int = 255,
    chunk: int = 64,
    sha256: str = SHA256,
) -> _features.Extractor:
    """Features of images by FID's network, its weights opened now.

    weights: a file, pt_inception-2015-12-05-6726825d.pth
    layer:  "2048" for FID and KID, "logits_unbiased" for the Inception Score; "64", "192", "768"
    low, high: the values in the data that are black and white; bytes always have 0 and 255
    sha256: the file's hash. Numbers from any but the published file are not called FID.

    FileNotFoundError, ValueError: no such file, or another one; the message says where to get it.
    """
    if layer not in LAYERS:
        raise ValueError(f"layer={layer!r}: expected one of {list(LAYERS)}")
    what = "The weights of FID's InceptionV3"
    found = _common.found(weights, what=what, where=WHERE, sha256=sha256)
    own = "inception" if sha256 == SHA256 else f"inception_of_{sha256[:8]}"
    return of_params(
        jax.tree.map(jnp.asarray, converted(_common.tensors(found), layer=layer)),
        name=own if layer == "2048" else f"{own}_{layer}",
        sha256=sha256,
        layer=layer,
        low=low,
        high=high,
        chunk=chunk,
    )


def of_params(
    params: Any,
    *,
    name: str,
    sha256: str,
    layer: str = "2048",
    low: float | int = 0,
    high: float | int = 255,
    chunk: int = 64,
) -> _features.Extractor:
    """The extractor of parameters that are no file's, under the `name` they deserve."""
    net = InceptionV3(layer)

    def apply(params: Any, images: Array) -> Array:
        return net.apply({"params": params}, resized(images))

    depends = {"network": "InceptionV3 of FID", "layer": layer, "size": SIZE, "sha256": sha256}
    resize = {"resize": "bilinear of TensorFlow 1", "low": low, "high": high}
    return _features.Extractor(
        name, params, apply, LAYERS[layer], depends | resize, low, high, chunk
    )
