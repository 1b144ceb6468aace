"""LightningDiT-XL on ImageNet at 256x256: SiT with the changes that made its training short.

    python launch.py --config=configs/lightningdit_imagenet256.py --mode=prepare
    python launch.py --config=configs/lightningdit_imagenet256.py --workdir=runs/lightningdit

RMSNorm, SwiGLU, rotary positions and QK norm; t logit-normal; the velocity's direction in the loss.
Theirs is trained in the latents of VA-VAE, 16x16x32 at patch 1, which is not read here: this takes
Stable Diffusion's, 32x32x4 at patch 2, as many tokens. The latents of all images and their mirrored
ones are computed once, into data_dir/latents. Needs the autoencoder's weights (codec.path) and
those of FID's InceptionV3 (evaluators.fid.features.weights).

Hardware: several accelerators for the global batch of 1024, memory not measured; theirs 8 H800.
Time: not yet run at this size; theirs about 10 hours (the authors' repository).
Result: not yet run at this size. Published, with VA-VAE, after 64 epochs with guidance: FID 2.11
(Yao & Wang 2025, arXiv 2501.01423, and the authors' repository).
Measured: no.
"""

from ml_collections import ConfigDict


def get_config():
    config = ConfigDict()
    config.seed = 0
    config.steps = 80_000  # 64 epochs
    config.steps_per_call = 1
    config.batch_size = 1024
    config.log_every = 100
    config.save_every = 5_000
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
    config.model = dict(name="fmjax.models.dit:lightning", size="XL", patch=2)
    config.loss = dict(
        bind="fmjax.losses.flow_matching:flow_matching",
        drop=0.1,
        sample_t=dict(bind="fmjax.times:logit_normal"),
        direction=1.0,
    )
    config.optimizer = dict(name="optax:adamw", learning_rate=2e-4, b2=0.95, weight_decay=0.0)
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
        "model.width=16", "model.depth=1", "model.heads=4", "model.num_classes=10",
        "sampler.steps=2", "sample_chunk=16",
        "evaluators.fid=fmjax.metrics.energy:energy", "evaluators.fid.n=16",
        "evaluators.fid.draws=1", "pictures.trajectories.n=2",
    )  # fmt: skip
    return config
