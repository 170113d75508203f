"""What metrics of label maps share: checking what comes in, whole-number sums, scores per class."""

import keras
from keras import ops

from seglib.core.checks import check_num_classes, check_shapes, expand_weight, two_channels
from seglib.core.constants import IGNORE_LABEL
from seglib.core.distance import class_or_minus_one, unpack
from seglib.core.kernels import fused

# A count is kept as high * 2**30 + low in two int32 numbers: float32 stops being exact at 2**24,
# which one batch of large pictures reaches, and JAX has no int64 unless asked.
LIMB_BITS = 30


class LabelMetric(keras.metrics.Metric):
    """A metric of two label maps; logits become one by their arg-max.

    A subclass gives `default_name`, `update_state` and `class_scores`.

    Args:
        num_classes: number of classes `C`.
        ignore_label: label of pixels that count nowhere. Other labels that are no class do not
            count either; check them with `seglib.core.checks.check_labels`.
        from_logits: whether predictions are logits `[B, H, W, C]` (or probabilities; for two
            classes also `[B, H, W, 1]`, the logit of class 1) or label maps `[B, H, W]`.
        name: name of the metric.

    Shape:
        Truth `[B, H, W]` (or packed by `seglib.core.distance.pack_distances`) and prediction to a
        scalar; NaN before anything was counted. `sample_weight` `[B]` or `[B, H, W]`: pixels of
        weight 0 do not count, other weights count as 1.

    Raises:
        ValueError: if shapes do not belong together.
    """

    default_name = None
    _direction = "up"  # what Keras's callbacks ask with mode="auto"; a distance overrides it
    class_id = None  # the mean over the classes, unless a subclass takes one

    def __init__(self, num_classes, *, ignore_label=IGNORE_LABEL, from_logits=True, name=None):
        super().__init__(name=name or self.default_name, dtype="float32")
        check_num_classes(num_classes)
        self.num_classes = num_classes
        self.ignore_label = ignore_label
        self.from_logits = from_logits

    def label_maps(self, y_true, y_pred):
        """Checks truth and prediction and returns both as label maps `[B, H, W]`."""
        y_true, y_pred = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
        y_true, _ = unpack(y_true, self.num_classes)
        if self.from_logits and self.num_classes == 2 and len(y_pred.shape) == 4:
            y_pred = two_channels(y_pred)
        check_shapes(y_true, y_pred, self.num_classes, from_logits=self.from_logits)
        return y_true, predicted_labels(y_pred) if self.from_logits else y_pred

    def holed_maps(self, y_true, y_pred, sample_weight=None):
        """Returns truth and prediction, int32 `[B, H, W]`, both -1 where a pixel does not count."""
        truth, prediction = self.label_maps(y_true, y_pred)
        truth = class_or_minus_one(truth, self.num_classes, self.ignore_label)
        prediction = class_or_minus_one(prediction, self.num_classes, None)
        valid = (truth >= 0) & (prediction >= 0)
        if sample_weight is not None:
            valid = valid & ops.not_equal(expand_weight(sample_weight, truth), 0)
        return ops.where(valid, truth, -1), ops.where(valid, prediction, -1)

    def class_scores(self):
        """Returns the score of each class, a float32 tensor `[C]`; NaN for one without a score."""
        raise NotImplementedError

    def per_class(self):
        """Returns the score of each class so far.

        Returns:
            NumPy float32 `[C]`; NaN for a class without a score, such as one that never occurs.
        """
        return ops.convert_to_numpy(self.class_scores())

    def result(self):
        scores = self.class_scores()
        return nan_mean(scores) if self.class_id is None else scores[self.class_id]

    def get_config(self):
        return {
            "name": self.name,
            "num_classes": self.num_classes,
            "ignore_label": self.ignore_label,
            "from_logits": self.from_logits,
        }


class CountMetric(LabelMetric):
    """A label metric that follows from counts of pixels, exact over a whole epoch.

    Args:
        num_classes: number of classes `C`.
        shape: of the array of counts.
        **kwargs: as in `LabelMetric`.
    """

    def __init__(self, num_classes, shape, **kwargs):
        super().__init__(num_classes, **kwargs)
        self.low = self.add_weight(shape, initializer="zeros", dtype="int32", name="low")
        self.high = self.add_weight(shape, initializer="zeros", dtype="int32", name="high")

    def add(self, counts):
        """Adds int32 counts, each below 2**30."""
        low = self.low + counts
        self.high.assign(self.high + ops.right_shift(low, LIMB_BITS))
        self.low.assign(ops.bitwise_and(low, 2**LIMB_BITS - 1))

    def counts(self):
        """Returns the counts so far as NumPy int64."""
        high = ops.convert_to_numpy(self.high).astype("int64")
        return (high << LIMB_BITS) + ops.convert_to_numpy(self.low)

    def matrix(self):
        """Returns the counts as float32, for ratios inside a graph."""
        return ops.cast(self.high, "float32") * 2.0**LIMB_BITS + ops.cast(self.low, "float32")


def check_class_id(class_id, num_classes):
    if class_id is not None and not 0 <= class_id < num_classes:
        raise ValueError(f"class_id is {class_id}, expected 0 to {num_classes - 1}, or None.")


@fused
def predicted_labels(logits):
    """Returns the class of the largest logit, int32 `[B, H, W]`; the first one of equals."""
    return ops.cast(ops.argmax(logits, axis=-1), "int32")


def count_cells(cell, num_cells):
    """Counts how often each number below `num_cells` occurs, int32 `[num_cells]`."""
    # Not ops.bincount: under XLA, TensorFlow's cannot be compiled; JAX's takes the same time.
    return ops.segment_sum(ops.ones_like(cell), cell, num_segments=num_cells)


def nan_mean(values):
    """Mean over the entries that are numbers; NaN if none is."""
    present = ops.logical_not(ops.isnan(values))
    total = ops.sum(ops.where(present, values, 0.0))
    return total / ops.sum(ops.cast(present, values.dtype))
