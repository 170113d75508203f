"""Backbones: from raw pixels to feature maps at strides 2, 4, 8, 16 and 32.

Each is one entry of `BACKBONES`: how it is built, how it wants its pixels, and which layers are P1
to P5.
"""

import dataclasses
import functools
import os
import warnings
from collections.abc import Callable

import keras
from keras import ops

from seglib.core.constants import MOMENTUM
from seglib.models.dilation import dilate
from seglib.models.efficientnet import efficientnet_lite
from seglib.models.small import small_backbone

# The mean color of the ImageNet pictures, blue first as Caffe stores them.
MEAN_BGR = (103.939, 116.779, 123.68)
# The deviation of their colors, red first, for values from 0 to 1.
DEVIATION_RGB = (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True)
class Entry:
    """What `backbone` knows of a network."""

    build: Callable  # of weights, input_shape and, with widths, alpha; the network takes raw pixels
    levels: tuple[str, ...]  # names of the layers that P1 to P5 come from
    widths: bool = False  # whether it comes in several widths
    pretrained: bool = True  # whether there are ImageNet weights
    mend: Callable | None = None  # of the network and weights, called when these are loaded


def application(build, scale):
    """Returns a function that builds a network of `keras.applications` on scaled pixels."""

    def network(*, weights, input_shape, **options):
        image = keras.Input(input_shape, name="image")
        return build(weights=weights, input_tensor=scale(image), include_top=False, **options)

    return network


def to_plus_minus_one(image):
    return keras.layers.Rescaling(1 / 127.5, offset=-1.0, name="scale_pixels")(image)


def as_caffe(image):
    # VGG16 and the ResNets were trained in Caffe, or as if they were: blue first, mean about 0.
    offset = [-mean for mean in MEAN_BGR]
    return keras.layers.Rescaling(1.0, offset, name="subtract_mean")(ops.flip(image, -1))


def mend_efficientnet_b0(network, weights):
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


def lite(name, blocks):
    # The last map before each halving of the resolution, and the projection of the last block.
    *inner, last = blocks
    levels = (*(f"block{block}_expand_relu" for block in inner), f"block{last}_project_bn")
    return Entry(functools.partial(efficientnet_lite, name, include_top=False), levels)


def resnet(build, blocks):
    # The last block of each stage; `blocks` is how many the fourth has.
    stages = (("2", 3), ("3", 4), ("4", blocks), ("5", 3))
    levels = ("conv1_relu", *(f"conv{stage}_block{block}_out" for stage, block in stages))
    return Entry(application(build, as_caffe), levels)


BACKBONES = {
    "efficientnet_lite0": lite("efficientnet_lite0", (1, 3, 5, 11, 15)),
    "efficientnet_lite1": lite("efficientnet_lite1", (1, 4, 7, 15, 20)),
    "efficientnet_lite2": lite("efficientnet_lite2", (1, 4, 7, 15, 20)),
    # The last layer before each halving of the resolution. P5 is the narrow projection of the last
    # block, not the 1280 channels that only the classifier needs.
    "mobilenet_v2": Entry(
        application(keras.applications.MobileNetV2, to_plus_minus_one),
        (*(f"block_{n}_expand_relu" for n in (1, 3, 6, 13)), "block_16_project_BN"),
        widths=True,
    ),
    # It scales pixels itself: less the mean, by the deviation, both stored with the weights.
    "efficientnet_b0": Entry(
        application(keras.applications.EfficientNetB0, lambda image: image),
        (*(f"block{n}a_expand_activation" for n in (2, 3, 4, 6)), "block7a_project_bn"),
        mend=mend_efficientnet_b0,
    ),
    # A pooling layer halves the resolution and ends a block: the "pools" of the FCN paper.
    "vgg16": Entry(
        application(keras.applications.VGG16, as_caffe),
        tuple(f"block{n}_pool" for n in range(1, 6)),
    ),
    "resnet50": resnet(keras.applications.ResNet50, 6),
    "resnet101": resnet(keras.applications.ResNet101, 23),
    "small": Entry(
        lambda weights, **options: small_backbone(**options),
        tuple(f"level{n}_add" for n in range(1, 6)),
        widths=True,
        pretrained=False,
    ),
}


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
        name: of an entry in `BACKBONES`. `"vgg16"` gives its five pooling layers; `"small"` is
            `small_backbone`, which learns from random numbers.
        weights: `"imagenet"`, the path of a local `.weights.h5` file of the same network without
            its top (`keras.applications` downloads such files), or `None` for random numbers. The
            ImageNet weights of EfficientNet-Lite come from an installed package, those of the
            others are downloaded by Keras. For `"small"` only `None`.
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
        FileNotFoundError, ConnectionError, ModuleNotFoundError: if the file of the weights is not
            there, cannot be downloaded, or is a package that is not installed.

    Reference:
        Sandler et al.: MobileNetV2: Inverted Residuals and Linear Bottlenecks, CVPR 2018.
        Simonyan, Zisserman: Very Deep Convolutional Networks for Large-Scale Image Recognition,
        ICLR 2015, table 1, column D (VGG16).
        He et al.: Deep Residual Learning for Image Recognition, CVPR 2016, table 1.
        Tan, Le: EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, ICML
        2019, table 1. EfficientNet-Lite: see `seglib.models.efficientnet_lite`.
    """
    if name not in BACKBONES:
        raise ValueError(
            f"backbone is {name!r}, expected one of {', '.join(map(repr, BACKBONES))}."
        )
    entry = BACKBONES[name]
    if weights is not None and not entry.pretrained:
        raise ValueError(
            f"weights is {weights!r}, expected None: {name!r} has no pretrained weights. "
            "Pass weights=None, or backbone='efficientnet_lite0'."
        )
    if input_shape[-1] != 3:
        raise ValueError(
            f"input_shape is {input_shape}, expected (height, width, 3): the backbones take RGB "
            "pictures. Pictures of other channels suit unet_original, or a backbone of your own."
        )
    if alpha != 1 and not entry.widths:
        raise ValueError(
            f"alpha is {alpha}, expected 1: {name!r} comes in one width. Narrow the decoder "
            "instead, or take backbone='mobilenet_v2'."
        )
    options = {"alpha": alpha} if entry.widths else {}
    network = load(entry.build, weights, input_shape=input_shape, **options)
    if entry.mend:
        entry.mend(network, weights)
    if weights is None:
        for layer in network.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = MOMENTUM
    levels = {f"P{n}": network.get_layer(x).output for n, x in enumerate(entry.levels, start=1)}
    return dilate(keras.Model(network.inputs[0], levels, name=name), output_stride)


def load(build, weights, **options):
    """Builds a network and puts the asked weights in."""
    if weights is None:
        return build(weights=None, **options)
    if weights == "imagenet":
        try:
            with warnings.catch_warnings():
                # Keras warns that it takes the weights of 224 x 224 pixels; without the top they
                # are the same for every size.
                warnings.filterwarnings("ignore", message="`input_shape` is undefined")
                return build(weights="imagenet", **options)
        except (ValueError, ModuleNotFoundError):
            raise  # an alpha that has no weights, or a package that is not installed
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
    network = build(weights=None, **options)
    try:
        network.load_weights(path)
    except (ValueError, OSError) as error:  # OSError: no HDF5 file
        raise ValueError(
            f"The weights in {path!r} do not fit {network.name}: they must come from the same "
            "network with the same alpha, without its top."
        ) from error
    return network


def freeze_statistics(network):
    """Makes a network's BatchNorm layers untrainable, so that they use their stored statistics."""
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False


def unfreeze(network, first=None, *, train_statistics=False):
    """Makes a backbone trainable, without its BatchNorm layers unless `train_statistics`.

    The convolutions can do what a BatchNorm's scale and shift do, and the gradients of these two
    vectors are sums over the largest maps, about a fifth of a fine-tuning step. The layers before
    the one called `first` stay frozen.

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
