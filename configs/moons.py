"""Eight Gaussians to two moons in the plane: the smallest complete run.

    python launch.py --config=configs/moons.py --workdir=runs/moons

Hardware: any; measured on 2 CPU cores, shared with other work.
Time: 20 s, at 1,400 steps per second.
Result: one seed, EMA 0.999, Dopri5 at tolerance 1e-5, NFE 145: W2 between 1,000 samples and 1,000
fresh real points 0.31, over eleven draws 0.24 to 0.34; between two real draws 0.25 to 0.43 (the
share of each moon varies). No lower W2 can be told apart from perfect at this size, yet the picture
shows some points between the moons. The way there is not straight: path energy 18.8 against a W2
squared of 7.7 (NPE 1.44), straightness 1.07 times the squared distance; pairs by chance cost 35.7
where the exact plan of 256 rows would cost 8.2.
Measured: 2026-11, jax 0.10.2.
"""

from ml_collections import ConfigDict


def get_config():
    config = ConfigDict()
    config.seed = 0
    config.steps = 20_000
    config.steps_per_call = 100
    config.batch_size = 256
    config.log_every = 100
    config.save_every = 10_000
    config.ema = (0.999,)

    config.data = dict(name="fmjax.data.toy:toy", target=dict(bind="fmjax.data.toy:moons"))
    config.source = dict(
        bind="fmjax.sources:distribution", sample=dict(bind="fmjax.data.toy:gaussians8")
    )
    config.model = dict(name="fmjax.models.mlp:mlp", width=64, depth=3)
    config.loss = dict(bind="fmjax.losses.flow_matching:flow_matching")
    config.optimizer = dict(name="optax:adam", learning_rate=1e-3)
    config.sampler = dict(bind="fmjax.samplers.ode:ode", solver=dict(name="diffrax:Dopri5"))
    config.sample_chunk = 2048
    config.evaluators = dict(
        energy=dict(bind="fmjax.metrics.energy:energy", draws=5, n=1000),
        wasserstein=dict(bind="fmjax.metrics.wasserstein:wasserstein", n=1000),
        straightness=dict(bind="fmjax.metrics.straightness:straightness"),
        path_energy=dict(bind="fmjax.metrics.path_energy:path_energy"),
        coupling_cost=dict(bind="fmjax.metrics.coupling_cost:coupling_cost"),
    )
    config.pictures = dict(
        samples=dict(bind="fmjax.pictures:scatter"),
        trajectories=dict(bind="fmjax.pictures:flow_lines"),
    )
    config.tiny = (
        "steps=4",
        "steps_per_call=2",
        "log_every=2",
        "save_every=4",
        "batch_size=16",
        "model.width=8",
        "model.depth=1",
        "sample_chunk=64",
        "evaluators.energy.n=32",
        "evaluators.energy.draws=2",
        "evaluators.wasserstein.n=32",
        "evaluators.straightness.n=32",
        "evaluators.path_energy.n=32",
        "evaluators.coupling_cost.batches=1",
        "pictures.samples.n=32",
        "pictures.trajectories.n=16",
    )
    return config
