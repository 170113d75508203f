"""A small backbone that learns from random numbers in minutes."""

import keras

from seglib.models.convolution import conv_norm_relu

WIDTHS = (24, 32, 64, 96, 128)  # channels of P1 to P5


def small_backbone(*, alpha=1.0, input_shape=(None, None, 3)):
    """Builds five levels of two 3x3 convolutions each, the second with a residual connection.

    Fifty thin layers that start from random numbers learn little from a few hundred pictures; these
    ten wide ones do, and are few enough to be taken apart. There are no pretrained weights.

    Args:
        alpha: factor on the number of channels.
        input_shape: `(H, W, 3)`, each of H and W a number or `None`.

    Returns:
        `keras.Model` from an image `[B, H, W, 3]`, values 0 to 255, to
        `{"P1": [B, H/2, W/2, 24 alpha], …, "P5": [B, H/32, W/32, 128 alpha]}` (sizes round up).
    """
    image = keras.Input(input_shape, name="image")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0, name="scale_pixels")(image)
    features = {}
    for level, width in enumerate(WIDTHS, start=1):
        width = max(round(alpha * width), 1)
        x = conv_norm_relu(x, width, strides=2, name=f"level{level}_down")  # halves H and W
        y = conv_norm_relu(x, width, name=f"level{level}_keep")
        x = keras.layers.Add(name=f"level{level}_add")([x, y])
        features[f"P{level}"] = x
    return keras.Model(image, features, name="small")
