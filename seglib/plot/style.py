"""What all figures share: colors, panels, captions."""

import matplotlib.pyplot as plt

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


# Behind a caption inside a picture.
CAPTION = {"bbox": {"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1.5}}


def grid(rows, columns, size, *, axis=False):
    """Returns a figure and its panels `[rows, columns]`, of `size` inches each.

    Args:
        axis: whether the panels are charts, not pictures.
    """
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


def finish(figure):
    """Closes a figure, so that a notebook shows it once, and returns it."""
    plt.close(figure)
    return figure
