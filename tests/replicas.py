"""Trains on one device and on two replicas of it, and prints both outcomes; see test_replicas.py.

Logical processors must be made before TensorFlow starts, so this is a program of its own.
"""

import json
import sys

import keras
import numpy as np
import tensorflow as tf

from seglib import losses
from seglib.models import MaskRCNN, MaskRCNNConfig

RNG = np.random.default_rng(0)
LOSSES = {
    "cross-entropy": losses.CrossEntropy,
    "dice": losses.Dice,
    "sum": lambda: losses.CrossEntropy() + 0.5 * losses.Dice(),
    "combo": losses.Combo,
    "boundary": losses.Boundary,
}


def segmenter(loss):
    image = keras.Input((8, 8, 3))
    model = keras.Model(image, keras.layers.Conv2D(3, 3, padding="same")(image))
    # Both replicas get the same picture: a mean over pictures is then theirs, however it weights.
    images = np.repeat(RNG.normal(size=(1, 8, 8, 3)).astype("float32"), 2, axis=0)
    masks = np.repeat(RNG.integers(0, 3, (1, 8, 8)), 2, axis=0)
    return model, loss(), images, masks


def detector():
    sizes = {"image_size": (64, 64), "fpn_filters": 8, "rpn_filters": 8, "rois_per_image": 8}
    sizes |= {"pre_nms_top_k_train": 16, "post_nms_top_k_train": 12, "mask_head_filters": (8,)}
    sizes |= {"box_head_widths": (12,), "rpn_samples": 32, "semantic_filters": 8}
    config = MaskRCNNConfig.small(backbone="small", weights=None, alpha=0.25, **sizes)
    model = MaskRCNN(config)
    model.noise = lambda targets, number, training: tf.zeros(
        [tf.shape(targets["classes"])[0], number]
    )
    masks = np.zeros((2, 1, 64, 64), "uint8")
    masks[:, :, 10:40, 12:50] = 1
    targets = {
        "boxes": np.float32([[[10, 12, 40, 50]]] * 2),
        "classes": np.zeros((2, 1), "int32"),
        "masks": masks,
    }
    images = np.repeat(RNG.integers(0, 256, (1, 64, 64, 3)), 2, axis=0).astype("uint8")
    return model, None, images, targets


def outcome(build, scope):
    """Returns the loss of one step of SGD, and how far it moved the weights."""
    global RNG
    RNG = np.random.default_rng(0)
    keras.utils.set_random_seed(0)
    with scope:
        model, loss, x, y = build()
        model.compile(keras.optimizers.SGD(0.1), loss)
    before = model.get_weights()
    data = tf.data.Dataset.from_tensors((x, y)).unbatch().batch(2)
    history = model.fit(data, verbose=0).history
    moved = [after - old for old, after in zip(before, model.get_weights(), strict=True)]
    return history["loss"][0], float(np.sqrt(sum((m.astype("float64") ** 2).sum() for m in moved)))


if __name__ == "__main__":
    devices = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], devices)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    builds = {name: lambda loss=loss: segmenter(loss) for name, loss in LOSSES.items()}
    found = {
        name: [outcome(build, tf.device("CPU:0")), outcome(build, strategy.scope())]
        for name, build in (builds | {"mask r-cnn": detector}).items()
    }
    json.dump(found, sys.stdout)
