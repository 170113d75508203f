"""Anchors: the boxes that the region proposal network starts from."""

import numpy as np


def anchors(height, width, *, strides, sizes, ratios, offset=0.5):
    """Returns the anchors of all levels, from fine to coarse.

    At the center of every cell of a feature map stands one box of each size of that level and of
    each shape.

    Args:
        height: of the picture, in pixels.
        width: likewise.
        strides: pixels per cell, one of each level, from fine to coarse.
        sizes: one of each level, in pixels: the side of the square anchor; or several of each
            level, `((32, 40), (64, 80))`.
        ratios: height divided by width; all shapes of a size have the same area.
        offset: where in its cell an anchor's center is: 0.5 is the middle, 0 the corner, where some
            other implementations have it.

    Returns:
        `[A, 4]`, float32 NumPy array: level by level, in each row by row, column by column, then
        size by size, then ratio by ratio. Anchors at the border reach beyond the picture.

    Raises:
        ValueError: unless there are as many sizes as strides, and all are positive.

    Example:

        anchors(64, 64, strides=(16, 32), sizes=(32, 64), ratios=(0.5, 1, 2)).shape  # (60, 4)

    Reference:
        Ren et al.: Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks,
        NeurIPS 2015, section 3.1.1; one size per level: Lin et al.: Feature Pyramid Networks for
        Object Detection, CVPR 2017, section 4.1.
    """
    found = anchors_per_level(
        height, width, strides=strides, sizes=sizes, ratios=ratios, offset=offset
    )
    return np.concatenate(found)


def anchors_per_level(height, width, *, strides, sizes, ratios, offset=0.5):
    """Returns the anchors of each level on its own, a list of `[A, 4]`; see `anchors`."""
    _check(height, width, strides, sizes, ratios)
    return [
        _level(height, width, stride, np.ravel(size), ratios, offset)
        for stride, size in zip(strides, sizes, strict=True)
    ]


def anchors_per_cell(sizes, ratios):
    """Returns how many anchors stand at each cell of a level, the same number for all levels."""
    [count] = {np.size(size) for size in sizes}
    return count * len(ratios)


def _level(height, width, stride, sizes, ratios, offset):
    rows = (np.arange(-(-height // stride)) + offset) * stride
    columns = (np.arange(-(-width // stride)) + offset) * stride
    root = np.sqrt(np.asarray(ratios, float))
    half_height = (sizes[:, None] * root).ravel() / 2  # (K,): size by size, then ratio by ratio
    half_width = (sizes[:, None] / root).ravel() / 2
    y, x, half_height = np.meshgrid(rows, columns, half_height, indexing="ij")  # (H, W, K)
    half_width = np.broadcast_to(half_width, y.shape)
    found = np.stack((y - half_height, x - half_width, y + half_height, x + half_width), axis=-1)
    return found.reshape(-1, 4).astype(np.float32)  # (H W K, 4)


def _check(height, width, strides, sizes, ratios):
    if len(strides) != len(sizes):
        raise ValueError(
            f"There are {len(strides)} strides and {len(sizes)} sizes, expected as many sizes as "
            "strides: one size, or one tuple of sizes, for each level."
        )
    if len({np.size(size) for size in sizes}) != 1:
        raise ValueError(
            f"sizes is {tuple(sizes)}, expected as many sizes for each level: all levels share "
            "one network."
        )
    for name, values in (("strides", strides), ("sizes", sizes), ("ratios", ratios)):
        if not len(values) or np.min(values) <= 0:
            raise ValueError(f"{name} is {values}, expected numbers above 0.")
    if height < 1 or width < 1:
        raise ValueError(f"The picture is {height} x {width} px, expected at least 1 x 1.")
