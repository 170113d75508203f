"""What all segmentation losses share."""

import keras
from keras import ops

from seglib.errors import check_shapes, expand_weight


class SegmentationLoss(keras.losses.Loss):
    """A loss on a label map and logits that ignores one label.

    Args:
        class_weights: one weight a class, or `None` for equal weights.
        ignore_label: label of pixels that count nowhere.
        name: name of the loss.

    Shape:
        Label map `[B, H, W]` (whole numbers, any dtype) and logits `[B, H, W, C]` to a scalar,
        computed in float32.
    """

    def __init__(self, class_weights=None, *, ignore_label=255, name=None):
        super().__init__(name=name, reduction="mean_with_sample_weight", dtype="float32")
        if class_weights is not None:
            class_weights = [float(w) for w in class_weights]
            if min(class_weights) < 0 or max(class_weights) == 0:
                raise ValueError(
                    f"class_weights are {class_weights}, expected numbers of at least 0, "
                    "not all of them 0."
                )
        self.class_weights = class_weights
        self.ignore_label = ignore_label

    def prepare(self, y_true, y_pred, sample_weight=None):
        """Checks both inputs and returns what every loss starts from.

        Returns:
            labels `[B, H, W]` int32 with 0 at ignored pixels, logits float32 `[B, H, W, C]`, and
            weights float32 `[B, H, W]`: 0 at ignored pixels, elsewhere the class weight times
            the sample weight; NaN where the label is neither a class nor the ignore label.
        """
        y_true, logits = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
        check_shapes(y_true, logits)
        num_classes = logits.shape[-1]
        if self.class_weights is not None and len(self.class_weights) != num_classes:
            raise ValueError(
                f"There are {len(self.class_weights)} class weights for {num_classes} classes. "
                "Give one weight for each channel of the logits."
            )
        labels = ops.cast(y_true, "int32")
        valid = ops.not_equal(labels, self.ignore_label)
        known = (labels >= 0) & (labels < num_classes)
        if "float" in keras.backend.standardize_dtype(y_true.dtype):
            # A fraction comes from a mask that was resized bilinearly.
            known = known & ops.equal(y_true, ops.cast(labels, y_true.dtype))
        # What happens to a label that is no class differs between backends and devices: an
        # exception, a zero or NaN. Here it is NaN everywhere.
        weights = ops.where(valid, ops.where(known, 1.0, float("nan")), 0.0)
        labels = ops.where(valid & known, labels, 0)
        if self.class_weights is not None:
            weights = weights * ops.take(ops.array(self.class_weights, "float32"), labels, axis=0)
        if sample_weight is not None:
            weights = weights * ops.cast(expand_weight(sample_weight, labels), "float32")
        return labels, ops.cast(logits, "float32"), weights

    def get_config(self):
        return {
            "name": self.name,
            "class_weights": self.class_weights,
            "ignore_label": self.ignore_label,
        }


def weighted_mean(values, weights):
    """Returns `sum(w * v) / sum(w)`, and 0 (with gradient 0) if all weights are 0."""
    return ops.divide_no_nan(ops.sum(weights * values), ops.sum(weights))
