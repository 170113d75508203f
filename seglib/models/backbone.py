"""Backbones: from raw pixels to feature maps at strides 2, 4, 8, 16 and 32."""

import os
import warnings

import keras

from seglib.models.small_backbone import MOMENTUM, small_backbone

# The last layer of MobileNetV2 before each halving of the resolution. P5 is the narrow
# projection of the last block, not the 1280 channels that only the classifier needs.
MOBILENET_V2_LEVELS = {
    "P1": "block_1_expand_relu",
    "P2": "block_3_expand_relu",
    "P3": "block_6_expand_relu",
    "P4": "block_13_expand_relu",
    "P5": "block_16_project_BN",
}
NAMES = ("mobilenet_v2", "small")


def backbone(name="mobilenet_v2", *, weights="imagenet", alpha=1.0, input_shape=(None, None, 3)):
    """Builds a feature extractor that takes raw pixels.

    Args:
        name: `"mobilenet_v2"`, or `"small"` (`small_backbone`, which learns from random numbers).
        weights: `"imagenet"` (downloaded by `keras.applications`), the path of a local
            `.weights.h5` file in the layout of `keras.applications` without its top, or `None`
            for random numbers. For `"small"` only `None`.
        alpha: width multiplier; ImageNet weights of MobileNetV2 exist for 0.35, 0.5, 0.75, 1.0,
            1.3 and 1.4.
        input_shape: `(H, W, 3)`, each of H and W a number or `None`.

    Returns:
        `keras.Model` from an image `[B, H, W, 3]` with values 0 to 255 to a dict of feature maps
        `{"P1": [B, H/2, W/2, C1], …, "P5": [B, H/32, W/32, C5]}`. The scaling of the pixels is its
        first layer. H and W should be multiples of 32, so that each level is twice as large as
        the next; `SegmentationModel` pads other sizes.

    Raises:
        ValueError: for an unknown name, or weights that do not fit.
        FileNotFoundError: if the weights' path does not exist.
        ConnectionError: if the ImageNet weights cannot be downloaded.

    Reference:
        Sandler et al.: MobileNetV2: Inverted Residuals and Linear Bottlenecks, CVPR 2018.
    """
    if name not in NAMES:
        raise ValueError(f"backbone is {name!r}, expected one of {', '.join(map(repr, NAMES))}.")
    if name == "small":
        if weights is not None:
            raise ValueError(
                f"weights is {weights!r}, expected None: nobody trained the backbone 'small' in "
                "advance. Pass weights=None, or backbone='mobilenet_v2'."
            )
        return small_backbone(alpha=alpha, input_shape=input_shape)
    image = keras.Input(input_shape, name="image")
    # MobileNetV2 was trained on pixels from -1 to 1.
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0, name="scale_pixels")(image)
    network = _load(keras.applications.MobileNetV2, weights, input_tensor=x, alpha=alpha)
    if weights is None:
        for layer in network.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = MOMENTUM
    features = {
        level: network.get_layer(layer).output for level, layer in MOBILENET_V2_LEVELS.items()
    }
    return keras.Model(image, features, name=name)


def _load(build, weights, **kwargs):
    """Builds a network of `keras.applications` and puts the asked weights in."""
    kwargs["include_top"] = False
    if weights is None:
        return build(weights=None, **kwargs)
    if weights == "imagenet":
        try:
            with warnings.catch_warnings():
                # Keras warns that it takes the weights of 224 x 224 pixels; without the top they
                # are the same for every size.
                warnings.filterwarnings("ignore", message="`input_shape` is undefined")
                return build(weights="imagenet", **kwargs)
        except ValueError:
            raise  # an alpha that has no weights; Keras says which ones have
        except Exception as error:  # Keras raises a plain Exception when a download fails
            raise ConnectionError(
                "The ImageNet weights could not be downloaded. Without a network pass "
                "weights='path/to/file.weights.h5' for a file you have, or weights=None to start "
                "from random numbers."
            ) from error
    path = os.fspath(weights)
    if not os.path.exists(path):
        raise FileNotFoundError(
            f"There is no weights file {path!r}. Pass an existing .weights.h5 file, "
            "'imagenet' or None."
        )
    network = build(weights=None, **kwargs)
    try:
        network.load_weights(path)
    except (ValueError, OSError) as error:  # OSError: no HDF5 file
        raise ValueError(
            f"The weights in {path!r} do not fit {network.name}: they must come from the same "
            "network with the same alpha, without its top."
        ) from error
    return network
