"""Every entry that there is: by name, with what computes it, and that none is missing."""

import inspect
from pathlib import Path

from helpers import golden_couplings, golden_sampling, golden_training

from fmjax import guidance

PACKAGE = Path(guidance.__file__).parent


def everything():
    """Name -> what computes it."""
    parts = {
        "configs": golden_training.entries(),
        "samplers": golden_sampling.samplers(),
        "guidance": golden_sampling.guided(),
        "couplings": golden_couplings.entries(),
    }
    entries = {
        f"{part}/{name}": compute for part, own in parts.items() for name, compute in own.items()
    }
    check(entries)
    return entries


def check(names):
    """LookupError for a sampler, a coupling or a function of guidance without an entry."""
    needed = [
        f"{folder}/{file.stem}/"
        for folder in ("samplers", "couplings")
        for file in sorted((PACKAGE / folder).glob("[!_]*.py"))
    ]
    for name, function in inspect.getmembers(guidance, inspect.isfunction):
        if function.__module__ == guidance.__name__ and not name.startswith("_"):
            needed.append(f"guidance/{name}/")
    missing = [n for n in needed if not any(name.startswith(n) for name in names)]
    if missing:
        raise LookupError(f"no entry for {', '.join(missing)}: add one in tests/helpers")


def share(entries, i, n):
    """The i-th of n shares; what needs the same earlier run stays together."""
    groups = {name: group(name) for name in entries}
    own = sorted(set(groups.values()))[i::n]
    return {name: compute for name, compute in entries.items() if groups[name] in own}


def group(name):
    part, middle, _ = name.split("/")
    return golden_training.shared(middle) if part == "configs" else name
