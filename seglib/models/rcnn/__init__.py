"""Mask R-CNN, one idea per file."""

from seglib.models.rcnn.builder import mask_rcnn
from seglib.models.rcnn.coco_classes import COCO_CLASSES
from seglib.models.rcnn.config import MaskRCNNConfig
from seglib.models.rcnn.matterport import load_matterport
from seglib.models.rcnn.matterport_model import MatterportMaskRCNN
from seglib.models.rcnn.model import MaskRCNN

__all__ = [
    "COCO_CLASSES",
    "MaskRCNN",
    "MaskRCNNConfig",
    "MatterportMaskRCNN",
    "load_matterport",
    "mask_rcnn",
]
