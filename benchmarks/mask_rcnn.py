"""Times Mask R-CNN stage by stage: `make bench BENCHMARK=mask_rcnn`.

A picture of 1024 x 1024 in the published configuration (ResNet-50, 1000 proposals, 100 detections),
and of 128 x 128 in that for the drawn pets. The weights are random: with trained ones the stages
take as long, as all sizes are fixed; only the suppression needs a few rounds more or less. Pasting
is measured with all 100 masks, boxes of 16 to 400 pixels a side.
"""

import functools
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

from seglib.models import MaskRCNN, MaskRCNNConfig
from seglib.models.rcnn.paste import paste

ROUNDS = 5


def main():
    for title, config in (
        ("published, ResNet-50, 1024 px", MaskRCNNConfig(weights=None)),
        ("small, 128 px", MaskRCNNConfig.small()),
    ):
        report(title, stages(MaskRCNN(config)))


def stages(model):
    """Returns what is done with one picture, step by step, as functions of no argument."""
    config = model.config
    rng = np.random.default_rng(0)
    image = tf.constant(rng.integers(0, 256, (1, *config.image_size, 3)), tf.float32)
    graph = functools.partial(tf.function, autograph=False)
    features = graph(model.features)
    rpn = graph(lambda levels: model.rpn({level: levels[level] for level in config.rpn_levels}))
    propose = graph(model.propose)
    find = graph(model.find)
    levels = features(image)
    said = rpn(levels)
    proposals, _ = propose(*said)
    count, size = config.max_detections, config.mask_size
    masks = rng.random((count, size, size), dtype="float32")
    boxes = random_boxes(rng, count, *config.image_size)
    return {
        "backbone and pyramid": lambda: features(image),
        "region proposal network": lambda: rpn(levels),
        "proposals": lambda: propose(*said),
        "RoI heads and detections": lambda: find(levels, proposals),
        f"pasting {count} masks": lambda: paste(masks, boxes, *config.image_size),
    }


def random_boxes(rng, count, height, width):
    size = rng.uniform(min(16, height / 8), 0.4 * height, (count, 2))
    corner = rng.uniform(0, (height, width) - size)
    return np.concatenate([corner, corner + size], axis=1)


def report(title, calls):
    """Prints the median milliseconds of each step, and its share of the whole."""
    for call in calls.values():
        call()  # builds graphs
    times = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(1000 * (time.perf_counter() - start))
    medians = {name: statistics.median(values) for name, values in times.items()}
    whole = sum(medians.values())
    print(f"\nMask R-CNN, {title}: one picture (median of {ROUNDS})")
    for name, value in (*medians.items(), ("whole", whole)):
        print(f"  {name:<44} {value:9.1f} ms   {value / whole:5.1%}", flush=True)


if __name__ == "__main__":
    main()
