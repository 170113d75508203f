"""Three ways of making one map from several levels."""

import keras

from seglib.models.conv_block import ConvBlock
from seglib.models.upsample import Upsample


@keras.saving.register_keras_serializable("seglib")
class LowLevelFusion(keras.layers.Layer):
    """Enlarges a coarse map and puts a narrowed fine one beside it.

    The fine map is narrowed to few channels so that it adds edges and does not drown the meaning.

    Args:
        factor: how many times smaller the coarse map is.
        filters: channels that the fine map is narrowed to.

    Shape:
        `[coarse, fine]`, `[B, H/factor, W/factor, C]` and `[B, H, W, …]`, to
        `[B, H, W, C + filters]`.

    Reference:
        Chen et al.: Encoder-Decoder with Atrous Separable Convolution for Semantic Image
        Segmentation, ECCV 2018, section 3.1 and table 1.
    """

    def __init__(self, factor, *, filters=48, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor
        self.filters = filters
        self.enlarge = Upsample(factor)
        self.narrow = ConvBlock(filters, 1, name="narrow")
        self.concat = keras.layers.Concatenate()

    def build(self, shapes):
        self.narrow.build(shapes[1])

    def compute_output_shape(self, shapes):
        coarse, fine = shapes
        return (*fine[:3], coarse[3] + self.filters)

    def call(self, inputs, training=None):
        coarse, fine = inputs
        return self.concat([self.enlarge(coarse), self.narrow(fine, training=training)])

    def get_config(self):
        return super().get_config() | {"factor": self.factor, "filters": self.filters}


@keras.saving.register_keras_serializable("seglib")
class PyramidFusion(keras.layers.Layer):
    """Brings all levels of a pyramid to one size and adds them up.

    Coarser maps are enlarged bilinearly, finer ones averaged.

    Args:
        strides: of the levels to add, such as `{"P2": 4, …, "P5": 32}`.
        level: whose size the sum has.

    Shape:
        `{"P2": [B, H/4, W/4, C], …}`, all as wide, to `[B, H/s, W/s, C]`, the size of `level`.

    Reference:
        `pyramid_fusion` of the TensorFlow Model Garden's `SegmentationHead`.
    """

    def __init__(self, strides, level, **kwargs):
        super().__init__(**kwargs)
        self.strides = dict(strides)
        self.level = level
        target = self.strides[level]
        self.resize = {
            name: Upsample(stride // target)
            if stride >= target
            else keras.layers.AveragePooling2D(target // stride)
            for name, stride in self.strides.items()
        }

    def build(self, shapes):
        """Checks that the levels can be added; there are no weights."""
        check_widths({name: shapes[name][3] for name in self.strides})

    def compute_output_shape(self, shapes):
        return tuple(shapes[self.level])

    def call(self, features):
        return sum(self.resize[name](features[name]) for name in self.strides)

    def get_config(self):
        return super().get_config() | {"strides": dict(self.strides), "level": self.level}


@keras.saving.register_keras_serializable("seglib")
class PanopticFusion(keras.layers.Layer):
    """Takes each level up to the finest one in steps of two, with a convolution at each step.

    The level that is at the size asked for has one convolution and no step. The results are added.

    Args:
        strides: of the levels to fuse; those finer than `level` are left out.
        level: whose size the result has.
        filters: channels of the convolutions and of the result.

    Shape:
        `{"P2": [B, H/4, W/4, C], …}` to `[B, H/s, W/s, filters]`, the size of `level`.

    Reference:
        Kirillov et al.: Panoptic Feature Pyramid Networks, CVPR 2019, figure 3.
    """

    def __init__(self, strides, level, *, filters=128, **kwargs):
        super().__init__(**kwargs)
        self.strides = dict(strides)
        self.level = level
        self.filters = filters
        self.enlarge = Upsample(2)
        target = self.strides[level]
        # Of each level: how often its map is doubled.
        self.steps = {
            name: (stride // target).bit_length() - 1
            for name, stride in self.strides.items()
            if stride >= target
        }
        # One flat dict: Keras does not save layers in a list in a dict.
        self.blocks = {
            f"{name}_{n}": ConvBlock(filters, norm="group", name=f"{name}_{n}")
            for name, steps in self.steps.items()
            for n in range(max(steps, 1))
        }

    def chain(self, name):
        """Returns the convolutions of a level, in turn."""
        return [self.blocks[f"{name}_{n}"] for n in range(max(self.steps[name], 1))]

    def build(self, shapes):
        for name in self.steps:
            width = shapes[name][3]
            for block in self.chain(name):
                block.build((*shapes[name][:3], width))
                width = self.filters

    def compute_output_shape(self, shapes):
        return (*shapes[self.level][:3], self.filters)

    def call(self, features, training=None):
        total = 0
        for name, steps in self.steps.items():
            x = features[name]
            for block in self.chain(name):
                x = block(x, training=training)
                if steps:
                    x = self.enlarge(x)  # doubles H and W
            total = total + x
        return total  # (B, H/s, W/s, filters)

    def get_config(self):
        return super().get_config() | {
            "strides": dict(self.strides),
            "level": self.level,
            "filters": self.filters,
        }


def check_widths(widths):
    """Raises if maps cannot be added.

    Raises:
        ValueError: if they differ in width.
    """
    if len(set(widths.values())) > 1:
        found = ", ".join(f"{level}: {width}" for level, width in widths.items())
        raise ValueError(
            f"The levels have different numbers of channels ({found}), expected the same: they are "
            "added up. Put an FPN before, with pyramid=FPN()."
        )
