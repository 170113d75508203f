"""Boxes against hand-computed values and pycocotools; runs on any backend."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco

from seglib.models.rcnn.boxes import area, clip, decode, encode, iou_matrix

to_numpy = keras.ops.convert_to_numpy
ONES = (1, 1, 1, 1)
DEVIATIONS = (0.1, 0.1, 0.2, 0.2)


def draw_boxes(rng, *shape, side=100, smallest=0.1):
    """Boxes with sides of `smallest` to 50 px, some beyond the picture."""
    center = rng.uniform(0, side, (*shape, 2))
    half = rng.uniform(smallest, 50, (*shape, 2)) / 2
    return np.concatenate([center - half, center + half], axis=-1).astype("float32")


def test_area():
    boxes = [[0, 0, 2, 3], [1, 1, 1, 5], [4, 4, 2, 6], [4, 4, 2, 2], [0, 0, 0, 0]]
    # an edge on the wrong side is no area, nor are two
    np.testing.assert_array_equal(to_numpy(area(np.float32(boxes))), [6, 0, 0, 0, 0])


def test_iou_by_hand():
    a = np.float32([[0, 0, 2, 2], [0, 0, 4, 4], [3, 3, 3, 3]])
    b = np.float32([[0, 0, 2, 2], [0, 1, 2, 3], [2, 2, 5, 5], [3, 3, 3, 3]])
    expected = [[1, 2 / 6, 0, 0], [4 / 16, 4 / 16, 4 / 21, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(to_numpy(iou_matrix(a, b)), expected, rtol=1e-6)


@pytest.mark.parametrize("scale", [1, 4000])
def test_iou_equals_pycocotools(scale):
    rng = np.random.default_rng(scale)
    a, b = (draw_boxes(rng, n) * scale / 100 for n in (40, 30))

    def as_coco(boxes):  # x, y, width, height
        y1, x1, y2, x2 = boxes.astype("float64").T
        return np.stack([x1, y1, x2 - x1, y2 - y1], axis=1)

    expected = coco.iou(as_coco(a), as_coco(b), [False] * len(b))
    assert (expected > 0).mean() > 0.1
    np.testing.assert_allclose(to_numpy(iou_matrix(a, b)), expected, rtol=1e-4, atol=1e-5)


def test_iou_keeps_leading_axes():
    rng = np.random.default_rng(0)
    a, b = draw_boxes(rng, 2, 3, 5), draw_boxes(rng, 2, 3, 4)
    found = to_numpy(iou_matrix(a, b))
    assert found.shape == (2, 3, 5, 4)
    np.testing.assert_array_equal(found[1, 2], to_numpy(iou_matrix(a[1, 2], b[1, 2])))


def test_iou_is_never_nan():
    odd = np.float32([[0, 0, 0, 0], [np.nan] * 4, [0, 0, np.inf, np.inf], [-np.inf, 0, np.inf, 1]])
    found = to_numpy(iou_matrix(odd, np.concatenate([odd, [[0, 0, 1, 1]]]).astype("float32")))
    assert np.isfinite(found).all()
    assert (found[0] == 0).all() and (found[1] == 0).all()


def test_refinement_by_hand():
    # anchor: center (20, 30), 20 high, 40 wide; box: center (25, 20), 40 high, 20 wide
    anchor, box = np.float32([[10, 10, 30, 50]]), np.float32([[5, 10, 45, 30]])
    plain = [[5 / 20, -10 / 40, np.log(2), np.log(0.5)]]
    np.testing.assert_allclose(to_numpy(encode(box, anchor, ONES)), plain, rtol=1e-6)
    divided = np.divide(plain, DEVIATIONS)
    np.testing.assert_allclose(to_numpy(encode(box, anchor, DEVIATIONS)), divided, rtol=1e-6)
    np.testing.assert_allclose(
        to_numpy(decode(np.float32(divided), anchor, DEVIATIONS)), box, rtol=1e-6
    )


def test_no_refinement_is_the_anchor():
    anchors = draw_boxes(np.random.default_rng(0), 2, 7)
    found = to_numpy(decode(np.zeros((2, 7, 4), "float32"), anchors, ONES))
    np.testing.assert_allclose(found, anchors, atol=1e-5)


@given(st.integers(0, 2**32 - 1), st.sampled_from([DEVIATIONS, ONES]))
def test_decoding_undoes_encoding(seed, deviations):
    rng = np.random.default_rng(seed)
    # no side is more than 1000/16 times that of the anchor
    boxes, anchors = draw_boxes(rng, 20, smallest=1), draw_boxes(rng, 20, smallest=1)
    again = decode(encode(boxes, anchors, deviations), anchors, deviations)
    np.testing.assert_allclose(to_numpy(again), boxes, atol=1e-3)


def test_wild_refinements_stay_finite():
    anchor = np.float32([[0, 0, 16, 16]])
    deltas = np.float32([[0, 0, 1e30, 1e30]])
    # 16 px grow to 1000 and not more, around the center at 8
    expected = [[8 - 500, 8 - 500, 8 + 500, 8 + 500]]
    np.testing.assert_allclose(to_numpy(decode(deltas, anchor, DEVIATIONS)), expected, rtol=1e-6)
    tiny = to_numpy(decode(-deltas, anchor, DEVIATIONS))
    np.testing.assert_array_equal(tiny, [[8, 8, 8, 8]])


def test_rows_that_only_fill_up_give_finite_refinements():
    boxes = np.float32([[0, 0, 0, 0], [1, 1, 5, 5]])
    for a in boxes:
        for b in boxes:
            assert np.isfinite(to_numpy(encode(a, b, DEVIATIONS))).all()


def test_clipping():
    boxes = np.float32(
        [[-5, -5, 3, 4], [1, 2, 30, 40], [2, 3, 5, 6], [-9, -9, -1, -1], [20, 30, 25, 35]]
    )
    expected = [[0, 0, 3, 4], [1, 2, 10, 12], [2, 3, 5, 6], [0, 0, 0, 0], [10, 12, 10, 12]]
    np.testing.assert_array_equal(to_numpy(clip(boxes, 10, 12)), expected)


def test_half_precision_input_is_computed_in_float32():
    boxes = keras.ops.cast([[0.0, 0.0, 300.0, 300.0]], "float16")
    assert float(to_numpy(area(boxes))[0]) == 90000  # beyond the largest float16
