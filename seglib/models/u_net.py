"""U-Net: skip connections carry fine detail from the encoder to the decoder."""

import keras

from seglib.core.checks import check_num_classes
from seglib.models.convolution import conv_norm_relu
from seglib.models.layers import CropTo, Upsample
from seglib.models.levels import level_inputs
from seglib.models.segmentation_model import (
    SegmentationModel,
    check_strides,
    prepare_backbone,
    segmentation_head,
)

LEVELS = ("P5", "P4", "P3", "P2", "P1")  # from coarse to fine


def unet_decoder(levels, *, filters=(160, 96, 64, 32), skip_filters=(96, 64, 48, 24), dropout=0.0):
    """Builds the book's decoder: cheap steps, most channels where the map is small.

    Each step doubles the resolution bilinearly, concatenates the backbone's map of that size
    after a 1x1 convolution has narrowed it, and mixes both with one 3x3 convolution.

    Args:
        levels: the backbone's output, `{"P1": [B, H/2, W/2, …], …, "P5": [B, H/32, W/32, …]}`.
        filters: channels after each of the four steps, from coarse to fine.
        skip_filters: channels that each skip connection is narrowed to.
        dropout: share of channels dropped before the head, for small data sets.

    Returns:
        `keras.Model` from the levels to a map `[B, H/2, W/2, filters[-1]]`.
    """
    features = level_inputs(levels)
    x = features["P5"]  # (B, H/32, W/32, C5)
    for level, width, skip_width in zip(LEVELS[1:], filters, skip_filters, strict=True):
        skip = conv_norm_relu(features[level], skip_width, 1, name=f"{level}_skip")
        x = Upsample(2, name=f"{level}_upsample")(x)  # doubles H and W
        x = keras.layers.Concatenate(name=f"{level}_concat")([x, skip])
        x = conv_norm_relu(x, width, name=f"{level}_mix")
    x = keras.layers.SpatialDropout2D(dropout, name="dropout")(x)
    return keras.Model(features, x, name="decoder")


def tutorial_decoder(levels, *, filters=(512, 256, 128, 64)):
    """Builds the decoder of the TensorFlow segmentation tutorial, of transposed convolutions.

    Args:
        levels: as for `unet_decoder`.
        filters: channels of the four steps, from coarse to fine (512, 256, 128, 64 there).

    Returns:
        `keras.Model` from the levels to a map `[B, H/2, W/2, filters[-1] + C1]`: the last step also
        ends with its skip.

    Reference:
        https://www.tensorflow.org/tutorials/images/segmentation
    """
    features = level_inputs(levels)
    x = features["P5"]  # (B, H/32, W/32, C5)
    for level, width in zip(LEVELS[1:], filters, strict=True):
        x = keras.layers.Conv2DTranspose(
            width,
            3,
            strides=2,
            padding="same",
            use_bias=False,
            kernel_initializer=keras.initializers.RandomNormal(0.0, 0.02),
            name=f"{level}_upsample",
        )(x)  # doubles H and W
        x = keras.layers.BatchNormalization(name=f"{level}_norm")(x)
        x = keras.layers.ReLU(name=f"{level}_relu")(x)
        x = keras.layers.Concatenate(name=f"{level}_concat")([x, features[level]])
    return keras.Model(features, x, name="decoder")


def transposed_head(features, num_classes):
    """Builds the tutorial's last layer: a transposed convolution straight to the logits.

    For arguments and result see `segmentation_head`.
    """
    check_num_classes(num_classes)
    x = keras.Input(features.shape[1:], dtype=features.dtype, name="features")
    logits = keras.layers.Conv2DTranspose(
        num_classes, 3, strides=2, padding="same", dtype="float32", name="classify"
    )(x)  # (B, H, W, C)
    return keras.Model(x, logits, name="head")


def unet(
    num_classes=3,
    *,
    backbone="efficientnet_lite0",
    decoder="light",
    weights="imagenet",
    alpha=1.0,
    input_shape=(None, None, 3),
    freeze_backbone=None,
    **decoder_options,
):
    """Builds a U-Net on a pretrained backbone.

    Args:
        num_classes: number of classes `C`.
        backbone: a name that `seglib.models.backbone` knows, or a `keras.Model` from an image to
            `{"P1": …, "P5": …}`.
        decoder: `"light"` (`unet_decoder`), or `"tutorial"` (`tutorial_decoder`), the model of the
            TensorFlow segmentation tutorial.
        weights: `"imagenet"`, the path of a weights file, or `None`.
        alpha: width multiplier of MobileNetV2.
        input_shape: `(H, W, 3)`, each of H and W a number or `None`; that of a backbone given as a
            `keras.Model` is its own. Any size will do: pictures are padded inside.
        freeze_backbone: train the decoder and the head only. `None` freezes a backbone that has
            pretrained weights. Call `model.unfreeze_backbone()` and compile again to fine-tune.
        decoder_options: `filters` and more, for the function that builds the decoder.

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
    if decoder not in ("light", "tutorial"):
        raise ValueError(f"decoder is {decoder!r}, expected 'light' or 'tutorial'.")
    backbone, input_shape = prepare_backbone(
        backbone, weights=weights, alpha=alpha, input_shape=input_shape, freeze=freeze_backbone
    )
    check_strides(backbone)
    if decoder == "light":
        decoder = unet_decoder(backbone.output, **decoder_options)
        head = segmentation_head(decoder.output, num_classes, upsampling=2)
    else:
        decoder = tutorial_decoder(backbone.output, **decoder_options)
        head = transposed_head(decoder.output, num_classes)
    return SegmentationModel(
        backbone,
        decoder,
        head,
        train_statistics=weights is None,
        input_shape=input_shape,
        name="unet",
    )


def unet_original(
    num_classes=3, *, filters=64, depth=4, padding="same", input_shape=(None, None, 3)
):
    """Builds the original U-Net: no pretrained backbone, no BatchNorm.

    Args:
        num_classes: number of classes `C`.
        filters: channels of the first level, doubled at each halving (64 as published).
        depth: number of halvings (4 as published). Height and width must be multiples of
            `2 ** depth` with `padding="same"`.
        padding: `"valid"` as published, where each convolution trims the border and 572 x 572
            pixels become 388 x 388 labels; `"same"` keeps the size.
        input_shape: `(H, W, channels)`.

    Returns:
        `keras.Model` from an image `[B, H, W, channels]`, values 0 to 255, to logits
        `[B, H, W, C]` (smaller with `padding="valid"`).

    Raises:
        ValueError: for another padding or fewer than two classes.

    Reference:
        Ronneberger, Fischer, Brox: U-Net: Convolutional Networks for Biomedical Image
        Segmentation, MICCAI 2015, figure 1.
    """
    check_num_classes(num_classes)
    if padding not in ("same", "valid"):
        raise ValueError(f"padding is {padding!r}, expected 'same' or 'valid'.")
    options = {"padding": padding, "activation": "relu", "kernel_initializer": "he_normal"}

    def two_convolutions(x, width, name):
        x = keras.layers.Conv2D(width, 3, name=f"{name}_conv1", **options)(x)
        return keras.layers.Conv2D(width, 3, name=f"{name}_conv2", **options)(x)

    image = keras.Input(input_shape, name="image")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0, name="scale_pixels")(image)
    skips = []
    for level in range(depth):
        x = two_convolutions(x, filters * 2**level, f"down{level}")
        skips.append(x)
        x = keras.layers.MaxPooling2D(2, name=f"down{level}_pool")(x)
    x = two_convolutions(x, filters * 2**depth, "bottom")
    for level in reversed(range(depth)):
        width = filters * 2**level
        x = keras.layers.Conv2DTranspose(width, 2, strides=2, name=f"up{level}")(x)
        skip = CropTo(center=True, name=f"up{level}_crop")([skips[level], x])
        x = keras.layers.Concatenate(name=f"up{level}_concat")([skip, x])
        x = two_convolutions(x, width, f"up{level}")
    logits = keras.layers.Conv2D(num_classes, 1, dtype="float32", name="classify")(x)
    return keras.Model(image, logits, name="unet_original")
