"""One file outside the package, named on the command line, and no other edit."""

import json

import numpy as np
import pytest
import tiny

MINE = """
import jax
import jax.numpy as jnp
import numpy as np

from fmjax.data.in_memory import in_memory
from fmjax.types import Batch, Info, Model


def huber(nets, key, batch, *, bridge, source, delta=1.0):
    key_x0, key_t, key_bridge, key_net = jax.random.split(key, 4)
    t = jax.random.uniform(key_t, batch.x1.shape[:1])
    xt, ut, _ = bridge(key_bridge, t, source(key_x0, batch.x1), batch.x1)
    gap = jnp.abs(nets.online(t, xt, batch.cond, key=key_net) - ut)
    loss = jnp.where(gap < delta, gap**2 / 2, delta * (gap - delta / 2)).mean(-1)
    return loss, {"my_gap": gap.mean(-1)}


def linear(*, bias=0.0):
    def init(key, batch):
        d = batch.x1.shape[-1]
        return {"w": jnp.zeros((d, d)), "b": jnp.full(d, bias)}

    def apply(params, t, x, cond=None, *, key=None):
        return x @ params["w"] + params["b"][None]

    return Model(init, apply)


def one_step(net, key, x0, cond=None, *, length=1.0):
    return x0 + length * net(0.0, x0, cond), Info(jnp.asarray(1))


def largest(net, key, data, samples):
    return {"largest": float(np.abs(samples(5).x1).max())}


def cube(*, batch_size, seed=0, process=(0, 1)):
    rows = np.random.default_rng(0).random((40, 3), np.float32)
    splits = {"train": Batch(rows[:30]), "test": Batch(rows[30:])}
    return in_memory(splits, batch_size=batch_size, seed=seed, process=process)
"""


@pytest.fixture
def mine(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(MINE)
    return file


def test_an_objective_from_a_file(mine, tmp_path):
    assert tiny.launched(tmp_path / "run", f"loss={mine}:huber", "loss.delta=0.5") == 0
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["loss"] == {"bind": f"{mine}:huber", "delta": 0.5}  # `drop` went with its owner
    gaps = np.asarray([value for _, value in tiny.lines(tmp_path / "run", "my_gap")])
    losses = tiny.losses(tmp_path / "run")
    assert gaps.shape == losses.shape == (8,)
    assert np.all((losses > 0) & (losses < 0.5 * gaps))


def test_a_model_a_sampler_an_evaluator_and_a_data_set_from_a_file(mine, tmp_path, capsys):
    workdir = tmp_path / "run"
    changes = (
        f"model={mine}:linear",
        "model.bias=0.25",
        f"sampler={mine}:one_step",
        f"evaluators.gap={mine}:largest",
        f"data={mine}:cube",
    )
    assert tiny.launched(workdir, *changes, config=tiny.JUDGED) == 0
    metrics = json.loads((workdir / "record.json").read_text())["metrics"]
    assert set(metrics) == {"largest", "nfe", "sampling_seconds"}
    assert metrics["nfe"] == 1
    # a sampler without save points: that picture is left out, with a note
    assert "no picture trajectories: the sampler has no save points" in capsys.readouterr().out
    assert not (workdir / "trajectories.png").exists()
    assert (workdir / "samples.png").exists()
    assert tiny.launched(workdir, mode="sample", config=None, flags=["--n=6"]) == 0
    assert np.load(workdir / "samples" / "samples.npz")["x1"].shape == (6, 3)
