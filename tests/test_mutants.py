"""Deliberate faults, each of which must turn a test red: a check of the tests themselves."""

import ast
import functools
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import mutants
import pytest
from mutants import objectives, results, sampling, training

ROOT = Path(__file__).parent.parent
LISTED = [m for part in (objectives, sampling, training, results) for m in part.MUTANTS]
MUTANTS = {m.name: m for m in LISTED}
# each has at least two faults
AREAS = (
    "losses", "paths", "samplers", "couplings", "likelihood", "tokens", "edits", "train", "shard",
    "data", "checkpoint", "manifest", "metrics", "guidance", "sources",
)  # fmt: skip
TWICE = "def f(a, b):\n    if a:\n        return a + b\n    return b * (a + b)\n"
FAULT = mutants.Mutant("a fault", "twice.py", "f", "b * (a + b)", "b * (a - b)", "test")


@functools.cache
def tree(file):
    return ast.parse((ROOT / file).read_text())


@functools.cache
def plain(file):
    return ast.unparse(tree(file))


def test_every_fault_can_be_made_and_names_a_test_of_the_quick_tier():
    for m in MUTANTS.values():
        changed = mutants.applied(m, (ROOT / m.file).read_text())
        assert changed != plain(m.file), f"{m.name} changes nothing"
        file, _, name = m.test.partition("::")
        there = {f.name: f for f in tree(file).body if isinstance(f, ast.FunctionDef)}
        test = there.get(name.partition("[")[0])
        assert test is not None, f"{m.name}: there is no {m.test}"
        marks = {ast.unparse(mark) for mark in test.decorator_list}
        assert "pytest.mark.complete" not in marks, f"{m.name}: the quick tier has no {m.test}"


def test_faults_are_many_and_everywhere():
    assert len(LISTED) == len(MUTANTS) >= 36, "two faults have one name"
    found = Counter(Path(m.file).parts[1].removesuffix(".py") for m in MUTANTS.values())
    assert {area for area in AREAS if found[area] < 2} == set()


def test_the_format_of_a_source_does_not_matter():
    spread = TWICE.replace("b * (a + b)", "(\n        b  # the factor\n        *(a+b)\n    )")
    assert spread != TWICE
    assert mutants.applied(FAULT, spread) == mutants.applied(FAULT, TWICE)
    assert "return b * (a - b)" in mutants.applied(FAULT, TWICE)
    for m in list(MUTANTS.values())[::10]:
        as_it_is = mutants.applied(m, (ROOT / m.file).read_text())
        assert mutants.applied(m, plain(m.file)) == as_it_is


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"old": "a + b"}, r"twice.py, f has 2 times, not once: a \+ b"),
        ({"old": "b - a"}, "has 0 times, not once: b - a"),
        ({"within": "f.g"}, r"twice.py has 0 times, not once: f\.g"),
        ({"new": "return b"}, "a statement in the place of an expression"),
    ],
)
def test_a_fault_that_is_nowhere_or_in_two_places_is_an_error(change, message):
    with pytest.raises(ValueError, match=message):
        mutants.applied(FAULT._replace(**change), TWICE)


def test_functions_are_found_in_classes_functions_and_blocks():
    source = "class A:\n  def f(self):\n    if self:\n      def g():\n        return 1\n"
    fault = FAULT._replace(within="A.f.g", old="return 1", new="pass")
    assert mutants.applied(fault, source).endswith("pass")


@pytest.mark.complete
@pytest.mark.parametrize("name", MUTANTS)
def test_a_fault_is_noticed(name, tmp_path):
    mutant = MUTANTS[name]
    for folder in ("fmjax", "tests"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignore)
    for needed in ("launch.py", "pyproject.toml"):
        shutil.copy(ROOT / needed, tmp_path)
    file = tmp_path / mutant.file
    file.write_text(mutants.applied(mutant, file.read_text()))
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", mutant.test]
    # in a process of its own, which neither xdist nor coverage follows
    quiet = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "COV_"))}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=quiet)
    assert done.returncode == 1, f"the fault went unnoticed:\n{done.stdout}\n{done.stderr}"
    assert "failed" in done.stdout
