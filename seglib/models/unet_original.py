"""The U-Net of Ronneberger, Fischer and Brox (2015), layer by layer."""

import keras

from seglib.core.checks import check_num_classes


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

    def two_convolutions(x, width, name):
        for i in (1, 2):
            x = keras.layers.Conv2D(
                width,
                3,
                padding=padding,
                activation="relu",
                kernel_initializer="he_normal",
                name=f"{name}_conv{i}",
            )(x)
        return x

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
        skip = CenterCropTo(name=f"up{level}_crop")([skips[level], x])
        x = keras.layers.Concatenate(name=f"up{level}_concat")([skip, x])
        x = two_convolutions(x, width, f"up{level}")
    logits = keras.layers.Conv2D(num_classes, 1, dtype="float32", name="classify")(x)
    return keras.Model(image, logits, name="unet_original")


@keras.saving.register_keras_serializable("seglib")
class CenterCropTo(keras.layers.Layer):
    """Cuts the middle out of a feature map so that it has the size of another."""

    def call(self, inputs):
        x, target = inputs
        height, width = keras.ops.shape(target)[1:3]
        top = (keras.ops.shape(x)[1] - height) // 2
        left = (keras.ops.shape(x)[2] - width) // 2
        return x[:, top : top + height, left : left + width]

    def compute_output_shape(self, input_shape):
        x, target = input_shape
        return (x[0], *target[1:3], x[3])
