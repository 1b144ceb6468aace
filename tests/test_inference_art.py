"""What a run with a condition of parts is used for: words, dials, edited images, the sheet."""

import matplotlib.image
import numpy as np
import pytest
import tiny
import tiny_art

import fmjax
import launch
from fmjax import codecs, guidance, judge, pictures
from fmjax.config import ConfigError


def nothing(*args, **options):
    raise AssertionError("not asked for")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("art")
    assert tiny.launched(workdir, config=tiny_art.FILE) == 0
    return workdir


@pytest.fixture(scope="module")
def loaded(run):
    return fmjax.load(run)


def saved(folder, name, pixels):
    matplotlib.image.imsave(folder / name, pixels, vmin=0, vmax=1, cmap="gray")
    return folder / name


def test_a_run_embeds_each_part_and_draws_the_sheet(run, loaded):
    shapes = {n: p for n, p in loaded.params.items() if n.startswith("condition")}
    assert shapes["condition_group"]["embedding"].shape == (3, 16)
    assert shapes["condition_caption"]["kernel"].shape == (3, 16)
    for name in ("samples", "art"):
        picture = matplotlib.image.imread(run / f"{name}.png")
        assert min(picture.shape[:2]) > 300
        assert np.std(picture) > 0.02


def test_conditions_are_words_of_parts(run, loaded):
    batch = loaded.sample(2, ["group=blue,style=light, bright", "caption=abc"])
    np.testing.assert_array_equal(batch.cond["group"], [1, 2])
    np.testing.assert_array_equal(batch.cond["style"], [1, 2])
    np.testing.assert_array_equal(batch.cond["caption"], [[0, 0, 0], [3, 3, 3]])
    flags = ["--n=4", "--cond=group=blue,style=light, bright;caption=abc"]
    assert tiny.launched(run, mode="sample", config=None, flags=flags) == 0
    kept = np.load(run / "samples" / "samples.npz")
    np.testing.assert_array_equal(kept["cond_group"], [1, 2, 1, 2])
    np.testing.assert_array_equal(kept["x1"][:2], batch.x1)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, []),
        (["3,5"], ["3", "5"]),
        (["3", "5,6"], ["3", "5", "6"]),
        (["a, b;c"], ["a, b", "c"]),
        (["group=a,style=b"], ["group=a,style=b"]),
        (["group=a,style=b;group=c", "style=d"], ["group=a,style=b", "group=c", "style=d"]),
    ],
)
def test_the_command_line_splits_conditions_at_semicolons(given, words):
    assert launch.conditions(given) == words


def test_little_strength_keeps_an_image_and_much_forgets_it(loaded):
    image = loaded.data.take("test", 1).x1[0]
    cond = ["group=blue"] * 3
    little, much = (loaded.sample(3, cond, image=image, strength=s).x1 for s in (0.01, 0.6))
    assert np.abs(little - image).mean() < 5 < np.abs(much - image).mean()
    default = loaded.sample(3, cond, image=image)
    np.testing.assert_array_equal(default.x1, much)
    assert default.x1[0].shape == image.shape
    assert np.any(default.x1[0] != default.x1[1])


def test_known_pixels_are_kept_and_others_painted(loaded):
    images = loaded.data.take("test", 3).x1
    mask = np.zeros((8, 8), bool)
    mask[2:5, 1:4] = True
    batch = loaded.sample(3, image=images, mask=mask)
    np.testing.assert_array_equal(batch.x1[:, ~mask], images[:, ~mask])
    assert np.all(np.abs(batch.x1 - images)[:, mask].mean(axis=(1, 2)) > 1)
    np.testing.assert_array_equal(batch.cond["group"], loaded.data.take("test", 3).cond["group"])


def test_images_and_masks_are_files_on_the_command_line(run, loaded, tmp_path):
    pixels = np.linspace(0, 1, 192).reshape(8, 8, 3)
    image = saved(tmp_path, "image.png", pixels)
    mask = saved(tmp_path, "mask.png", np.eye(8))
    flags = ["--n=2", "--cond=group=red", f"--image={image}"]
    assert tiny.launched(run, mode="sample", config=None, flags=[*flags, f"--mask={mask}"]) == 0
    x1 = np.load(run / "samples" / "samples.npz")["x1"]
    known = np.eye(8) == 0
    np.testing.assert_allclose(x1[:, known], np.stack([255 * pixels[known]] * 2), atol=1)
    assert tiny.launched(run, mode="sample", config=None, flags=[*flags, "--strength=0.01"]) == 0
    x1 = np.load(run / "samples" / "samples.npz")["x1"]
    np.testing.assert_allclose(x1, np.stack([255 * pixels] * 2), atol=20)
    shown = matplotlib.image.imread(run / "samples" / "edited.png")
    assert shown.shape[1] > 2.9 * shown.shape[0]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--image=none.png"], "there is no file none.png"),
        (["--image={text}"], "is no image that can be read"),
        (["--image={wide}"], "the image has shape [8, 9, 3], those of this run have [8, 8, 3]"),
        (["--image={clear}"], "has transparent pixels"),
        (["--image={image}", "--mask={wide}"], "the mask has shape [8, 9], images have [8, 8]"),
        (["--image={image}", "--strength=1.5"], "expected above 0 (the image) to 1"),
        (["--image={image}", "--mask={image}", "--strength=0.5"], "leave out it or the mask"),
        (["--mask={image}"], "is for an image, and there is none"),
        (["--cond=group=green"], "there is no class 'green'; there are: red, blue"),
        (["--cond=green"], "expected part=word, the parts being group, style, caption"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_remedy(run, flags, words, tmp_path, capsys):
    files = {"text": tmp_path / "text.png"}
    files["text"].write_text("no image")
    files["image"] = saved(tmp_path, "image.png", np.zeros((8, 8, 3)))
    files["wide"] = saved(tmp_path, "wide.png", np.zeros((8, 9, 3)))
    files["clear"] = saved(tmp_path, "clear.png", np.zeros((8, 8, 4)))
    flags = ["--n=2", *(flag.format(**files) for flag in flags)]
    assert tiny.launched(run, mode="sample", config=None, flags=flags) == 2
    assert words in capsys.readouterr().err


def test_runs_that_have_no_images_take_none(finished, tmp_path, capsys):
    image = saved(tmp_path, "image.png", np.zeros((8, 8, 3)))
    flags = ["--n=2", f"--image={image}"]
    assert tiny.launched(finished, mode="sample", config=None, flags=flags) == 2
    assert "tell no way from files" in capsys.readouterr().err


def test_draw_composes_with_the_same_noise_and_takes_rows(loaded):
    cond = {part: np.stack([c] * 3) for part, c in loaded.data.read("group=red").items()}
    plain = lambda net: net  # noqa: E731
    same = loaded.draw(3, cond, noise=[0, 0, 1], guidance=plain)
    np.testing.assert_allclose(same[0], same[1], atol=1)
    assert np.abs(same[0] - same[2]).max() > 1
    scaled = loaded.draw(
        3,
        cond,
        noise=[0, 0, 1],
        guidance=lambda net, group: guidance.compose(
            net, null=loaded.data.null, scales={"group": group}
        ),
        rows={"group": np.array([1.0, 100.0, 1.0], np.float32)},
    )
    # one part at scale 1, the others being absent: the conditional net
    np.testing.assert_allclose(scaled[::2], same[::2], atol=1)
    assert np.abs(scaled[0] - scaled[1]).max() > 1


def test_the_sheet_is_not_drawn_without_parts_or_images():
    points, art = tiny.points(batch_size=2), tiny_art.images(batch_size=2)
    options = {"draw": nothing, "low": 0.0, "high": 1.0, "codec": codecs.identity()}
    for data, words in [
        (points, "at least two parts that are classes"),
        (art._replace(spec=art.spec._replace(x1=points.spec.x1)), "is of images"),
    ]:
        with pytest.raises(pictures.NotDrawn, match=words):
            pictures.art_sheet(data, nothing, nothing, null=data.null, **options)


def test_a_picture_without_an_argument_draw_is_not_given_one():
    data = tiny.points(batch_size=2)
    got = judge.picture_of(lambda data, samples, paths: (samples, paths), data, 2, 3, None)
    assert got == (2, 3)


def test_a_run_with_a_bridge_of_its_own_noise_edits_no_images(run, loaded):
    bridged = fmjax.load(run, changes=["bridge=fmjax.bridges:brownian"])
    with pytest.raises(ConfigError, match="bridge with noise of its own"):
        bridged.sample(2, image=loaded.data.take("test", 1).x1[0])
