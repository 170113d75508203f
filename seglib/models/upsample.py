"""Bilinear upsampling by a whole factor."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("seglib")
class Upsample(keras.layers.Layer):
    """Enlarges a feature map bilinearly, pixel areas aligned, edges repeated.

    Where the size is known when the graph is built, this is `keras.ops.image.resize`. That function
    refuses a size which is known only at run time; then the same values are computed by hand, some
    ten times slower, so give `input_shape` for training.

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
        batch, height, width, channels = shape
        return (
            batch,
            None if height is None else self.factor * height,
            None if width is None else self.factor * width,
            channels,
        )

    def get_config(self):
        return super().get_config() | {"factor": self.factor}
