"""Training curves and confusion matrices."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import ListedColormap

from seglib.plot.label_maps import CLASSES
from seglib.plot.style import PALETTE, finish, grid


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
    figure, axes = grid(1, len(metrics), size, axis=True)
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
    return finish(figure)


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
    figure, axes = grid(1, 1, size, axis=True)
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
    return finish(figure)
