"""The layers that Keras lacks: sizes that are known only at run time."""

import keras
from keras import ops

from seglib.core.constants import GRAY


@keras.saving.register_keras_serializable("seglib")
class Upsample(keras.layers.Layer):
    """Enlarges a feature map bilinearly, pixel areas aligned, edges repeated.

    `keras.ops.image.resize` refuses a size that is known only at run time; then the same values are
    computed by hand, some ten times slower, so give `input_shape` for training.

    Args:
        factor: whole number, how many times larger height and width become.

    Shape:
        `[B, H, W, C]` to `[B, factor * H, factor * W, C]`.
    """

    def __init__(self, factor=2, **kwargs):
        super().__init__(**kwargs)
        if factor < 1 or factor != int(factor):
            raise ValueError(f"factor is {factor}, expected a whole number of at least 1.")
        self.factor = int(factor)

    def call(self, x):
        if self.factor == 1:
            return x
        _, height, width, _ = x.shape
        if height is not None and width is not None:
            # In 32 bits also under mixed precision: Keras would clip each value to what 16 bits
            # can hold, though a mean of some values never exceeds them.
            size = (self.factor * height, self.factor * width)
            return ops.cast(ops.image.resize(ops.cast(x, "float32"), size), x.dtype)
        x = self.enlarge(x, 1)  # (B, factor H, W, C)
        return self.enlarge(x, 2)  # (B, factor H, factor W, C)

    def enlarge(self, x, axis):
        """Enlarges one axis: each input pixel becomes `factor` mixtures with a neighbor."""
        first = [slice(None)] * axis
        ahead = ops.concatenate([x[(*first, slice(1, None))], x[(*first, slice(-1, None))]], axis)
        behind = ops.concatenate([x[(*first, slice(None, 1))], x[(*first, slice(None, -1))]], axis)
        phases = []
        for k in range(self.factor):
            # center of the output pixel, seen from the center of its input pixel
            offset = (k + 0.5) / self.factor - 0.5
            neighbor = behind if offset < 0 else ahead
            phases.append((1 - abs(offset)) * x + abs(offset) * neighbor)
        shape = list(ops.shape(x))
        shape[axis] = -1  # factor times larger
        return ops.reshape(ops.stack(phases, axis=axis + 1), shape)

    def compute_output_shape(self, shape):
        sizes = (None if size is None else self.factor * size for size in shape[1:3])
        return (shape[0], *sizes, shape[3])

    def get_config(self):
        return super().get_config() | {"factor": self.factor}


@keras.saving.register_keras_serializable("seglib")
class PadToMultiple(keras.layers.Layer):
    """Pads a picture at the bottom and on the right until a backbone can halve it evenly.

    Shape:
        `[B, H, W, C]` to `[B, H', W', C]`, each rounded up to `multiple`; new pixels are `value`.
    """

    def __init__(self, multiple=32, *, value=GRAY, **kwargs):
        super().__init__(**kwargs)
        self.multiple = multiple
        self.value = value

    def call(self, x):
        if all(size is not None and size % self.multiple == 0 for size in x.shape[1:3]):
            return x
        _, height, width, _ = ops.shape(x)
        # Pad by a number known in advance, then cut: the sizes may be known only at run time.
        most = self.multiple - 1
        padded = ops.pad(x, ((0, 0), (0, most), (0, most), (0, 0)), constant_values=self.value)
        return padded[:, : self.round_up(height), : self.round_up(width)]

    def round_up(self, size):
        return None if size is None else -(-size // self.multiple) * self.multiple

    def compute_output_shape(self, shape):
        batch, height, width, channels = shape
        return (batch, self.round_up(height), self.round_up(width), channels)

    def get_config(self):
        return super().get_config() | {"multiple": self.multiple, "value": self.value}


@keras.saving.register_keras_serializable("seglib")
class CropTo(keras.layers.Layer):
    """Cuts a map to the height and width of another.

    Args:
        center: keep the middle; otherwise cut at the bottom and on the right.

    Shape:
        `[x, reference]`, `[B, >=H, >=W, C]` and `[B, H, W, ...]`, to `[B, H, W, C]`.
    """

    def __init__(self, *, center=False, **kwargs):
        super().__init__(**kwargs)
        self.center = center

    def call(self, inputs):
        x, reference = inputs
        height, width = ops.shape(reference)[1:3]
        top = (ops.shape(x)[1] - height) // 2 if self.center else 0
        left = (ops.shape(x)[2] - width) // 2 if self.center else 0
        return x[:, top : top + height, left : left + width]

    def compute_output_shape(self, shapes):
        x, reference = shapes
        return (x[0], *reference[1:3], x[3])

    def get_config(self):
        return super().get_config() | {"center": self.center}
