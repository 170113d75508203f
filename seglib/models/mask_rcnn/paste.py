"""Mask pasting: from small masks in their boxes to masks of the picture's size."""

import numpy as np


def paste(masks, boxes, height, width, threshold=0.5):
    """Enlarges each mask to its box and puts it in its place in the picture.

    A pixel belongs to the object if its center is within the box and the mask, read there by
    bilinear interpolation between the centers of its cells, is at least `threshold`. Beyond the
    centers of its outermost cells a mask goes on unchanged to the edge of the box. Only the pixels
    of the box are computed.

    Args:
        masks: probabilities, `[n, m, m]`.
        boxes: `[n, 4]`, in pixels of the picture. They may reach beyond it; one without area, or so
            thin that it contains no pixel's center, gives an empty mask.
        height: of the picture.
        width: likewise.
        threshold: see above.

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
    found = np.zeros((len(masks), height, width), bool)
    for picture, mask, (y1, x1, y2, x2) in zip(found, masks, boxes, strict=True):
        rows, down = _interpolation(y1, y2, height, mask.shape[0])
        columns, across = _interpolation(x1, x2, width, mask.shape[1])
        picture[rows, columns] = down @ mask @ across.T >= threshold
    return found


def _interpolation(start, end, pixels, cells):
    """Returns the pixels between two edges, as a slice, and what they take from each cell.

    Both axes of a bilinear interpolation are a product with such a matrix, `[pixels, cells]`, which
    is far quicker than to look four neighbors up for each pixel.
    """
    nothing = slice(0, 0), np.zeros((0, cells), np.float32)
    if not (np.isfinite(start) and np.isfinite(end) and end > start):
        return nothing
    # The pixels whose center, at k + 0.5, is from start to before end.
    first = int(np.clip(np.ceil(start - 0.5), 0, pixels))
    last = int(np.clip(np.ceil(end - 0.5), 0, pixels))
    if last <= first:
        return nothing
    at = (np.arange(first, last) + 0.5 - start) / (end - start) * cells - 0.5
    at = np.clip(at, 0, cells - 1)
    # A hat over each cell's center, one cell wide to each side.
    weights = np.maximum(0, 1 - np.abs(at[:, None] - np.arange(cells)))
    return slice(first, last), weights.astype(np.float32)
