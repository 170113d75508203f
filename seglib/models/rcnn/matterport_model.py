"""A Mask R-CNN that places boxes and reads features as matterport's does."""

import keras
import numpy as np
from keras import ops

from seglib.models.rcnn.boxes import clip
from seglib.models.rcnn.model import MaskRCNN
from seglib.models.rcnn.roi_align import level_of, roi_align

# From the edges of a box, ours, to the centers of its outermost pixels, theirs.
TO_CENTERS = np.float32([0, 0, 1, 1])


@keras.saving.register_keras_serializable("seglib")
class MatterportMaskRCNN(MaskRCNN):
    """`MaskRCNN` for weights of matterport's, which learned from another geometry.

    - Inside the model a box runs from the center of its first pixel to that of its last, so it is
      a pixel smaller each way. Inputs and outputs are as everywhere in this package.
    - Anchors stand at the upper left corner of their cell, not in its middle.
    - A feature map is read in a box at points from edge to edge, one a bin, instead of within the
      bins; the first and last cells of a map belong to the picture's first and last pixels.
    - The level that a box is read from is rounded to the nearest, not down.
    - The pooling at the beginning of the ResNet pads after the last row and column, not before the
      first.
    - Before the suppression the best anchors of all levels together are chosen, not of each.
    - The rest of the model's input beside a picture is black, not gray.

    Three differences from theirs remain: `detect` puts a picture into the upper left corner, they
    into the middle; a small square one becomes as large as the model's input, theirs at least 800
    pixels; masks are cut and pasted with the exact box, theirs with a rounded one.

    Raises:
        ValueError: for another backbone than a ResNet, or anchors of another shape than theirs.
    """

    padding = 0
    anchor_offset = 0
    ranks_levels_apart = False

    def __init__(self, config, **kwargs):
        if config.backbone not in ("resnet50", "resnet101"):
            raise ValueError(
                f"backbone is {config.backbone!r}, expected 'resnet50' or 'resnet101': "
                "matterport's Mask R-CNN has no other."
            )
        if sorted(config.anchor_ratios) != [0.5, 1.0, 2.0]:
            raise ValueError(
                f"anchor_ratios is {config.anchor_ratios}, expected 0.5, 1 and 2, in any order: "
                "matterport's Mask R-CNN was trained with these."
            )
        super().__init__(config, **kwargs)
        self.backbone.get_layer("pool1_pad").padding = ((0, 1), (0, 1))
        self.anchors = [anchors - TO_CENTERS for anchors in self.anchors]

    @property
    def frame(self):
        """Center of the picture's last pixel, (y, x)."""
        height, width = self.config.image_size
        return height - 1, width - 1

    def align(self, features, boxes, size):
        names = self.config.roi_levels
        boxes = clip(boxes, *self.frame)
        level = self.level_of(boxes)
        boxes = as_bins(boxes * self.cells_per_pixel(features, level), size)
        stride = 2.0 ** ops.cast(level, "float32")
        return roi_align(
            {name: features[name] for name in names},
            boxes * stride[..., None],
            strides=self.config.strides,
            size=size,
            samples=1,
            level=level,
        )

    def level_of(self, boxes):
        """Returns the level that each box is read from, `[B, R]`."""
        levels = self.config.roi_levels
        # Rounding to the nearest is rounding down from half a level more. They take the size as a
        # share of the picture, whose sides are a pixel shorter from center to center.
        share = np.prod(np.divide(self.frame, self.config.image_size))
        return level_of(
            boxes,
            finest=int(levels[0][1:]),
            coarsest=int(levels[-1][1:]),
            canonical_size=float(self.config.canonical_size * np.sqrt(share / 2)),
        )

    def cells_per_pixel(self, features, level):
        """Returns what each box is multiplied by to be in cells of its level, `[B, R, 4]`."""
        names = self.config.roi_levels
        cells = np.array([features[name].shape[1:3] for name in names])  # (L, 2)
        scale = np.tile((cells - 1) / self.frame, 2).astype("float32")  # (L, 4)
        return ops.take(ops.convert_to_tensor(scale), level - int(names[0][1:]), axis=0)

    def find(self, features, proposals):
        found = super().find(features, proposals)
        boxes = clip(found["boxes"], *self.frame) + TO_CENTERS
        found["boxes"] = ops.where(found["classes"][..., None] >= 0, boxes, 0.0)
        return found

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        if isinstance(y, dict) and {"boxes", "classes"} <= set(y):
            boxes = ops.cast(y["boxes"], "float32") - TO_CENTERS
            y = y | {"boxes": ops.where(y["classes"][..., None] >= 0, boxes, 0.0)}
        return super().compute_loss(x, y, y_pred, sample_weight, training)


def as_bins(boxes, size):
    """Returns boxes whose bins have their centers where others, `[..., 4]`, are to be read.

    `size` points from edge to edge, both included, are the centers of `size` bins of a box that is
    half a bin larger on every side; and the center of cell 0 is at half a cell.
    """
    start, end = boxes[..., :2], boxes[..., 2:]
    half = (end - start) / (size - 1) / 2
    return ops.concatenate([start - half, end + half], axis=-1) + 0.5
