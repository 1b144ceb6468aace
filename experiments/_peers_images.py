"""The PyTorch sides of `image_throughput.py`: TorchCFM's U-Net, and a DiT with our mathematics."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional


def training(model, x1, classes=None):
    """`run(steps)` of flow matching with Adam, and what it is."""
    optimizer, x1 = torch.optim.Adam(model.parameters(), 1e-3), torch.from_numpy(x1)
    cond = () if classes is None else (torch.from_numpy(classes),)

    def run(steps):
        for _ in range(steps):
            optimizer.zero_grad()
            t, x0 = torch.rand(len(x1)), torch.randn_like(x1)
            xt = torch.lerp(x0, x1, t[:, None, None, None])
            loss = torch.mean((model(t, xt, *cond) - (x1 - x0)) ** 2)
            loss.backward()
            optimizer.step()

    size = sum(p.numel() for p in model.parameters())
    threads = torch.get_num_threads()
    return run, f"PyTorch {torch.__version__}, {size} parameters, {threads} threads"


def unet(rng):
    """TorchCFM's MNIST example."""
    from torchcfm.models.unet import UNetModel

    model = UNetModel(
        dim=(1, 28, 28), num_channels=32, num_res_blocks=1, num_classes=10, class_cond=True
    )
    x1 = rng.normal(size=(128, 1, 28, 28)).astype(np.float32)
    return training(model, x1, rng.integers(0, 10, 128))


def dit(rng):
    """Patches of 4, width 256, 6 blocks, 4 heads, on 32 x 32 x 3."""
    return training(DiT(), rng.normal(size=(64, 3, 32, 32)).astype(np.float32))


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.modulation = nn.Linear(width, 6 * width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp_in, self.mlp_out = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x, c):
        b, n, width = x.shape
        parts = self.modulation(functional.silu(c))[:, None].chunk(6, dim=-1)
        shift1, scale1, gate1, shift2, scale2, gate2 = parts
        y = functional.layer_norm(x, (width,), eps=1e-6) * (1 + scale1) + shift1
        q, k, v = self.qkv(y).view(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        y = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, width)
        x = x + gate1 * self.out(y)
        y = functional.layer_norm(x, (width,), eps=1e-6) * (1 + scale2) + shift2
        return x + gate2 * self.mlp_out(functional.gelu(self.mlp_in(y), approximate="tanh"))


class DiT(nn.Module):
    def __init__(self, width=256, depth=6, heads=4, patch=4, colours=3, side=8):
        super().__init__()
        self.patch, self.side = patch, side
        numbers = patch * patch * colours
        self.time_in, self.time_out = nn.Linear(256, width), nn.Linear(width, width)
        self.input = nn.Linear(numbers, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.modulation, self.output = nn.Linear(width, 2 * width), nn.Linear(width, numbers)
        self.register_buffer("positions", torch.randn(side * side, width))
        self.register_buffer("frequencies", torch.logspace(0, 2, 128))

    def forward(self, t, x):
        b, colours = x.shape[:2]
        angles = t[:, None] * self.frequencies
        c = torch.cat([torch.cos(angles), torch.sin(angles)], dim=-1)
        c = self.time_out(functional.silu(self.time_in(c)))
        s, p = self.side, self.patch
        tokens = x.view(b, colours, s, p, s, p).permute(0, 2, 4, 3, 5, 1).reshape(b, s * s, -1)
        h = self.input(tokens) + self.positions
        for block in self.blocks:
            h = block(h, c)
        shift, scale = self.modulation(functional.silu(c))[:, None].chunk(2, dim=-1)
        h = functional.layer_norm(h, h.shape[-1:], eps=1e-6) * (1 + scale) + shift
        out = self.output(h).view(b, s, s, p, p, colours)
        return out.permute(0, 5, 1, 3, 2, 4).reshape(x.shape)
