"""Backbones: from raw pixels to feature maps at strides 2, 4, 8, 16 and 32."""

import os
import warnings

import keras
from keras import ops

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
# A pooling layer halves the resolution and ends a block: the "pools" of the FCN paper.
VGG16_LEVELS = {f"P{n}": f"block{n}_pool" for n in range(1, 6)}
# The mean color of the ImageNet pictures, blue first as Caffe stores them.
MEAN_BGR = (103.939, 116.779, 123.68)
NAMES = ("mobilenet_v2", "vgg16", "small")


@keras.saving.register_keras_serializable("seglib")
class SubtractMean(keras.layers.Layer):
    """Turns RGB into BGR and takes off the mean color, as the networks trained in Caffe expect.

    Shape:
        `[B, H, W, 3]`, RGB, values 0 to 255, to `[B, H, W, 3]`, BGR, mean about 0.
    """

    def call(self, image):
        return image[..., ::-1] - ops.convert_to_tensor(MEAN_BGR, image.dtype)

    def compute_output_shape(self, shape):
        return shape


def backbone(name="mobilenet_v2", *, weights="imagenet", alpha=1.0, input_shape=(None, None, 3)):
    """Builds a feature extractor that takes raw pixels.

    Args:
        name: `"mobilenet_v2"`, `"vgg16"` (its five pooling layers), or `"small"`
            (`small_backbone`, which learns from random numbers).
        weights: `"imagenet"` (downloaded by `keras.applications`), the path of a local
            `.weights.h5` file in the layout of `keras.applications` without its top, or `None`
            for random numbers. The `.h5` file that `keras.applications` downloads is one, too. For
            `"small"` only `None`.
        alpha: width multiplier; ImageNet weights of MobileNetV2 exist for 0.35, 0.5, 0.75, 1.0,
            1.3 and 1.4. For `"vgg16"` only 1.
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
        Simonyan, Zisserman: Very Deep Convolutional Networks for Large-Scale Image Recognition,
        ICLR 2015, table 1, column D (VGG16).
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
    build = {"mobilenet_v2": _mobilenet_v2, "vgg16": _vgg16}[name]
    image = keras.Input(input_shape, name="image")
    network, levels = build(image, weights, alpha)
    features = {level: network.get_layer(layer).output for level, layer in levels.items()}
    return keras.Model(image, features, name=name)


def _mobilenet_v2(image, weights, alpha):
    # It was trained on pixels from -1 to 1.
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0, name="scale_pixels")(image)
    network = _load(keras.applications.MobileNetV2, weights, input_tensor=x, alpha=alpha)
    if weights is None:
        for layer in network.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = MOMENTUM
    return network, MOBILENET_V2_LEVELS


def _vgg16(image, weights, alpha):
    if alpha != 1:
        raise ValueError(
            f"alpha is {alpha}, expected 1: VGG16 comes in one width. Narrow the head of an FCN "
            "instead (head_width), or take backbone='mobilenet_v2'."
        )
    x = SubtractMean(name="subtract_mean")(image)
    return _load(keras.applications.VGG16, weights, input_tensor=x), VGG16_LEVELS


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
