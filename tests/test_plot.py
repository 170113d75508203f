"""The figures: what they show, in colors that every reader can tell apart."""

import itertools

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from seglib import plot

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 6, 8, 3)).astype("uint8")
MASKS = np.random.default_rng(1).integers(0, 3, (3, 6, 8)).astype("uint8")
PREDICTIONS = (MASKS + 1) % 3


def panels(figure):
    """The axes that show a picture, row by row, as (title, picture)."""
    return [
        (a.get_title(), np.asarray(a.get_images()[0].get_array()))
        for a in figure.axes
        if a.get_images()
    ]


def legend_of(figure):
    return [t.get_text() for legend in figure.legends for t in legend.get_texts()]


# --- colors -----------------------------------------------------------------------------------


def linear(color):
    """sRGB to linear light (IEC 61966-2-1)."""
    c = np.asarray(to_rgb(color))
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def luminance(color):
    """Relative luminance as WCAG 2 defines it."""
    return linear(color) @ [0.2126, 0.7152, 0.0722]


def lab(linear_rgb):
    """Linear sRGB to CIE L*a*b* under D65."""
    matrix = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = np.clip(matrix @ linear_rgb, 0, None) / [0.9505, 1.0, 1.089]
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


# Machado, Oliveira and Fernandes: A Physiologically-based Model for Simulation of Color Vision
# Deficiency, 2009, table 1, severity 1.0; on linear RGB.
VISION = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritanopia": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}


@pytest.mark.parametrize("a, b", list(itertools.combinations(range(3), 2)))
def test_the_three_classes_differ_in_print_without_color(a, b):
    dark, light = sorted(luminance(plot.PALETTE[i]) for i in (a, b))
    assert (light + 0.05) / (dark + 0.05) >= 1.5  # WCAG's contrast ratio


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("a, b", list(itertools.combinations(range(3), 2)))
def test_every_reader_can_tell_the_three_classes_apart(vision, a, b):
    first, second = (lab(np.clip(VISION[vision] @ linear(plot.PALETTE[i]), 0, 1)) for i in (a, b))
    assert np.linalg.norm(first - second) > 15


@pytest.mark.parametrize("vision", VISION)
def test_every_reader_can_tell_wrong_from_right_and_ignored(vision):
    seen = [
        lab(np.clip(VISION[vision] @ linear(c), 0, 1))
        for c in (plot.RIGHT, plot.WRONG, plot.IGNORE_COLOR)
    ]
    for first, second in itertools.combinations(seen, 2):
        assert np.linalg.norm(first - second) > 15


def test_the_colors_are_okabe_and_itos():
    # https://jfly.uni-koeln.de/color/, as RGB
    published = {
        (0, 0, 0), (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66),
        (0, 114, 178), (213, 94, 0), (204, 121, 167),
    }  # fmt: skip
    ours = {tuple(round(255 * v) for v in to_rgb(c)) for c in plot.PALETTE}
    assert ours == published


def test_a_label_map_is_painted_in_the_classes_colors():
    painted = plot.colorize(np.array([[0, 1], [2, 255]]), 3)
    expected = [[(230, 159, 0), (0, 114, 178)], [(240, 228, 66), (154, 154, 154)]]
    np.testing.assert_allclose(255 * painted, expected, atol=1e-6)


def test_labels_that_are_no_class_are_painted_as_ignored():
    painted = plot.colorize(np.array([[-1, 3, 255, 0]]), 3)
    gray = to_rgb(plot.IGNORE_COLOR)
    np.testing.assert_allclose(painted[0, :3], [gray] * 3)
    np.testing.assert_allclose(painted[0, 3], to_rgb(plot.PALETTE[0]))


@pytest.mark.parametrize("count", [2, 3, 8, 9, 20])
def test_each_class_has_a_color_of_its_own(count):
    rgb = {to_rgb(c) for c in plot.colors(count)}
    assert len(rgb) == count == len(plot.colors(count))


# --- show -------------------------------------------------------------------------------------


def test_images_masks_predictions_and_errors_side_by_side():
    figure = plot.show(IMAGES, MASKS, PREDICTIONS)
    assert isinstance(figure, Figure)
    found = panels(figure)
    assert [title for title, _ in found] == ["image", "truth", "prediction", "error"] + [""] * 8
    for row in range(3):
        image, truth, prediction, error = (picture for _, picture in found[4 * row : 4 * row + 4])
        np.testing.assert_array_equal(image, IMAGES[row])
        np.testing.assert_allclose(truth, plot.colorize(MASKS[row], 3))
        np.testing.assert_allclose(prediction, plot.colorize(PREDICTIONS[row], 3))
        np.testing.assert_allclose(error, np.broadcast_to(to_rgb(plot.WRONG), (6, 8, 3)))
    assert legend_of(figure) == ["pet", "background", "border", "wrong"]


@pytest.mark.parametrize(
    "kwargs, titles, legend",
    [
        ({"masks": MASKS}, ["image", "truth"], ["pet", "background", "border"]),
        ({"predictions": PREDICTIONS}, ["image", "prediction"], ["pet", "background", "border"]),
        (
            {"masks": MASKS, "predictions": PREDICTIONS, "errors": False},
            ["image", "truth", "prediction"],
            ["pet", "background", "border"],
        ),
        (
            {"masks": MASKS, "classes": ("a", "b", "c", "d")},
            ["image", "truth"],
            ["a", "b", "c", "d"],
        ),
    ],
    ids=["masks", "predictions", "no-errors", "classes"],
)
def test_columns_follow_what_is_given(kwargs, titles, legend):
    figure = plot.show(IMAGES, **kwargs)
    assert [title for title, _ in panels(figure)][: len(titles)] == titles
    assert len(panels(figure)) == 3 * len(titles)
    assert legend_of(figure) == legend


@pytest.mark.parametrize("as_list", [False, True])
def test_logits_are_shown_as_their_argmax(as_list):
    logits = np.eye(3)[PREDICTIONS] * 4 - 1.5
    figure = plot.show(IMAGES, predictions=list(logits) if as_list else logits)
    expected = plot.show(IMAGES, predictions=PREDICTIONS)
    for (_, a), (_, b) in zip(panels(figure), panels(expected), strict=True):
        np.testing.assert_array_equal(a, b)


def test_pictures_alone_are_laid_out_in_rows_of_four():
    figure = plot.show(np.concatenate([IMAGES, IMAGES]))
    assert len(panels(figure)) == 6 and len(figure.axes) == 8
    assert not legend_of(figure)


def test_pictures_may_differ_in_size():
    images = [IMAGES[0], IMAGES[1][:4]]
    figure = plot.show(images, [MASKS[0], MASKS[1][:4]])
    assert [p.shape[:2] for _, p in panels(figure)] == [(6, 8), (6, 8), (4, 8), (4, 8)]


def test_float_pixels_are_shown_as_they_are():
    ((_, picture),) = panels(plot.show(IMAGES[:1].astype("float32")))
    np.testing.assert_array_equal(picture, IMAGES[0])


def test_at_most_so_many_pictures():
    assert len(panels(plot.show(np.repeat(IMAGES, 5, axis=0)))) == 8
    assert len(panels(plot.show(IMAGES, MASKS, max_pictures=2))) == 4


@pytest.mark.parametrize("masks", [MASKS, None])
def test_captions(masks):
    figure = plot.show(IMAGES, masks, titles=["cat", "dog", "cat"])
    texts = [t.get_text() for axis in figure.axes for t in axis.texts]
    assert texts == ["cat", "dog", "cat"]


def test_no_pictures():
    with pytest.raises(ValueError, match="no pictures to show"):
        plot.show(IMAGES[:0])


def test_wrong_right_and_ignored_pixels():
    error = plot.error_map(np.array([[0, 1, 255]]), np.array([[0, 2, 0]]))
    expected = [to_rgb(plot.RIGHT), to_rgb(plot.WRONG), to_rgb(plot.IGNORE_COLOR)]
    np.testing.assert_allclose(error[0], expected)


def test_figures_are_closed_so_that_a_notebook_shows_them_once():
    plot.show(IMAGES, MASKS)
    plot.confusion(np.eye(3))
    assert plt.get_fignums() == []


# --- curves and confusion ---------------------------------------------------------------------

RUN = {"loss": [3.0, 2.0], "val_loss": [3.5, 2.5], "mean_iou": [0.1, 0.2], "learning_rate": [1, 1]}


class History:
    """What `fit` returns, as far as plots look."""

    def __init__(self, history):
        self.history = history


@pytest.mark.parametrize("history", [RUN, History(RUN), [RUN]], ids=["dict", "history", "list"])
def test_curves_of_one_run(history):
    figure = plot.curves(history)
    assert [a.get_title() for a in figure.axes] == ["loss", "mean iou"]
    loss, iou = figure.axes
    assert [line.get_label() for line in loss.lines] == ["training", "validation"]
    np.testing.assert_array_equal(loss.lines[0].get_xydata(), [[1, 3.0], [2, 2.0]])
    np.testing.assert_array_equal(loss.lines[1].get_xydata(), [[1, 3.5], [2, 2.5]])
    np.testing.assert_array_equal(iou.lines[0].get_ydata(), [0.1, 0.2])
    assert len(iou.lines) == 1 and loss.get_xlabel() == "epoch"
    assert all(tick == int(tick) for tick in loss.get_xticks())
    # Told apart without color as well
    assert len({line.get_linestyle() for line in loss.lines}) == 2
    assert [t.get_text() for t in loss.get_legend().get_texts()] == ["training", "validation"]


def test_curves_of_runs_that_follow_each_other():
    figure = plot.curves([History(RUN), RUN, RUN], metrics=["loss"])
    (axis,) = figure.axes
    np.testing.assert_array_equal(axis.lines[0].get_xdata(), np.arange(1, 7))
    np.testing.assert_array_equal(axis.lines[0].get_ydata(), [3, 2] * 3)
    assert [line.get_xdata()[0] for line in axis.lines[2:]] == [2.5, 4.5]


def test_the_confusion_matrix_shows_shares_of_each_true_class():
    figure = plot.confusion([[8, 1, 1], [0, 4, 0], [0, 0, 0]], ("a", "b", "c"))
    axis = figure.axes[0]
    assert axis.get_xlabel() == "prediction" and axis.get_ylabel() == "truth"
    assert [t.get_text() for t in axis.get_xticklabels()] == ["a", "b", "c"]
    assert [t.get_text() for t in axis.get_yticklabels()] == ["a", "b", "c"]
    shown = {t.get_position(): t.get_text() for t in axis.texts}  # (column, row)
    assert shown[(0, 0)] == "0.800" and shown[(1, 0)] == "0.100" and shown[(1, 1)] == "1.000"
    assert shown[(2, 2)] == "0.000"  # a class that never occurs


def test_the_numbers_in_the_confusion_matrix_can_be_read():
    figure = plot.confusion(np.eye(3) * 5)
    (image,) = figure.axes[0].get_images()
    for text in figure.axes[0].texts:
        cell = image.cmap(image.norm(image.get_array()[text.get_position()[::-1]]))
        dark, light = sorted((luminance(cell[:3]), luminance(text.get_color())))
        assert (light + 0.05) / (dark + 0.05) >= 4.5  # WCAG 2, level AA


def test_a_confusion_matrix_of_another_size():
    with pytest.raises(ValueError, match=r"shape \(2, 2\), expected \(3, 3\) for 3 classes"):
        plot.confusion(np.eye(2))


def test_figures_can_be_saved(tmp_path):
    assert matplotlib.get_backend().lower() == "agg"
    path = tmp_path / "figure.png"
    plot.show(IMAGES, MASKS, PREDICTIONS).savefig(path)
    assert plt.imread(path).std() > 0.05


# --- the leaderboard --------------------------------------------------------------------------


def models_of(*scores):
    """Arguments of `fronts`, the best first; each model costs half of the one before."""
    return {
        "scores": scores,
        "costs": {"price": [64.0 / 2**i for i in range(len(scores))]},
        "labels": [f"model {i}" for i in range(len(scores))],
        "groups": [("unet", "fcn8", "other")[i % 3] for i in range(len(scores))],
        "intervals": [(score - 0.02, score + 0.01) for score in scores],
    }


def points(axis):
    """Where the letters of the models stand, by letter."""
    return {t.get_text(): t.get_position() for t in axis.texts if len(t.get_text()) == 1}


def test_fronts_has_a_panel_a_cost_and_a_letter_a_model():
    models = models_of(0.8, 0.7, 0.75)
    prices = models["costs"]["price"]
    models["costs"] = {name: [i * p for p in prices] for i, name in enumerate("xyz", start=1)}
    figure = plot.fronts(**models)
    shown = [axis for axis in figure.axes if axis.axison]
    assert [axis.get_xlabel() for axis in shown] == ["x", "y", "z"]
    assert points(shown[1]) == {"A": (128.0, 0.8), "B": (64.0, 0.7), "C": (32.0, 0.75)}
    texts = legend_of(figure)
    assert texts[:3] == ["A  model 0", "B  model 1", "C  model 2"]
    markers = {line.get_marker() for axis in shown for line in axis.lines} - {"None"}
    assert len(markers) == 3  # the families differ in black and white, too


def test_the_staircase_leaves_out_who_is_beaten():
    figure = plot.fronts(**models_of(0.8, 0.7, 0.75))
    stairs = [line for line in figure.axes[0].lines if line.get_linestyle() == "--"]
    x, y = stairs[0].get_data()
    assert list(zip(x, y, strict=True))[:2] == [(16.0, 0.75), (64.0, 0.8)]
    assert y[-1] == 0.8 and x[-1] > 64


def test_one_that_is_far_below_stands_at_the_edge_with_its_score():
    figure = plot.fronts(**models_of(0.8, 0.7, 0.4))
    axis = figure.axes[0]
    assert points(axis)["C"][1] == pytest.approx(0.7 - 0.02 - 0.012)
    assert any("0.400" in text.get_text() for text in axis.texts)
    assert not any("0.700" in text.get_text() for text in axis.texts)


def test_a_table_of_one_model_can_be_drawn():
    figure = plot.fronts(**models_of(0.8), columns=1)
    assert points(figure.axes[0]) == {"A": (64.0, 0.8)}
