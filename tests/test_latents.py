"""The codec of a trained autoencoder: its scale, what it depends on, and runs that are none."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import stages
import tiny
import tiny_art

from fmjax import assemble, codecs, inference, latents, settings
from fmjax.config import ConfigError
from fmjax.models.autoencoder import posterior


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("autoencoder")
    changes = (
        f"data={tiny_art.FILE}:images",
        "codec=fmjax.codecs:affine",
        "codec.low=0.0",
        "codec.high=255.0",
        "codec.levels=256",
        "model=fmjax.models.autoencoder:autoencoder",
        "model.width=4",
        "model.multipliers=(1,)",
        "model.blocks=0",
        "model.latent=2",
        "model.patch=4",
        "loss=fmjax.losses.autoencoder:autoencoder",
        "sampler=fmjax.samplers.reconstruct:reconstruct",
        "steps=2",
        "save_every=1",
    )
    assert tiny.launched(workdir, *changes) == 0
    return workdir


@pytest.fixture(scope="module")
def codec(run):
    return latents.codec(run=run)


@pytest.fixture(scope="module")
def loaded(run):
    return inference.load(run)


def test_latents_have_mean_zero_and_variance_one_over_the_training_rows(codec, loaded):
    x = loaded.data.take("train", None).x1
    mean, std = jax.jit(codec.posterior)(x)
    np.testing.assert_allclose(mean.mean((0, 1, 2)), 0, atol=1e-4)
    variance = mean.var((0, 1, 2)) + (std**2).mean((0, 1, 2))
    np.testing.assert_allclose(variance, 1, rtol=1e-3)


def test_it_is_the_ema_of_the_run_behind_the_runs_own_codec(run, codec, loaded):
    x = jnp.asarray(loaded.data.take("test", 5).x1)
    found = json.loads(next((run / "latents").glob("*.json")).read_text())
    std, shift = (jnp.asarray(found[k])[None, None, None] for k in ("std", "mean"))

    @jax.jit
    def of_the_run(x):
        mean, _ = posterior(loaded.net.encoder(1.0, loaded.codec.encode(x)))
        return (mean - shift) / std, loaded.codec.decode(loaded.net.decoder(1.0, mean))

    @jax.jit
    def of_the_codec(x):
        z = codec.encode(x)
        return z, codec.decode(z)

    (wanted, again), (z, decoded) = of_the_run(x), of_the_codec(x)
    np.testing.assert_allclose(z, wanted, atol=1e-4)
    assert np.mean(np.abs(decoded - again) > 0.5) < 0.01  # of 256 levels


def test_a_program_may_take_the_weights_as_an_argument(codec, loaded):
    x = jnp.asarray(loaded.data.take("test", 4).x1)
    program = jax.jit(lambda arrays, x: codecs.at(codec, arrays).encode(x))
    other = jax.tree.map(jnp.zeros_like, codecs.arrays(codec))
    np.testing.assert_allclose(
        program(codecs.arrays(codec), x), jax.jit(codec.encode)(x), atol=1e-5
    )
    assert np.ptp(program(other, x), axis=0).max() == 0
    hash(codec)  # codecs are static arguments of compiled metrics


def test_statistics_are_kept_and_the_digest_tells_weights_apart(run, codec):
    stamps = {f: f.stat().st_mtime_ns for f in (run / "latents").iterdir()}
    assert latents.codec(run=run).depends_on == codec.depends_on
    assert {f: f.stat().st_mtime_ns for f in (run / "latents").iterdir()} == stamps
    first = latents.codec(run=run, step=1)
    assert first.depends_on != codec.depends_on


def test_a_missing_run_says_which_command_trains_it(tmp_path, monkeypatch):
    monkeypatch.chdir(stages.CONFIGS.parent)
    train = r"python launch\.py --config=configs/mnist_vae\.py --workdir=.*mnist_vae"
    with pytest.raises(ConfigError, match=train):
        latents.codec(run=tmp_path / "mnist_vae")
    with pytest.raises(ConfigError, match="config of an autoencoder"):
        latents.codec(run=tmp_path / "another")
    config = settings.load_config(stages.CONFIGS / "mnist_latent.py")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="Train it first"):
        assemble.assemble(config)


def test_a_run_of_another_model_is_named(finished):
    with pytest.raises(ConfigError, match=r"mlp.*no encoder and decoder"):
        latents.codec(run=finished)


def test_a_large_codec_is_not_compiled_into_the_step():
    arrays = np.zeros(codecs.LARGEST // 4 + 1, np.float32)
    big = codecs.with_arrays(lambda a: codecs.identity(), arrays, depends_on="big")
    codecs.check_size(big, encoded=True)
    with pytest.raises(ConfigError, match=r"fmjax\.latents:latents"):
        codecs.check_size(big, encoded=False)
    codecs.check_size(codecs.identity(), encoded=False)
