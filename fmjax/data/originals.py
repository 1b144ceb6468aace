"""Any data set with every example as its own condition: what a reconstruction is given."""

from typing import Any

from fmjax.data import _common
from fmjax.types import Batch, Data


def originals(
    *,
    data: Any,
    batch_size: int,
    seed: int = 0,
    process: tuple[int, int] = (0, 1),
    data_dir: str | None = None,
    prepare: bool = False,
) -> Data:
    """`data` with cond = x1, in data space; its own conditions go, and their names.

    data: a data set to be made here, in a config dict(bind="fmjax.data.digits:digits", …)

    For runs whose "samples" are `samplers.reconstruct`ions. A batch is twice as large on its way
    to the devices.
    """
    options = {"batch_size": batch_size, "seed": seed, "process": process}
    options |= {} if data_dir is None else {"data_dir": data_dir}
    options |= {"prepare": True} if prepare else {}  # the data's own default otherwise
    inner = _common.made("originals", data, **options)
    if inner.encoded:
        raise ValueError("originals: the data are latents already; give it the data they are of")

    def given(batch: Batch) -> Batch:
        return batch._replace(cond=batch.x1)

    return Data(
        given(inner.spec),
        inner.splits,
        _common.then(inner.take, given),
        batch=_common.then(inner.batch, given),
        sample=_common.then(inner.sample, given),
        contents=inner.contents,
    )
