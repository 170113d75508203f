"""Joint pyramid upsampling: a map at stride 8 without dilation in the backbone."""

import keras

from seglib.models.conv_block import ConvBlock
from seglib.models.dilation import level_strides
from seglib.models.upsample import Upsample

LEVELS = ("P3", "P4", "P5")


@keras.saving.register_keras_serializable("seglib")
class JPU(keras.layers.Layer):
    """Makes of P3, P4 and P5 a map like the P5 of a backbone with an output stride of 8.

    A dilated backbone computes its last stages at four to sixteen times as many cells. Here they
    stay small: each of the three maps is narrowed, enlarged to the size of P3, and side by side
    they pass through convolutions at several rates, which learn to put the detail of P3 into the
    meaning of P5.

    Args:
        filters: channels of each narrowed map and of each rate.
        rates: of the convolutions on the joint map.

    Attributes:
        strides: of each level that comes out; P5 has 8.

    Shape:
        `{"P1": …, "P5": [B, H/32, W/32, C5]}`, from a backbone with an output stride of 32, to the
        same levels but `"P5": [B, H/8, W/8, len(rates) * filters]`.

    Reference:
        Wu et al.: FastFCN: Rethinking Dilated Convolution in the Backbone for Semantic
        Segmentation, arXiv:1903.11816, section 3.3.
    """

    def __init__(self, filters=512, *, rates=(1, 2, 4, 8), **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.rates = tuple(rates)
        strides = level_strides(32)
        self.strides = strides | {"P5": strides["P3"]}
        self.narrow = {level: ConvBlock(filters, name=f"narrow_{level}") for level in LEVELS}
        self.enlarge = {level: Upsample(strides[level] // strides["P3"]) for level in LEVELS}
        self.concat = keras.layers.Concatenate()
        self.spread = [
            ConvBlock(
                filters,
                dilation_rate=rate,
                separable=True,
                norm_between=True,
                name=f"rate_{rate}",
            )
            for rate in self.rates
        ]

    def build(self, shapes):
        for level in LEVELS:
            self.narrow[level].build(shapes[level])
        for spread in self.spread:
            spread.build((*shapes["P3"][:3], len(LEVELS) * self.filters))

    def compute_output_shape(self, shapes):
        return {**shapes, "P5": (*shapes["P3"][:3], len(self.rates) * self.filters)}

    def call(self, features, training=None):
        maps = [
            self.enlarge[level](self.narrow[level](features[level], training=training))
            for level in LEVELS
        ]  # each (B, H/8, W/8, filters)
        x = self.concat(maps)
        x = self.concat([spread(x, training=training) for spread in self.spread])
        return {**features, "P5": x}

    def get_config(self):
        return super().get_config() | {"filters": self.filters, "rates": self.rates}
