import matplotlib.image
import numpy as np
import pytest
import tiny

from fmjax import codecs, pictures
from fmjax.data import in_memory
from fmjax.types import Batch


def images(labels):
    """8×8 images that show their row number."""
    n = len(labels)
    x = np.broadcast_to(np.arange(n, dtype=np.float32)[:, None, None, None], (n, 8, 8, 1))
    return Batch(x, np.asarray(labels))


DATA = tiny.points(batch_size=2)  # of two classes


def nothing(n):
    raise AssertionError("not asked for")


def test_a_mosaic_places_each_image_in_its_cell_with_white_around():
    made = pictures.mosaic(np.arange(6.0).reshape(2, 3, 1, 1, 1))
    assert made.shape == (6, 9, 1)
    np.testing.assert_array_equal(made[1::3, 1::3, 0], [[0, 1, 2], [3, 4, 5]])
    assert np.isnan(made).sum() == 6 * 9 - 6


def shown(figure):
    return np.asarray(figure.axes[0].images[0].get_array())


def rows_of_grid(batch, names, columns, **options):
    """The numbers of the rows that the grid shows."""
    figure = pictures.grid(
        DATA._replace(names=names), lambda n: batch, nothing, low=0.0, high=8.0, columns=columns,
        **options,
    )  # fmt: skip
    return 8 * shown(figure)[5::10, 5::10]


def test_the_grid_has_one_row_a_class_of_the_first_of_each():
    rows = rows_of_grid(images([0, 1, 1, 0, 1, 0]), ("a", "b"), 2)
    np.testing.assert_array_equal(rows, [[0, 3], [1, 2]])


def test_the_grid_takes_rows_in_order_where_there_are_no_classes():
    batch = images([0] * 7)._replace(cond=None)
    np.testing.assert_array_equal(rows_of_grid(batch, (), 3), [[0, 1, 2], [3, 4, 5]])


def test_the_grid_maps_low_to_black_and_high_to_white():
    figure = pictures.grid(
        DATA, lambda n: images([0, 1] * n), nothing, low=0.0, high=4.0, columns=2, n=2
    )
    picture = shown(figure)
    assert picture.shape == (20, 20)
    assert (picture[5, 5], picture[5, 15], picture[15, 5]) == (0.0, 0.5, 0.25)
    assert picture[0, 0] == 1.0


def test_a_grid_that_too_few_samples_cannot_fill_is_not_drawn():
    with pytest.raises(pictures.NotDrawn, match="2 samples do not fill a row of 10"):
        pictures.grid(DATA, lambda n: images([0] * n), nothing, low=0.0, high=1.0, n=2)


def test_the_grid_takes_the_classes_of_a_part():
    batch = images([0] * 6)._replace(cond={"a": np.arange(6) // 3, "b": np.arange(6) % 2})
    names = {"a": ("x", "y"), "b": ("z", "w")}
    np.testing.assert_array_equal(rows_of_grid(batch, names, 2), [[0, 1], [3, 4]])
    np.testing.assert_array_equal(rows_of_grid(batch, names, 2, of="b"), [[0, 2], [1, 3]])
    for wrong, of in [(names, "c"), (("x", "y"), "a")]:
        with pytest.raises(ValueError, match=f"of='{of}'"):
            rows_of_grid(batch, wrong, 2, of=of)


def test_a_strip_is_filled_up_with_white():
    picture = shown(pictures.strip(images([0] * 3).x1, low=0, high=4, columns=2))
    assert picture.shape == (20, 20)
    assert (picture[5, 5], picture[5, 15], picture[15, 5], picture[15, 15]) == (0, 0.25, 0.5, 1)


def test_files_are_images_in_the_channels_of_the_run(tmp_path):
    grey, colour, clear = (tmp_path / f"{name}.png" for name in ("grey", "colour", "clear"))
    rows = np.linspace(0, 1, 12).reshape(2, 6)
    matplotlib.image.imsave(grey, rows, cmap="gray", vmin=0, vmax=1)
    matplotlib.image.imsave(colour, rows.reshape(2, 2, 3))
    matplotlib.image.imsave(clear, np.zeros((2, 2, 4)))
    np.testing.assert_allclose(pictures.read_image(grey, 1)[..., 0], rows, atol=0.01)
    np.testing.assert_allclose(pictures.read_image(grey, 3)[..., 2], rows, atol=0.01)
    np.testing.assert_allclose(pictures.read_image(colour, 3), rows.reshape(2, 2, 3), atol=0.01)
    np.testing.assert_array_equal(pictures.read_mask(grey), rows > 0.5)
    with pytest.raises(ValueError, match="is in colour, the images of this run are grey: convert"):
        pictures.read_image(colour, 1)
    with pytest.raises(ValueError, match="transparent"):
        pictures.read_image(clear, 3)


def test_trajectories_run_from_left_to_right():
    def paths(n):
        ts = np.linspace(0, 1, 3)
        return ts, np.broadcast_to(ts[:, None, None, None, None], (3, n, 8, 8, 1))

    picture = shown(pictures.trajectories(DATA, nothing, paths, low=0.0, high=1.0, n=2))
    assert picture.shape == (20, 30)
    np.testing.assert_array_equal(picture[[5, 15]][:, [5, 15, 25]], [[0, 0.5, 1]] * 2)


def test_points_are_drawn_beside_as_many_of_the_data():
    figure = pictures.scatter(DATA, lambda n: DATA.take("train", n), nothing, n=1000)
    assert [len(axes.collections[0].get_offsets()) for axes in figure.axes] == [32, 32]


def test_flow_lines_join_noise_to_samples():
    xs = np.random.default_rng(0).normal(size=(4, 6, 2))
    figure = pictures.flow_lines(DATA, nothing, lambda n: (np.linspace(0, 1, 4), xs), n=6)
    noise, samples = (c.get_offsets() for c in figure.axes[0].collections)
    np.testing.assert_array_equal(noise, xs[0])
    np.testing.assert_array_equal(samples, xs[-1])
    np.testing.assert_array_equal(figure.axes[0].lines[2].get_xydata(), xs[:, 2])


def test_the_loss_curve_has_one_line_a_seed():
    lines = [{"step": s, "loss": [1.0 / s, 2.0 / s]} for s in (1, 2)] + [{"step": 2, "eval/x": 1}]
    figure = pictures.loss_curve(lines)
    assert [line.get_ydata().tolist() for line in figure.axes[0].lines] == [[1.0, 0.5], [2.0, 1.0]]
    assert not pictures.loss_curve([]).axes[0].lines


@pytest.mark.parametrize("name", ["samples", "trajectories", "loss"])
def test_the_pictures_of_a_run_are_not_blank(name, finished):
    picture = matplotlib.image.imread(finished / f"{name}.png")
    assert min(picture.shape[:2]) > 300
    assert np.std(picture) > 0.02


def test_originals_are_beside_what_was_made_of_them():
    batch = images([0] * 6)
    pair = lambda n: batch._replace(x1=10 + batch.x1, cond=batch.x1)  # noqa: E731
    figure = pictures.beside(DATA, pair, nothing, low=0.0, high=20.0, columns=3, rows=4)
    picture = 20 * shown(figure)[5::10, 5::10]
    np.testing.assert_allclose(
        picture, [[0, 1, 2], [10, 11, 12], [3, 4, 5], [13, 14, 15]], atol=1e-4
    )
    with pytest.raises(pictures.NotDrawn, match="originals"):
        pictures.beside(DATA, lambda n: batch, nothing, low=0.0, high=1.0)
    with pytest.raises(pictures.NotDrawn, match="row of 12"):
        pictures.beside(DATA, pair, nothing, low=0.0, high=1.0)


def test_the_labels_of_a_sheet_lie_within_it():
    names = {"group": ("smileys-emotion", "people-body"), "style": ("colour", "line")}
    null = {"group": np.int32(2), "style": np.int32(2)}
    cond = {part: np.arange(2, dtype=np.int32) for part in names}
    rows = Batch(np.zeros((2, 8, 8, 1), np.float32), cond)
    splits = {"train": rows, "test": rows}
    data = in_memory.in_memory(splits, batch_size=2, null=null, names=names)

    def draw(n, cond, **options):
        return np.zeros((n, 8, 8, 1))

    draw.guidance = draw.sampler = None
    options = {"low": 0, "high": 255, "codec": codecs.identity(), "null": null}
    # so narrow that they are longer than the usual margin
    figure = pictures.art_sheet(data, nothing, nothing, draw=draw, inches=4, **options)
    figure.draw_without_rendering()
    words = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert words == ["group=smileys-emotion", "group=people-body"]
    for axes in figure.axes:
        for label in axes.get_yticklabels():
            assert label.get_window_extent().x0 >= 0
