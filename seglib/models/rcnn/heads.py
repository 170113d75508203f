"""The heads: class, box, mask and mask score of each region, and a label map of the picture.

All but the last take regions `[N, s, s, F]`, N being those of all pictures of a batch.
"""

import keras
from keras import ops

from seglib.models.fusion import panoptic_fusion
from seglib.models.levels import level_inputs


def box_head(shape, num_classes, *, widths=(1024, 1024)):
    """Builds the head that classifies each region and refines its box.

    Args:
        shape, num_classes: as in `mask_head`.
        widths: of the hidden layers, all fully connected.

    Returns:
        `keras.Model` from regions `[N, s, s, F]` to class logits `[N, C + 1]`, background last, and
        deltas `[N, C, 4]`, one refinement per class; both float32.

    Reference:
        Lin et al.: Feature Pyramid Networks for Object Detection, CVPR 2017, section 4.2.
    """
    regions = region_input(shape)
    x = keras.layers.Flatten(name="box_head_flat")(regions)  # (N, s s F)
    x = dense_relu(x, widths, name="box_head")  # (N, width)
    logits = keras.layers.Dense(num_classes + 1, **small(0.01), name="box_head_classify")(x)
    deltas = keras.layers.Dense(4 * num_classes, **small(0.001), name="box_head_refine")(x)
    deltas = ops.reshape(deltas, (-1, num_classes, 4))  # (N, C, 4)
    return keras.Model(regions, (logits, deltas), name="box_head")


def mask_head(shape, num_classes, *, filters=(256,) * 4):
    """Builds the head that tells which cells of each region belong to the object.

    The classes do not compete: each has a mask of its own, and the box head decides between them.

    Args:
        shape: of a region's features, `(s, s, F)`.
        num_classes: C.
        filters: channels of the 3x3 convolutions; the transposed one has as many as the last.

    Returns:
        `keras.Model` from regions `[N, s, s, F]` to logits `[N, 2s, 2s, C]`, float32.

    Reference:
        He et al.: Mask R-CNN, ICCV 2017, figure 4, right (four convolutions of 256).
    """
    regions = region_input(shape)
    x = conv_relu(regions, filters, name="mask_head")  # (N, s, s, filters)
    x = keras.layers.Conv2DTranspose(
        filters[-1],
        2,
        strides=2,
        activation="relu",
        kernel_initializer="he_normal",
        name="mask_head_enlarge",
    )(x)  # (N, 2s, 2s, filters)
    logits = keras.layers.Conv2D(
        num_classes,
        1,
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.001),
        dtype="float32",
        name="mask_head_classify",
    )(x)  # (N, 2s, 2s, C)
    return keras.Model(regions, logits, name="mask_head")


def mask_score_head(shape, num_classes, *, filters=(256,) * 4, widths=(1024, 1024)):
    """Builds the head that predicts the IoU of each predicted mask with the true one.

    Args:
        shape, num_classes: as in `mask_head`.
        filters: channels of the 3x3 convolutions, the last of which halves the resolution.
        widths: of the fully connected layers.

    Returns:
        `keras.Model` from regions and masks `[N, 2s, 2s]`, 0 to 1, to `[N, C]`, float32.

    Reference:
        Huang et al.: Mask Scoring R-CNN, CVPR 2019, section 3.2.
    """
    height, width, _ = shape
    regions, masks = region_input(shape), region_input((2 * height, 2 * width))
    mask = keras.layers.MaxPooling2D(2, name="mask_score_head_halve")(masks[..., None])
    x = keras.layers.Concatenate(name="mask_score_head_concat")([regions, mask])  # (N, s, s, F + 1)
    x = conv_relu(x, filters, last_stride=2, name="mask_score_head")  # (N, s/2, s/2, filters)
    x = keras.layers.Flatten(name="mask_score_head_flat")(x)
    x = dense_relu(x, widths, name="mask_score_head")  # (N, width)
    score = keras.layers.Dense(num_classes, dtype="float32", name="mask_score_head_score")(x)
    return keras.Model([regions, masks], score, name="mask_score_head")


def semantic_head(levels, num_classes, *, strides, filters=128):
    """Builds the head that classifies each cell of the finest level, background included.

    Panoptic results need it. Its loss also reaches every cell of the features, unlike those of the
    few regions: a network that starts from random weights learns several times as fast with it.

    Args:
        levels: the pyramid's output, `{"P2": [B, H/4, W/4, F], …}`.
        num_classes: of the label map, background included.
        strides: of the levels to take, from fine to coarse, `{"P2": 4, …}`.

    Returns:
        `keras.Model` from the levels to logits `[B, H/4, W/4, num_classes]`, float32.

    Reference:
        Kirillov et al.: Panoptic Feature Pyramid Networks, CVPR 2019, section 3.
    """
    features = level_inputs(levels)
    maps = {level: features[level] for level in strides}
    x = panoptic_fusion(maps, strides, next(iter(strides)), filters=filters)
    logits = keras.layers.Conv2D(num_classes, 1, **small(0.01), name="classify")(x)
    return keras.Model(features, logits, name="semantic_head")


def region_input(shape):
    """Returns the input of a head, of the dtype that the features have."""
    return keras.Input(shape, dtype=keras.config.dtype_policy().compute_dtype)


def small(stddev):
    """Returns options of a last layer: small weights, and float32 under mixed precision."""
    normal = keras.initializers.RandomNormal(stddev=stddev)
    return {"kernel_initializer": normal, "dtype": "float32"}


def dense_relu(x, widths, *, name):
    """Applies fully connected layers with ReLU."""
    for n, width in enumerate(widths):
        x = keras.layers.Dense(width, activation="relu", name=f"{name}_hidden_{n}")(x)
    return x


def conv_relu(x, filters, *, last_stride=1, name):
    """Applies 3x3 convolutions with ReLU."""
    for n, channels in enumerate(filters):
        x = keras.layers.Conv2D(
            channels,
            3,
            strides=last_stride if n == len(filters) - 1 else 1,
            padding="same",
            activation="relu",
            kernel_initializer="he_normal",
            name=f"{name}_conv_{n}",
        )(x)
    return x
