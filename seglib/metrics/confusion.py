"""Metrics that follow from one confusion matrix, counted in whole numbers over an epoch.

Averaging the IoU of batches is not the IoU of the data set, so the state of each metric is the
matrix itself and the ratio is taken once, at the end.
"""

import keras
from keras import ops

from seglib.core.checks import check_num_classes, check_shapes, expand_weight, two_channels
from seglib.core.constants import IGNORE_LABEL
from seglib.core.distance import unpack
from seglib.core.kernels import fused

# A count is kept as high * 2**30 + low in two int32 numbers: float32 stops being exact at 2**24,
# which one batch of large pictures reaches, and JAX has no int64 unless asked.
LIMB_BITS = 30


def confusion_matrix(y_true, y_pred, num_classes, *, ignore_label=IGNORE_LABEL, sample_weight=None):
    """Counts how often each class was taken for each other.

    Args:
        y_true: label map `[B, H, W]` (or any shape), whole numbers.
        y_pred: predicted label map of the same shape.
        num_classes: number of classes `C`.
        ignore_label: label of pixels that count nowhere. Other labels outside `0 … C-1` are not
            counted either; check them with `seglib.core.checks.check_labels`.
        sample_weight: `None`, or weights `[B]` or of the label map's shape; pixels where they are
            0 do not count. (The counts are whole numbers, so other weights count as 1.)

    Returns:
        int32 `[C, C]`; row = truth, column = prediction.

    Raises:
        ValueError: if the shapes differ.

    Example:
        >>> confusion_matrix([[[0, 1]]], [[[0, 0]]], 2)  # one right, one 1 taken for a 0
        [[1, 0], [1, 0]]
    """
    y_true = ops.cast(ops.convert_to_tensor(y_true), "int32")
    y_pred = ops.cast(ops.convert_to_tensor(y_pred), "int32")
    true_shape, pred_shape = tuple(y_true.shape), tuple(y_pred.shape)
    if len(true_shape) != len(pred_shape) or any(
        None not in (t, p) and t != p for t, p in zip(true_shape, pred_shape, strict=True)
    ):
        raise ValueError(
            f"The label map has shape {true_shape}, the prediction {pred_shape}; expected the "
            "same. Take the argmax of logits first."
        )
    if sample_weight is not None:
        sample_weight = expand_weight(sample_weight, y_true)
    return count_pairs(y_true, y_pred, sample_weight, num_classes, ignore_label)


@fused
def count_pairs(y_true, y_pred, weight, num_classes, ignore_label):
    """Counts the pairs of true and predicted class, int32 `[C, C]`."""
    valid = (y_true >= 0) & (y_true < num_classes) & (y_true != ignore_label)
    valid = valid & (y_pred >= 0) & (y_pred < num_classes)
    if weight is not None:
        valid = valid & ops.not_equal(weight, 0)
    cells = num_classes * num_classes
    # Pixels that do not count fall into one extra cell, which is dropped.
    cell = ops.where(valid, y_true * num_classes + y_pred, cells)
    return ops.reshape(count_cells(ops.reshape(cell, [-1]), cells + 1)[:cells], [num_classes] * 2)


def count_cells(cell, num_cells):
    """Counts how often each number below `num_cells` occurs, int32 `[num_cells]`."""
    # Not ops.bincount: under XLA, TensorFlow's cannot be compiled; JAX's takes the same time.
    return ops.segment_sum(ops.ones_like(cell), cell, num_segments=num_cells)


@fused
def predicted_labels(logits):
    """Returns the class of the largest logit, int32 `[B, H, W]`; the first one of equals."""
    return ops.cast(ops.argmax(logits, axis=-1), "int32")


class ConfusionMetric(keras.metrics.Metric):
    """A metric whose state is a confusion matrix.

    Args:
        num_classes: number of classes `C`.
        ignore_label: label of pixels that count nowhere.
        from_logits: whether predictions are logits `[B, H, W, C]` (or probabilities; for two
            classes also `[B, H, W, 1]`, the logit of class 1) or label maps `[B, H, W]`.
        name: name of the metric.

    Truth that is packed with distances (`seglib.core.distance.pack_distances`) is taken as well.

    Raises:
        ValueError: if shapes do not belong together.
    """

    def __init__(self, num_classes, *, ignore_label=IGNORE_LABEL, from_logits=True, name=None):
        super().__init__(name=name, dtype="float32")
        check_num_classes(num_classes)
        self.num_classes = num_classes
        self.ignore_label = ignore_label
        self.from_logits = from_logits
        shape = (num_classes, num_classes)
        self.low = self.add_weight(shape, initializer="zeros", dtype="int32", name="low")
        self.high = self.add_weight(shape, initializer="zeros", dtype="int32", name="high")

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_true, y_pred = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
        y_true, _ = unpack(y_true, self.num_classes)
        if self.from_logits and self.num_classes == 2 and len(y_pred.shape) == 4:
            y_pred = two_channels(y_pred)
        check_shapes(y_true, y_pred, self.num_classes, from_logits=self.from_logits)
        if self.from_logits:
            y_pred = predicted_labels(y_pred)  # (B, H, W)
        low = self.low + confusion_matrix(
            y_true,
            y_pred,
            self.num_classes,
            ignore_label=self.ignore_label,
            sample_weight=sample_weight,
        )
        self.high.assign(self.high + ops.right_shift(low, LIMB_BITS))
        self.low.assign(ops.bitwise_and(low, 2**LIMB_BITS - 1))

    def counts(self):
        """Returns the confusion matrix so far as NumPy int64 `[C, C]`, row = truth."""
        high = ops.convert_to_numpy(self.high).astype("int64")
        return (high << LIMB_BITS) + ops.convert_to_numpy(self.low)

    def matrix(self):
        """Returns the counts as float32 `[C, C]`, for ratios inside a graph."""
        return ops.cast(self.high, "float32") * 2.0**LIMB_BITS + ops.cast(self.low, "float32")

    def get_config(self):
        return {
            "name": self.name,
            "num_classes": self.num_classes,
            "ignore_label": self.ignore_label,
            "from_logits": self.from_logits,
        }


def overlap(matrix):
    """Returns intersection, number of true and number of predicted pixels, each `[C]`."""
    return ops.diagonal(matrix), ops.sum(matrix, axis=1), ops.sum(matrix, axis=0)


def nan_mean(values):
    """Mean over the entries that are numbers; NaN if none is."""
    present = ops.logical_not(ops.isnan(values))
    total = ops.sum(ops.where(present, values, 0.0))
    return total / ops.sum(ops.cast(present, values.dtype))


def iou_per_class(matrix):
    """Intersection over union of each class; NaN for a class in neither truth nor prediction."""
    hit, true, predicted = overlap(matrix)
    return hit / (true + predicted - hit)


def dice_per_class(matrix):
    """Dice score of each class; NaN for a class in neither truth nor prediction."""
    hit, true, predicted = overlap(matrix)
    return 2 * hit / (true + predicted)


@keras.saving.register_keras_serializable("seglib")
class PixelAccuracy(ConfusionMetric):
    """Share of the pixels that have the right class. Flatters models that ignore small classes.

    Args:
        num_classes: number of classes `C`.
        ignore_label: label of pixels that count nowhere.
        from_logits: whether predictions are logits or label maps.
        name: name of the metric.

    Shape:
        `[B, H, W]` and `[B, H, W, C]` (or `[B, H, W]`) to a scalar from 0 to 1; NaN before the
        first counted pixel.
    """

    def __init__(self, num_classes, *, name="pixel_accuracy", **kwargs):
        super().__init__(num_classes, name=name, **kwargs)

    def result(self):
        hit, true, _ = overlap(self.matrix())
        return ops.sum(hit) / ops.sum(true)


@keras.saving.register_keras_serializable("seglib")
class MeanIoU(ConfusionMetric):
    """Intersection over union, averaged over the classes that occur.

    A class that stands neither in the truth nor in the prediction has no IoU and is left out of the
    mean.

    Args:
        num_classes: number of classes `C`.
        ignore_label: label of pixels that count nowhere.
        from_logits: whether predictions are logits or label maps.
        name: name of the metric.

    Shape:
        As `PixelAccuracy`.

    Reference:
        Jaccard: The distribution of the flora in the alpine zone, New Phytologist 1912.
    """

    def __init__(self, num_classes, *, name="mean_iou", **kwargs):
        super().__init__(num_classes, name=name, **kwargs)

    def result(self):
        return nan_mean(iou_per_class(self.matrix()))


@keras.saving.register_keras_serializable("seglib")
class ClassIoU(ConfusionMetric):
    """Intersection over union of one class.

    Args:
        num_classes: number of classes `C`.
        class_id: the class.
        ignore_label: label of pixels that count nowhere.
        from_logits: whether predictions are logits or label maps.
        name: name of the metric, `"iou_<class_id>"` by default.

    Shape:
        As `PixelAccuracy`; NaN if the class stands neither in the truth nor in the prediction.

    Example:
        >>> ClassIoU(3, class_id=2, name="iou_border")
    """

    def __init__(self, num_classes, class_id, *, name=None, **kwargs):
        if not 0 <= class_id < num_classes:
            raise ValueError(f"class_id is {class_id}, expected 0 to {num_classes - 1}.")
        super().__init__(num_classes, name=name or f"iou_{class_id}", **kwargs)
        self.class_id = class_id

    def result(self):
        return iou_per_class(self.matrix())[self.class_id]

    def get_config(self):
        return super().get_config() | {"class_id": self.class_id}


@keras.saving.register_keras_serializable("seglib")
class DiceScore(ConfusionMetric):
    """Dice score (F1 of the pixels), averaged over the classes that occur, or of one class.

    Dice and IoU of a class rank predictions alike: `D = 2 J / (1 + J)`.

    Args:
        num_classes: number of classes `C`.
        class_id: one class, or `None` for the mean.
        ignore_label: label of pixels that count nowhere.
        from_logits: whether predictions are logits or label maps.
        name: name of the metric.

    Shape:
        As `PixelAccuracy`.

    Reference:
        Dice: Measures of the Amount of Ecologic Association Between Species, Ecology 1945.
    """

    def __init__(self, num_classes, *, class_id=None, name="dice", **kwargs):
        if class_id is not None and not 0 <= class_id < num_classes:
            raise ValueError(f"class_id is {class_id}, expected 0 to {num_classes - 1}, or None.")
        super().__init__(num_classes, name=name, **kwargs)
        self.class_id = class_id

    def result(self):
        scores = dice_per_class(self.matrix())
        return nan_mean(scores) if self.class_id is None else scores[self.class_id]

    def get_config(self):
        return super().get_config() | {"class_id": self.class_id}
