"""110,000 cells by ten real measurements each, embedded in FlowCytometryTools: a table to model."""

import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from fmjax.data import _common
from fmjax.data.in_memory import in_memory
from fmjax.types import Batch, Data

INSTALL = "pip install --no-deps -r configs/requirements-nodeps.txt"
# Area and height of every detector: forward and side scatter, violet, yellow and blue laser. A
# width is their ratio and HDR-T the clock: the first has no density beside them, the second no
# meaning.
CHANNELS = ("FSC-A", "FSC-H", "SSC-A", "SSC-H", "V2-A", "V2-H", "Y2-A", "Y2-H", "B1-A", "B1-H")


def flow_cytometry(
    *,
    batch_size: int,
    seed: int = 0,
    process: tuple[int, int] = (0, 1),
    channels: Sequence[str] = CHANNELS,
    cofactor: float | int = 150.0,
    held_out: float = 0.1,
) -> Data:
    """x1 `[10]` = (arcsinh(events / `cofactor`) − mean) / sd, float32; mean and sd of `train`.

    Events of the eleven plate wells (bacteria with cyan, yellow and red fluorescent proteins, and
    mixtures), one row a cell, in random order: `train`, and `held_out` of the rows each in
    `validation` and `test`. The splits do not depend on `seed`, which orders the batches only.
    arcsinh is linear about 0, where noise makes areas negative, and logarithmic far from it; 150 is
    the usual cofactor for fluorescence. Densities are per unit of the standardised values, which
    are stored in steps of about 0.001.

    ImportError, naming the pip command: a package is missing. ValueError: no such channel.
    The wells and the reader: FlowCytometryTools (MIT), doi 10.5281/zenodo.32991; FlowIO.
    """
    if not 0 < held_out < 0.5:
        raise ValueError(f"held_out={held_out}: expected a share between 0 and 0.5")
    x = np.arcsinh(np.concatenate([_events(f, channels) for f in _files()]) / cofactor)
    x = x[_common.permutation(len(x), 0)]
    last = int(held_out * len(x))
    parts = {"train": x[2 * last :], "validation": x[last : 2 * last], "test": x[:last]}
    mean, sd = parts["train"].mean(axis=0), parts["train"].std(axis=0)
    splits = {name: Batch(((rows - mean) / sd).astype(np.float32)) for name, rows in parts.items()}
    return in_memory(splits, batch_size=batch_size, seed=seed, process=process)


def _files() -> list[Path]:
    """The wells. The package is not imported: what it imports is long gone."""
    found = importlib.util.find_spec("FlowCytometryTools")
    if found is None or found.origin is None:
        raise ImportError(f"the flow cytometry data are in a package that is missing: {INSTALL}")
    folder = Path(found.origin).parent / "tests" / "data"
    files = sorted(folder.glob("Plate0[12]/*.fcs"))
    if not files:
        raise ImportError(f"no wells in {folder}, which version 0.5.1 has: {INSTALL}")
    return files


def _events(file: Path, channels: Sequence[str]) -> Float[np.ndarray, "events channels"]:
    """The chosen columns of one file, unscaled, in float64."""
    try:
        flowio = importlib.import_module("flowio")
    except ImportError as error:
        raise ImportError(f"flowio, which reads the data, is missing: {INSTALL}") from error
    read = flowio.FlowData(str(file))
    missing = [c for c in channels if c not in read.pnn_labels]
    if missing:
        raise ValueError(f"no channel {missing[0]!r} in {file.name}; there are: {read.pnn_labels}")
    columns = [read.pnn_labels.index(c) for c in channels]
    return read.as_array(preprocess=False)[:, columns]
