"""Segmentation models: a backbone, a decoder and a head."""

from seglib.models.backbones import backbone
from seglib.models.convolution import AtrousConv2D, conv_norm_relu
from seglib.models.costs import LayerCost, PartCost, cost, layer_costs
from seglib.models.deeplab import deeplab_v3_plus
from seglib.models.dilation import dilate
from seglib.models.efficientnet import efficientnet_lite
from seglib.models.fully_convolutional import (
    bilinear_kernel,
    convert_classifier,
    fcn,
    fcn8,
    fcn16,
    fcn32,
    fcn_decoder,
    warm_start,
)
from seglib.models.fusion import fusion_decoder
from seglib.models.guarded import load_model
from seglib.models.layers import Upsample
from seglib.models.levels import levels_for, stride_of
from seglib.models.pyramids import RATES, aspp, fpn, jpu
from seglib.models.rcnn import MaskRCNN, MaskRCNNConfig, mask_rcnn
from seglib.models.segmentation_model import SegmentationModel, segmentation_head
from seglib.models.small import small_backbone
from seglib.models.u_net import tutorial_decoder, unet, unet_decoder, unet_original

__all__ = [
    "AtrousConv2D",
    "LayerCost",
    "MaskRCNN",
    "MaskRCNNConfig",
    "PartCost",
    "RATES",
    "SegmentationModel",
    "Upsample",
    "aspp",
    "backbone",
    "bilinear_kernel",
    "conv_norm_relu",
    "convert_classifier",
    "cost",
    "deeplab_v3_plus",
    "dilate",
    "efficientnet_lite",
    "fcn",
    "fcn16",
    "fcn32",
    "fcn8",
    "fcn_decoder",
    "fpn",
    "fusion_decoder",
    "jpu",
    "layer_costs",
    "levels_for",
    "load_model",
    "mask_rcnn",
    "segmentation_head",
    "small_backbone",
    "stride_of",
    "tutorial_decoder",
    "unet",
    "unet_decoder",
    "unet_original",
    "warm_start",
]
