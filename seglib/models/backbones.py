"""Backbones: from raw pixels to feature maps at strides 2, 4, 8, 16 and 32."""

import functools
import os
import warnings

import keras
from keras import ops

from seglib.core.constants import MOMENTUM
from seglib.models.dilation import dilate
from seglib.models.efficientnet import efficientnet_lite
from seglib.models.small import small_backbone

# The layers that P1 to P5 come from.
LEVELS = {
    # The last map before each halving of the resolution, and the projection of the last block.
    **{
        f"efficientnet_lite{n}": (
            *(f"block{block}_expand_relu" for block in blocks[:-1]),
            f"block{blocks[-1]}_project_bn",
        )
        for n, blocks in enumerate([(1, 3, 5, 11, 15), (1, 4, 7, 15, 20), (1, 4, 7, 15, 20)])
    },
    # The last layer before each halving of the resolution. P5 is the narrow projection of the last
    # block, not the 1280 channels that only the classifier needs.
    "mobilenet_v2": (
        "block_1_expand_relu",
        "block_3_expand_relu",
        "block_6_expand_relu",
        "block_13_expand_relu",
        "block_16_project_BN",
    ),
    "efficientnet_b0": (
        "block2a_expand_activation",
        "block3a_expand_activation",
        "block4a_expand_activation",
        "block6a_expand_activation",
        "block7a_project_bn",
    ),
    # A pooling layer halves the resolution and ends a block: the "pools" of the FCN paper.
    "vgg16": tuple(f"block{n}_pool" for n in range(1, 6)),
    # The last block of each stage.
    "resnet50": (
        "conv1_relu",
        "conv2_block3_out",
        "conv3_block4_out",
        "conv4_block6_out",
        "conv5_block3_out",
    ),
    "resnet101": (
        "conv1_relu",
        "conv2_block3_out",
        "conv3_block4_out",
        "conv4_block23_out",
        "conv5_block3_out",
    ),
}
NAMES = (*LEVELS, "small")
# The mean color of the ImageNet pictures, blue first as Caffe stores them.
MEAN_BGR = (103.939, 116.779, 123.68)
# The deviation of their colors, red first, for values from 0 to 1.
DEVIATION_RGB = (0.229, 0.224, 0.225)


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


def backbone(
    name="efficientnet_lite0",
    *,
    weights="imagenet",
    alpha=1.0,
    output_stride=32,
    input_shape=(None, None, 3),
):
    """Builds a feature extractor that takes raw pixels.

    Args:
        name: `"efficientnet_lite0"`, `"efficientnet_lite1"`, `"efficientnet_lite2"`,
            `"mobilenet_v2"`, `"efficientnet_b0"`, `"vgg16"` (its five pooling layers),
            `"resnet50"`, `"resnet101"`, or `"small"` (`small_backbone`, which learns from random
            numbers).
        weights: `"imagenet"`, the path of a local `.weights.h5` file of the same network without
            its top, or `None` for random numbers. The ImageNet weights of EfficientNet-Lite come
            from an installed package, those of the others are downloaded by `keras.applications`,
            whose `.h5` files are local files of that kind, too. For `"small"` only `None`.
        alpha: width multiplier; ImageNet weights of MobileNetV2 exist for 0.35, 0.5, 0.75, 1.0,
            1.3 and 1.4. `"small"` takes any; the others come in one width.
        output_stride: of the last levels: 32, or 16 or 8 with dilated kernels; see
            `seglib.models.dilation`. The weights are the same.
        input_shape: `(H, W, 3)`, each of H and W a number or `None`.

    Returns:
        `keras.Model` from an image `[B, H, W, 3]` with values 0 to 255 to a dict of feature maps
        `{"P1": [B, H/2, W/2, C1], …, "P5": [B, H/32, W/32, C5]}`; with an output stride of 16 or 8
        no level is coarser than that. The scaling of the pixels is its first layer. H and W should
        be multiples of 32, so that each level is twice as large as the next; `SegmentationModel`
        pads other sizes.

    Raises:
        ValueError: for an unknown name or output stride, or weights that do not fit.
        FileNotFoundError: if the weights' path does not exist.
        ConnectionError: if the ImageNet weights cannot be downloaded.
        ModuleNotFoundError: if they are a package that is not installed.

    Reference:
        Sandler et al.: MobileNetV2: Inverted Residuals and Linear Bottlenecks, CVPR 2018.
        Simonyan, Zisserman: Very Deep Convolutional Networks for Large-Scale Image Recognition,
        ICLR 2015, table 1, column D (VGG16).
        He et al.: Deep Residual Learning for Image Recognition, CVPR 2016, table 1.
        Tan, Le: EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, ICML
        2019, table 1. For EfficientNet-Lite see `seglib.models.efficientnet_lite`.
    """
    if name not in NAMES:
        raise ValueError(f"backbone is {name!r}, expected one of {', '.join(map(repr, NAMES))}.")
    if name == "small":
        if weights is not None:
            raise ValueError(
                f"weights is {weights!r}, expected None: 'small' has no pretrained weights. "
                "Pass weights=None, or backbone='efficientnet_lite0'."
            )
        return dilate(small_backbone(alpha=alpha, input_shape=input_shape), output_stride)
    if alpha != 1 and name != "mobilenet_v2":
        raise ValueError(
            f"alpha is {alpha}, expected 1: {name!r} comes in one width. Narrow the decoder "
            "instead, or take backbone='mobilenet_v2'."
        )
    image = keras.Input(input_shape, name="image")
    if name.startswith("efficientnet_lite"):
        network = _efficientnet_lite(name, weights, input_shape)
        image = network.input
    elif name == "mobilenet_v2":
        network = _mobilenet_v2(image, weights, alpha)
    elif name == "efficientnet_b0":
        network = _efficientnet_b0(image, weights)
    else:
        network = _from_caffe(name, image, weights)
    if weights is None:
        for layer in network.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = MOMENTUM
    levels = {f"P{n}": network.get_layer(x).output for n, x in enumerate(LEVELS[name], start=1)}
    return dilate(keras.Model(image, levels, name=name), output_stride)


def _efficientnet_lite(name, weights, input_shape):
    build = functools.partial(efficientnet_lite, name, input_shape=input_shape)
    if weights in ("imagenet", None):
        return build(weights=weights, include_top=False)
    return _load(build, weights)


def _mobilenet_v2(image, weights, alpha):
    # It was trained on pixels from -1 to 1.
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0, name="scale_pixels")(image)
    return _load(keras.applications.MobileNetV2, weights, input_tensor=x, alpha=alpha)


def _efficientnet_b0(image, weights):
    # It scales pixels itself: less the mean, by the deviation, both stored with the weights.
    network = _load(keras.applications.EfficientNetB0, weights, input_tensor=image)
    for layer in network.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0  # it drops whole blocks, also of a backbone that does not train
    if weights not in (None, "imagenet"):
        # Those weights were trained with one more division, by the square root of the deviation.
        # Keras has a layer for it, but only with weights="imagenet" (tensorflow#49930).
        [norm] = [x for x in network.layers if isinstance(x, keras.layers.Normalization)]
        mean, variance, count = norm.get_weights()
        norm.set_weights([mean, variance * DEVIATION_RGB, count])
        norm.finalize_state()
    return network


def _from_caffe(name, image, weights):
    # VGG16 and the ResNets were trained in Caffe, or as if they were.
    build = {
        "vgg16": keras.applications.VGG16,
        "resnet50": keras.applications.ResNet50,
        "resnet101": keras.applications.ResNet101,
    }[name]
    x = SubtractMean(name="subtract_mean")(image)
    return _load(build, weights, input_tensor=x)


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


def freeze_statistics(network):
    """Lets a network's BatchNorm layers keep their statistics, scales and shifts in training.

    A BatchNorm layer that is not trainable uses the statistics that it has stored.
    """
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False


def unfreeze(network, first=None, *, train_statistics=False):
    """Makes a backbone trainable, without its BatchNorm layers.

    The convolutions can do what a BatchNorm's scale and shift do, and the gradients of these two
    vectors are sums over the largest maps, about a fifth of a fine-tuning step.

    Args:
        network: the backbone.
        first: name of the first layer that trains; those before it stay frozen. `None` trains all.
        train_statistics: train the BatchNorm layers, too, and let their statistics follow the data.

    Raises:
        ValueError: if no layer has that name.
    """
    names = [layer.name for layer in network.layers]
    if first is not None and first not in names:
        raise ValueError(f"The backbone has no layer {first!r}. Its layers are {', '.join(names)}.")
    network.trainable = True
    for layer in network.layers[: names.index(first) if first else 0]:
        layer.trainable = False
    if not train_statistics:
        freeze_statistics(network)
