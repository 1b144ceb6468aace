"""Every config is built and put through the same checks, and so is every part it names.

Whoever adds a loss, a model, a sampler or a data set names it in a config and gets these free. The
quick tier checks each part once, in the first config that names it; the complete one every config.
"""

import functools
import inspect
import re
from collections.abc import Mapping
from pathlib import Path

import closed_forms
import compiled
import jax
import jax.numpy as jnp
import numpy as np
import prepared
import pytest
import stages
import tiny_models
from helpers import battery, inputs
from helpers.battery import CONFIGS, KEY, every

import launch
from fmjax import assemble, bridges, config, nets, paths, reading, settings, shard, sources, train
from fmjax.edits import Edits
from fmjax.models.autoencoder import Autoencoder
from fmjax.models.velocity_score import VelocityScore
from fmjax.types import Batch, Model, Nets, Point

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("data"))


@pytest.fixture
def whole(path, data_dir):
    return battery.whole(path, data_dir)


def test_headers_say_command_time_hardware_and_result():
    for path in CONFIGS:
        header = re.match(r'"""(.*?)"""', path.read_text(), re.DOTALL)
        assert header, f"{path.name} has no header"
        text = header.group(1)
        assert f"python launch.py --config=configs/{path.name} --workdir=" in text, path.name
        for word in ("Hardware:", "Time:", "Result:", "Measured:"):
            assert word in text, f"{path.name}: its header lacks {word!r}"
        if "Published" in text:
            # batches that are one device's share have cost others a point of FID
            batch = settings.load_config(path)["batch_size"]
            assert f"global batch of {batch}" in text.replace("\n", " "), path.name
            assert re.search(r"Time: .*theirs", text), path.name


@pytest.mark.parametrize("folder", ["losses", "models", "samplers"])
def test_every_public_loss_model_and_sampler_is_named_in_a_config(folder):
    named = {name for path in CONFIGS for name in battery.nodes(settings.load_config(path))}
    for file in (ROOT / "fmjax" / folder).glob("[!_]*.py"):
        if file.stem != "predict":  # a wrapper, which every config has by its field `predict`
            assert any(n.startswith(f"fmjax.{folder}.{file.stem}:") for n in named), file


@every("model", "predict")
def test_model_gives_a_velocity_and_is_deterministic_without_a_key(whole):
    parts, _, batch, _, net = whole
    t = jnp.linspace(0.1, 0.9, len(batch.x1))
    v = net(t, batch.x1, batch.cond)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(v))
    if not parts.codec.vocabulary:
        assert v.shape == batch.x1.shape
        assert v.dtype == batch.x1.dtype
    elif not isinstance(v, Edits):  # log-masses of tokens
        assert v.shape == (*batch.x1.shape, parts.codec.vocabulary)
        np.testing.assert_allclose(jnp.exp(v).sum(axis=-1), 1, rtol=1e-4)
    near = lambda a, b, atol: jax.tree.map(  # noqa: E731
        functools.partial(np.testing.assert_allclose, atol=atol), a, b
    )
    near(v, net(t, batch.x1, batch.cond), 0)
    order = jnp.flip(jnp.arange(len(batch.x1)))
    flipped = lambda tree: jax.tree.map(lambda x: x[order], tree)  # noqa: E731
    near(net(*flipped((t, batch.x1, batch.cond))), flipped(v), 1e-4)
    half = (net(time, batch.x1, batch.cond) for time in (0.5, jnp.full(len(t), 0.5)))
    near(*half, 1e-5)


@every("model", "predict")
def test_a_net_changes_with_whatever_it_is_given(path, whole):
    parts, _, batch, x, net = whole
    t = jnp.linspace(0.1, 0.9, len(x))
    usual = net(t, x, batch.cond)
    assert inputs.effect(net(t, jnp.roll(x, 1, axis=0), batch.cond), usual) > 0.05
    if has_times(path):
        assert inputs.effect(net(t[::-1], x, batch.cond), usual) > 0.01
    given = None if isinstance(parts.model, Autoencoder) else batch.cond
    for part, cond in inputs.exchanged(given).items():
        assert inputs.effect(net(t, x, cond), usual) > 0.01, part
    if dropout_of(parts.config["model"]):
        one, again, other = (net(t, x, batch.cond, jax.random.key(seed)) for seed in (0, 0, 1))
        assert inputs.effect(one, again) == 0
        assert inputs.effect(one, other) > 0.001


def has_times(path):
    """Whether a config's objective draws times: that of an autoencoder does not."""
    objective = config.resolve(settings.load_config(path)["loss"]["bind"])
    return "sample_t" in inspect.signature(objective).parameters


def dropout_of(node):
    """The dropout of a model, as its config or its default says."""
    own = inspect.signature(config.resolve(node["name"])).parameters.get("dropout")
    return node.get("dropout", own.default if own else 0.0)


@every("loss.bind", "optimizer")
def test_a_step_keeps_the_types_of_the_state_and_averages_are_float32(whole):
    parts, key = whole.parts, assemble.keys(whole.parts.config)[1]
    halved = jax.tree.map(
        tiny_models.in_bfloat16, parts.model, is_leaf=lambda m: isinstance(m, Model)
    )
    batches, frozen = assemble.make_batches(parts)(0), parts.teacher and parts.teacher[1]
    types = functools.partial(jax.tree.map, lambda a: (a.shape, a.dtype))
    for model, dtype in ((parts.model, jnp.float32), (halved, jnp.bfloat16)):
        own = parts._replace(model=model)
        state = jax.eval_shape(assemble.make_init(own), key)
        assert {a.dtype for a in jax.tree.leaves(state.params)} == {jnp.dtype(dtype)}
        assert {a.dtype for a in jax.tree.leaves(state.ema)} <= {jnp.dtype(jnp.float32)}
        new, _ = jax.eval_shape(assemble.make_call(own), state, frozen, key, batches)
        assert types(new) == types(state)


@every("loss", "bridge", "coupling", "model")
def test_objective_is_one_finite_value_an_example_with_finite_gradients(whole):
    parts, params, batch, _, _ = whole
    raw = batch if parts.datas[0].encoded else batch._replace(x1=parts.codec.decode(batch.x1))
    teacher = parts.teacher and train.bind(*parts.teacher)

    def loss(params, key):
        net = train.bind(parts.model, params)
        per_example, metrics = parts.objective(Nets(net, net, net, teacher), key, raw)
        assert per_example.shape == (len(batch.x1),)
        assert all(m.shape == per_example.shape for m in metrics.values())
        return per_example.sum()

    with jax.debug_key_reuse(True):
        value, grads = jax.jit(jax.value_and_grad(loss))(params, jax.random.key(5))
    assert np.isfinite(value)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))
    assert any(np.abs(g).max() > 0 for g in jax.tree.leaves(grads))


def latent_bridge(law, gamma):
    """An interpolant whose noise is a function of the row, so that rows may be exchanged."""

    def point(key, t, x0, x1):
        # the last digits of a row are uniform, and independent of where it lies
        digits = jnp.mod(1e4 * (x0 + 0.7 * x1[:, ::-1]), 1.0)
        z = jax.scipy.special.ndtri(jnp.clip(digits, 1e-4, 1 - 1e-4))
        xt, ut = paths.interpolate(law, t, x0, x1)
        scale = gamma(t)
        return Point(xt + paths.like(scale, z) * z, ut, bridges.Latent(z, scale))

    return point


def changed(net, change):
    """The net with `change` of one field at a time: of each of two, where it has two."""
    fields = net if isinstance(net, tuple) else (net,)
    for i, exact in enumerate(fields):
        other = lambda t, x, c=None, *, key=None, f=exact: change(f(t, x), x)  # noqa: E731
        yield net._replace(**{net._fields[i]: other}) if isinstance(net, tuple) else other


def of_a_field(path):
    """Whether a config's objective is of a velocity: those of tokens have tests of their own."""
    model = config.resolve(settings.load_config(path)["model"]["name"])
    return has_times(path) and "vocabulary" not in inspect.signature(model).parameters


@every("loss", "bridge", "coupling", where=of_a_field)
def test_objective_is_least_at_the_exact_field_and_permutes_with_its_rows(path):
    law, settled = paths.linear(), settings.load_config(path)
    # two nets are learned on a bridge with noise of its own, which is an affine path in disguise
    two = isinstance(config.build(settled["model"], num_classes=10), VelocityScore)
    gamma = functools.partial(bridges.constant, scale=0.3)
    bridge = latent_bridge(law, gamma) if two else paths.bridge(law)
    objective = config.build(
        settled["loss"], path=law, bridge=bridge, source=sources.normal, null=None
    )
    objective = functools.partial(
        objective, drop=0.0, sample_t=lambda key, n: jnp.linspace(0.1, 0.9, n)
    )
    aligns = "features" in settled["loss"]  # its net returns tokens, too: here x itself
    if aligns:
        objective = functools.partial(objective, features=lambda x1: x1[:, None])
    data = closed_forms.mixture([0.5, 0.5], [[-1.0, 0.0], [1.0, 0.5]], 0.5)
    affine = bridges.merged(path=law, gamma=gamma) if two else law
    exact = closed_forms.field(affine.alpha, affine.sigma, data)
    exact = VelocityScore(exact, nets.score(exact, path=affine)) if two else exact
    batch = Batch(closed_forms.sample(KEY, 4096, data), x0=jax.random.normal(KEY, (4096, 2)))

    def seen(net):
        if not aligns:
            return net
        return lambda t, x, c=None, *, key=None, align: (net(t, x, c, key=key), x[:, None])

    def loss(net, batch):
        return objective(Nets(*3 * [seen(net)]), KEY, batch)[0]

    at = loss(exact, batch)
    for change in (lambda v, x: v + 0.5, lambda v, x: 1.3 * v, lambda v, x: v + 0.2 * x):
        for other in changed(exact, change):
            assert loss(other, batch).mean() > at.mean()
    # rows whose times are equal may be exchanged
    same = functools.partial(objective, sample_t=lambda key, n: jnp.full(n, 0.4))
    rows = lambda b: same(Nets(*3 * [seen(exact)]), KEY, b)[0]  # noqa: E731
    flipped = jax.tree.map(lambda x: x[::-1], batch)
    np.testing.assert_allclose(rows(flipped), rows(batch)[::-1], rtol=1e-4, atol=1e-5)


@every("sampler", "model")
def test_sampler_counts_its_calls_and_keeps_shape_and_device_independence(whole):
    parts, params, batch, _, _ = whole
    calls = []
    net = train.bind(parts.model, params)

    def counting(net):
        def counted(t, x, cond=None, *, key=None):
            jax.debug.callback(lambda: calls.append(1))
            return net(t, x, cond)

        return counted

    several = isinstance(net, tuple)
    counted = type(net)(*map(counting, net)) if several else counting(net)
    x0 = parts.source(jax.random.key(2), batch.x1)
    x1, info = jax.jit(lambda x0: parts.sampler(counted, KEY, x0, batch.cond))(x0)
    jax.effects_barrier()
    assert x1.shape == x0.shape
    assert np.isfinite(x1).all()
    assert len(calls) == info.nfe
    rows = shard.jit().rows
    put = lambda tree: jax.device_put(tree, rows)  # noqa: E731
    spread, _ = jax.jit(lambda x0, c: parts.sampler(net, KEY, x0, c))(put(x0), put(batch.cond))
    np.testing.assert_allclose(spread, x1, atol=1e-3)  # adapted steps shift a little


@every("loss.bind", "bridge", "coupling", "source", "parallel")
def test_steps_are_equal_on_one_and_eight_devices_and_compile_once(path, data_dir):
    parts, losses = battery.built(path, data_dir), []
    for devices in (1, 8):
        parallel = config.build(parts.config["parallel"] | {"devices": devices}, "parallel")
        parts = parts._replace(parallel=parallel)
        call, batches = assemble.make_call(parts), assemble.make_batches(parts)
        k_init, k_train, _ = assemble.keys(parts.config)
        state = parts.parallel.init(assemble.make_init(parts), k_init)
        frozen = parts.teacher and jax.device_get(parts.teacher[1])
        first, *others = map(batches, (0, 2, 4))
        with compiled.programs() as found:
            state, metrics = call(state, frozen, k_train, first)
        assert found
        with compiled.programs() as found:
            for batch in others:
                state, metrics = call(state, frozen, k_train, batch)
        assert not found
        losses.append(np.asarray(metrics["loss"]))
    np.testing.assert_allclose(*losses, atol=1e-5)


@every("data")
def test_data_keep_their_promises(path, data_dir):
    parts = battery.built(path, data_dir)
    data, n = parts.datas[0], 16
    spec = data.spec
    if data.encoded:  # in model space, where `take` is in data space
        spec = jax.tree.map(
            lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), assemble.example(parts)
        )
    if data.sample:
        first, again = data.sample(KEY, n), data.sample(KEY, n)
        other = data.sample(jax.random.key(9), n)
    else:
        first, again, other = (data.batch("train", s) for s in (3, 3, 4))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert not np.array_equal(first.x1, other.x1)
    for batch, own in ((first, spec), (data.take("test", n), data.spec)):
        shapes = jax.tree.map(lambda x: (x.shape[1:], x.dtype), batch)
        example = jax.tree.map(lambda s: (s.shape, s.dtype), own)
        assert jax.tree.leaves(shapes) == jax.tree.leaves(example)
    if reading.starts_anywhere(data.take):
        later = data.take("test", 3, start=2)
        whole = jax.tree.map(lambda a: a[2:], data.take("test", 5))
        jax.tree.map(np.testing.assert_array_equal, later, whole)
    if data.read and isinstance(data.names, Mapping):
        for part, names in data.names.items():
            for name in names:
                data.read(f"{part}={name}")
        with pytest.raises(ValueError, match="expected part=word"):
            data.read("no such condition")
    elif data.read:
        for name in data.names:
            data.read(name)
        with pytest.raises(ValueError, match=data.names[-1]):
            data.read("no such condition")
    if data.null is not None:
        jax.tree.map(lambda a, s: np.broadcast_to(a, s.shape), data.null, data.spec.cond)


def replaces_evaluators(path):
    """Whether a config's `tiny` changes them."""
    return any("evaluators" in change for change in settings.load_config(path)["tiny"])


@every("evaluators", where=replaces_evaluators)
def test_the_evaluators_that_a_test_replaces_are_built_too(path, data_dir):
    codec = battery.built(path, data_dir).codec
    kept = [c for c in stages.changes(path) if not c.startswith("evaluators")]
    whole = settings.load_config(path, (*kept, f"data_dir={data_dir}"))
    files = [v for v in leaves(whole["evaluators"]) if isinstance(v, str) and v.startswith("~")]
    if not files:
        assert len(assemble.assemble(whole, codec).evaluators) == len(whole["evaluators"])
        return
    with pytest.raises(config.ConfigError, match=Path(files[0]).name):  # weights of the user's
        assemble.assemble(whole, codec)


def leaves(node):
    """Every value in a config that is no node."""
    for value in node.values() if isinstance(node, Mapping) else ():
        yield from leaves(value) if isinstance(value, Mapping) else (value,)


@every()
def test_every_config_trains_saves_judges_and_samples(path, data_dir, tmp_path, capsys):
    own = (f"data_dir={data_dir}", "parallel.devices=1")  # eight compile for longer
    tiny = [f"--config.{c}" for c in (*stages.changes(path), *own)]
    flags = [f"--config={path}", f"--workdir={tmp_path}", "--no-cache", *tiny]
    prepared.prepare_for(path, data_dir)
    assert launch.main(flags) == 0
    assert launch.main(["--mode=sample", f"--workdir={tmp_path}", "--n=4"]) == 0
    found = {p.name for p in tmp_path.iterdir()}
    pictures = {f"{name}.png" for name in battery.shrunk(path)["pictures"]}
    assert "samples.png" in pictures
    assert found >= {"record.json", "loss.png", "samples", *pictures}
    assert np.isfinite(np.load(tmp_path / "samples" / "samples.npz")["x1"]).all()
    assert "steps_per_second" in capsys.readouterr().out
