import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import stages

from fmjax import inference


@pytest.fixture
def experiment(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "experiments"))
    import text_sampling

    return text_sampling


def workdirs():
    runs = {"workdir": "text_wiki", "judge": "text_autoregressive"}
    return [f"--{flag}={stages.trained(name)}" for flag, name in runs.items()]


@pytest.mark.complete
def test_every_sampler_and_precision_is_judged(experiment, tmp_path, capsys):
    words = [*workdirs(), f"--out={tmp_path}", "--n=6", "--chunk=4", "--nfe", "2"]
    rows = experiment.main([*words, "--churn=0.5"])
    assert [row["sampler"] for row in rows[:2]] == ["real text", "the judge itself"]
    assert len(rows) == 2 + 4 * 2
    found = json.loads((tmp_path / "results.json").read_text())
    assert found[1]["nfe"] == 16  # one for each character
    for cell in found[2:]:
        assert cell["nfe"] == cell["asked"] or cell["sampler"] == "adaptive"
        assert cell["seconds"] > 0
        # a net that has just begun draws any character, and the judge thinks so, too
        assert cell["judge"] == pytest.approx(math.log2(27), abs=0.5)
        assert 2 < cell["entropy"] <= 4
    # real text is what the n-gram has read, samples are not
    assert found[0]["n_gram"] < min(cell["n_gram"] for cell in found[1:])
    assert {cell["sampler"] for cell in found[2:]} >= {"ctmc, churn 0.5", "confidence"}
    assert (tmp_path / "table.md").read_text() in capsys.readouterr().out
    assert (tmp_path / "texts.md").read_text().count("## ") == len(rows) - 1
    assert (tmp_path / "figure.png").stat().st_size > 1000


@pytest.mark.complete
def test_the_judge_reads_each_text_by_itself(experiment):
    run = inference.load(stages.trained("text_autoregressive"))
    # away from the start, where every text has the same likelihood
    leaves, tree = jax.tree.flatten(run.params)
    keys = jax.random.split(jax.random.key(0), len(leaves))
    pairs = zip(leaves, keys, strict=True)
    params = tree.unflatten([p + 0.3 * jax.random.normal(k, p.shape) for p, k in pairs])
    run = run._replace(params=params)
    x = run.data.take("test", 5).x1
    judge = experiment.judge_of(run)
    every = judge(x, chunk=4)
    alone = [judge(x[i : i + 1], chunk=2) for i in range(5)]
    np.testing.assert_allclose(every, np.concatenate(alone), rtol=1e-4)
    net = run.model.apply
    before = jnp.pad(jnp.asarray(x)[:, :-1], ((0, 0), (1, 0)), constant_values=27)
    log_p = jnp.take_along_axis(net(params, 1.0, before), jnp.asarray(x)[..., None], axis=-1)
    np.testing.assert_allclose(every, -log_p[..., 0].mean(axis=1) / math.log(2), rtol=1e-4)


def test_runs_of_different_tokens_are_refused(experiment, monkeypatch, tmp_path):
    load, codecs = experiment.inference.load, iter(["a", "b"])

    def other(workdir):
        run = load(workdir)
        return run._replace(codec=run.codec._replace(depends_on=next(codecs)))

    monkeypatch.setattr(experiment.inference, "load", other)
    with pytest.raises(SystemExit, match="other tokens"):
        experiment.main([*workdirs(), f"--out={tmp_path}"])
