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


TESTS = sorted((ROOT / "tests").rglob("*.py"))
OF_NAMED_TUPLES = {"_replace", "_asdict", "_fields", "_make", "_field_defaults"}
# what other libraries call so, and ask for: TFDS of a builder, files of torch of its module
OF_OTHERS = {"_split_generators", "_rebuild_tensor_v2"}
BY_NAME = {"getattr", "setattr", "hasattr", "delattr"}


def is_private(name):
    return name.startswith("_") and not name.startswith("__") and name not in OF_OTHERS


def is_of_itself(node):
    return isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")


def own_names(node):
    """What a class defines itself: its methods, fields, and what these put into `self`."""
    for part in ast.walk(node):
        if isinstance(part, ast.FunctionDef):
            yield part.name
        elif isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
            yield part.id
        elif isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Store):
            yield from [part.attr] if is_of_itself(part) else ()


def words(call):
    """The last names of the strings that are given: "a.b.name", as monkeypatch takes it, too."""
    for given in (*call.args, *(keyword.value for keyword in call.keywords)):
        if isinstance(given, ast.Constant) and isinstance(given.value, str):
            yield given.value.rpartition(".")[2]


def private_uses(node, own=frozenset()):
    """Yield (line, what) of each use of a private name of others, `own` being the class's."""
    if isinstance(node, ast.ClassDef):
        own = own | set(own_names(node))
    if isinstance(node, ast.Attribute) and is_private(node.attr):
        if node.attr not in OF_NAMED_TUPLES and not (is_of_itself(node) and node.attr in own):
            yield node.lineno, ast.unparse(node)
    elif isinstance(node, ast.Call):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func)
        if called in BY_NAME and any(map(is_private, words(node))):
            yield node.lineno, ast.unparse(node)
    elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fmjax"):
        folder = ROOT.joinpath(*node.module.split("."))
        for name in (alias.name for alias in node.names):
            # a module may be private, its names are not
            if is_private(name) and not (folder / f"{name}.py").exists():
                yield node.lineno, f"from {node.module} import {name}"
    for child in ast.iter_child_nodes(node):
        yield from private_uses(child, own)


@pytest.mark.parametrize("file", TESTS, ids=lambda f: str(f.relative_to(ROOT)))
def test_tests_use_public_names(file):
    """So that what is private can move and be renamed, while the tests stay as they are."""
    found = [f"{file}:{line}: {what}" for line, what in private_uses(ast.parse(file.read_text()))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("code", "lines"),
    [
        ("a.b\na._b", [2]),
        ("a._b = 1\na._replace(b=1)._asdict()\na.__b", [1]),
        ("a._b._c", [1, 1]),
        ("a._common.b", [1]),
        ("class A:\n def f(self):\n  self._b = 1\n  self._f()\n def _f(self): pass", []),
        ("class A(B):\n def f(self, a):\n  self._b()\n  a._b = 1", [3, 4]),
        ("class A:\n def f(self):\n  self._b = 1\nA()._b", [4]),
        ('setattr(a, "_b", 1)\nsetattr(a, "b", "c")\na.setattr(b, "_c", 1)', [1, 3]),
        ('m.setattr("fmjax.judge._b", 1)\ngetattr(a, "_b")\na.replace("_b", "c")', [1, 2]),
        ("from fmjax.data import _common, _common_\nfrom fmjax.judge import _b, judge", [1, 2]),
        ("from fmjax.data._common import _b", [1]),
    ],
)
def test_private_names_are_found(code, lines):
    assert [line for line, _ in private_uses(ast.parse(code))] == lines
