"""Times the Lovász losses, forward and gradient, against plain Keras cross-entropy.

Run it with `make bench BENCHMARK=lovasz`; `taskset -c 0` before it keeps it on one
core. Read the ratios: plain `SparseCategoricalCrossentropy` is 1.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

from benchmarks.losses import blobs, step
from benchmarks.timing import compare
from seglib.losses.lovasz import LovaszHinge, LovaszSoftmax

ROUNDS, ROUNDS_OF_SORT = 7, 2
SHAPE, NUM_CLASSES = (8, 512, 512), 21


def main():
    rng = np.random.default_rng(0)
    plain = {"keras.losses.SparseCategoricalCrossentropy": plain_cross_entropy()}
    pair = pair_of(rng, NUM_CLASSES)
    weighted = (*pair, tf.constant(rng.random(SHAPE).astype("float32")))
    title = f"loss and gradient, {' x '.join(map(str, (*SHAPE, NUM_CLASSES)))}"
    histogram = {
        "LovaszSoftmax()": LovaszSoftmax(),
        "LovaszSoftmax(per_image=False)": LovaszSoftmax(per_image=False),
    }
    candidates = {name: step(loss, *pair) for name, loss in (plain | histogram).items()}
    candidates["LovaszSoftmax(), pixel weights"] = step(with_weights(weighted[2]), *pair)
    compare(title, candidates, ROUNDS)
    compare(
        f"{title}, exact",
        {
            name: step(loss, *pair)
            for name, loss in (plain | {'LovaszSoftmax(method="sort")': exact()}).items()
        },
        ROUNDS_OF_SORT,
    )
    binary = pair_of(rng, 2)
    compare(
        f"loss and gradient, {' x '.join(map(str, (*SHAPE, 2)))}",
        {
            name: step(loss, *binary)
            for name, loss in (
                plain | histogram | {"LovaszSoftmax(sort)": exact(), "LovaszHinge()": LovaszHinge()}
            ).items()
        },
        ROUNDS,
    )


def plain_cross_entropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def exact():
    return LovaszSoftmax(method="sort")


def with_weights(weights):
    loss = LovaszSoftmax()
    return lambda labels, logits: loss(labels, logits, weights)


def pair_of(rng, num_classes):
    """Returns label maps of patches and logits of noise, as tensors."""
    labels = blobs(rng, SHAPE[0], SHAPE[1], num_classes)
    logits = rng.normal(size=(*SHAPE, num_classes)).astype("float32")
    return tf.constant(labels), tf.constant(logits)


if __name__ == "__main__":
    main()
