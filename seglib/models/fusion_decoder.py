"""A decoder composed of a pyramid, a context, a fusion and convolutions."""

import keras

from seglib.models.conv_block import ConvBlock
from seglib.models.dilation import level_strides
from seglib.models.fusion import LowLevelFusion, PanopticFusion, PyramidFusion
from seglib.models.upsample import Upsample

FUSIONS = ("deeplabv3plus", "pyramid_fusion", "panoptic_fpn_fusion", None)


@keras.saving.register_keras_serializable("seglib")
class FusionDecoder(keras.layers.Layer):
    """Makes one map of a backbone's levels, step by step; each step can be left out.

    1. `pyramid` remakes the levels: `FPN`, `JPU`, or nothing.
    2. `context` works on the level `level`: `ASPP`, or nothing.
    3. `fusion` brings in the other levels:
       `"deeplabv3plus"` puts the backbone's `low_level` beside the enlarged `level`;
       `"pyramid_fusion"` adds all levels at the size of `level`;
       `"panoptic_fpn_fusion"` adds the levels from `level` on, with a convolution before each
       doubling; `None` takes `level` alone.
    4. `num_convs` 3x3 convolutions with `num_filters` channels.
    5. Bilinear enlargement by `upsample_factor`.

    Args:
        fusion: one of these four.
        pyramid: layer from the dict of levels to a dict of levels, with an attribute `strides`.
        context: layer from a map to a map of the same size.
        level: the level that the result starts from, such as `"P5"`.
        low_level: for `"deeplabv3plus"`, the level with the detail.
        low_level_filters: channels that it is narrowed to.
        num_convs: how many convolutions follow.
        num_filters: their channels, and those of `"panoptic_fpn_fusion"`.
        separable: split them into one kernel a channel and a 1x1 convolution.
        upsample_factor: how many times larger the map becomes at the end.
        output_stride: that of the backbone.

    Attributes:
        strides: of the levels that `fusion` sees.
        stride: of the result; what a `Head` takes as `upsampling`.

    Shape:
        `{"P1": [B, H/2, W/2, …], …, "P5": …}` to `[B, H/stride, W/stride, num_filters]`.

    Raises:
        ValueError: for an unknown fusion or level, or a factor that the stride does not hold.

    Example:
        >>> decoder = FusionDecoder("panoptic_fpn_fusion", pyramid=FPN(128), level="P2")
        >>> decoder.stride
        4

    Reference:
        The terms are those of `SegmentationHead` in the TensorFlow Model Garden
        (https://github.com/tensorflow/models).
    """

    def __init__(
        self,
        fusion="deeplabv3plus",
        *,
        pyramid=None,
        context=None,
        level="P5",
        low_level="P2",
        low_level_filters=48,
        num_convs=2,
        num_filters=256,
        separable=False,
        upsample_factor=1,
        output_stride=32,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if fusion not in FUSIONS:
            expected = ", ".join(map(repr, FUSIONS))
            raise ValueError(f"fusion is {fusion!r}, expected one of {expected}.")
        self.fusion = fusion
        self.pyramid = pyramid
        self.context = context
        self.level = level
        self.low_level = low_level
        self.low_level_filters = low_level_filters
        self.num_convs = num_convs
        self.num_filters = num_filters
        self.separable = separable
        self.upsample_factor = upsample_factor
        self.output_stride = output_stride
        self.strides = pyramid.strides if pyramid else level_strides(output_stride)
        check_level(level, self.strides)
        self.fuse, stride = self.build_fusion()
        if stride % upsample_factor:
            raise ValueError(
                f"upsample_factor is {upsample_factor}, expected a divisor of {stride}, the stride "
                "of the map that it enlarges."
            )
        self.stride = stride // upsample_factor
        self.convs = [
            ConvBlock(num_filters, separable=separable, name=f"conv_{n}") for n in range(num_convs)
        ]
        self.enlarge = Upsample(upsample_factor)

    def build_fusion(self):
        """Returns the fusing layer, or `None`, and the stride of what it makes."""
        if self.fusion == "deeplabv3plus":
            fine = level_strides(self.output_stride)
            check_level(self.low_level, fine)
            factor, rest = divmod(self.strides[self.level], fine[self.low_level])
            if rest:
                raise ValueError(
                    f"low_level is {self.low_level!r}, expected one at least as fine as "
                    f"{self.level!r}, which it is put beside."
                )
            fuse = LowLevelFusion(factor, filters=self.low_level_filters, name="fusion")
            return fuse, fine[self.low_level]
        # Beyond P5 sizes round up: such maps do not lie on each other.
        strides = {name: s for name, s in self.strides.items() if name <= "P5"}
        if self.fusion == "pyramid_fusion":
            fuse = PyramidFusion(strides, self.level, name="fusion")
        elif self.fusion == "panoptic_fpn_fusion":
            fuse = PanopticFusion(strides, self.level, filters=self.num_filters, name="fusion")
        else:
            fuse = None
        return fuse, self.strides[self.level]

    def build(self, shapes):
        *inputs, shape = self.trace(shapes)
        for layer, below in zip((self.pyramid, self.context, self.fuse), inputs, strict=True):
            if layer and not layer.built:  # what was saved comes back built
                layer.build(below)
        for conv in self.convs:
            conv.build(shape)
            shape = conv.compute_output_shape(shape)

    def trace(self, shapes):
        """Returns the shapes that pyramid, context, fusion and convolutions get."""
        levels = self.pyramid.compute_output_shape(shapes) if self.pyramid else shapes
        shape = before = levels[self.level]
        if self.context:
            shape = self.context.compute_output_shape(shape)
        if self.fusion == "deeplabv3plus":
            maps = [shape, shapes[self.low_level]]
        else:
            maps = {**levels, self.level: shape}
        fused = self.fuse.compute_output_shape(maps) if self.fuse else shape
        return shapes, before, maps, fused

    def compute_output_shape(self, shapes):
        *_, shape = self.trace(shapes)
        if self.convs:
            shape = (*shape[:3], self.num_filters)
        return self.enlarge.compute_output_shape(shape)

    def call(self, features, training=None):
        levels = self.pyramid(features, training=training) if self.pyramid else features
        x = levels[self.level]
        if self.context:
            x = self.context(x, training=training)
        if self.fusion == "deeplabv3plus":
            x = self.fuse([x, features[self.low_level]], training=training)
        elif self.fuse:
            x = self.fuse({**levels, self.level: x}, training=training)
        for conv in self.convs:
            x = conv(x, training=training)  # (B, H/s, W/s, num_filters)
        return self.enlarge(x)  # (B, H/stride, W/stride, num_filters)

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        return super().get_config() | {
            "fusion": self.fusion,
            "pyramid": serialize(self.pyramid),
            "context": serialize(self.context),
            "level": self.level,
            "low_level": self.low_level,
            "low_level_filters": self.low_level_filters,
            "num_convs": self.num_convs,
            "num_filters": self.num_filters,
            "separable": self.separable,
            "upsample_factor": self.upsample_factor,
            "output_stride": self.output_stride,
        }

    @classmethod
    def from_config(cls, config):
        parts = {
            part: keras.saving.deserialize_keras_object(config[part])
            for part in ("pyramid", "context")
        }
        return super().from_config(config | parts)


def check_level(level, strides):
    """Raises if a level is not there.

    Raises:
        ValueError: naming those that are.
    """
    if level not in strides:
        raise ValueError(f"The level is {level!r}, expected one of {', '.join(strides)}.")
