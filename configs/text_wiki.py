"""Wikipedia's sentences in 27 symbols, character by character, out of masks.

    pip install --no-deps -r configs/requirements-nodeps.txt
    python launch.py --config=configs/text_wiki.py --workdir=runs/text_wiki

Hardware: any; measured on 2 CPU cores.
Time: 53 minutes for 7,000 steps there (2.2 a second, 9,000 characters), and 3 to draw and to judge.
Result: seed 0, EMA 0.999: at most 2.353 ± 0.015 bits per character (968 held-out windows, 8 times
each; ± the standard error over windows, that of the times is 0.003), where Kneser-Ney n-grams of
the same text have 2.861 (order 3), 2.025 (5) and 1.850 (7): `python experiments/text_char.py`. On
the windows of training steps it was 4.12 (the entropy of letters) at step 200, 3.16 at 700, 2.79
at 1,500, 2.50 at 3,300, 2.29 at the end. The samples are letters of English in words that mostly
are none.
Measured: 2026-11, jax 0.12.0.
"""

from ml_collections import ConfigDict


def get_config():
    config = ConfigDict()
    config.seed = 0
    config.steps = 7000
    config.steps_per_call = 10  # alone, a step spends a third of its CPU time on fresh memory
    config.batch_size = 16
    config.log_every = 100
    config.save_every = 1000
    config.ema = (0.999,)
    config.clip_norm = 1.0

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
        bind="fmjax.losses.generalised_kl:generalised_kl",
        sample_t=dict(bind="fmjax.times:stratified", high=0.999),
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
    config.sampler = dict(bind="fmjax.samplers.ctmc:ctmc", steps=128)
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
