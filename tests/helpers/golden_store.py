"""What is kept of exact outputs: digests, the file, and what differs between two sets of entries.

An entry is a dict of numbers, lists of them, and digests. Nothing here needs JAX.
"""

import hashlib
import json
import os
import platform
from importlib import metadata
from pathlib import Path

import numpy as np

VECTORS = ("sse", "ssse", "avx", "fma", "amx", "f16c")
FEATURES = ("cpu_flags", "cores", "jaxlib")  # where these differ, floats may


def digest(arrays):
    """16 hex digits of the types, shapes and bytes of arrays, whatever their order."""
    each = sorted(_digest(np.asarray(a)) for a in arrays)
    return hashlib.sha256("".join(each).encode()).hexdigest()[:16]


def _digest(a):
    head = f"{a.dtype.name}{a.shape}".encode()
    return hashlib.sha256(head + np.ascontiguousarray(a).tobytes()).hexdigest()


def exact(number):
    """A NumPy number as the shortest float that gives back its bits in its own type."""
    if not np.isfinite(number):
        raise ValueError(f"{number} is not finite")
    return float(str(number))


def stack():
    """The name of this stack's section."""
    version = ".".join(platform.python_version_tuple()[:2])
    return f"jax {metadata.version('jax')}, Python {version}"


def machine():
    """What floats may depend on."""
    info = Path("/proc/cpuinfo")
    lines = [line.partition(":") for line in info.read_text().splitlines()] if info.exists() else []
    first = {name.strip(): value.strip() for name, _, value in reversed(lines)}
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "cpu": first.get("model name", platform.processor()),
        "cpu_flags": sorted(f for f in first.get("flags", "").split() if f.startswith(VECTORS)),
        "cores": len(affinity(0)) if affinity else os.cpu_count(),
        **{package: metadata.version(package) for package in ("jax", "jaxlib", "numpy")},
    }


def elsewhere(section, here):
    """How the machine of a section differs from this one, where floats may depend on it."""
    differs = []
    for name in FEATURES:
        there, own = section[name], here[name]
        if isinstance(own, list) and there != own:
            differs.append(f"{name} differ in {', '.join(sorted({*there} ^ {*own}))}")
        elif there != own:
            differs.append(f"{name} {there}, here {own}")
    return differs


def read(file):
    """The sections of a file; none where there is no file."""
    return json.loads(file.read_text()) if file.exists() else {}


def write(file, sections):
    """One line for each entry, so that a change of one is a change of one line."""
    file.write_text(_lines(sections, 3) + "\n")


def _lines(value, levels, indent=""):
    if not levels or not isinstance(value, dict) or not value:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    inner = indent + " "
    rows = (f"{inner}{json.dumps(k)}: {_lines(v, levels - 1, inner)}" for k, v in value.items())
    return "{\n" + ",\n".join(rows) + f"\n{indent}}}"


def renamed(entries, renames):
    """Entries under their present names: each old part of a name replaced by the new one."""
    result = {}
    for name, entry in entries.items():
        for old, new in renames.items():
            name = name.replace(old, new)
        if name in result:
            raise ValueError(f"two entries would be called {name!r} after the renames")
        result[name] = entry
    return result


def compare(stored, results, rtol=0.0):
    """One line for each difference; floats within `rtol` are equal, and so is their digest."""
    lines = []
    for name in sorted({*stored, *results}):
        if name not in results:
            lines.append(f"{name}: is in the file, and nothing computes it any more")
        elif "error" in results[name]:
            lines.append(f"{name}: {results[name]['error']}")
        elif name not in stored:
            lines.append(f"{name}: is new, and not in the file")
        else:
            lines += [f"{name}: {line}" for line in _differences(stored[name], results[name], rtol)]
    return lines


def _differences(old, new, rtol):
    fields = [*old, *(f for f in new if f not in old)]
    gaps = {f: _apart(f, old, new) for f in fields if _floats(old.get(f)) and _floats(new.get(f))}
    near = bool(rtol) and bool(gaps) and max(gaps.values()) <= rtol
    for field in fields:
        a, b = old.get(field), new.get(field)
        digests = isinstance(a, str) and isinstance(b, str)
        if a == b or gaps.get(field, np.inf) <= rtol or (near and digests):
            continue
        apart = f", {gaps[field]:.2g} apart, relatively" if field in gaps else ""
        yield f"{field} was {a}, is {b}{apart}"


def _floats(value):
    values = value if isinstance(value, list) else [value]
    return bool(values) and all(isinstance(v, float) for v in values)


def _apart(field, old, new):
    """The largest |a − b| / max(|a|, |b|); a mean near 0 is as large as its deviation."""
    a, b = np.atleast_1d(old[field]), np.atleast_1d(new[field])
    if a.shape != b.shape:
        return np.inf
    alone = [abs(v) for v in old.values() if isinstance(v, float)]
    least = max(alone, default=0.0) if isinstance(old[field], float) else 0.0
    size = np.maximum(np.maximum(np.abs(a), np.abs(b)), max(least, 1e-300))
    return float(np.max(np.abs(a - b) / size))
