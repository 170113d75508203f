"""Which anchors and proposals are objects, against the papers' words; runs on any backend."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

from seglib.models.rcnn import MaskRCNNConfig
from seglib.models.rcnn.targets import (
    anchor_targets,
    assign_anchors,
    roi_targets,
    sample,
    semantic_target,
)

to_numpy = keras.ops.convert_to_numpy


def overlap(a, b):
    """IoU of two boxes, written down as one would say it."""
    height = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
    width = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    both = height * width
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both
    return both / union if union > 0 else 0.0


def random_boxes(rng, count, size=64):
    y, x = rng.integers(0, size - 8, (2, count))
    height, width = rng.integers(1, 40, (2, count))
    boxes = [y, x, np.minimum(y + height, size), np.minimum(x + width, size)]
    return np.stack(boxes, axis=-1).astype("float32")


def truth(rng, batch, rows):
    """Boxes and classes with a different number of empty rows in each picture, also all."""
    boxes, classes = np.zeros((batch, rows, 4), "float32"), np.full((batch, rows), -1)
    for i in range(batch):
        count = rng.integers(0, rows + 1)
        boxes[i, :count] = random_boxes(rng, count)
        classes[i, :count] = rng.integers(0, 2, count)
    return boxes, classes.astype("int32")


# --- anchors --------------------------------------------------------------------------------------


@given(
    seed=st.integers(0, 2**31), low=st.sampled_from([0.1, 0.3]), high=st.sampled_from([0.4, 0.7])
)
def test_anchors_by_the_words_of_the_paper(seed, low, high):
    rng = np.random.default_rng(seed)
    anchors = random_boxes(rng, 40)
    boxes, classes = truth(rng, 3, 4)
    labels, match = map(
        to_numpy, assign_anchors(anchors, boxes, classes, positive_iou=high, negative_iou=low)
    )
    for i in range(3):
        real = [n for n in range(4) if classes[i, n] >= 0]
        table = np.array([[overlap(a, boxes[i, n]) for n in real] for a in anchors])
        for k in range(40):
            best = table[k].max() if real else 0.0
            # "(i) the anchor/anchors with the highest IoU overlap with a ground-truth box, or
            # (ii) an anchor that has an IoU overlap higher than 0.7 with any ground-truth box"
            highest = any(
                np.isclose(table[k, n], table[:, n].max()) and table[k, n] > 0
                for n in range(len(real))
            )
            expected = 1 if highest or best >= high else 0 if best < low else -1
            assert labels[i, k] == expected
            if expected == 1:
                assert np.isclose(table[k, real.index(match[i, k])], best)


def test_every_object_that_an_anchor_touches_has_one():
    # A dot of one pixel overlaps the anchor around it by 1 / 256, far below any threshold.
    anchors = np.array([[0, 0, 16, 16], [16, 16, 32, 32]], "float32")
    boxes, classes = np.array([[[20, 20, 21, 21]]], "float32"), np.array([[0]], "int32")
    labels, match = assign_anchors(anchors, boxes, classes, positive_iou=0.7, negative_iou=0.3)
    assert to_numpy(labels).tolist() == [[0, 1]] and to_numpy(match)[0, 1] == 0


def test_anchors_that_tie_are_all_objects():
    anchors = np.array([[0, 0, 10, 10], [0, 4, 10, 14], [30, 30, 40, 40]], "float32")
    boxes, classes = np.array([[[0, 2, 10, 12]]], "float32"), np.array([[1]], "int32")
    labels, _ = assign_anchors(anchors, boxes, classes, positive_iou=0.9, negative_iou=0.3)
    assert to_numpy(labels).tolist() == [[1, 1, 0]]


def test_an_empty_picture_is_all_background():
    anchors = random_boxes(np.random.default_rng(0), 9)
    boxes, classes = np.zeros((1, 3, 4), "float32"), np.full((1, 3), -1, "int32")
    labels, _ = assign_anchors(anchors, boxes, classes, positive_iou=0.7, negative_iou=0.3)
    assert (to_numpy(labels) == 0).all()


def test_targets_of_anchors_lead_to_the_boxes():
    rng = np.random.default_rng(1)
    config = MaskRCNNConfig.small(rpn_samples=16)
    anchors = random_boxes(rng, 30)
    boxes, classes = truth(rng, 4, 3)
    noise = rng.random((4, 30)).astype("float32")
    found = {
        k: to_numpy(v) for k, v in anchor_targets(anchors, boxes, classes, noise, config).items()
    }
    labels, _ = assign_anchors(anchors, boxes, classes, positive_iou=0.6, negative_iou=0.4)
    labels = to_numpy(labels)
    assert found["indices"].shape == (4, 16) and found["deltas"].shape == (4, 16, 4)
    seen = 0
    for i, k in zip(*np.nonzero(found["labels"] == 1), strict=True):
        anchor = anchors[found["indices"][i, k]]
        assert labels[i, found["indices"][i, k]] == 1
        dy, dx, dh, dw = found["deltas"][i, k] * config.box_deviations
        size = anchor[2:] - anchor[:2]
        center = (anchor[:2] + anchor[2:]) / 2 + [dy, dx] * size
        half = size * np.exp([dh, dw]) / 2
        box = np.concatenate([center - half, center + half])
        assert np.abs(boxes[i][classes[i] >= 0] - box).max(axis=1).min() < 1e-3
        seen += 1
    assert seen > 3 and not found["deltas"][found["labels"] != 1].any()


# --- sampling -------------------------------------------------------------------------------------


@given(
    seed=st.integers(0, 2**31),
    share=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    neither=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_a_sample_is_balanced(seed, share, neither):
    rng = np.random.default_rng(seed)
    labels = np.where(rng.random((3, 25)) < share, 1, 0)
    labels = np.where(rng.random((3, 25)) < neither, -1, labels).astype("int32")
    noise = rng.random((3, 25)).astype("float32")
    indices, chosen = map(to_numpy, sample(labels, count=12, positive_count=5, noise=noise))
    assert indices.shape == chosen.shape == (3, 12)
    for i in range(3):
        objects = min((labels[i] == 1).sum(), 5)
        others = min((labels[i] == 0).sum(), 12 - objects)
        expected = [1] * objects + [0] * others + [-1] * (12 - objects - others)
        assert chosen[i].tolist() == expected
        used = indices[i][chosen[i] >= 0]
        assert len(set(used.tolist())) == len(used)  # no row twice
        assert (labels[i][used] == chosen[i][chosen[i] >= 0]).all()


def test_every_row_has_the_same_chance():
    rng = np.random.default_rng(0)
    trials = 4000
    labels = np.tile(np.array([1, 0, 1, 0, -1, 1, 0, 0], "int32"), (trials, 1))
    noise = rng.random((trials, 8)).astype("float32")
    indices, chosen = map(to_numpy, sample(labels, count=4, positive_count=2, noise=noise))
    assert (chosen == [1, 1, 0, 0]).all()
    counts = np.bincount(indices.ravel(), minlength=8)
    # two of three objects, two of four others: binomial, five standard deviations
    expected = trials * np.array([2 / 3, 1 / 2, 2 / 3, 1 / 2, 0, 2 / 3, 1 / 2, 1 / 2])
    assert (np.abs(counts - expected) <= 5 * np.sqrt(trials / 4)).all()


def test_fewer_rows_than_asked_for():
    labels = np.array([[0, 1, -1]], "int32")
    indices, chosen = sample(labels, count=9, positive_count=4, noise=np.zeros((1, 3), "float32"))
    assert to_numpy(chosen).tolist() == [[1, 0, -1]]
    assert to_numpy(indices)[0, :2].tolist() == [1, 0]


# --- regions of interest --------------------------------------------------------------------------


@given(seed=st.integers(0, 2**31))
def test_regions_by_definition(seed):
    rng = np.random.default_rng(seed)
    config = MaskRCNNConfig.small(rois_per_image=8)
    boxes, classes = truth(rng, 3, 3)
    proposals = np.stack([random_boxes(rng, 12) for _ in range(3)])
    proposals[:, 9:] = 0  # suppressed
    noise = rng.random((3, 15)).astype("float32")
    found = roi_targets(proposals, boxes, classes, noise, config)
    found = {key: to_numpy(value) for key, value in found.items()}
    assert found["boxes"].shape == (3, 8, 4) and found["classes"].shape == (3, 8)
    for i in range(3):
        real = np.flatnonzero(classes[i] >= 0)
        candidates = np.concatenate([proposals[i, :9], boxes[i][real]])
        best = np.array(
            [max((overlap(c, boxes[i][n]) for n in real), default=0) for c in candidates]
        )
        objects = min((best >= 0.5).sum(), config.positive_rois)
        used = found["classes"][i] >= 0
        assert used.sum() == min(objects + (best < 0.5).sum(), 8)
        is_object = used & (found["classes"][i] < 2)
        assert is_object.tolist() == [True] * objects + [False] * (8 - objects)
        for k in np.flatnonzero(used):
            overlaps = [overlap(found["boxes"][i, k], boxes[i][n]) for n in real]
            if is_object[k]:
                assert max(overlaps) >= 0.5
                assert np.isclose(max(overlaps), overlaps[found["match"][i, k]])
                assert found["classes"][i, k] == classes[i][found["match"][i, k]]
            else:
                assert max(overlaps, default=0) < 0.5


def test_truth_joins_bad_proposals():
    boxes, classes = np.array([[[8, 8, 40, 40]]], "float32"), np.array([[1]], "int32")
    proposals = np.array([[[50, 50, 60, 60]]], "float32")
    config = MaskRCNNConfig.small(rois_per_image=4)
    found = roi_targets(proposals, boxes, classes, np.zeros((1, 2), "float32"), config)
    assert to_numpy(found["classes"]).tolist() == [[1, 2]]
    np.testing.assert_array_equal(to_numpy(found["boxes"])[0], [[8, 8, 40, 40], [50, 50, 60, 60]])
    np.testing.assert_allclose(to_numpy(found["deltas"]), 0, atol=1e-6)


def test_no_gradient_reaches_the_proposals():
    if keras.backend.backend() != "tensorflow":
        pytest.skip("the gradient is taken with TensorFlow's tape")
    import tensorflow as tf

    boxes, classes = np.array([[[8.0, 8, 40, 40]]], "float32"), np.array([[1]], "int32")
    proposals = tf.Variable([[[9.0, 9, 41, 42]]])
    with tf.GradientTape() as tape:
        found = roi_targets(
            proposals, boxes, classes, np.zeros((1, 2), "float32"), MaskRCNNConfig.small()
        )
        total = ops.sum(found["boxes"]) + ops.sum(found["deltas"])
    assert tape.gradient(total, proposals) is None


# --- the label map --------------------------------------------------------------------------------


def test_the_label_map_of_masks():
    masks = np.zeros((1, 3, 2, 3), "uint8")
    masks[0, 0, 0, :2] = 1
    masks[0, 1, :, 1] = 1  # overlaps the first, which counts
    masks[0, 2] = 1  # an empty row, whatever its mask holds
    found = to_numpy(semantic_target(masks, np.array([[1, 0, -1]], "int32"), 2))
    assert found.tolist() == [[[1, 1, 2], [2, 0, 2]]]
