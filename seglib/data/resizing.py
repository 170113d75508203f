"""Label maps at another size, and pictures that keep their proportions; without TensorFlow."""

import numpy as np
from PIL import Image

from seglib.core.constants import GRAY


def nearest(masks, size):
    """Resizes masks `[..., h, w]` to the pixel whose center is nearest; disjoint ones stay so."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(int)
        for new, old in zip(size, masks.shape[-2:], strict=True)
    )
    return masks[..., rows[:, None], columns]


def letterbox(image, masks, size, *, fill=0, centered=False):
    """Scales a picture and its masks until they fit; what the proportions leave free becomes gray.

    Args:
        image: uint8 `[h, w, 3]`.
        masks: `[..., h, w]`: a label map, or a mask per object.
        size: `(H, W)`.
        fill: label of what is left free.
        centered: whether the picture stands in the middle, or in the upper left corner, where
            `MaskRCNN.detect` puts it.

    Returns:
        uint8 `[H, W, 3]` and `[..., H, W]` of the masks' dtype.
    """
    factor = min(new / old for new, old in zip(size, masks.shape[-2:], strict=True))
    inner = tuple(max(1, round(side * factor)) for side in masks.shape[-2:])
    free = [(have - used) // 2 if centered else 0 for have, used in zip(size, inner, strict=True)]
    place = (..., *(slice(first, first + used) for first, used in zip(free, inner, strict=True)))
    out = np.full((*size, 3), GRAY, "uint8")
    scaled = Image.fromarray(image).resize(inner[::-1], Image.Resampling.BILINEAR)
    out[(*place, slice(None))] = scaled
    out_masks = np.full((*masks.shape[:-2], *size), fill, masks.dtype)
    out_masks[place] = nearest(masks, inner)
    return out, out_masks
