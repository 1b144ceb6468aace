"""The layers: a module imports only from strictly lower ones, and libraries have one home."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = {
    0: ["types", "config", "overrides"],
    1: [
        "paths",
        "times",
        "sources",
        "optimizers",
        "manifest",
        "bridges",
        "couplings",
        "reading",
        "digests",
        "tokens",
        "edits",
    ],
    2: ["models", "guidance", "nets", "samplers", "shard", "checkpoint"],
    3: ["losses", "codecs", "text", "likelihood", "metrics", "data", "pretrained"],
    4: ["train", "evaluate", "loop", "record", "pictures", "page"],
    5: ["assemble", "judge", "settings", "keeping", "inference", "reflow", "latents", "run"],
}
# within a layer: what may import what
ALLOWED = {
    ("overrides", "config"),
    ("bridges", "paths"),
    ("tokens", "paths"),
    ("guidance", "nets"),
    ("samplers", "nets"),
    ("metrics", "likelihood"),
    ("metrics", "codecs"),
    ("data", "codecs"),
    ("data", "text"),
    ("text", "codecs"),
    ("metrics", "pretrained"),
    ("pretrained", "codecs"),
    ("evaluate", "train"),
    ("page", "pictures"),
    ("settings", "config"),
    ("judge", "assemble"),
    ("run", "assemble"),
    ("run", "judge"),
    ("run", "settings"),
    ("run", "inference"),
    ("inference", "assemble"),
    ("inference", "judge"),
    ("inference", "keeping"),
    ("keeping", "assemble"),
    ("keeping", "judge"),
    ("inference", "settings"),
    ("reflow", "assemble"),
    ("reflow", "inference"),
    ("reflow", "judge"),
    ("reflow", "settings"),
    ("latents", "assemble"),
    ("latents", "inference"),
    ("latents", "judge"),
    ("latents", "settings"),
}
HOMES = {
    "flax": ["models", "pretrained"],
    "orbax": ["checkpoint"],
    "tensorflow_datasets": ["data"],
    "grain": ["data"],
    "diffrax": ["samplers", "likelihood"],
    "tensorboard": ["record"],
    "matplotlib": ["pictures", "page"],
    "ml_collections": ["settings"],
    "absl": [],
    "ot": ["metrics", "couplings"],
    "ott": ["couplings"],
    "sklearn": ["metrics", "data"],
    "safetensors": ["pretrained"],
    "onnxruntime": ["data"],
    "tokenizers": ["data", "text"],
    "resvg_py": ["data"],
}
FILES = sorted((ROOT / "fmjax").rglob("*.py"))
LAYER = {name: layer for layer, names in LAYERS.items() for name in names}


def unit(file):
    """The top-level part of the package that a file belongs to."""
    return file.relative_to(ROOT / "fmjax").parts[0].removesuffix(".py")


def imports(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_every_file_has_a_layer():
    assert {unit(f) for f in FILES} - {"__init__"} == set(LAYER)


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_layers(file):
    here = unit(file)
    for name in imports(file):
        top, *rest = name.split(".")
        if top == "fmjax" and here != "__init__" and rest:
            there = rest[0]
            below = LAYER[there] < LAYER[here] or (here, there) in ALLOWED
            own = there == here and (
                rest[1].startswith("_") or here in ("data", "metrics", "couplings")
            )
            assert below or own, f"{here} may not import {name}"
        if top in HOMES:
            assert here in HOMES[top], f"{top} has its home in {HOMES[top]}, not in {here}"


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_files_stay_small(file):
    assert len(file.read_text().splitlines()) <= 400


def test_the_top_level_is_the_agreed_one():
    agreed = {
        "README.md", "requirements.txt", "launch.py", "fmjax", "configs", "experiments", "tests",
        "pyproject.toml", "LICENSE", "CHANGELOG.md", "docs",
    }  # fmt: skip
    ignored = {"runs", "build", "__pycache__"}
    present = {p.name for p in ROOT.iterdir() if not p.name.startswith(".")}
    assert present - ignored - {p for p in present if p.endswith(".egg-info")} <= agreed
