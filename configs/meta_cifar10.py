"""CIFAR-10 as in the examples of Meta's flow_matching: unconditional, 55.7 M parameters.

    python launch.py --config=configs/meta_cifar10.py --mode=prepare
    python launch.py --config=configs/meta_cifar10.py --workdir=runs/meta_cifar10

Hardware: one accelerator or more for the global batch of 512, memory not measured; theirs 64 on
each of 8 V100 (their issue 68; on fewer their command has a smaller batch, and FID 3.09).
Time: not yet run at this size; theirs not published.
Result: not yet run at this size. Published: FID 2.07 with 50 Heun steps, about 100 evaluations,
after 1,800 epochs, against the train split (table of their examples/image).
FID needs the weights of its InceptionV3, a file given by evaluators.fid.features.weights.
Measured: no.
"""

from ml_collections import ConfigDict


def get_config():
    config = ConfigDict()
    config.seed = 0
    config.steps = 174_600
    config.steps_per_call = 1
    config.batch_size = 512
    config.log_every = 100
    config.save_every = 9700
    config.ema = (0.999,)

    config.data = dict(
        name="fmjax.data.augment:augmented",
        data=dict(bind="fmjax.data.tfds_memory:tfds_in_memory", builder="cifar10", label=None),
        flip=True,
    )
    config.codec = dict(name="fmjax.codecs:affine", low=0.0, high=255.0, levels=256)
    config.model = dict(
        name="fmjax.models.unet:unet",
        channels=128,
        multipliers=(2, 2, 2),
        blocks=4,
        attention=(2,),
        heads=1,
        new_attention_order=True,
        conv_resample=False,
        dropout=0.3,
        scale_shift_norm=True,
    )
    # their skewed times
    config.loss = dict(
        bind="fmjax.losses.flow_matching:flow_matching",
        sample_t=dict(bind="fmjax.times:logit_normal", mean=1.2, std=1.2),
    )
    config.optimizer = dict(
        name="optax:adamw", learning_rate=1e-4, b1=0.9, b2=0.95, weight_decay=0.01
    )

    config.sampler = dict(
        bind="fmjax.samplers.ode:ode",
        solver=dict(name="diffrax:Heun"),
        steps=50,
        grid=dict(bind="fmjax.models.edm_unet:edm_grid"),
    )
    config.sample_chunk = 512
    config.evaluators = dict(
        fid=dict(
            bind="fmjax.metrics.fid:fid",
            features=dict(
                name="fmjax.pretrained.inception:extractor",
                weights="~/weights/pt_inception-2015-12-05-6726825d.pth",
            ),
            split="train",
            n=50_000,
        ),
    )
    config.pictures = dict(
        samples=dict(bind="fmjax.pictures:grid", low=0.0, high=255.0),
        trajectories=dict(bind="fmjax.pictures:trajectories", low=0.0, high=255.0),
    )
    config.tiny = (
        "steps=2", "steps_per_call=1", "log_every=1", "save_every=2", "batch_size=16",
        "model.channels=8", "model.multipliers=(1,)", "model.blocks=1",
        "sampler.solver=diffrax:Euler", "sampler.steps=2", "sample_chunk=16",
        "evaluators.fid=fmjax.metrics.energy:energy", "evaluators.fid.n=16",
        "evaluators.fid.draws=1", "pictures.samples.n=16", "pictures.samples.columns=4",
    )  # fmt: skip
    return config
