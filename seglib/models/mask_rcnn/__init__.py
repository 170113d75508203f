"""Mask R-CNN, one idea per file."""

from seglib.models.mask_rcnn.config import MaskRCNNConfig
from seglib.models.mask_rcnn.model import MaskRCNN

__all__ = ["MaskRCNN", "MaskRCNNConfig"]
