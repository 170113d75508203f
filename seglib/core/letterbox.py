"""Pictures of any size into one size, with their masks, and boxes back again; in NumPy."""

import dataclasses

import numpy as np
from PIL import Image

from seglib.core.constants import GRAY


@dataclasses.dataclass(frozen=True)
class Fit:
    """How a picture was scaled into a frame.

    Args:
        size: `(height, width)` of the picture itself, in pixels.
        inner: `(height, width)` that it has in the frame.
        corner: its upper left corner there, `(y, x)`.
    """

    size: tuple[int, int]
    inner: tuple[int, int]
    corner: tuple[int, int] = (0, 0)

    def back(self, boxes):
        """Returns boxes of the frame, `[n, 4]`, in the picture's own pixels."""
        scale = np.float32(self.inner) / np.float32(self.size)
        return (np.asarray(boxes, np.float32) - np.tile(self.corner, 2)) / np.tile(scale, 2)

    def place(self, picture, frame):
        """Puts a picture, or masks `[..., h, w]`, of the inner size into a frame and returns it."""
        rows, columns = (slice(c, c + n) for c, n in zip(self.corner, self.inner, strict=True))
        frame[..., rows, columns] = picture
        return frame


def letterbox(image, size, *, fill=GRAY, centered=False):
    """Scales a picture until it fits into a frame, and fills up the rest.

    Height and width are scaled alike, but for the rounding to whole pixels. Making a picture
    smaller averages over the pixels that vanish.

    Args:
        image: `[h, w, 3]`, values 0 to 255, integers or floats.
        size: `(H, W)` of the frame.
        fill: value of the pixels beside it, by default mid-gray.
        centered: whether the picture stands in the middle, or in the upper left corner.

    Returns:
        `(picture, fit)`: `[H, W, 3]`, uint8 if the image is, otherwise float32; and its `Fit`.

    Raises:
        ValueError: for another shape, or values that are not finite.
    """
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(
            f"A picture has shape {image.shape}, expected [height, width, 3], at least one pixel. "
            "A gray one becomes image[..., None].repeat(3, -1)."
        )
    if image.dtype.kind not in "uif" or not np.isfinite(image).all():
        raise ValueError(
            f"A picture of {image.dtype} holds something else than finite numbers, expected values "
            "from 0 to 255."
        )
    factor = min(new / old for new, old in zip(size, image.shape, strict=False))
    inner = tuple(
        min(max(round(n * factor), 1), most) for n, most in zip(image.shape[:2], size, strict=True)
    )
    corner = tuple((have - used) // 2 * centered for have, used in zip(size, inner, strict=True))
    fit = Fit(image.shape[:2], inner, corner)
    scaled = resize(image, *inner)
    frame = np.full((3, *size), fill, scaled.dtype)
    return fit.place(scaled.transpose(2, 0, 1), frame).transpose(1, 2, 0), fit


def letterbox_with_masks(image, masks, size, *, fill=0, centered=False):
    """Scales a picture as `letterbox` does, and its masks alike, to the nearest pixel.

    Args:
        image: as in `letterbox`.
        masks: `[..., h, w]`: a label map, or a mask per object.
        size: `(H, W)` of the frame.
        fill: label of what is left free.
        centered: as in `letterbox`.

    Returns:
        The picture `[H, W, 3]` and `[..., H, W]` of the masks' dtype.
    """
    picture, fit = letterbox(image, size, centered=centered)
    frame = np.full((*masks.shape[:-2], *size), fill, masks.dtype)
    return picture, fit.place(nearest(masks, fit.inner), frame)


def nearest(masks, size):
    """Resizes masks `[..., h, w]` to the pixel whose center is nearest; disjoint ones stay so."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(int)
        for new, old in zip(size, masks.shape[-2:], strict=True)
    )
    return masks[..., rows[:, None], columns]


def resize(image, height, width):
    """Returns a picture resized bilinearly, uint8 or float32; smaller ones are averaged."""
    if image.shape[:2] == (height, width):
        return image
    if image.dtype == np.uint8:
        return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
    channels = [Image.fromarray(image[..., c].astype(np.float32)) for c in range(3)]
    resized = [c.resize((width, height), Image.Resampling.BILINEAR) for c in channels]
    return np.stack([np.asarray(c) for c in resized], axis=-1)
