"""A run with a condition of parts: 8×8 colour images of two groups, two styles and captions."""

from pathlib import Path

import numpy as np
import tiny

from fmjax.data import _common
from fmjax.data.in_memory import in_memory
from fmjax.types import Batch

FILE = Path(__file__).resolve()
NAMES = {"group": ("red", "blue"), "style": ("dark", "light, bright")}
NULL = {"group": np.int32(2), "style": np.int32(2), "caption": np.zeros(3, np.float32)}


def images(*, batch_size, seed=0, process=(0, 1), levels=np.float32):
    """32 and 8 images in 0..255."""
    rng = np.random.default_rng(0)

    def rows(n):
        group, style = np.arange(n, dtype=np.int32) % 2, np.arange(n, dtype=np.int32) // 2 % 2
        x = np.zeros((n, 8, 8, 3))
        x[np.arange(n), :, :, 2 * group] = 1
        x = (0.3 + 0.5 * style[:, None, None, None]) * x + 0.1 * rng.uniform(size=x.shape)
        caption = rng.normal(size=(n, 3)).astype(np.float32)
        cond = {"group": group, "style": style, "caption": caption}
        return Batch(np.round(255 * x).astype(levels), cond)

    readers = {part: _common.class_reader(names) for part, names in NAMES.items()}
    readers["caption"] = lambda word: np.full(3, len(word), np.float32)
    return in_memory(
        {"train": rows(32), "test": rows(8)},
        batch_size=batch_size,
        seed=seed,
        process=process,
        null=NULL,
        names=NAMES,
        read=_common.parts_reader(readers, NULL),
    )


def get_config():
    config = tiny.get_config()
    config.steps = 2
    config.save_every = 2
    config.batch_size = 8
    config.data = {"name": f"{FILE}:images"}
    config.codec = {"name": "fmjax.codecs:affine", "low": 0.0, "high": 255.0, "levels": 256}
    config.loss = {
        "bind": "fmjax.losses.flow_matching:flow_matching",
        "drop": {"all": 0.1, "group": 0.2, "style": 0.2},
    }
    config.guidance = {
        "bind": "fmjax.guidance:compose",
        "scales": {"group": 2.0, "style": 1.5},
    }
    config.pictures = {
        "samples": {
            "bind": "fmjax.pictures:grid", "low": 0.0, "high": 255.0, "columns": 4, "n": 16,
        },
        "art": {
            "bind": "fmjax.pictures:art_sheet",
            "low": 0.0,
            "high": 255.0,
            "noises": 2,
            "scales": (0, 2),
            "amounts": (0, 1),
            "strengths": (0.5,),
            "inches": 4,
            "image_to_image": {"bind": "fmjax.samplers.partial:partial"},
            "inpainting": {"bind": "fmjax.samplers.inpaint:inpaint", "steps": 2},
        },
    }  # fmt: skip
    return config
