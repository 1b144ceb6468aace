import functools

import jax
import numpy as np
import pytest

from fmjax.data.conditioned import conditioned
from fmjax.data.in_memory import in_memory
from fmjax.types import Batch

NULL = {"group": np.int32(2), "style": np.int32(3), "caption": np.zeros(2, np.float32)}
NAMES = {"group": ("left", "right"), "style": ("a", "b, or c", "d")}


def rows(n=12):
    label = np.arange(n, dtype=np.int32)
    caption = np.stack([label, -label], 1).astype(np.float32)
    cond = {"group": label % 2, "style": label % 3, "caption": caption}
    return Batch(label[:, None].astype(np.float32), cond)


SPLITS = {"train": rows(), "test": rows(6)}
WHOLE = functools.partial(in_memory, SPLITS, null=NULL, names=NAMES)
made = functools.partial(conditioned, WHOLE, batch_size=4)


def test_parts_are_kept_with_null_names_and_words():
    data, whole = made(keep=("style", "caption")), WHOLE(batch_size=4)
    for batch, full in [
        (data.batch("train", 5), whole.batch("train", 5)),
        (data.take("test", 3), whole.take("test", 3)),
    ]:
        np.testing.assert_array_equal(batch.x1, full.x1)
        assert set(batch.cond) == {"style", "caption"}
        np.testing.assert_array_equal(batch.cond["caption"], full.cond["caption"])
    assert set(data.spec.cond) == set(data.null) == {"style", "caption"}
    assert data.names == {"style": NAMES["style"]}
    got = data.read("style=b, or c")
    assert got["style"] == 1
    np.testing.assert_array_equal(got["caption"], [0, 0])
    with pytest.raises(ValueError, match=r"'group' was left out; there are \['style', 'caption'\]"):
        data.read("group=left")


def test_parts_get_new_names():
    data = made(keep={"side": "group", "look": "style"})
    assert data.names == {"side": ("left", "right"), "look": NAMES["style"]}
    assert data.null == {"side": 2, "look": 3}
    assert data.read("look=d,side=right") == {"side": 1, "look": 2}
    batch = data.batch("train", 0)
    np.testing.assert_array_equal(batch.cond["side"], batch.x1[:, 0] % 2)


def test_one_part_alone_is_no_dict_and_none_no_condition():
    data = made(keep="group")
    assert (data.null, data.names, data.read("right")) == (2, ("left", "right"), 1)
    assert data.spec.cond == jax.ShapeDtypeStruct((), np.int32)
    assert data.take("test", 4).cond.shape == (4,)
    none = made(keep=())
    assert (none.spec.cond, none.null, none.read, none.names) == (None, None, None, ())
    assert none.batch("train", 0).cond is None


def test_mistakes_are_named():
    with pytest.raises(ValueError, match=r"no parts \['colour'\]; there are \['caption', 'group'"):
        made(keep=("colour",))
    plain = functools.partial(in_memory, {"train": Batch(np.zeros((2, 1)), np.zeros(2, int))})
    with pytest.raises(ValueError, match="has no parts to choose from"):
        conditioned(plain, keep="group", batch_size=2)
