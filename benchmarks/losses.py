"""Times every loss, forward and gradient, against plain Keras cross-entropy.

Run it with `make bench BENCHMARK=losses`; `taskset -c 0` before it keeps it on one
core. Read the ratios: plain `SparseCategoricalCrossentropy` is 1.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import inspect
import sys

import keras
import numpy as np
import tensorflow as tf

from benchmarks.timing import compare
from seglib import losses

ROUNDS = 7
# name: batch, size, classes
SHAPES = {"large": (8, 512, 21), "small": (8, 128, 3)}
TWO_CLASSES = {"LovaszHinge"}


def main(names):
    for name in names or SHAPES:
        batch, size, num_classes = SHAPES[name]
        title = f"loss and gradient, {batch} x {size} x {size} x {num_classes}"
        compare(title, candidates(batch, size, num_classes), ROUNDS)


def candidates(batch, size, num_classes):
    rng = np.random.default_rng(0)
    labels = tf.constant(blobs(rng, batch, size, num_classes))
    logits = tf.constant(rng.normal(size=(batch, size, size, num_classes)).astype("float32"))
    plain = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    functions = {"keras.losses.SparseCategoricalCrossentropy": plain} | all_losses()
    return {name: step(function, labels, logits) for name, function in functions.items()}


def blobs(rng, batch, size, num_classes):
    """Returns label maps of patches of 32 x 32 pixels."""
    side = -(-size // 32)
    labels = rng.integers(0, num_classes, (batch, side, side)).astype("int32")
    return labels.repeat(32, axis=1).repeat(32, axis=2)[:, :size, :size]


def all_losses():
    """Returns one loss of each class in `seglib.losses` that takes any number of classes."""
    found = {}
    for name in losses.__all__:
        kind = getattr(losses, name)
        required = [
            p
            for p in inspect.signature(kind).parameters.values()
            if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD
        ]
        # The hinge is for two classes (see lovasz.py), the other the class that all derive from.
        if not required and name not in ("LovaszHinge", "SegmentationLoss"):
            found[name] = kind()
    return found


def step(loss, labels, logits):
    """Returns a compiled function that computes the loss and its gradient."""

    @tf.function(autograph=False)
    def loss_and_gradient():
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = loss(labels, logits)
        return value, tape.gradient(value, logits)

    return lambda: loss_and_gradient()[0].numpy()


if __name__ == "__main__":
    main(sys.argv[1:])
