"""Tables of experiments, as Markdown: a dict a row, means with their spread over seeds."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np


def markdown(rows: Sequence[Mapping[str, object]]) -> str:
    """A table whose columns are the keys of the first row; numbers right of their text."""
    columns = list(rows[0])
    lines = [columns, ["---" for _ in columns]]
    lines += [[written(row.get(name, "")) for name in columns] for row in rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"


def written(value: object) -> str:
    """Four digits of a number that is no whole one."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def over_seeds(values: Iterable[float], digits: int = 3) -> str:
    """Mean ± standard deviation, the latter only where there are several."""
    values = np.asarray(list(values), np.float64)
    mean = f"{values.mean():.{digits}f}"
    return f"{mean} ± {values.std(ddof=1):.{digits}f}" if len(values) > 1 else mean
