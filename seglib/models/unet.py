"""U-Net: skip connections carry fine detail from the backbone to the decoder."""

import keras

from seglib.errors import check_num_classes
from seglib.models.segmentation_model import (
    Head,
    SegmentationModel,
    check_strides,
    prepare_backbone,
)
from seglib.models.upsample import Upsample

LEVELS = ("P5", "P4", "P3", "P2", "P1")  # from coarse to fine
# Keras's default of 0.99 needs some 500 steps to forget its starting values, more than the
# first epochs on a small set have.
MOMENTUM = 0.9


@keras.saving.register_keras_serializable("seglib")
class UNetDecoder(keras.layers.Layer):
    """The book's decoder: cheap steps, most channels where the map is small.

    Each step doubles the resolution bilinearly, concatenates the backbone's map of that size
    after a 1x1 convolution has narrowed it, and mixes both with one 3x3 convolution.

    Args:
        filters: channels after each of the four steps, from coarse to fine.
        skip_filters: channels that each skip connection is narrowed to.
        dropout: share of channels dropped before the head, for small data sets.

    Shape:
        `{"P1": [B, H/2, W/2, …], …, "P5": [B, H/32, W/32, …]}` to
        `[B, H/2, W/2, filters[-1]]`.
    """

    def __init__(
        self, filters=(160, 96, 64, 32), *, skip_filters=(96, 64, 48, 24), dropout=0.0, **kwargs
    ):
        super().__init__(**kwargs)
        self.filters = tuple(filters)
        self.skip_filters = tuple(skip_filters)
        self.dropout = dropout
        conv, batch_norm = keras.layers.Conv2D, keras.layers.BatchNormalization
        self.narrow = [conv(n, 1, use_bias=False) for n in self.skip_filters]
        self.narrow_norm = [batch_norm(momentum=MOMENTUM) for _ in self.skip_filters]
        self.upsample = Upsample(2)
        self.concat = keras.layers.Concatenate()
        self.mix = [conv(n, 3, padding="same", use_bias=False) for n in self.filters]
        self.norm = [batch_norm(momentum=MOMENTUM) for _ in self.filters]
        self.relu = keras.layers.ReLU()
        self.drop = keras.layers.SpatialDropout2D(dropout)

    def build(self, shapes):
        below = shapes["P5"][-1]
        for i, level in enumerate(LEVELS[1:]):
            size = shapes[level][:3]
            self.narrow[i].build(shapes[level])
            self.narrow_norm[i].build((*size, self.skip_filters[i]))
            self.mix[i].build((*size, below + self.skip_filters[i]))
            below = self.filters[i]
            self.norm[i].build((*size, below))

    def compute_output_shape(self, shapes):
        return (*shapes["P1"][:3], self.filters[-1])

    def call(self, features, training=None):
        x = features["P5"]  # (B, H/32, W/32, C5)
        for i, level in enumerate(LEVELS[1:]):
            skip = self.narrow_norm[i](self.narrow[i](features[level]), training=training)
            x = self.upsample(x)  # doubles H and W
            x = self.concat([x, self.relu(skip)])
            x = self.relu(self.norm[i](self.mix[i](x), training=training))
        return self.drop(x, training=training)  # (B, H/2, W/2, filters[-1])

    def get_config(self):
        return super().get_config() | {
            "filters": self.filters,
            "skip_filters": self.skip_filters,
            "dropout": self.dropout,
        }


@keras.saving.register_keras_serializable("seglib")
class TutorialDecoder(keras.layers.Layer):
    """The decoder of the TensorFlow segmentation tutorial, whose step is a transposed convolution.

    Args:
        filters: channels of the four steps, from coarse to fine (512, 256, 128, 64 there).

    Shape:
        As `UNetDecoder`; its last map also holds the skip `P1`, so `filters[-1] + C1` channels.

    Reference:
        https://www.tensorflow.org/tutorials/images/segmentation
    """

    def __init__(self, filters=(512, 256, 128, 64), **kwargs):
        super().__init__(**kwargs)
        self.filters = tuple(filters)
        initializer = keras.initializers.RandomNormal(0.0, 0.02)
        self.upsample = [
            keras.layers.Conv2DTranspose(
                n,
                3,
                strides=2,
                padding="same",
                use_bias=False,
                kernel_initializer=initializer.clone(),
            )
            for n in self.filters
        ]
        self.norm = [keras.layers.BatchNormalization() for _ in self.filters]
        self.relu = keras.layers.ReLU()
        self.concat = keras.layers.Concatenate()

    def build(self, shapes):
        below = shapes["P5"]
        for i, level in enumerate(LEVELS[1:]):
            self.upsample[i].build(below)
            self.norm[i].build((*shapes[level][:3], self.filters[i]))
            below = (*shapes[level][:3], self.filters[i] + shapes[level][-1])

    def compute_output_shape(self, shapes):
        return (*shapes["P1"][:3], self.filters[-1] + shapes["P1"][-1])

    def call(self, features, training=None):
        x = features["P5"]
        for i, level in enumerate(LEVELS[1:]):
            x = self.relu(self.norm[i](self.upsample[i](x), training=training))
            x = self.concat([x, features[level]])
        return x

    def get_config(self):
        return super().get_config() | {"filters": self.filters}


@keras.saving.register_keras_serializable("seglib")
class TransposedHead(keras.layers.Layer):
    """The tutorial's last layer: a transposed convolution straight to the logits.

    Args:
        num_classes: number of classes `C`.

    Shape:
        `[B, H/2, W/2, F]` to logits `[B, H, W, C]`, float32.
    """

    def __init__(self, num_classes, **kwargs):
        super().__init__(**kwargs)
        check_num_classes(num_classes)
        self.num_classes = num_classes
        self.classify = keras.layers.Conv2DTranspose(
            num_classes, 3, strides=2, padding="same", dtype="float32"
        )

    def build(self, shape):
        self.classify.build(shape)

    def compute_output_shape(self, shape):
        return self.classify.compute_output_shape(shape)

    def call(self, features):
        return self.classify(features)

    def get_config(self):
        return super().get_config() | {"num_classes": self.num_classes}


def unet(
    num_classes=3,
    *,
    backbone="efficientnet_lite0",
    decoder="light",
    weights="imagenet",
    alpha=1.0,
    input_shape=(None, None, 3),
    freeze_backbone=None,
    dropout=0.0,
):
    """Builds a U-Net on a pretrained backbone.

    Args:
        num_classes: number of classes `C`.
        backbone: a name that `seglib.models.backbone` knows, or a `keras.Model` from an image to
            `{"P1": …, "P5": …}`.
        decoder: `"light"` (`UNetDecoder`), `"tutorial"` (`TutorialDecoder`, the model of the
            TensorFlow segmentation tutorial), or a layer of your own.
        weights: `"imagenet"`, the path of a weights file, or `None`.
        alpha: width multiplier of MobileNetV2.
        input_shape: `(H, W, 3)`, each of H and W a number or `None`; that of a backbone given as a
            `keras.Model` is its own.
        freeze_backbone: train the decoder and the head only. `None` freezes a backbone that has
            pretrained weights. Call `model.unfreeze_backbone()` and compile again to fine-tune.
        dropout: for `decoder="light"`, share of channels dropped before the head.

    Returns:
        `SegmentationModel` from an image `[B, H, W, 3]`, values 0 to 255, to logits
        `[B, H, W, C]`, float32, with its parts as `backbone`, `decoder` and `head`.

    Raises:
        ValueError: for an unknown name or a backbone of other strides.

    Example:
        >>> model = unet(3, weights=None)
        >>> model.compile("adam", losses.CrossEntropy())

    Reference:
        Ronneberger, Fischer, Brox: U-Net, MICCAI 2015; the use of MobileNetV2 follows the
        TensorFlow tutorial.
    """
    backbone, input_shape = prepare_backbone(
        backbone, weights=weights, alpha=alpha, input_shape=input_shape, freeze=freeze_backbone
    )
    check_strides(backbone)
    head = Head(num_classes, upsampling=2, name="head")
    if decoder == "light":
        decoder = UNetDecoder(dropout=dropout, name="decoder")
    elif decoder == "tutorial":
        decoder = TutorialDecoder(name="decoder")
        head = TransposedHead(num_classes, name="head")
    elif isinstance(decoder, str):
        raise ValueError(f"decoder is {decoder!r}, expected 'light', 'tutorial' or a layer.")
    return SegmentationModel(
        backbone,
        decoder,
        head,
        train_statistics=weights is None,
        input_shape=input_shape,
        name="unet",
    )
