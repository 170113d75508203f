"""What decoders make of a backbone's levels: FPN, JPU and ASPP."""

import keras
from keras import ops

from seglib.models.convolution import conv_norm_relu
from seglib.models.layers import Upsample

# The rates of the papers, by output stride: the same reach in pixels each time.
RATES = {8: (12, 24, 36), 16: (6, 12, 18), 32: (3, 6, 9)}


def aspp(x, stride=16, *, filters=256, rates=None, separable=False, pooling=True, dropout=0.1):
    """Looks at each cell, at its surroundings near and far, and at the whole picture.

    Side by side: a 1x1 convolution, a 3x3 convolution at each rate, and the mean over the map,
    which is the same everywhere. A 1x1 convolution mixes them. Where the kernels of two rates
    multiply by the same number of cells, they see the same many pixels: halve the rates where the
    output stride doubles.

    Args:
        x: feature map `[B, H, W, C]`.
        stride: of that map, in pixels.
        filters: channels of each branch and of the result.
        rates: of the 3x3 convolutions; `None` takes those of the papers for this stride, `RATES`.
        separable: split the 3x3 convolutions into one kernel per channel and a 1x1 convolution.
        pooling: include the mean over the map.
        dropout: share of the result's values dropped in training.

    Returns:
        Feature map `[B, H, W, filters]`.

    Reference:
        Chen et al.: Rethinking Atrous Convolution for Semantic Image Segmentation,
        arXiv:1706.05587, section 3.3; separable: Chen et al.: Encoder-Decoder with Atrous Separable
        Convolution for Semantic Image Segmentation, ECCV 2018.
    """
    cell = conv_norm_relu(x, filters, 1, name="aspp_cell")
    views = [cell]
    for rate in RATES[stride] if rates is None else rates:
        options = {"dilation_rate": rate, "separable": separable, "name": f"aspp_rate{rate}"}
        views.append(conv_norm_relu(x, filters, **options))
    if pooling:
        mean = keras.layers.GlobalAveragePooling2D(keepdims=True, name="aspp_mean")(x)
        mean = conv_norm_relu(mean, filters, 1, name="aspp_picture")  # (B, 1, 1, filters)
        views.append(keras.layers.Add(name="aspp_everywhere")([ops.zeros_like(cell), mean]))
    x = concatenate(views, "aspp_concat")  # (B, H, W, 5 filters)
    x = conv_norm_relu(x, filters, 1, name="aspp_project")  # (B, H, W, filters)
    return keras.layers.Dropout(dropout, name="aspp_dropout")(x)


def fpn(features, strides, *, filters=256, min_level=2, max_level=5):
    """Carries what the coarse levels know down to the fine ones, all with as many channels.

    A 1x1 convolution brings each level to one width, the sum so far is enlarged (each cell
    repeated) and added, and a 3x3 convolution smooths. No normalization and no ReLU, as published.

    Args:
        features: `{"P1": [B, H/2, W/2, …], …, "P5": …}`.
        strides: of these levels, `{"P1": 2, …}`.
        filters: channels of each level.
        min_level: the finest level, 1 to 5.
        max_level: the coarsest level, `min_level` to 6. P6 is every second cell of P5.

    Returns:
        `{"P2": [B, H/4, W/4, filters], …, "P5": [B, H/32, W/32, filters]}`, or the levels asked
        for, and their strides. At P6 sizes round up.

    Raises:
        ValueError: for levels that do not exist.

    Reference:
        Lin et al.: Feature Pyramid Networks for Object Detection, CVPR 2017, section 3.
    """
    if not 1 <= min_level <= 5 or not min_level <= max_level <= 6:
        raise ValueError(
            f"The levels are {min_level} to {max_level}, expected a first of 1 to 5 and a last "
            "from there to 6: the backbone has P1 to P5."
        )
    levels = [f"P{n}" for n in range(min_level, min(max_level, 5) + 1)]
    found, total, above = {}, None, None
    for level in reversed(levels):
        x = keras.layers.Conv2D(filters, 1, name=f"fpn_lateral_{level}")(features[level])
        if above:
            factor = strides[above] // strides[level]
            total = keras.layers.UpSampling2D(factor, name=f"fpn_enlarge_{above}")(total)
            x = keras.layers.Add(name=f"fpn_add_{level}")([x, total])
        total, above = x, level  # (B, H/s, W/s, filters)
        smooth = keras.layers.Conv2D(filters, 3, padding="same", name=f"fpn_smooth_{level}")
        found[level] = smooth(total)
    found = {level: found[level] for level in levels}
    strides = {level: strides[level] for level in levels}
    if max_level == 6:
        found["P6"] = keras.layers.MaxPooling2D(1, strides=2, name="fpn_P6")(found["P5"])
        strides["P6"] = 2 * strides["P5"]
    return found, strides


def jpu(features, strides, *, filters=512, rates=(1, 2, 4, 8)):
    """Makes of P3, P4 and P5 a map like the P5 of a backbone with an output stride of 8.

    A dilated backbone computes its last stages at four to sixteen times as many cells. Here each of
    the three maps is narrowed and enlarged to the size of P3, and side by side they pass through
    convolutions at several rates.

    Args:
        features: `{"P1": …, "P5": [B, H/32, W/32, C5]}`.
        strides: of these levels, `{"P1": 2, …, "P5": 32}`.
        filters: channels of each narrowed map and of each rate.
        rates: of the convolutions on the joint map.

    Returns:
        The same levels but `"P5": [B, H/8, W/8, len(rates) * filters]`, and their strides.

    Reference:
        Wu et al.: FastFCN: Rethinking Dilated Convolution in the Backbone for Semantic
        Segmentation, arXiv:1903.11816, section 3.3.
    """
    maps = []
    for level in ("P3", "P4", "P5"):
        x = conv_norm_relu(features[level], filters, name=f"jpu_{level}")
        factor = strides[level] // strides["P3"]
        maps.append(Upsample(factor, name=f"jpu_enlarge_{level}")(x))  # (B, H/8, W/8, filters)
    x = keras.layers.Concatenate(name="jpu_joint")(maps)
    views = []
    for rate in rates:
        options = {"dilation_rate": rate, "separable": True, "norm_between": True}
        views.append(conv_norm_relu(x, filters, name=f"jpu_rate{rate}", **options))
    joint = concatenate(views, "jpu_concat")  # (B, H/8, W/8, len(rates) * filters)
    return {**features, "P5": joint}, {**strides, "P5": strides["P3"]}


def concatenate(maps, name):
    """Puts maps `[B, H, W, …]` side by side; a single one is returned as it is."""
    return keras.layers.Concatenate(name=name)(maps) if len(maps) > 1 else maps[0]
