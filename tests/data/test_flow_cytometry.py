import sys
import types

import numpy as np
import pytest

from fmjax.data import flow_cytometry as module
from fmjax.data.flow_cytometry import CHANNELS, flow_cytometry

LABELS = ["HDR-T", *CHANNELS, "B1-W"]
WELLS = ("Plate01/CFP_Well_A4.fcs", "Plate02/Mixed_Well_H1.001.fcs")


class FlowData:
    """Stands in for flowio's reader: the rows of a file are saved beside it."""

    def __init__(self, file):
        self.pnn_labels = LABELS
        self._rows = np.load(file + ".npy")

    def as_array(self, preprocess):
        assert not preprocess
        return self._rows


@pytest.fixture
def events(tmp_path, monkeypatch):
    """Two wells of 300 events, and an installed package with one more file that is no well."""
    package = tmp_path / "FlowCytometryTools"
    (tmp_path / "FlowCytometryTools" / "tests" / "data" / "FlowCytometers").mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemError('must not be imported')")
    (package / "tests" / "data" / "FlowCytometers" / "other.fcs").touch()
    rng = np.random.default_rng(0)
    kept = []
    for well in WELLS:
        file = package / "tests" / "data" / well
        file.parent.mkdir(exist_ok=True)
        file.touch()
        kept.append(1000.0 * rng.normal(size=(300, len(LABELS))) + np.arange(len(LABELS)))
        np.save(f"{file}.npy", kept[-1])
    monkeypatch.setitem(sys.modules, "flowio", types.SimpleNamespace(FlowData=FlowData))
    monkeypatch.delitem(sys.modules, "FlowCytometryTools", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return np.concatenate(kept)


def test_every_event_is_there_once_transformed_and_standardised(events):
    data = flow_cytometry(batch_size=8)
    assert dict(data.splits) == {"train": 480, "validation": 60, "test": 60}
    splits = {name: data.take(name, None).x1 for name in data.splits}
    assert splits["train"].dtype == np.float32
    np.testing.assert_allclose(splits["train"].mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(splits["train"].std(axis=0), 1, atol=1e-5)
    # every column is increasing in the events, so ranks survive
    rows = np.concatenate([splits[name] for name in ("train", "validation", "test")])
    columns = events[:, 1:-1]
    order = np.argsort(rows[:, 3])
    expected = columns[np.argsort(columns[:, 3])]
    for j in range(rows.shape[1]):
        line = np.polyfit(np.arcsinh(expected[:, j] / 150), rows[order, j], 1)
        fitted = np.polyval(line, np.arcsinh(expected[:, j] / 150))
        np.testing.assert_allclose(rows[order, j], fitted, atol=1e-4)


def test_splits_do_not_depend_on_the_seed_and_batches_do(events):
    first, other = (flow_cytometry(batch_size=8, seed=s) for s in (0, 1))
    np.testing.assert_array_equal(first.take("test", None).x1, other.take("test", None).x1)
    assert (first.batch("train", 0).x1 != other.batch("train", 0).x1).any()
    a, b = first.take("train", None).x1, first.take("test", None).x1
    assert not (a[:, None] == b[None]).all(axis=2).any()


def test_channels_are_chosen_by_name(events):
    data = flow_cytometry(batch_size=8, channels=("B1-W", "FSC-A"))
    assert data.spec.x1.shape == (2,)
    with pytest.raises(ValueError, match=r"no channel 'X9' in CFP_Well_A4\.fcs.*'HDR-T'"):
        flow_cytometry(batch_size=8, channels=("X9",))


def test_missing_packages_are_named_with_their_command(events, monkeypatch, tmp_path):
    command = r"pip install --no-deps -r configs/requirements-nodeps\.txt"
    monkeypatch.setitem(sys.modules, "flowio", None)
    with pytest.raises(ImportError, match=f"flowio.*{command}"):
        flow_cytometry(batch_size=8)
    for well in WELLS:
        (tmp_path / "FlowCytometryTools" / "tests" / "data" / well).unlink()
    with pytest.raises(ImportError, match=f"no wells in .*{command}"):
        flow_cytometry(batch_size=8)
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=f"missing: {command}"):
        flow_cytometry(batch_size=8)


def test_shares_that_leave_nothing_to_train_are_refused(events):
    with pytest.raises(ValueError, match=r"held_out=0\.5"):
        flow_cytometry(batch_size=8, held_out=0.5)
