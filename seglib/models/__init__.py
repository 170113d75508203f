"""Segmentation models: a backbone, a decoder and a head."""

from seglib.models.backbone import backbone
from seglib.models.cost import LayerCost, PartCost, cost, layer_costs
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
from seglib.models.segmentation_model import Head, SegmentationModel
from seglib.models.small_backbone import small_backbone
from seglib.models.unet import TutorialDecoder, UNetDecoder, unet
from seglib.models.unet_original import unet_original

__all__ = [
    "FCNDecoder",
    "Head",
    "LayerCost",
    "LearnedUpsample",
    "PartCost",
    "SegmentationModel",
    "TutorialDecoder",
    "UNetDecoder",
    "backbone",
    "convert_classifier",
    "cost",
    "fcn",
    "fcn8",
    "fcn16",
    "fcn32",
    "layer_costs",
    "small_backbone",
    "unet",
    "unet_original",
    "warm_start",
]
