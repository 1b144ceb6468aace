"""The independent coupling: everyone is paired as they come."""

from typing import Any

import jax.numpy as jnp

from fmjax.couplings import _common
from fmjax.types import PRNGKey, Rows


def independent(
    key: PRNGKey,
    x0: _common.Examples,
    x1: _common.Examples,
    cond: Any = None,
) -> Rows:
    """(i, i): x0 and x1 were drawn independently, so their order is as good as any."""
    rows = jnp.arange(x1.shape[0])
    return Rows(rows, rows)
