"""Flow matching in JAX: pure functions from a laptop to a pod."""

import os
from typing import Any


def load(workdir: str | os.PathLike[str], **options: Any) -> Any:
    """A trained run for notebooks: its net, sampler, codec and data; see `fmjax.run.load`."""
    # imported here, so that `from fmjax import paths` does not load Orbax and Matplotlib
    from fmjax import run

    return run.load(workdir, **options)
