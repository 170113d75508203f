"""Convolution, normalization, ReLU: what every decoder after the U-Net is made of."""

import math

import keras

# As in the other decoders: Keras's default of 0.99 takes more steps than a short training has.
MOMENTUM = 0.9


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


@keras.saving.register_keras_serializable("seglib")
class ConvBlock(keras.layers.Layer):
    """A convolution without bias, a normalization and a ReLU.

    Args:
        filters: channels of the result.
        kernel_size: an odd number.
        dilation_rate: distance of the kernel's taps.
        separable: one kernel a channel, then a 1x1 convolution across the channels: about nine
            times fewer weights and multiplications for a 3x3 kernel.
        norm_between: normalize between the two, as well.
        norm: `"batch"`, or `"group"` for groups of channels of one picture (32 groups, as many as
            go into the number of channels).

    Shape:
        `[B, H, W, C]` to `[B, H, W, filters]`.

    Raises:
        ValueError: for another norm.
    """

    def __init__(
        self,
        filters,
        kernel_size=3,
        *,
        dilation_rate=1,
        separable=False,
        norm_between=False,
        norm="batch",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = kernel_size
        self.dilation_rate = dilation_rate
        self.separable = separable
        self.norm_between = norm_between
        self.norm = norm
        if separable:
            self.depthwise = keras.layers.DepthwiseConv2D(
                kernel_size, padding="same", dilation_rate=dilation_rate, use_bias=False
            )
            self.between = normalization("batch", filters) if norm_between else None
            self.conv = keras.layers.Conv2D(filters, 1, use_bias=False)
        else:
            self.conv = AtrousConv2D(
                filters, kernel_size, dilation_rate=dilation_rate, use_bias=False
            )
        self.normalize = normalization(norm, filters)
        self.relu = keras.layers.ReLU()

    def build(self, shape):
        if self.separable:
            self.depthwise.build(shape)
            if self.norm_between:
                self.between.build(shape)
        self.conv.build(shape)
        self.normalize.build(self.compute_output_shape(shape))

    def compute_output_shape(self, shape):
        return (*shape[:3], self.filters)

    def call(self, x, training=None):
        if self.separable:
            x = self.depthwise(x)
        if self.separable and self.norm_between:
            x = self.between(x, training=training)
        x = self.conv(x)  # (B, H, W, filters)
        return self.relu(self.normalize(x, training=training))

    def get_config(self):
        return super().get_config() | {
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "dilation_rate": self.dilation_rate,
            "separable": self.separable,
            "norm_between": self.norm_between,
            "norm": self.norm,
        }


def normalization(norm, filters):
    """Returns the layer that `norm` names.

    Raises:
        ValueError: for an unknown name.
    """
    if norm == "batch":
        return keras.layers.BatchNormalization(momentum=MOMENTUM)
    if norm == "group":
        return keras.layers.GroupNormalization(math.gcd(32, filters))
    raise ValueError(f"norm is {norm!r}, expected 'batch' or 'group'.")
