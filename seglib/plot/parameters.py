"""What a model's weights look like, layer by layer."""

import numpy as np

from seglib.plot.style import PALETTE, finish, grid


def weights(model, *, match="", max_layers=12, bins=40, size=1.9):
    """Draws a histogram of the weights of each layer.

    A trained layer's weights lie around 0 like a bell. All of them nearly 0 is a dead layer, two
    peaks at the ends a saturated one, and the shape of the initializer (flat, for Glorot's) one
    that has not learned.

    Args:
        model: Keras model or layer.
        match: draw only weights whose path contains this, such as `"mask_head"`.
        max_layers: how many to draw; of more, evenly many from first to last.
        bins: of each histogram.
        size: width and height of one panel, in inches.

    Returns:
        `matplotlib.figure.Figure`; above each panel the layer and the weights' standard deviation.

    Raises:
        ValueError: if there are no such weights. Biases and the numbers of normalizations are
            none: only weights of two axes or more are drawn.

    Example:
        >>> plot.weights(model, match="fpn")
    """
    found = [v for v in model.weights if len(v.shape) >= 2 and match in v.path]
    if not found:
        raise ValueError(
            f"The model has no weights of two axes or more whose path contains {match!r}, out of "
            f"{len(model.weights)}. A model that was never called has none at all."
        )
    chosen = np.linspace(0, len(found) - 1, min(max_layers, len(found))).round().astype(int)
    columns = min(4, len(chosen))
    figure, axes = grid(-(-len(chosen) // columns), columns, size, axis=True)
    for axis in axes.flat[len(chosen) :]:
        axis.axis("off")
    for axis, index in zip(axes.flat, chosen, strict=False):
        variable = found[index]
        values = np.asarray(variable.numpy(), "float32").ravel()
        axis.hist(values, bins=bins, color=PALETTE[1])
        axis.set_title(f"{layer_name(variable.path)}\nstd {values.std():.3g}", fontsize=8)
        axis.tick_params(labelsize=7)
        axis.set_yticks([])
    return finish(figure)


def layer_name(path, longest=26):
    """The end of a weight's path without its own name: `a/b/conv/kernel` to `b/conv`."""
    parts = path.split("/")
    name = "/".join(parts[-3:-1]) if len(parts) > 1 else path
    return name if len(name) <= longest else "…" + name[1 - longest :]
