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
    pyramid=None,
    filters=256,
    rates=None,
    separable=True,
    low_level="P2",
    low_level_filters=48,
    num_convs=2,
    dropout=0.1,
    input_shape=(None, None, 3),
    freeze_backbone=None,
):
    """Builds DeepLabV3+ of Chen, Zhu, Papandreou, Schroff and Adam.

    Args:
        num_classes: number of classes `C`.
        output_stride: of the backbone's last level: 8, 16 or 32. Halving it makes the last stages
            four times as costly. That of a backbone given as a `keras.Model` is its own.
        backbone, weights, alpha, input_shape, freeze_backbone: as in `seglib.models.unet`. Sizes
            that are known run faster.
        pyramid: function that remakes the backbone's levels; `jpu`, with an output stride of 32,
            makes a map at stride 8 without dilation in the backbone (FastFCN).
        filters: channels of the pyramid pooling and of the decoder's convolutions.
        rates: of the pyramid pooling. `None` takes (6, 12, 18) where its map has stride 16, twice
            that at 8 and half of it at 32.
        separable: split the 3x3 convolutions of pyramid pooling and decoder into one kernel a
            channel and a 1x1 convolution. Whole ones take 13.7 million weights more on a ResNet-50.
        low_level: the level with the detail, `"P2"` as published or `"P1"`; `None` goes without,
            which is DeepLabV3.
        low_level_filters: channels that it is narrowed to.
        num_convs: how many 3x3 convolutions follow.
        dropout: share of the values dropped after the pyramid pooling.

    Returns:
        `SegmentationModel` from an image `[B, H, W, 3]`, values 0 to 255, to logits
        `[B, H, W, C]`, float32, with its parts as `backbone`, `decoder` and `head`.

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
    decoder = fusion_decoder(
        backbone.output,
        "deeplab_v3_plus" if low_level else None,
        pyramid=pyramid,
        context=functools.partial(
            aspp, filters=filters, rates=rates, separable=separable, dropout=dropout
        ),
        low_level=low_level,
        low_level_filters=low_level_filters,
        num_convs=num_convs,
        filters=filters,
        separable=separable,
        output_stride=stride_of(backbone),
    )
    return SegmentationModel(
        backbone,
        decoder,
        segmentation_head(decoder.output, num_classes, upsampling=stride_of(backbone, decoder)),
        train_statistics=weights is None,
        input_shape=input_shape,
        name="deeplab_v3_plus" if low_level else "deeplab_v3",
    )
