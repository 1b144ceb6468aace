"""Digits with a diffusion transformer whose middle tokens are aligned with features (REPA).

    python launch.py --config=configs/digits_repa.py --workdir=runs/digits_repa

The features here are the clean image's own patches, which need no other network: this shows the
mechanism, not the paper's gain, which comes of DINOv2's features. With loss.features=None and
teacher=runs/… they are the aligned tokens of an earlier run of this config.
Hardware: any; an accelerator suits it better than a CPU.
Time: not yet run at this size.
Result: not yet run at this size.
Measured: not yet run at this size.
"""

from ml_collections import ConfigDict


def get_config():
    config = ConfigDict()
    config.seed = 0
    config.steps = 1000
    config.steps_per_call = 20
    config.batch_size = 128
    config.log_every = 100
    config.save_every = 500
    config.ema = (0.999, 0.99)
    config.clip_norm = 1.0

    config.data = dict(name="fmjax.data.digits:digits")
    config.codec = dict(name="fmjax.codecs:affine", low=0.0, high=16.0, levels=17)
    config.model = dict(
        name="fmjax.models.dit:dit",
        patch=2,
        width=128,
        depth=4,
        heads=4,
        dropout=0.1,
        qk_norm=True,
        align=dict(layer=2, features=4, hidden=128),
    )
    config.loss = dict(
        bind="fmjax.losses.repa:repa",
        features=dict(bind="fmjax.models.dit:patchify", patch=2),
        coefficient=0.5,
        drop=0.1,
        sample_t=dict(bind="fmjax.times:logit_normal"),
    )
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
    config.guidance = dict(bind="fmjax.guidance:classifier_free", scale=1.5, interval=(0.2, 0.9))
    config.sampler = dict(bind="fmjax.samplers.ode:ode", solver=dict(name="diffrax:Heun"), steps=10)
    config.evaluators = dict(
        classifier=dict(bind="fmjax.metrics.classifier:classifier_accuracy"),
        energy=dict(bind="fmjax.metrics.energy:energy", draws=1),
        memorisation=dict(bind="fmjax.metrics.memorisation:memorisation"),
        manifold=dict(bind="fmjax.metrics.precision_recall:manifold"),
    )
    config.pictures = dict(
        samples=dict(bind="fmjax.pictures:grid", low=0.0, high=16.0),
        trajectories=dict(bind="fmjax.pictures:trajectories", low=0.0, high=16.0),
    )
    config.tiny = (
        "steps=4", "steps_per_call=2", "log_every=2", "save_every=2", "batch_size=16",
        "model.width=16", "model.depth=1", "model.heads=2",
        "model.align.layer=1", "sampler.steps=2", "sample_chunk=64",
        "pictures.samples.n=60", "pictures.samples.columns=5",
        "evaluators.energy.n=60", "evaluators.memorisation.n=60", "evaluators.manifold.n=60",
    )  # fmt: skip
    return config
