"""Opening TFDS data sets without TensorFlow: prepare once, then read ArrayRecord files."""

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tensorflow_datasets as tfds

from fmjax import digests
from fmjax.data import _common
from fmjax.types import Batch

# A TFDS name ("mnist", "mnist:3.0.1") or a builder class: `builder(data_dir=…)`.
Builder = str | Callable[..., Any]


def opened(builder: Builder, *, data_dir: str | os.PathLike[str], prepare: bool) -> Any:
    """The TFDS builder of a prepared set, preparing it first where `prepare` allows it.

    FileNotFoundError: it is not prepared and `prepare` is False. ValueError: it was prepared in
    another format than ArrayRecord, which only TensorFlow reads.
    """
    made = _make(builder, data_dir)
    if not _is_prepared(made):
        if not prepare:
            raise FileNotFoundError(
                f"data set {made.name!r} is not prepared in {made.data_path}; run "
                "'python launch.py --config=... --mode=prepare', or point --config.data_dir at "
                "the directory that holds it"
            )
        _prepare(builder, Path(data_dir), Path(made.data_path))
        made = _make(builder, data_dir)
    file_format = made.info.file_format
    if file_format != tfds.core.FileFormat.ARRAY_RECORD:
        raise ValueError(
            f"data set {made.name!r} in {made.data_path} is in the format {file_format.value}; "
            "expected array_record. Prepare it again in another directory: "
            f"tfds build {made.name} --data_dir=... --file_format=array_record"
        )
    return made


def _make(builder: Builder, data_dir: str | os.PathLike[str]) -> Any:
    path = os.path.expanduser(os.fspath(data_dir))
    if isinstance(builder, str):
        return tfds.builder(builder, data_dir=path)
    return builder(data_dir=path)


def _is_prepared(made: Any) -> bool:
    return (Path(made.data_path) / "dataset_info.json").exists()


def _prepare(builder: Builder, data_dir: Path, final: Path) -> None:
    """Prepare beside `final`, then rename: processes that race each do so, and one wins.

    TFDS alone is not enough: there the losers crash, and its temporary names come from `random`,
    which forked processes share.
    """
    data_dir = data_dir.expanduser()
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        temporary = tempfile.mkdtemp(prefix=".preparing-", dir=data_dir)
    except OSError as error:
        raise OSError(
            f"cannot write to the data directory {data_dir}: {error}. "
            "Name a writable one with --config.data_dir=..."
        ) from error
    tfds.display_progress_bar(sys.stderr.isatty())
    try:
        made = _make(builder, temporary)
        # TFDS prints the temporary name, which would mislead; its progress bars are on stderr
        with contextlib.redirect_stdout(None):
            made.download_and_prepare(
                file_format="array_record", download_dir=os.fspath(data_dir / "downloads")
            )
        final.parent.mkdir(parents=True, exist_ok=True)
        _rename(Path(made.data_path), final)
    except ImportError as error:
        raise ImportError(
            f"preparing {final.parent.name!r} needs a package that is not installed. Several TFDS "
            "sets need TensorFlow to be prepared, none to be read: where it is installed, run "
            "'tfds build NAME --data_dir=... --file_format=array_record'"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _rename(made: Path, final: Path) -> None:
    try:
        os.rename(made, final)
    except OSError:
        # another process was first; its files are as good as ours
        if not (final / "dataset_info.json").exists():
            raise


def splits_of(made: Any, splits: Mapping[str, str] | None) -> dict[str, Any]:
    """The data source of each split; `splits` maps names to TFDS slices ('train[:90%]')."""
    wanted = _wanted(made, splits)
    return {name: made.as_data_source(split=wanted[name]) for name in wanted}


def _wanted(made: Any, splits: Mapping[str, str] | None) -> dict[str, str]:
    return {name: name for name in made.info.splits} if splits is None else dict(splits)


def contents_of(made: Any, splits: Mapping[str, str] | None) -> Callable[[str], str]:
    """From a split's name to a digest of the set's version, the slice and its compressed files.

    By their sizes, not their times: preparing one version again writes the same rows.
    """
    wanted = _wanted(made, splits)

    def contents(split: str) -> str:
        files = sorted(map(Path, made.info.splits[wanted[split]].filepaths))
        sizes = [(file.name, file.stat().st_size) for file in files]
        return digests.rows([(made.info.full_name, str(wanted[split])), *sizes])

    return contents


def example_reader(
    made: Any, *, image: str, label: str | None, transform: Callable[[Any], Any]
) -> Callable[[Mapping[str, Any]], Batch]:
    """From a TFDS example to a `Batch` without a batch axis; ValueError: no such feature."""
    for name in filter(None, (image, label)):
        if name not in made.info.features:
            there = ", ".join(sorted(made.info.features))
            raise ValueError(f"data set {made.name!r} has no feature {name!r}; it has: {there}")

    def read(example: Mapping[str, Any]) -> Batch:
        x1 = transform(example[image])
        return Batch(x1) if label is None else Batch(x1, _common.canonical(example[label]))

    return read


def stack(examples: list[Batch]) -> Batch:
    """Examples to one batch. ValueError: their shapes differ."""
    shapes = {np.shape(example.x1): None for example in examples}
    if len(shapes) > 1:
        raise ValueError(
            f"images of one set have the shapes {', '.join(map(str, list(shapes)[:3]))}; bring "
            "them to one size with transform=dict(name='fmjax.data.resize:resized', size=…)"
        )
    return jax.tree.map(lambda *leaves: np.stack(leaves), *examples)


def classes(made: Any, label: str | None) -> dict[str, Any]:
    """`null`, `read` and `names` of a set whose label is a class; nothing for any other."""
    feature = made.info.features[label] if label else None
    if not isinstance(feature, tfds.features.ClassLabel):
        return {}
    names = tuple(feature.names)
    return {"null": np.int32(len(names)), "read": _common.class_reader(names), "names": names}


def as_float(image: Any) -> np.ndarray:
    """The image's own values as float32: scaling is the codec's."""
    return np.asarray(image, np.float32)
