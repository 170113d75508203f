"""Test-time averaging: one model, several views of the picture, one answer."""

import math

import keras
from keras import ops

from seglib.core.checks import two_channels


@keras.saving.register_keras_serializable("seglib")
class ViewAverage(keras.layers.Layer):
    """Calls a model on resized and mirrored copies of a picture and averages what it says.

    Each answer is brought back to the picture's size (and mirrored back) before the average, so
    that every pixel meets itself. The model runs with `training=False`.

    Args:
        model: Keras model from an image `[B, H, W, 3]` to logits `[B, H, W, C]`.
        scales: factors of the picture's size. 1 leaves the picture as it is; others need a picture
            whose size is known when the graph is built.
        flip: whether each scale also sees the mirror image.
        average: `"probabilities"` or `"logits"`; see `test_time_average`.
        multiple: heights and widths of resized pictures are rounded to this.

    Shape:
        `[B, H, W, 3]` to `[B, H, W, C]`, float32.
    """

    def __init__(
        self, model, scales=(1,), *, flip=True, average="probabilities", multiple=32, **kwargs
    ):
        if not scales or any(scale <= 0 for scale in scales):
            raise ValueError(
                f"scales is {scales!r}, expected factors above 0, such as (0.75, 1, 1.25)."
            )
        if average not in ("probabilities", "logits"):
            raise ValueError(f"average is {average!r}, expected 'probabilities' or 'logits'.")
        # Under mixed precision a half-precision layer would round pictures and logits.
        super().__init__(**({"dtype": "float32"} | kwargs))
        self.model = model
        self.scales = tuple(scales)
        self.flip = flip
        self.average = average
        self.multiple = multiple

    def build(self, shape):
        """Does nothing: the model comes built."""

    def compute_output_shape(self, shape):
        return (*shape[:3], self.model.output_shape[-1])

    def call(self, image):
        total = None
        for scale in self.scales:
            for logits in self.views(image, scale):
                total = self.add(total, logits)
        count = len(self.scales) * (2 if self.flip else 1)
        if self.average == "logits":
            return total / count
        log_mean = total - math.log(count)
        if self.model.output_shape[-1] == 1:  # back to the logit of class 1
            return log_mean[..., 1:] - log_mean[..., :1]
        return log_mean

    def add(self, total, logits):
        """Adds one answer: logits by their sum, probabilities as the logarithm of their sum."""
        if self.average == "logits":
            return logits if total is None else total + logits
        log_p = ops.log_softmax(two_channels(logits), axis=-1)
        return log_p if total is None else ops.logaddexp(total, log_p)

    def views(self, image, scale):
        """Returns the model's logits for one scale, a list of one or, with the mirror image, two.

        Both go through the model as one batch: it is traced once for each scale.
        """
        size = image.shape[1:3]
        view_size = scaled_size(size, scale, self.multiple)
        view = resize(image, view_size)
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
            "average": self.average,
            "multiple": self.multiple,
        }

    @classmethod
    def from_config(cls, config):
        model = keras.saving.deserialize_keras_object(config["model"])
        return cls(**(config | {"model": model}))


def test_time_average(
    model,
    scales=(0.75, 1, 1.25),
    *,
    flip=True,
    average="probabilities",
    multiple=32,
    input_shape=None,
):
    """Wraps a model so that it averages its answers over scales and the mirror image.

    A network errs differently on each view, so their mean is right more often. It costs the sum of
    the squared scales, doubled by the mirror image: 6 times the model for the default here.

    What is averaged:

    - `"probabilities"`: the arithmetic mean, returned as its logarithm. Views vote; one view that
      is sure and wrong counts no more than its share.
    - `"logits"`: the geometric mean of the probabilities, up to a factor. One view that all but
      excludes a class excludes it from the answer.

    Either way the result is logits: give it to metrics and losses as the model's own.

    Args:
        model: Keras model from an image `[B, H, W, 3]` to logits `[B, H, W, C]`. For scales other
            than 1 it must take pictures of any size: `unet(…, input_shape=(None, None, 3))`.
        scales: factors of the picture's size. At 1 the model sees the picture itself.
        flip: whether each scale also sees the mirror image.
        average: `"probabilities"` or `"logits"`.
        multiple: heights and widths of resized pictures are rounded to this, the stride of the
            backbone's last level, so that no computation goes into padding.
        input_shape: `(H, W, 3)` of the pictures; by default the model's. Scales other than 1 need
            numbers, because Keras resizes to sizes only that are known beforehand.

    Returns:
        `keras.Model` from an image `[B, H, W, 3]` to logits `[B, H, W, C]`, float32, with the
        model's weights (shared, not copied). It predicts, evaluates and saves like any other.

    Raises:
        ValueError: for scales, sizes or an `average` that make no sense.

    Example:
        >>> model = unet(3, weights=None, input_shape=(None, None, 3))
        >>> averaged = test_time_average(model, input_shape=(256, 256, 3))
        >>> logits = averaged.predict(images)

    Reference:
        Chen, Papandreou, Kokkinos, Murphy and Yuille: DeepLab, TPAMI 2018, and Chen, Papandreou,
        Schroff and Adam: Rethinking Atrous Convolution, 2017, evaluate on several scales and on
        mirrored pictures.
    """
    input_shape = tuple(model.input_shape[1:] if input_shape is None else input_shape)
    layer = ViewAverage(
        model, scales, flip=flip, average=average, multiple=multiple, name="average"
    )
    check_sizes(model, input_shape, layer.scales, multiple)
    image = keras.Input(input_shape, name="image")
    return keras.Model(image, layer(image), name=f"{model.name}_averaged")


test_time_average.__test__ = False  # pytest would take it for a test


def scaled_size(size, scale, multiple):
    """Returns `(H, W)` times `scale`, each rounded to the nearest multiple; itself for scale 1."""
    if scale == 1:
        return tuple(size)
    return tuple(max(1, round(scale * n / multiple)) * multiple for n in size)


def resize(image, size):
    """Resizes bilinearly, with a wider filter where the picture shrinks, against aliasing."""
    height, width = image.shape[1:3]
    if (height, width) == size:
        return image
    shrinks = size[0] < height or size[1] < width
    return ops.image.resize(image, size, antialias=shrinks)


def check_sizes(model, input_shape, scales, multiple):
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
        size = scaled_size(input_shape[:2], scale, multiple)
        for built, needed in zip(model.input_shape[1:3], size, strict=True):
            if built not in (None, needed):
                raise ValueError(
                    f"Scale {scale} makes pictures of {size[0]} x {size[1]} pixels, but the model "
                    f"was built for {model.input_shape[1:]}. Build it for any size with "
                    "input_shape=(None, None, 3) and load the trained weights into that."
                )
