"""Metrics on a label map and logits (or a predicted label map), exact over a whole epoch."""

from seglib.metrics.confusion import (
    ClassIoU,
    DiceScore,
    MeanIoU,
    PixelAccuracy,
    confusion_matrix,
)

__all__ = ["ClassIoU", "DiceScore", "MeanIoU", "PixelAccuracy", "confusion_matrix"]
