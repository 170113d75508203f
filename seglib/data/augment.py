"""Random changes of a picture and its label map, together.

Flip, rotation, scale and crop are one affine map, so each picture is resampled once: the
image bilinearly, the label map by nearest neighbor, through the same matrix. What lies
outside the picture becomes the ignore label, since nobody labeled it.

Why not Keras's own layers: given a dict with "images" and "segmentation_masks", `RandomFlip`,
`RandomRotation`, `RandomZoom`, `RandomTranslation` and `RandomCrop` transform masks correctly
(`tests/data/test_augment.py` holds them to it). But a stack of them resamples once a layer, and
their random state lives in the layer, so that a stopped training cannot go on with the same
pictures.
"""

import dataclasses
import math

import tensorflow as tf

from seglib.core.constants import GRAY, IGNORE_LABEL
from seglib.data import pipeline


@dataclasses.dataclass(frozen=True)
class Augment:
    """A random transform of one picture and its label map.

    Args:
        flip: mirror left and right in half of the cases.
        scale: range of the zoom, drawn evenly on a log scale. Above 1 the picture grows and a
            random window of it is kept (a crop); below 1 it shrinks to a random place.
        stretch: largest extra zoom of one axis against the other, as a factor; 1 for none.
        rotation: largest angle, in degrees, either way.
        crop: `int` or `(H, W)`, size in pixels of the window that is kept, anywhere in the scaled
            picture; `None` for the picture's own size. From larger pictures it cuts details that
            are sharp, where zooming into small ones magnifies.
        brightness: largest shift, as a share of 255.
        contrast: range of the factor by which distances to the mean gray change.
        saturation: range of the factor by which distances to the pixel's own gray change.
        hue: largest turn of the color wheel, as a share of a full turn.

    Calling it:
        Args: `images` uint8 `[B, H, W, 3]`, `masks` uint8 `[B, H, W]`, `seed` int tensor `[2]`.
        Returns two of the same dtypes and, without a crop, the same shapes; a pure function of its
        inputs. Each picture of the batch gets a transform of its own.

    Example:
        >>> train = sample.load("train", augment=Augment(rotation=15))
    """

    flip: bool = True
    scale: tuple[float, float] = (0.8, 1.6)
    stretch: float = 1.0
    rotation: float = 0.0
    crop: int | tuple[int, int] | None = None
    brightness: float = 0.0
    contrast: tuple[float, float] = (1.0, 1.0)
    saturation: tuple[float, float] = (1.0, 1.0)
    hue: float = 0.0

    def __post_init__(self):
        for name in ("scale", "contrast", "saturation"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(
                    f"{name} is {(low, high)}, expected (low, high) with 0 < low <= high."
                )
        if self.stretch < 1:
            raise ValueError(f"stretch is {self.stretch}, expected a factor of at least 1.")
        if self.crop is not None:
            pipeline.as_size(self.crop, "crop")

    def __call__(self, images, masks, seed):
        shape = tf.shape(masks)
        geometry_seed, color_seed = tf.unstack(tf.random.split(seed, 2))
        transforms = self.matrices(*tf.unstack(shape), geometry_seed)
        size = None if self.crop is None else pipeline.as_size(self.crop)
        images = warp(images, transforms, size, fill=GRAY)
        masks = warp(masks[..., None], transforms, size, fill=IGNORE_LABEL, nearest=True)[..., 0]
        return self.change_color(images, color_seed), masks

    def matrices(self, count, height, width, seed):
        """Draws affine maps from output to input pixels, as TensorFlow's rows of 8 numbers."""
        u = tf.unstack(tf.random.stateless_uniform([6, count], seed))
        low, high = (math.log(s) for s in self.scale)
        zoom = tf.exp(low + (high - low) * u[0])
        stretch = tf.exp(math.log(self.stretch) * (u[1] - 0.5))
        zoom_y, zoom_x = zoom * stretch, zoom / stretch
        sign = tf.where(u[2] < 0.5, -1.0, 1.0) if self.flip else tf.ones(count)
        angle = math.radians(self.rotation) * (2 * u[3] - 1)
        center_y = (tf.cast(height, tf.float32) - 1) / 2
        center_x = (tf.cast(width, tf.float32) - 1) / 2
        window_y, window_x, share_y, share_x = center_y, center_x, 1.0, 1.0
        if self.crop is not None:
            window_y, window_x = ((side - 1) / 2 for side in pipeline.as_size(self.crop))
            share_y = tf.math.divide_no_nan(window_y, center_y)
            share_x = tf.math.divide_no_nan(window_x, center_x)
        # The window may move as far as it stays inside the picture, or, if it is the larger of
        # the two, the picture inside the window.
        shift_y = (2 * u[4] - 1) * tf.abs(1 - share_y / zoom_y) * center_y
        shift_x = (2 * u[5] - 1) * tf.abs(1 - share_x / zoom_x) * center_x
        a, b = sign * tf.cos(angle) / zoom_x, -sign * tf.sin(angle) / zoom_y
        c, d = tf.sin(angle) / zoom_x, tf.cos(angle) / zoom_y
        x = center_x + shift_x - a * window_x - b * window_y
        y = center_y + shift_y - c * window_x - d * window_y
        zero = tf.zeros(count)
        return tf.stack([a, b, x, c, d, y, zero, zero], axis=1)

    def change_color(self, images, seed):
        """Changes hue, saturation, contrast and brightness; the masks stay as they are."""
        u = tf.random.stateless_uniform([4, tf.shape(images)[0], 1, 1, 1], seed)
        x = tf.cast(images, tf.float32)
        if self.hue:
            x = turn_hue(x, self.hue * (2 * u[0] - 1))
        if self.saturation != (1.0, 1.0):
            gray = tf.image.rgb_to_grayscale(x)
            x = gray + (x - gray) * _between(self.saturation, u[1])
        if self.contrast != (1.0, 1.0):
            mean = tf.reduce_mean(x, axis=[1, 2, 3], keepdims=True)
            x = mean + (x - mean) * _between(self.contrast, u[2])
        x = x + 255.0 * self.brightness * (2 * u[3] - 1)
        return tf.cast(tf.round(tf.clip_by_value(x, 0.0, 255.0)), images.dtype)


def warp(images, transforms, size=None, *, fill, nearest=False):
    """Resamples `[B, H, W, C]` by affine maps from output to input pixels; keeps the dtype.

    The result has `size` (H, W), by default that of the images.
    """
    x = tf.raw_ops.ImageProjectiveTransformV3(
        images=images if nearest else tf.cast(images, tf.float32),
        transforms=transforms,
        output_shape=tf.shape(images)[1:3] if size is None else size,
        fill_value=float(fill),
        interpolation="NEAREST" if nearest else "BILINEAR",
        fill_mode="CONSTANT",
    )
    height_width = images.shape[1:3] if size is None else size
    x = tf.ensure_shape(x, [images.shape[0], *height_width, images.shape[3]])
    return x if nearest else tf.cast(tf.round(x), images.dtype)


def turn_hue(images, turns):
    """Turns the color wheel: rotates RGB about the gray axis, `turns` in full turns."""
    angle = 2 * math.pi * turns[..., 0]  # (B, 1, 1)
    along = (1 - tf.cos(angle)) / 3
    across = tf.sin(angle) / math.sqrt(3.0)
    # Rodrigues' rotation about (1, 1, 1) / sqrt(3), a circulant matrix
    p, q, r = along + tf.cos(angle), along - across, along + across
    red, green, blue = tf.unstack(images, axis=-1)
    return tf.stack(
        [
            p * red + q * green + r * blue,
            r * red + p * green + q * blue,
            q * red + r * green + p * blue,
        ],
        axis=-1,
    )


def flip_only():
    """The TensorFlow tutorial's augmentation: mirror in half of the cases."""
    return Augment(scale=(1.0, 1.0))


def scale_and_crop(crop=None):
    """DeepLab's augmentation: flip, zoom from a half to twofold, and cut out a window.

    What the window shows beyond the picture is gray, and the label map ignores it.

    Args:
        crop: size of the window, as in `Augment`; by default the picture's own.

    Example:
        >>> coco.load("train.json", "images", image_size=512, augment=augment.scale_and_crop(321))

    Reference:
        Chen et al.: DeepLab, TPAMI 2018, section 4 (scales 0.5 to 1.5); Chen et al.: Rethinking
        Atrous Convolution for Semantic Image Segmentation, 2017 (0.5 to 2.0).
    """
    return Augment(scale=(0.5, 2.0), crop=crop)


def standard():
    """The book's default: flip, zoom and crop, a small turn, and color."""
    return Augment(
        scale=(0.8, 1.6),
        stretch=1.2,
        rotation=10.0,
        brightness=0.12,
        contrast=(0.75, 1.3),
        saturation=(0.7, 1.4),
    )


def _between(bounds, u):
    low, high = bounds
    return low + (high - low) * u
