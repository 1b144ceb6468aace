"""Every config is built and put through the same checks, and so is every part it names.

Whoever adds a loss, a model, a sampler or a data set names it in a config and gets these free.
"""

import functools
import inspect
import re
from collections.abc import Mapping
from pathlib import Path

import closed_forms
import jax
import jax.numpy as jnp
import numpy as np
import prepared
import pytest
import stages

import launch
from fmjax import (
    assemble,
    bridges,
    config,
    nets,
    paths,
    reading,
    run,
    settings,
    shard,
    sources,
    train,
)
from fmjax.edits import Edits
from fmjax.models.velocity_score import VelocityScore
from fmjax.types import Batch, Nets, Point

ROOT = Path(__file__).parent.parent
CONFIGS = sorted((ROOT / "configs").glob("*.py"))
KEY = jax.random.key(0)


@functools.cache
def shrunk(path, *changes):
    assert settings.load_config(path)["tiny"], f"{path.name}: config.tiny is empty"
    return settings.load_config(path, (*stages.changes(path), *changes))


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def parts(path, data_dir):
    return built(path, str(data_dir))


@functools.cache
def prepared_for(path, data_dir):
    """Random rows of every TFDS set that a config names, where its own builder looks for them."""
    for name in builders(settings.load_config(path)):
        prepared.prepare(name, data_dir)


def builders(node):
    """The TFDS names anywhere in a config."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from [value] if key == "builder" and isinstance(value, str) else builders(value)


@functools.cache
def built(path, data_dir, *changes):
    prepared_for(path, data_dir)
    return assemble.assemble(shrunk(path, f"data_dir={data_dir}", *changes))


def nodes(node):
    """The callables named anywhere in a config."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key in ("name", "bind") and isinstance(value, str):
                yield value
            else:
                yield from nodes(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from nodes(value)


def introducing(*fields, where=lambda path: True):
    """For each config that names, in these fields, a callable that no config before it names."""
    seen, found = set(), []
    for path in filter(where, CONFIGS):
        settled = settings.load_config(path)
        names = {name for field in fields for name in nodes({field: settled[field]})}
        found += [path] if names - seen else []
        seen |= names
    return pytest.mark.parametrize("path", found, ids=lambda p: p.stem)


def batch_of(parts, n=16):
    """A batch in model space."""
    data = parts.datas[0]
    batch = data.sample(KEY, n) if data.sample else data.batch("train", 0)
    batch = jax.tree.map(jnp.asarray, batch)
    return batch if data.encoded else batch._replace(x1=parts.codec.encode(batch.x1))


def params_of(parts):
    """Parameters after a little noise, so that no output is zero by its initialisation."""
    params = train.init_params(parts.model, KEY, assemble.example(parts))
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    noisy = [p + 0.05 * jax.random.normal(k, p.shape) for p, k in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(tree, noisy)


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
    named = {name for path in CONFIGS for name in nodes(settings.load_config(path))}
    for file in (ROOT / "fmjax" / folder).glob("[!_]*.py"):
        if file.stem != "predict":  # a wrapper, which every config has by its field `predict`
            assert any(n.startswith(f"fmjax.{folder}.{file.stem}:") for n in named), file


@introducing("model", "predict", "codec")
def test_model_gives_a_velocity_and_is_deterministic_without_a_key(parts):
    batch, params = batch_of(parts), params_of(parts)
    net = train.bind(parts.model, params)
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


@introducing("loss", "bridge", "coupling", "model")
def test_objective_is_one_finite_value_an_example_with_finite_gradients(parts):
    batch, params = batch_of(parts)._replace(), params_of(parts)
    encoded = parts.datas[0].encoded
    raw = batch if encoded else batch._replace(x1=parts.codec.decode(batch.x1))
    other = run.taught(parts).teacher
    teacher = other and train.bind(*other)

    @jax.jit
    def loss(params, key):
        net = train.bind(parts.model, params)
        per_example, metrics = parts.objective(Nets(net, net, net, teacher), key, raw)
        assert per_example.shape == (len(batch.x1),)
        assert all(m.shape == per_example.shape for m in metrics.values())
        return per_example.sum()

    with jax.debug_key_reuse(True):
        value, grads = jax.value_and_grad(loss)(params, jax.random.key(5))
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
    """Whether a config's objective is of a velocity at drawn times.

    An autoencoder's is not, and those of tokens have exact nets in tests of their own.
    """
    settled = settings.load_config(path)
    objective = config.resolve(settled["loss"]["bind"])
    model = config.resolve(settled["model"]["name"])
    of_tokens = "vocabulary" in inspect.signature(model).parameters
    return "sample_t" in inspect.signature(objective).parameters and not of_tokens


@introducing("loss", "bridge", "coupling", where=of_a_field)
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


@introducing("sampler", "model")
def test_sampler_counts_its_calls_and_keeps_shape_and_device_independence(parts):
    calls, params, batch = [], params_of(parts), batch_of(parts)
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


@introducing("model", "loss", "bridge", "coupling", "source", "optimizer", "parallel")
def test_steps_are_equal_on_one_and_eight_devices_and_compile_once(path, data_dir):
    losses = []
    for devices in (1, 8):
        parts = run.taught(built(path, str(data_dir), f"parallel.devices={devices}"))
        call, batches = assemble.make_call(parts), assemble.make_batches(parts)
        k_init, k_train, _ = assemble.keys(parts.config)
        state = parts.parallel.init(assemble.make_init(parts), k_init)
        frozen = parts.teacher and parts.teacher[1]
        for step in (0, 2, 4):
            state, metrics = call(state, frozen, k_train, batches(step))
        assert call._cache_size() == 1
        losses.append(np.asarray(metrics["loss"]))
    np.testing.assert_allclose(*losses, atol=1e-5)


@introducing("data")
def test_data_keep_their_promises(path, data_dir):
    parts = built(path, str(data_dir))
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


@pytest.mark.parametrize(
    "path",
    [p for p in CONFIGS if any("evaluators" in c for c in settings.load_config(p)["tiny"])],
    ids=lambda p: p.stem,
)
def test_the_evaluators_that_a_test_replaces_are_built_too(path, data_dir):
    prepared_for(path, data_dir)
    kept = [c for c in stages.changes(path) if not c.startswith("evaluators")]
    whole = settings.load_config(path, (*kept, f"data_dir={data_dir}"))
    files = [v for v in leaves(whole["evaluators"]) if isinstance(v, str) and v.startswith("~")]
    if not files:
        assert len(assemble.assemble(whole).evaluators) == len(whole["evaluators"])
        return
    with pytest.raises(config.ConfigError, match=Path(files[0]).name):  # weights of the user's
        assemble.assemble(whole)


def leaves(node):
    """Every value in a config that is no node."""
    for value in node.values() if isinstance(node, Mapping) else ():
        yield from leaves(value) if isinstance(value, Mapping) else (value,)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_config_trains_saves_judges_and_samples(path, data_dir, tmp_path, capsys):
    own = (f"data_dir={data_dir}", "parallel.devices=1")  # eight compile for longer
    tiny = [f"--config.{c}" for c in (*stages.changes(path), *own)]
    flags = [f"--config={path}", f"--workdir={tmp_path}", "--no-cache", *tiny]
    prepared_for(path, data_dir)
    assert launch.main(flags) == 0
    assert launch.main(["--mode=sample", f"--workdir={tmp_path}", "--n=4"]) == 0
    found = {p.name for p in tmp_path.iterdir()}
    pictures = {f"{name}.png" for name in shrunk(path)["pictures"]}
    assert "samples.png" in pictures
    assert found >= {"record.json", "loss.png", "samples", *pictures}
    assert np.isfinite(np.load(tmp_path / "samples" / "samples.npz")["x1"]).all()
    assert "steps_per_second" in capsys.readouterr().out
