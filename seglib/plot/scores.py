"""Training curves, confusion matrices, and scores over what they cost."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import ListedColormap

from seglib import leaderboard
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


# Marker and color of a model, by its experiment.
FAMILIES = {
    "unet": ("o", PALETTE[1]),
    "fcn8": ("s", PALETTE[0]),
    "deeplabv3plus": ("^", PALETTE[4]),
}
OTHER_FAMILY = ("D", PALETTE[3])


def fronts(rows, costs, *, columns=2):
    """Draws mean IoU over each cost, and the Pareto front as a staircase.

    The last of the models is drawn at the lower edge, with its score, where it would squeeze all
    the others.

    Args:
        rows: the models, as `seglib.leaderboard.rows` returns them.
        costs: functions of a row by their names, as `seglib.leaderboard.costs` returns them.
        columns: how many panels stand side by side.

    Returns:
        `matplotlib.figure.Figure`.
    """
    lines = -(-len(costs) // columns)
    figure, axes = plt.subplots(
        lines,
        columns,
        figsize=(4.5 * columns, 3.1 * lines + 1.0 + 0.2 * len(rows) / columns),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axis, (name, cost) in zip(axes.flat, costs.items(), strict=False):
        _draw_front(axis, rows, name, cost)
    for axis in axes.flat[len(costs) :]:
        axis.axis("off")
    for axis in axes[:, 0]:
        axis.set_ylabel("mean IoU")
    edge = {"linestyle": "", "markersize": 9, "markeredgecolor": "black"}
    handles = []
    for row in rows:
        marker, color = FAMILIES.get(row["experiment"], OTHER_FAMILY)
        label = f"{row['letter']}  {row['title']}"
        handles.append(plt.Line2D([], [], marker=marker, color=color, label=label, **edge))
    handles.append(plt.Line2D([], [], color="black", linestyle="--", label="the front"))
    handles.append(plt.Line2D([], [], color="gray", label="95% of test sets"))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False)
    return finish(figure)


def _draw_front(axis, rows, name, cost):
    floor = rows[max(len(rows) - 2, 0)]["interval"][0] - 0.012
    for row in rows:
        x, y, (low, high) = cost(row), max(row["mean_iou"], floor), row["interval"]
        marker, color = FAMILIES.get(row["experiment"], OTHER_FAMILY)
        axis.plot([x, x], [max(low, floor), max(high, floor)], color="gray", linewidth=2, zorder=1)
        wide = 15 if marker == "^" else 12
        axis.plot(x, y, marker, markersize=wide, color=color, markeredgecolor="black", zorder=3)
        ink = "black" if color == PALETTE[0] else "white"
        drop = 0.0016 if marker == "^" else 0  # a triangle is wide below its middle
        style = {"color": ink, "fontsize": 8, "weight": "bold", "ha": "center", "zorder": 4}
        axis.text(x, y - drop, row["letter"], va="center_baseline", **style)
        if row["mean_iou"] < floor:
            axis.text(x, y, f"    ↓ {row['mean_iou']:.3f}", fontsize=9, va="center_baseline")
    front = leaderboard.front(rows, cost)
    corners = [(cost(row), max(row["mean_iou"], floor)) for row in front]
    end = max(map(cost, rows)) * 1.08
    x, y = zip(*corners, (end, corners[-1][1]), strict=True)
    axis.step(x, y, where="post", color="black", linestyle="--", linewidth=1.3, zorder=2)
    axis.set(xlabel=name, xlim=(0, end))
    axis.grid(alpha=0.3)
