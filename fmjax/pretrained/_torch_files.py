"""Tensors of PyTorch's files, zipped (since 1.6) or not, without PyTorch.

Both are pickles that name storages of raw little-endian numbers. Only what a dict of tensors needs
is unpickled: any other class in a file is refused, as its code would run.
"""

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C
TYPES = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}


class _Storage(NamedTuple):
    dtype: Any
    key: str


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


def _tensor(storage: Any, offset: int, shape: Any, stride: Any, *_: Any) -> _Tensor:
    return _Tensor(storage, offset, tuple(shape), tuple(stride))


def _parameter(tensor: Any, *_: Any) -> Any:
    return tensor


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: Any) -> None:
        super().__init__(file)
        self.types: dict[str, Any] = {}  # of the storages named, by key

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in TYPES:
            return TYPES[name]
        allowed = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor"): _tensor,
            ("torch._utils", "_rebuild_tensor_v2"): _tensor,
            ("torch._utils", "_rebuild_parameter"): _parameter,
        }
        if (module, name) not in allowed:
            raise ValueError(
                f"holds a {module}.{name}, which is not read, as reading it would run its code. "
                "Save the state dict alone: torch.save(model.state_dict(), path)"
            )
        return allowed[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        _, dtype, key, *_ = pid
        self.types[key] = np.dtype(dtype)
        return _Storage(dtype, key)


def read(path: Path) -> Any:
    """What the file holds, tensors as numpy arrays. ValueError: not such a file, or cut short."""
    try:
        return _zipped(path) if zipfile.is_zipfile(path) else _legacy(path)
    except (pickle.UnpicklingError, EOFError, KeyError, UnicodeDecodeError, IndexError) as error:
        raise ValueError(f"{path} is not a file of PyTorch's, or is damaged: {error}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _zipped(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        (main,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
        folder = main.removesuffix("data.pkl")
        tree = _Unpickler(io.BytesIO(archive.read(main))).load()
        return _filled(tree, lambda storage: archive.read(f"{folder}data/{storage.key}"))


def _legacy(path: Path) -> Any:
    with path.open("rb") as file:
        if _Unpickler(file).load() != MAGIC:
            raise ValueError("is not a file of PyTorch's: its magic number is another")
        _Unpickler(file).load()  # the protocol's version
        _Unpickler(file).load()  # the system's sizes
        unpickler = _Unpickler(file)
        tree = unpickler.load()
        keys = _Unpickler(file).load()
        raw = {}
        for key in keys:
            count = int.from_bytes(file.read(8), "little")
            size = count * unpickler.types[key].itemsize
            raw[key] = file.read(size)
            if len(raw[key]) != size:
                raise ValueError(f"is cut short: storage {key} lacks bytes")
        return _filled(tree, lambda storage: raw[storage.key])


def _filled(tree: Any, data: Callable[[_Storage], bytes]) -> Any:
    """The dicts and lists of `tree` with arrays for tensors; what is none of them stays."""
    if isinstance(tree, Mapping):
        return {key: _filled(value, data) for key, value in tree.items()}
    # tensors and storages are tuples, too
    if type(tree) in (list, tuple):
        return type(tree)(_filled(value, data) for value in tree)
    if not isinstance(tree, _Tensor):
        return tree
    flat = np.frombuffer(data(tree.storage), np.dtype(tree.storage.dtype))
    last = tree.offset + sum((n - 1) * s for n, s in zip(tree.shape, tree.stride, strict=True))
    if 0 not in tree.shape and last >= flat.size:
        raise ValueError(f"is cut short: a tensor {tree.shape} goes beyond its storage")
    strides = tuple(s * flat.itemsize for s in tree.stride)
    view = np.lib.stride_tricks.as_strided(flat[tree.offset :], tree.shape, strides)
    return np.array(view)
