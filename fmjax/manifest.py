"""A manifest is the SHA-256 of every file of a checkpoint; one without it is not finished.

Files only: nothing here knows of arrays, devices or Orbax, but for the name of its temporary
folders.
"""

import contextlib
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from etils import epath

VERSION = 1  # of the manifest, and of what it vouches for
MANIFEST = "manifest.json"


class CheckpointError(RuntimeError):
    """A checkpoint cannot be read: which one, why, and the remedy."""


def write(step: int, folder: epath.Path, metrics: Mapping[str, float]) -> None:
    """Hashes every file of the folder; from here on it is finished."""
    files = {name: _digest(path) for name, path in sorted(_files(folder))}
    manifest = {"version": VERSION, "step": step, "metrics": dict(metrics), "files": files}
    draft = folder / f"{MANIFEST}.draft"
    draft.write_text(json.dumps(manifest, indent=1))
    draft.replace(folder / MANIFEST)


def remove(folder: epath.Path) -> None:
    """Removes a checkpoint, its manifest first: half removed is unfinished."""
    (folder / MANIFEST).unlink(missing_ok=True)
    folder.rmtree()


def metric(folder: epath.Path, name: str) -> float:
    """A metric that the checkpoint was saved with; NaN where it has none of that name."""
    return _manifest(folder).get("metrics", {}).get(name, math.nan)


def undamaged(directory: epath.PathLike) -> list[int]:
    """The steps of the finished, undamaged checkpoints, ascending. Reads every byte of them."""
    found = folders(directory)
    return [step for step, at in found if is_finished(at) and fault(step, at) is None]


def folders(directory: epath.PathLike) -> list[tuple[int, epath.Path]]:
    """Every step with its folder, ascending, Orbax's temporary "7.orbax-checkpoint-tmp" too."""
    path, found = epath.Path(directory).expanduser().resolve(), []
    for folder in path.iterdir() if path.exists() else ():
        with contextlib.suppress(ValueError):
            found.append((int(folder.name.split(".orbax-checkpoint-tmp")[0]), folder))
    return sorted(found)


def is_finished(folder: epath.Path) -> bool:
    """Whether the save of this folder was completed."""
    return (folder / MANIFEST).exists()


def _files(folder: epath.Path, prefix: str = "") -> Iterator[tuple[str, epath.Path]]:
    for path in folder.iterdir():
        if path.is_dir():
            yield from _files(path, f"{prefix}{path.name}/")
        else:
            yield prefix + path.name, path


def _digest(path: epath.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _manifest(folder: epath.Path) -> dict[str, Any]:
    try:
        return json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError):
        return {}


def fault(step: int, folder: epath.Path) -> str | None:
    """What is wrong with a checkpoint, None where nothing is."""
    manifest = _manifest(folder)
    version = manifest.get("version", 0)
    if version > VERSION:
        raise CheckpointError(
            f"{folder} has format version {version}; this fmjax reads up to {VERSION}: update it."
        )
    if (version, manifest.get("step")) != (VERSION, step) or "files" not in manifest:
        return f"{MANIFEST} is unreadable or another's"
    for name, digest in manifest["files"].items():
        try:
            if _digest(folder / name) != digest:
                return f"the SHA-256 of {name} differs"
        except OSError as error:
            return f"{name} cannot be read: {error}"
    return None


def choose(directory: epath.PathLike, step: int | None, say: Callable[[str], None]) -> int | None:
    """`step`, or the newest undamaged one; None where none (or not `step`) was ever finished."""
    faults = {}
    for found, folder in reversed(folders(directory)):
        if step not in (None, found):
            continue
        if not is_finished(folder):
            say(f"{folder} is unfinished (a save was interrupted) and ignored.")
            continue
        why = fault(found, folder)
        if why is None:
            return found
        faults[found] = why
        say(f"{folder} is damaged ({why}); looking for the one before.")
    if faults:
        raise CheckpointError(
            f"no undamaged checkpoint in {directory}: {faults}. Bring one back from a copy, "
            "or choose another directory."
        )
    return None
