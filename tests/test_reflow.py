import json
import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
import unshuffled
import watched

from fmjax import codecs, evaluate, inference, reflow, sources
from fmjax.config import ConfigError
from fmjax.metrics.energy import energy

CHUNK = 32  # of tiny's run
MODELS = tiny.FILE.with_name("tiny_models.py")
LINE = f"model={MODELS}:line"


def draw(run, n=80, **options):
    """The `Data`, and what was said on the way."""
    said = []
    data = reflow.reflow(run=run, n=n, batch_size=20, say=said.append, **options)
    return data, said


@pytest.fixture(scope="module")
def trained(finished, tmp_path_factory):
    """A first stage, which may be written to."""
    return shutil.copytree(finished, tmp_path_factory.mktemp("first") / "run")


@pytest.fixture(scope="module")
def data(trained):
    return draw(trained)[0]


def assert_trajectories(workdir, pairs):
    """x1 is what the run's sampler, two Euler steps, makes of x0."""
    v = inference.load(workdir).net
    x0, cond = jnp.asarray(pairs.x0), jnp.asarray(pairs.cond)

    @jax.jit
    def ends(x0, cond):
        half = x0 + 0.5 * v(0.0, x0, cond)
        return half + 0.5 * v(0.5, half, cond)

    np.testing.assert_allclose(pairs.x1, ends(x0, cond), atol=1e-5)


def test_pairs_are_ends_of_the_runs_own_trajectories(trained, data):
    pairs = data.take("train", None)
    assert pairs.x0.shape == pairs.x1.shape == (80, 2)
    assert_trajectories(trained, pairs)
    assert len(np.unique(pairs.x0)) == 160  # no file repeats another
    assert abs(pairs.x0.mean()) < 0.3
    assert pairs.x0.std() == pytest.approx(1, abs=0.3)
    first = tiny.points(batch_size=1).take("train", 80).cond
    np.testing.assert_array_equal(np.sort(pairs.cond), np.sort(first))


def test_batches_are_pairs_and_the_real_data_are_there(data):
    real = tiny.points(batch_size=1)
    assert dict(data.splits) == {"train": 80, "real": 96, "test": 32}
    epoch = [data.batch("train", step) for step in range(4)]
    np.testing.assert_array_equal(
        np.sort(np.concatenate([b.x1 for b in epoch]), axis=0),
        np.sort(data.take("train", None).x1, axis=0),
    )
    for name, own in (("real", "train"), ("test", "test")):
        np.testing.assert_array_equal(data.take(name, 8).x1, real.take(own, 8).x1)
        assert data.take(name, 8).x0 is None
        np.testing.assert_array_equal(data.take(name, 3, start=5).x1, real.take(own, 8).x1[5:])
    assert data.spec.x0.shape == (2,)
    assert (data.null, data.names, data.read("right")) == (2, ("left", "right"), 1)
    with pytest.raises(ValueError, match="no split 'valid'"):
        data.take("valid", 1)


def test_a_second_stage_trains_and_a_third_takes_its_first_seed(trained, data, tmp_path):
    second = tmp_path / "second"
    changes = ("data=fmjax.reflow:reflow", f"data.run={trained}", "data.n=80")
    assert tiny.launched(second, *changes, LINE, "steps=4", "seeds=2", "batch_size=16") == 0
    pairs = draw(second, n=10)[0].take("train", None)
    assert pairs.x1.shape == (10, 2)
    assert_trajectories(second, pairs)


def test_real_data_give_evaluators_their_floor(data):
    options = {"reference": "real", "n": 16, "draws": 2}
    results = energy(None, jax.random.key(0), data, lambda n: data.take("train", n), **options)
    assert results["energy_floor"] > 0


def test_what_was_cut_short_goes_on_where_it_was(trained, data, monkeypatch):
    """The second file's write is interrupted; what is there is not drawn again, nor differs."""
    replace, calls = os.replace, []

    def interrupted(old, new):
        if new.suffix == ".npz":
            calls.append(new)
            if len(calls) == 2:
                raise KeyboardInterrupt
        replace(old, new)

    options = {"step": 8, "ema": 0.9}  # what the default means, under another digest
    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        draw(trained, **options)
    folder = calls[0].parent
    assert len(list(folder.glob("*.npz"))) == 1
    written = calls[0].stat().st_mtime_ns
    again, said = draw(trained, **options)
    assert said == [f"drawing pairs: 2 of 3 files in {folder}"]
    assert calls[0].stat().st_mtime_ns == written
    tiny.assert_same(again.take("train", None), data.take("train", None))
    assert json.loads((folder / "depends_on.json").read_text())["step"] == 8
    # all there: nothing is drawn, and a greater n draws only what is new
    assert draw(trained, **options)[1] == []
    more, said = draw(trained, n=100, **options)
    assert said == [f"drawing pairs: 1 of 4 files in {folder}"]
    tiny.assert_same(
        jax.tree.map(lambda x: x[:80], unshuffled.rows(more, "train")),
        unshuffled.rows(again, "train"),
    )
    assert more.splits["train"] == 100


def test_other_seeds_of_the_draw_and_other_samplers_give_other_pairs(trained, data):
    def sorted_rows(**options):
        return np.sort(draw(trained, **options)[0].take("train", None).x1, axis=0)

    first = np.sort(data.take("train", None).x1, axis=0)
    assert np.abs(sorted_rows(draw=1) - first).max() > 0.01
    assert np.abs(sorted_rows(changes=("sampler.steps=3",)) - first).max() > 1e-4
    np.testing.assert_array_equal(sorted_rows(seed=5), first)  # their order only
    rows = [draw(trained, process=(i, 2))[0].batch("train", 3).x1 for i in (0, 1)]
    np.testing.assert_array_equal(np.concatenate(rows), data.batch("train", 3).x1)


def test_a_codec_that_rounds_is_warned_of(trained):
    rounds = ("codec=fmjax.codecs:affine", "codec.low=-4.", "codec.high=4.", "codec.levels=5")
    with pytest.warns(reflow.LossyCodec, match=r"by \d+\.\d% of their size.*codec\.levels=None"):
        draw(trained, n=4, changes=rounds)
    exact = ("codec.levels=None", "codec.clip=False")
    # the second run's own codec still rounds what it decodes, which spoils nothing
    second = codecs.affine(low=-4.0, high=4.0, levels=5)
    served, _ = draw(trained, n=4, changes=(*rounds, *exact), codec=second)
    assert np.abs(served.take("train", None).x1).max() < 40


def test_weights_of_codecs_are_an_argument_of_the_program(trained):
    watched.RUNS.clear()
    seen = []
    draw(trained, n=4, changes=("codec=watched:of_a_run",), codec=watched.codec(seen))
    assert {traced for name, traced in watched.RUNS if name == "decode"} == {True}
    assert set(seen) == {("encode", True)}


def test_another_source_is_refused(trained):
    assert draw(trained, source=sources.normal)[1] == []
    with pytest.raises(ConfigError, match=r"config\.source is not that of .*sources:normal"):
        draw(trained, source=lambda key, like: 2 * sources.normal(key, like))


def test_another_codec_is_refused_also_when_the_pairs_are_there(trained):
    draw(trained)
    with pytest.raises(ConfigError, match=r"config\.codec does not encode as that of"):
        draw(trained, codec=codecs.affine(low=0.0, high=5.0))


def test_no_pairs_and_no_checkpoint_are_errors(trained, tmp_path):
    with pytest.raises(ConfigError, match="n=0"):
        draw(trained, n=0)
    (tmp_path / "config.json").write_text((trained / "config.json").read_text())
    with pytest.raises(ConfigError, match="no finished checkpoint: train it first"):
        draw(tmp_path)


def test_samples_that_diverged_are_an_error_and_not_kept(trained, monkeypatch):
    make = evaluate.make_generate

    def broken(*args, **options):
        generate = make(*args, **options)
        return lambda *a: (generate(*a)[0]._replace(x1=np.full((CHUNK, 2), np.nan)), None)

    monkeypatch.setattr(evaluate, "make_generate", broken)
    with pytest.raises(evaluate.NotFinite):
        draw(trained, draw=7)
    with pytest.raises(evaluate.NotFinite):
        draw(trained, draw=7)


def test_conditions_of_a_distribution_are_drawn_chunk_by_chunk(trained):
    def conditions(n, **options):
        pairs = draw(trained, n=n, changes=(f"data={MODELS}:halves",), **options)[0]
        return unshuffled.rows(pairs, "train").cond

    two = conditions(2 * CHUNK)
    assert two.shape == (2 * CHUNK,)
    assert (two[:CHUNK] != two[CHUNK:]).any()
    # drawn anew, under another digest
    np.testing.assert_array_equal(conditions(CHUNK, step=8, ema=0.9), two[:CHUNK])


def test_pairs_of_a_run_without_conditions_have_none(tmp_path):
    assert tiny.launched(tmp_path, LINE, f"data={MODELS}:uniform", "steps=1") == 0
    assert draw(tmp_path, n=4)[0].take("train", None).cond is None
