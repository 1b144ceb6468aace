"""CIFAR-10 with DDPM++ and EDM's prediction, noise levels and weights: 55.7 M parameters.

    python launch.py --config=configs/cifar10_edm.py --mode=prepare
    python launch.py --config=configs/cifar10_edm.py --workdir=runs/cifar10_edm

NCSN++, 56.4 M: --config.model.residual_input=True --config.model.fourier=True
    --config.model.smooth=True

Unlike EDM's, the path is straight (the same noise levels, x_t smaller by 1 + level), the first
layer sees x_t as it is, and of the augmentations there are flips alone.

Hardware: one accelerator or more for the global batch of 512, memory not measured; theirs 8 V100.
Time: not yet run at this size; theirs about 2 days (table of their repository).
Result: not yet run at this size. Published, with augmentations: FID 1.97 at 35 evaluations (Karras
et al. 2022, arXiv 2206.00364).
FID needs the weights of its InceptionV3, a file given by evaluators.fid.features.weights.
Measured: no.
"""

from ml_collections import ConfigDict


def get_config():
    config = ConfigDict()
    config.seed = 0
    config.steps = 390_000
    config.steps_per_call = 1
    config.batch_size = 512
    config.log_every = 100
    config.save_every = 10_000
    config.ema = (0.9993,)

    config.data = dict(
        name="fmjax.data.augment:augmented",
        data=dict(bind="fmjax.data.tfds_memory:tfds_in_memory", builder="cifar10", label=None),
        flip=True,
    )
    config.codec = dict(name="fmjax.codecs:affine", low=0.0, high=255.0, levels=256)
    config.model = dict(
        name="fmjax.models.edm_unet:edm_unet",
        channels=128,
        multipliers=(2, 2, 2),
        blocks=4,
        attention=(2,),
        dropout=0.13,
    )
    config.predict = dict(bind="fmjax.models.edm_unet:edm_row", sigma_data=0.5)
    # log noise levels of mean -1.2 and deviation 1.2; the error of the network's own target
    config.loss = dict(
        bind="fmjax.losses.flow_matching:flow_matching",
        sample_t=dict(bind="fmjax.times:logit_normal", mean=1.2, std=1.2),
        weight=dict(
            bind="fmjax.paths:weight",
            path=dict(name="fmjax.paths:linear"),
            to=dict(bind="fmjax.models.edm_unet:edm_row", sigma_data=0.5),
        ),
    )
    config.optimizer = dict(
        name="optax:adam",
        learning_rate=dict(
            name="optax:linear_schedule", init_value=0.0, end_value=1e-3, transition_steps=19_500
        ),
    )

    config.sampler = dict(
        bind="fmjax.samplers.ode:ode",
        solver=dict(name="diffrax:Heun"),
        steps=18,
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
        "model.channels=8", "model.multipliers=(1,1)", "model.blocks=1",
        "sampler.solver=diffrax:Euler", "sampler.steps=2", "sample_chunk=16",
        "evaluators.fid=fmjax.metrics.energy:energy", "evaluators.fid.n=16",
        "evaluators.fid.draws=1", "pictures.samples.n=16", "pictures.samples.columns=4",
    )  # fmt: skip
    return config
