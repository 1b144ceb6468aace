"""The README's commands and code, as written."""

import re
import shlex
from pathlib import Path

import pytest

import launch
from fmjax import assemble, settings

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text()
CODE = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def test_the_twenty_lines_run_and_learn():
    (code,) = [c for c in CODE if "ode(net" in c]
    assert len([line for line in code.splitlines() if line.strip()]) <= 22
    names = {}
    exec(code.replace("5000", "200"), names)  # fewer steps than a reader would take
    assert names["x1"].shape == (1000, 2)
    losses = names["metrics"]["loss"]
    assert losses[-20:].mean() < losses[:20].mean()


def test_the_objective_trains_as_the_command_line_shows(tmp_path, monkeypatch):
    (code,) = [c for c in CODE if "# my_losses.py" in c]
    (command,) = re.findall(r"\npython launch.py (.*--config.loss=my_losses.*)\n", TEXT)
    (tmp_path / "my_losses.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    args, changes = launch.parse(shlex.split(command))
    tiny = settings.load_config(ROOT / args.config)["tiny"]
    config = settings.load_config(ROOT / args.config, [*tiny, f"data_dir={tmp_path}", *changes])
    parts = assemble.assemble(config)
    key_init, key_train, _ = assemble.keys(config)
    state = parts.parallel.init(assemble.make_init(parts), key_init)
    batch = assemble.make_batches(parts)(0)
    _, metrics = assemble.make_call(parts)(state, None, key_train, batch)
    assert config["loss"] == {"bind": "my_losses:huber", "delta": 0.5}
    assert metrics["loss"].shape == (config["steps_per_call"],)


@pytest.mark.parametrize("path", re.findall(r"`((?:fmjax|configs|experiments)/[\w/.]+)`", TEXT))
def test_paths_in_the_readme_exist(path):
    assert (ROOT / path).exists()
