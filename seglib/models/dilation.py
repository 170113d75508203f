"""Output stride: a network halves the resolution less often, and its kernels are spread instead."""

import keras
from keras import ops

OUTPUT_STRIDES = (8, 16, 32)


def dilate(network, output_stride):
    """Turns the strides of a network's last stages into dilation.

    Wherever a cell of a map stands for `output_stride` pixels already, the layers that would halve
    the map keep its size, and the taps of all kernels from there on move apart by as much as the
    map is now too large: by 2 after one halving that did not happen, by 4 after two. Each kernel
    then sees the cells that it saw before, and the weights still fit. The new network computes
    what the old one says of the picture, and of the picture shifted by `output_stride` pixels, …,
    `32 - output_stride` pixels, all at once, and puts the answers side by side. (Squeeze and
    excitation, as in EfficientNet, looks at the mean of the whole map: at that of all shifts.)

    Padding becomes symmetric, so that a feature lies where its kernel has its center.

    Args:
        network: functional `keras.Model` of convolutions and pooling, with one input.
        output_stride: 8, 16 or 32, the stride that the network comes down to at most.

    Returns:
        `keras.Model` with the same layers' names, weights, inputs and outputs; the network itself
        if `output_stride` is 32.

    Raises:
        ValueError: for another output stride.

    Example:
        >>> dilate(small_backbone(), 8).output["P5"].shape[-1]
        128

    Reference:
        Chen et al.: DeepLab: Semantic Image Segmentation with Deep Convolutional Nets, Atrous
        Convolution, and Fully Connected CRFs, TPAMI 2018, section 3.1.
    """
    if output_stride not in OUTPUT_STRIDES:
        raise ValueError(
            f"output_stride is {output_stride}, expected 8, 16 or 32: how many pixels a cell of "
            "the coarsest map stands for, along each side."
        )
    if output_stride == 32:
        return network
    strides = {}  # of each new tensor, by id: what it would be in the network as it was

    def call(layer, *args, **kwargs):
        stride = strides.get(id(keras.tree.flatten(args)[0]), 1)
        # Keras clones the layer unbuilt; it may become another one before its first call.
        dilated = spread(layer, stride // output_stride) if stride >= output_stride else layer
        output = dilated(*args, **kwargs)
        strides[id(output)] = stride * getattr(layer, "strides", (1,))[0]
        return output

    clone = keras.models.clone_model(network, call_function=call)
    for layer, copy in zip(network.layers, clone.layers, strict=True):
        weights = {}
        layer.save_own_variables(weights)
        copy.load_own_variables(weights)
        copy.trainable = layer.trainable
    return clone


def spread(layer, rate):
    """Returns a layer that steps by one cell and whose taps, if any, lie `rate` cells apart."""
    config = layer.get_config()
    if isinstance(layer, keras.layers.ZeroPadding2D):
        # It stands before a convolution that would halve the map; see below.
        return keras.layers.ZeroPadding2D.from_config(config | {"padding": 0})
    if isinstance(layer, keras.layers.MaxPooling2D):
        return SpreadMaxPooling2D(rate, dtype=config["dtype"], name=layer.name)
    if isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D):
        changes = {"strides": 1, "dilation_rate": rate, "padding": "same"}
        return type(layer).from_config(config | changes)
    return layer


@keras.saving.register_keras_serializable("seglib")
class SpreadMaxPooling2D(keras.layers.Layer):
    """Takes the maximum over each cell and those `rate` to the right, below, and both.

    For a rate of 1, every second cell of the result `[B, H, W, C]` is 2x2 max pooling.
    """

    def __init__(self, rate, **kwargs):
        super().__init__(**kwargs)
        self.rate = rate

    def call(self, x):
        # Beyond the edge there is nothing to compare with: a cell stays as it is.
        below = ops.concatenate([x[:, self.rate :], x[:, -self.rate :]], 1)
        x = ops.maximum(x, below)
        right = ops.concatenate([x[:, :, self.rate :], x[:, :, -self.rate :]], 2)
        return ops.maximum(x, right)

    def compute_output_shape(self, shape):
        return shape

    def get_config(self):
        return super().get_config() | {"rate": self.rate}
