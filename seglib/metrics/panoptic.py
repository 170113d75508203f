"""Panoptic quality: things by instance and stuff by class in one number."""

import keras
import numpy as np
from keras import ops

from seglib.core.checks import check_num_classes, expand_weight
from seglib.core.constants import IGNORE_LABEL
from seglib.metrics.base import count_cells

# The IoU of a match lies in (0.5, 1], where float32 has steps of 2**-24: in units of 2**-24 it is
# a whole number, and a sum of whole numbers is exact and does not depend on the order.
UNIT_BITS = 24
HALF_BITS = UNIT_BITS // 2


@keras.saving.register_keras_serializable("seglib")
class PanopticQuality(keras.metrics.Metric):
    """Panoptic quality (PQ), the product of segmentation quality and recognition quality.

    A *segment* is all pixels of one picture with the same class and, for a thing, the same
    instance id; a stuff class is one segment a picture whatever its ids. A predicted segment
    matches a true one of the same class if their IoU exceeds 0.5, which no second segment can.
    For each class, over the whole epoch:

        SQ = (sum of the IoU of the matches) / TP
        RQ = TP / (TP + FP / 2 + FN / 2)
        PQ = SQ * RQ

    `result()` is the mean PQ over the classes that occur; `table()` gives the rest. A class without
    any segment in truth and prediction is left out of the means; one that occurs and never matches
    has PQ = SQ = RQ = 0, as in COCO's own evaluation.

    Void: pixels of the truth with `ignore_label` are taken away from the predicted segments before
    the IoU is computed, and an unmatched predicted segment of which more than half is void is no
    false positive. A prediction may use `ignore_label` too, for pixels that it assigns to nothing.

    Args:
        num_classes: number of classes `C`.
        things: ids of the classes that have instances; the others are stuff.
        max_instances: instance ids of things are `0 … max_instances-1`, counted anew in each
            picture and, if you like, in each class. Memory grows with its square: 4 bytes times
            `B * C * max_instances**2`.
        ignore_label: class id of void pixels.
        name: name of the metric.

    Shape:
        Truth and prediction `[B, H, W, 2]`, whole numbers: class id, then instance id (whatever it
        is at void and at stuff), to a scalar from 0 to 1; NaN before the first segment.
        `sample_weight` `[B]` or `[B, H, W]`: pixels of weight 0 are void, other weights count as 1.

    Raises:
        ValueError: if shapes do not belong together; if NumPy arrays hold a class id or an
            instance id that cannot be. Tensors are not looked at, so that the metric works inside
            a graph: there such an id makes `result()` NaN, and `table()` raises.

    Example:
        >>> metric = PanopticQuality(3, things=[1, 2])  # 0 is the background
        >>> metric.update_state(np.stack([classes, instances], axis=-1), predicted)
        >>> metric.table()["things"]["RQ"]

    Reference:
        Kirillov et al.: Panoptic Segmentation, CVPR 2019, eq. 1 (PQ) and 2 (SQ times RQ). Void
        pixels are treated as in COCO's evaluation code (panopticapi).

    When to use:
        A prediction in which each pixel has one class and at most one instance. Overlapping
        detections with scores are for `COCOAveragePrecision`.

    What breaks:
        A segment of a few pixels counts as much as one that fills the picture. An IoU of 0.5
        scores 0, one of 0.51 scores 0.51. There are no crowd segments (a region of uncounted
        objects of one class); mark such a region as void, which forgives other classes there too.
    """

    _direction = "up"

    def __init__(
        self,
        num_classes,
        *,
        things,
        max_instances=100,
        ignore_label=IGNORE_LABEL,
        name="panoptic_quality",
    ):
        super().__init__(name=name, dtype="float32")
        check_num_classes(num_classes)
        things = sorted({int(c) for c in things})
        if things and not 0 <= things[0] <= things[-1] < num_classes:
            raise ValueError(
                f"things are {things}, expected class ids from 0 to {num_classes - 1}."
            )
        if max_instances < 1:
            raise ValueError(f"max_instances is {max_instances}, expected at least 1.")
        self.num_classes = num_classes
        self.things = tuple(things)
        self.max_instances = max_instances
        self.ignore_label = ignore_label
        # The sum of the IoU of the matches is whole + fraction / 2**24.
        self.whole = self.add_counter("whole", (num_classes,))
        self.fraction = self.add_counter("fraction", (num_classes,))
        self.counts = self.add_counter("counts", (3, num_classes))  # TP, FP, FN
        self.invalid = self.add_counter("invalid", ())

    def add_counter(self, name, shape):
        return self.add_weight(shape, initializer="zeros", dtype="int32", name=name)

    def update_state(self, y_true, y_pred, sample_weight=None):
        for what, panoptic in (("truth", y_true), ("prediction", y_pred)):
            if isinstance(panoptic, np.ndarray):
                self.check_values(what, panoptic)
        y_true, y_pred = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
        check_panoptic_shapes(y_true, y_pred)
        true_class, true_instance, true_invalid = self.split(y_true)
        pred_class, pred_instance, pred_invalid = self.split(y_pred)
        if sample_weight is not None:
            counted = ops.not_equal(expand_weight(sample_weight, true_class), 0)
            true_class = ops.where(counted, true_class, -1)
        truth, prediction = (true_class, true_instance), (pred_class, pred_instance)
        units, counts = count_segments(truth, prediction, self.num_classes, self.max_instances)
        self.add_units(units)
        self.counts.assign_add(counts)
        self.invalid.assign_add(ops.minimum(true_invalid + pred_invalid, 1))

    def split(self, panoptic):
        """Returns class ids (void is -1), instance ids (0 at stuff), and the number of errors."""
        labels = ops.cast(panoptic, "int32")
        whole = ops.equal(panoptic, ops.cast(labels, panoptic.dtype))
        class_id, instance = labels[..., 0], labels[..., 1]
        void = ops.equal(class_id, self.ignore_label)
        known = whole[..., 0] & (class_id >= 0) & (class_id < self.num_classes)
        is_thing = np.isin(np.arange(self.num_classes), self.things)
        thing = ops.take(ops.array(is_thing), ops.where(known, class_id, 0), axis=0)
        instance = ops.where(known & thing, instance, 0)
        fits = known & (instance >= 0) & (instance < self.max_instances)
        fits = fits & (whole[..., 1] | ops.logical_not(thing))
        good = fits & ops.logical_not(void)
        invalid = ops.sum(ops.cast(ops.logical_not(fits | void), "int32"))
        return ops.where(good, class_id, -1), ops.where(good, instance, 0), invalid

    def check_values(self, what, panoptic):
        """Raises if a NumPy array holds ids that the graph would have to answer with NaN."""
        if panoptic.ndim != 4 or panoptic.shape[-1] != 2:
            return  # the shapes are checked later
        labels = panoptic[panoptic[..., 0] != self.ignore_label]  # (pixels, 2)
        class_id, instance = labels[:, 0], labels[np.isin(labels[:, 0], self.things), 1]
        bad = class_id[~np.isin(class_id, np.arange(self.num_classes))]
        if bad.size:
            raise ValueError(
                f"The {what} holds the class ids {np.unique(bad)[:8].tolist()}, expected whole "
                f"numbers 0 to {self.num_classes - 1} or {self.ignore_label} (void). The last axis "
                "is (class id, instance id), in this order."
            )
        bad = instance[~np.isin(instance, np.arange(self.max_instances))]
        if bad.size:
            raise ValueError(
                f"The {what} holds the instance ids {np.unique(bad)[:8].tolist()}, expected 0 to "
                f"{self.max_instances - 1}. Raise max_instances, or number the instances of each "
                "picture anew: np.unique(ids, return_inverse=True)."
            )

    def add_units(self, units):
        """Adds the IoU of matches, int32 `[..., C]` in units of 2**-24, without overflow."""
        # Halves of 12 bits: an int32 holds the sum of half a million of them.
        mask = 2**HALF_BITS - 1
        axes = tuple(range(len(units.shape) - 1))
        high = ops.sum(ops.right_shift(units, HALF_BITS), axis=axes)
        low = ops.sum(ops.bitwise_and(units, mask), axis=axes)
        low = self.fraction + low + ops.left_shift(ops.bitwise_and(high, mask), HALF_BITS)
        self.whole.assign_add(ops.right_shift(high, HALF_BITS) + ops.right_shift(low, UNIT_BITS))
        self.fraction.assign(ops.bitwise_and(low, 2**UNIT_BITS - 1))

    def result(self):
        tp, fp, fn = ops.unstack(ops.cast(self.counts, "float32"), 3)
        iou = ops.cast(self.whole, "float32")
        iou = iou + ops.cast(self.fraction, "float32") * 2.0**-UNIT_BITS
        present = tp + fp + fn > 0
        pq = ops.where(present, iou / ops.maximum(tp + (fp + fn) / 2, 0.5), 0.0)
        mean = ops.sum(pq) / ops.sum(ops.cast(present, "float32"))
        return ops.where(self.invalid > 0, float("nan"), mean)

    def per_class(self):
        """Returns the PQ of each class, NumPy float32 `[C]`; NaN for one that does not occur."""
        scores = self.table()["per_class"].values()
        return np.array([score["PQ"] for score in scores], "float32")

    def table(self):
        """Returns every score so far, as plain numbers that JSON can hold.

        Returns:
            A dict with the keys `"all"`, `"things"` and `"stuff"`, each the means
            `{"PQ", "SQ", "RQ", "classes"}` over the classes that occur (`classes` of them; NaN if
            none does), and `"per_class"`: for each class id
            `{"PQ", "SQ", "RQ", "TP", "FP", "FN"}`, NaN for a class that does not occur.

        Raises:
            ValueError: if a tensor held a class id or an instance id that cannot be.
        """
        if int(ops.convert_to_numpy(self.invalid)):
            raise ValueError(
                "Some pixels had a class id or an instance id out of range, expected classes 0 to "
                f"{self.num_classes - 1} or {self.ignore_label} (void) and instances 0 to "
                f"{self.max_instances - 1}. Pass NumPy arrays to update_state to learn which."
            )
        whole, fraction, counts = map(
            ops.convert_to_numpy, (self.whole, self.fraction, self.counts)
        )
        iou = whole + fraction * 2.0**-UNIT_BITS  # float64
        per_class = dict(enumerate(map(class_scores, iou.tolist(), *counts.tolist())))
        return {
            "all": mean_scores(per_class.values()),
            "things": mean_scores(per_class[c] for c in self.things),
            "stuff": mean_scores(s for c, s in per_class.items() if c not in self.things),
            "per_class": per_class,
        }

    def get_config(self):
        return {
            "name": self.name,
            "num_classes": self.num_classes,
            "things": list(self.things),
            "max_instances": self.max_instances,
            "ignore_label": self.ignore_label,
        }


def check_panoptic_shapes(y_true, y_pred):
    """Raises if two panoptic maps do not belong together."""
    true_shape, pred_shape = tuple(y_true.shape), tuple(y_pred.shape)
    for what, shape in (("truth", true_shape), ("prediction", pred_shape)):
        if len(shape) != 4 or shape[-1] != 2:
            raise ValueError(
                f"The {what} has shape {shape}, expected [B, H, W, 2] with class id and instance "
                "id in the last axis. Build it with np.stack([classes, instances], axis=-1)."
            )
    if any(None not in (t, p) and t != p for t, p in zip(true_shape, pred_shape, strict=True)):
        raise ValueError(
            f"The truth has shape {true_shape}, the prediction {pred_shape}; expected the same. "
            "Resize the prediction by nearest neighbor, never the truth."
        )


def count_segments(truth, prediction, num_classes, max_instances):
    """Matches the segments of a batch and counts them for each class.

    Args:
        truth: class ids `[B, H, W]`, -1 for void, and instance ids `[B, H, W]`.
        prediction: the same of the prediction.
        num_classes: number of classes `C`.
        max_instances: all instance ids are below it.

    Returns:
        int32 `[B, I, I, C]`, the IoU of each pair of a true and a predicted segment in units of
        2**-24 where they match, else 0; and the numbers of true positives, false positives and
        false negatives, int32 `[3, C]`.
    """
    (true_class, true_instance), (pred_class, pred_instance) = truth, prediction
    batch = ops.shape(true_class)[0]
    picture = ops.cast(ops.arange(batch), "int32")[:, None, None]
    segments = batch * max_instances * num_classes
    dims = (batch, max_instances, num_classes)

    def number(class_id, instance):
        """The number of each pixel's segment; one number more for void."""
        segment = (picture * max_instances + instance) * num_classes + class_id
        return ops.where(class_id >= 0, segment, segments)

    def area(segment):
        return ops.reshape(count_cells(ops.reshape(segment, [-1]), segments + 1)[:segments], dims)

    pred_segment = number(pred_class, pred_instance)
    void = area(ops.where(true_class < 0, pred_segment, segments))[:, None]  # (B, 1, I, C)
    pred_area = area(pred_segment)[:, None]  # (B, 1, I, C)
    true_area = area(number(true_class, true_instance))[:, :, None]  # (B, I, 1, C)

    # Segments of different classes never match, so only pairs of one class are counted.
    pairs = segments * max_instances
    pair = (picture * max_instances + true_instance) * max_instances + pred_instance
    pair = ops.where(
        (true_class >= 0) & (true_class == pred_class), pair * num_classes + true_class, pairs
    )
    common = count_cells(ops.reshape(pair, [-1]), pairs + 1)[:pairs]
    common = ops.reshape(common, (batch, max_instances, max_instances, num_classes))

    union = true_area + pred_area - void - common
    match = 2 * common > union  # whole numbers, so exactly one half is no match
    iou = ops.cast(common, "float32") / ops.cast(ops.maximum(union, 1), "float32")
    units = ops.cast(ops.where(match, iou, 0.0) * 2.0**UNIT_BITS, "int32")

    fn = (true_area > 0) & ops.logical_not(ops.any(match, axis=2, keepdims=True))
    fp = (pred_area > 0) & ops.logical_not(ops.any(match, axis=1, keepdims=True))
    fp = fp & (2 * void <= pred_area)
    counts = [ops.sum(ops.cast(which, "int32"), axis=(0, 1, 2)) for which in (match, fp, fn)]
    return units, ops.stack(counts)


def class_scores(iou, tp, fp, fn):
    """The scores of one class from the sum of the IoU of its matches and its counts."""
    counts = {"TP": tp, "FP": fp, "FN": fn}
    if tp + fp + fn == 0:
        return dict.fromkeys(("PQ", "SQ", "RQ"), float("nan")) | counts
    total = tp + (fp + fn) / 2
    return {"PQ": iou / total, "SQ": iou / max(tp, 1), "RQ": tp / total} | counts


def mean_scores(scores):
    """The means over the classes that occur."""
    scores = [s for s in scores if s["TP"] + s["FP"] + s["FN"]]
    means = {
        key: sum(s[key] for s in scores) / len(scores) if scores else float("nan")
        for key in ("PQ", "SQ", "RQ")
    }
    return means | {"classes": len(scores)}
