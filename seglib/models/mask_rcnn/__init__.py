"""Mask R-CNN, one idea per file."""

from seglib.models.mask_rcnn.builder import mask_rcnn
from seglib.models.mask_rcnn.coco_classes import COCO_CLASSES
from seglib.models.mask_rcnn.config import MaskRCNNConfig
from seglib.models.mask_rcnn.matterport import load_matterport
from seglib.models.mask_rcnn.matterport_model import MatterportMaskRCNN
from seglib.models.mask_rcnn.model import MaskRCNN

__all__ = [
    "COCO_CLASSES",
    "MaskRCNN",
    "MaskRCNNConfig",
    "MatterportMaskRCNN",
    "load_matterport",
    "mask_rcnn",
]
