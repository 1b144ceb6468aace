"""Command-line overrides of a config: `--config.a.b=value`, typed by the field they replace."""

import ast
import contextlib
import re
from collections.abc import Sequence
from typing import Any

from fmjax import config as configs
from fmjax.config import ConfigError

REFERENCE = re.compile(r"[^:\s]+:[A-Za-z_]\w*")


def apply(config: Any, overrides: Sequence[str]) -> None:
    """Apply 'a.b=value' strings in order, in place, to a ConfigDict or a dict.

    Fields computed from others (`config.get_ref("steps") // 10`) follow. Naming another callable
    clears the arguments of the one before. A callable takes new arguments; any other unknown
    field is an error with a suggestion.
    """
    with config.unlocked() if hasattr(config, "unlocked") else contextlib.nullcontext():
        for override in overrides:
            dotted, equals, text = override.partition("=")
            if not equals:
                raise ConfigError(f"--config.{override}: expected --config.{override}=VALUE")
            set_field(config, dotted, text)


def set_field(config: Any, dotted: str, text: str) -> None:
    """Set one field from its text, e.g. `set_field(config, "optimizer.learning_rate", "1e-4")`."""
    *parents, last = dotted.split(".")
    node, where = config, "config"
    for part in parents:
        node = _child(node, part, where, new=last in ("name", "bind") and part is parents[-1])
        where = f"{where}.{part}"
    field = f"{where}.{last}"
    if not configs.is_group(node):
        raise ConfigError(f"{where} is {node!r}, which has no field {last!r}")
    if last in ("name", "bind") and (configs.is_callable(node) or not node):
        _rename(node, last, text)
    elif last in node and configs.is_callable(node[last]) and REFERENCE.fullmatch(text):
        _rename(node[last], "name" if "name" in node[last] else "bind", text)
    elif last in node and configs.is_callable(node) and configs.is_group(node[last]):
        node[last] = _literal(text)  # an argument that was a callable becomes a value
    elif last in node and configs.is_group(node[last]) and not node[last]:
        if not REFERENCE.fullmatch(text):
            raise ConfigError(f"{field} is to be a callable, 'module:function'; got {text!r}")
        node[last] = {"bind": text}
    elif last in node:
        node[last] = _parse(text, node[last], _type(node, last), field)
    elif configs.is_callable(node):
        node[last] = {"bind": text} if REFERENCE.fullmatch(text) else _literal(text)
    else:
        raise ConfigError(f"no field {field}{configs.suggest(last, node)}")


def _child(node: Any, part: str, where: str, *, new: bool) -> Any:
    name, _, index = part.partition("[")
    if new and where != "config" and _takes_callables(node) and node.get(name) is None:
        node[name] = {}
    if not configs.is_group(node) or name not in node:
        fields = node if configs.is_group(node) else ()
        raise ConfigError(f"no field {where}.{name}{configs.suggest(name, fields)}")
    if not index:
        return node[name]
    try:
        return node[name][int(index.removesuffix("]"))]
    except (ValueError, IndexError, TypeError, KeyError) as error:
        raise ConfigError(f"no element {where}.{part}: {error}") from error


def _takes_callables(node: Any) -> bool:
    """Whether a new callable may come: an argument of another, or one more of a table of them."""
    if not configs.is_group(node):
        return False
    return configs.is_callable(node) or all(configs.is_callable(v) for v in node.values())


def _rename(node: Any, kind: str, reference: str) -> None:
    if node.get(kind) != reference:
        for key in list(node):
            del node[key]
    node[kind] = reference


def _type(node: Any, key: str) -> type:
    # a ConfigDict's placeholder is None yet knows its type
    known = node.get_type(key) if hasattr(node, "get_type") else type(node[key])
    return known if known is not type(None) else object


def _parse(text: str, old: Any, kind: type, field: str) -> Any:
    error = ConfigError(
        f"{field} is of type {kind.__name__} (now {old!r}); got {text!r}, which is not"
    )
    if text == "None":
        return None
    if configs.is_group(old):
        raise ConfigError(f"{field} is a group of fields; set {field}.FIELD=…, not {text!r}")
    if kind is str:
        return text
    value = _literal(text)
    if kind is float and type(value) is int:
        value = float(value)
    if kind in (tuple, list) and isinstance(value, tuple | list):
        value = kind(value)
    if kind is not object and type(value) is not kind:
        raise error
    return value


def _literal(text: str) -> Any:
    lowered = {"true": True, "false": False, "none": None}
    if text.lower() in lowered:
        return lowered[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
