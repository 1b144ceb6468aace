"""A run of text from the command line: trained, read, continued, filled in, refused."""

import io
import json

import jax
import numpy as np
import pytest
import tiny
import tiny_text

import fmjax
from fmjax import assemble, page, pictures, settings
from fmjax.config import ConfigError
from fmjax.types import Batch


def nothing(n):
    raise AssertionError("not asked for")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("text")
    assert tiny.launched(workdir, config=tiny_text.FILE) == 0
    return workdir


def sampled(run, tmp_path, *flags):
    return tiny.launched(run, mode="sample", config=None, flags=("--n=3", *flags))


def test_what_is_given_stays_and_is_printed(run, tmp_path, capsys):
    assert sampled(run, tmp_path, "--given=th_ cat") == 0
    kept = np.load(run / "samples" / "samples.npz")["x1"]
    loaded = fmjax.load(run)
    texts = [loaded.codec.write(row) for row in kept]
    for text in texts:
        assert (text[:2], text[3:7]) == ("th", " cat")
        assert len(text) == 16
    assert len(set(texts)) > 1
    said = capsys.readouterr().out
    assert all(text in said for text in texts)
    lines = (run / "samples" / "samples.jsonl").read_text().splitlines()
    assert [json.loads(line)["text"] for line in lines] == texts


def test_in_python_it_is_an_argument(run):
    loaded = fmjax.load(run)
    batch = loaded.sample(2, given="_a")
    assert all(loaded.codec.write(row)[1] == "a" for row in batch.x1)
    assert "_" not in "".join(map(loaded.codec.write, batch.x1))
    with pytest.raises(ConfigError, match="not both"):
        loaded.sample(1, given="a", image=np.zeros(16))


@pytest.mark.parametrize(
    ("given", "words"),
    [("naïve", "ï"), ("a" * 17, "17"), ("UPPER", "U")],
)
def test_what_cannot_be_read_is_named(run, tmp_path, capsys, given, words):
    assert sampled(run, tmp_path, f"--given={given}") == 2
    assert words in capsys.readouterr().err


def test_another_alphabet_is_refused(run, capsys):
    flags = ("--n=1", "--config.codec.alphabet=abc ")
    assert tiny.launched(run, mode="sample", config=None, flags=flags) == 2
    assert "trained with a codec" in capsys.readouterr().err


def test_runs_of_numbers_read_nothing(finished, capsys):
    flags = ("--n=1", "--given=abc")
    assert tiny.launched(finished, mode="sample", config=None, flags=flags) == 2
    assert "--image and --mask" in capsys.readouterr().err


def test_a_page_has_the_texts_under_their_classes(run):
    loaded = fmjax.load(run)
    data = loaded.data._replace(names=("good", "bad"))
    x = np.tile(loaded.codec.tokens("a dollar and one"), (3, 1))
    batch = Batch(x, np.array([1, 0, 2]))
    figure = page.page(data, lambda n: batch, nothing, codec=loaded.codec, n=3, width=10)
    (shown,) = (text.get_text() for text in figure.texts)
    assert [line for line in shown.splitlines() if "[" in line] == ["[bad]", "[good]", "[any]"]
    assert shown.count("a dollar\nand one") == 3
    parts = data._replace(names={"mood": ("good", "bad")})
    batch = Batch(x, {"mood": np.array([1, 0, 2])})
    figure = page.page(parts, lambda n: batch, nothing, codec=loaded.codec, n=1)
    assert "[bad]" in figure.texts[0].get_text()
    odd = loaded.codec._replace(write=lambda row: "\N{ARABIC LETTER KEHEH}\x00$x$ é")
    figure = page.page(parts, lambda n: batch, nothing, codec=odd, n=1)
    assert "$x$ é" in figure.texts[0].get_text()
    figure.savefig(io.BytesIO())  # a missing letter would be a warning, which is an error here
    with pytest.raises(pictures.NotDrawn, match="writes no text"):
        page.page(data, nothing, nothing, codec=loaded.codec._replace(write=None))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["source=fmjax.sources:normal"], "fmjax.sources:mask"),
        (
            ["source=fmjax.sources:uniform_tokens", "sampler=fmjax.samplers.confidence:confidence"],
            "replaces masks",
        ),
        (
            [
                "source=fmjax.sources:uniform_tokens",
                "loss=fmjax.losses.self_distillation:self_distillation",
            ],
            r"config\.loss .* replaces masks",
        ),
    ],
)
def test_a_source_that_does_not_fit_is_refused_with_the_remedy(changes, words):
    small = settings.load_config(tiny_text.FILE, changes)
    with pytest.raises(ValueError, match=words):
        traced(small)


def test_tokens_need_a_bridge_of_tokens():
    small = settings.load_config(tiny_text.FILE) | {"bridge": {}}
    with pytest.raises(ValueError, match=r"fmjax\.tokens:mixture"):
        traced(small)


def test_a_second_stage_learns_of_the_pairs_of_a_first(tmp_path):
    """Rectified discrete flows: x0 is the noise that the chain made x1 of."""
    first = tmp_path / "first"
    changes = (
        "source=fmjax.sources:uniform_tokens",
        "loss=fmjax.losses.discrete_flow_matching:discrete_flow_matching",
        "sampler.churn=1.0",
    )
    assert tiny.launched(first, *changes, config=tiny_text.FILE) == 0
    node = {"name": "fmjax.reflow:reflow", "run": str(first), "n": 32}
    config = settings.read_workdir(first)
    config |= {"data": node | {"changes": ("sampler.churn=0.0",)}}
    traced(config)
    (folder,) = (first / "pairs").iterdir()
    drawn = [np.load(file) for file in sorted(folder.glob("*.npz"))]
    pairs = np.concatenate([np.concatenate([d["x0"], d["x1"]], axis=1) for d in drawn])
    assert pairs.shape == (32, 32)
    assert 0 <= pairs.min() <= pairs.max() < 27
    read = assemble.build_data(config)[0].take("train", None)
    served = np.concatenate([read.x0, read.x1], axis=1)
    np.testing.assert_array_equal(np.unique(served, axis=0), np.unique(pairs, axis=0))


def traced(config):
    """One step of a run, which is not compiled."""
    parts = assemble.assemble(config)
    key, *_ = assemble.keys(parts.config)
    batch = assemble.make_batches(parts)(0)
    jax.eval_shape(assemble.make_call(parts), assemble.abstract_state(parts), None, key, batch)
