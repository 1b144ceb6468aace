"""Latent flow matching: the codec of a trained autoencoder, and data encoded by it once.

    python launch.py --config=configs/mnist_vae.py --workdir=runs/mnist_vae
    python launch.py --config=configs/mnist_latent.py --workdir=runs/mnist_latent

The second config's codec names the first's directory, and its data are the first's, cached:

    config.codec = dict(name="fmjax.latents:codec", run="runs/mnist_vae")
    config.data = dict(name="fmjax.latents:latents", data=dict(bind="fmjax.data.mnist_5k:mnist_5k"))

The codec of a published network takes the place of the run's: `fmjax.pretrained.sd_vae:codec`.
Rombach et al. 2021 (2112.10752); Dao et al. 2023 (2307.08698).
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fmjax import checkpoint, codecs, digests, inference, judge, reading, record, settings
from fmjax.assemble import Parts
from fmjax.config import ConfigError
from fmjax.data.latents import latents as latents
from fmjax.models.autoencoder import Autoencoder, posterior


def codec(
    *,
    run: str | os.PathLike[str],
    ema: float | None = None,
    step: int | None = None,
    changes: Sequence[str] = (),
    rows: int = 8192,
    data_dir: str | None = None,
) -> codecs.Codec:
    """z = (E(x) − m)/s, the autoencoder trained in the directory `run`; decode undoes it.

    m, s: per channel, of z ~ q(z|x) over the first `rows` examples of the run's training split,
    so that latents have mean 0 and variance 1; computed once, and kept in `run`/latents.
    The run's own codec (of pixels) is part of this one. `ema`, `step`, `changes`: which weights,
    and changes of the run's config, as in `reflow`; name the step of a run that may go on, as
    flows in these latents refuse other weights than those they were trained with.

    ConfigError: no trained run there, or one of another model.
    """
    workdir = Path(run).expanduser()
    check_run(workdir)
    own = {} if data_dir is None else {"data_dir": data_dir}
    # whatever devices it was trained on: the weights are to be whole on this host
    config = settings.read_workdir(workdir, changes) | {"parallel": {"name": "fmjax.shard:jit"}}
    parts = inference.assembled(workdir, config | own)
    if not isinstance(parts.model, Autoencoder):
        raise ConfigError(
            f"{workdir} is a run of {config['model']['name']}, which has no encoder and decoder; "
            "expected one of fmjax.models.autoencoder"
        )
    params = judge.of_seed(parts, inference.load_params(parts, workdir, ema=ema, step=step), 0)
    params = jax.device_get(params)
    weights = digests.arrays(params)
    known = {"weights": weights, "rows": rows, "codec": config["codec"], "data": config["data"]}
    file = workdir / "latents" / f"{record.digest(known)[:16]}.json"
    mean, std = _statistics(parts, params, rows, file, known)

    def make(params: Any) -> codecs.Codec:
        encoder, decoder = parts.model
        return codecs.latent(
            lambda x: posterior(encoder.apply(params.encoder, 1.0, x)),
            lambda z: decoder.apply(params.decoder, 1.0, z),
            pixels=parts.codec,
            mean=mean,
            std=std,
        )

    # of three digits: the last ones differ between machines that compute them anew
    digits = [f"{value:.3g}" for value in (*mean, *std)]
    made_of = known | {"mean_std": digits, "model": config["model"]}
    return codecs.with_arrays(make, params, depends_on=record.digest(made_of))


def check_run(workdir: Path) -> None:
    """ConfigError that says which command trains the run, unless there is one in `workdir`."""
    if (workdir / "config.json").exists() and checkpoint.steps(workdir / "checkpoints"):
        return
    config = Path("configs") / f"{workdir.name}.py"
    which = config if config.exists() else "<the config of an autoencoder>"
    raise ConfigError(
        f"{workdir} holds no trained run, whose latents this one is made of. Train it first: "
        f"python launch.py --config={which} --workdir={workdir}"
    )


def _statistics(
    parts: Parts, params: Any, rows: int, file: Path, known: Mapping[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of each channel of the latents, from `file` or computed into it."""
    if not file.exists():
        data, encoder = parts.datas[0], parts.model.encoder
        n = min(rows, data.splits["train"] or rows)
        step = min(parts.config["sample_chunk"], n)

        @jax.jit
        def moments(params: Any, x: Any) -> Any:
            return posterior(encoder.apply(params.encoder, 1.0, parts.codec.encode(x)))

        read = reading.chunks(data.take, "train", n, step)
        chunks = [jax.device_get(moments(params, batch.x1)) for batch in read]
        mean, std = (np.concatenate(part).astype(np.float64) for part in zip(*chunks, strict=True))
        axes = tuple(range(mean.ndim - 1))
        spread = np.sqrt(mean.var(axis=axes) + (std**2).mean(axis=axes))
        found = {"mean": mean.mean(axis=axes).tolist(), "std": spread.tolist(), "n": n}
        if jax.process_index() == 0:
            file.parent.mkdir(parents=True, exist_ok=True)
            record.write_json(file, found | {"depends_on": dict(known)})
    else:
        found = json.loads(file.read_text())
    return np.asarray(found["mean"], np.float32), np.asarray(found["std"], np.float32)
