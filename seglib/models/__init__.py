"""Segmentation models: a backbone, a decoder and a head."""

from seglib.models.aspp import ASPP
from seglib.models.backbone import backbone
from seglib.models.conv_block import AtrousConv2D, ConvBlock
from seglib.models.cost import LayerCost, PartCost, cost, layer_costs
from seglib.models.deeplab import deeplab_v3_plus
from seglib.models.dilation import dilate
from seglib.models.fcn import (
    FCNDecoder,
    LearnedUpsample,
    convert_classifier,
    fcn,
    fcn8,
    fcn16,
    fcn32,
    warm_start,
)
from seglib.models.fpn import FPN
from seglib.models.fusion import LowLevelFusion, PanopticFusion, PyramidFusion
from seglib.models.fusion_decoder import FusionDecoder
from seglib.models.guarded import load_model
from seglib.models.jpu import JPU
from seglib.models.mask_rcnn import MaskRCNN, MaskRCNNConfig, mask_rcnn
from seglib.models.segmentation_model import Head, SegmentationModel
from seglib.models.small_backbone import small_backbone
from seglib.models.unet import TutorialDecoder, UNetDecoder, unet
from seglib.models.unet_original import unet_original

__all__ = [
    "ASPP",
    "AtrousConv2D",
    "ConvBlock",
    "FCNDecoder",
    "FPN",
    "FusionDecoder",
    "Head",
    "JPU",
    "LayerCost",
    "LearnedUpsample",
    "LowLevelFusion",
    "MaskRCNN",
    "MaskRCNNConfig",
    "PanopticFusion",
    "PartCost",
    "PyramidFusion",
    "SegmentationModel",
    "TutorialDecoder",
    "UNetDecoder",
    "backbone",
    "convert_classifier",
    "cost",
    "deeplab_v3_plus",
    "dilate",
    "fcn",
    "fcn16",
    "fcn32",
    "fcn8",
    "layer_costs",
    "mask_rcnn",
    "load_model",
    "small_backbone",
    "unet",
    "unet_original",
    "warm_start",
]
