"""The region proposal network: is there an object near each anchor, and where exactly?"""

import keras
from keras import ops

from seglib.models.levels import level_inputs


def rpn(levels, anchors_per_cell, *, filters=256):
    """Builds the region proposal network, which judges the anchors at each cell of each level.

    All levels share the weights.

    Args:
        levels: those that have anchors, `{"P2": [B, H/4, W/4, F], …}`.
        anchors_per_cell: how many ratios there are.
        filters: channels of the 3x3 convolution.

    Returns:
        `keras.Model` from the levels to objectness `[B, A]`, logits, and refinements `[B, A, 4]`,
        both float32, in the order of the anchors: level by level, row by row.

    Reference:
        Ren et al.: Faster R-CNN, NIPS 2015, section 3.1, with one logit per anchor in place of two
        (its footnote 3); on a pyramid: Lin et al.: Feature Pyramid Networks for Object Detection,
        CVPR 2017, section 4.1.
    """
    small = keras.initializers.RandomNormal(stddev=0.01)
    last = {"kernel_initializer": small, "dtype": "float32"}
    shared = keras.layers.Conv2D(filters, 3, padding="same", activation="relu", name="rpn_shared")
    classify = keras.layers.Conv2D(anchors_per_cell, 1, name="rpn_objectness", **last)
    refine = keras.layers.Conv2D(4 * anchors_per_cell, 1, name="rpn_deltas", **last)
    features = level_inputs(levels)
    objectness, deltas = [], []
    for level in features.values():
        x = shared(level)  # (B, H/s, W/s, filters)
        number = x.shape[1] * x.shape[2] * anchors_per_cell
        objectness.append(ops.reshape(classify(x), (-1, number)))
        deltas.append(ops.reshape(refine(x), (-1, number, 4)))
    objectness = ops.concatenate(objectness, axis=1)  # (B, A)
    deltas = ops.concatenate(deltas, axis=1)  # (B, A, 4)
    return keras.Model(features, (objectness, deltas), name="rpn")
