"""Predicts pictures that are larger than memory, window by window and without seams."""

import dataclasses

import numpy as np
from keras import ops

from seglib.core.checks import two_channels
from seglib.core.constants import GRAY


def predict_windows(
    model,
    image,
    *,
    window=None,
    overlap=128,
    margin=None,
    multiple=32,
    batch_size=4,
    output="labels",
    out=None,
):
    """Predicts one picture of any size in overlapping windows.

    Near its edges a window knows too little of the picture. So the outermost `margin` pixels of a
    window count nothing where another window continues, and over the rest of the overlap its
    weight falls from 1 to 0 as that of its neighbor rises: the weights sum to 1 everywhere. At the
    picture's own frame a window counts in full. A network that looks no farther than `margin`
    pixels gives exactly what it gives for the whole picture; one that looks farther, nearly that.

    Windows begin at multiples of `multiple`, so that a network with strides sees the same grid as
    in the whole picture, and the picture is padded with gray below and on the right to that, as
    `SegmentationModel` does itself.

    In memory are one batch and the probabilities of a strip of the picture's width and the window's
    height. A picture that is a `numpy.memmap` is never loaded as a whole.

    Args:
        model: Keras model from an image `[B, h, w, 3]` to logits `[B, h, w, C]`.
        image: NumPy array or memmap `[H, W, 3]`, values 0 to 255.
        window: height and width of a window in pixels; by default the size that the model was
            built for, or 512. Smaller pictures make smaller windows if the model takes any size.
        overlap: pixels that neighboring windows share at least.
        margin: see above; at most half the overlap (then each pixel comes from one window), by
            default a quarter of it.
        multiple: the stride of the network's coarsest level; 1 for a network without strides.
        batch_size: windows per call of the model.
        output: `"labels"` or `"probabilities"`.
        out: array to write into, such as a memmap; by default a new one.

    Returns:
        Label map `[H, W]`, uint8 (uint16 for more than 256 classes), or probabilities `[H, W, C]`,
        float32. A model with one channel (the logit of class 1) has two classes here.

    Raises:
        ValueError: for a picture without three axes, or sizes that do not fit each other.

    Example:
        >>> labels = predict_windows(model, np.load("orthophoto.npy", mmap_mode="r"))
    """
    if len(image.shape) != 3 or 0 in image.shape:
        raise ValueError(
            f"The picture has shape {tuple(image.shape)}, expected one picture [H, W, 3]. "
            "For a batch, call this for each picture."
        )
    if model.input_shape[-1] not in (None, image.shape[2]):
        raise ValueError(
            f"The picture has {image.shape[2]} channels, expected the model's "
            f"{model.input_shape[-1]}. Of RGBA take image[..., :3]."
        )
    if output not in ("labels", "probabilities"):
        raise ValueError(f"output is {output!r}, expected 'labels' or 'probabilities'.")
    margin = overlap // 4 if margin is None else margin
    rows, columns = (
        plan_axis(size, built, window, overlap, margin, multiple)
        for size, built in zip(image.shape[:2], model.input_shape[1:3], strict=True)
    )
    num_classes = max(2, model.output_shape[-1])
    out = prepare_output(out, image.shape[:2], num_classes, output)
    predictions = window_probabilities(model, image, rows, columns, batch_size)
    # What the strip of windows at hand adds up to; it moves down the picture.
    strip = np.zeros((rows.window, columns.padded, num_classes), "float32")
    ends = (*rows.starts[1:], rows.padded)  # up to where no later window reaches
    for top, row_weights, end in zip(rows.starts, rows.weights, ends, strict=True):
        for left, weights in zip(columns.starts, columns.weights, strict=True):
            weighted = next(predictions) * (row_weights[:, None, None] * weights[:, None])
            strip[:, left : left + columns.window] += weighted
        done = end - top
        finished = strip[: min(end, image.shape[0]) - top, : image.shape[1]]
        out[top : top + len(finished)] = (
            finished.argmax(axis=-1) if output == "labels" else finished
        )
        strip[: rows.window - done] = strip[done:]
        strip[rows.window - done :] = 0
    return out


@dataclasses.dataclass(frozen=True)
class Axis:
    """Where the windows lie along one axis of the picture."""

    window: int  # pixels of a window
    padded: int  # pixels of the padded picture
    starts: tuple[int, ...]  # first pixel of each window
    weights: np.ndarray  # float32 [len(starts), window]; at each pixel they sum to 1


def plan_axis(size, built, window, overlap, margin, multiple):
    """Spreads as few windows as possible evenly over one axis of a picture of `size` pixels.

    `built` is the size that the model was built for; see `predict_windows` for the others.
    """
    window = window or built or 512
    if built not in (None, window):
        raise ValueError(
            f"window is {window}, but the model was built for {built} pixels. Leave window out, or "
            "build the model with input_shape=(None, None, 3)."
        )
    if window % multiple or overlap % multiple:
        raise ValueError(
            f"window is {window} and overlap {overlap}, expected multiples of {multiple}; pass "
            "multiple=1 for a network without strides."
        )
    if not 0 <= 2 * margin <= overlap < window:
        raise ValueError(
            f"margin is {margin}, overlap {overlap} and window {window}, expected a margin of at "
            "most half the overlap, and an overlap smaller than the window."
        )
    stride = window - overlap
    padded = -(-size // multiple) * multiple
    if built is None:
        window = min(window, padded)
    padded = max(window, padded)
    count = 1 + -(-(padded - window) // stride)
    span = (padded - window) // multiple
    starts = tuple(i * span // max(1, count - 1) * multiple for i in range(count))
    return Axis(window, padded, starts, blend(padded, window, starts, overlap, margin))


def blend(padded, window, starts, overlap, margin):
    """Returns the weights of windows: 0 at inner edges, 1 inside, a slope between, sum 1."""
    slope = overlap - 2 * margin
    inside = np.arange(window) + 0.5 - margin  # distance from where the weight begins
    rise = np.clip(inside / slope if slope else np.sign(inside), 0, 1)
    weights = np.ones((len(starts), window))
    weights[1:] *= rise  # another window comes before
    weights[:-1] *= rise[::-1]  # another one follows
    total = np.zeros(padded)
    for start, one in zip(starts, weights, strict=True):
        total[start : start + window] += one
    for start, one in zip(starts, weights, strict=True):
        one /= total[start : start + window]
    return weights.astype("float32")


def window_probabilities(model, image, rows, columns, batch_size):
    """Yields the class probabilities of each window `[h, w, C]`, row by row of windows."""
    corners = [(top, left) for top in rows.starts for left in columns.starts]
    # All batches have one size, so that the model is compiled once.
    batch_size = min(batch_size, len(corners))
    shape = (batch_size, rows.window, columns.window, image.shape[2])
    for first in range(0, len(corners), batch_size):
        batch = np.full(shape, GRAY, "float32")
        some = corners[first : first + batch_size]
        for (top, left), pixels in zip(some, batch, strict=False):
            part = image[top : top + rows.window, left : left + columns.window]
            pixels[: part.shape[0], : part.shape[1]] = part
        logits = two_channels(ops.convert_to_tensor(model.predict_on_batch(batch)))
        probabilities = ops.softmax(ops.cast(logits, "float32"), axis=-1)  # (b, h, w, C)
        yield from ops.convert_to_numpy(probabilities)[: len(some)]


def prepare_output(out, size, num_classes, output):
    """Returns the array to fill, and raises if the one given cannot hold the result."""
    shape, dtype = (*size, num_classes), np.float32
    if output == "labels":
        shape, dtype = tuple(size), np.uint8 if num_classes <= 256 else np.uint16
    if out is None:
        return np.zeros(shape, dtype)
    if tuple(out.shape) != shape or not np.can_cast(dtype, out.dtype, "same_kind"):
        raise ValueError(
            f"out is {out.dtype} of shape {tuple(out.shape)}, expected {np.dtype(dtype)} of shape "
            f"{shape} for {output} of {num_classes} classes."
        )
    return out
