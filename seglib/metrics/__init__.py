"""Metrics on a label map and logits (or a predicted label map), exact over a whole epoch."""

from seglib.metrics.boundary import (
    AverageSurfaceDistance,
    BoundaryF1,
    BoundaryIoU,
    HausdorffDistance,
)
from seglib.metrics.coco import COCOAveragePrecision
from seglib.metrics.comparison import Difference, compare
from seglib.metrics.confusion import (
    ClassIoU,
    DiceScore,
    MeanIoU,
    PixelAccuracy,
    confusion_matrix,
)
from seglib.metrics.kinds_of_error import error_kinds
from seglib.metrics.panoptic import PanopticQuality
from seglib.metrics.reports import Report, report

__all__ = [
    "AverageSurfaceDistance",
    "BoundaryF1",
    "BoundaryIoU",
    "COCOAveragePrecision",
    "ClassIoU",
    "DiceScore",
    "Difference",
    "HausdorffDistance",
    "MeanIoU",
    "PanopticQuality",
    "PixelAccuracy",
    "Report",
    "compare",
    "confusion_matrix",
    "error_kinds",
    "report",
]
