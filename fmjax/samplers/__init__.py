"""Samplers: one a file, `sampler(net, key, x0, cond, *, …) -> (x1, Info)`."""
