"""The heads: what is in each region, where exactly, which pixels, and how sure of them."""

import keras
from keras import ops

from seglib.models.fusion import panoptic_fusion
from seglib.models.levels import level_inputs


def dense_layers(widths):
    """Fully connected layers with ReLU."""
    return [
        keras.layers.Dense(n, activation="relu", name=f"hidden_{i}") for i, n in enumerate(widths)
    ]


def convolutions(widths, *, last_stride=1):
    """3x3 convolutions with ReLU, started for it."""
    strides = [1] * (len(widths) - 1) + [last_stride]
    return [
        keras.layers.Conv2D(
            n,
            3,
            strides=stride,
            padding="same",
            activation="relu",
            kernel_initializer="he_normal",
            name=f"conv_{i}",
        )
        for i, (n, stride) in enumerate(zip(widths, strides, strict=True))
    ]


@keras.saving.register_keras_serializable("seglib")
class BoxHead(keras.layers.Layer):
    """Says what is in each region of interest, and how its box must move and grow.

    Args:
        num_classes: C.
        widths: of the hidden layers, all fully connected.

    Shape:
        Features of R regions, `[B, R, s, s, F]`, to class logits `[B, R, C + 1]`, background last,
        and deltas `[B, R, C, 4]`, one refinement a class; both float32.

    Reference:
        Lin et al.: Feature Pyramid Networks for Object Detection, CVPR 2017, section 4.2 (two
        hidden layers of 1024).
    """

    def __init__(self, num_classes, *, widths=(1024, 1024), **kwargs):
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.widths = tuple(widths)
        dense = keras.layers.Dense
        self.hidden = dense_layers(self.widths)
        self.classify = dense(
            num_classes + 1,
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
            dtype="float32",
            name="classify",
        )
        self.refine = dense(
            4 * num_classes,
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.001),
            dtype="float32",
            name="refine",
        )

    def build(self, shape):
        batch, regions, height, width, filters = shape
        width = height * width * filters
        for layer in self.hidden:
            layer.build((batch, regions, width))
            width = layer.units
        self.classify.build((batch, regions, width))
        self.refine.build((batch, regions, width))

    def compute_output_shape(self, shape):
        return (*shape[:2], self.num_classes + 1), (*shape[:2], self.num_classes, 4)

    def call(self, features):
        _, regions, height, width, filters = features.shape
        x = ops.reshape(features, (-1, regions, height * width * filters))
        for layer in self.hidden:
            x = layer(x)  # (B, R, width)
        logits, deltas = self.classify(x), self.refine(x)
        return logits, ops.reshape(deltas, (-1, regions, self.num_classes, 4))

    def get_config(self):
        return super().get_config() | {"num_classes": self.num_classes, "widths": self.widths}


@keras.saving.register_keras_serializable("seglib")
class MaskHead(keras.layers.Layer):
    """Says which cells of each region belong to the object, for each class on its own.

    3x3 convolutions, a transposed one that doubles the resolution, and one logit a class and cell.
    The classes do not compete: which of them it is, the box head decides.

    Args:
        num_classes: C.
        widths: channels of the 3x3 convolutions; the transposed one has as many as the last.

    Shape:
        Features of R regions, `[B, R, s, s, F]`, to logits `[B, R, 2s, 2s, C]`, float32.

    Reference:
        He et al.: Mask R-CNN, ICCV 2017, figure 4, right (four convolutions of 256).
    """

    def __init__(self, num_classes, *, widths=(256,) * 4, **kwargs):
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.widths = tuple(widths)
        self.convs = convolutions(self.widths)
        self.enlarge = keras.layers.Conv2DTranspose(
            self.widths[-1],
            2,
            strides=2,
            activation="relu",
            kernel_initializer="he_normal",
            name="enlarge",
        )
        self.classify = keras.layers.Conv2D(
            num_classes,
            1,
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.001),
            dtype="float32",
            name="classify",
        )

    def build(self, shape):
        shape = (None, *shape[2:])
        for layer in (*self.convs, self.enlarge, self.classify):
            layer.build(shape)
            shape = layer.compute_output_shape(shape)

    def compute_output_shape(self, shape):
        return (*shape[:2], 2 * shape[2], 2 * shape[3], self.num_classes)

    def call(self, features):
        _, regions, height, width, filters = features.shape
        x = ops.reshape(features, (-1, height, width, filters))  # (B R, s, s, F)
        for layer in (*self.convs, self.enlarge, self.classify):
            x = layer(x)
        return ops.reshape(x, (-1, regions, 2 * height, 2 * width, self.num_classes))

    def get_config(self):
        return super().get_config() | {"num_classes": self.num_classes, "widths": self.widths}


@keras.saving.register_keras_serializable("seglib")
class MaskScoreHead(keras.layers.Layer):
    """Guesses the IoU of each predicted mask with the true one, for each class on its own.

    It sees the region's features and, beside them, the predicted mask, halved by taking maxima.

    Args:
        num_classes: C.
        widths: channels of the 3x3 convolutions, the last of which halves the resolution.
        hidden: widths of the fully connected layers.

    Shape:
        Features `[B, R, s, s, F]` and masks `[B, R, 2s, 2s]`, 0 to 1, to `[B, R, C]`, float32.

    Reference:
        Huang et al.: Mask Scoring R-CNN, CVPR 2019, section 3.2 (four convolutions of 256, two
        hidden layers of 1024).
    """

    def __init__(self, num_classes, *, widths=(256,) * 4, hidden=(1024, 1024), **kwargs):
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.widths = tuple(widths)
        self.hidden_widths = tuple(hidden)
        self.halve_mask = keras.layers.MaxPooling2D(2)
        self.convs = convolutions(self.widths, last_stride=2)
        self.hidden = dense_layers(self.hidden_widths)
        self.score = keras.layers.Dense(num_classes, dtype="float32", name="score")

    def build(self, shapes):
        features, _ = shapes
        shape = (None, *features[2:4], features[4] + 1)
        for layer in self.convs:
            layer.build(shape)
            shape = layer.compute_output_shape(shape)
        width = shape[1] * shape[2] * shape[3]
        for layer in self.hidden:
            layer.build((None, None, width))
            width = layer.units
        self.score.build((None, None, width))

    def compute_output_shape(self, shapes):
        return (*shapes[0][:2], self.num_classes)

    def call(self, inputs):
        features, masks = inputs
        _, regions, height, width, filters = features.shape
        x = ops.reshape(features, (-1, height, width, filters))  # (B R, s, s, F)
        mask = ops.reshape(masks, (-1, 2 * height, 2 * width, 1))
        x = ops.concatenate([x, ops.cast(self.halve_mask(mask), x.dtype)], axis=-1)
        for layer in self.convs:
            x = layer(x)  # (B R, s, s, width), then s/2
        x = ops.reshape(x, (-1, regions, x.shape[1] * x.shape[2] * x.shape[3]))
        for layer in self.hidden:
            x = layer(x)
        return self.score(x)

    def get_config(self):
        return super().get_config() | {
            "num_classes": self.num_classes,
            "widths": self.widths,
            "hidden": self.hidden_widths,
        }


def semantic_head(levels, num_classes, *, strides, filters=128):
    """Builds the head that gives each cell of the finest level a class, background included.

    It makes panoptic results possible. And its loss reaches every cell of the features, which the
    few regions of the other heads do not: a network that starts from random numbers learns several
    times as fast with it.

    Args:
        levels: the pyramid's output, `{"P2": [B, H/4, W/4, F], …}`.
        num_classes: of the label map, background included.
        strides: of the levels to take, from fine to coarse, `{"P2": 4, …}`.
        filters: channels of its convolutions.

    Returns:
        `keras.Model` from the levels to logits `[B, H/4, W/4, num_classes]`, float32.

    Reference:
        Kirillov et al.: Panoptic Feature Pyramid Networks, CVPR 2019, section 3.
    """
    features = level_inputs(levels)
    maps = {level: features[level] for level in strides}
    x = panoptic_fusion(maps, strides, next(iter(strides)), filters=filters)
    logits = keras.layers.Conv2D(
        num_classes,
        1,
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
        dtype="float32",
        name="classify",
    )(x)
    return keras.Model(features, logits, name="semantic_head")
