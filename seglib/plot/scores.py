"""Training curves, confusion matrices, and scores over what they cost."""

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


# Marker and color of the models of a group, in the order in which the groups appear.
MARKERS = (("o", PALETTE[1]), ("s", PALETTE[0]), ("D", PALETTE[4]), ("p", PALETTE[3]))


def pareto_front(scores, costs):
    """Returns the models that no other beats in both: at least as good, and at a lower cost.

    Args:
        scores: a number per model, the higher the better.
        costs: a number per model, the lower the better.

    Returns:
        Indices of the models, the cheapest first.
    """
    best, found = float("-inf"), []
    for i in sorted(range(len(scores)), key=lambda i: (costs[i], -scores[i])):
        if scores[i] > best:
            best = scores[i]
            found.append(i)
    return found


def fronts(scores, costs, *, labels, groups, intervals, columns=2):
    """Draws scores over each cost, and the Pareto front as a staircase.

    The models are called A, B, C … in their order. The last of them is drawn at the lower edge,
    with its score, where it would squeeze all the others.

    Args:
        scores: mean IoU of each model, the best first.
        costs: a dict from a cost's name to a number per model.
        labels: names of the models.
        groups: what the models belong to; each group has a marker and a color.
        intervals: `(low, high)` of each score.
        columns: how many panels stand side by side.

    Returns:
        `matplotlib.figure.Figure`.
    """
    lines = -(-len(costs) // columns)
    figure, axes = plt.subplots(
        lines,
        columns,
        figsize=(4.5 * columns, 3.1 * lines + 1.0 + 0.2 * len(scores) / columns),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    of_group = dict(zip(dict.fromkeys(groups), MARKERS, strict=False))
    markers = [of_group[group] for group in groups]
    for axis, (name, numbers) in zip(axes.flat, costs.items(), strict=False):
        _draw_front(axis, scores, numbers, markers, intervals)
        axis.set_xlabel(name)
    for axis in axes.flat[len(costs) :]:
        axis.axis("off")
    for axis in axes[:, 0]:
        axis.set_ylabel("mean IoU")
    edge = {"linestyle": "", "markersize": 9, "markeredgecolor": "black"}
    handles = []
    for i, (label, (marker, color)) in enumerate(zip(labels, markers, strict=True)):
        label = f"{chr(ord('A') + i)}  {label}"
        handles.append(plt.Line2D([], [], marker=marker, color=color, label=label, **edge))
    handles.append(plt.Line2D([], [], color="black", linestyle="--", label="the front"))
    handles.append(plt.Line2D([], [], color="gray", label="95% of test sets"))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False)
    return finish(figure)


def _draw_front(axis, scores, costs, markers, intervals):
    floor = intervals[max(len(scores) - 2, 0)][0] - 0.012
    for i, (x, score, (marker, color), (low, high)) in enumerate(
        zip(costs, scores, markers, intervals, strict=True)
    ):
        y = max(score, floor)
        axis.plot([x, x], [max(low, floor), max(high, floor)], color="gray", linewidth=2, zorder=1)
        axis.plot(x, y, marker, markersize=12, color=color, markeredgecolor="black", zorder=3)
        ink = "black" if color == PALETTE[0] else "white"
        style = {"color": ink, "fontsize": 8, "weight": "bold", "ha": "center", "zorder": 4}
        axis.text(x, y, chr(ord("A") + i), va="center_baseline", **style)
        if score < floor:
            axis.text(x, y, f"    ↓ {score:.3f}", fontsize=9, va="center_baseline")
    corners = [(costs[i], max(scores[i], floor)) for i in pareto_front(scores, costs)]
    end = max(costs) * 1.08
    x, y = zip(*corners, (end, corners[-1][1]), strict=True)
    axis.step(x, y, where="post", color="black", linestyle="--", linewidth=1.3, zorder=2)
    axis.set_xlim(0, end)
    axis.grid(alpha=0.3)
