"""Pictures of any size into the one size that the model takes, and boxes back again."""

import dataclasses

import numpy as np

from seglib.core.constants import GRAY


@dataclasses.dataclass(frozen=True)
class Fit:
    """How a picture was scaled into the model's input.

    Args:
        size: `(height, width)` of the picture itself, in pixels.
        scale: factors `(y, x)` from its pixels to the model's.
    """

    size: tuple[int, int]
    scale: tuple[float, float]

    def back(self, boxes):
        """Returns boxes of the model's input, `[n, 4]`, in the picture's own pixels."""
        return np.asarray(boxes, np.float32) / np.float32([*self.scale, *self.scale])


def letterbox(image, size, fill=GRAY):
    """Scales a picture until it fits, puts it into the upper left corner, and fills up the rest.

    Height and width are scaled alike, but for the rounding to whole pixels. Making a picture
    smaller averages over the pixels that vanish.

    Args:
        image: `[H, W, 3]`, values 0 to 255, integers or floats.
        size: `(height, width)` to fit it into.
        fill: value of the pixels beside it, by default mid-gray.

    Returns:
        `(picture, fit)`: float32 `[height, width, 3]`, and its `Fit`.

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
    factor = min(size[0] / image.shape[0], size[1] / image.shape[1])
    height, width = (
        min(max(round(n * factor), 1), most) for n, most in zip(image.shape[:2], size, strict=True)
    )
    picture = np.full((*size, 3), fill, np.float32)
    picture[:height, :width] = resize(image, height, width)
    return picture, Fit(image.shape[:2], (height / image.shape[0], width / image.shape[1]))


def resize(image, height, width):
    """Returns a picture resized bilinearly, float32; smaller ones are averaged."""
    if image.shape[:2] == (height, width):
        return image.astype(np.float32)
    from PIL import Image

    if image.dtype == np.uint8:
        return np.asarray(
            Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR), np.float32
        )
    channels = [Image.fromarray(image[..., c].astype(np.float32)) for c in range(3)]
    resized = [c.resize((width, height), Image.Resampling.BILINEAR) for c in channels]
    return np.stack([np.asarray(c) for c in resized], axis=-1)
