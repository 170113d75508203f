"""KerasHub's DeepLabV3+."""

import keras
from keras_calls import timed
from keras_hub.models import DeepLabV3Backbone, DeepLabV3ImageSegmenter
from protocol import serve, versions

from seglib.models import backbone


def build(*, batch, size, classes, policy="float32"):
    keras.config.set_dtype_policy(policy)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    found = timed(deeplab(classes, size), loss, batch=batch, size=size, classes=classes)
    return {**found, "versions": versions("keras-hub", "keras", "tensorflow")}


def deeplab(classes, size):
    """Returns KerasHub's model on seglib's ResNet-50 at output stride 16.

    KerasHub's own ResNet has no output stride, so its model gets ours. It takes the stride of a
    level from its name: a P5 at stride 16 has to be called P4 there. Its decoder has one 1x1
    convolution where the paper and ours have two of 3x3, and the logits are computed after the
    enlargement.
    """
    shape = (size, size, 3)
    encoder = backbone("resnet50", output_stride=16, weights=None, input_shape=shape)
    levels = encoder.output
    encoder.pyramid_outputs = {"P2": levels["P2"], "P4": levels["P5"]}
    theirs = DeepLabV3Backbone(
        encoder,
        spatial_pyramid_pooling_key="P4",
        low_level_feature_key="P2",
        upsampling_size=4,
        dilation_rates=[6, 12, 18],
        image_shape=shape,
    )
    return DeepLabV3ImageSegmenter(theirs, classes)


if __name__ == "__main__":
    serve(build)
