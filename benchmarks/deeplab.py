"""Compares DeepLabV3+ on a ResNet-50 of output stride 16 with KerasHub's.

KerasHub is no dependency of seglib: where it cannot be imported, the script says so and times our
models alone. `make bench BENCHMARK=benchmarks/deeplab.py`
"""

import functools
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from timing import compare

from seglib.losses import CrossEntropy
from seglib.models import JPU, backbone, deeplab_v3_plus

SIZE, BATCH, NUM_CLASSES = 256, 4, 3
ROUNDS = 5  # of seconds each
OPTIONS = {"weights": None, "input_shape": (SIZE, SIZE, 3)}  # random weights take the same time


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
    """Returns the models to compare; KerasHub's comes first where there is one."""
    found = {}
    theirs = keras_hubs()
    if theirs is not None:
        found["KerasHub, on our ResNet-50"] = theirs
    found["deeplab_v3_plus"] = deeplab_v3_plus(NUM_CLASSES, **OPTIONS)
    found["deeplab_v3_plus, whole convolutions"] = deeplab_v3_plus(
        NUM_CLASSES, separable=False, **OPTIONS
    )
    found["deeplab_v3_plus, JPU to stride 8"] = deeplab_v3_plus(
        NUM_CLASSES, output_stride=32, pyramid=JPU(256), **OPTIONS
    )
    for model in found.values():
        model.compile("adam", CrossEntropy(), metrics=[])  # KerasHub's has one by default
    return found


def keras_hubs(num_classes=NUM_CLASSES):
    """Returns KerasHub's model, or `None` where it is not installed.

    KerasHub's own ResNet has no output stride, so its model gets ours. It takes the stride of a
    level from its name: a P5 at stride 16 has to be called P4 there. Its decoder has one 1x1
    convolution where the paper and ours have two of 3x3, and the logits are computed after the
    enlargement.
    """
    try:
        from keras_hub.models import DeepLabV3Backbone, DeepLabV3ImageSegmenter
    except ImportError as error:
        print(f"KerasHub is left out: {error}")
        return None
    encoder = backbone("resnet50", output_stride=16, **OPTIONS)
    levels = encoder.output
    encoder.pyramid_outputs = {"P2": levels["P2"], "P4": levels["P5"]}
    theirs = DeepLabV3Backbone(
        encoder,
        spatial_pyramid_pooling_key="P4",
        low_level_feature_key="P2",
        upsampling_size=4,
        dilation_rates=[6, 12, 18],
        image_shape=(SIZE, SIZE, 3),
    )
    return DeepLabV3ImageSegmenter(theirs, num_classes)


def calls(found, call):
    return {name: functools.partial(call, model) for name, model in found.items()}


if __name__ == "__main__":
    main()
