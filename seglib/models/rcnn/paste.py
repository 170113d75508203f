"""Mask pasting: from small masks in their boxes to masks of the picture's size."""

import numpy as np


def paste(masks, boxes, height, width):
    """Enlarges each mask to its box and puts it in its place in the picture.

    A pixel belongs to the object if its center is within the box and the mask, read there by
    bilinear interpolation between the centers of its cells, is at least 0.5. Beyond the centers of
    its outermost cells a mask goes on unchanged to the edge of the box.

    Args:
        masks: probabilities, `[n, m, m]`.
        boxes: `[n, 4]`, in pixels of the picture. They may reach beyond it; one that contains no
            pixel's center gives an empty mask.

    Returns:
        `[n, height, width]`, NumPy, bool.

    Raises:
        ValueError: unless there are as many boxes as masks.
    """
    masks, boxes = np.asarray(masks, np.float32), np.asarray(boxes, np.float64)
    if masks.ndim != 3 or boxes.shape != (len(masks), 4):
        raise ValueError(
            f"masks has shape {masks.shape} and boxes {boxes.shape}, expected [n, m, m] and "
            "[n, 4]: choose the channel of each object's class first."
        )
    boxes = np.where(np.isfinite(boxes).all(axis=1, keepdims=True), boxes, 0)
    found = np.zeros((len(masks), height, width), bool)
    for picture, mask, (y1, x1, y2, x2) in zip(found, masks, boxes, strict=True):
        rows, down, past_row = _points(y1, y2, height, mask.shape[0])
        columns, across, past_column = _points(x1, x2, width, mask.shape[1])
        # First the few rows of the mask become as wide as the box, then whole rows are mixed. A
        # product of matrices is many times slower while other programs run.
        wide = mask[:, across] + _to_next(mask, axis=1)[:, across] * past_column  # (m, columns)
        values = _to_next(wide, axis=0)[down]  # (rows, columns)
        values *= past_row[:, None]
        values += wide[down]
        picture[rows, columns] = values >= 0.5
    return found


def _to_next(values, axis):
    """Returns how much is missing to the next cell; behind the last one nothing changes."""
    return np.diff(values, axis=axis, append=values.take([-1], axis))


def _points(start, end, pixels, cells):
    """Returns the pixels between two edges, a slice, and where they lie in a mask that fills them.

    That is, for each pixel, the cell before its center and how far past that cell's center it is.
    """
    first = last = 0
    if end > start:
        # the pixels whose center, at k + 0.5, is from start to before end
        first, last = np.clip(np.ceil([start - 0.5, end - 0.5]), 0, pixels).astype(int)
    at = (np.arange(first, last) + 0.5 - start) / (end - start) * cells - 0.5
    at = np.clip(at, 0, cells - 1)
    before = at.astype(int)
    return slice(first, last), before, (at - before).astype(np.float32)
