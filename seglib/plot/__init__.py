"""Figures: label maps, boxes and masks, curves, confusion matrices, costs, weights.

Every function returns a closed `matplotlib.figure.Figure`, so a notebook shows it once.
"""

from seglib.plot.label_maps import CLASSES, as_label_map, colorize, error_map, legend, show
from seglib.plot.objects import boxes, instances
from seglib.plot.parameters import weights
from seglib.plot.scores import confusion, curves, fronts, pareto_front
from seglib.plot.style import (
    IGNORE_COLOR,
    IGNORE_LABEL,
    PALETTE,
    RIGHT,
    WRONG,
    colors,
    finish,
    grid,
)

__all__ = [
    "CLASSES",
    "IGNORE_COLOR",
    "IGNORE_LABEL",
    "PALETTE",
    "RIGHT",
    "WRONG",
    "as_label_map",
    "boxes",
    "colorize",
    "colors",
    "confusion",
    "curves",
    "error_map",
    "finish",
    "fronts",
    "grid",
    "instances",
    "legend",
    "pareto_front",
    "show",
    "weights",
]
