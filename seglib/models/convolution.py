"""Convolution, normalization, ReLU: what every decoder is made of."""

import math

import keras

from seglib.core.constants import MOMENTUM

# Keras's default of 0.99 needs some 500 steps to forget its starting values, more than the first
# epochs on a small set have.


def conv_norm_relu(
    x,
    filters,
    kernel_size=3,
    *,
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
        dilation_rate: distance of the kernel's taps.
        separable: one kernel per channel, then a 1x1 convolution across the channels: about nine
            times fewer weights and multiplications for a 3x3 kernel.
        norm_between: normalize between the two, as well.
        norm: `"batch"`, or `"group"` for groups of channels of one picture (32 groups, as many as
            go into the number of channels).
        name: what the names of the layers begin with.

    Returns:
        Feature map `[B, H, W, filters]`.

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
        x = convolution(filters, kernel_size, name=f"{name}_conv", **spread)(x)
    if norm == "batch":
        x = keras.layers.BatchNormalization(momentum=MOMENTUM, name=f"{name}_norm")(x)
    else:
        x = keras.layers.GroupNormalization(math.gcd(32, filters), name=f"{name}_norm")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)


@keras.saving.register_keras_serializable("seglib")
class AtrousConv2D(keras.layers.Conv2D):
    """A convolution with holes, `"same"` padded, that skips the taps which see padding only.

    A tap that lies `dilation_rate` rows above the kernel's center sees nothing but zeros if the map
    has no more rows than that. On a map of 16 x 16 cells a rate of 18 leaves the center alone: a
    1x1 convolution, nine times less work. Sizes that are known only at run time take the
    whole kernel, with the same result.

    Args:
        filters: channels of the result.
        kernel_size: an odd number.
        dilation_rate: distance of the taps.

    Shape:
        `[B, H, W, C]` to `[B, H, W, filters]`.
    """

    def __init__(self, filters, kernel_size=3, *, dilation_rate=1, **kwargs):
        kwargs = {"padding": "same"} | kwargs
        super().__init__(filters, kernel_size, dilation_rate=dilation_rate, **kwargs)

    def convolution_op(self, inputs, kernel):
        rows, columns = (
            self.useful_taps(size, taps, rate)
            for size, taps, rate in zip(
                inputs.shape[1:3], self.kernel_size, self.dilation_rate, strict=True
            )
        )
        return super().convolution_op(inputs, kernel[rows, columns])

    @staticmethod
    def useful_taps(size, taps, rate):
        """Returns the slice of the kernel, along one axis, that ever sees the map."""
        center = taps // 2
        reach = center if size is None else min(center, (size - 1) // rate)
        return slice(center - reach, center + reach + 1)
