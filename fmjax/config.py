"""From the names in a config to the functions they name.

    dict(name="optax:adamw", learning_rate=1e-3)   is called once:   optax.adamw(learning_rate=1e-3)
    dict(bind="fmjax.times:logit_normal", std=2.)  becomes a partial of the function

A name is "module:function" or "path/to/file.py:function". Nodes nest. What a run can supply (the
path, the source, the data's absent condition, …) is *offered*: a keyword-only parameter of that
name gets it unless the config says otherwise.
"""

import difflib
import functools
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any


class ConfigError(ValueError):
    """A config that cannot be run; the message names the field and the remedy."""


def suggest(word: str, choices: Iterable[str]) -> str:
    """'; did you mean …?' or the list of choices."""
    choices = sorted(choices)
    close = difflib.get_close_matches(word, choices, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; there are: {', '.join(choices)}" if choices else ""


def resolve(name: str, where: str = "config") -> Any:
    """The object called `name`, "module:attribute" or "file.py:attribute"."""
    module_name, colon, attribute = name.rpartition(":")
    if not colon or not module_name or not attribute:
        raise ConfigError(f"{where}: {name!r} is not of the form 'module:function'")
    try:
        module = _module(module_name)
    except Exception as error:  # whatever a user's module raises at import is the user's to see
        raise ConfigError(
            f"{where}: cannot import {module_name!r}: {type(error).__name__}: {error}. "
            "Name an importable module (the current directory counts) or a path to a .py file"
        ) from error
    if not hasattr(module, attribute):
        public = (n for n in vars(module) if not n.startswith("_"))
        hint = suggest(attribute, public)
        raise ConfigError(f"{where}: {module_name!r} has no {attribute!r}{hint}")
    return getattr(module, attribute)


def _module(name: str) -> Any:
    if not name.endswith(".py"):
        return importlib.import_module(name)
    path = os.path.abspath(name)
    # one module object a file, so that classes and caches in it exist once
    if path not in sys.modules:
        spec = importlib.util.spec_from_file_location(path, path)
        if spec is None or spec.loader is None or not os.path.exists(path):
            raise ImportError(f"no file {path}")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        sys.modules[path] = module
    return sys.modules[path]


def is_group(node: Any) -> bool:
    """Whether a config node has fields: a dict, or a ConfigDict (which is no Mapping)."""
    return hasattr(node, "keys")


def is_callable(node: Any) -> bool:
    """Whether a config node names a callable."""
    return is_group(node) and ("name" in node or "bind" in node)


def build(node: Any, where: str = "config", **offered: Any) -> Any:
    """The object that a config node describes; see the top of this module."""
    if is_callable(node):
        return _call(node, where, offered)
    if is_group(node):
        return {k: build(v, f"{where}.{k}", **offered) for k, v in node.items()}
    if isinstance(node, list | tuple):
        return type(node)(build(v, f"{where}[{i}]", **offered) for i, v in enumerate(node))
    return node


def _call(node: Any, where: str, offered: Mapping[str, Any]) -> Any:
    if "name" in node and "bind" in node:
        raise ConfigError(f"{where} has both 'name' (call once) and 'bind' (partial); keep one")
    kind = "name" if "name" in node else "bind"
    function = resolve(node[kind], f"{where}.{kind}")
    if not callable(function):
        raise ConfigError(f"{where}.{kind}: {node[kind]!r} is not callable")
    args = build(node.get("args", ()), f"{where}.args", **offered)
    given = {
        k: build(v, f"{where}.{k}", **offered) for k, v in node.items() if k not in (kind, "args")
    }
    parameters = _parameters(function)
    check_arguments(function, given, f"{where} ({node[kind]})")
    supplied = {
        k: v
        for k, v in offered.items()
        if k not in given
        and k in parameters
        and parameters[k].kind is inspect.Parameter.KEYWORD_ONLY
    }
    if kind == "bind":
        # the function itself where there is nothing to bind: identity matters (`paths.velocity`)
        bound = functools.partial(function, *args, **supplied, **given)
        return bound if bound.args or bound.keywords else function
    try:
        inspect.signature(function).bind(*args, **supplied, **given)
    except TypeError as error:
        raise ConfigError(f"{where} ({node[kind]}): {error}") from error
    except ValueError:  # no signature to be had (a C function)
        pass
    try:
        return function(*args, **supplied, **given)
    except (ConfigError, OSError):
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where} ({node[kind]}): {error}") from error


def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(function).parameters
    except ValueError:
        return {}


def check_arguments(function: Callable[..., Any], names: Iterable[str], where: str) -> None:
    """Raise if `function` takes no argument of one of these names."""
    parameters = _parameters(function)
    kinds = {p.kind for p in parameters.values()}
    if not parameters or inspect.Parameter.VAR_KEYWORD in kinds:
        return
    for name in names:
        if name not in parameters:
            raise ConfigError(f"{where}: no argument {name!r}{suggest(name, parameters)}")
