"""The experiments, shrunk, as far as they run without their peers."""

import json
import sys
from pathlib import Path

import pytest

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"


@pytest.fixture
def throughput(monkeypatch):
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    import throughput

    return throughput


TINY = ("steps_per_call=2", "log_every=4", "batch_size=8", "model.width=8", "save_every=0")


def test_our_side_trains_and_logs_without_the_peer(throughput, tmp_path):
    run, size = throughput.ours(tmp_path, TINY)
    assert size == (3 * 8 + 8) + 2 * (8 * 8 + 8) + (8 * 2 + 2)
    assert run(8) > 0
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    # the step that compiles, then every four and the end
    assert [line["step"] for line in lines] == [2, 4, 8, 10]
    assert lines[0]["loss"] != lines[1]["loss"]


def test_the_network_is_torchcfms(throughput, tmp_path):
    size = 3 * 64 + 64 + 2 * (64 * 64 + 64) + 64 * 2 + 2
    _, ours = throughput.ours(tmp_path, ("steps_per_call=1", "log_every=1", "batch_size=8"))
    assert ours == size


def test_a_missing_peer_is_named(throughput, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchcfm", None)
    with pytest.raises(SystemExit, match=r"pip install -r experiments/requirements\.txt"):
        throughput.main(["--parts", "training"])


def test_a_start_that_fails_says_why(throughput, monkeypatch, tmp_path):
    monkeypatch.setattr(throughput, "ROOT", tmp_path)  # no launch.py there
    with pytest.raises(SystemExit, match=r"launch\.py"):
        throughput.startup(tmp_path / "run", tmp_path / "cache")


def test_the_report_takes_ratios_round_by_round(throughput, capsys):
    rates = {"fmjax": [8.0, 4.0, 6.0], "TorchCFM": [1.0, 1.0, 2.0]}
    throughput.report_rates("training", rates, ["a note"], "at least 6")
    assert "4.00" in capsys.readouterr().out  # the median of 8, 4, 3
    throughput.report_startup({"cold": [9.0, 11.0, 10.0], "warm": [5.0]})
    assert "10.0   expected: at most 12" in capsys.readouterr().out


@pytest.fixture
def table(monkeypatch):
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    import ot_cfm_2d

    monkeypatch.setattr(ot_cfm_2d, "ROWS", 200)
    monkeypatch.setattr(ot_cfm_2d, "TEST", 64)
    return ot_cfm_2d


@pytest.mark.complete
def test_the_2d_table_trains_every_cell_and_keeps_what_is_finished(table, tmp_path, capsys):
    out = tmp_path / "cells.jsonl"
    words = ["--seeds=2", "--steps=4", "--batch=32", "--block=16", f"--out={out}"]
    tasks = ["--tasks", "moons -> 8gaussians"]
    table.main([*words, *tasks])
    records = [json.loads(line) for line in out.read_text().splitlines()]
    cells = {(r["task"], r["method"], r["seed"]) for r in records}
    assert len(records) == len(cells) == 3 * 2  # no FM from moons
    assert ("moons -> 8gaussians", "FM", 0) not in cells
    printed = capsys.readouterr().out
    for published in ("2.738", "0.087", "1.923±0.391"):
        assert published in printed
    table.main([*words, *tasks])
    assert len(out.read_text().splitlines()) == len(records)
    assert "step 4" not in capsys.readouterr().out


def test_path_energy_and_distances_of_the_2d_table_are_those_of_a_known_flow(table):
    # a net of zeros: nothing moves, so W2² is that of the ends, and NPE is 1
    import jax
    import jax.numpy as jnp

    from fmjax.models.mlp import mlp
    from fmjax.types import Batch

    params = mlp(width=64, depth=3).init(jax.random.key(0), Batch(jnp.zeros((1, 2))))
    still = jax.tree.map(lambda p: jnp.zeros((2, *p.shape)), params)
    for record in table.judge("N -> moons", still, [0, 1]):
        assert record["path_energy"] == 0
        assert record["npe"] == 1
        assert record["w2_squared"] == pytest.approx(record["w2_squared_q0_q1"])
    drift = {**still, "layer_3": {**still["layer_3"], "bias": jnp.asarray([[3.0, 4.0]] * 2)}}
    rows = jnp.zeros((2, 5, 2))
    x1, energy = table.flow(drift, rows, table.EULER)
    assert energy.tolist() == pytest.approx([25.0, 25.0], rel=1e-4)
    assert x1[0, 0].tolist() == pytest.approx([3.0, 4.0], rel=1e-4)


def test_latents_are_charged_for_their_autoencoder(monkeypatch, tmp_path, capsys):
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    import mnist

    figures = {
        "mnist": {"seconds": 10.0, "conditional_accuracy": 0.9},
        "mnist_vae": {"seconds": 3.0, "psnr_db": 25.0},
        "mnist_latent": {"seconds": 6.0, "conditional_accuracy": 0.8},
    }
    asked = []

    def trained(config, seed, out, changes):
        asked.append((Path(config).name, seed, out, *changes))
        return figures[Path(config).stem]

    monkeypatch.setattr(mnist.digits, "trained", trained)
    rows = mnist.main(["--seeds", "0", "1", f"--out={tmp_path}", "--config.steps=2"])
    means = {space: {r["name"]: r["mean"] for r in own} for space, own in rows.items()}
    assert means["pixels"] == {"conditional_accuracy": 0.9, "seconds": 10.0}
    assert means["latents"] == {"conditional_accuracy": 0.8, "psnr_db": 25.0, "seconds": 9.0}
    run = tmp_path / "mnist_vae" / "seed1"
    own = (f"--config.codec.run={run}", "--config.steps=2")
    assert ("mnist_latent.py", 1, tmp_path / "mnist_latent", *own) in asked
    assert "25" in capsys.readouterr().out
    assert json.loads((tmp_path / "table.json").read_text())["rows"] == rows
