"""Emoji at 32x32 from their group, style and caption together: art on two cores.

    pip install --no-deps -r configs/requirements-nodeps.txt
    python launch.py --config=configs/emoji.py --workdir=runs/emoji

Hardware: any; measured on 2 CPU cores.
Time: 4,500 steps at 1.75 a second make 43 minutes there (over 14 steps, quiet cores), and some more
to judge and to draw. The run below was trained on one core of a busy machine, in 85 minutes.
Result: seed 0, EMA 0.999, Heun with 20 steps, 450 samples under the conditions of held-out emoji,
guided at all times by nested scales, style 5, then group 8, then caption 4: a classifier of styles
(0.967 on real ones) reads the one asked for in 0.991; the nearest of 2,873 real neighbours in
EfficientNet-Lite0's features is of the group asked for in 0.642 ± 0.023, where held-out real
emoji's is in 0.676; memorisation ratio 0.996. From other noise, with style 2: 0.918 and 0.627.
With one scale for all parts (classifier_free) of 6: 0.989 and 0.553, and 0.604 from other noise;
of 3 between t = 0.1 and 0.9: 0.982 and 0.511.
Trained for 5,000 steps on images moved by up to 2 pixels (fmjax.data.augment), with guidance 5 at
all times: 0.982, 0.551, memorisation 1.18: farther from the training set, not nearer the groups.
Measured: 2026-11, jax 0.12.0. OpenMoji's drawings are CC BY-SA 4.0; so is what resembles them.
"""

from ml_collections import ConfigDict


def get_config():
    config = ConfigDict()
    config.seed = 0
    config.steps = 4500
    config.steps_per_call = 1
    config.batch_size = 32
    config.log_every = 100
    config.save_every = 1000
    config.ema = (0.999,)
    config.clip_norm = 1.0

    config.data = dict(name="fmjax.data.emoji:emoji")
    config.codec = dict(name="fmjax.codecs:affine", low=0.0, high=255.0, levels=256)
    config.model = dict(
        name="fmjax.models.unet:unet", patch=2, channels=64, multipliers=(1, 2, 2), blocks=1,
        attention=(2, 4), head_channels=32, dropout=0.1, time_scale=100.0,
    )  # fmt: skip
    # each part is dropped by its own coin, too, so that each can be dialled alone
    config.loss = dict(
        bind="fmjax.losses.flow_matching:flow_matching",
        drop=dict(all=0.1, group=0.2, style=0.2, caption=0.2),
        sample_t=dict(bind="fmjax.times:logit_normal"),
    )
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
    # the group most, as shapes are what is loose; each part beside those before it
    config.guidance = dict(
        bind="fmjax.guidance:compose",
        scales=dict(style=5.0, group=8.0, caption=4.0),
        nested=("style", "group", "caption"),
    )
    config.sampler = dict(bind="fmjax.samplers.ode:ode", solver=dict(name="diffrax:Heun"), steps=20)
    config.sample_chunk = 128
    config.evaluators = dict(
        neighbours=dict(
            bind="fmjax.metrics.neighbours:neighbours",
            of="group",
            features=dict(name="fmjax.pretrained.efficientnet_lite0:extractor"),
        ),
        style=dict(
            bind="fmjax.metrics.classifier:classifier_accuracy",
            of="style",
            judge=dict(bind="fmjax.metrics.classifier:convolutional"),
        ),
        memorisation=dict(bind="fmjax.metrics.memorisation:memorisation"),
    )
    config.pictures = dict(
        samples=dict(bind="fmjax.pictures:grid", low=0.0, high=255.0, of="style", columns=12),
        trajectories=dict(bind="fmjax.pictures:trajectories", low=0.0, high=255.0),
        art=dict(
            bind="fmjax.pictures:art_sheet",
            low=0.0,
            high=255.0,
            image_to_image=dict(bind="fmjax.samplers.partial:partial"),
            inpainting=dict(bind="fmjax.samplers.inpaint:inpaint", steps=20, repeats=4),
        ),
    )
    config.tiny = (
        "steps=4", "log_every=2", "save_every=2", "batch_size=16",
        "data.few=True", "data.size=16",
        "model.channels=8", "model.multipliers=(1,1)", "model.head_channels=8",
        "sampler.steps=2", "sample_chunk=16",
        "evaluators.neighbours=fmjax.metrics.energy:energy", "evaluators.neighbours.n=16",
        "evaluators.neighbours.draws=1", "evaluators.memorisation.n=16",
        "evaluators.style=fmjax.metrics.mmd:mmd", "evaluators.style.n=16",
        "pictures.samples.n=48", "pictures.samples.columns=4",
        "pictures.art.noises=1", "pictures.art.strengths=(0.5,)",
        "pictures.art.inpainting.steps=2", "pictures.art.inpainting.repeats=1",
    )  # fmt: skip
    return config
