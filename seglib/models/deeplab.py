"""DeepLabV3+: a dilated backbone, pyramid pooling, and detail from an early level."""

import functools

from seglib.models.fusion import fusion_decoder
from seglib.models.levels import stride_of
from seglib.models.pyramids import aspp
from seglib.models.segmentation_model import (
    SegmentationModel,
    prepare_backbone,
    segmentation_head,
)


def deeplab_v3_plus(
    num_classes=3,
    *,
    backbone="efficientnet_lite0",
    output_stride=16,
    weights="imagenet",
    alpha=1.0,
    rates=None,
    dropout=0.1,
    filters=256,
    separable=True,
    low_level="P2",
    input_shape=(None, None, 3),
    freeze_backbone=None,
    **decoder_options,
):
    """Builds DeepLabV3+ of Chen, Zhu, Papandreou, Schroff and Adam.

    Args:
        num_classes: number of classes `C`.
        output_stride: of the backbone's last level: 8, 16 or 32. Halving it makes the last stages
            four times as costly. That of a backbone given as a `keras.Model` is its own.
        backbone, weights, alpha, input_shape, freeze_backbone: as in `seglib.models.unet`. Sizes
            that are known run faster.
        rates, dropout: of the pyramid pooling, `aspp`.
        filters: channels of the pyramid pooling and of the decoder's convolutions.
        separable: split the 3x3 convolutions of both into one kernel per channel and a 1x1
            convolution. Whole ones take 13.7 million weights more on a ResNet-50.
        low_level: the level with the detail, `"P2"` as published or `"P1"`; `None` goes without,
            which is DeepLabV3.
        decoder_options: `low_level_filters`, `num_convs` and `pyramid` of `fusion_decoder`. The
            last may be `jpu`, with an output stride of 32: no dilation in the backbone (FastFCN).

    Returns:
        `SegmentationModel`, as `unet` does.

    Raises:
        ValueError: for an unknown name, level or output stride.

    Example:
        >>> model = deeplab_v3_plus(3, backbone="small", weights=None)
        >>> model.compile("adam", losses.CrossEntropy())

    Reference:
        Chen et al.: Encoder-Decoder with Atrous Separable Convolution for Semantic Image
        Segmentation, ECCV 2018; DeepLabV3: Chen et al.: Rethinking Atrous Convolution for Semantic
        Image Segmentation, arXiv:1706.05587.
    """
    backbone, input_shape = prepare_backbone(
        backbone,
        weights=weights,
        alpha=alpha,
        input_shape=input_shape,
        freeze=freeze_backbone,
        output_stride=output_stride,
    )
    context = {"rates": rates, "dropout": dropout}
    decoder = fusion_decoder(
        backbone.output,
        "deeplab_v3_plus" if low_level else None,
        context=functools.partial(aspp, filters=filters, separable=separable, **context),
        low_level=low_level,
        filters=filters,
        separable=separable,
        output_stride=stride_of(backbone),
        **decoder_options,
    )
    return SegmentationModel(
        backbone,
        decoder,
        segmentation_head(decoder.output, num_classes, upsampling=stride_of(backbone, decoder)),
        train_statistics=weights is None,
        input_shape=input_shape,
        name="deeplab_v3_plus" if low_level else "deeplab_v3",
    )
