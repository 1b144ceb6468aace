import numpy as np
import prepared
import pytest

from fmjax.data.grain_source import tfds_grain
from fmjax.data.tfds_memory import tfds_in_memory

# shape of the images, classes, the split that is not for training
SETS = {
    "cifar10": ((32, 32, 3), 10, "test"),
    "fashion_mnist": ((28, 28, 1), 10, "test"),
    "imagenet_resized/32x32": ((32, 32, 3), 1000, "validation"),
    "imagenet_resized/64x64": ((64, 64, 3), 1000, "validation"),
    "downsampled_imagenet/32x32": (None, 0, "validation"),
    "imagenet2012": (None, 1000, "validation"),
    "celeb_a_hq/256": ((256, 256, 3), 0, "train[90%:]"),
    "lsun/bedroom": (None, 0, "validation"),
}


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("factory", [tfds_in_memory, tfds_grain])
def test_real_builders_read_them(name, factory, tmp_path_factory):
    data_dir = tmp_path_factory.getbasetemp() / "sets"
    prepared.prepare(name, data_dir, rows=10)
    shape, classes, test = SETS[name]
    options = {} if shape else {"transform": lambda image: np.float32(image[:32, :32])}
    made = factory(
        name,
        data_dir=data_dir,
        batch_size=4,
        splits={"train": "train", "test": test},
        label="label" if classes else None,
        **options,
    )
    batch = made.batch("train", 1)
    assert batch.x1.shape == (4, *(shape or (32, 32, 3)))
    assert batch.x1.dtype == np.float32
    assert batch.x1.std() > 50
    if classes:
        assert made.null == len(made.names) == classes
        assert set(made.take("train", None).cond.tolist()) == set(range(10))
        assert made.read(made.names[3]) == 3
    else:
        assert made.null is made.read is batch.cond is None


def test_a_prepared_set_is_left_alone(tmp_path):
    path = prepared.prepare("cifar10", tmp_path, rows=3)
    files = {p: p.stat().st_mtime_ns for p in path.iterdir()}
    assert prepared.prepare("cifar10", tmp_path, rows=5) == path
    assert {p: p.stat().st_mtime_ns for p in path.iterdir()} == files
