"""RoIAlign: cuts a grid of fixed size out of the feature maps, for each box."""

import numpy as np
from keras import ops

from seglib.models.rcnn.boxes import area, edges

# Up to so many cells in all levels, matrix products are quicker than to look single cells up.
FEW_CELLS = 8192


def level_of(boxes, *, finest, coarsest, canonical_size=224):
    """Returns the number of the level that each box `[..., 4]` is read from, `[...]`, int32.

    `floor(4 + log2(sqrt(height * width) / canonical_size))`, from `finest` to `coarsest`: a square
    box whose side is `canonical_size` pixels is read from level 4.

    Reference:
        Lin et al.: Feature Pyramid Networks for Object Detection, CVPR 2017, equation 1.
    """
    size = area(boxes)
    level = ops.full_like(size, finest, dtype="int32")
    # Counted instead of taking logarithms: a box of exactly 448 x 448 then is where it belongs.
    for n in range(finest + 1, coarsest + 1):
        smallest = canonical_size * 2.0 ** (n - 4)
        level = level + ops.cast(size >= smallest**2, "int32")
    return level


def roi_align(levels, boxes, *, strides, size, samples=2, canonical_size=224, level=None):
    """Reads a grid of `size` x `size` features for each box, from the level that fits its size.

    The box is divided into `size` x `size` equal bins. In each, the map is read at `samples` x
    `samples` points, evenly spread, by bilinear interpolation between the centers of its cells, and
    the mean is taken. Nothing is rounded. Beyond the centers of its outermost cells a map goes on
    unchanged for one cell; farther out it is 0.

    Args:
        levels: `{"P2": [B, H, W, C], …}`, levels that follow each other, with as many channels,
            their sizes known when the graph is built.
        boxes: `[B, R, 4]`, in pixels of the picture. No gradient flows to them, as published.
        strides: pixels per cell, of each level, `{"P2": 4, …}`; further levels do not matter.
        canonical_size: see `level_of`.
        level: number of each box's level, `[B, R]`, in place of `level_of`.

    Returns:
        `[B, R, size, size, C]`, of the features' dtype.

    Raises:
        ValueError: for levels that do not follow each other, or whose size is not known.

    Reference:
        He et al.: Mask R-CNN, ICCV 2017, section 3; the border is that of Detectron2's aligned
        `ROIAlign`.
    """
    numbers = _numbers(levels)
    boxes = ops.cast(ops.stop_gradient(ops.convert_to_tensor(boxes)), "float32")
    if level is None:
        level = level_of(
            boxes, finest=numbers[0], coarsest=numbers[-1], canonical_size=canonical_size
        )
    maps = [ops.convert_to_tensor(levels[f"P{n}"]) for n in numbers]
    strides = [strides[f"P{n}"] for n in numbers]
    cells = sum(x.shape[1] * x.shape[2] for x in maps)
    read = _by_products if cells <= FEW_CELLS else _by_lookup
    return read(maps, boxes, level - numbers[0], strides, size, samples)


def _by_products(maps, boxes, level, strides, size, samples):
    """RoIAlign as two matrix products, over rows, then over columns, for every level.

    On small maps this is several times quicker, above all the gradient, although it computes each
    box on all levels.
    """
    total, regions = 0, boxes.shape[1]
    for n, (x, stride) in enumerate(zip(maps, strides, strict=True)):
        _, height, width, channels = x.shape
        y1, x1, y2, x2 = (boxes[..., k] / stride for k in range(4))
        down = _hats(y1, y2, height, size, samples)  # (B, R, size, H)
        down = ops.where((level == n)[..., None, None], down, 0.0)
        across = _hats(x1, x2, width, size, samples)  # (B, R, size, W)
        down = ops.reshape(down, (-1, regions * size, height))
        # In float32, as the lookup does: in bfloat16 the weights of a bin would not sum to 1.
        cells = ops.cast(ops.reshape(x, (-1, height, width * channels)), "float32")
        rows = ops.reshape(ops.matmul(down, cells), (-1, regions, size, width, channels))
        total = total + ops.matmul(across[:, :, None], rows)  # (B, R, size, size, C)
    return ops.cast(total, maps[0].dtype)


def _by_lookup(maps, boxes, level, strides, size, samples):
    """RoIAlign cell by cell, from the cells of all levels in one row: each box on its level only.

    The `2 samples` cells along each side of a bin are added one at a time, to save memory.
    """
    shapes = np.array([x.shape[1:3] for x in maps])  # (L, 2)
    first = np.cumsum([0, *np.prod(shapes, axis=1)])  # where each level begins, and the end
    channels = maps[0].shape[-1]
    flat = [ops.reshape(x, (-1, h * w, channels)) for x, (h, w) in zip(maps, shapes, strict=True)]
    flat = ops.reshape(ops.concatenate(flat, axis=1), (-1, channels))  # (B * cells, C)

    def of_level(values, dtype):  # one number per level to one per box, (B, R)
        return ops.take(ops.convert_to_tensor(np.asarray(values, dtype)), level, axis=0)

    boxes = boxes / of_level(strides, "float32")[..., None]
    height, width = (of_level(shapes[:, k], "int32") for k in (0, 1))
    down = _cells(boxes[..., 0], boxes[..., 2], height, size, samples)
    across = _cells(boxes[..., 1], boxes[..., 3], width, size, samples)
    picture = int(first[-1]) * ops.arange(ops.shape(boxes)[0], dtype="int32")
    start = picture[:, None] + of_level(first[:-1], "int32")  # (B, R)
    total = 0
    for y, weight_y in down:  # each (B, R, size)
        row = start[..., None] + y * width[..., None]
        for x, weight_x in across:
            cell = ops.take(flat, row[..., None] + x[:, :, None], axis=0)  # (B, R, size, size, C)
            weight = weight_y[..., None] * weight_x[:, :, None]
            total = total + weight[..., None] * ops.cast(cell, "float32")
    return ops.cast(total, flat.dtype)


def _points(start, end, cells, size, samples):
    """Returns where boxes from `start` to `end`, in cells, `[B, R]`, are read along one axis.

    That is, for each of the `samples` a pair: places, 0 to `cells - 1`, and weights, both
    `[B, R, size]`. The weight is 0 far outside the map and else `1 / samples`.
    """
    last = ops.cast(cells, "float32") - 1.0
    last = last if len(last.shape) == 0 else last[..., None]
    found = []
    for k in range(samples):
        share = ((np.arange(size) + (k + 0.5) / samples) / size).astype("float32")
        at = start[..., None] + (end - start)[..., None] * share - 0.5
        inside = ops.logical_and(at >= -1.0, at <= last + 1.0)  # False for NaN, too
        at = ops.where(inside, ops.minimum(ops.maximum(at, 0.0), last), 0.0)
        found.append((at, ops.where(inside, 1.0 / samples, 0.0)))
    return found


def _cells(start, end, cells, size, samples):
    """Returns which cells each bin is made of along one axis: `2 samples` pairs (cell, weight)."""
    last = ops.cast(cells, "int32")[..., None] - 1
    found = []
    for at, weight in _points(start, end, cells, size, samples):
        before = ops.floor(at)
        cell = ops.cast(before, "int32")
        found.append((cell, weight * (before + 1.0 - at)))
        found.append((ops.minimum(cell + 1, last), weight * (at - before)))
    return found


def _hats(start, end, cells, size, samples):
    """Returns how much each bin takes from every cell along one axis, `[B, R, size, cells]`."""
    centers = np.arange(cells, dtype="float32")
    return sum(
        weight[..., None] * ops.maximum(1.0 - ops.abs(at[..., None] - centers), 0.0)
        for at, weight in _points(start, end, cells, size, samples)
    )


def crop_masks(masks, boxes, match, size, samples=2):
    """Cuts the mask of its object out for each box: the target of the mask head.

    Args:
        masks: `[B, N, H, W]`, 0 or 1, at the picture's size, known when the graph is built.
        boxes, size, samples: as in `roi_align`.
        match: row of each box's object, `[B, R]`; the result for -1, no object, has no meaning.

    Returns:
        `[B, R, size, size]`, float32: the share of each bin that the mask covers, 0 to 1.
    """
    masks = ops.convert_to_tensor(masks)
    _, number, height, width = masks.shape
    y1, x1, y2, x2 = edges(ops.stop_gradient(ops.convert_to_tensor(boxes)))
    match = ops.maximum(ops.cast(match, "int32"), 0)
    mask = number * ops.arange(ops.shape(masks)[0], dtype="int32")[:, None] + match  # (B, R)
    lines = ops.reshape(masks, (-1, width))  # (B N H, W)
    rows = 0
    tall = ops.full_like(match, height)
    for y, weight in _cells(y1, y2, tall, size, samples):
        row = ops.take(lines, height * mask[..., None] + y, axis=0)  # (B, R, size, W)
        rows = rows + weight[..., None] * ops.cast(row, "float32")
    across = _hats(x1, x2, width, size, samples)  # (B, R, size, W)
    return ops.matmul(rows, ops.swapaxes(across, -1, -2))


def roi_pool(features, boxes, *, stride, size):
    """Reads a grid of features the older way, for comparison: the maximum over whole cells.

    The edges of the box are rounded to whole cells, then those of each bin, downward at its start
    and upward at its end.

    Args:
        features: of one picture, `[H, W, C]`, with `stride` pixels per cell.
        boxes: `[R, 4]`, in pixels of the picture.

    Returns:
        `[R, size, size, C]`, NumPy; 0 for a bin wholly outside the map.

    Reference:
        Girshick: Fast R-CNN, ICCV 2015, section 2.1.
    """
    features = np.asarray(features)
    found = np.zeros((len(boxes), size, size, features.shape[-1]), features.dtype)
    for box, (y1, x1, y2, x2) in zip(found, np.asarray(boxes, float) / stride, strict=True):
        rows = _whole_bins(y1, y2, features.shape[0], size)
        columns = _whole_bins(x1, x2, features.shape[1], size)
        for i, row in enumerate(rows):
            for j, column in enumerate(columns):
                cells = features[row, column]
                if cells.size:
                    box[i, j] = cells.max(axis=(0, 1))
    return found


def _whole_bins(start, end, cells, size):
    """Returns the cells of each bin along one axis, as slices."""
    start, end = (int(np.floor(edge + 0.5)) for edge in (start, end))
    edges = start + np.arange(size + 1) * max(end - start, 1) / size  # at least one cell
    first = np.clip(np.floor(edges[:-1]), 0, cells).astype(int)
    last = np.clip(np.ceil(edges[1:]), 0, cells).astype(int)
    return [slice(a, b) for a, b in zip(first, last, strict=True)]


def _numbers(levels):
    numbers = sorted(int(name[1:]) for name in levels)
    if numbers != list(range(numbers[0], numbers[-1] + 1)):
        raise ValueError(f"levels has {', '.join(levels)}, expected levels that follow each other.")
    for name, level in levels.items():
        if None in level.shape[1:]:
            raise ValueError(
                f"Level {name} has shape {tuple(level.shape)}, expected a height and width known "
                "when the graph is built: give the model an input_shape."
            )
    return numbers
