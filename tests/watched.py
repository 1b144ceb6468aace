"""A codec with weights that notes, whenever a program uses it, if they are its argument."""

from pathlib import Path

import jax
import numpy as np

from fmjax import codecs


def codec(seen=None):
    """z = x, times a weight of 1. `seen` gets (what was called, were the weights traced)."""
    seen = [] if seen is None else seen

    def make(weight):
        def called(name, x):
            if isinstance(x, jax.core.Tracer):
                seen.append((name, isinstance(weight, jax.core.Tracer)))
            return x * weight

        return codecs.Codec(lambda x: called("encode", x), lambda z: called("decode", z))

    return codecs.with_arrays(make, np.float32(1), depends_on="watched")


RUNS = []


def of_a_run():
    """For configs: what is seen is in `RUNS`."""
    return codec(RUNS)


def of_a_file(*, file):
    """z = x times the number in a file, which may change as a run's newest checkpoint does."""
    text = Path(file).read_text()

    def make(weight):
        return codecs.Codec(lambda x: x * weight, lambda z: z / weight)

    return codecs.with_arrays(make, np.float32(text), depends_on=f"the number {text}")
