"""ImageNet at 64x64 as in the examples of Meta's flow_matching: 1000 classes, 295.9 M parameters.

    python launch.py --config=configs/meta_imagenet64.py --mode=prepare
    python launch.py --config=configs/meta_imagenet64.py --workdir=runs/meta_imagenet64

Theirs are trained and judged on images whose faces are blurred; the data set here has them sharp.
Also otherwise there: one coin drops the classes of a whole batch (here one for each image), the
learning rate falls over 921 epochs (here over the 900 that are trained), and FID is of the weights
themselves, as their command lacks --use_ema (here of their average).

Hardware: several accelerators for the global batch of 2048, memory not measured; theirs 32 on each
of 64, of 8 nodes.
Time: not yet run at this size; theirs not published.
Result: not yet run at this size. Published: FID 1.64 by Dopri5 with tolerance 1e-5 after 900
epochs, against the (blurred) train split (table of their examples/image).
FID needs the weights of its InceptionV3, a file given by evaluators.fid.features.weights.
Measured: no.
"""

from ml_collections import ConfigDict


def get_config():
    config = ConfigDict()
    config.seed = 0
    config.steps = 563_000
    config.steps_per_call = 1
    config.batch_size = 2048
    config.log_every = 100
    config.save_every = 5_000
    config.ema = (0.9999,)  # ours

    config.data = dict(
        name="fmjax.data.augment:augmented",
        data=dict(
            bind="fmjax.data.grain_source:tfds_grain",
            builder="imagenet_resized/64x64",
            splits=dict(train="train", test="validation"),
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
        new_attention_order=True,
        resblock_updown=True,
        dropout=0.1,
        scale_shift_norm=True,
        remat=True,
    )
    # the defaults of their train_arg_parser.py: drop, guidance (1 + 0.2), rate and betas; the decay
    # is that of PyTorch's AdamW
    config.loss = dict(bind="fmjax.losses.flow_matching:flow_matching", drop=0.2)
    config.optimizer = dict(
        name="optax:adamw",
        learning_rate=dict(
            name="optax:linear_schedule",
            init_value=1e-4,
            end_value=1e-8,
            transition_steps=config.get_ref("steps"),
        ),
        b1=0.9,
        b2=0.95,
        weight_decay=0.01,
    )
    config.guidance = dict(bind="fmjax.guidance:classifier_free", scale=1.2)
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
        # a row a class
        samples=dict(bind="fmjax.pictures:grid", low=0.0, high=255.0, columns=1, n=16),
        trajectories=dict(bind="fmjax.pictures:trajectories", low=0.0, high=255.0),
    )
    config.tiny = (
        "steps=2", "steps_per_call=1", "log_every=1", "save_every=2", "batch_size=8",
        "model.channels=8", "model.multipliers=(1,1)", "model.blocks=1", "model.attention=(2,)",
        "model.head_channels=8", "sampler.solver=diffrax:Euler", "sampler.steps=2",
        "sample_chunk=16", "evaluators.fid=fmjax.metrics.energy:energy", "evaluators.fid.n=16",
        "evaluators.fid.draws=1", "pictures.samples.n=16", "pictures.samples.columns=1",
    )  # fmt: skip
    return config
