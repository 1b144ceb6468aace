import functools

import jax
import numpy as np
import pytest
import tiny

from fmjax import reading, sources
from fmjax.data.conditioned import conditioned
from fmjax.data.coupled import coupled
from fmjax.data.in_memory import in_memory
from fmjax.data.originals import originals
from fmjax.data.toy import gaussian, toy
from fmjax.types import Batch


def parts(*, batch_size, rows=700):
    """Rows whose number is their value and their two conditions."""
    i = np.arange(rows, dtype=np.float32)
    train = Batch(i[:, None], {"a": i.astype(np.int32), "b": i[:, None]})
    return in_memory({"train": train}, batch_size=batch_size)


def joined(batches):
    batches = list(batches)
    tree = [[part.x1, part.x0, part.cond] for part in batches]
    return jax.tree.map(lambda *a: np.concatenate(a), *tree)


def without_start(data):
    return data._replace(take=lambda split, n: data.take(split, n))


MADE = {
    "memory": lambda: parts(batch_size=4),
    "conditioned": lambda: conditioned(parts, keep="b", batch_size=4),
    "originals": lambda: originals(data=parts, batch_size=4),
    "coupled": lambda: coupled(parts, block=4, batch_size=4),
    "without start": lambda: without_start(parts(batch_size=4)),
    "coupled, without start": lambda: coupled(
        lambda batch_size: without_start(parts(batch_size=batch_size)), block=4, batch_size=4
    ),
    "endless": lambda: toy(gaussian),
}


@pytest.mark.parametrize("name", MADE)
def test_read_in_chunks_it_is_what_is_read_at_once(name):
    data = MADE[name]()
    assert reading.starts_anywhere(data.take) == (not name.endswith(("start", "endless")))
    whole = data.take("train", 600)
    for size in (600, 250):
        found = list(reading.chunks(data.take, "train", 600, size))
        assert max(len(part.x1) for part in found) == size
        tiny.assert_same(joined(found), joined([whole]))
    sparse = joined(reading.chunks(data.take, "train", 600, 250, every=2))[0]
    np.testing.assert_array_equal(sparse, np.delete(whole.x1, slice(250, 500), axis=0))
    places = np.asarray([599, 0, 3, 3, 417])
    found = list(reading.picked(data.take, "train", 600, places, 2))
    assert [len(part.x1) for part in found] == [2, 2, 1]
    np.testing.assert_array_equal(joined(found)[0], whole.x1[places])
    cond = reading.conditions(data.take, "train", 600)
    tiny.assert_same([cond], [whole.cond])


def test_noise_of_rows_is_of_different_rows_and_of_the_source():
    source = functools.partial(sources.normal, std=3.0)
    data = coupled(parts, block=4, batch_size=4, source=source)
    x0 = data.take("train", None).x0
    assert x0.shape == (700, 1)
    assert len(np.unique(x0)) == 700
    assert np.std(x0) == pytest.approx(3, rel=0.1)
