"""Compares FCN-8 on VGG16 with the well-known Keras walk-throughs' model: time, then mean IoU.

Their model is rebuilt here from Keras's own layers: `make bench BENCHMARK=fcn`. Both
learn to segment the drawn pets from random numbers, as the ImageNet weights are not always at hand.
"""

import functools
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

from benchmarks.timing import compare
from seglib.core.precision import dtype_policy
from seglib.data import augment, sample
from seglib.losses import CrossEntropy
from seglib.metrics import MeanIoU
from seglib.models import fcn8

SIZE, BATCH, NUM_CLASSES = 224, 4, 3
ROUNDS = 5  # of seconds each
# What the models learn: enough for both to leave the start far behind, in some minutes.
LEARN = {"image_size": 64, "batch_size": 16}
EPOCHS, RATE = 8, 1e-4


def main():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (BATCH, SIZE, SIZE, 3), dtype="uint8")
    masks = rng.integers(0, NUM_CLASSES, (BATCH, SIZE, SIZE), dtype="uint8")
    for what, frozen in (("VGG16 frozen", True), ("all trained", False)):
        steps = training_steps(images, masks, frozen)
        compare(f"FCN-8 training step, {what}, {BATCH} x {SIZE} px", steps, ROUNDS)
    compare(f"FCN-8 prediction, {BATCH} x {SIZE} px", predictions(images), ROUNDS)
    compare_scores()


def models(frozen=False):
    """Returns the models to compare; random weights cost the same time as trained ones."""
    options = {"backbone": "vgg16", "weights": None, "input_shape": (SIZE, SIZE, 3)}
    options["freeze_backbone"] = frozen
    found = {
        "walk-through, plain Keras": walk_through(frozen),
        "fcn8, head of 4096 channels": fcn8(NUM_CLASSES, filters=4096, **options),
        "fcn8": fcn8(NUM_CLASSES, **options),
    }
    with dtype_policy("mixed_bfloat16"):
        found["fcn8, mixed_bfloat16"] = fcn8(NUM_CLASSES, **options)
    for name, model in found.items():
        softmax = keras.losses.SparseCategoricalCrossentropy()
        model.compile("adam", CrossEntropy() if name.startswith("fcn8") else softmax)
    return found


def compare_scores():
    """Prints the mean IoU on the drawn test pets after the same training, from the same start."""
    size = LEARN["image_size"]
    test = sample.load("test", image_size=size)
    for name in ("walk-through, plain Keras", "fcn8"):
        keras.utils.set_random_seed(0)
        theirs = walk_through(False, size) if name != "fcn8" else None
        options = {"backbone": "vgg16", "weights": None, "input_shape": (size, size, 3)}
        model = theirs or fcn8(NUM_CLASSES, **options)
        softmax = keras.losses.SparseCategoricalCrossentropy()
        model.compile(keras.optimizers.Adam(RATE), softmax if theirs else CrossEntropy())
        train = sample.load("trainval", augment=augment.flip_only(), **LEARN)
        scale = keras.applications.vgg16.preprocess_input if theirs else lambda x: x
        as_seen = train.map(lambda x, y, scale=scale: (scale(tf.cast(x, tf.float32)), y))
        model.fit(as_seen, epochs=EPOCHS, shuffle=False, verbose=0)
        metric = MeanIoU(NUM_CLASSES)
        for images, masks in test:
            metric.update_state(masks, model.predict_on_batch(scale(tf.cast(images, tf.float32))))
        print(f"{name:<28} mean IoU {float(metric.result()):.3f} after {EPOCHS} epochs", flush=True)


def walk_through(frozen, size=SIZE):
    """Returns the model of the walk-throughs: 4096 channels twice, ReLU on the scores, softmax."""
    conv, transpose = keras.layers.Conv2D, keras.layers.Conv2DTranspose
    vgg16 = keras.applications.VGG16(include_top=False, weights=None, input_shape=(size, size, 3))
    vgg16.trainable = not frozen
    pool3, pool4, pool5 = (vgg16.get_layer(f"block{n}_pool").output for n in (3, 4, 5))
    x = conv(4096, 7, padding="same", activation="relu")(pool5)
    x = keras.layers.Dropout(0.5)(x)
    x = conv(4096, 1, activation="relu")(x)
    x = keras.layers.Dropout(0.5)(x)
    x = conv(NUM_CLASSES, 1, activation="relu")(x)
    for pool in (pool4, pool3):
        x = transpose(NUM_CLASSES, 4, strides=2, padding="same", use_bias=False)(x)
        x = keras.layers.Add()([x, conv(NUM_CLASSES, 1, activation="relu")(pool)])
    x = transpose(NUM_CLASSES, 16, strides=8, padding="same", use_bias=False)(x)
    return keras.Model(vgg16.input, keras.layers.Softmax()(x))


def training_steps(images, masks, frozen):
    return calls(models(frozen), lambda model, x: model.train_on_batch(x, masks), images)


def predictions(images):
    return calls(models(), lambda model, x: model.predict_on_batch(x), images)


def calls(found, call, images):
    """Returns a call a model; the pixels of the walk-through are scaled in its input pipeline."""
    scaled = keras.applications.vgg16.preprocess_input(images.astype("float32"))
    return {
        name: functools.partial(call, model, images if name.startswith("fcn8") else scaled)
        for name, model in found.items()
    }


if __name__ == "__main__":
    main()
