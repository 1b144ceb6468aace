"""Without the published weights: names, shapes and values that torch-fidelity's network gave.

Recorded with torch-fidelity 0.4.0 (torch 2.15.0), the weights of `tensors` and 75 × 75 pixels;
`experiments/metric_parity.py` compares block by block.
"""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from fmjax.pretrained import _common, inception

# of the sorted lines "name shape" of its state dict, without num_batches_tracked
NAMES = "d84f693f2abd7fea61cb31c87d3b2f268bf707c1bae1db219afdad3363959cb0"
LEARNED = 23_850_960
# layer: mean, standard deviation, first three and last of two images' features
RECORDED = {
    "64": [0.7158276, 0.4809636, 0.0286905, 0.5042483, 1.77398, 1.151412],
    "192": [0.9084566, 1.095208, 0.6756025, 0, 0.003056001, 0.1193071],
    "768": [0.534894, 0.9145626, 1.094276, 0, 0.720076, 0],
    "2048": [0.3148541, 0.6010902, 0, 0, 0, 0.7148994],
    "logits_unbiased": [-0.02065093, 0.9266533, 0.1541831, -1.664243, -0.4927349, 0.6298443],
}


def shapes():
    """`{PyTorch name: shape}` of the network as it is written down here."""
    net = inception.InceptionV3("logits")
    images = jax.ShapeDtypeStruct((1, 75, 75, 3), jnp.float32)
    params = jax.eval_shape(net.init, jax.random.key(0), images)["params"]
    found = {}
    for path, leaf in jax.tree.leaves_with_path(params):
        *parts, kind = (entry.key for entry in path)
        name = ".".join(parts)
        if parts == ["fc"]:
            found[f"fc.{'weight' if kind == 'kernel' else 'bias'}"] = leaf.shape[::-1]
        elif kind == "kernel":
            found[f"{name}.weight"] = (leaf.shape[3], leaf.shape[2], *leaf.shape[:2])
        else:
            norm = name.removesuffix("conv") + "bn"
            terms = ("weight", "bias", "running_mean", "running_var")
            found |= {f"{norm}.{term}": leaf.shape for term in terms}
    return found


def weights():
    """Random weights, small in effect: activations stay O(1)."""
    rng, found = np.random.default_rng(0), {}
    for name, shape in sorted(shapes().items()):
        if len(shape) > 1:
            value = rng.standard_normal(shape, np.float32) * (2 / np.prod(shape[1:])) ** 0.5
        elif name.endswith(("bn.weight", "running_var")):
            value = rng.uniform(0.5, 1.5, shape)
        else:
            value = 0.1 * rng.standard_normal(shape)
        found[name] = value.astype(np.float32)
    return found


@pytest.fixture(scope="module")
def tensors():
    return weights()


@pytest.fixture(scope="module")
def file(tensors, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "inception.safetensors"
    counted = {"Mixed_5b.branch1x1.bn.num_batches_tracked": np.zeros((), np.int64)}
    save_file(tensors | counted, path)
    return path


@pytest.fixture
def images():
    return np.random.default_rng(1).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)


def test_names_and_shapes_are_those_of_the_published_file(tensors):
    lines = sorted(f"{name} {tuple(value.shape)}" for name, value in tensors.items())
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == NAMES
    learned = [v.size for name, v in tensors.items() if "running" not in name]
    assert sum(learned) == LEARNED


def test_features_from_a_file_are_the_recorded_ones(file, images):
    params = inception.converted(_common.tensors(file), layer="logits_unbiased")

    @jax.jit
    def features(params, x):
        # the layers' own networks, whose programs share what they have in common
        def of(layer):
            return inception.InceptionV3(layer).apply({"params": params}, x)

        return {layer: of(layer) for layer in RECORDED}

    found = features(params, inception.resized(jnp.asarray(images, jnp.float32), 75))
    for layer, expected in RECORDED.items():
        value = np.asarray(found[layer])
        assert value.shape == (2, inception.LAYERS[layer])
        summary = [value.mean(), value.std(), *value[0, :3], value[1, -1]]
        np.testing.assert_allclose(summary, expected, rtol=1e-4, atol=1e-5, err_msg=layer)


def test_every_layer_takes_its_part_of_the_file(tensors):
    image = jax.ShapeDtypeStruct((1, 75, 75, 3), jnp.float32)
    for layer in inception.LAYERS:
        wanted = jax.eval_shape(inception.InceptionV3(layer).init, jax.random.key(0), image)
        found = inception.converted(tensors, layer=layer)
        shape = lambda tree: jax.tree.map(lambda x: x.shape, tree)  # noqa: E731
        assert shape(found) == shape(wanted["params"]), layer


def test_another_networks_tensors_are_refused(tensors):
    less = {name: value for name, value in tensors.items() if "Mixed_7b.branch_pool" not in name}
    with pytest.raises(ValueError, match=r"FID's InceptionV3 lack 'Mixed_7b\.branch_pool\.conv"):
        inception.converted(less)
    with pytest.raises(ValueError, match=r"no place in it, e\.g\. \['AuxLogits\.fc\.weight'\]"):
        inception.converted(tensors | {"AuxLogits.fc.weight": np.zeros((3, 3))})


def test_pooling_at_the_borders():
    x = jnp.arange(9.0).reshape(1, 3, 3, 1)
    # the corner's mean is over 4 places, not 9 with zeros
    assert inception.mean_pool(x)[0, 0, 0, 0] == (0 + 1 + 3 + 4) / 4
    assert inception.max_pool(-x)[0, 0, 0, 0] == 0
    assert inception.max_pool(-x)[0, 2, 2, 0] == -4
    assert inception.shrink(x).shape == (1, 1, 1, 1)


def test_resizing_begins_at_the_corner_and_repeats_the_last_pixel():
    row = np.array([0.0, 10, 20], np.float32).reshape(1, 1, 3, 1)
    # pixel i of 6 looks at i / 2
    found = inception.resized(jnp.asarray(row), 6)
    assert found.shape == (1, 6, 6, 1)
    np.testing.assert_allclose(found[0, 4, :, 0], [0, 5, 10, 15, 20, 20])
    shrunk = inception.resized(jnp.arange(8.0).reshape(1, 1, 8, 1), 4)
    np.testing.assert_allclose(shrunk[0, 0, :, 0], [0, 2, 4, 6])


def test_names_say_which_weights_and_which_layer(file):
    sha256 = _common.sha256_of(file)
    for layer, end in (("2048", ""), ("64", "_64")):
        extractor = inception.extractor(weights=str(file), sha256=sha256, layer=layer)
        assert extractor.name == f"inception_of_{sha256[:8]}{end}"
        assert (extractor.dims, extractor.depends["sha256"]) == (int(layer), sha256)
    assert inception.of_params({}, name="inception", sha256=inception.SHA256).dims == 2048


def test_a_missing_file_and_another_one_say_where_to_get_it(file, tmp_path):
    missing = r"pt_inception-2015-12-05-6726825d\.pth of the releases .* \(SHA-256 6726825d0af5f729"
    with pytest.raises(FileNotFoundError, match=missing):
        inception.extractor(weights=str(tmp_path / "none.pth"))
    with pytest.raises(ValueError, match=r"has the SHA-256 .*, expected 6726825d0af5f729"):
        inception.extractor(weights=str(file))
    with pytest.raises(ValueError, match="layer='1000': expected one of"):
        inception.extractor(weights=str(file), layer="1000")
