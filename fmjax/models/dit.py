"""The diffusion transformer: patches, attention, adaLN-Zero; SiT and LightningDiT by size."""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from fmjax import types
from fmjax.models import _common, _transformer
from fmjax.models._patches import patchify as patchify
from fmjax.models._patches import unpatchify as unpatchify

# width, depth, heads
SIZES = {"S": (384, 12, 6), "B": (768, 12, 12), "L": (1024, 24, 16), "XL": (1152, 28, 16)}


class _DiT(nn.Module):
    deterministic: bool
    patch: int
    width: int
    depth: int
    num_classes: _common.Classes
    block: Mapping[str, Any]
    time: Mapping[str, Any]
    rotary: bool
    registers: int
    align: Mapping[str, int] | None
    learn_sigma: bool
    column_first: bool
    dtype: Any
    remat: bool
    policy: Any

    @nn.compact
    def __call__(self, t: Any, x: Any, cond: Any, align: bool = False) -> Any:
        if x.ndim != 4:
            raise ValueError(
                f"x has shape {x.shape}; expected images [b, height, width, channels]. "
                "Reshape the data, or use fmjax.models.resmlp for other shapes."
            )
        if align and self.align is None:
            raise ValueError(
                "align=True, but the network has no head for it: build it with "
                "align=dict(layer=…, features=…)."
            )
        options = {"num_classes": self.num_classes, "dtype": self.dtype, **self.time}
        c = _common.embed(t, cond, self.width, **options)[:, None, :]
        tokens = patchify(x, self.patch)
        h, by = self.placed(tokens, x.shape[1] // self.patch, x.shape[2] // self.patch)
        block, projected = _transformer.Block, None
        if self.remat:
            block = nn.remat(block, policy=self.policy)
        for i in range(self.depth):
            h = block(self.deterministic, **self.block, name=f"block_{i}")(h, c, by)
            if self.align and i + 1 == self.align["layer"] and (align or self.is_initializing()):
                head = (self.align["features"], self.align["hidden"], self.dtype)
                projected = _transformer.Projection(*head, name="align")(h[:, self.registers :])
        norm = _transformer.norm(self.block["rms_norm"])
        outputs = tokens.shape[-1] * (1 + self.learn_sigma)
        out = _common.Head(outputs, self.dtype, norm, name="output")(h[:, self.registers :], c)
        shape = (*x.shape[:3], x.shape[3] * (1 + self.learn_sigma))
        v = unpatchify(out, self.patch, shape)[..., : x.shape[3]]
        return (v, projected) if align else v

    def placed(self, tokens: Any, rows: int, columns: int) -> tuple[Any, Any]:
        """The tokens embedded, with their places, after the registers; the rotary angles."""
        options = {"dtype": self.dtype, "kernel_init": _transformer.XAVIER, "name": "input"}
        h = _common.dense(tokens, self.width, **options)
        grid = _transformer.positions(rows, columns, self.width, column_first=self.column_first)
        h = h + jnp.asarray(grid, h.dtype)[None]
        by = None
        if self.rotary:
            turned = _transformer.angles(rows, columns, self.width // self.block["heads"])
            # registers have no place: they do not turn
            by = jnp.pad(jnp.asarray(turned), ((self.registers, 0), (0, 0)))
        if self.registers:
            shape, init = (1, self.registers, self.width), nn.initializers.normal(0.02)
            extra = self.param("registers", init, shape).astype(h.dtype)
            h = jnp.concatenate([jnp.tile(extra, (h.shape[0], 1, 1)), h], axis=1)
        return h, by


def dit(
    *,
    patch: int = 2,
    width: int = 128,
    depth: int = 6,
    heads: int = 4,
    mlp_ratio: int = 4,
    features: int = 256,
    num_classes: _common.Classes = None,
    dropout: float = 0.0,
    qk_norm: bool = False,
    rms_norm: bool = False,
    swiglu: bool = False,
    rotary: bool = False,
    registers: int = 0,
    align: Mapping[str, int] | None = None,
    frequencies: tuple[float | int, float | int] = (1.0, 100.0),
    time_init: Callable[..., Any] = nn.initializers.lecun_normal(),
    learn_sigma: bool = False,
    column_first: bool = False,
    dtype: Any = None,
    remat: bool = False,
    policy: Callable[..., Any] | None = None,
) -> types.Model:
    """A transformer on patches of images `[b, h, w, c]`; adaLN-Zero blocks, v = 0 at the start.

    dropout:   acts on the attention's output and inside the MLP
    qk_norm:   bounds the attention's logits by √(width/heads) times learned scales: use it with
               bfloat16 or in long runs that diverge
    rms_norm, swiglu: RMSNorm with a scale for LayerNorm without; a gated MLP of 2/3 the hidden
               width, which is as many parameters
    rotary:    queries and keys turned by row and column, beside the fixed positions
    registers: learned tokens without a place (Darcet et al. 2023, arXiv 2309.16588)
    align:     dict(layer=…, features=…, hidden=2048): `net(t, x, cond, align=True)` returns
               (v, an MLP of each token after that many blocks, `[b, n, features]`); the loss
               `losses.repa` fits them. Yu et al. 2024, arXiv 2410.06940
    features, frequencies, time_init: of the time's embedding: how many sines and cosines, the
               slowest and fastest angular frequency for t in [0, 1], the initial weights
    learn_sigma, column_first: SiT's 2c outputs, the second half of which is dropped, and the
               column before the row in the positions: they matter for its weights alone
    dtype:     of the computation; the parameters stay float32
    remat:     blocks are computed anew in the backward pass, but for what `policy` (one of
               `jax.checkpoint_policies`) keeps: less memory, about a third more time

    Peebles & Xie 2022, arXiv 2212.09748. The published sizes: `sit` and `lightning`.
    """
    if width % heads or width % 4:
        raise ValueError(
            f"width {width} with {heads} heads: expected a multiple of the heads and of 4 (sine "
            f"and cosine of row and column). Try width={4 * heads * max(1, width // (4 * heads))}."
        )
    if rotary and width // heads % 4:
        raise ValueError(
            f"width {width} with {heads} heads: rotary positions turn pairs by row and by column, "
            f"so a head's {width // heads} numbers should be a multiple of 4. Choose other heads."
        )
    _common.check_policy(remat, policy)
    block = {
        "heads": heads, "mlp_ratio": mlp_ratio, "dropout": dropout, "qk_norm": qk_norm,
        "rms_norm": rms_norm, "swiglu": swiglu, "dtype": dtype,
    }  # fmt: skip
    time = {"features": features, "frequencies": tuple(frequencies), "kernel_init": time_init}
    options = (
        patch, width, depth, num_classes, block, time, rotary, registers, _alignment(align, depth),
        learn_sigma, column_first, dtype, remat, policy,
    )  # fmt: skip
    return _common.model(lambda deterministic: _DiT(deterministic, *options))


def _alignment(align: Mapping[str, int] | None, depth: int) -> dict[str, int] | None:
    if align is None:
        return None
    known, found = {"layer", "features", "hidden"}, {"hidden": 2048, **align}
    if set(found) != known or not 1 <= found["layer"] <= depth:
        raise ValueError(
            f"align={dict(align)}: expected dict(layer=…, features=…, hidden=2048), the layer "
            f"from 1 to the depth, {depth}."
        )
    return found


def sit(
    *,
    size: str = "XL",
    patch: int = 2,
    num_classes: _common.Classes = 1000,
    learn_sigma: bool = True,
    **options: Any,
) -> types.Model:
    """SiT-{S, B, L, XL}/{2, 4, 8}, as its weights were trained; `options` are those of `dit`.

    `size`: S, B, L or XL. On latents `[b, 32, 32, 4]`, with 1000 classes and the absent one,
    SiT-XL/2 has 674,834,720 parameters (675 M in the paper). `pretrained.sit` reads its weights.
    Ma et al. 2024, arXiv 2401.08740. LightningDiT's changes: `lightning`.
    """
    width, depth, heads = _size(size)
    fixed = {
        "features": 256,
        # 10000^(−k/128), k = 127 … 0, for t in [0, 1]
        "frequencies": (10_000.0 ** (-127 / 128), 1.0),
        "time_init": nn.initializers.normal(0.02),
        "column_first": True,
    }
    sizes = {"patch": patch, "width": width, "depth": depth, "heads": heads}
    classes = {"num_classes": num_classes, "learn_sigma": learn_sigma}
    return dit(**{**fixed, **sizes, **classes, **options})


def lightning(
    *,
    size: str = "XL",
    patch: int = 1,
    num_classes: _common.Classes = 1000,
    qk_norm: bool = True,
    **options: Any,
) -> types.Model:
    """LightningDiT-{B, L, XL}: SiT with RMSNorm, SwiGLU, rotary positions and `qk_norm`.

    For latents of 16 × 16 × 32 at patch 1. Its block's widths and counts are the paper's; weights
    of its authors are not read here. Yao & Wang 2025, arXiv 2501.01423.
    """
    changes = {"rms_norm": True, "swiglu": True, "rotary": True, "qk_norm": qk_norm}
    sizes = {"size": size, "patch": patch, "num_classes": num_classes, "learn_sigma": False}
    return sit(**{**sizes, **changes, **options})


def _size(size: str) -> tuple[int, int, int]:
    if size not in SIZES:
        raise ValueError(f"size={size!r}: expected one of {list(SIZES)}")
    return SIZES[size]
