"""Losses on a label map `[B, H, W]` and logits `[B, H, W, C]`."""

from seglib.losses.base import SegmentationLoss, WeightedSum
from seglib.losses.boundary import Boundary, Hausdorff, ShapeAware
from seglib.losses.compound import Combo, ExpLog
from seglib.losses.distribution import (
    BalancedCrossEntropy,
    CrossEntropy,
    DistancePenalized,
    Focal,
    IoUBalanced,
    TopK,
)
from seglib.losses.lovasz import LovaszHinge, LovaszSoftmax
from seglib.losses.region import (
    Dice,
    FocalTversky,
    Jaccard,
    LogCoshDice,
    SensitivitySpecificity,
    Tversky,
)

__all__ = [
    "BalancedCrossEntropy",
    "Boundary",
    "Combo",
    "CrossEntropy",
    "Dice",
    "DistancePenalized",
    "ExpLog",
    "Focal",
    "FocalTversky",
    "Hausdorff",
    "IoUBalanced",
    "Jaccard",
    "LogCoshDice",
    "LovaszHinge",
    "LovaszSoftmax",
    "SegmentationLoss",
    "SensitivitySpecificity",
    "ShapeAware",
    "TopK",
    "Tversky",
    "WeightedSum",
]
