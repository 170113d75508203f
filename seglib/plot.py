"""Figures of pictures, label maps, training curves and confusion matrices.

Every function returns a closed `matplotlib.figure.Figure`, so a notebook shows it once.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import ListedColormap, to_rgb
from matplotlib.patches import Patch

CLASSES = ("pet", "background", "border")
IGNORE_LABEL = 255

# Okabe and Ito's colors, in an order whose first three also differ as grays: a middle, a dark and
# a light one. Readers with any kind of color vision tell them apart (Wong, Nature Methods 2011).
PALETTE = (
    "#E69F00",  # pet: orange
    "#0072B2",  # background: blue
    "#F0E442",  # border: yellow
    "#CC79A7",
    "#009E73",
    "#D55E00",
    "#56B4E9",
    "#000000",
)
IGNORE_COLOR = "#9A9A9A"
RIGHT, WRONG = "#E8E8E8", "#B2182B"


def colors(num_classes):
    """Returns one hex color a class; beyond eight classes they come from matplotlib's tab20."""
    if num_classes <= len(PALETTE):
        return list(PALETTE[:num_classes])
    return [plt.get_cmap("tab20")(i % 20) for i in range(num_classes)]


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
        figure, axes = _grid(-(-count // 4), min(count, 4), size)
        panels = [list(axes.flat)]  # gone through twice
    else:
        figure, axes = _grid(count, len(columns), size)
        panels = list(axes.T)
    for (name, pictures), column in zip(columns, panels, strict=True):
        for i, (picture, axis) in enumerate(zip(pictures, column, strict=False)):
            axis.imshow(picture, interpolation="nearest")
            if i == 0 and len(columns) > 1:
                axis.set_title(name)
    if titles is not None:
        for title, axis in zip(titles, panels[0], strict=False):
            axis.text(0, 1, title, transform=axis.transAxes, va="top", fontsize=8, **_BOX)
    if len(columns) > 1:
        legend(figure, classes, error=errors and masks is not None and predictions is not None)
    return _finish(figure)


def legend(figure, classes=CLASSES, *, ignored=False, error=False):
    """Adds the names and colors of the classes below a figure."""
    patches = [Patch(color=c, label=n) for c, n in zip(colors(len(classes)), classes, strict=True)]
    if ignored:
        patches.append(Patch(color=IGNORE_COLOR, label="ignored"))
    if error:
        patches.append(Patch(color=WRONG, label="wrong"))
    figure.legend(handles=patches, loc="outside lower center", ncols=len(patches), frameon=False)


def curves(history, *, metrics=None, size=3.2):
    """Draws loss and metrics over the epochs, training against validation.

    Args:
        history: what `fit` returns, its `.history` dict, or a list of either, for runs that follow
            each other (frozen, then fine-tuned).
        metrics: names to draw, or `None` for all; `val_` is added where it exists.
        size: height of one panel, in inches.

    Returns:
        `matplotlib.figure.Figure`.
    """
    runs = history if isinstance(history, list | tuple) else [history]
    runs = [getattr(run, "history", run) for run in runs]
    joined = {name: np.concatenate([run[name] for run in runs]) for name in runs[0]}
    starts = np.cumsum([len(next(iter(run.values()))) for run in runs])[:-1]
    if metrics is None:
        metrics = [n for n in joined if not n.startswith("val_") and n != "learning_rate"]
    figure, axes = _grid(1, len(metrics), size, axis=True)
    for axis, name in zip(axes.flat, metrics, strict=True):
        epochs = np.arange(1, len(joined[name]) + 1)
        axis.plot(epochs, joined[name], "-", color=PALETTE[1], label="training")
        if f"val_{name}" in joined:
            axis.plot(epochs, joined[f"val_{name}"], "--", color=PALETTE[5], label="validation")
        for start in starts:
            axis.axvline(start + 0.5, color="gray", linewidth=0.8, linestyle=":")
        axis.set(xlabel="epoch", title=name.replace("_", " "))
        axis.xaxis.get_major_locator().set_params(integer=True)  # there is no epoch 1.5
        axis.grid(alpha=0.3)
    axes.flat[0].legend()
    return _finish(figure)


def confusion(matrix, classes=CLASSES, *, size=3.6):
    """Draws a confusion matrix; each row sums to 1.

    Args:
        matrix: counts `[C, C]`, row = truth, column = prediction.
        classes: names of the classes.
        size: width and height, in inches.

    Returns:
        `matplotlib.figure.Figure`.

    Raises:
        ValueError: if the matrix is not one row and column a class.
    """
    matrix = np.asarray(matrix, "float64")
    count = len(classes)
    if matrix.shape != (count, count):
        raise ValueError(
            f"The matrix has shape {matrix.shape}, expected {(count, count)} for {count} classes."
        )
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    figure, axes = _grid(1, 1, size, axis=True)
    axis = axes[0, 0]
    axis.imshow(share, cmap=ListedColormap(plt.get_cmap("Blues")(np.linspace(0, 0.65, 256))))
    for (row, column), value in np.ndenumerate(share):
        axis.text(column, row, f"{value:.3f}", ha="center", va="center", color="black")
    axis.set(
        xticks=range(count),
        yticks=range(count),
        xticklabels=classes,
        yticklabels=classes,
        xlabel="prediction",
        ylabel="truth",
    )
    return _finish(figure)


def error_map(mask, prediction):
    """Paints wrong pixels red, right ones light gray, ignored ones dark gray: `[H, W, 3]`."""
    mask, prediction = np.asarray(mask), np.asarray(prediction)
    picture = np.where((mask == prediction)[..., None], to_rgb(RIGHT), to_rgb(WRONG))
    return np.where((mask == IGNORE_LABEL)[..., None], to_rgb(IGNORE_COLOR), picture)


def as_label_map(prediction):
    """Returns `[H, W]`: the argmax of logits `[H, W, C]`, or the label map itself."""
    prediction = np.asarray(prediction)
    return prediction.argmax(axis=-1) if prediction.ndim == 3 else prediction


_BOX = {"bbox": {"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1.5}}


def _grid(rows, columns, size, *, axis=False):
    width = size * (1.35 if axis and columns > 1 else 1.0)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(width * columns, size * rows + (0.0 if axis else 0.4)),
        squeeze=False,
        layout="constrained",
    )
    if not axis:
        for a in axes.flat:
            a.axis("off")
    return figure, axes


def _finish(figure):
    plt.close(figure)
    return figure
