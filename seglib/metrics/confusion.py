"""Metrics that follow from one confusion matrix, counted in whole numbers over an epoch.

Averaging the IoU of batches is not the IoU of the data set, so the state of each metric is the
matrix itself and the ratio is taken once, at the end.
"""

import keras
from keras import ops

from seglib.core.checks import expand_weight
from seglib.core.constants import IGNORE_LABEL
from seglib.core.kernels import fused
from seglib.metrics.base import CountMetric, check_class_id, count_cells


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


class ConfusionMetric(CountMetric):
    """A metric whose state is a confusion matrix, `[C, C]`; row = truth.

    Args:
        num_classes: number of classes `C`.
        **kwargs: as in `LabelMetric`.
    """

    def __init__(self, num_classes, **kwargs):
        super().__init__(num_classes, (num_classes, num_classes), **kwargs)

    def update_state(self, y_true, y_pred, sample_weight=None):
        truth, prediction = self.label_maps(y_true, y_pred)
        options = {"ignore_label": self.ignore_label, "sample_weight": sample_weight}
        self.add(confusion_matrix(truth, prediction, self.num_classes, **options))


def overlap(matrix):
    """Returns the numbers of right, of true and of predicted pixels of each class, `[C]` each."""
    return ops.diagonal(matrix), ops.sum(matrix, axis=1), ops.sum(matrix, axis=0)


def iou_per_class(matrix):
    """Intersection over union of each class; NaN for a class in neither truth nor prediction."""
    tp, true, predicted = overlap(matrix)
    return tp / (true + predicted - tp)


def dice_per_class(matrix):
    """Dice score of each class; NaN for a class in neither truth nor prediction."""
    tp, true, predicted = overlap(matrix)
    return 2 * tp / (true + predicted)


@keras.saving.register_keras_serializable("seglib")
class PixelAccuracy(ConfusionMetric):
    """Share of the pixels that have the right class. Flatters models that ignore small classes.

    `per_class()` is the share of the pixels of each class, its recall.

    Args:
        num_classes: number of classes `C`.
        **kwargs: `ignore_label`, `from_logits` and `name`, as in `LabelMetric`.

    Shape:
        `[B, H, W]` and `[B, H, W, C]` (or `[B, H, W]`) to a scalar from 0 to 1; NaN before the
        first counted pixel.
    """

    default_name = "pixel_accuracy"

    def class_scores(self):
        tp, true, _ = overlap(self.matrix())
        return tp / true

    def result(self):
        tp, true, _ = overlap(self.matrix())
        return ops.sum(tp) / ops.sum(true)


@keras.saving.register_keras_serializable("seglib")
class MeanIoU(ConfusionMetric):
    """Intersection over union, averaged over the classes that occur.

    A class that stands neither in the truth nor in the prediction has no IoU and is left out of the
    mean.

    Args and shape:
        As `PixelAccuracy`.

    Reference:
        Jaccard: The distribution of the flora in the alpine zone, New Phytologist 1912.
    """

    default_name = "mean_iou"

    def class_scores(self):
        return iou_per_class(self.matrix())


@keras.saving.register_keras_serializable("seglib")
class ClassIoU(MeanIoU):
    """Intersection over union of one class.

    Args:
        num_classes: number of classes `C`.
        class_id: the class.
        name: name of the metric, `"iou_<class_id>"` by default.
        **kwargs: as in `PixelAccuracy`.

    Shape:
        As `PixelAccuracy`; NaN if the class stands neither in the truth nor in the prediction.

    Example:
        >>> ClassIoU(3, class_id=2, name="iou_border")
    """

    def __init__(self, num_classes, *, class_id, name=None, **kwargs):
        if not 0 <= class_id < num_classes:
            raise ValueError(f"class_id is {class_id}, expected 0 to {num_classes - 1}.")
        super().__init__(num_classes, name=name or f"iou_{class_id}", **kwargs)
        self.class_id = class_id

    def get_config(self):
        return super().get_config() | {"class_id": self.class_id}


@keras.saving.register_keras_serializable("seglib")
class DiceScore(ConfusionMetric):
    """Dice score (F1 of the pixels), averaged over the classes that occur, or of one class.

    Dice and IoU of a class rank predictions alike: `D = 2 J / (1 + J)`.

    Args:
        num_classes: number of classes `C`.
        class_id: one class, or `None` for the mean.
        **kwargs: as in `PixelAccuracy`.

    Shape:
        As `PixelAccuracy`.

    Reference:
        Dice: Measures of the Amount of Ecologic Association Between Species, Ecology 1945.
    """

    default_name = "dice"

    def __init__(self, num_classes, *, class_id=None, **kwargs):
        check_class_id(class_id, num_classes)
        super().__init__(num_classes, **kwargs)
        self.class_id = class_id

    def class_scores(self):
        return dice_per_class(self.matrix())

    def get_config(self):
        return super().get_config() | {"class_id": self.class_id}
