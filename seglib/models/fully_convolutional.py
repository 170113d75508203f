"""FCN-32s, FCN-16s and FCN-8s: a classifier turned into convolutions, and scores fused by skips."""

import keras
from keras import ops

from seglib.core.checks import check_num_classes
from seglib.models.layers import Upsample
from seglib.models.levels import level_inputs
from seglib.models.segmentation_model import SegmentationModel, check_strides, prepare_backbone

SKIPS = {32: (), 16: ("P4",), 8: ("P4", "P3")}  # by the stride of the scores
# The activations of VGG16 are some hundred times larger at pool 4 than the classifier's, and more
# at pool 3. The authors' nets that train all skips at once scale them so.
VGG16_SKIP_SCALES = (0.01, 0.0001)


@keras.saving.register_keras_serializable("seglib")
def bilinear_kernel(shape, dtype=None):
    """Returns the kernel that makes a transposed convolution enlarge each channel bilinearly.

    The shape is `(size, size, C, C)`, of size `2 * factor` for an even factor, else one less.
    """
    size, _, channels_out, channels_in = shape
    distance = ops.abs(ops.arange(size, dtype="float32") - (size - 1) / 2)
    line = 1 - distance / ((size + 1) // 2)
    square = line[:, None] * line[None, :]  # (size, size)
    kernel = square[:, :, None, None] * ops.eye(channels_out, channels_in)
    return ops.cast(kernel, dtype or keras.config.floatx())


def upsample(x, factor, upsampling, *, name):
    """Enlarges scores `[B, H, W, C]`, in float32, by a whole factor, `"fixed"` or `"learned"`.

    `"learned"` is a transposed convolution that starts bilinear (section 3.3 of the paper). The map
    is padded by repeating its edge and cropped afterward, so before any training it has the same
    values as `"fixed"`, at the frame too.
    """
    if upsampling == "fixed":
        return Upsample(factor, dtype="float32", name=name)(x)
    if upsampling != "learned":
        raise ValueError(f"upsampling is {upsampling!r}, expected 'fixed' or 'learned'.")
    x = ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="symmetric")  # repeats the edge
    x = keras.layers.Conv2DTranspose(
        x.shape[-1],
        2 * factor - factor % 2,
        strides=factor,
        padding="same",
        use_bias=False,
        kernel_initializer=bilinear_kernel,
        dtype="float32",
        name=name,
    )(x)  # (B, factor (H + 2), factor (W + 2), C)
    return keras.layers.Cropping2D(factor, dtype="float32", name=f"{name}_crop")(x)


def fcn_decoder(
    levels,
    num_classes,
    *,
    stride=8,
    filters=256,
    kernel_size=7,
    dropout=0.5,
    upsampling="fixed",
    skip_scales=(1.0, 1.0),
):
    """Builds a decoder that scores each cell of the coarsest map, then corrects at finer ones.

    The classifier's dense layers become convolutions: `fc6`, as large as the map that the first of
    them looked at, and `fc7`, 1x1. `score`, 1x1 and linear, gives each class a number. Each skip
    doubles the scores' resolution and adds what a 1x1 convolution makes of a finer map.

    All score layers start at zero, as published: a skip that is added changes nothing until it has
    learned something. They are linear; a ReLU would take away every negative score.

    Args:
        levels: the backbone's output, `{"P3": [B, H/8, W/8, …], "P4": …, "P5": …}`.
        num_classes: number of classes `C`.
        stride: of the scores: 32, 16 (one skip, from P4) or 8 (two, from P4 and P3).
        filters: channels of `fc6` and `fc7`; 4096 as published.
        kernel_size: size of `fc6`; 7 as published.
        dropout: share of the channels dropped after `fc6` and `fc7`.
        upsampling: `"fixed"` (bilinear) or `"learned"`; see `upsample`.
        skip_scales: factors on P4 and P3. Where their values are much larger than those that
            `score` sees, scaling them down lets all three learn at one rate.

    Returns:
        `keras.Model` from the levels to scores `[B, H/stride, W/stride, C]`, float32.

    Raises:
        ValueError: for another stride or upsampling.

    Reference:
        Long, Shelhamer, Darrell: Fully Convolutional Networks for Semantic Segmentation, CVPR
        2015, figure 3; the scales are those of the authors' `voc-fcn8s-atonce`.
    """
    check_num_classes(num_classes)
    if stride not in SKIPS:
        raise ValueError(f"stride is {stride}, expected 8, 16 or 32.")

    def dense(size, name):
        options = {"padding": "same", "activation": "relu", "kernel_initializer": "he_normal"}
        return keras.layers.Conv2D(filters, size, name=name, **options)

    def scores_of(x, name):
        options = {"kernel_initializer": "zeros", "dtype": "float32"}
        return keras.layers.Conv2D(num_classes, 1, name=name, **options)(x)

    features = level_inputs(levels, ("P3", "P4", "P5"))
    x = dense(kernel_size, "fc6")(features["P5"])  # (B, H/32, W/32, filters)
    x = keras.layers.Dropout(dropout, name="drop6")(x)
    x = dense(1, "fc7")(x)  # (B, H/32, W/32, filters)
    x = keras.layers.Dropout(dropout, name="drop7")(x)
    scores = scores_of(x, "score")  # (B, H/32, W/32, C)
    for level, scale in zip(SKIPS[stride], skip_scales, strict=False):
        scores = upsample(scores, 2, upsampling, name=f"upsample_{level}")  # doubles H and W
        scaled = keras.layers.Rescaling(scale, name=f"scale_{level}")(features[level])
        skip = scores_of(scaled, f"score_{level}")
        scores = keras.layers.Add(name=f"add_{level}", dtype="float32")([scores, skip])
    return keras.Model(features, scores, name="decoder")  # (B, H/stride, W/stride, C)


def fcn(
    num_classes=3,
    *,
    stride=8,
    backbone="efficientnet_lite0",
    weights="imagenet",
    alpha=1.0,
    upsampling="fixed",
    skip_scales=None,
    input_shape=(None, None, 3),
    freeze_backbone=None,
    **decoder_options,
):
    """Builds a fully convolutional network of Long, Shelhamer and Darrell.

    As published, the head has 4096 channels: on VGG16 these are 119.5 of 134 million parameters.
    256 channels take 5% of the head's parameters and 4% of its time.

    Args:
        num_classes: number of classes `C`.
        stride: of the scores that are enlarged at the end: 32, 16 or 8.
        backbone, weights, alpha, input_shape, freeze_backbone: as in `seglib.models.unet`.
        upsampling: `"fixed"` (bilinear) or `"learned"` (transposed convolutions that start so).
            Long et al. find no significant difference and recommend fixed.
        skip_scales: factors on P4 and P3. `None` takes 0.01 and 0.0001 for VGG16 with pretrained
            weights, as the authors do where all skips train at once, and 1 otherwise.
        decoder_options: `filters`, `kernel_size` and `dropout` of `fcn_decoder`.

    Returns:
        `SegmentationModel`, as `unet` does; its head is the last upsampling.

    Raises:
        ValueError: for an unknown name, another stride or a backbone of other strides.

    Example:
        >>> model = fcn(3, backbone="small", weights=None)
        >>> model.compile("adam", losses.CrossEntropy())

    Reference:
        Long, Shelhamer, Darrell: Fully Convolutional Networks for Semantic Segmentation, CVPR
        2015; https://github.com/shelhamer/fcn.berkeleyvision.org
    """
    if skip_scales is None:
        pretrained_vgg16 = backbone == "vgg16" and weights is not None
        skip_scales = VGG16_SKIP_SCALES if pretrained_vgg16 else (1.0, 1.0)
    backbone, input_shape = prepare_backbone(
        backbone, weights=weights, alpha=alpha, input_shape=input_shape, freeze=freeze_backbone
    )
    check_strides(backbone)
    options = {"stride": stride, "upsampling": upsampling, "skip_scales": skip_scales}
    decoder = fcn_decoder(backbone.output, num_classes, **options, **decoder_options)
    scores = keras.Input(decoder.output.shape[1:], name="scores")
    logits = upsample(scores, stride, upsampling, name="upsample")  # (B, H, W, C)
    return SegmentationModel(
        backbone,
        decoder,
        keras.Model(scores, logits, name="head"),
        train_statistics=weights is None,
        input_shape=input_shape,
        name=f"fcn{stride}",
    )


def fcn32(num_classes=3, **options):
    """Builds FCN-32s: scores at stride 32, enlarged in one step. For the options see `fcn`."""
    return fcn(num_classes, stride=32, **options)


def fcn16(num_classes=3, **options):
    """Builds FCN-16s: one skip, from stride 16. For the options see `fcn`."""
    return fcn(num_classes, stride=16, **options)


def fcn8(num_classes=3, **options):
    """Builds FCN-8s: two skips, from strides 16 and 8. For the options see `fcn`."""
    return fcn(num_classes, stride=8, **options)


def convert_classifier(model, classifier):
    """Turns the dense layers of a trained VGG16 into the head of an FCN.

    A dense layer on a 7x7 map is a 7x7 convolution that fits in one place only; its weights,
    reshaped, are those of the convolution.

    Args:
        model: an FCN whose `filters` and `kernel_size` are those of the classifier: 4096 and 7.
        classifier: `keras.Model` with dense layers `fc1` and `fc2`, such as
            `keras.applications.VGG16(weights="imagenet")`.

    Raises:
        ValueError: if there are no such layers, or their sizes differ.

    Example:
        >>> model = fcn8(21, filters=4096)
        >>> convert_classifier(model, keras.applications.VGG16())
    """
    names = [layer.name for layer in classifier.layers]
    if "fc1" not in names or "fc2" not in names:
        raise ValueError(
            f"The classifier has the layers {', '.join(names)}, expected 'fc1' and 'fc2' among "
            "them. Build it with include_top=True."
        )
    for name, convolution in (("fc1", "fc6"), ("fc2", "fc7")):
        convolution = model.decoder.get_layer(convolution)
        kernel, bias = classifier.get_layer(name).get_weights()
        rows, columns, channels_in, channels_out = convolution.kernel.shape
        expected = (rows * columns * channels_in, channels_out)
        if kernel.shape != expected:
            raise ValueError(
                f"The dense layer {name!r} has a kernel of shape {kernel.shape}, expected "
                f"{expected}. Build the FCN with filters={kernel.shape[1]} and the backbone of "
                "the classifier."
            )
        convolution.set_weights([kernel.reshape(convolution.kernel.shape), bias])


def warm_start(model, coarser):
    """Starts a finer FCN from a trained coarser one: 32s, then 16s, then 8s (section 4.2).

    The backbone, the head and the skips that both have are copied; the new skips are set to zero.
    So the scores are the coarser model's, enlarged bilinearly, and the logits differ only where
    several small bilinear steps do from one large one.

    Args:
        model: the finer FCN, fresh.
        coarser: the FCN to start from, with the same options but the stride.

    Raises:
        ValueError: if it is not coarser, or its layers have other shapes.

    Example:
        >>> model16 = fcn16(3)
        >>> warm_start(model16, model32)
    """
    fine, coarse = (
        {layer.name: layer for layer in part.layers if layer.weights}
        for part in (model.decoder, coarser.decoder)
    )
    if not ("score" in coarse and coarse.keys() < fine.keys()):
        raise ValueError(
            f"The model to start from has the layers {', '.join(sorted(coarse))} in its decoder, "
            f"expected some, not all, of those of the finer one: {', '.join(sorted(fine))}. Build "
            "both with fcn32, fcn16 or fcn8 and the same options."
        )
    for name, layer in coarse.items():
        theirs, ours = ([tuple(w.shape) for w in x.weights] for x in (layer, fine[name]))
        if theirs != ours:
            raise ValueError(
                f"The layer {name!r} has weights of shapes {theirs} in the coarser model and "
                f"{ours} in the finer one, expected the same. Build both with the same options."
            )
    model.backbone.set_weights(coarser.backbone.get_weights())
    for name, layer in fine.items():
        if name in coarse:
            layer.set_weights(coarse[name].get_weights())
        elif name.startswith("score"):
            layer.set_weights([0 * weight for weight in layer.get_weights()])
