"""Runs that experiments read: trained first, where they are not there."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import launch  # noqa: E402


def ready(name: str, workdir: Path, changes: list[str]) -> Path:
    """The work directory of a finished run of configs/NAME.py; one that was cut short goes on."""
    if not (workdir / "record.json").exists():
        flags = [f"--config={ROOT / 'configs' / name}.py", f"--workdir={workdir}", *changes]
        code = launch.main(flags)
        if code:
            sys.exit(code)
    return workdir
