"""The main job: class-conditional digits, 8x8, from scikit-learn.

    python launch.py --config=configs/digits.py --workdir=runs/digits

Hardware: any; measured on 2 CPU cores.
Time: 2 to 3 minutes there, judging included, by how busy the machine is.
Result: over seeds 0 to 2, by experiments/digits.py, unguided,
EMA 0.999, Heun with 10 steps (NFE 20): conditional accuracy 0.994 +- 0.003 under a classifier
whose own test accuracy is 0.981; energy distance to the test split 1.29 +- 0.06 times that of
training draws; memorisation ratio 0.904 +- 0.011; precision 0.973 and recall 0.742 (draws of the
training split: 0.932 and 0.883). Recall says that the samples vary less than the data.
Measured: 2026-11, jax 0.10.2.
"""

from ml_collections import ConfigDict


def get_config():
    config = ConfigDict()
    config.seed = 0
    config.steps = 4000
    config.steps_per_call = 50
    config.batch_size = 128
    config.log_every = 50
    config.save_every = 1000
    config.ema = (0.999,)
    config.clip_norm = 1.0

    config.data = dict(name="fmjax.data.digits:digits")
    config.codec = dict(name="fmjax.codecs:affine", low=0.0, high=16.0, levels=17)
    config.model = dict(name="fmjax.models.resmlp:resmlp", width=256, depth=4, dropout=0.3)
    config.loss = dict(bind="fmjax.losses.flow_matching:flow_matching", drop=0.1)
    config.optimizer = dict(
        name="optax:adamw",
        learning_rate=dict(
            name="optax:warmup_cosine_decay_schedule",
            init_value=0.0,
            peak_value=1e-3,
            warmup_steps=config.get_ref("steps") // 30,
            decay_steps=config.get_ref("steps"),
        ),
        weight_decay=0.01,
        mask=dict(bind="fmjax.optimizers:kernels"),
    )
    config.sampler = dict(bind="fmjax.samplers.ode:ode", solver=dict(name="diffrax:Heun"), steps=10)
    config.evaluators = dict(
        classifier=dict(bind="fmjax.metrics.classifier:classifier_accuracy"),
        energy=dict(bind="fmjax.metrics.energy:energy", draws=20),
        frechet=dict(bind="fmjax.metrics.frechet:frechet"),
        memorisation=dict(bind="fmjax.metrics.memorisation:memorisation"),
        manifold=dict(bind="fmjax.metrics.precision_recall:manifold"),
        mmd=dict(bind="fmjax.metrics.mmd:mmd"),
        wasserstein=dict(bind="fmjax.metrics.wasserstein:wasserstein"),
    )
    config.pictures = dict(
        samples=dict(bind="fmjax.pictures:grid", low=0.0, high=16.0),
        trajectories=dict(bind="fmjax.pictures:trajectories", low=0.0, high=16.0),
    )
    config.tiny = (
        "steps=4", "steps_per_call=2", "log_every=2", "save_every=2", "batch_size=16",
        "model.width=16", "model.depth=1", "sampler.steps=2", "sample_chunk=360",
        "evaluators.energy.draws=1", "evaluators.frechet.draws=1",
    )  # fmt: skip
    return config
