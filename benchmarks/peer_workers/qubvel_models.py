"""segmentation_models by P. Iakubovskii, which needs Keras 2: tf_keras stands in for it."""

import os

os.environ |= {"SM_FRAMEWORK": "tf.keras", "TF_USE_LEGACY_KERAS": "1"}

import segmentation_models
import tensorflow as tf
from keras_calls import ones, timed
from protocol import serve, versions


def build(*, batch, size, classes):
    """A U-Net whose encoder is frozen as the library does it: its BatchNorm layers still train."""
    model = segmentation_models.Unet(
        "mobilenetv2",
        input_shape=(size, size, 3),
        classes=classes,
        activation="softmax",
        encoder_weights=None,
        encoder_freeze=True,
    )
    loss = tf.keras.losses.SparseCategoricalCrossentropy()
    found = timed(model, loss, batch=batch, size=size, classes=classes, pixels=ones)
    return {**found, "versions": versions("segmentation-models", "tf_keras", "tensorflow")}


if __name__ == "__main__":
    serve(build)
