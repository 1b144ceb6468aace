"""What things are made of, the same in every process and on every Python: what names a cache."""

import dataclasses
import functools
import hashlib
import os
import sys
import types
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import jax
import numpy as np


def arrays(tree: Any) -> str:
    """SHA-256 of a tree of arrays: values, shapes, types and places."""
    found = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.ascontiguousarray(leaf)
        found.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape} ".encode())
        found.update(array.reshape(-1).view(np.uint8))  # no copy, and not every type has a buffer
    return found.hexdigest()


def rows(table: Iterable[tuple[Any, ...]]) -> str:
    """SHA-256 of rows of words and whole numbers, such as the names and sizes of files."""
    found = hashlib.sha256()
    for row in table:
        found.update(repr(row).encode())
    return found.hexdigest()


def described(value: Any, *, without: Collection[str] = ()) -> Any:
    """A JSON value that names a function or an object with all that it was made with.

    Of partials the arguments, of functions made by others (such as `resize.resized(size=64)`) the
    variables that they hold and their defaults, of objects their public attributes.
    `without`: arguments of partials that are left out.
    Code is known by its name only, so a change of it is not seen.
    """
    return _described(value, frozenset(without), ())


def _described(value: Any, without: frozenset[str], within: tuple[int, ...]) -> Any:
    if isinstance(value, str | int | float | bool | type(None)):
        return value
    if isinstance(value, np.generic):
        return _described(value.item(), without, within)
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    if isinstance(value, np.ndarray | jax.Array):
        return _array(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if id(value) in within:  # a function may hold itself
        return "…"
    inside = functools.partial(_described, without=without, within=(*within, id(value)))

    def named(values: Mapping[str, Any]) -> dict[str, Any]:
        return {str(k): inside(v) for k, v in values.items()}

    if isinstance(value, functools.partial):
        own = named({k: v for k, v in value.keywords.items() if k not in without})
        held = [inside(value.args), own] if value.args or own else []
        return [inside(value.func), *held] if held else inside(value.func)
    if isinstance(value, Mapping):
        return named(value)
    if isinstance(value, list | tuple):
        return [inside(v) for v in value]
    if isinstance(value, set | frozenset):
        return sorted((inside(v) for v in value), key=repr)
    if isinstance(value, types.MethodType):
        return [inside(value.__func__), inside(value.__self__)]
    if isinstance(value, types.FunctionType):
        held = named(_held(value))
        return [_name(value), held] if held else _name(value)
    if hasattr(value, "__wrapped__"):  # compiled, or memoised
        return inside(value.__wrapped__)
    if hasattr(value, "__name__"):  # a class, a module, a function written in C
        return _name(value)
    if dataclasses.is_dataclass(value):
        public = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    else:  # private attributes may be caches, which differ from process to process
        public = {k: v for k, v in getattr(value, "__dict__", {}).items() if k[:1] != "_"}
    return [_name(type(value)), named(public)] if public else _name(type(value))


def _name(value: Any) -> str:
    name = getattr(value, "__qualname__", None) or value.__name__
    module = getattr(value, "__module__", None)
    return f"{module}:{name}" if module else name


def _held(function: types.FunctionType) -> dict[str, Any]:
    """Variables and defaults of a function made by another; one of a module is told by its name."""
    there = sys.modules.get(function.__module__)
    for part in function.__qualname__.split("."):
        there = getattr(there, part, None)
    if there is function:
        return {}
    positional, code = function.__defaults__ or (), function.__code__
    names = code.co_varnames[code.co_argcount - len(positional) : code.co_argcount]
    held = dict(zip(names, positional, strict=True)) | (function.__kwdefaults__ or {})
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            held[name] = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    return held


def _array(value: Any) -> Any:
    if jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
        value = jax.random.key_data(value)
    if value.dtype == object:  # its bytes are addresses
        return _described(value.tolist(), frozenset(), ())
    return arrays(value)
