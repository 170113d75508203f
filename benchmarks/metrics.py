"""Times the metrics: mean IoU against Keras and NumPy, and what the boundary metrics cost.

Run it with `make bench BENCHMARK=metrics`; `taskset -c 0` before it keeps it on one
core. 64 masks are four batches of 16; the logits of 64 at once would be 1.4 GB.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from benchmarks.timing import compare
from seglib.metrics import (
    AverageSurfaceDistance,
    BoundaryF1,
    BoundaryIoU,
    HausdorffDistance,
    MeanIoU,
    confusion_matrix,
)
from seglib.metrics.base import predicted_labels

MASKS, BATCH, SIZE, CLASSES = 64, 16, 512, 21
ROUNDS = 5


def main():
    rng = np.random.default_rng(0)
    shape = (BATCH, SIZE, SIZE)
    title = f"{MASKS} masks of {SIZE} x {SIZE}, {CLASSES} classes"
    labels = rng.integers(0, CLASSES, shape, dtype="int32")
    logits = rng.normal(size=(*shape, CLASSES)).astype("float32")
    compare(f"mean IoU from logits: {title}", from_logits(labels, logits), rounds=ROUNDS)
    compare(f"arg-max alone: {title}", arg_maxima(logits), rounds=ROUNDS)
    del logits
    other = rng.integers(0, CLASSES, shape, dtype="int32")
    compare(f"confusion matrix of label maps: {title}", from_labels(labels, other), rounds=ROUNDS)
    compare("boundary metrics: 8 maps of 128 x 128, 3 classes", boundaries(rng), rounds=ROUNDS)


def all_batches(update, *arrays):
    """Returns a call that gives a function as many batches as hold all masks."""

    def call():
        for _ in range(MASKS // BATCH):
            result = update(*arrays)
        return np.asarray(result)  # waits for the last one

    return call


def updated(metric, truth, prediction):
    def update(truth, prediction):
        metric.update_state(truth, prediction)
        return metric.variables[0].value

    return all_batches(update, truth, prediction)


def from_logits(labels, logits):
    labels, logits = keras.ops.convert_to_tensor(labels), keras.ops.convert_to_tensor(logits)
    theirs = keras.metrics.MeanIoU(CLASSES, sparse_y_pred=False)
    return {
        "keras.metrics.MeanIoU": updated(theirs, labels, logits),
        "seglib.metrics.MeanIoU": updated(MeanIoU(CLASSES), labels, logits),
    }


def arg_maxima(logits):
    tensor = keras.ops.convert_to_tensor(logits)
    return {
        "keras.ops.argmax": all_batches(lambda x: keras.ops.argmax(x, axis=-1), tensor),
        "keras.ops.top_k": all_batches(lambda x: keras.ops.top_k(x, 1)[1], tensor),
        "seglib (compiled by XLA on TensorFlow)": all_batches(predicted_labels, tensor),
        "numpy.argmax": all_batches(lambda x: x.argmax(-1), logits),
    }


def from_labels(truth, prediction):
    tensors = keras.ops.convert_to_tensor(truth), keras.ops.convert_to_tensor(prediction)
    theirs = keras.metrics.MeanIoU(CLASSES)

    def checked(truth, prediction):
        keep = truth != 255
        return np.bincount(truth[keep] * CLASSES + prediction[keep], minlength=CLASSES**2)

    def bare(truth, prediction):
        return np.bincount((truth * CLASSES + prediction).ravel(), minlength=CLASSES**2)

    return {
        "numpy.bincount, nothing ignored": all_batches(bare, truth, prediction),
        "numpy.bincount, label 255 ignored": all_batches(checked, truth, prediction),
        "seglib.metrics.confusion_matrix": all_batches(
            lambda t, p: confusion_matrix(t, p, CLASSES), *tensors
        ),
        "seglib.metrics.MeanIoU": updated(MeanIoU(CLASSES, from_logits=False), *tensors),
        "keras.metrics.MeanIoU": updated(theirs, *tensors),
    }


def boundaries(rng, shape=(8, 128, 128), num_classes=3):
    """Discs of other radii in truth and prediction, as a trained model leaves them."""
    row, column = np.mgrid[: shape[1], : shape[2]]
    away = np.hypot(row - shape[1] / 2, column - shape[2] / 2)
    radii = rng.integers(20, 50, (2, shape[0], 1, 1))
    truth, prediction = ((away > r).astype("int32") + (away > r + 6) for r in radii)
    tensors = keras.ops.convert_to_tensor(truth), keras.ops.convert_to_tensor(prediction)
    options = {"num_classes": num_classes, "from_logits": False}
    metrics = [MeanIoU, BoundaryIoU, BoundaryF1, AverageSurfaceDistance, HausdorffDistance]
    calls = {}
    for cls in metrics:
        metric = cls(**options)
        calls[f"{cls.__name__}, outside a graph"] = lambda m=metric: m.update_state(*tensors)
    return calls | in_a_graph([cls(**options) for cls in metrics], tensors)


def in_a_graph(metrics, tensors):
    """The same inside a graph, which is how `fit` and `evaluate` call them."""
    if keras.backend.backend() != "tensorflow":
        return {}
    import tensorflow as tf

    calls = {}
    for metric in metrics:
        update = tf.function(metric.update_state, autograph=False)
        calls[type(metric).__name__] = lambda update=update: update(*tensors)
    return calls


if __name__ == "__main__":
    main()
