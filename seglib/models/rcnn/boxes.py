"""Boxes: area, overlap, and the refinement that turns one box into another.

A box is `(y1, x1, y2, x2)` in pixels, its edges, not the centers of its outermost pixels: columns 3
to 5 are `x1 = 3, x2 = 6`. A box that only fills up a batch is all zeros. Arguments are `[..., 4]`,
unless stated otherwise, and results float32: 16 bits cannot hold half a pixel at 3000.
"""

import math

from keras import ops

# No refinement enlarges a side more than this: exp of an early, wild prediction would overflow.
LARGEST_LOG = math.log(1000 / 16)
# A side of nothing has no logarithm; those of the boxes that fill up a batch count as this, px.
SMALLEST_SIDE = 1e-6


def area(boxes):
    """Returns the area of each box, `[...]`, in square pixels; 0 with an edge on the wrong side."""
    y1, x1, y2, x2 = edges(boxes)
    return ops.maximum(y2 - y1, 0.0) * ops.maximum(x2 - x1, 0.0)


def iou_matrix(a, b):
    """Returns the IoU of every box of `a`, `[..., N, 4]`, with every box of `b`, `[..., M, 4]`.

    Returns:
        `[..., N, M]`, 0 to 1. Two boxes without area have 0, and so has a box that is not a number.
    """
    ay1, ax1, ay2, ax2 = (x[..., :, None] for x in edges(a))  # each (..., N, 1)
    by1, bx1, by2, bx2 = (x[..., None, :] for x in edges(b))  # each (..., 1, M)
    height = ops.maximum(ops.minimum(ay2, by2) - ops.maximum(ay1, by1), 0.0)  # (..., N, M)
    width = ops.maximum(ops.minimum(ax2, bx2) - ops.maximum(ax1, bx1), 0.0)
    both = height * width
    union = area(a)[..., :, None] + area(b)[..., None, :] - both
    some = union > 0  # False for NaN, too
    return ops.where(some, both / ops.where(some, union, 1.0), 0.0)


def encode(boxes, anchors, deviations):
    """Returns the refinement that turns each anchor into its box.

    The center moves by `dy` heights and `dx` widths of the anchor; its height and width grow by a
    factor whose logarithm is `dh` and `dw`; all four are divided by `deviations`, so that they
    spread about as widely. The result, (dy, dx, dh, dw), is finite also for boxes without area.

    Reference:
        Girshick et al.: Rich feature hierarchies for accurate object detection and semantic
        segmentation, CVPR 2014, appendix C, equations 6 to 9.
    """
    y, x, height, width = center(boxes)
    anchor_y, anchor_x, anchor_height, anchor_width = center(anchors)
    height, width, anchor_height, anchor_width = (
        ops.maximum(side, SMALLEST_SIDE) for side in (height, width, anchor_height, anchor_width)
    )
    deltas = (
        (y - anchor_y) / anchor_height,
        (x - anchor_x) / anchor_width,
        ops.log(height / anchor_height),
        ops.log(width / anchor_width),
    )
    return ops.stack(deltas, axis=-1) / ops.convert_to_tensor(deviations, "float32")


def decode(deltas, anchors, deviations):
    """Returns the box that each refinement makes of its anchor: the inverse of `encode`.

    No side grows by a factor of more than 1000/16.
    """
    deltas = ops.cast(deltas, "float32") * ops.convert_to_tensor(deviations, "float32")
    dy, dx, dh, dw = (deltas[..., k] for k in range(4))
    y, x, height, width = center(anchors)
    y, x = y + dy * height, x + dx * width
    half_height = 0.5 * height * ops.exp(ops.minimum(dh, LARGEST_LOG))
    half_width = 0.5 * width * ops.exp(ops.minimum(dw, LARGEST_LOG))
    box = (y - half_height, x - half_width, y + half_height, x + half_width)
    return ops.stack(box, axis=-1)


def clip(boxes, height, width):
    """Returns the part of each box in a picture of this size; a box wholly outside has no area."""
    y1, x1, y2, x2 = edges(boxes)
    height, width = ops.cast(height, "float32"), ops.cast(width, "float32")
    rows = (ops.minimum(ops.maximum(y, 0.0), height) for y in (y1, y2))
    columns = (ops.minimum(ops.maximum(x, 0.0), width) for x in (x1, x2))
    (y1, y2), (x1, x2) = rows, columns
    return ops.stack((y1, x1, y2, x2), axis=-1)


def edges(boxes):
    """Returns y1, x1, y2 and x2 of boxes, each `[...]`."""
    boxes = ops.cast(boxes, "float32")
    return tuple(boxes[..., k] for k in range(4))


def center(boxes):
    """Returns the center (y, x), the height and the width of boxes."""
    y1, x1, y2, x2 = edges(boxes)
    return 0.5 * (y1 + y2), 0.5 * (x1 + x2), y2 - y1, x2 - x1
