"""Folding: a convolution and the BatchNorm behind it as one convolution."""

import keras
from keras import ops

from seglib.fused import batch_norm


def convolve(convolution, norm, x, training=None):
    """Returns `norm(convolution(x))`, in as few passes over the map as may be.

    Where the BatchNorm uses the statistics it has stored, it multiplies each channel by a number
    and adds another one. So does a convolution whose kernel is multiplied by the one and whose bias
    is the other. Where it uses those of the batch, TensorFlow has one kernel for all its steps.

    Args:
        convolution: a built convolution.
        norm: a built normalization.
        x: feature map `[B, H, W, C]`.
        training: whether the statistics are those of the batch and the stored ones follow.

    Returns:
        A feature map.

    Reference:
        Jacob et al.: Quantization and Training of Neural Networks for Efficient
        Integer-Arithmetic-Only Inference, CVPR 2018, section 3.2.
    """
    if not (foldable(convolution) and isinstance(norm, keras.layers.BatchNormalization)):
        return norm(convolution(x), training=training)
    if training and norm.trainable:
        return batch_norm(norm, convolution(x))
    return folded(convolution, x, norm)


def folded(convolution, x, norm):
    """Returns `norm(convolution(x))` with the stored statistics, as one convolution."""
    scale = ops.rsqrt(norm.moving_variance + norm.epsilon)  # (C,)
    scale = scale * norm.gamma if norm.scale else scale
    bias = -scale * norm.moving_mean  # (C,)
    bias = bias + norm.beta if norm.center else bias
    bias = bias + scale * convolution.bias if convolution.use_bias else bias
    kernel = convolution.kernel
    if isinstance(convolution, keras.layers.DepthwiseConv2D):
        kernel = ops.cast(kernel * ops.reshape(scale, kernel.shape[2:]), x.dtype)
        x = ops.depthwise_conv(
            x,
            kernel,
            strides=convolution.strides,
            padding=convolution.padding,
            dilation_rate=convolution.dilation_rate,
        )
    else:
        x = convolution.convolution_op(x, ops.cast(kernel * scale, x.dtype))
    return ops.add(x, ops.cast(bias, x.dtype))  # TensorFlow adds it within the convolution


class FoldedConvolution(keras.layers.Layer):
    """A convolution and the BatchNorm behind it as one layer; see `convolve`.

    It works with the weights of the two layers as they are at each call, also while they train.

    Args:
        convolution: `Conv2D` or `DepthwiseConv2D` without activation.
        norm: `BatchNormalization` over the channels.

    Shape:
        As the convolution.
    """

    def __init__(self, convolution, norm, **kwargs):
        # Without autocast the product is computed in full precision and then rounded once.
        super().__init__(dtype=norm.dtype_policy, autocast=False, **kwargs)
        self.convolution = convolution
        self.norm = norm

    def build(self, shape):
        """Does nothing: both layers come built."""

    def compute_output_shape(self, shape):
        return self.convolution.compute_output_shape(shape)

    def call(self, x, training=None):
        return convolve(self.convolution, self.norm, ops.cast(x, self.compute_dtype), training)


def fold(network):
    """Returns a network that says and learns the same, with each BatchNorm in its convolution.

    The new network has the old one's layers, so either follows the other's training.

    Args:
        network: `keras.Model`; one that is not functional is returned as it is.

    Returns:
        `keras.Model` with the same input and outputs.
    """
    if type(network).__name__ != "Functional":
        return network
    convolved = {}  # by the id of its result: a convolution and what it was applied to

    def call(layer, x, *args, **kwargs):
        if id(x) in convolved and isinstance(layer, keras.layers.BatchNormalization):
            convolution, before = convolved[id(x)]
            return FoldedConvolution(convolution, layer, name=f"{layer.name}_folded")(before)
        result = layer(x, *args, **kwargs)
        if foldable(layer):
            convolved[id(result)] = (layer, x)
        return result

    return keras.models.clone_model(network, clone_function=lambda layer: layer, call_function=call)


def folded_call(network):
    """Returns a function `(x, training)` that calls the folded network.

    A layer that held the folded network itself would have its weights twice in Keras's eyes.
    """
    network = fold(network)
    return lambda x, training: network(x, training=training)


def foldable(layer):
    """Returns whether a layer is a plain convolution without activation, channels last."""
    return (
        isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D)
        and layer.activation is keras.activations.linear
        and layer.data_format == "channels_last"
    )
