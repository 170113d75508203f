"""KerasHub's DeepLabV3+, as `deeplab.py` builds it."""

import keras
from deeplab import keras_hubs
from keras_calls import timed
from protocol import serve, versions


def build(*, batch, size, classes, policy="float32"):
    keras.config.set_dtype_policy(policy)
    model = keras_hubs(classes)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    found = timed(model, loss, batch=batch, size=size, classes=classes)
    return {**found, "versions": versions("keras-hub", "keras", "tensorflow")}


if __name__ == "__main__":
    serve(build)
