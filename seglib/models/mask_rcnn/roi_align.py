"""RoIAlign: cuts a grid of fixed size out of the feature maps, for each box."""

import numpy as np
from keras import ops

from seglib.models.mask_rcnn.boxes import area


def level_of(boxes, *, finest, coarsest, canonical_size=224, canonical_level=4):
    """Returns the pyramid level that each box is read from: the larger, the coarser.

    `floor(canonical_level + log2(sqrt(height * width) / canonical_size))`, no finer than `finest`
    and no coarser than `coarsest`.

    Args:
        boxes: `[..., 4]`, in pixels.
        finest: number of the finest level there is.
        coarsest: likewise.
        canonical_size: a square box of this side is read from `canonical_level`, px.
        canonical_level: see there.

    Returns:
        `[...]`, int32.

    Reference:
        Lin et al.: Feature Pyramid Networks for Object Detection, CVPR 2017, equation 1.
    """
    size = area(boxes)
    level = ops.full_like(size, finest, dtype="int32")
    # Counted instead of taking logarithms: a box of exactly 448 x 448 then is where it belongs.
    for n in range(finest + 1, coarsest + 1):
        smallest = canonical_size * 2.0 ** (n - canonical_level)
        level = level + ops.cast(size >= smallest**2, "int32")
    return level


def roi_align(levels, boxes, *, strides, size, samples=2, canonical_size=224, canonical_level=4):
    """Reads a grid of `size` x `size` features for each box, from the level that fits its size.

    The box is divided into `size` x `size` equal bins. In each, the map is read at `samples` x
    `samples` points, evenly spread, by bilinear interpolation between the centers of its cells, and
    the mean is taken. Nothing is rounded: half a pixel more in the box is half a pixel more in what
    is read.

    Beyond the centers of the outermost cells the map goes on unchanged for half a cell to the edge
    of the map and half a cell more; farther out it is 0.

    Args:
        levels: `{"P2": [B, H, W, C], …}`; all levels with as many channels, their sizes known when
            the graph is built.
        boxes: `[B, R, 4]`, in pixels of the picture. No gradient flows to them, as published.
        strides: pixels per cell, of each level, `{"P2": 4, …}`.
        size: bins along each side.
        samples: points along each side of a bin.
        canonical_size: see `level_of`.
        canonical_level: see `level_of`.

    Returns:
        `[B, R, size, size, C]`, of the features' dtype.

    Raises:
        ValueError: unless the levels' sizes are known and they follow each other.

    Reference:
        He et al.: Mask R-CNN, ICCV 2017, section 3; the border is that of Detectron2's aligned
        `ROIAlign`.
    """
    numbers = _numbers(levels)
    boxes = ops.stop_gradient(ops.cast(boxes, "float32"))
    level = level_of(
        boxes,
        finest=numbers[0],
        coarsest=numbers[-1],
        canonical_size=canonical_size,
        canonical_level=canonical_level,
    )
    maps = [levels[f"P{n}"] for n in numbers]
    shapes = np.array([m.shape[1:3] for m in maps])  # (L, 2)
    start = np.cumsum([0, *np.prod(shapes, axis=1)])  # where each level's cells begin
    cells = int(start[-1])
    channels = maps[0].shape[-1]
    flat = ops.concatenate(
        [
            ops.reshape(m, (-1, h * w, channels))
            for m, (h, w) in zip(maps, shapes.tolist(), strict=True)
        ],
        axis=1,
    )

    def of(values, dtype):  # one number per level -> one per box
        return ops.take(ops.convert_to_tensor(np.asarray(values), dtype), level - numbers[0])

    stride = of([strides[f"P{n}"] for n in numbers], "float32")  # (B, R)
    height, width = of(shapes[:, 0], "int32"), of(shapes[:, 1], "int32")
    boxes = boxes / stride[..., None]
    y, wy = _axis(boxes[..., 0], boxes[..., 2], height, size, samples)  # (B, R, S, 2)
    x, wx = _axis(boxes[..., 1], boxes[..., 3], width, size, samples)
    # two cells of each sample, all samples of an axis: (B, R, size, 2 samples)
    y, wy, x, wx = (ops.reshape(v, (-1, v.shape[1], size, 2 * samples)) for v in (y, wy, x, wx))
    picture = ops.arange(ops.shape(boxes)[0]) * cells
    first = picture[:, None] + of(start[:-1], "int32")  # (B, R)
    row = first[..., None, None] + y * width[..., None, None]
    index = row[:, :, :, :, None, None] + x[:, :, None, None]  # (B, R, size, k, size, k)
    found = ops.take(ops.reshape(flat, (-1, channels)), index, axis=0)
    wy, wx = (ops.cast(w, flat.dtype) for w in (wy, wx))
    return ops.einsum("brikjlc,brik,brjl->brijc", found, wy, wx)


def _axis(start, end, cells, size, samples):
    """Returns which cells are read along one axis, and with what weight.

    Args:
        start: of the boxes, in cells, `[B, R]`.
        end: likewise.
        cells: how many the map has along the axis, `[B, R]`.
        size: bins.
        samples: points in a bin.

    Returns:
        `(cells, weights)`, both `[B, R, size * samples, 2]`: the cells before and after each point.
        The weights of a bin sum to 1, unless it reaches far beyond the map.
    """
    points = (np.arange(size * samples) + 0.5) / (size * samples)
    # cell k has its center at k + 0.5
    at = start[..., None] + (end - start)[..., None] * points.astype("float32") - 0.5
    last = ops.cast(cells, "float32")[..., None] - 1.0
    inside = ops.logical_and(at >= -1.0, at <= last + 1.0)
    at = ops.minimum(ops.maximum(at, 0.0), last)
    at = ops.where(inside, at, 0.0)  # no NaN may become an index
    before = ops.floor(at)
    after = ops.minimum(before + 1.0, last)
    weight = ops.where(inside, 1.0 / samples, 0.0)
    weights = ops.stack((weight * (before + 1.0 - at), weight * (at - before)), axis=-1)
    return ops.cast(ops.stack((before, after), axis=-1), "int32"), weights


def crop_masks(masks, boxes, match, size, samples=2):
    """Cuts the mask of its object out for each box: what the mask head is to say.

    Args:
        masks: `[B, N, H, W]`, 0 or 1, at the picture's size.
        boxes: `[B, R, 4]`.
        match: which object belongs to each box, `[B, R]` integers; where none does (-1), the first
            object's mask is cut, and is not to be used.
        size: bins along each side.
        samples: points along each side of a bin.

    Returns:
        `[B, R, size, size]`, float32, 0 to 1: the share of each bin that the mask covers, read as
        `roi_align` reads features.
    """
    _, number, height, width = masks.shape
    boxes = ops.stop_gradient(ops.cast(boxes, "float32"))
    match = ops.maximum(ops.cast(match, "int32"), 0)
    full = ops.full_like(match, height), ops.full_like(match, width)
    y, wy = _axis(boxes[..., 0], boxes[..., 2], full[0], size, samples)
    x, wx = _axis(boxes[..., 1], boxes[..., 3], full[1], size, samples)
    y, wy, x, wx = (ops.reshape(v, (-1, v.shape[1], size, 2 * samples)) for v in (y, wy, x, wx))
    mask = ops.arange(ops.shape(masks)[0])[:, None] * number + match  # (B, R)
    row = mask[..., None, None] * height + y
    index = row[:, :, :, :, None, None] * width + x[:, :, None, None]
    found = ops.take(ops.reshape(masks, (-1,)), index)
    return ops.einsum("brikjl,brik,brjl->brij", ops.cast(found, "float32"), wy, wx)


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
