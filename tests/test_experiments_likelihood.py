"""The likelihood experiment, shrunk, with a stand-in for its table."""

import importlib.util
import json
import math
from pathlib import Path

import numpy as np
import pytest

from fmjax.data.in_memory import in_memory
from fmjax.types import Batch

FILE = Path(__file__).resolve().parents[1] / "experiments" / "likelihood.py"


@pytest.fixture(scope="module")
def experiment():
    spec = importlib.util.spec_from_file_location("experiment_likelihood", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.complete
def test_the_parts_run_and_find_the_truth(experiment, tmp_path, monkeypatch, capsys):
    size = experiment.Size(
        rows=64, draws=(1, 32), seeds=1, steps=4, table_steps=4, table_width=8, table_rows=50,
        components=(1, 2),
    )  # fmt: skip
    rng = np.random.default_rng(0)
    sets = {s: Batch(rng.normal(size=(400, 2))) for s in ("train", "validation", "test")}
    monkeypatch.setitem(
        experiment.PARTS,
        "table",
        lambda size: experiment.table(size, in_memory(sets, batch_size=8)),
    )
    arguments = [f"--out={tmp_path}", "--parts", "levels", "table"]
    results = experiment.main(arguments, size)
    one, many = (r["bits_per_dim"] for r in results["levels"]["table"])
    assert results["levels"]["exact_bits_per_dim"] < many < one
    assert many - results["levels"]["exact_bits_per_dim"] < 0.02
    assert results["table"]["flow"][0]["nll_nats"] > 2
    # standard normal rows: one component is right
    assert results["table"]["mixture_nll"] == pytest.approx(1 + math.log(2 * math.pi), abs=0.4)
    assert list(results["table"]["mixture_validation"]) == [1, 2]
    assert json.loads((tmp_path / "results.json").read_text()).keys() == results.keys()
    out = capsys.readouterr().out
    assert "GaussianMixture" in out
    assert "K =  32" in out


def test_the_exact_field_gives_the_mixtures_density(experiment):
    mix = experiment.random_mixture(0, 3, 2)
    x = mix.sample(experiment.jax.random.key(0), 50)
    found = experiment.measured("one", mix, x, tolerance=1e-5)
    assert found["largest"] < 5e-3
    assert found["nfe"] > 7
    experiment.report({"exact": {"tables": {"a": [found]}, "gradients": {"exact": 1e-4}}})
