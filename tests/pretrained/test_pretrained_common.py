"""Weights from files: safetensors, PyTorch's two formats, and what is wrong with a file."""

import io
import pickle
import struct
import sys
import types
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
from safetensors.numpy import save_file

from fmjax.pretrained import _common, _torch_files


class Storage:
    def __init__(self, key, array):
        self.key, self.size = key, array.size


class Tensor:
    def __init__(self, key, array, stride=None):
        stride = stride or tuple(s // array.itemsize for s in array.strides)
        self.args = Storage(key, array), 0, array.shape, stride, False, OrderedDict()

    def __reduce__(self):
        return sys.modules["torch._utils"]._rebuild_tensor_v2, self.args


class Torch(pickle.Pickler):
    """Names a storage aside, as PyTorch does."""

    def persistent_id(self, obj):
        if isinstance(obj, Storage):
            return ("storage", sys.modules["torch"].FloatStorage, obj.key, "cpu", obj.size)
        return None


def _rebuild_tensor_v2(): ...  # only its name is written


_rebuild_tensor_v2.__module__ = "torch._utils"


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    """Modules with PyTorch's names, for what is written to be pickled by these names."""
    utils, torch = types.ModuleType("torch._utils"), types.ModuleType("torch")
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    torch.FloatStorage = type("FloatStorage", (), {"__module__": "torch"})
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)


def dumped(obj):
    file = io.BytesIO()
    Torch(file, 2).dump(obj)
    return file.getvalue()


def state(arrays):
    return OrderedDict((name, Tensor(str(i), a)) for i, (name, a) in enumerate(arrays.items()))


def write_zip(path, arrays, tree=None):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", dumped(tree or state(arrays)))
        for i, array in enumerate(arrays.values()):
            archive.writestr(f"archive/data/{i}", array.tobytes())


def write_legacy(path, arrays, tree=None):
    keys = [str(i) for i in range(len(arrays))]
    head = [_torch_files.MAGIC, 1001, {"little_endian": True}, tree or state(arrays), keys]
    raw = [struct.pack("<q", a.size) + a.tobytes() for a in arrays.values()]
    path.write_bytes(b"".join([*map(dumped, head), *raw]))


ARRAYS = {
    "conv.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2),
    "conv.bias": np.array([5.0, 6.0], np.float32),
    "norm.weight": np.array([1.0, 2.0], np.float32),
    "norm.bias": np.array([3.0, 4.0], np.float32),
}


@pytest.mark.parametrize("write", [write_zip, write_legacy])
def test_torch_files_are_read_without_torch(tmp_path, write):
    write(tmp_path / "weights.pt", ARRAYS)
    read = _common.tensors(tmp_path / "weights.pt")
    assert list(read) == list(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(read[name], array)


def test_strides_and_nested_dicts(tmp_path):
    array = np.arange(6, dtype=np.float32)
    tree = {"ema": {"w": Tensor("0", array.reshape(2, 3), (1, 2))}, "step": 7}
    write_zip(tmp_path / "w.pth", {"w": array}, tree)
    read = _common.tensors(tmp_path / "w.pth")
    assert list(read) == ["ema.w"]
    np.testing.assert_array_equal(read["ema.w"], [[0, 2, 4], [1, 3, 5]])


@pytest.mark.parametrize("write", [write_zip, write_legacy])
def test_tensors_in_lists(tmp_path, write):
    a, b = np.arange(3, dtype=np.float32), np.arange(4, dtype=np.float32)
    write(
        tmp_path / "w.pt",
        {"a": a, "b": b},
        {"parts": [{"a": Tensor("0", a)}, (1, Tensor("1", b))], "step": [7]},
    )
    read = _common.tensors(tmp_path / "w.pt")
    assert list(read) == ["parts.0.a", "parts.1.1"]
    np.testing.assert_array_equal(read["parts.0.a"], a)
    np.testing.assert_array_equal(read["parts.1.1"], b)


def test_safetensors(tmp_path):
    save_file(ARRAYS, tmp_path / "w.safetensors")
    np.testing.assert_array_equal(
        _common.tensors(tmp_path / "w.safetensors")["conv.bias"], ARRAYS["conv.bias"]
    )


class Harm:
    def __reduce__(self):
        return print, ("harm",)


def test_other_classes_are_refused(tmp_path, capsys):
    harm = pickle.dumps({"a": Harm()}, 2)
    with zipfile.ZipFile(tmp_path / "w.pt", "w") as archive:
        archive.writestr("archive/data.pkl", harm)
    # of the older format already the first pickle
    (tmp_path / "old.pt").write_bytes(harm)
    for name in ("w", "old"):
        with pytest.raises(ValueError, match=rf"{name}\.pt.*print.*state_dict"):
            _common.tensors(tmp_path / f"{name}.pt")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_damaged_files_are_named(tmp_path, suffix):
    path = tmp_path / f"w.{suffix}"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match=rf"w\.{suffix}.*damaged"):
        _common.tensors(path)


def test_a_legacy_file_that_was_cut_short(tmp_path):
    write_legacy(tmp_path / "w.pt", ARRAYS)
    data = (tmp_path / "w.pt").read_bytes()
    (tmp_path / "w.pt").write_bytes(data[:-9])
    with pytest.raises(ValueError, match=r"w\.pt.*cut short"):
        _common.tensors(tmp_path / "w.pt")


def test_a_missing_file_says_where_to_get_it_and_its_hash(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"the net.*nets\.pt from there.*abc"):
        _common.found(tmp_path / "w", what="the net", where="nets.pt from there", sha256="abc")
    with pytest.raises(FileNotFoundError, match="no file"):
        _common.tensors(tmp_path / "w.pt")


def test_a_file_of_another_hash_is_refused(tmp_path):
    file = tmp_path / "w"
    file.write_bytes(b"abc")
    begin = "ba7816bf"  # of SHA-256("abc"), FIPS 180-2
    assert _common.found(file, what="the net", where="it", sha256=begin) == file
    assert _common.sha256_of(file).startswith(begin)
    with pytest.raises(ValueError, match=f"{begin}.*expected 1234"):
        _common.found(file, what="the net", where="it", sha256="1234")


def test_layers_are_taken_in_our_order_and_the_rest_is_noticed():
    taker = _common.Taker(ARRAYS, "the net")
    layer = taker.conv("conv")
    assert layer["kernel"].shape == (2, 2, 3, 2)
    assert layer["kernel"][1, 0, 2, 1] == ARRAYS["conv.weight"][1, 2, 1, 0]
    np.testing.assert_array_equal(layer["bias"], [5, 6])
    with pytest.raises(ValueError, match=r"2 tensors.*norm"):
        taker.done()
    taker.done(ignore=["norm.weight", "norm.bias"])
    np.testing.assert_array_equal(taker.norm("norm")["scale"], [1, 2])
    taker.done()


def test_dense_layers_come_from_one_by_one_convolutions_too():
    weight = np.arange(6, dtype=np.float32).reshape(2, 3, 1, 1)
    kernel = _common.Taker({"a.weight": weight}, "the net").linear("a")["kernel"]
    np.testing.assert_array_equal(kernel, weight.reshape(2, 3).T)


def test_missing_and_misshapen_tensors_are_named():
    taker = _common.Taker(ARRAYS, "the net")
    with pytest.raises(ValueError, match=r"the net lack 'conv\.weights'; near it: \['conv\.weight"):
        taker.take("conv.weights")
    with pytest.raises(ValueError, match=r"'conv\.bias'.*\(2,\), expected \(3,\)"):
        taker.take("conv.bias", (3,))
