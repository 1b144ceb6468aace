"""The page that maps methods to functions names what there is, and all of it."""

import ast
import re
from pathlib import Path

import pytest

from fmjax import config

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "methods.md").read_text()
NAMES = sorted(set(re.findall(r"fmjax(?:\.\w+)+:\w+", TEXT)))
COMPLETE = ["couplings", "losses", "samplers"]  # folders of which every file is on the page


@pytest.mark.parametrize("name", NAMES)
def test_every_name_on_the_page_exists(name):
    assert callable(config.resolve(name))


@pytest.mark.parametrize("folder", COMPLETE)
def test_every_method_is_on_the_page(folder):
    for file in (ROOT / "fmjax" / folder).glob("[!_]*.py"):
        if (folder, file.stem) != ("couplings", "semidiscrete"):  # the data set is named instead
            assert f"fmjax.{folder}.{file.stem}:{file.stem}" in TEXT or any(
                n.startswith(f"fmjax.{folder}.{file.stem}:") for n in NAMES
            ), file


@pytest.mark.parametrize("module", ["paths", "bridges", "times"])
def test_every_factory_of_a_path_bridge_or_time_is_on_the_page(module):
    tree = ast.parse((ROOT / "fmjax" / f"{module}.py").read_text())
    found = {"Path", "paths.Bridge", "Gamma"}
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef) or node.name.startswith("_"):
            continue
        returns = ast.unparse(node.returns)
        if returns in found or module == "times":
            named = f"fmjax.{module}:{node.name}" in NAMES
            assert named or node.name in ("scaled", "bridge"), node.name


def snippets():
    """The config lines of the page, as Python."""
    found = re.findall(r"`((?:\w+\.)*\w+ = (?:dict\(.*?\)|[\d.]+))`", TEXT)
    return sorted({code for code in found if "my_paths" not in code})


@pytest.mark.parametrize("code", snippets())
def test_every_config_line_names_arguments_that_exist(code):
    value = eval(code.split(" = ", 1)[1].replace("dict(bind=…)", "dict()"))

    def check(node):
        if not isinstance(node, dict):
            return
        kind = next((k for k in ("name", "bind") if k in node), None)
        if kind and "…" not in str(node[kind]):
            function = config.resolve(node[kind])
            config.check_arguments(function, [k for k in node if k != kind], code)
        for child in node.values():
            check(child)

    check(value)
