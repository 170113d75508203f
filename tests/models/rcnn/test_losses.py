"""The losses by hand, against Keras's own, and with nothing to learn from; runs on any backend."""

import keras
import numpy as np
import pytest
from keras import ops

from seglib.models.rcnn import losses

to_numpy = keras.ops.convert_to_numpy


def value(loss):
    return float(to_numpy(loss))


def floats(*numbers):
    return np.array(numbers, "float32")


def test_smooth_l1_is_hubers_loss():
    x = np.linspace(-3, 3, 13, dtype="float32")[:, None]
    huber = keras.losses.Huber(delta=1.0, reduction=None)
    np.testing.assert_allclose(
        to_numpy(losses.smooth_l1(x))[:, 0], to_numpy(huber(np.zeros_like(x), x)), atol=1e-6
    )
    assert to_numpy(losses.smooth_l1(floats(0.5, -2))).tolist() == [0.125, 1.5]


def test_log_loss_is_keras_binary_cross_entropy():
    rng = np.random.default_rng(0)
    labels, logits = rng.random((5, 1)).astype("float32"), rng.normal(0, 3, (5, 1))
    theirs = keras.losses.BinaryCrossentropy(from_logits=True, reduction=None)
    np.testing.assert_allclose(
        to_numpy(losses.log_loss(labels, logits.astype("float32")))[:, 0],
        to_numpy(theirs(labels, logits.astype("float32"))),
        rtol=1e-5,
    )
    # no overflow where the exponential would
    np.testing.assert_allclose(to_numpy(losses.log_loss(floats(1, 0), floats(-200, 200))), 200)


def test_rpn_class_loss_by_hand():
    # sigmoid(0) = 1/2 and sigmoid(log 3) = 3/4; the third anchor does not count.
    labels, logits = np.array([[1, 0, -1]]), floats([0.0, np.log(3), 50.0])
    expected = (np.log(2) + np.log(4)) / 2
    np.testing.assert_allclose(value(losses.rpn_class_loss(labels, logits)), expected, rtol=1e-6)


def test_rpn_box_loss_is_divided_by_all_sampled_anchors():
    labels = np.array([[1, 0, -1, -1], [0, 0, -1, -1]])
    true, deltas = np.zeros((2, 4, 4), "float32"), np.full((2, 4, 4), 9.0, "float32")
    deltas[0, 0] = [0.5, 0, 2, 0]
    expected = (0.5 * 0.25 + 1.5) / 4  # one object, four samples over the batch
    found = value(losses.rpn_box_loss(labels, true, deltas))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_class_loss_is_keras_cross_entropy():
    rng = np.random.default_rng(1)
    logits, classes = rng.normal(size=(2, 6, 3)).astype("float32"), rng.integers(0, 3, (2, 6))
    theirs = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    found = value(losses.class_loss(classes, logits))
    np.testing.assert_allclose(found, value(theirs(classes, logits)), rtol=1e-5)
    more = np.concatenate([classes, np.full((2, 2), -1)], axis=1)  # unused rows change nothing
    padded = np.concatenate([logits, np.full((2, 2, 3), 7, "float32")], axis=1)
    np.testing.assert_allclose(value(losses.class_loss(more, padded)), found, rtol=1e-6)


def test_box_loss_sees_the_true_class_of_objects_alone():
    classes = np.array([[1, 2, 0, -1]])  # two classes: 2 is background
    true = np.zeros((1, 4, 4), "float32")
    deltas = np.full((1, 4, 2, 4), 100.0, "float32")
    deltas[0, 0, 1] = [1, 0, 0, 0]
    deltas[0, 2, 0] = [0, 0, 0, 3]
    expected = (0.5 + 2.5) / 3  # over the regions that count, background too
    found = value(losses.box_loss(classes, true, deltas))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_mask_loss_sees_the_true_class_of_objects_alone():
    rng = np.random.default_rng(2)
    classes = np.array([[1, 2, 0, -1]])
    logits = rng.normal(size=(1, 4, 3, 3, 2)).astype("float32")
    masks = (rng.random((1, 4, 3, 3)) < 0.5).astype("float32")
    theirs = keras.losses.BinaryCrossentropy(from_logits=True)
    both = [theirs(masks[0, k], logits[0, k, ..., c]) for k, c in ((0, 1), (2, 0))]
    expected = np.mean([value(x) for x in both])
    found = value(losses.mask_loss(classes, masks, logits))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    others = logits.copy()
    others[0, 0, ..., 0] = 50  # the other class
    others[0, [1, 3]] = -50  # background and an empty row
    assert value(losses.mask_loss(classes, masks, others)) == found


def test_mask_iou_by_hand():
    predicted = np.zeros((1, 1, 4, 4), "float32")
    predicted[0, 0, :2] = 0.9  # 8 cells
    predicted[0, 0, 2] = 0.5  # not above a half
    true = np.zeros((1, 1, 4, 4), "float32")
    true[0, 0, :, 0] = 1  # 4 cells, 2 of them in both; 6 cells more lie outside of the region
    found = to_numpy(losses.mask_iou(predicted, true, floats([4 + 6])))
    np.testing.assert_allclose(found, [[2 / (8 + 10 - 2)]], rtol=1e-6)
    nothing = losses.mask_iou(0 * predicted, 0 * true, floats([0.0]))
    assert to_numpy(nothing).tolist() == [[0]]


def test_mask_score_loss_by_hand():
    classes = np.array([[1, 2, 0]])
    scores = np.array([[[9, 0.5], [9, 9], [0.8, 9]]], "float32")
    found = value(losses.mask_score_loss(classes, floats([0.75, 0, 0.5]), scores))
    np.testing.assert_allclose(found, (0.25**2 + 0.3**2) / 2, rtol=1e-5)


def test_semantic_loss_leaves_unknown_labels_out():
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(1, 2, 2, 3)).astype("float32")
    theirs = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    expected = value(theirs(np.array([0, 2]), logits[0, 0]))
    found = value(losses.semantic_loss(np.array([[[0, 2], [255, -1]]]), logits))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


NOTHING = np.full((2, 3), -1)
ZEROS = {
    "rpn_class_loss": lambda: losses.rpn_class_loss(NOTHING, np.ones((2, 3), "float32")),
    "rpn_box_loss": lambda: losses.rpn_box_loss(
        NOTHING, np.zeros((2, 3, 4), "float32"), np.ones((2, 3, 4), "float32")
    ),
    "class_loss": lambda: losses.class_loss(NOTHING, np.ones((2, 3, 3), "float32")),
    "box_loss": lambda: losses.box_loss(
        NOTHING, np.zeros((2, 3, 4), "float32"), np.ones((2, 3, 2, 4), "float32")
    ),
    "mask_loss": lambda: losses.mask_loss(
        NOTHING, np.zeros((2, 3, 4, 4), "float32"), np.ones((2, 3, 4, 4, 2), "float32")
    ),
    "mask_score_loss": lambda: losses.mask_score_loss(
        NOTHING, np.zeros((2, 3), "float32"), np.ones((2, 3, 2), "float32")
    ),
    "semantic_loss": lambda: losses.semantic_loss(
        NOTHING[:, None], np.ones((2, 1, 3, 3), "float32")
    ),
}


@pytest.mark.parametrize("name", ZEROS)
def test_nothing_to_learn_costs_nothing(name):
    assert value(ZEROS[name]()) == 0


def test_the_entry_of_a_class():
    x = np.arange(24, dtype="float32").reshape(1, 2, 3, 4)
    found = to_numpy(losses.of_class(x, np.array([[2, -1]]), axis=2))
    np.testing.assert_array_equal(found, [[[8, 9, 10, 11], [0, 0, 0, 0]]])
    found = to_numpy(losses.of_class(ops.convert_to_tensor(x), np.array([[3, 0]]), axis=3))
    np.testing.assert_array_equal(found, [[[3, 7, 11], [12, 16, 20]]])
