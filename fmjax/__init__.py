"""Flow matching in JAX: pure functions from a laptop to a pod."""

import os
from typing import Any


def load(workdir: str | os.PathLike[str], **options: Any) -> Any:
    """A trained run for notebooks: its net, sampler, codec and data; see `fmjax.inference.load`."""
    # imported here, so that `from fmjax import paths` does not load Orbax and Matplotlib
    from fmjax import inference

    return inference.load(workdir, **options)


def net(*, workdir: str | os.PathLike[str], **options: Any) -> Any:
    """The net of a trained run, e.g. the weak one of autoguidance, by its name in a config.

    It closes over its parameters: for one host.
    """
    return load(workdir, **options).net
