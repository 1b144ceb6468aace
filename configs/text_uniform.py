"""Wikipedia's characters out of uniformly random ones, any of which may change again.

    pip install --no-deps -r configs/requirements-nodeps.txt
    python launch.py --config=configs/text_uniform.py --workdir=runs/text_uniform

configs/text_wiki.py from another source: a character that is drawn wrong can be mended here, and
the sampler draws some anew in every step (`churn`), which with masks is masking again. Nothing is
carried: every character of x_t may be noise. The bound is loose even of the exact net (its chain
may jump again where the paths to one text do not), so compare it with bounds of this source.

Hardware: any.
Time: not yet run at this size.
Result: not yet run at this size.
Measured: not yet.
"""

from ml_collections import ConfigDict


def get_config():
    config = ConfigDict()
    config.seed = 0
    config.steps = 3000
    config.steps_per_call = 10  # alone, a step spends a third of its CPU time on fresh memory
    config.batch_size = 16
    config.log_every = 100
    config.save_every = 1000
    config.ema = (0.999,)
    config.clip_norm = 1.0

    config.codec = dict(name="fmjax.text:characters")
    config.data = dict(name="fmjax.data.wikipedia:wikipedia", length=256)
    config.source = dict(bind="fmjax.sources:uniform_tokens")
    config.bridge = dict(name="fmjax.tokens:mixture")
    config.model = dict(
        name="fmjax.models.token_transformer:token_transformer",
        width=128,
        depth=6,
        heads=2,
    )
    config.loss = dict(bind="fmjax.losses.discrete_flow_matching:discrete_flow_matching")
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
    config.sampler = dict(bind="fmjax.samplers.ctmc:ctmc", steps=128, churn=1.0)
    config.sample_chunk = 128
    config.evaluators = dict(
        bound=dict(
            bind="fmjax.metrics.token_nll:token_nll",
            objective=dict(
                bind="fmjax.losses.generalised_kl:generalised_kl",
                sample_t=dict(bind="fmjax.times:stratified", high=0.9999),
            ),
        ),
        entropy=dict(bind="fmjax.metrics.token_entropy:token_entropy", n=256),
    )
    config.pictures = dict(samples=dict(bind="fmjax.page:page"))
    config.tiny = (
        "steps=4", "steps_per_call=2", "log_every=2", "save_every=2", "batch_size=16",
        "data.length=16", "model.width=16", "model.depth=1", "model.heads=2",
        "sampler.steps=3", "sample_chunk=16", "evaluators.bound.n=16", "evaluators.bound.draws=2",
        "evaluators.entropy.n=16",
    )  # fmt: skip
    return config
