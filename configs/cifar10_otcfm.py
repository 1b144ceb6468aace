"""CIFAR-10 by optimal-transport flow matching, as in TorchCFM's example: 35.7 M parameters.

    python launch.py --config=configs/cifar10_otcfm.py --mode=prepare
    python launch.py --config=configs/cifar10_otcfm.py --workdir=runs/cifar10_otcfm

Hardware: one accelerator for the global batch of 128, memory not measured.
Time: not yet run at this size; theirs not published.
Result: not yet run at this size. Published: FID 3.58 at about 134 evaluations by Dopri5, 4.44 by
100 Euler steps, 50,000 samples against the train split (Tong et al. 2023, arXiv 2302.00482, and
TorchCFM's table).
FID needs the weights of its InceptionV3, a file given by evaluators.fid.features.weights.
Measured: no.
"""

from ml_collections import ConfigDict


def get_config():
    config = ConfigDict()
    config.seed = 0
    config.steps = 400_000
    config.steps_per_call = 1
    config.batch_size = 128
    config.log_every = 100
    config.save_every = 20_000
    config.ema = (0.9999,)
    config.clip_norm = 1.0

    # plans of a batch's size, by threads that work ahead of the training
    config.data = dict(
        name="fmjax.data.coupled:coupled",
        data=dict(
            bind="fmjax.data.augment:augmented",
            data=dict(bind="fmjax.data.tfds_memory:tfds_in_memory", builder="cifar10", label=None),
            flip=True,
        ),
        coupling=dict(bind="fmjax.couplings.exact:exact"),
        block=128,
    )
    config.codec = dict(name="fmjax.codecs:affine", low=0.0, high=255.0, levels=256)
    config.model = dict(
        name="fmjax.models.unet:unet",
        channels=128,
        multipliers=(1, 2, 2, 2),
        blocks=2,
        attention=(2,),
        head_channels=64,
        dropout=0.1,
    )
    config.loss = dict(bind="fmjax.losses.flow_matching:flow_matching")
    config.optimizer = dict(
        name="optax:adam",
        # constant after 5,000 steps
        learning_rate=dict(
            name="optax:linear_schedule", init_value=0.0, end_value=2e-4, transition_steps=5000
        ),
    )

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
        "steps=2", "steps_per_call=1", "log_every=1", "save_every=2", "batch_size=16",
        "model.channels=8", "model.multipliers=(1,)", "model.blocks=1", "model.head_channels=8",
        "sampler.solver=diffrax:Euler", "sampler.steps=2", "sample_chunk=16", "data.block=8",
        "evaluators.fid=fmjax.metrics.energy:energy", "evaluators.fid.n=16",
        "evaluators.fid.draws=1", "pictures.samples.n=16", "pictures.samples.columns=4",
    )  # fmt: skip
    return config
