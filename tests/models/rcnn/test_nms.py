"""Non-maximum suppression against a NumPy loop and TensorFlow's; runs on any backend."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from seglib.models.rcnn.nms import BLOCK, non_max_suppression

to_numpy = keras.ops.convert_to_numpy


@functools.cache
def suppression(max_output, iou_threshold):
    """The function with these options; on JAX compiled, once for each shape."""
    function = functools.partial(
        non_max_suppression, max_output=max_output, iou_threshold=iou_threshold
    )
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(function)
    return function


def picked(boxes, scores, *, max_output=None, iou_threshold=0.5, **options):
    """The places that one picture's boxes come out at."""
    boxes, scores = np.float32(boxes)[None], np.float32(scores)[None]
    options = {name: np.asarray(value)[None] for name, value in options.items()}
    max_output = max_output or boxes.shape[1]
    indices, valid = suppression(max_output, iou_threshold)(boxes, scores, **options)
    indices, valid = to_numpy(indices), to_numpy(valid)
    assert indices.shape == valid.shape == (1, max_output)
    assert indices.dtype == np.int32 and valid.dtype == bool
    count = valid.sum()
    assert valid[0, :count].all() and (indices[0, count:] == 0).all()
    return indices[0, :count].tolist()


def greedy(boxes, scores, iou_threshold, class_ids):
    """The rule as it is told: from the best down, drop what a kept one overlaps too much."""

    def iou(a, b):
        sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
        both = np.prod(np.maximum(sides, 0))
        union = np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - both
        return both / union if union > 0 else 0.0

    kept = []
    for i in np.argsort(-np.nan_to_num(scores, nan=-1e9), kind="stable"):
        rivals = [j for j in kept if class_ids[i] == class_ids[j]]
        if not np.isnan(scores[i]) and all(
            iou(boxes[i], boxes[j]) <= iou_threshold for j in rivals
        ):
            kept.append(i)
    return kept


def draw(seed, number, side=20, ties=True):
    """Whole-pixel boxes and scores of few values: overlaps and scores are often equal."""
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, side, (number, 2))
    boxes = np.concatenate([corner, corner + rng.integers(1, side // 2, (number, 2))], axis=1)
    scores = rng.random(number)
    return np.float32(boxes), np.float32(np.round(scores, 1) if ties else scores)


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([1, 40]),
    st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    st.sampled_from([1, 3]),
    st.booleans(),
)
def test_equals_the_definition(seed, number, threshold, classes, some_nan):
    boxes, scores = draw(seed, number)
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, classes, number)
    if some_nan:
        scores[rng.random(number) < 0.2] = np.nan
    expected = greedy(boxes, scores, threshold, ids)
    assert picked(boxes, scores, iou_threshold=threshold, class_ids=ids) == expected


@pytest.mark.parametrize("number", [BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5])
@pytest.mark.parametrize("ties", [True, False])
def test_equals_tensorflows(number, ties):
    boxes, scores = draw(number, number, side=60, ties=ties)
    for max_output, threshold in ((20, 0.5), (number, 0.3), (number + 7, 0.7)):
        expected = tf.image.non_max_suppression(boxes, scores, max_output, threshold)
        found = picked(boxes, scores, max_output=max_output, iou_threshold=threshold)
        assert found == expected.numpy().tolist()


def test_with_nan_scores_equals_tensorflows_without_those_boxes():
    boxes, scores = draw(0, 200, side=60)
    lost = np.random.default_rng(1).random(200) < 0.3
    expected, _ = tf.image.non_max_suppression_with_scores(boxes[~lost], scores[~lost], 200, 0.4)
    expected = np.flatnonzero(~lost)[expected.numpy()].tolist()
    assert picked(boxes, np.where(lost, np.nan, scores), iou_threshold=0.4) == expected
    assert picked(boxes, scores, valid=~lost, iou_threshold=0.4) == expected


def test_per_class_equals_tensorflows():
    boxes, scores = draw(0, 300, side=40, ties=False)
    ids = np.random.default_rng(1).integers(0, 4, 300)
    by_class = np.where(ids[:, None] == np.arange(4), scores[:, None], 0)  # (300, 4)
    theirs = tf.image.combined_non_max_suppression(
        boxes[None, :, None], by_class[None], 300, 300, 0.4, 0.0, clip_boxes=False
    )
    found = picked(boxes, scores, class_ids=ids, iou_threshold=0.4)
    assert len(found) == int(theirs.valid_detections[0]) < 300
    np.testing.assert_array_equal(boxes[found], theirs.nmsed_boxes[0, : len(found)])
    np.testing.assert_array_equal(ids[found], theirs.nmsed_classes[0, : len(found)])


def test_a_dropped_box_drops_none():
    # each overlaps the next by half of their union; the second falls, so the third stays, and so on
    number = 2 * BLOCK + 10
    left = np.arange(number)
    boxes = np.stack([0 * left, left, 0 * left + 1, left + 3], axis=1)  # 1 high, 3 wide
    assert picked(boxes, -left, iou_threshold=0.4) == left[::2].tolist()


def test_an_overlap_of_just_the_threshold_is_allowed():
    boxes = [[0, 0, 2, 2], [0, 0, 2, 1]]
    assert picked(boxes, [1, 0.5], iou_threshold=0.5) == [0, 1]
    assert picked(boxes, [1, 0.5], iou_threshold=0.4999) == [0]


def test_boxes_without_area_overlap_nothing():
    assert picked([[0, 0, 0, 0]] * 3, [1, 2, 2], iou_threshold=0.0) == [1, 2, 0]


def test_equal_boxes():
    boxes = [[0, 0, 5, 5]] * 5
    scores = [0.1, 0.9, 0.3, 0.9, np.nan]
    assert picked(boxes, scores) == [1]
    assert picked(boxes, scores, class_ids=[0, 0, 1, 2, 1]) == [1, 3, 2]
    assert picked(boxes, scores, iou_threshold=1.0) == [1, 3, 2, 0]


def test_nothing_to_pick():
    assert picked([[0, 0, 5, 5]] * 3, [np.nan] * 3) == []
    assert picked([[0, 0, 5, 5]] * 3, [1, 2, 3], valid=[False] * 3) == []


def test_scores_of_minus_infinity_count():
    # a logit may be that; TensorFlow leaves them out only because of its score_threshold
    assert picked([[0, 0, 1, 1], [2, 2, 3, 3]], [-np.inf, 0]) == [1, 0]


def test_pictures_do_not_mix():
    drawn = [draw(seed, 150, side=30) for seed in range(3)]
    boxes, scores = (np.stack(x) for x in zip(*drawn, strict=True))
    valid = np.arange(150) < np.array([[150], [0], [40]])
    indices, there = suppression(150, 0.3)(boxes, scores, valid=valid)
    for k in range(3):
        alone = picked(*drawn[k], valid=valid[k], iou_threshold=0.3)
        assert to_numpy(indices)[k][to_numpy(there)[k]].tolist() == alone


class Suppress(keras.layers.Layer):
    def call(self, boxes, scores):
        return non_max_suppression(boxes, scores, max_output=10, iou_threshold=0.5)


def test_in_a_compiled_model_of_any_batch_size():
    boxes, scores = keras.Input((200, 4)), keras.Input((200,))
    model = keras.Model([boxes, scores], Suppress()(boxes, scores))
    drawn = [draw(seed, 200, side=60) for seed in range(2)]
    indices, valid = model.predict([np.stack(x) for x in zip(*drawn, strict=True)], verbose=0)
    for k in range(2):
        assert indices[k][valid[k]].tolist() == picked(*drawn[k], max_output=10)


@pytest.mark.parametrize(
    ("boxes", "scores", "options", "message"),
    [
        ((5, 4), (5,), {}, "add an axis for a single picture"),
        ((1, 5, 4), (1, 6), {}, r"\(1, 5, 4\) and scores \(1, 6\), expected"),
        ((1, 0, 4), (1, 0), {}, "at least 1"),
        ((1, 5, 4), (1, 5), {"max_output": 0}, "max_output is 0"),
        ((1, 5, 4), (1, 5), {"iou_threshold": 50}, "iou_threshold is 50, expected 0 to 1"),
    ],
)
def test_wrong_input(boxes, scores, options, message):
    options = {"max_output": 3, "iou_threshold": 0.5} | options
    with pytest.raises(ValueError, match=message):
        non_max_suppression(np.zeros(boxes, "float32"), np.zeros(scores, "float32"), **options)
