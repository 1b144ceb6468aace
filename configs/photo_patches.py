"""32x32 colour patches of ten photos, each by the photo that it is from.

    pip install --no-deps -r configs/requirements-nodeps.txt
    python launch.py --config=configs/photo_patches.py --workdir=runs/photo_patches

Hardware: any; made for 2 CPU cores.
Time: not yet run at this size.
Result: not yet run at this size.
Measured: no.
"""

from ml_collections import ConfigDict


def get_config():
    config = ConfigDict()
    config.seed = 0
    config.steps = 2600
    config.steps_per_call = 1
    config.batch_size = 32
    config.log_every = 100
    config.save_every = 1000
    config.ema = (0.999,)
    config.clip_norm = 1.0

    config.data = dict(
        name="fmjax.data.augment:augmented",
        data=dict(bind="fmjax.data.photo_patches:photo_patches", contrast=10.0),
        flip=True,
    )
    config.codec = dict(name="fmjax.codecs:affine", low=0.0, high=255.0, levels=256)
    config.model = dict(
        name="fmjax.models.unet:unet", patch=2, channels=48, multipliers=(1, 2, 2), blocks=1,
        attention=(4,), head_channels=48, time_scale=100.0,
    )  # fmt: skip
    config.loss = dict(bind="fmjax.losses.flow_matching:flow_matching", drop=0.1)
    config.optimizer = dict(
        name="optax.contrib:muon",
        learning_rate=dict(
            name="optax:warmup_cosine_decay_schedule",
            init_value=0.0,
            peak_value=2e-3,
            warmup_steps=config.get_ref("steps") // 30,
            decay_steps=config.get_ref("steps"),
        ),
        weight_decay=0.01,
        consistent_rms=0.2,
        muon_weight_dimension_numbers=dict(bind="fmjax.optimizers:matrices"),
    )
    config.sampler = dict(bind="fmjax.samplers.ode:ode", solver=dict(name="diffrax:Heun"), steps=10)
    config.evaluators = dict(
        # of real ImageNet weights, which install with pip; not FID
        frechet=dict(
            bind="fmjax.metrics.fid:fid",
            features=dict(name="fmjax.pretrained.efficientnet_lite0:extractor", size=64),
        ),
        memorisation=dict(bind="fmjax.metrics.memorisation:memorisation"),
        manifold=dict(bind="fmjax.metrics.precision_recall:manifold"),
    )
    config.pictures = dict(
        samples=dict(bind="fmjax.pictures:grid", low=0.0, high=255.0),
        trajectories=dict(bind="fmjax.pictures:trajectories", low=0.0, high=255.0),
    )
    config.tiny = (
        "steps=2", "log_every=2", "save_every=2", "batch_size=16",
        "model.channels=8", "model.multipliers=(1,1)", "model.head_channels=8",
        "sampler.steps=2", "sample_chunk=32",
        "pictures.samples.n=16", "pictures.samples.columns=4",
        "evaluators.frechet=fmjax.metrics.mmd:mmd", "evaluators.frechet.n=16",
        "evaluators.memorisation.n=16", "evaluators.manifold.n=16",
    )  # fmt: skip
    return config
