"""What a run leaves behind in numbers: metrics files, progress on the terminal, the run record."""

import hashlib
import importlib.metadata
import json
import math
import os
import platform
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.summary.writer.event_file_writer import EventFileWriter
from tqdm import tqdm

PACKAGES = ("jax", "jaxlib", "flax", "optax", "diffrax", "orbax-checkpoint", "numpy")


class Metrics:
    """Metrics as JSON lines (`metrics.jsonl`) and as TensorBoard events.

    `start`: the step a run resumes from; lines beyond it, left by a run that was killed, go.
    """

    def __init__(self, workdir: Path, start: int = 0) -> None:
        self._path = workdir / "metrics.jsonl"
        kept = [line for line in read_jsonl(self._path) if line["step"] <= start]
        write_text(self._path, "".join(json.dumps(line) + "\n" for line in kept))
        self._lines = self._path.open("a")
        self._events = EventFileWriter(str(workdir / "tensorboard"))
        session = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._events.add_event(
            event_pb2.Event(wall_time=time.time(), step=start + 1, session_log=session)
        )

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """One line of scalars at `step`; lists (one value a seed) are averaged for TensorBoard."""
        self._lines.write(json.dumps({"step": step, **values}) + "\n")
        self._lines.flush()
        scalars = [
            summary_pb2.Summary.Value(tag=tag, simple_value=_mean(value))
            for tag, value in values.items()
        ]
        summary = summary_pb2.Summary(value=scalars)
        self._events.add_event(event_pb2.Event(wall_time=time.time(), step=step, summary=summary))

    def close(self) -> None:
        """Flush everything to disk."""
        self._lines.close()
        self._events.close()


def _mean(value: Any) -> float:
    return sum(value) / len(value) if isinstance(value, list) else value


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The complete lines of a JSON-lines file; a last line cut short by a kill is left out."""
    if not path.exists():
        return []
    lines = []
    for text in path.read_text().splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines


def write_text(path: Path, text: str) -> None:
    """Write a whole file or nothing: a reader never sees half of it."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text)
    os.replace(temporary, path)


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, default=str) + "\n")


class Progress:
    """A bar on a terminal; elsewhere a line now and then (at 1 s, then ever more sparsely)."""

    def __init__(self, start: int, stop: int, *, quiet: bool = False) -> None:
        self._terminal = sys.stderr.isatty() and not quiet
        self._quiet, self._start, self._stop = quiet, start, stop
        self._bar = tqdm(
            total=stop, initial=start, disable=not self._terminal, unit="step", dynamic_ncols=True
        )
        self._began, self._next = time.monotonic(), 1.0

    def update(self, step: int, loss: float) -> None:
        """Show that `step` steps are done."""
        self._bar.n = step
        self._bar.set_postfix(loss=f"{loss:.4f}")
        elapsed = time.monotonic() - self._began
        if self._terminal or self._quiet or elapsed < self._next:
            return
        self._next = max(elapsed * 1.5, elapsed + 5)
        rate = (step - self._start) / elapsed
        left = (self._stop - step) / rate if rate else math.inf
        print(
            f"step {step}/{self._stop}  loss {loss:.4f}  {rate:.1f} steps/s  {left:.0f} s left",
            flush=True,
        )

    def close(self) -> None:
        """Leave the terminal tidy."""
        self._bar.close()


def digest(value: Any) -> str:
    """SHA-256 of a JSON value, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def environment() -> dict[str, Any]:
    """Versions and devices that a figure depends on."""
    devices = jax.devices()
    return {
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "device": devices[0].device_kind,
        "platform": devices[0].platform,
        "devices": len(devices),
        "processes": jax.process_count(),
        "cpus": os.cpu_count(),
    }


def table(rows: Mapping[str, Any]) -> str:
    """Two aligned columns; a list (one value a seed) is shown as mean ± standard deviation."""
    width = max((len(name) for name in rows), default=0)
    return "\n".join(f"  {name:<{width}}  {_show(value)}" for name, value in rows.items())


def _show(value: Any) -> str:
    if isinstance(value, list):
        mean = _mean(value)
        spread = math.sqrt(sum((v - mean) ** 2 for v in value) / max(len(value) - 1, 1))
        return f"{mean:.4g} ± {spread:.2g}  ({len(value)} seeds)"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
