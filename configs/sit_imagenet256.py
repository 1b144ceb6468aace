"""SiT-XL/2 on ImageNet at 256x256, in latents of Stable Diffusion's autoencoder: 675 M parameters.

    python launch.py --config=configs/sit_imagenet256.py --mode=prepare
    python launch.py --config=configs/sit_imagenet256.py --workdir=runs/sit_imagenet256

--config.model.size=S, B or L and --config.model.patch=4 or 8 are the others of the family. The
latents of all images and their mirrored ones are computed once, into data_dir/latents. Needs two
files: the autoencoder's weights (codec.path) and those of FID's InceptionV3
(evaluators.fid.features.weights).

Hardware: several accelerators for the global batch of 256, memory not measured; theirs not known
here.
Time: not yet run at this size; theirs not known here.
Result: not yet run at this size. Published, after 7 M steps with guidance 1.5: FID 2.06 by an SDE,
2.15 by an ODE; SiT-B/2 33.0 after 400,000 steps, unguided (Ma et al. 2024, arXiv 2401.08740, and
the authors' repository). They judge with ADM's script against its reference statistics.
Measured: no.
"""

from ml_collections import ConfigDict


def get_config():
    config = ConfigDict()
    config.seed = 0
    config.steps = 7_000_000
    config.steps_per_call = 1
    config.batch_size = 256
    config.log_every = 100
    config.save_every = 50_000
    config.ema = (0.9999,)

    config.data = dict(
        name="fmjax.latents:latents",
        data=dict(
            bind="fmjax.data.grain_source:tfds_grain",
            builder="imagenet2012",
            splits=dict(train="train", test="validation"),
            transform=dict(name="fmjax.data.resize:resized", size=256),
        ),
        flips=True,
    )
    config.codec = dict(
        name="fmjax.pretrained.sd_vae:codec",
        path="~/weights/sd-vae-ft-ema.safetensors",
        scale=0.18215,
    )
    config.model = dict(name="fmjax.models.dit:sit", size="XL", patch=2)
    config.loss = dict(bind="fmjax.losses.flow_matching:flow_matching", drop=0.1)
    config.optimizer = dict(name="optax:adamw", learning_rate=1e-4, weight_decay=0.0)
    config.guidance = dict(bind="fmjax.guidance:classifier_free", scale=1.5)
    config.sampler = dict(
        bind="fmjax.samplers.ode:ode", solver=dict(name="diffrax:Heun"), steps=125
    )
    config.sample_chunk = 256
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
        # a row a class
        samples=dict(bind="fmjax.pictures:grid", low=0.0, high=255.0, columns=1, n=16),
        trajectories=dict(bind="fmjax.pictures:trajectories", low=0.0, high=255.0, n=4),
    )
    config.tiny = (
        "steps=2", "log_every=1", "save_every=2", "batch_size=16",
        "codec=fmjax.latents:codec", "codec.run=runs/mnist_vae",
        "data.data=fmjax.data.digits:digits", "data.chunk=64", "data.file_rows=1024",
        "data.flips=False",
        "model.width=16", "model.depth=1", "model.heads=2", "model.num_classes=10",
        "sampler.steps=2", "sample_chunk=16",
        "evaluators.fid=fmjax.metrics.energy:energy", "evaluators.fid.n=16",
        "evaluators.fid.draws=1", "pictures.trajectories.n=2",
    )  # fmt: skip
    return config
