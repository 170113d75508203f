"""A decoder composed of a pyramid, a context, a fusion and convolutions."""

import keras

from seglib.models.convolution import conv_norm_relu
from seglib.models.layers import Upsample
from seglib.models.levels import level_inputs, level_strides

FUSIONS = ("deeplab_v3_plus", "pyramid_fusion", "panoptic_fpn_fusion", None)


def fusion_decoder(
    levels,
    fusion="deeplab_v3_plus",
    *,
    pyramid=None,
    context=None,
    level="P5",
    low_level="P2",
    low_level_filters=48,
    num_convs=2,
    filters=256,
    separable=False,
    output_stride=32,
):
    """Builds a decoder that makes one map of a backbone's levels; each step can be left out.

    1. `pyramid` remakes the levels: `fpn`, `jpu`, or nothing.
    2. `context` works on the level `level`: `aspp`, or nothing.
    3. `fusion` brings in the other levels:
       `"deeplab_v3_plus"` puts the backbone's `low_level` beside the enlarged `level`;
       `"pyramid_fusion"` adds all levels at the size of `level`;
       `"panoptic_fpn_fusion"` adds the levels from `level` on, with a convolution before each
       doubling; `None` takes `level` alone.
    4. `num_convs` 3x3 convolutions with `filters` channels.

    Args:
        levels: the backbone's output, `{"P1": …, "P5": …}`.
        fusion: one of these four.
        pyramid: function from the levels and their strides to other levels and their strides.
            `functools.partial(fpn, filters=128)` sets options.
        context: function from a map and its stride to a map of the same size.
        level: the level that the result starts from, such as `"P5"`.
        low_level: for `"deeplab_v3_plus"`, the level with the detail.
        low_level_filters: channels that it is narrowed to.
        num_convs: how many convolutions follow.
        filters: their channels, and those of `"panoptic_fpn_fusion"`.
        separable: split them into one kernel per channel and a 1x1 convolution.
        output_stride: that of the backbone.

    Returns:
        `keras.Model` from the levels that it needs to a map `[B, H/s, W/s, filters]`, with the
        stride of `low_level` for `"deeplab_v3_plus"` and of `level` otherwise.

    Raises:
        ValueError: for an unknown fusion or level, or levels that do not fit each other.

    Example:
        >>> pyramid = functools.partial(fpn, filters=128)
        >>> decoder = fusion_decoder(backbone.output, "pyramid_fusion", pyramid=pyramid, level="P2")

    Reference:
        The terms are those of `SegmentationHead` in the TensorFlow Model Garden
        (https://github.com/tensorflow/models). `"deeplab_v3_plus"`: Chen et al., ECCV 2018;
        `"panoptic_fpn_fusion"`: Kirillov et al.: Panoptic Feature Pyramid Networks, CVPR 2019.
    """
    if fusion not in FUSIONS:
        expected = ", ".join(map(repr, FUSIONS))
        raise ValueError(f"fusion is {fusion!r}, expected one of {expected}.")
    names = None  # all levels
    if not pyramid and fusion in ("deeplab_v3_plus", None):
        names = [x for x in levels if x == level or (fusion and x == low_level)]
    features, strides = level_inputs(levels, names), level_strides(output_stride)
    maps, map_strides = pyramid(features, strides) if pyramid else (features, strides)
    check_level(level, map_strides)
    x = maps[level]
    if context:
        x = context(x, map_strides[level])
    if fusion == "deeplab_v3_plus":
        check_level(low_level, strides)
        factor, rest = divmod(map_strides[level], strides[low_level])
        if rest:
            raise ValueError(
                f"low_level is {low_level!r}, expected one at least as fine as {level!r}, which it "
                "is put beside."
            )
        x = low_level_fusion(x, features[low_level], factor, filters=low_level_filters)
    elif fusion:
        # Beyond P5 sizes round up: such maps do not lie on each other.
        maps = {name: maps[name] for name in maps if name <= "P5"} | {level: x}
        if fusion == "pyramid_fusion":
            x = pyramid_fusion(maps, map_strides, level)
        else:
            x = panoptic_fusion(maps, map_strides, level, filters=filters)
    for n in range(num_convs):
        x = conv_norm_relu(x, filters, separable=separable, name=f"conv{n}")
    return keras.Model(features, x, name="decoder")


def low_level_fusion(coarse, fine, factor, *, filters):
    """Puts a fine map, narrowed so that it adds only detail, beside the enlarged coarse one.

    Chen et al., section 3.1 and table 1. `[B, H/factor, W/factor, C]` and `[B, H, W, …]` become
    `[B, H, W, C + filters]`.
    """
    coarse = Upsample(factor, name="low_level_enlarge")(coarse)
    fine = conv_norm_relu(fine, filters, 1, name="low_level_narrow")
    return keras.layers.Concatenate(name="low_level_concat")([coarse, fine])


def pyramid_fusion(maps, strides, level):
    """Brings all levels of a pyramid, all as wide, to the size of one of them and adds them up.

    Coarser maps are enlarged bilinearly, finer ones averaged.

    Raises:
        ValueError: if the levels differ in width.
    """
    widths = {name: x.shape[-1] for name, x in maps.items()}
    if len(set(widths.values())) > 1:
        found = ", ".join(f"{name}: {width}" for name, width in widths.items())
        raise ValueError(
            f"The levels have different numbers of channels ({found}), expected the same: they are "
            "added up. Put a feature pyramid before, with pyramid=fpn."
        )
    resized = []
    for name, x in maps.items():
        if strides[name] > strides[level]:
            x = Upsample(strides[name] // strides[level], name=f"enlarge_{name}")(x)
        elif strides[name] < strides[level]:
            factor = strides[level] // strides[name]
            x = keras.layers.AveragePooling2D(factor, name=f"average_{name}")(x)
        resized.append(x)  # (B, H/s, W/s, C)
    return keras.layers.Add(name="add_levels")(resized)


def panoptic_fusion(maps, strides, level, *, filters):
    """Doubles each coarser level, with a convolution before each step, and adds them at `level`.

    `level` itself has one convolution and no step. Kirillov et al., figure 3.
    """
    enlarged = []
    for name, x in maps.items():
        if strides[name] < strides[level]:
            continue
        doublings = (strides[name] // strides[level]).bit_length() - 1
        for n in range(max(doublings, 1)):
            x = conv_norm_relu(x, filters, norm="group", name=f"{name}_step{n}")
            if doublings:
                x = Upsample(2, name=f"{name}_enlarge{n}")(x)  # doubles H and W
        enlarged.append(x)
    if len(enlarged) == 1:
        return x
    return keras.layers.Add(name="add_levels")(enlarged)


def check_level(level, strides):
    """Raises a ValueError if a level is not there."""
    if level not in strides:
        raise ValueError(f"The level is {level!r}, expected one of {', '.join(strides)}.")
