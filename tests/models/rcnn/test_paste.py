"""Pasted masks against their definition with SciPy, and by hand."""

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from seglib.models.rcnn.paste import paste


def by_definition(mask, box, height, width):
    """The probability at each pixel of the picture whose center is within the box, else 0."""
    y1, x1, y2, x2 = np.asarray(box, "float64")
    y, x = np.mgrid[:height, :width] + 0.5
    points = (y - y1) / (y2 - y1) * len(mask) - 0.5, (x - x1) / (x2 - x1) * len(mask) - 0.5
    found = map_coordinates(mask.astype("float64"), points, order=1, mode="nearest")
    return np.where((y >= y1) & (y < y2) & (x >= x1) & (x < x2), found, 0)


@pytest.mark.parametrize("cells", [1, 2, 14, 28])
def test_equals_scipy(cells):
    rng = np.random.default_rng(cells)
    corner = rng.uniform(-20, 60, (20, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(0.3, 70, (20, 2))], axis=1)
    masks = rng.random((20, cells, cells)).astype("float32")
    found = paste(masks, boxes, 50, 70)
    assert found.shape == (20, 50, 70) and found.dtype == bool
    for mask, box, picture in zip(masks, boxes, found, strict=True):
        expected = by_definition(mask, box, 50, 70)
        clear = abs(expected - 0.5) > 1e-5  # elsewhere rounding decides
        np.testing.assert_array_equal(picture[clear], (expected >= 0.5)[clear])


def test_a_mask_as_large_as_its_box_is_unchanged():
    mask = np.random.default_rng(0).random((28, 28)) > 0.5
    found = paste(mask[None], [[3, 5, 31, 33]], 40, 40)[0]
    np.testing.assert_array_equal(found[3:31, 5:33], mask)
    assert found.sum() == mask.sum()


def test_by_hand():
    # two cells over four pixels: the values at the pixels' centers are 0, 1/4, 3/4, 1
    mask = np.array([[[0.0, 1.0], [0.0, 1.0]]])
    found = paste(mask, [[0, 0, 1, 4]], 1, 6)
    np.testing.assert_array_equal(found[0, 0], [False, False, True, True, False, False])
    found = paste(2 * mask, [[0, 0, 1, 4]], 1, 6)  # 0, 1/2, 3/2, 2
    np.testing.assert_array_equal(found[0, 0], [False, True, True, True, False, False])


@pytest.mark.parametrize(
    ("box", "rows", "columns"),
    [
        ((2, 3, 5, 7), slice(2, 5), slice(3, 7)),
        ((2.5, 3.5, 4.5, 6.5), slice(2, 4), slice(3, 6)),  # a center on an edge: the upper, left
        ((2.51, 3, 5.51, 7), slice(3, 6), slice(3, 7)),
        ((-4, -4, 3, 3), slice(0, 3), slice(0, 3)),
        ((6, 6, 99, 99), slice(6, 8), slice(6, 10)),
        ((-9, -9, 99, 99), slice(0, 8), slice(0, 10)),
        ((4, 4, 5, 5), slice(4, 5), slice(4, 5)),  # one pixel
        ((7, 9, 8, 10), slice(7, 8), slice(9, 10)),  # the last one
        ((4.6, 4.6, 5.4, 5.4), slice(0, 0), slice(0, 0)),  # no center
        ((4, 4, 4, 8), slice(0, 0), slice(0, 0)),
        ((5, 5, 3, 3), slice(0, 0), slice(0, 0)),
        ((0, 0, 0, 0), slice(0, 0), slice(0, 0)),
        ((50, 50, 60, 60), slice(0, 0), slice(0, 0)),
        ((-60, -60, -50, -50), slice(0, 0), slice(0, 0)),
        ((np.nan, 0, 5, 5), slice(0, 0), slice(0, 0)),
        ((0, 0, np.inf, 5), slice(0, 0), slice(0, 0)),
        ((np.inf, 0, np.inf, 5), slice(0, 0), slice(0, 0)),
    ],
)
def test_a_full_mask_covers_its_box(box, rows, columns):
    expected = np.zeros((8, 10), bool)
    expected[rows, columns] = True
    np.testing.assert_array_equal(paste(np.ones((1, 28, 28)), [box], 8, 10)[0], expected)


def test_no_masks():
    assert paste(np.zeros((0, 28, 28)), np.zeros((0, 4)), 30, 40).shape == (0, 30, 40)


def test_one_pixel_and_a_large_picture():
    assert paste(np.ones((1, 28, 28)), [[0, 0, 1, 1]], 1, 1).tolist() == [[[True]]]
    found = paste(np.ones((2, 28, 28)), [[0, 0, 4000, 3000], [3999, 2999, 4000, 3000]], 4000, 3000)
    assert found[0].all() and found[1].sum() == 1 and found[1, 3999, 2999]


def test_three_hundred_masks():
    boxes = [[k // 20, k % 20, k // 20 + 1, k % 20 + 1] for k in range(300)]
    found = paste(np.ones((300, 28, 28)), boxes, 15, 20)
    np.testing.assert_array_equal(found.sum(axis=0), 1)


@pytest.mark.parametrize(
    ("masks", "boxes"), [((2, 28, 28), (3, 4)), ((2, 28, 28, 1), (2, 4)), ((1, 28, 28), (4,))]
)
def test_wrong_shapes(masks, boxes):
    with pytest.raises(ValueError, match="choose the channel of each object's class first"):
        paste(np.zeros(masks), np.zeros(boxes), 10, 10)
