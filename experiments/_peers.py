"""The PyTorch sides of `throughput.py`: TorchCFM's training loop, torchdiffeq's solver."""

import json
import time
from pathlib import Path

import numpy as np


def gaussians8(n):
    """What TorchCFM's `sample_8gaussians` draws, without its Python loop over examples."""
    import torch

    angle = torch.randint(8, (n,)) * (2 * torch.pi / 8)
    centres = 5 * torch.stack([torch.cos(angle), torch.sin(angle)], dim=1)
    return centres + 0.1**0.25 * torch.randn(n, 2)


def loaded(x0, x1, batch):
    """`draw() -> (x0, x1)` through a shuffled DataLoader each, epoch after epoch."""
    from torch.utils.data import DataLoader

    def endless(rows):
        while True:
            yield from DataLoader(rows, batch_size=batch, shuffle=True, drop_last=True)

    pairs = zip(endless(x0), endless(x1), strict=True)
    return lambda: next(pairs)


def indexed(rows, batch):
    """`draw() -> (x0, x1)`: fresh noise and random rows."""
    import torch

    def draw():
        x1 = rows[torch.randint(len(rows), (batch,))]
        return torch.randn_like(x1), x1

    return draw


def training(matcher, draw, log_to, *, log_every, ema=None, optimizer=None):
    """`run(steps) -> steps per second` of TorchCFM's 2-D tutorial with a log, and its size.

    `draw() -> (x0, x1)`; `ema`: the decay of an average of the parameters.
    """
    import torch
    from torchcfm.models import MLP

    net = MLP(dim=2, time_varying=True, w=64)
    optimizer = (optimizer or torch.optim.Adam)(net.parameters(), lr=1e-3)
    average = ema and torch.optim.swa_utils.AveragedModel(
        net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(ema)
    )
    step = 0

    def run(steps):
        with Path(log_to).open("a") as log:
            return timed(steps, log)

    def timed(steps, log):
        nonlocal step
        began = time.perf_counter()
        for _ in range(steps):
            optimizer.zero_grad()
            t, xt, ut = matcher.sample_location_and_conditional_flow(*draw())
            loss = torch.mean((net(torch.cat([xt, t[:, None]], dim=-1)) - ut) ** 2)
            loss.backward()
            optimizer.step()
            if average:
                average.update_parameters(net)
            step += 1
            if step % log_every == 0:
                log.write(json.dumps({"step": step, "loss": loss.item()}) + "\n")
                log.flush()
        return steps / (time.perf_counter() - began)

    run(log_every)  # warms up
    return run, sum(p.numel() for p in net.parameters())


def dopri5(params, x0, tolerance):
    """`run() -> (seconds, NFE, x1)` of torchdiffeq's Dopri5 on the same network and points."""
    import torch
    import torchdiffeq
    from torchcfm.models import MLP

    net = MLP(dim=2, time_varying=True, w=64)
    layers = [layer for layer in net.net if isinstance(layer, torch.nn.Linear)]
    with torch.no_grad():
        for i, layer in enumerate(layers):
            layer.weight.copy_(torch.from_numpy(np.array(params[f"layer_{i}"]["kernel"]).T))
            layer.bias.copy_(torch.from_numpy(np.array(params[f"layer_{i}"]["bias"])))
    x0, calls = torch.from_numpy(np.array(x0)), 0

    def field(t, x):
        nonlocal calls
        calls += 1
        return net(torch.cat([x, t.repeat(x.shape[0])[:, None]], dim=-1))

    def run():
        nonlocal calls
        calls, began = 0, time.perf_counter()
        with torch.no_grad():
            x1 = torchdiffeq.odeint(
                field, x0, torch.tensor([0.0, 1.0]), rtol=tolerance, atol=tolerance, method="dopri5"
            )[-1]
        return time.perf_counter() - began, calls, x1.numpy()

    run()
    return run


def best_threads(measure, choices=(1, 2)):
    """The better number of PyTorch's threads by `measure()` (higher is better), now set."""
    import torch

    found = {}
    for n in choices:
        torch.set_num_threads(n)
        found[n] = max(measure() for _ in range(3))
    best = max(found, key=found.get)
    torch.set_num_threads(best)
    return best
