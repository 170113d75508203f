"""Times the boundary losses and the distance transform against plain Keras cross-entropy.

Run it with `make bench BENCHMARK=boundary_losses`; `taskset -c 0` before it keeps it
on one core. Read the ratios: plain `SparseCategoricalCrossentropy`, forward and gradient, is 1.
The time of a distance transform grows with the largest distance in the batch, so two kinds of
pictures are measured: large blobs in truth and prediction, and noise as the prediction.
"""

import os
import resource

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from scipy.ndimage import distance_transform_edt, gaussian_filter

from benchmarks.timing import compare
from seglib.core.distance import pack_distances, signed_distance
from seglib.losses import Boundary, CrossEntropy, DistancePenalized, Hausdorff, ShapeAware


def main():
    boundary()
    transform(8, 128, 3)
    transform(1, 512, 21)


def boundary(batch=8, size=128, num_classes=3):
    """Compares the losses, forward and gradient, with and without packed truth."""
    rng = np.random.default_rng(0)
    logits = blobs(rng, batch, size, num_classes)
    labels = tf.constant(blobs(rng, batch, size, num_classes).argmax(-1).astype("int32"))
    noise = rng.normal(size=logits.shape).astype("float32")
    for kind, prediction in {"blobs": logits, "noise": noise}.items():
        title = f"loss and gradient, {batch} x {size} x {size} x {num_classes}, prediction: {kind}"
        compare(title, candidates(labels, tf.constant(prediction)))


def candidates(labels, logits):
    packed = pack_distances(labels, logits.shape[-1])
    plain = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return {
        "keras.losses.SparseCategoricalCrossentropy": step(plain, labels, logits),
        "CrossEntropy": step(CrossEntropy(), labels, logits),
        "Boundary, packed": step(Boundary(), packed, logits),
        "Hausdorff, one-sided, packed": step(Hausdorff(one_sided=True), packed, logits),
        "Hausdorff, packed": step(Hausdorff(), packed, logits),
        "ShapeAware, packed": step(ShapeAware(), packed, logits),
        "DistancePenalized, packed": step(DistancePenalized(), packed, logits),
        "Boundary": step(Boundary(), labels, logits),
        "Hausdorff": step(Hausdorff(), labels, logits),
        "ShapeAware": step(ShapeAware(), labels, logits),
    }


def transform(batch, size, num_classes):
    """Compares the signed distances of all classes with SciPy's transform of the same maps."""
    logits = blobs(np.random.default_rng(0), batch, size, num_classes)
    labels = tf.constant(logits.argmax(-1).astype("int32"))
    dynamic = tf.function(
        lambda y: signed_distance(y, num_classes),
        input_signature=[tf.TensorSpec([None, None, None], "int32")],
        autograph=False,
    )
    masks = [m == c for m in labels.numpy() for c in range(num_classes)]

    def scipys():
        for mask in masks:  # outside and inside
            distance_transform_edt(~mask), distance_transform_edt(mask)

    compare(
        f"signed distances, {batch} x {size} x {size} x {num_classes}",
        {
            "scipy.ndimage.distance_transform_edt, twice": scipys,
            "signed_distance": lambda: signed_distance(labels, num_classes).numpy(),
            "signed_distance, sizes unknown (no XLA)": lambda: dynamic(labels).numpy(),
        },
        rounds=5,
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"  largest distance {np.abs(signed_distance(labels, num_classes)).max():.0f} px, ", end=""
    )
    print(f"peak memory of the process so far {peak:.2f} GiB")


def blobs(rng, batch, size, num_classes):
    """Returns logits whose arg-max is a map of smooth regions, about 30 pixels wide."""
    noise = rng.normal(size=(batch, size, size, num_classes))
    return 300 * gaussian_filter(noise, (0, 12, 12, 0)).astype("float32")


def step(loss, labels, logits):
    """Returns a compiled function that computes the loss and its gradient."""

    @tf.function(autograph=False)
    def loss_and_gradient(labels, logits):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = loss(labels, logits)
        return value, tape.gradient(value, logits)

    return lambda: loss_and_gradient(labels, logits)[0].numpy()


if __name__ == "__main__":
    main()
