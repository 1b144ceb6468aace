"""A module as it is before anything was read: for tests of what its first call does."""

import importlib.util


def fresh(module):
    """A copy of `module` with empty caches; the one that others import stays as it is."""
    copy = importlib.util.module_from_spec(module.__spec__)
    module.__spec__.loader.exec_module(copy)
    return copy
