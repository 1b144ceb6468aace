"""Objectives: one a file, `loss(nets, key, batch, *, …) -> ([b], metrics of [b])`."""
