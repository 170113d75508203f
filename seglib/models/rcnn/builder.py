"""Mask R-CNN by name, as the other models of the book are built."""

import os

from seglib.models.rcnn.config import MaskRCNNConfig
from seglib.models.rcnn.matterport import is_matterport, matterport
from seglib.models.rcnn.model import MaskRCNN


def mask_rcnn(num_classes=None, *, backbone=None, weights="imagenet", image_size=None, **settings):
    """Builds a Mask R-CNN; `MaskRCNN(config)` does so from a whole `MaskRCNNConfig`.

    Args:
        num_classes: of the objects, without the background; by default as many as `class_names`
            has, or 80.
        backbone: a name that `seglib.models.backbone` knows; by default `"resnet50"`.
        weights: of the backbone: `"imagenet"`, the path of a weights file, or `None`. Or of the
            whole model: the path of a file that matterport's Mask R-CNN saved, whose backbone is a
            ResNet-101 by default; see `seglib.models.rcnn.matterport`.
        image_size: height and width that pictures are fitted into, a number or a pair, multiples
            of 32.
        settings: any other field of `MaskRCNNConfig`, by name, such as `class_names`.

    Example:
        >>> model = mask_rcnn(2, backbone="mobilenet_v2", image_size=256)
        >>> model = mask_rcnn(class_names=COCO_CLASSES, weights="mask_rcnn_coco.h5")
    """
    if isinstance(image_size, int):
        image_size = (image_size, image_size)
    if num_classes is None and settings.get("class_names"):
        num_classes = len(settings["class_names"])
    given = {"num_classes": num_classes, "backbone": backbone, "image_size": image_size}
    given = {name: value for name, value in given.items() if value is not None} | settings
    if isinstance(weights, str | os.PathLike) and is_matterport(weights):
        return matterport(weights, **given)
    return MaskRCNN(MaskRCNNConfig(weights=weights, **given))
