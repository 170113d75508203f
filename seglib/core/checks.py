"""What models, losses and metrics do with their arguments before anything else."""

import numpy as np
from keras import ops

from seglib.core.constants import IGNORE_LABEL


def check_num_classes(num_classes):
    """Raises if a model or metric cannot have this number of classes.

    Raises:
        ValueError: for fewer than 2.
    """
    if num_classes < 2:
        raise ValueError(
            f"num_classes is {num_classes}, expected at least 2; a yes-or-no task has the "
            "classes 'yes' and 'no'."
        )


def rank_of(x):
    """Returns how many axes a tensor has, or `None` where TensorFlow does not know.

    It does not when a step is traced again because an argument came with another rank.
    """
    shape = x.shape
    return shape.rank if hasattr(shape, "rank") else len(shape)


def counts(labels, ignore_label):
    """Returns which pixels count: all but those of the ignore label, if there is one."""
    if ignore_label is None:
        return ops.ones_like(labels, dtype="bool")
    return ops.not_equal(labels, ignore_label)


def check_shapes(y_true, y_pred, num_classes=None, *, from_logits=True):
    """Raises if a label map and a prediction cannot belong together.

    Only shapes and dtypes that are known are checked, so that the same call works eagerly
    and while a graph is traced.

    Args:
        y_true: label map, `[B, H, W]`, whole numbers.
        y_pred: logits `[B, H, W, C]`, or a label map `[B, H, W]` with `from_logits=False`.
        num_classes: the expected `C`, or `None` if any will do.
        from_logits: whether `y_pred` has a class axis.

    Raises:
        ValueError: if rank, size or number of classes differ from what is expected.
    """
    true_shape, pred_shape = tuple(y_true.shape), tuple(y_pred.shape)
    check_truth_shape(true_shape)
    rank = 4 if from_logits else 3
    if len(pred_shape) != rank:
        expected = "logits [B, H, W, C]" if from_logits else "a label map [B, H, W]"
        raise ValueError(
            f"The prediction has shape {pred_shape}, expected {expected}. "
            f"Pass from_logits={not from_logits} if that is what you have."
        )
    for axis, what in ((0, "batch size"), (1, "height"), (2, "width")):
        a, b = true_shape[axis], pred_shape[axis]
        if a is not None and b is not None and a != b:
            raise ValueError(
                f"The label map {true_shape} and the prediction {pred_shape} differ in {what} "
                f"({a} against {b}). Logits come at the resolution of the label map; "
                "resize the logits, never the labels."
            )
    if from_logits and num_classes is not None and pred_shape[-1] not in (None, num_classes):
        raise ValueError(
            f"The logits have {pred_shape[-1]} channels, expected {num_classes} classes. "
            "Build model and metric with the same number of classes."
        )


def check_truth_shape(true_shape):
    """Raises a ValueError unless a truth of this shape is a label map `[B, H, W]`."""
    if len(true_shape) != 3:
        hint = (
            " Of gray masks stored as RGB take masks[..., 0], of one-hot masks the argmax over "
            "the last axis; seglib.data.label_maps.LabelMap.from_color reads colors."
            if len(true_shape) == 4 and true_shape[-1] != 1
            else " Drop the last axis: masks[..., 0]."
            if len(true_shape) == 4
            else ""
        )
        raise ValueError(f"The label map has shape {true_shape}, expected [B, H, W].{hint}")


def expand_weight(sample_weight, y_true):
    """Gives sample weights the rank of a label map, so that they multiply pixel by pixel.

    Args:
        sample_weight: one weight per picture, `[B]`, or per pixel, `[B, H, W]`; an axis of size 1
            broadcasts.
        y_true: label map.

    Returns:
        The weights as a tensor of the label map's rank.

    Raises:
        ValueError: if a known axis differs in size, or there is one weight per row.
    """
    weight = ops.convert_to_tensor(sample_weight)
    if rank_of(weight) is None:
        batch, height, width = ops.shape(y_true)
        rows = ops.reshape(weight, [batch, -1]) * ops.ones([batch, height * width], weight.dtype)
        return ops.reshape(rows, [batch, height, width])
    weight_shape, true_shape = tuple(weight.shape), tuple(y_true.shape)
    fits = len(weight_shape) <= len(true_shape) and all(
        w is None or t is None or w in (1, t)
        for w, t in zip(weight_shape, true_shape, strict=False)
    )
    if not fits:
        raise ValueError(
            f"sample_weight has shape {weight_shape}, expected [B] or the label map's "
            f"{true_shape}. Drop a last axis of size 1: weights[..., 0]."
        )
    if len(weight_shape) == 2 < len(true_shape) and weight_shape[1] != 1:
        raise ValueError(
            f"sample_weight has shape {weight_shape}, one weight per row of pixels; expected [B] "
            f"or the label map's {true_shape}. Keras makes such weights of class_weight in fit: "
            "give class_weights to the loss in its place."
        )
    while len(weight.shape) < len(true_shape):
        weight = weight[..., None]
    return weight


def check_labels(y_true, num_classes, ignore_label=IGNORE_LABEL):
    """Raises if a label map holds anything but `0 … C-1` and the ignore label.

    For use outside a graph: it looks at the values.

    Args:
        y_true: label map of any shape.
        num_classes: number of classes `C`.
        ignore_label: the label that counts nowhere, or `None`.

    Raises:
        ValueError: naming the labels that do not belong.
    """
    labels = ops.convert_to_numpy(y_true)
    known = (labels >= 0) & (labels < num_classes) & (labels == np.floor(labels))
    bad = np.unique(labels[~(known | (labels == ignore_label))])
    if bad.size:
        ignored = "" if ignore_label is None else f" or {ignore_label} (ignored)"
        raise ValueError(
            f"The label map holds {bad[:8].tolist()}, expected whole numbers 0 to "
            f"{num_classes - 1}{ignored}. Raise num_classes if there are more classes; the loaders "
            "renumber masks with label_map={1: 0, 2: 1, 3: 2}. Values in between come from "
            "resizing a mask bilinearly."
        )


def check_object_classes(classes, num_classes):
    """Raises a ValueError unless the classes of objects are 0 … C-1, or -1 for no object."""
    found = np.unique(ops.convert_to_numpy(classes))
    bad = found[(found < -1) | (found >= num_classes)]
    if bad.size:
        raise ValueError(
            f"The targets hold the classes {bad[:8].tolist()}, expected 0 to {num_classes - 1}, or "
            "-1 in rows without an object. Raise the configuration's num_classes, or count the "
            "classes from 0: the background has no number."
        )


def two_channels(logits):
    """Gives binary logits of one channel the second one that they leave out.

    The one channel `z` is the logit of class 1: `sigmoid(z)` is its probability, which is what the
    softmax of the two channels `(0, z)` gives.

    Args:
        logits: `[..., C]`.

    Returns:
        `[..., 2]`, the pair `(0, z)`, if `C` is 1; otherwise the logits as they are.
    """
    if logits.shape[-1] != 1:
        return logits
    return ops.concatenate([ops.zeros_like(logits), logits], axis=-1)
