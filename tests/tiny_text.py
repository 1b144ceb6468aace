"""A run of text: windows of 16 characters out of masks, a transformer of width 16, one step."""

from pathlib import Path

import numpy as np
import tiny

from fmjax.data.in_memory import in_memory
from fmjax.types import Batch

FILE = Path(__file__).resolve()
TEXT = "the cat sat on a mat and it had a dollar and one more in its hat "


def windows(*, codec, batch_size, seed=0, process=(0, 1)):
    """32 and 16 windows of one text."""
    ids = codec.tokens(2 * TEXT)

    def rows(n, first):
        return Batch(np.stack([ids[first + i : first + i + 16] for i in range(n)]))

    splits = {"train": rows(32, 0), "test": rows(16, 32)}
    return in_memory(splits, batch_size=batch_size, seed=seed, process=process)


def get_config():
    config = tiny.get_config()
    config.steps = 1
    config.save_every = 1
    config.batch_size = 8
    config.data = {"name": f"{FILE}:windows"}
    config.codec = {"name": "fmjax.text:characters"}
    config.source = {"bind": "fmjax.sources:mask"}
    config.bridge = {"name": "fmjax.tokens:mixture"}
    config.model = {
        "name": "fmjax.models.token_transformer:token_transformer",
        "width": 16,
        "depth": 1,
        "heads": 2,
    }
    config.loss = {
        "bind": "fmjax.losses.generalised_kl:generalised_kl",
        "sample_t": {"bind": "fmjax.times:stratified", "high": 0.999},
    }
    config.sampler = {"bind": "fmjax.samplers.ctmc:ctmc", "steps": 2}
    config.sample_chunk = 16
    return config
