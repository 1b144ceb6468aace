"""What one run can be: seeds, stages, precisions, cadences; and what is loaded from it."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

import fmjax
from fmjax import checkpoint, manifest
from fmjax.config import ConfigError

MODELS = tiny.FILE.with_name("tiny_models.py")
LINE = f"model={MODELS}:line"  # where the network does not matter


@pytest.fixture(scope="module")
def loaded(finished):
    return fmjax.load(finished)


def test_a_loaded_run_samples_the_same_for_a_seed_and_a_prefix_for_fewer(loaded):
    sixteen, again, other = loaded.sample(40), loaded.sample(16), loaded.sample(16, seed=1)
    np.testing.assert_array_equal(sixteen.x1[:16], again.x1)
    np.testing.assert_array_equal(loaded.sample(16).x1, again.x1)
    assert not np.any(other.x1 == again.x1)
    assert sixteen.x1.shape == (40, 2)
    np.testing.assert_array_equal(again.cond, loaded.data.take("test", 16).cond)


def test_a_loaded_run_takes_conditions_and_gives_its_net_codec_and_data(loaded):
    batch = loaded.sample(3, np.asarray([1, 1, 0], np.int32))
    np.testing.assert_array_equal(batch.cond, [1, 1, 0])
    x1 = jnp.asarray(batch.x1)
    v = loaded.net(0.5, x1, batch.cond)
    np.testing.assert_array_equal(v, loaded.model.apply(loaded.params, 0.5, x1, batch.cond))
    np.testing.assert_array_equal(loaded.codec.decode(loaded.codec.encode(x1)), x1)
    assert loaded.data.names == ("left", "right")


def test_conditions_may_be_words_and_have_to_exist(loaded):
    named = loaded.sample(2, ["right", "left"])
    np.testing.assert_array_equal(named.cond, [1, 0])
    np.testing.assert_array_equal(named.x1, loaded.sample(2, [1, 0]).x1)
    for wrong, words in ((["up", "left"], "'up'"), ([1, 7], "no class 7"), ([1], "2 samples")):
        with pytest.raises(ConfigError, match=words):
            loaded.sample(2, wrong)


def test_another_run_may_be_the_weak_net_of_autoguidance(finished, loaded):
    weak = f"guidance.weak.workdir={finished}"
    changes = ["guidance=fmjax.guidance:autoguidance", "guidance.weak.name=fmjax:net", weak]
    same = fmjax.load(finished, changes=[*changes, "guidance.scale=3.0"])
    # guided by itself: nothing to be guided away from
    np.testing.assert_allclose(same.sample(4).x1, loaded.sample(4).x1, atol=1e-4)
    earlier = fmjax.load(finished, changes=[*changes, "guidance.scale=3.0", "guidance.weak.step=4"])
    assert np.any(np.abs(earlier.sample(4).x1 - loaded.sample(4).x1) > 1e-4)


def test_a_run_resumes_only_where_a_call_begins(tmp_path, capsys):
    assert tiny.launched(tmp_path, LINE, "steps=3") == 0
    assert (
        tiny.launched(tmp_path, LINE, "steps=8", "steps_per_call=2", "log_every=2", "save_every=2")
        == 2
    )
    assert "at step 3, which is no multiple" in capsys.readouterr().err


def test_a_run_is_loaded_at_a_step_with_changes_or_another_ema(finished, loaded):
    early = fmjax.load(finished, step=4)
    assert np.any(early.params["layer_0"]["kernel"] != loaded.params["layer_0"]["kernel"])
    finer = fmjax.load(finished, changes=["sampler.steps=4", "parallel.devices=2"])
    assert np.any(finer.sample(4).x1 != loaded.sample(4).x1)
    with pytest.raises(ConfigError, match=r"no EMA of decay 0.5; the run kept \[0.9\]"):
        fmjax.load(finished, ema=0.5)
    tiny.assert_same(loaded.params, tiny.state(finished, 8).ema["0.9"])


def test_a_run_on_two_devices_is_loaded_where_its_batch_does_not_fit(tmp_path):
    assert tiny.launched(tmp_path, LINE, "steps=1", "batch_size=6", "parallel.devices=2") == 0
    assert fmjax.load(tmp_path, changes=["parallel.devices=4"]).sample(3).x1.shape == (3, 2)


def test_several_seeds_at_once_differ_resume_and_make_a_table(tmp_path, finished, capsys):
    assert tiny.launched(tmp_path, "seeds=2", "steps=4", config=MODELS) == 0
    said = capsys.readouterr().out
    assert "±" in said
    assert "(2 seeds)" in said
    state = tiny.state(tmp_path, 4)
    assert {leaf.shape[0] for leaf in jax.tree.leaves(state)} == {2}
    kernel = state.params["layer_0"]["kernel"]
    assert not np.any(kernel[0] == kernel[1])
    gaps = json.loads((tmp_path / "record.json").read_text())["metrics"]["mean_gap"]
    assert len(set(gaps)) == 2
    assert tiny.launched(tmp_path, "seeds=2") == 0
    assert "resuming from step 4" in capsys.readouterr().out
    assert tiny.losses(tmp_path).shape == (8, 2)
    # the first of them is the run of one
    np.testing.assert_allclose(tiny.losses(tmp_path)[:, 0], tiny.losses(finished), rtol=1e-5)
    assert fmjax.load(tmp_path).sample(2).x1.shape == (2, 2)


def test_fine_tuning_starts_from_the_ema_of_another_run(tmp_path, finished, capsys):
    changes = (f"init_from={finished}", "steps=1", "optimizer.learning_rate=0.0")
    assert tiny.launched(tmp_path, *changes) == 0
    assert "0 fresh" in capsys.readouterr().out
    ema = tiny.state(finished, 8).ema["0.9"]
    tiny.assert_same(tiny.state(tmp_path, 1).params, ema)
    averaged = tiny.state(tmp_path, 1).ema["0.9"]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), averaged, ema)


def test_a_deeper_model_takes_what_fits(tmp_path, finished, capsys):
    changes = (f"init_from={finished}", "model.depth=2", "steps=1", "optimizer.learning_rate=0.0")
    assert tiny.launched(tmp_path, *changes) == 0
    assert "4 fresh: ['layer_1/" in capsys.readouterr().out
    ema, params = tiny.state(finished, 8).ema["0.9"], tiny.state(tmp_path, 1).params
    for fits in ("condition", "layer_0"):
        tiny.assert_same(params[fits], ema[fits])
    # the last one's width is another
    assert params["layer_1"]["kernel"].shape == (16, 16)


def test_optimizers_that_keep_parameters_keep_those_of_the_other_run(tmp_path, finished):
    changes = (
        f"init_from={finished}",
        "steps=1",
        "optimizer=optax.contrib:schedule_free_sgd",
        "optimizer.learning_rate=0.0",
    )
    assert tiny.launched(tmp_path, *changes) == 0
    np.testing.assert_array_equal(
        tiny.state(tmp_path, 1).opt_state.z["layer_0"]["kernel"],
        tiny.state(finished, 8).ema["0.9"]["layer_0"]["kernel"],
    )


def test_a_teacher_is_frozen_and_can_have_another_shape(tmp_path, finished):
    teacher = shutil.copytree(finished, tmp_path / "teacher")
    changes = (f"teacher={teacher}", f"loss={MODELS}:imitate", "model.width=8", "batch_size=16")
    assert tiny.launched(tmp_path / "run", *changes, "parallel.devices=2") == 0
    assert tiny.losses(tmp_path / "run")[-1] < 0.9 * tiny.losses(tmp_path / "run")[0]
    sizes = [size for _, size in tiny.lines(tmp_path / "run", "teacher_size")]
    assert min(sizes) > 0
    shutil.rmtree(teacher)  # its weights are not needed to sample
    assert fmjax.load(tmp_path / "run").sample(2).x1.shape == (2, 2)


def test_a_pair_of_networks_has_an_optimizer_each(tmp_path):
    changes = (
        f"model={MODELS}:pair",
        f"loss={MODELS}:both",
        f"sampler={MODELS}:from_fast",
        "optimizer=fmjax.optimizers:by_network",
        "optimizer.fast.name=optax:adam",
        "optimizer.fast.learning_rate=1e-2",
        "optimizer.slow.name=optax:sgd",
        "optimizer.slow.learning_rate=0.0",
    )
    assert tiny.launched(tmp_path, *changes, "steps=2") == 0
    loaded = fmjax.load(tmp_path)
    assert np.any(loaded.params.fast["table"] != 0)
    assert not np.any(loaded.params.slow["table"])
    assert loaded.sample(3).x1.shape == (3, 2)


def test_several_steps_a_call_change_nothing(tmp_path, finished):
    assert tiny.launched(tmp_path, "steps_per_call=4", "log_every=4") == 0
    expected = tiny.losses(finished).reshape(2, 4).mean(1)
    np.testing.assert_allclose(tiny.losses(tmp_path), expected, rtol=1e-5)
    assert [step for step, _ in tiny.lines(tmp_path)] == [4, 8]


def test_accumulation_bf16_and_no_ema_train_and_sample(tmp_path):
    changes = ("accumulate=2", "model.dtype=bfloat16", "ema=()", "clip_norm=1.0", "steps=2")
    assert tiny.launched(tmp_path, *changes) == 0
    state = tiny.state(tmp_path, 2)
    assert state.ema == {}
    assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {np.dtype(np.float32)}
    assert np.all(np.isfinite(tiny.losses(tmp_path)))
    loaded = fmjax.load(tmp_path)
    tiny.assert_same(loaded.params, state.params)
    assert loaded.sample(3).x1.dtype == np.float32


def test_evaluations_on_the_way_rank_the_checkpoints_to_keep(tmp_path):
    changes = (
        f"evaluators.gap={MODELS}:scripted",
        LINE,
        "steps=6",
        "eval_every=2",
        "save_every=1",
        "checkpoint.keep_last=1",
        "checkpoint.keep_best=1",
        "checkpoint.best=figure",
    )
    assert tiny.launched(tmp_path, *changes, config=MODELS) == 0
    # figures 3, 1, 2 at steps 2, 4, 6; the steps between have none and are not ranked
    assert tiny.lines(tmp_path, "eval/figure") == [(2, 3.0), (4, 1.0), (6, 2.0)]
    folders = dict(manifest.folders(tmp_path / "checkpoints"))
    assert sorted(folders) == [4, 6]
    assert manifest.metric(folders[4], "figure") == 1.0
    # the last evaluation is the run's: it is not made twice
    assert json.loads((tmp_path / "record.json").read_text())["metrics"]["figure"] == 2.0


@pytest.mark.parametrize("every", [0, 2])
def test_a_metric_to_rank_by_that_is_not_measured_is_named(every, tmp_path, capsys):
    changes = ("checkpoint.keep_best=1", "checkpoint.best=los", f"eval_every={every}", LINE)
    assert tiny.launched(tmp_path, *changes) == 2
    assert "config.checkpoint.best='los' is not measured; there are: grad_norm, loss" in (
        capsys.readouterr().err
    )


def test_samples_that_are_not_finite_are_an_error_and_the_run_is_kept(tmp_path, capsys):
    changes = (LINE, f"sampler={MODELS}:diverging", "steps=4")
    assert tiny.launched(tmp_path, *changes, config=MODELS) == 3
    assert "16 of 32 samples are not finite" in capsys.readouterr().err
    assert checkpoint.steps(tmp_path / "checkpoints") == [4]
    assert not (tmp_path / "record.json").exists()


def test_a_distribution_that_is_a_function_of_a_key_trains_the_same_on_any_devices(tmp_path):
    changes = (LINE, f"data={MODELS}:uniform", "loss.drop=0.0", "steps=4", "steps_per_call=2")
    curves = []
    for devices in (1, 2):
        workdir = tmp_path / str(devices)
        options = ("log_every=2", f"parallel.devices={devices}")
        assert tiny.launched(workdir, *changes, *options) == 0
        curves.append(tiny.losses(workdir))
    np.testing.assert_allclose(*curves, rtol=1e-5)
    assert curves[0].shape == (2,)


def test_a_pmapped_run_is_judged_and_drawn_too(tmp_path):
    changes = ("parallel=fmjax.shard:pmap", "parallel.devices=2", "steps=1")
    assert tiny.launched(tmp_path, *changes, config=tiny.JUDGED) == 0
    assert (tmp_path / "trajectories.png").exists()
