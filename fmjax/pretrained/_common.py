"""What readers of weights share: files and their hashes, tensors by name, layers by their kind."""

import difflib
import hashlib
import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from fmjax.pretrained import _torch_files

Tensors = dict[str, np.ndarray]


def sha256_of(path: str | os.PathLike[str]) -> str:
    """The file's SHA-256, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def found(
    path: str | os.PathLike[str], *, what: str, where: str, sha256: str | None = None
) -> Path:
    """The file's path, after a look at it.

    what:   the file's content, for messages; where: its published name and place
    sha256: the hash that it must have, or the hash's beginning (None: any)

    FileNotFoundError: there is none. ValueError: it has another hash.
    """
    file = Path(path).expanduser()
    expected = f" (SHA-256 {sha256}…)" if sha256 else ""
    if not file.is_file():
        raise FileNotFoundError(f"{what}: there is no file {file}. Get {where}{expected}")
    if sha256 and not (got := sha256_of(file)).startswith(sha256):
        raise ValueError(
            f"{what}: {file} has the SHA-256 {got}, expected {sha256}…: another file, or a "
            f"damaged one. Get {where}"
        )
    return file


def tensors(path: str | os.PathLike[str]) -> Tensors:
    """The tensors in a file, by name: `.safetensors`, or what `torch.save` makes of state dicts.

    Dicts in dicts are joined by dots, and so are places in lists, from 0; what is not a tensor is
    left out. PyTorch is not needed, and of its pickles only tensors are read.
    FileNotFoundError, ValueError: no such file, or damaged.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {file} of weights")
    if file.suffix == ".safetensors":
        try:
            return load_file(file)
        except SafetensorError as error:
            raise ValueError(f"{file} is not a safetensors file, or is damaged: {error}") from error
    return _flat(_torch_files.read(file), "")


def _flat(tree: Any, prefix: str) -> Tensors:
    if isinstance(tree, np.ndarray):
        return {prefix: tree}
    children: Iterable[tuple[Any, Any]] = ()
    if isinstance(tree, Mapping):
        children = tree.items()
    elif isinstance(tree, list | tuple):
        children = enumerate(tree)
    joined = [_flat(value, f"{prefix}.{key}" if prefix else str(key)) for key, value in children]
    return {name: array for part in joined for name, array in part.items()}


class Taker:
    """Tensors that are taken one by one, so that what nobody took is noticed."""

    def __init__(self, tensors: Mapping[str, np.ndarray], what: str) -> None:
        self._left, self._what = dict(tensors), what

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def take(self, name: str, shape: tuple[int, ...] | None = None) -> np.ndarray:
        """The tensor called `name`. ValueError: there is none, or it has another shape."""
        if name not in self._left:
            near = difflib.get_close_matches(name, self._left, n=3, cutoff=0.3)
            raise ValueError(
                f"the weights of {self._what} lack {name!r}; near it: {near}. "
                "They may be those of another network, or of another release of it"
            )
        array = self._left.pop(name)
        if shape is not None and array.shape != shape:
            raise ValueError(
                f"{name!r} of {self._what} has shape {array.shape}, expected {shape}: "
                "give the network the sizes that the weights were trained with"
            )
        return array

    def linear(self, name: str) -> dict[str, np.ndarray]:
        """A dense layer, kernel `[in, out]`; from a 1×1 convolution, too."""
        weight = self.take(f"{name}.weight")
        return self._with_bias(name, weight.reshape(weight.shape[0], -1).T)

    def conv(self, name: str) -> dict[str, np.ndarray]:
        """A convolution, kernel `[*window, in, out]`."""
        return self._with_bias(name, np.moveaxis(self.take(f"{name}.weight"), (0, 1), (-1, -2)))

    def norm(self, name: str) -> dict[str, np.ndarray]:
        """A normalisation's scale and bias."""
        return {"scale": self.take(f"{name}.weight"), "bias": self.take(f"{name}.bias")}

    def _with_bias(self, name: str, kernel: np.ndarray) -> dict[str, np.ndarray]:
        layer = {"kernel": np.ascontiguousarray(kernel)}
        return layer | ({"bias": self.take(f"{name}.bias")} if f"{name}.bias" in self else {})

    def done(self, ignore: Collection[str] = ()) -> None:
        """ValueError if any tensor was not taken, but for those in `ignore`."""
        left = sorted(set(self._left) - set(ignore))
        if left:
            raise ValueError(
                f"{len(left)} tensors in the weights of {self._what} have no place in it, e.g. "
                f"{left[:5]}: they may be those of another network"
            )
