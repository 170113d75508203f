"""Pictures beside their label maps."""

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch

from seglib.plot.style import (
    CAPTION,
    IGNORE_COLOR,
    IGNORE_LABEL,
    RIGHT,
    WRONG,
    colors,
    finish,
    grid,
)

CLASSES = ("pet", "background", "border")


def colorize(mask, num_classes):
    """Paints a label map `[H, W]` as RGB floats `[H, W, 3]`; other labels come out gray."""
    mask = np.asarray(mask)
    table = np.array([to_rgb(c) for c in (*colors(num_classes), IGNORE_COLOR)])
    return table[np.where((mask >= 0) & (mask < num_classes), mask, num_classes).astype(int)]


def show(
    images,
    masks=None,
    predictions=None,
    *,
    classes=CLASSES,
    errors=True,
    titles=None,
    max_pictures=8,
    size=2.2,
):
    """Draws pictures in rows: image, truth, prediction, and where the prediction is wrong.

    Args:
        images: `[N, H, W, 3]` or a list of `[H, W, 3]`, values 0 to 255.
        masks: label maps `[N, H, W]` or a list of `[H, W]`, or `None`.
        predictions: label maps, or logits with a class axis at the end, or `None`.
        classes: names of the classes, for the legend.
        errors: with masks and predictions, add the error map.
        titles: one caption a picture, or `None`.
        max_pictures: how many to draw at most.
        size: width and height of one panel, in inches.

    Returns:
        `matplotlib.figure.Figure`.

    Raises:
        ValueError: if there are no pictures.
    """
    count = min(len(images), max_pictures)
    if count == 0:
        raise ValueError("There are no pictures to show, expected at least one.")
    if predictions is not None:
        predictions = [as_label_map(p) for p in predictions[:count]]
    columns = [("image", [np.asarray(i).astype("uint8") for i in images[:count]])]
    if masks is not None:
        columns.append(("truth", [colorize(m, len(classes)) for m in masks[:count]]))
    if predictions is not None:
        columns.append(("prediction", [colorize(p, len(classes)) for p in predictions]))
        if masks is not None and errors:
            maps = [error_map(m, p) for m, p in zip(masks[:count], predictions, strict=True)]
            columns.append(("error", maps))
    if len(columns) == 1:
        figure, axes = grid(-(-count // 4), min(count, 4), size)
        panels = [list(axes.flat)]  # gone through twice
    else:
        figure, axes = grid(count, len(columns), size)
        panels = list(axes.T)
    for (name, pictures), column in zip(columns, panels, strict=True):
        for i, (picture, axis) in enumerate(zip(pictures, column, strict=False)):
            axis.imshow(picture, interpolation="nearest")
            if i == 0 and len(columns) > 1:
                axis.set_title(name)
    if titles is not None:
        for title, axis in zip(titles, panels[0], strict=False):
            axis.text(0, 1, title, transform=axis.transAxes, va="top", fontsize=8, **CAPTION)
    if len(columns) > 1:
        legend(figure, classes, error=errors and masks is not None and predictions is not None)
    return finish(figure)


def legend(figure, classes=CLASSES, *, ignored=False, error=False):
    """Adds the names and colors of the classes below a figure."""
    patches = [Patch(color=c, label=n) for c, n in zip(colors(len(classes)), classes, strict=True)]
    if ignored:
        patches.append(Patch(color=IGNORE_COLOR, label="ignored"))
    if error:
        patches.append(Patch(color=WRONG, label="wrong"))
    figure.legend(handles=patches, loc="outside lower center", ncols=len(patches), frameon=False)


def error_map(mask, prediction):
    """Paints wrong pixels red, right ones light gray, ignored ones dark gray: `[H, W, 3]`."""
    mask, prediction = np.asarray(mask), np.asarray(prediction)
    picture = np.where((mask == prediction)[..., None], to_rgb(RIGHT), to_rgb(WRONG))
    return np.where((mask == IGNORE_LABEL)[..., None], to_rgb(IGNORE_COLOR), picture)


def as_label_map(prediction):
    """Returns `[H, W]`: the argmax of logits `[H, W, C]`, or the label map itself."""
    prediction = np.asarray(prediction)
    return prediction.argmax(axis=-1) if prediction.ndim == 3 else prediction
