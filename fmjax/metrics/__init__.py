"""Evaluators: one a file, `(net, key, data, sample, *, …) -> named scalars`."""
