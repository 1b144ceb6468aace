"""A checkpoint is what Orbax wrote in `<directory>/<step>`, with a manifest of SHA-256 hashes.

The manifest is written last, after Orbax has committed, and verified before anything is read:
Orbax loads a flipped byte without complaint. So a folder without a manifest is an unfinished
save, whatever stopped it, and one whose hashes differ is damaged; neither is ever loaded.
Every process calls every function here, on a directory that all of them see.
"""

import contextlib
import logging
import math
from collections.abc import Callable, Mapping
from concurrent import futures
from typing import Any

import jax
import numpy as np
from etils import epath
from jax.experimental import multihost_utils
from orbax.checkpoint import v1 as ocp

from fmjax import manifest
from fmjax.manifest import CheckpointError as CheckpointError
from fmjax.types import Params

DISK_FULL = ("No space left", "quota exceeded", "File too large")

# Orbax logs a failed save as several tracebacks before it raises it.
logging.getLogger("absl").addFilter(lambda record: "orbax" not in record.pathname)


class SaveError(CheckpointError):
    """A checkpoint could not be saved. Those before it are whole."""


def steps(directory: epath.PathLike) -> list[int]:
    """The steps of the finished, undamaged checkpoints, ascending. Reads every byte of them."""
    return manifest.undamaged(directory)


def load(
    directory: epath.PathLike,
    *,
    step: int | None = None,
    ema: str | None = None,
    like: Params | None = None,
    say: Callable[[str], None] = print,
) -> Params:
    """`params`, or `ema[ema]`, of the newest undamaged checkpoint (or of `step`) and nothing else.

    `like`, of arrays or `jax.ShapeDtypeStruct`s, gives structure and shardings. Without it no
    model is needed, but NamedTuples return as dicts and tuples as lists, on one local device.
    """
    folder, saved, prefix = _weights(directory, step, ema, say)
    if like is None:
        like = saved
        for part in prefix.split("/"):
            like = like[part]
        # Without the shardings it was saved in, whose devices may not exist here.
        like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), like)
    _require_equal(folder, _named(like), _named(saved, prefix))
    return _read(folder, saved, like, prefix)


def init_from(
    params: Params,
    directory: epath.PathLike,
    *,
    step: int | None = None,
    ema: str | None = None,
    say: Callable[[str], None] = print,
) -> tuple[Params, list[str], list[str]]:
    """`params`, each array replaced that the checkpoint has by its name and in its shape.

    Then the names of the arrays that were loaded, and of those left fresh. Dtypes and shardings
    stay those of `params`. Nothing in common is an error.
    Not for resuming: optimizer, EMA and step stay behind (`Store.restore` brings them).
    """
    folder, saved, prefix = _weights(directory, step, ema, say)
    ours, theirs = _named(params), _named(saved, prefix)
    same = {name: x for name, x in ours.items() if name in theirs and theirs[name].shape == x.shape}
    if not same:
        raise CheckpointError(
            f"no array of {folder} has the name and shape of one of this model's. "
            f"Stored: {list(theirs)[:4]}. Wanted: {list(ours)[:4]}."
        )
    merged = ours | _read(folder, saved, same, prefix)
    filled = jax.tree.unflatten(jax.tree.structure(params), merged.values())
    return filled, list(same), [name for name in ours if name not in same]


class Store:
    """Saves and restores the states of one run; a context manager, whose end finishes the saves.

    Kept are the newest `keep_last` and the `keep_best` with the lowest ("min") or highest ("max")
    finite metric `best`. One is deleted only after a newer one is complete with its manifest.
    `say` is told of what was unfinished or damaged. The directory is the store's own: a save
    clears away numbered folders that no save finished.
    """

    def __init__(
        self,
        directory: epath.PathLike,
        *,
        keep_last: int = 2,
        keep_best: int = 0,
        best: str = "loss",
        best_mode: str = "min",
        say: Callable[[str], None] = print,
    ) -> None:
        if keep_last < 1 or keep_best < 0 or best_mode not in ("min", "max"):
            raise ValueError(
                "keep_last must be at least 1, keep_best at least 0 and best_mode 'min' or 'max'; "
                f"got {keep_last}, {keep_best} and {best_mode!r}."
            )
        self._directory, self._say = _writable(directory), say
        self._last, self._count = keep_last, keep_best
        self._best, self._sign = best, 1 if best_mode == "min" else -1
        finished = [
            step for step, folder in manifest.folders(directory) if manifest.is_finished(folder)
        ]
        self._newest = max(finished, default=None)
        self._ours = False  # whether `_newest` was saved or restored here
        self._pool = futures.ThreadPoolExecutor(1)
        self._pending: tuple[int, futures.Future[None]] | None = None

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        try:
            self.wait()
        except SaveError as failure:
            if error is None:
                raise
            self._say(str(failure))  # the error that ended the block is the one to see
        finally:
            self._pool.shutdown()

    def save(self, step: int, state: Any, metrics: Mapping[str, float] | None = None) -> None:
        """Begins to save; `state` may be donated at once. First waits for the save in flight.

        Saving the step that was saved or restored last does nothing. Raises `SaveError`, also
        for the save before it, and for a step that is not after those of the directory.
        """
        self.wait()
        if step == self._newest and self._ours:
            return
        if self._newest is not None and step <= self._newest:
            raise SaveError(
                f"{self._directory} holds step {self._newest} already, so step {step} is not "
                "saved: restore first, or choose another directory."
            )
        if self._count and metrics is not None and self._best not in metrics:
            raise SaveError(f"no metric {self._best!r} to rank by; there are {sorted(metrics)}.")
        if len({name.replace("/", ".") for name in _named(state)}) < len(jax.tree.leaves(state)):
            # Orbax would store the one over the other, silently.
            raise SaveError("two arrays have one name where '.' and '/' are alike: rename one.")
        numbers = {name: float(value) for name, value in (metrics or {}).items()}
        try:
            self._remove(lambda other, folder: other == step or not manifest.is_finished(folder))
            response = ocp.save_async(self._directory / str(step), state)
        except Exception as error:
            raise self._failed(step, error) from error
        self._pending = step, self._pool.submit(self._commit, step, response, numbers)

    def wait(self) -> None:
        """Returns when the save in flight is complete with its manifest; raises `SaveError`."""
        if self._pending is None:
            return
        (step, future), self._pending = self._pending, None
        try:
            future.result()
        except Exception as error:
            raise self._failed(step, error) from error
        self._newest, self._ours = step, True

    def restore(self, like: Any) -> tuple[int, Any] | None:
        """`(step, state)` of the newest undamaged checkpoint; None where none was finished.

        `like` has the names, shapes and dtypes of what was saved, and the shardings wanted now
        (`jax.ShapeDtypeStruct` or arrays). All damaged, or another structure: `CheckpointError`.
        """
        self.wait()
        step = _agreed(lambda: manifest.choose(self._directory, None, self._say))
        if step is not None:
            folder = self._directory / str(step)
            saved = ocp.metadata(folder).metadata
            _require_equal(folder, _named(like), _named(saved))
            restored = step, _read(folder, saved, like)
        self._newest, self._ours = step, True
        return None if step is None else restored

    def _commit(self, step: int, response: Any, metrics: dict[str, float]) -> None:
        response.result()
        if jax.process_index() != 0:
            return
        manifest.write(step, self._directory / str(step), metrics)
        # What is finished beyond this step is what `restore` found damaged.
        found = [
            (s, f)
            for s, f in manifest.folders(self._directory)
            if s <= step and manifest.is_finished(f)
        ]
        scores = [(self._sign * manifest.metric(f, self._best), s) for s, f in found]
        ranked = sorted(score for score in scores if math.isfinite(score[0]))
        kept = {s for s, _ in found[-self._last :]} | {s for _, s in ranked[: self._count]}
        self._remove(lambda other, _: other not in kept)

    def _remove(self, which: Callable[[int, epath.Path], bool]) -> None:
        for step, folder in manifest.folders(self._directory) if jax.process_index() == 0 else ():
            if which(step, folder):
                manifest.remove(folder)

    def _failed(self, step: int, error: Exception) -> SaveError:
        with contextlib.suppress(OSError):
            self._remove(lambda _, folder: not manifest.is_finished(folder))
        full = any(text in str(error) for text in DISK_FULL)
        return SaveError(
            f"{'disk full' if full else 'failed'} while saving step {step} in {self._directory} "
            f"({error}). The last good checkpoint is step {self._newest}. "
            f"{'Free space' if full else 'Remove the cause'} and run the same command again."
        )


def _writable(directory: epath.PathLike) -> epath.Path:
    path = epath.Path(directory).expanduser().resolve()
    probe = path / f".writable-{jax.process_index()}"
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        raise SaveError(
            f"cannot write checkpoints to {path}: {error}. Choose a directory you may write to."
        ) from error
    return path


def _agreed(decide: Callable[[], int | None]) -> int | None:
    """`decide()` of process 0, in every process; where it fails there, all fail."""
    if jax.process_count() == 1:
        return decide()
    found, step, failure = 0, 0, CheckpointError("process 0 says which checkpoint failed, and why.")
    if jax.process_index() == 0:
        try:
            answer = decide()
            found, step = int(answer is not None), answer or 0
        except CheckpointError as error:
            found, failure = -1, error
    found, step = map(int, multihost_utils.broadcast_one_to_all(np.asarray([found, step])))
    if found < 0:
        raise failure
    return step if found else None


def _weights(
    directory: epath.PathLike, step: int | None, ema: str | None, say: Callable[[str], None]
) -> tuple[epath.Path, Any, str]:
    """The folder of the checkpoint, its tree of metadata, and the name its weights are under."""
    chosen = _agreed(lambda: manifest.choose(directory, step, say))
    if chosen is None:
        wanted = "checkpoint" if step is None else f"step {step}"
        raise CheckpointError(f"no finished {wanted} in {directory}; steps: {steps(directory)}.")
    folder = epath.Path(directory).expanduser().resolve() / str(chosen)
    saved = ocp.metadata(folder).metadata
    prefix = "params" if ema is None else f"ema/{ema}"
    if not _named(saved, prefix):
        decays = sorted({name.split("/")[0] for name in _named(saved, "ema")})
        raise CheckpointError(f"{folder} has no {prefix}; the decays of its EMA are {decays}.")
    return folder, saved, prefix


def _named(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Leaves by name ("enc/w"), NamedTuples like dicts; those under a prefix, without it."""
    leaves = {
        "/" + jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
    start = f"/{prefix}/" if prefix else "/"
    return {
        name[len(start) :]: leaf for name, leaf in leaves.items() if f"{name}/".startswith(start)
    }


def _read(folder: epath.Path, saved: Any, like: Any, prefix: str = "") -> Any:
    """`like`, filled from what is saved under `prefix`; nothing else is read from the disk."""
    local = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    wanted = {
        f"{prefix}/{name}".strip("/"): jax.ShapeDtypeStruct(
            x.shape, x.dtype, sharding=getattr(x, "sharding", None) or local
        )
        for name, x in _named(like).items()
    }
    # Orbax wants the whole tree, with a placeholder at every leaf that is not to be read.
    plan = [wanted.get(name, ocp.PLACEHOLDER) for name in _named(saved)]
    try:
        loaded = ocp.load(folder, jax.tree.unflatten(jax.tree.structure(saved), plan))
    except Exception as error:
        raise CheckpointError(f"Orbax cannot read {folder}, which is undamaged: {error}") from error
    arrays = _named(loaded)
    return jax.tree.unflatten(jax.tree.structure(like), [arrays[name] for name in wanted])


def _require_equal(folder: epath.Path, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    wanted, stored = (
        {f"{name} {np.dtype(x.dtype).name}{list(x.shape)}" for name, x in tree.items()}
        for tree in (ours, theirs)
    )
    if wanted != stored:
        raise CheckpointError(
            f"{folder} is undamaged but holds another state. Only there: "
            f"{sorted(stored - wanted)[:4]}. Only here: {sorted(wanted - stored)[:4]}. "
            "Use the model and optimizer it was saved with."
        )
