"""Convolution, normalization, ReLU: what every decoder is made of."""

import math

import keras

# Keras's default of 0.99 needs some 500 steps to forget its starting values, more than the first
# epochs on a small set have.
from seglib.core.constants import MOMENTUM


def conv_norm_relu(
    x,
    filters,
    kernel_size=3,
    *,
    strides=1,
    dilation_rate=1,
    separable=False,
    norm_between=False,
    norm="batch",
    name,
):
    """Applies a convolution without bias, a normalization and a ReLU.

    Args:
        x: feature map `[B, H, W, C]`.
        filters: channels of the result.
        kernel_size: an odd number.
        strides: of a convolution that is neither dilated nor separable.
        dilation_rate: distance of the kernel's taps.
        separable: one kernel per channel, then a 1x1 convolution across the channels: about nine
            times fewer weights and multiplications for a 3x3 kernel.
        norm_between: normalize between the two, as well.
        norm: `"batch"`, or `"group"` for 32 groups of channels, or as many as divide `filters`.
        name: what the names of the layers begin with.

    Returns:
        Feature map `[B, H / strides, W / strides, filters]`.

    Raises:
        ValueError: for another norm.
    """
    if norm not in ("batch", "group"):
        raise ValueError(f"norm is {norm!r}, expected 'batch' or 'group'.")
    spread = {"padding": "same", "dilation_rate": dilation_rate, "use_bias": False}
    if separable:
        x = keras.layers.DepthwiseConv2D(kernel_size, name=f"{name}_depthwise", **spread)(x)
        if norm_between:
            x = keras.layers.BatchNormalization(momentum=MOMENTUM, name=f"{name}_between")(x)
        x = keras.layers.Conv2D(filters, 1, use_bias=False, name=f"{name}_conv")(x)
    else:
        convolution = AtrousConv2D if dilation_rate > 1 else keras.layers.Conv2D
        x = convolution(filters, kernel_size, strides=strides, name=f"{name}_conv", **spread)(x)
    if norm == "batch":
        x = keras.layers.BatchNormalization(momentum=MOMENTUM, name=f"{name}_norm")(x)
    else:
        x = keras.layers.GroupNormalization(math.gcd(32, filters), name=f"{name}_norm")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)


@keras.saving.register_keras_serializable("seglib")
class AtrousConv2D(keras.layers.Conv2D):
    """A `"same"` padded convolution that skips the taps which see nothing but padding.

    A tap `dilation_rate` rows above the kernel's center sees only zeros if the map has no more rows
    than that. On 16 x 16 cells a rate of 18 leaves the center alone: a 1x1 convolution, nine times
    less work. Sizes known only at run time take the whole kernel, with the same result. The
    arguments are those of `keras.layers.Conv2D`.

    Shape:
        `[B, H, W, C]` to `[B, H, W, filters]`.
    """

    def __init__(self, filters, kernel_size, **kwargs):
        super().__init__(filters, kernel_size, **({"padding": "same"} | kwargs))

    def convolution_op(self, inputs, kernel):
        sizes = inputs.shape[1:3]
        rows, columns = map(self.useful_taps, sizes, self.kernel_size, self.dilation_rate)
        return super().convolution_op(inputs, kernel[rows, columns])

    @staticmethod
    def useful_taps(size, taps, rate):
        """Returns the slice of the kernel, along one axis, that ever sees the map."""
        center = taps // 2
        reach = center if size is None else min(center, (size - 1) // rate)
        return slice(center - reach, center + reach + 1)
