"""`tiny` with an evaluator, and pictures of its samples and trajectories."""

import numpy as np
import tiny


def mean_gap(net, key, data, samples):
    """Distance between the means of generated and of real rows."""
    gap = samples(32).x1.mean(0) - data.take("test", 32).x1.mean(0)
    return {"mean_gap": float(np.linalg.norm(gap))}


def get_config():
    config = tiny.get_config()
    config.evaluators = {"gap": {"bind": f"{tiny.JUDGED}:mean_gap"}}
    config.pictures = {
        "samples": {"bind": "fmjax.pictures:scatter", "n": 32},
        "trajectories": {"bind": "fmjax.pictures:flow_lines", "n": 32},
    }
    return config
