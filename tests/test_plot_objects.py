"""Figures of objects and of weights: what stands where, and what is left out."""

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb, to_rgba
from matplotlib.patches import Rectangle

from seglib import plot
from seglib.plot.objects import OBJECT_COLORS, match

CLASSES = ("cat", "dog")
IMAGE = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype("uint8")


def objects(*rows):
    """Rectangular objects: (class, y1, x1, y2, x2) or with a score at the end."""
    masks = np.zeros((len(rows), 20, 30), bool)
    for mask, (_, y1, x1, y2, x2, *_) in zip(masks, rows, strict=True):
        mask[y1:y2, x1:x2] = True
    found = {
        "boxes": np.array([row[1:5] for row in rows], "float32").reshape(-1, 4),
        "classes": np.array([row[0] for row in rows], int),
        "masks": masks,
    }
    if rows and len(rows[0]) == 6:
        found["scores"] = np.array([row[5] for row in rows])
    return found


TRUTH = objects((0, 2, 3, 12, 13), (1, 6, 15, 18, 28))
FOUND = objects((1, 6, 15, 18, 27, 0.9), (1, 2, 3, 12, 13, 0.7), (0, 0, 20, 5, 25, 0.3))


def panels(figure):
    return [axis for axis in figure.axes if axis.get_images()]


def drawn_boxes(axis):
    """The rectangles of a panel as (y1, x1, y2, x2), color, and whether they are dashed."""
    found = [patch for patch in axis.patches if isinstance(patch, Rectangle)]
    rows = []
    for patch in found:
        (x, y), w, h = patch.get_xy(), patch.get_width(), patch.get_height()
        box = [y + 0.5, x + 0.5, y + 0.5 + h, x + 0.5 + w]
        rows.append((box, patch.get_edgecolor(), patch.get_linestyle() == "--"))
    return rows


def texts(axis):
    return [text.get_text() for text in axis.texts]


# --- instances --------------------------------------------------------------------------------


def test_boxes_labels_and_masks_of_one_picture():
    figure = plot.instances(IMAGE, TRUTH, classes=CLASSES)
    (axis,) = panels(figure)
    assert [box for box, _, _ in drawn_boxes(axis)] == TRUTH["boxes"].tolist()
    assert texts(axis) == ["cat", "dog"]
    picture = np.asarray(axis.get_images()[0].get_array())
    expected = IMAGE / 255
    for mask, color in zip(TRUTH["masks"], OBJECT_COLORS, strict=False):
        expected[mask] = (expected[mask] + to_rgb(color)) / 2
    np.testing.assert_allclose(picture, expected)
    assert axis.get_xlim() == (-0.5, 29.5) and axis.get_ylim() == (19.5, -0.5)


def test_scores_are_written_and_low_ones_left_out():
    (axis,) = panels(plot.instances(IMAGE, FOUND, classes=CLASSES, min_score=0.5))
    assert texts(axis) == ["dog 0.90", "dog 0.70"]
    (axis,) = panels(plot.instances(IMAGE, FOUND, classes=CLASSES, scores=False))
    assert texts(axis) == ["dog", "dog", "cat"]


def test_rows_of_padding_are_no_objects():
    padded = {key: np.concatenate([v, v[:1] * 0]) for key, v in TRUTH.items()}
    padded["classes"][-1] = -1
    (axis,) = panels(plot.instances(IMAGE, padded, classes=CLASSES))
    assert len(drawn_boxes(axis)) == 2


def test_truth_stands_beside_detection_in_the_same_colors():
    figure = plot.instances(IMAGE, FOUND, classes=CLASSES, truth=TRUTH)
    truth, found = panels(figure)
    assert [truth.get_title(), found.get_title()] == ["truth", "detection"]
    known, detected = drawn_boxes(truth), drawn_boxes(found)
    # The dog was found (first detection), the cat was taken for a dog, and one is a false alarm.
    assert [dashed for _, _, dashed in known] == [True, False]
    assert [dashed for _, _, dashed in detected] == [False, True, True]
    assert detected[0][1] == known[1][1] == to_rgba(OBJECT_COLORS[1])
    colors = {color for _, color, _ in known + detected}
    assert len(colors) == 4  # two objects and two detections without a counterpart
    assert texts(truth) == ["cat", "dog"]
    assert texts(found) == ["dog 0.90", "dog 0.70", "cat 0.30"]
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["found", "no counterpart"]


def test_the_best_scored_detection_takes_the_object():
    first = objects((0, 2, 3, 12, 13, 0.6), (0, 2, 3, 12, 12, 0.8), (0, 2, 3, 12, 7, 0.9))
    assert match(TRUTH, first) == [(0, 1)]  # 0.9 overlaps by 0.4 only; 0.6 comes too late
    boxes_only = [{k: v for k, v in d.items() if k != "masks"} for d in (TRUTH, first)]
    assert match(*boxes_only) == [(0, 1)]


def test_several_pictures_with_captions():
    figure = plot.instances([IMAGE] * 3, [TRUTH] * 3, classes=CLASSES, titles=["a", "b", "c"])
    assert [texts(axis)[-1] for axis in panels(figure)] == ["a", "b", "c"]
    assert len(panels(plot.instances([IMAGE] * 6, [TRUTH] * 6, classes=CLASSES))) == 4


def test_pictures_without_objects():
    empty = objects()
    truth, found = panels(plot.instances(IMAGE, empty, classes=CLASSES, truth=TRUTH))
    assert len(drawn_boxes(truth)) == 2 and not drawn_boxes(found)
    np.testing.assert_allclose(np.asarray(found.get_images()[0].get_array()), IMAGE / 255)
    truth, found = panels(plot.instances(IMAGE, FOUND, classes=CLASSES, truth=empty))
    assert all(dashed for _, _, dashed in drawn_boxes(found))


def test_masks_and_boxes_can_be_left_out():
    (axis,) = panels(plot.instances(IMAGE, TRUTH, classes=CLASSES, masks=False))
    np.testing.assert_allclose(np.asarray(axis.get_images()[0].get_array()), IMAGE / 255)
    (axis,) = panels(plot.instances(IMAGE, TRUTH, classes=CLASSES, boxes=False))
    assert not drawn_boxes(axis)


def test_the_outline_runs_along_the_pixels_edges_and_the_frame():
    touching = objects((0, 0, 0, 4, 5))
    (axis,) = panels(plot.instances(IMAGE, touching, classes=CLASSES))
    (x1, y1), (x2, y2) = (
        f([p.vertices for c in axis.collections for p in c.get_paths() if len(p.vertices)][0], 0)
        for f in (np.min, np.max)
    )
    # Half a pixel from the centers on either side, all around.
    assert (x1, y1, x2, y2) == (-0.5, -0.5, 4.5, 3.5)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (([], []), "no pictures to show"),
        (([IMAGE], [TRUTH, TRUTH]), "1 pictures and 2 dicts of detections"),
        ((IMAGE, objects((2, 0, 0, 4, 4))), r"class 2, expected 0 to 1"),
    ],
)
def test_what_cannot_be_shown_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        plot.instances(*arguments, classes=CLASSES)


# --- boxes ------------------------------------------------------------------------------------


def test_the_best_boxes_are_drawn_and_the_best_of_all_on_top():
    boxes = np.array([[0, 0, 5, 5], [1, 1, 6, 6], [2, 2, 7, 7], [3, 3, 3, 9]], "float32")
    figure = plot.boxes(IMAGE, boxes, scores=[0.2, 0.9, 0.5, 1.0], max_boxes=2)
    axis = figure.axes[0]
    found = drawn_boxes(axis)
    assert [box for box, _, _ in found] == [[2, 2, 7, 7], [1, 1, 6, 6]]  # one has no area
    viridis = plt.get_cmap("viridis")
    assert [color for _, color, _ in found] == [viridis(0.0), viridis(1.0)]
    assert figure.axes[-1].get_ylabel() == "score"  # the color scale


def test_boxes_without_scores_are_thinned_out_evenly():
    boxes = np.array([[i, i, i + 2, i + 2] for i in range(11)])
    figure = plot.boxes(IMAGE, boxes, max_boxes=3)
    assert [box[0] for box, _, _ in drawn_boxes(figure.axes[0])] == [0, 5, 10]
    assert len(figure.axes) == 1


def test_several_sets_of_boxes_share_one_scale():
    sets = [np.array([[0, 0, 4, 4], [1, 1, 5, 5]]), np.array([[0, 0, 4, 4]])]
    figure = plot.boxes(IMAGE, sets, scores=[[0.1, 0.5], [0.5]], titles=["before", "after"])
    before, after = panels(figure)
    assert [before.get_title(), after.get_title()] == ["before", "after"]
    assert drawn_boxes(before)[-1][1] == drawn_boxes(after)[0][1]


def test_no_boxes_and_wrong_scores():
    assert not drawn_boxes(plot.boxes(IMAGE, np.zeros((0, 4)), scores=[]).axes[0])
    with pytest.raises(ValueError, match="2 boxes and 1 scores"):
        plot.boxes(IMAGE, np.zeros((2, 4)), scores=[1.0])


# --- weights ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Conv2D(4, 3, name=f"conv_{i}") for i in range(4)]
    return keras.Sequential([keras.Input((16, 16, 3)), *layers, keras.layers.BatchNormalization()])


def test_each_layer_has_a_histogram_of_all_its_weights(model):
    figure = plot.weights(model)
    assert len(figure.axes) == 4
    for axis, layer in zip(figure.axes, model.layers, strict=False):
        values = np.asarray(layer.kernel.numpy())
        assert sum(patch.get_height() for patch in axis.patches) == values.size
        assert layer.name in axis.get_title() and f"std {values.std():.3g}" in axis.get_title()


def test_layers_are_chosen_from_first_to_last(model):
    figure = plot.weights(model, max_layers=2)
    assert [axis.get_title().split("\n")[0].split("/")[-1] for axis in figure.axes] == [
        "conv_0",
        "conv_3",
    ]
    assert len(plot.weights(model, match="conv_2").axes) == 1


def test_a_model_without_such_weights(model):
    with pytest.raises(ValueError, match="whose path contains 'fpn', out of 12"):
        plot.weights(model, match="fpn")


def test_figures_are_closed_so_that_a_notebook_shows_them_once(model):
    plot.instances(IMAGE, FOUND, classes=CLASSES, truth=TRUTH)
    plot.boxes(IMAGE, TRUTH["boxes"])
    plot.weights(model)
    assert plt.get_fignums() == []
