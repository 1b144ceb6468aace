"""ImageNet at 64x64 as in Lipman et al. 2022 (arXiv 2210.02747), FM-OT: 264.9 M parameters.

    python launch.py --config=configs/lipman_imagenet64.py --mode=prepare
    python launch.py --config=configs/lipman_imagenet64.py --workdir=runs/lipman_imagenet64

The paper's are the network, optimizer, schedule, batch and steps (table 3). It names neither flips
nor an average of the weights, which are ours, and wants a σ_min that is "sufficiently small"
(section 4): 1e-5 is ours.
Theirs in 16-bit mixed precision, here in float32.

Hardware: several accelerators for the global batch of 2048, memory not measured; theirs 16 GPUs.
Time: not yet run at this size; theirs not published.
Result: not yet run at this size. Published (tables 1 and 4): FID 14.45 at 138 evaluations by
Dopri5 with tolerance 1e-5, 3.31 bits/dim of 10 dequantisations; FID by TensorFlow-GAN.
FID needs the weights of its InceptionV3, a file given by evaluators.fid.features.weights.
Measured: no.
"""

from ml_collections import ConfigDict


def get_config():
    config = ConfigDict()
    config.seed = 0
    config.steps = 157_000
    config.steps_per_call = 1
    config.batch_size = 2048
    config.log_every = 100
    config.save_every = 5_000
    config.ema = (0.9999,)

    config.data = dict(
        name="fmjax.data.augment:augmented",
        data=dict(
            bind="fmjax.data.grain_source:tfds_grain",
            builder="imagenet_resized/64x64",
            splits=dict(train="train", test="validation"),
            label=None,
        ),
        flip=True,
    )
    config.codec = dict(name="fmjax.codecs:affine", low=0.0, high=255.0, levels=256)
    config.model = dict(
        name="fmjax.models.unet:unet",
        channels=192,
        multipliers=(1, 2, 3, 4),
        blocks=3,
        attention=(2, 4, 8),
        head_channels=64,
    )
    config.path = dict(name="fmjax.paths:linear", sigma_min=1e-5)
    config.loss = dict(bind="fmjax.losses.flow_matching:flow_matching")
    config.optimizer = dict(name="optax:adam", learning_rate=1e-4)
    config.sampler = dict(
        bind="fmjax.samplers.ode:ode", solver=dict(name="diffrax:Dopri5"), rtol=1e-5, atol=1e-5
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
        "steps=2", "steps_per_call=1", "log_every=1", "save_every=2", "batch_size=8",
        "model.channels=8", "model.multipliers=(1,1)", "model.blocks=1", "model.attention=(2,)",
        "model.head_channels=8", "sampler.solver=diffrax:Euler", "sampler.steps=2",
        "sample_chunk=16", "evaluators.fid=fmjax.metrics.energy:energy", "evaluators.fid.n=16",
        "evaluators.fid.draws=1", "pictures.samples.n=16", "pictures.samples.columns=4",
    )  # fmt: skip
    return config
