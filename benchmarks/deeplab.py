"""Compares variants of DeepLabV3+ on a ResNet-50: `make bench BENCHMARK=deeplab`.

Other libraries' DeepLabV3+ take part in `peers.py`.
"""

import functools
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from benchmarks.timing import compare
from seglib.losses import CrossEntropy
from seglib.models import deeplab_v3_plus, jpu

SIZE, BATCH, NUM_CLASSES = 256, 4, 3
ROUNDS = 5  # of seconds each
# Random weights take the same time.
OPTIONS = {"backbone": "resnet50", "weights": None, "input_shape": (SIZE, SIZE, 3)}


def main():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (BATCH, SIZE, SIZE, 3), dtype="uint8")
    masks = rng.integers(0, NUM_CLASSES, (BATCH, SIZE, SIZE), dtype="uint8")
    found = models()
    steps = calls(found, lambda model: model.train_on_batch(images, masks))
    compare(f"DeepLabV3+ training step, {BATCH} x {SIZE} px", steps, ROUNDS)
    predictions = calls(found, lambda model: model.predict_on_batch(images))
    compare(f"DeepLabV3+ prediction, {BATCH} x {SIZE} px", predictions, ROUNDS)


def models():
    """Returns the models to compare."""
    variants = {
        "deeplab_v3_plus": {},
        "deeplab_v3_plus, whole convolutions": {"separable": False},
        "deeplab_v3_plus, JPU to stride 8": {
            "output_stride": 32,
            "pyramid": functools.partial(jpu, filters=256),
        },
    }
    found = {
        name: deeplab_v3_plus(NUM_CLASSES, **variant, **OPTIONS)
        for name, variant in variants.items()
    }
    for model in found.values():
        model.compile("adam", CrossEntropy())
    return found


def calls(found, call):
    return {name: functools.partial(call, model) for name, model in found.items()}


if __name__ == "__main__":
    main()
