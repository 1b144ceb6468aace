"""Deliberate faults: how one is applied to a syntax tree, whatever the source is formatted like."""

import ast
from typing import NamedTuple


class Mutant(NamedTuple):
    """In the function `within` of `file`, `new` in the place of `old`; `test` has to notice it.

    `within`: a qualified name, such as "Store.save" or "make_step.step". `old` and `new`: two
    expressions, or two statements; `old` is there exactly once. `test`: a pytest node.
    """

    name: str
    file: str
    within: str
    old: str
    new: str
    test: str


def applied(mutant, source):
    """The source with the fault in it. ValueError unless `old` is in `within` exactly once."""
    tree = ast.parse(source)
    old, new = parsed(mutant.old), parsed(mutant.new)
    if isinstance(old, ast.stmt) != isinstance(new, ast.stmt):
        raise ValueError(
            f"{mutant.name}: a statement in the place of an expression, or the reverse"
        )
    where = f"{mutant.file}, {mutant.within}"
    function = one(definitions(tree, mutant.within.split(".")), mutant.within, mutant.file)
    wanted = ast.dump(old)
    alike = (n for n in ast.walk(function) if type(n) is type(old))
    found = one([n for n in alike if ast.dump(n) == wanted], mutant.old, where)

    class Replace(ast.NodeTransformer):
        def visit(self, node):
            return new if node is found else self.generic_visit(node)

    return ast.unparse(ast.fix_missing_locations(Replace().visit(tree)))


def parsed(text):
    """An expression where the text is one, else a statement."""
    (node,) = ast.parse(text).body
    return node.value if isinstance(node, ast.Expr) else node


def definitions(node, names):
    """The functions or classes of a qualified name, within `node` but not within other ones."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.ClassDef):
            yield from definitions(child, names)
        elif child.name == names[0]:
            yield from definitions(child, names[1:]) if names[1:] else [child]


def one(found, what, where):
    found = list(found)
    if len(found) != 1:
        raise ValueError(f"{where} has {len(found)} times, not once: {what}")
    return found[0]
