"""Mask R-CNN, one idea per file."""

from seglib.models.mask_rcnn.builder import mask_rcnn
from seglib.models.mask_rcnn.config import MaskRCNNConfig
from seglib.models.mask_rcnn.model import MaskRCNN

__all__ = ["MaskRCNN", "MaskRCNNConfig", "mask_rcnn"]
