"""Test-time averaging: one model, several views of the picture, one answer."""

import functools
import math

import keras
from keras import ops

from seglib.core.checks import two_channels

# Resized pictures have multiples of this as height and width: the stride of the backbones' last
# level, so that no computation goes into padding.
MULTIPLE = 32


@keras.saving.register_keras_serializable("seglib")
class ViewAverage(keras.layers.Layer):
    """Calls a model on resized and mirrored copies of a picture and averages what it says.

    Each answer is brought back to the picture's size (and mirrored back) before the average, so
    that every pixel meets itself. The model runs with `training=False`. See `test_time_average`.

    Shape:
        `[B, H, W, 3]` to `[B, H, W, C]`, float32.
    """

    def __init__(self, model, scales=(1,), *, flip=True, **kwargs):
        if not scales or any(scale <= 0 for scale in scales):
            raise ValueError(
                f"scales is {scales!r}, expected factors above 0, such as (0.75, 1, 1.25)."
            )
        # Under mixed precision a half-precision layer would round pictures and logits.
        super().__init__(**({"dtype": "float32"} | kwargs))
        self.model = model
        self.scales = tuple(scales)
        self.flip = flip

    def compute_output_shape(self, shape):
        return (*shape[:3], self.model.output_shape[-1])

    def call(self, image):
        views = [logits for scale in self.scales for logits in self.views(image, scale)]
        log_p = (ops.log_softmax(two_channels(logits), axis=-1) for logits in views)
        log_mean = functools.reduce(ops.logaddexp, log_p) - math.log(len(views))
        if self.model.output_shape[-1] == 1:  # back to the logit of class 1
            return log_mean[..., 1:] - log_mean[..., :1]
        return log_mean

    def views(self, image, scale):
        """Returns the logits of the picture and its mirror image, which are one batch."""
        size = tuple(image.shape[1:3])
        view, view_size = image, scaled_size(size, scale)
        if view_size != size:  # with a wider filter where the picture shrinks, against aliasing
            shrinks = view_size[0] < size[0] or view_size[1] < size[1]
            view = ops.image.resize(image, view_size, antialias=shrinks)
        if self.flip:
            view = ops.concatenate([view, ops.flip(view, axis=2)], axis=0)  # (2 B, h, w, 3)
        logits = ops.cast(self.model(view, training=False), "float32")  # (2 B, h, w, C)
        if view_size != size:
            logits = ops.image.resize(logits, size)
        if not self.flip:
            return [logits]
        plain, mirrored = ops.split(logits, 2, axis=0)
        return [plain, ops.flip(mirrored, axis=2)]

    def get_config(self):
        return super().get_config() | {
            "model": keras.saving.serialize_keras_object(self.model),
            "scales": self.scales,
            "flip": self.flip,
        }

    @classmethod
    def from_config(cls, config):
        model = keras.saving.deserialize_keras_object(config["model"])
        return cls(**(config | {"model": model}))


def test_time_average(model, scales=(0.75, 1, 1.25), *, flip=True, input_shape=None):
    """Wraps a model so that it averages its answers over scales and the mirror image.

    A network errs differently on each view, so their mean is right more often. It costs the sum of
    the squared scales, doubled by the mirror image: 6 times the model for the default here. The
    probabilities are averaged: one view that is sure and wrong counts no more than its share.

    Args:
        model: Keras model from an image `[B, H, W, 3]` to logits `[B, H, W, C]`. For scales other
            than 1 it must take pictures of any size: `unet(…, input_shape=(None, None, 3))`.
        scales: factors of the picture's size. At 1 the model sees the picture itself.
        flip: whether each scale also sees the mirror image.
        input_shape: `(H, W, 3)` of the pictures, numbers for scales other than 1; by default the
            model's.

    Returns:
        `keras.Model` with the same weights, from an image `[B, H, W, 3]` to the logarithms of the
        mean probabilities, `[B, H, W, C]`, float32: logits, as the model's own.

    Raises:
        ValueError: for scales or sizes that make no sense.

    Example:
        >>> model = unet(3, weights=None, input_shape=(None, None, 3))
        >>> averaged = test_time_average(model, input_shape=(256, 256, 3))
        >>> logits = averaged.predict(images)

    Reference:
        Chen et al.: DeepLab, TPAMI 2018, and Rethinking Atrous Convolution, 2017, evaluate on
        several scales and on mirrored pictures.
    """
    input_shape = tuple(model.input_shape[1:] if input_shape is None else input_shape)
    layer = ViewAverage(model, scales, flip=flip, name="average")
    check_sizes(model, input_shape, layer.scales)
    image = keras.Input(input_shape, name="image")
    return keras.Model(image, layer(image), name=f"{model.name}_averaged")


test_time_average.__test__ = False  # pytest would take it for a test


def scaled_size(size, scale):
    """Returns `(H, W)` times `scale`, rounded to multiples; for scale 1 unchanged."""
    if scale == 1:
        return tuple(size)
    return tuple(max(1, round(scale * n / MULTIPLE)) * MULTIPLE for n in size)


def check_sizes(model, input_shape, scales):
    """Raises if a scale's size is unknown, or is none that the model was built for."""
    if all(scale == 1 for scale in scales):
        return
    if None in input_shape[:2]:
        raise ValueError(
            f"The pictures have shape {input_shape}, expected numbers for height and width: the "
            f"scales {scales} are sizes that must be known when the model is built. Pass "
            "input_shape=(256, 256, 3), or scales=(1,) for the mirror image alone."
        )
    for scale in scales:
        size = scaled_size(input_shape[:2], scale)
        for built, needed in zip(model.input_shape[1:3], size, strict=True):
            if built not in (None, needed):
                raise ValueError(
                    f"Scale {scale} makes pictures of {size[0]} x {size[1]} pixels, but the model "
                    f"was built for {model.input_shape[1:]}. Build it for any size with "
                    "input_shape=(None, None, 3) and load the trained weights into that."
                )
