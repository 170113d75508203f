"""Anchors against hand-computed values."""

import numpy as np
import pytest

from seglib.models.rcnn.anchors import anchors_per_level


def anchors(*args, **options):
    return np.concatenate(anchors_per_level(*args, **options))


def test_by_hand():
    # two columns of one row; a 16-px square, and shapes twice as high and twice as wide
    found = anchors(8, 16, strides=(8,), sizes=(16,), ratios=(1, 4, 0.25))
    expected = [
        [-4, -4, 12, 12],  # center (4, 4)
        [-12, 0, 20, 8],  # 32 high, 8 wide
        [0, -12, 8, 20],
        [-4, 4, 12, 20],  # center (4, 12)
        [-12, 8, 20, 16],
        [0, -4, 8, 28],
    ]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_order_is_level_row_column_ratio():
    found = anchors(64, 96, strides=(16, 32), sizes=(20, 40), ratios=(0.5, 1, 2))
    assert found.shape == ((4 * 6 + 2 * 3) * 3, 4)
    center = (found[:, :2] + found[:, 2:]) / 2
    fine = [(16 * i + 8, 16 * j + 8) for i in range(4) for j in range(6) for _ in range(3)]
    coarse = [(32 * i + 16, 32 * j + 16) for i in range(2) for j in range(3) for _ in range(3)]
    np.testing.assert_allclose(center, fine + coarse, atol=1e-5)
    height, width = (found[:, 2:] - found[:, :2]).T
    np.testing.assert_allclose(height / width, [0.5, 1, 2] * 30, rtol=1e-5)
    np.testing.assert_allclose(height * width, [400] * 72 + [1600] * 18, rtol=1e-5)


def test_of_the_papers_coco_model():
    # Lin et al.: areas of 32² to 512² on P2 to P6, three shapes
    levels = anchors_per_level(
        1024,
        1024,
        strides=(4, 8, 16, 32, 64),
        sizes=(32, 64, 128, 256, 512),
        ratios=(0.5, 1, 2),
    )
    assert [len(x) for x in levels] == [3 * (1024 // s) ** 2 for s in (4, 8, 16, 32, 64)]
    assert sum(map(len, levels)) == 261888


@pytest.mark.parametrize(("size", "cells"), [(1, 1), (15, 1), (16, 1), (17, 2), (33, 3)])
def test_a_started_cell_counts(size, cells):
    # as many as a convolution with stride and padding "same" makes
    assert len(anchors(size, 16, strides=(16,), sizes=(8,), ratios=(1,))) == cells


def test_centers_at_the_corners():
    found = anchors(16, 16, strides=(8,), sizes=(4,), ratios=(1,), offset=0)
    np.testing.assert_array_equal(found[:, :2] + 2, [[0, 0], [0, 8], [8, 0], [8, 8]])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"strides": (4, 8)}, "2 strides and 1 sizes"),
        ({"sizes": (0,)}, "sizes is .* expected numbers above 0"),
        ({"ratios": ()}, "ratios is .* expected numbers above 0"),
        ({"height": 0}, r"picture is \(0, 32\), expected numbers above 0"),
    ],
)
def test_options_that_make_no_sense(wrong, message):
    options = {"height": 32, "width": 32, "strides": (4,), "sizes": (8,), "ratios": (1,)} | wrong
    with pytest.raises(ValueError, match=message):
        anchors(options.pop("height"), options.pop("width"), **options)
