"""The PyTorch side of `text_throughput.py`: our transformer of tokens, with our mathematics."""

import torch
from torch import nn
from torch.nn import functional


def training(size, compiled=False):
    """`run(steps)` of cross-entropy from masks with AdamW, and what it is."""
    model = TokenTransformer(size.vocabulary, size.width, size.depth, size.heads)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.01, fused=True)
    x1 = torch.randint(0, size.vocabulary, (size.batch, size.length))
    net = torch.compile(model) if compiled else model

    def run(steps):
        for _ in range(steps):
            optimizer.zero_grad()
            t = torch.rand(size.batch)
            x = torch.where(torch.rand(x1.shape) < t[:, None], x1, size.vocabulary)
            loss = functional.cross_entropy(net(t, x).flatten(0, 1), x1.flatten())
            loss.backward()
            optimizer.step()

    parameters = sum(p.numel() for p in model.parameters())
    threads = torch.get_num_threads()
    return run, f"PyTorch {torch.__version__}, {parameters} parameters, {threads} threads"


class Block(nn.Module):
    """adaLN-Zero, queries and keys normalised, then turned by their place."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.modulation = nn.Linear(width, 6 * width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.q_norm, self.k_norm = (nn.RMSNorm(width // heads, eps=1e-6) for _ in range(2))
        self.mlp_in, self.mlp_out = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x, c, cos, sin):
        b, n, width = x.shape
        parts = self.modulation(functional.silu(c))[:, None].chunk(6, dim=-1)
        shift1, scale1, gate1, shift2, scale2, gate2 = parts
        y = functional.layer_norm(x, (width,), eps=1e-6) * (1 + scale1) + shift1
        q, k, v = self.qkv(y).view(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k = (rotate(a, cos, sin) for a in (self.q_norm(q), self.k_norm(k)))
        y = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, width)
        x = x + gate1 * self.out(y)
        y = functional.layer_norm(x, (width,), eps=1e-6) * (1 + scale2) + shift2
        return x + gate2 * self.mlp_out(functional.gelu(self.mlp_in(y), approximate="tanh"))


def rotate(x, cos, sin):
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(-2)


class TokenTransformer(nn.Module):
    """Logits of each position's x1, as `fmjax.models.token_transformer` without `carry`."""

    def __init__(self, vocabulary, width, depth, heads, features=256):
        super().__init__()
        self.tokens = nn.Embedding(vocabulary + 1, width)
        self.time_in, self.time_out = nn.Linear(features, width), nn.Linear(width, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.modulation, self.output = nn.Linear(width, 2 * width), nn.Linear(width, vocabulary)
        nn.init.normal_(self.tokens.weight, std=0.02)
        for layer in (self.modulation, self.output, *(b.modulation for b in self.blocks)):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.register_buffer("frequencies", torch.logspace(0, 2, features // 2))
        pairs = width // heads // 2
        self.register_buffer("turning", 10_000.0 ** -(torch.arange(pairs) / pairs))

    def forward(self, t, x):
        angles = t[:, None] * self.frequencies
        c = torch.cat([torch.cos(angles), torch.sin(angles)], dim=-1)
        c = self.time_out(functional.silu(self.time_in(c)))
        by = torch.arange(x.shape[1])[:, None] * self.turning
        cos, sin, h = torch.cos(by), torch.sin(by), self.tokens(x)
        for block in self.blocks:
            h = block(h, c, cos, sin)
        shift, scale = self.modulation(functional.silu(c))[:, None].chunk(2, dim=-1)
        return self.output(functional.layer_norm(h, h.shape[-1:], eps=1e-6) * (1 + scale) + shift)
