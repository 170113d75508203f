"""Anchors: the boxes that the region proposal network starts from."""

import numpy as np


def anchors_per_level(height, width, *, strides, sizes, ratios, offset=0.5):
    """Returns the anchors of each level, from fine to coarse.

    One box of each ratio stands at the center of every cell of a feature map.

    Args:
        height, width: of the picture, in pixels.
        strides: pixels per cell, one per level, from fine to coarse.
        sizes: side of the square anchor in pixels, one per level.
        ratios: height divided by width; all shapes of a size have the same area.
        offset: where in its cell an anchor's center is: 0.5 is the middle, 0 the upper left corner.

    Returns:
        A list of float32 NumPy arrays `[A, 4]`: row by row, column by column, then ratio by ratio.
        Anchors at the border reach beyond the picture.

    Raises:
        ValueError: unless there are as many sizes as strides, and all are positive.

    Reference:
        Ren et al.: Faster R-CNN, NIPS 2015, section 3.1.1; one size per level: Lin et al.: Feature
        Pyramid Networks for Object Detection, CVPR 2017, section 4.1.
    """
    if len(strides) != len(sizes):
        raise ValueError(
            f"There are {len(strides)} strides and {len(sizes)} sizes, expected one of each for "
            "each level."
        )
    given = {"strides": strides, "sizes": sizes, "ratios": ratios, "picture": (height, width)}
    for name, values in given.items():
        if not len(values) or np.min(values) <= 0:
            raise ValueError(f"{name} is {values}, expected numbers above 0.")
    root, found = np.sqrt(np.asarray(ratios, float)), []
    for stride, size in zip(strides, sizes, strict=True):
        rows = (np.arange(-(-height // stride)) + offset) * stride
        columns = (np.arange(-(-width // stride)) + offset) * stride
        y, x, half_height = np.meshgrid(rows, columns, size * root / 2, indexing="ij")  # (H, W, K)
        half_width = np.broadcast_to(size / root / 2, y.shape)
        boxes = (y - half_height, x - half_width, y + half_height, x + half_width)
        found.append(np.stack(boxes, axis=-1).reshape(-1, 4).astype(np.float32))  # (H W K, 4)
    return found
