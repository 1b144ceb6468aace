"""A trigonometric interpolant with noise of its own, from a normal to moons; five samplers of it.

    python launch.py --config=configs/interpolant.py --workdir=runs/interpolant

Hardware: any; measured on 2 CPU cores, shared with other work.
Time: 50 s, at 970 steps per second.
Result: one seed, EMA 0.999; W2 and energy distance between 1,000 samples and 1,000 fresh real
points; two real draws have 0.43 and 0.007, and no smaller one tells two samplers apart:
    ode, Dopri5 at tolerance 1e-5, NFE 79    W2 0.28    energy 0.006
    restart, NFE 100                            0.27           0.004
    predictor_corrector, NFE 98                 0.28           0.004
    sde, Heun, NFE 100                          0.39           0.006
    refresh (ancestral), NFE 100                0.44           0.011
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

    gamma = dict(bind="fmjax.bridges:parabola")
    config.data = dict(name="fmjax.data.toy:toy", target=dict(bind="fmjax.data.toy:moons"))
    config.path = dict(name="fmjax.paths:cosine")
    config.bridge = dict(name="fmjax.bridges:stochastic_interpolant", gamma=gamma)
    config.model = dict(name="fmjax.models.mlp:mlp", width=64, depth=3)
    config.loss = dict(bind="fmjax.losses.flow_matching:flow_matching")
    config.optimizer = dict(name="optax:adam", learning_rate=1e-3)
    config.sampler = dict(bind="fmjax.samplers.ode:ode", solver=dict(name="diffrax:Dopri5"))
    config.sample_chunk = 2048
    # both noises together are one normal, so the velocity is that of this affine path
    merged = dict(name="fmjax.bridges:merged", gamma=gamma)
    heun = dict(name="diffrax:Heun")
    config.evaluators = dict(
        energy=dict(bind="fmjax.metrics.energy:energy", draws=5, n=1000),
        wasserstein=dict(bind="fmjax.metrics.wasserstein:wasserstein", n=1000),
        by=dict(
            bind="fmjax.metrics.sampled_by:sampled_by",
            samplers=dict(
                sde=dict(bind="fmjax.samplers.sde:sde", path=merged, solver=heun, steps=50),
                predictor_corrector=dict(
                    bind="fmjax.samplers.predictor_corrector:predictor_corrector",
                    path=merged, solver=heun, steps=33,
                ),
                restart=dict(bind="fmjax.samplers.restart:restart", path=merged, steps=28),
                refresh=dict(bind="fmjax.samplers.refresh:refresh", path=merged, steps=100),
            ),
        ),
    )  # fmt: skip
    config.pictures = dict(
        samples=dict(bind="fmjax.pictures:scatter"),
        trajectories=dict(bind="fmjax.pictures:flow_lines"),
    )
    config.tiny = (
        "steps=4", "steps_per_call=2", "log_every=2", "save_every=4", "batch_size=16",
        "model.width=8", "model.depth=1", "sample_chunk=64", "evaluators.energy.n=32",
        "evaluators.energy.draws=2", "evaluators.wasserstein.n=32", "evaluators.by.n=32",
        "evaluators.by.samplers.sde.steps=2", "pictures.samples.n=32",
        "pictures.trajectories.n=16",
    )  # fmt: skip
    return config
