"""configs/text_wiki.py's net, taught to draw in 16 steps what it draws in 32.

    pip install --no-deps -r configs/requirements-nodeps.txt
    python launch.py --config=configs/text_wiki.py --workdir=runs/text_wiki
    python launch.py --config=configs/text_distilled.py --workdir=runs/text_distilled

Half of the steps once more, in a round of its own:

    python launch.py --config=configs/text_distilled.py --workdir=runs/text_distilled_8 \\
        --config.teacher=runs/text_distilled --config.init_from=runs/text_distilled \\
        --config.loss.steps=8 --config.sampler.steps=8

The teacher's texts and the finished student's, judged alike:

    python experiments/text_sampling.py --samplers ctmc --nfe 16 32
    python experiments/text_sampling.py --samplers ctmc --nfe 16 --workdir=runs/text_distilled \\
        --out=runs/text_sampling_distilled

Its bound is asked at all times, and the net knew but 16 of them: no likelihood to compare.

Hardware: any.
Time: not yet run at this size.
Result: not yet run at this size.
Measured: not yet.
"""

from ml_collections import ConfigDict


def get_config():
    config = ConfigDict()
    config.seed = 0
    config.steps = 1000
    config.steps_per_call = 10  # alone, a step spends a third of its CPU time on fresh memory
    config.batch_size = 16
    config.log_every = 100
    config.save_every = 500
    config.ema = (0.999,)
    config.clip_norm = 1.0
    config.teacher = config.init_from = "runs/text_wiki"

    config.codec = dict(name="fmjax.text:characters")
    config.data = dict(name="fmjax.data.wikipedia:wikipedia", length=256)
    config.source = dict(bind="fmjax.sources:mask")
    config.bridge = dict(name="fmjax.tokens:mixture")
    config.model = dict(
        name="fmjax.models.token_transformer:token_transformer",
        width=128,
        depth=6,
        heads=2,
        carry=True,
    )
    config.loss = dict(
        bind="fmjax.losses.self_distillation:self_distillation",
        steps=16,
        inner=2,
    )
    config.optimizer = dict(
        name="optax.contrib:muon",
        learning_rate=dict(
            name="optax:warmup_cosine_decay_schedule",
            init_value=0.0,
            peak_value=5e-4,
            warmup_steps=config.get_ref("steps") // 30,
            decay_steps=config.get_ref("steps"),
        ),
        weight_decay=0.01,
        consistent_rms=0.2,
        muon_weight_dimension_numbers=dict(bind="fmjax.optimizers:matrices"),
    )
    config.sampler = dict(bind="fmjax.samplers.ctmc:ctmc", steps=16)
    config.sample_chunk = 128
    config.evaluators = dict(
        bound=dict(
            bind="fmjax.metrics.token_nll:token_nll",
            objective=dict(
                bind="fmjax.losses.generalised_kl:generalised_kl",
                sample_t=dict(bind="fmjax.times:stratified", high=0.9999),
            ),
        ),
    )
    config.pictures = dict(samples=dict(bind="fmjax.page:page"))
    config.tiny = (
        "steps=4", "steps_per_call=2", "log_every=2", "save_every=2", "batch_size=16",
        "data.length=16", "model.width=16", "model.depth=1", "model.heads=2",
        "sampler.steps=3", "sample_chunk=16", "evaluators.bound.n=16", "evaluators.bound.draws=2",
    )  # fmt: skip
    return config
