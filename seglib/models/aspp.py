"""Atrous spatial pyramid pooling: the same map seen through kernels of several reaches."""

import keras
from keras import ops

from seglib.models.conv_block import ConvBlock

# The rates of the papers, by output stride: the same reach in pixels each time.
RATES = {8: (12, 24, 36), 16: (6, 12, 18), 32: (3, 6, 9)}


@keras.saving.register_keras_serializable("seglib")
class ASPP(keras.layers.Layer):
    """Looks at each cell, at its surroundings near and far, and at the whole picture.

    Side by side: a 1x1 convolution, a 3x3 convolution at each rate, and the mean over the map,
    which is the same everywhere. A 1x1 convolution mixes them. Where the kernels of two rates
    multiply by the same number of cells, they see the same many pixels: halve the rates where the
    output stride doubles.

    Args:
        filters: channels of each branch and of the result.
        rates: of the 3x3 convolutions; see `RATES`.
        separable: split the 3x3 convolutions into one kernel a channel and a 1x1 convolution.
        pooling: include the mean over the map.
        dropout: share of the result's values dropped in training.

    Shape:
        `[B, H, W, C]` to `[B, H, W, filters]`.

    Reference:
        Chen et al.: Rethinking Atrous Convolution for Semantic Image Segmentation,
        arXiv:1706.05587, section 3.3; separable: Chen et al.: Encoder-Decoder with Atrous Separable
        Convolution for Semantic Image Segmentation, ECCV 2018.
    """

    def __init__(
        self,
        filters=256,
        *,
        rates=RATES[16],
        separable=False,
        pooling=True,
        dropout=0.1,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.filters = filters
        self.rates = tuple(rates)
        self.separable = separable
        self.pooling = pooling
        self.dropout = dropout
        self.branches = [ConvBlock(filters, 1, name="cell")]
        for rate in self.rates:
            self.branches.append(
                ConvBlock(filters, dilation_rate=rate, separable=separable, name=f"rate_{rate}")
            )
        self.picture = ConvBlock(filters, 1, name="picture") if pooling else None
        self.concat = keras.layers.Concatenate()
        self.project = ConvBlock(filters, 1, name="project")
        self.drop = keras.layers.Dropout(dropout)

    def build(self, shape):
        for branch in self.branches:
            branch.build(shape)
        if self.pooling:
            self.picture.build((shape[0], 1, 1, shape[3]))
        branches = len(self.branches) + self.pooling
        self.project.build((*shape[:3], branches * self.filters))

    def compute_output_shape(self, shape):
        return (*shape[:3], self.filters)

    def call(self, x, training=None):
        views = [branch(x, training=training) for branch in self.branches]
        if self.pooling:
            mean = ops.mean(x, axis=(1, 2), keepdims=True)  # (B, 1, 1, C)
            mean = self.picture(mean, training=training)  # (B, 1, 1, filters)
            views.append(ops.broadcast_to(mean, ops.shape(views[0])))
        x = self.concat(views)  # (B, H, W, 5 filters)
        x = self.project(x, training=training)  # (B, H, W, filters)
        return self.drop(x, training=training)

    def get_config(self):
        return super().get_config() | {
            "filters": self.filters,
            "rates": self.rates,
            "separable": self.separable,
            "pooling": self.pooling,
            "dropout": self.dropout,
        }
