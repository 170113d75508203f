"""Metrics that look at the boundaries of the classes, picture by picture.

A *boundary pixel* of a class is a pixel of the class with a pixel of another class above, below, to
the left or to the right of it (the inner boundary, 4-neighbourhood). Pixels that do not count
(ignored, or of weight 0) are holes in both maps: they belong to no class, and a class does not get
a boundary by ending at one. Nor does the picture's frame count as a boundary.
"""

import math

import keras
from keras import ops

from seglib.core.distance import edges, nearest
from seglib.metrics.base import CountMetric, LabelMetric, check_class_id

# Scores are summed as whole numbers, so that neither order nor number of the pictures matters:
# shares in units of 2**-24, distances (up to 8192 px) in units of 2**-16.
SHARE_BITS, DISTANCE_BITS = 24, 16
# Two int32 numbers hold a sum: the units below 2**15, and the rest.
HALF_BITS = 15
# Squared distances below 2**24 are exact in float32.
SQUARE_BITS = 24


class PictureMetric(LabelMetric):
    """A metric with one score for each picture and class, and the mean of these.

    A subclass gives `score`.

    Args:
        num_classes: number of classes `C`.
        average: `"picture"` for the mean over the classes of each picture, then over the pictures;
            `"class"` for the mean over the pictures of each class, then over the classes.
        **kwargs: `ignore_label`, `from_logits` and `name`, as in `LabelMetric`.
    """

    bits = DISTANCE_BITS
    needs_both = True  # whether a class without a boundary in one of the maps has no score

    def __init__(self, num_classes, *, average="picture", **kwargs):
        if average not in ("picture", "class"):
            raise ValueError(f"average is {average!r}, expected 'picture' or 'class'.")
        super().__init__(num_classes, **kwargs)
        self.average = average
        # One entry a class; the last one is for the means of the pictures.
        entries = (num_classes + 1,)
        self.high = self.add_weight(entries, initializer="zeros", dtype="int32", name="high")
        self.low = self.add_weight(entries, initializer="zeros", dtype="int32", name="low")
        self.seen = self.add_weight(entries, initializer="zeros", dtype="int32", name="seen")
        self.lost = self.add_weight((num_classes,), initializer="zeros", dtype="int32", name="lost")

    def scores(self, truth, prediction):
        """Returns score, whether there is one, and whether one map lacks the class's boundary.

        Args:
            truth: int32 `[B, H, W]`, -1 where a pixel does not count.
            prediction: likewise.

        Returns:
            float32, bool and bool, each `[B, C]`.
        """
        true, predicted = class_edges(truth, prediction, self.num_classes)
        score = self.score(true, predicted, nearest(predicted), nearest(true))
        in_truth, in_prediction = exists(true), exists(predicted)
        found = in_truth & in_prediction if self.needs_both else in_truth | in_prediction
        return score, found, ops.logical_xor(in_truth, in_prediction)

    def score(self, true, predicted, to_predicted, to_true):
        """Returns a score `[B, C]` from boundary pixels and the distances to them, `[B, H, W, C]`.

        Where there is none, its value does not matter.
        """
        raise NotImplementedError

    def update_state(self, y_true, y_pred, sample_weight=None):
        score, found, lost = self.scores(*self.holed_maps(y_true, y_pred, sample_weight))
        score, found = with_picture_mean(score, found)  # (B, C + 1)
        units = ops.cast(ops.round(ops.where(found, score, 0.0) * 2.0**self.bits), "int32")
        low = self.low + ops.sum(ops.bitwise_and(units, 2**HALF_BITS - 1), axis=0)
        high = self.high + ops.sum(ops.right_shift(units, HALF_BITS), axis=0)
        self.high.assign(high + ops.right_shift(low, HALF_BITS))
        self.low.assign(ops.bitwise_and(low, 2**HALF_BITS - 1))
        self.seen.assign(self.seen + count(found, axis=0))
        self.lost.assign(self.lost + count(lost, axis=0))

    def means(self):
        """Returns the mean score of each class and, last, of the pictures: float32 `[C + 1]`."""
        high, low = ops.cast(self.high, "float32"), ops.cast(self.low, "float32")
        total = high * 2.0 ** (HALF_BITS - self.bits) + low * 2.0**-self.bits
        return total / ops.cast(self.seen, "float32")

    def class_scores(self):
        return self.means()[:-1]

    def result(self):
        return self.means()[-1] if self.average == "picture" else super().result()

    def missed(self):
        """Returns in how many pictures each class has a boundary in one of the two maps alone.

        Returns:
            NumPy int32 `[C]`.
        """
        return ops.convert_to_numpy(self.lost)

    def get_config(self):
        return super().get_config() | {"average": self.average}


@keras.saving.register_keras_serializable("seglib")
class BoundaryF1(PictureMetric):
    """Boundary F1: how much of the boundaries lies within a tolerance of each other.

    For each picture and class, with the boundary pixels `T` of the truth and `P` of the prediction:

        precision = share of P whose distance to T is at most the tolerance
        recall    = share of T whose distance to P is at most the tolerance
        F1        = 2 precision recall / (precision + recall), 0 if both are 0

    A class that has a boundary in one of the maps alone scores 0; one without any boundary in the
    picture (absent from both maps, or alone in both) has no score there. A picture without a score
    is left out.

    Args:
        num_classes: number of classes `C`.
        tolerance: Euclidean distance in pixels, 0 or at least 1; between 0 and 1 it is a share of
            the picture's diagonal.
        **kwargs: `average`, as in `PictureMetric`; `ignore_label`, `from_logits` and `name`, as in
            `LabelMetric`.

    Shape:
        `[B, H, W]` (or packed with distances) and `[B, H, W, C]` (or `[B, H, W]`) to a scalar from
        0 to 1; NaN before the first boundary.

    Reference:
        Csurka, Larlus and Perronnin: What is a good evaluation measure for semantic segmentation?,
        BMVC 2013: F1 of the contours of each class, picture by picture. The default tolerance,
        0.75 % of the diagonal, is the paper's, and that of MATLAB's `bfscore`.

    When to use it:
        Where the IoU is high already and outlines matter. Report the tolerance beside the number.

    What breaks:
        It says nothing about boundaries farther off than the tolerance, and a share of the diagonal
        is another number of pixels at another resolution.
    """

    default_name = "boundary_f1"
    bits = SHARE_BITS
    needs_both = False

    def __init__(self, num_classes, *, tolerance=0.0075, **kwargs):
        check_extent(tolerance, "tolerance")
        super().__init__(num_classes, **kwargs)
        self.tolerance = tolerance

    def score(self, true, predicted, to_predicted, to_true):
        tolerance = in_pixels(self.tolerance, true)
        precision = share(predicted & (to_true <= tolerance), predicted)
        recall = share(true & (to_predicted <= tolerance), true)
        return ops.divide_no_nan(2 * precision * recall, precision + recall)

    def get_config(self):
        return super().get_config() | {"tolerance": self.tolerance}


@keras.saving.register_keras_serializable("seglib")
class HausdorffDistance(PictureMetric):
    """Hausdorff distance between boundaries, in pixels, by default its 95th percentile.

    For each picture and class, the distances of the truth's boundary pixels to the prediction's
    boundary have a percentile, interpolated linearly as `numpy.percentile` does, and so have those
    of the prediction's to the truth's; the score is the larger of the two. `percentile=100` is the
    Hausdorff distance itself.

    A class with a boundary in one of the maps alone has no distance: report `missed()`, the number
    of such pictures, beside this mean, which a model can lower by missing what is hard.

    Args:
        num_classes: number of classes `C`.
        percentile: above 0, up to 100.
        **kwargs: as in `BoundaryF1`.

    Shape:
        As `BoundaryF1`, to a scalar in pixels; NaN before the first distance.

    Reference:
        Huttenlocher, Klanderman and Rucklidge: Comparing images using the Hausdorff distance, IEEE
        TPAMI 1993 (the distance, and ranks of it in place of the maximum).

    What breaks:
        One stray pixel far off decides at `percentile=100`. Pixels are not millimetres: where
        their size matters, multiply by it.
    """

    default_name = "hausdorff"
    _direction = "down"

    def __init__(self, num_classes, *, percentile=95, **kwargs):
        if not 0 < percentile <= 100:
            raise ValueError(f"percentile is {percentile}, expected more than 0 and at most 100.")
        super().__init__(num_classes, **kwargs)
        self.percentile = percentile

    def score(self, true, predicted, to_predicted, to_true):
        share = self.percentile / 100
        return ops.maximum(quantile(to_predicted, true, share), quantile(to_true, predicted, share))

    def get_config(self):
        return super().get_config() | {"percentile": self.percentile}


@keras.saving.register_keras_serializable("seglib")
class AverageSurfaceDistance(PictureMetric):
    """Mean distance of boundary pixels to the other map's boundary, in pixels, both ways.

    For each picture and class: the sum of the distances of the truth's boundary pixels to the
    prediction's boundary and of the prediction's to the truth's, divided by the number of all these
    pixels. (Some packages take the mean of the two means; it differs where one boundary is longer.)

    Where a boundary is missing, as `HausdorffDistance`.

    Args:
        num_classes: number of classes `C`.
        **kwargs: as in `BoundaryF1`.

    Shape:
        As `HausdorffDistance`.

    Reference:
        Heimann et al.: Comparison and Evaluation of Methods for Liver Segmentation from CT
        Datasets, IEEE Transactions on Medical Imaging 2009 (average symmetric surface distance).
    """

    default_name = "average_surface_distance"
    _direction = "down"

    def score(self, true, predicted, to_predicted, to_true):
        total = ops.sum(ops.where(true, to_predicted, 0.0), axis=(1, 2))
        total = total + ops.sum(ops.where(predicted, to_true, 0.0), axis=(1, 2))
        pixels = count(true, axis=(1, 2)) + count(predicted, axis=(1, 2))
        return ops.divide_no_nan(total, ops.cast(pixels, "float32"))


@keras.saving.register_keras_serializable("seglib")
class BoundaryIoU(CountMetric):
    """Boundary IoU: the IoU of those pixels of each class that lie near the edge of its region.

    Of the region of a class only the pixels within `width` of its outside are kept, in truth and
    prediction each; the IoU of the two bands is the score. Like `MeanIoU`, it counts the
    intersections and unions of a whole epoch, divides once, and takes the mean over the classes
    that occur.

    As in the paper's public code, the distance is the chessboard distance (that code erodes `width`
    times with a 3 x 3 square), the width is rounded to whole pixels and at least 1, and the frame
    of the picture is an edge. Ignored pixels are none: they stand in no band, and make none.

    Args:
        num_classes: number of classes `C`.
        width: of the band, in pixels if at least 1, otherwise a share of the picture's diagonal.
        class_id: one class, or `None` for the mean.
        **kwargs: `ignore_label`, `from_logits` and `name`, as in `LabelMetric`.

    Shape:
        As `BoundaryF1`; NaN before the first pixel.

    Reference:
        Cheng, Girshick, Dollár, Berg and Kirillov: Boundary IoU: Improving Object-Centric Image
        Segmentation Evaluation, CVPR 2021. There it is the score of one object's mask; the sums
        over an epoch are ours. The default width, 2 % of the diagonal, is that of the public code
        for COCO.

    When to use it:
        For large objects, whose IoU hardly notices their outline. A region that is thinner than
        twice the width is all band, and Boundary IoU is then the plain IoU.
    """

    default_name = "boundary_iou"

    def __init__(self, num_classes, *, width=0.02, class_id=None, **kwargs):
        check_extent(width, "width")
        if width == 0:
            raise ValueError("width is 0, expected a number of pixels or a share of the diagonal.")
        check_class_id(class_id, num_classes)
        # Row 0 counts the intersections, row 1 the unions.
        super().__init__(num_classes, (2, num_classes), **kwargs)
        self.width = width
        self.class_id = class_id

    def overlaps(self, truth, prediction):
        """Returns the sizes of intersection and union of the bands, int32 `[B, 2, C]`."""
        true = band(truth, self.num_classes, self.width)
        predicted = band(prediction, self.num_classes, self.width)
        both = count(true & predicted, axis=(1, 2))
        return ops.stack([both, count(true | predicted, axis=(1, 2))], axis=1)

    def update_state(self, y_true, y_pred, sample_weight=None):
        overlaps = self.overlaps(*self.holed_maps(y_true, y_pred, sample_weight))
        self.add(ops.sum(overlaps, axis=0))

    def class_scores(self):
        intersection, union = ops.unstack(self.matrix(), 2, axis=0)
        return intersection / union

    def get_config(self):
        return super().get_config() | {"width": self.width, "class_id": self.class_id}


def check_extent(extent, name):
    if not (extent >= 0 and math.isfinite(extent)):
        raise ValueError(
            f"{name} is {extent}, expected a number of pixels, or a share of the diagonal below 1."
        )


def in_pixels(extent, maps):
    """Returns an extent in pixels: a number between 0 and 1 is a share of the maps' diagonal."""
    if not 0 < extent < 1:
        return float(extent)
    height, width = ops.shape(maps)[1:3]
    if isinstance(height, int) and isinstance(width, int):
        return extent * math.hypot(height, width)
    square = ops.square(ops.cast(height, "float32")) + ops.square(ops.cast(width, "float32"))
    return extent * ops.sqrt(square)


def regions(labels, num_classes):
    """Returns the masks of the classes, bool `[B, H, W, C]`."""
    return ops.equal(labels[..., None], ops.arange(num_classes, dtype="int32"))


def class_edges(truth, prediction, num_classes):
    """Returns the boundary pixels of each class in truth and prediction, bool `[B, H, W, C]`."""
    return tuple(
        regions(labels, num_classes) & edges(labels)[..., None] for labels in (truth, prediction)
    )


def band(labels, num_classes, width):
    """Returns the pixels of each class at most `width` from its outside, bool `[B, H, W, C]`."""
    width = in_pixels(width, labels)
    width = max(1, round(width)) if isinstance(width, float) else ops.maximum(ops.round(width), 1.0)
    width = ops.cast(width, "int32")
    inside = regions(labels, num_classes)
    outside = ops.cast(ops.logical_not(inside) & (labels >= 0)[..., None], "int32")
    # What lies beyond the frame is outside, too.
    outside = ops.pad(outside, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=1)
    near = window_sum(window_sum(outside, width, 1), width, 2)[:, 1:-1, 1:-1] > 0
    return inside & near


def window_sum(values, reach, axis):
    """Sums along an axis over all places at most `reach` away, whatever the reach in one pass."""
    size = ops.shape(values)[axis]
    place = ops.arange(size, dtype="int32")
    sums = ops.cumsum(values, axis=axis)
    last = ops.take(sums, ops.minimum(place + reach, size - 1), axis=axis)
    before = ops.take(sums, ops.maximum(place - reach - 1, 0), axis=axis)
    shape = [1] * len(values.shape)
    shape[axis] = -1
    return last - ops.where(ops.reshape(place > reach, shape), before, 0)


def count(mask, axis):
    return ops.sum(ops.cast(mask, "int32"), axis=axis)


def exists(mask):
    """Returns in which pictures a class has a boundary, bool `[B, C]`."""
    return ops.any(mask, axis=(1, 2))


def share(part, whole):
    """Returns what share of the pixels belongs to the part, `[B, C]`; 0 if there is none."""
    part, whole = (ops.cast(count(mask, (1, 2)), "float32") for mask in (part, whole))
    return ops.divide_no_nan(part, whole)


def quantile(distance, mask, share):
    """Returns a quantile of the distances at the mask's pixels, `[B, C]`, linearly interpolated.

    The squares of the distances are whole numbers, so the one of a given rank is found by halving
    an interval: far cheaper than sorting all pixels to look at the few on a boundary.
    """
    squared = ops.where(mask, ops.cast(ops.round(ops.square(distance)), "int32"), 2**30)
    number = count(mask, axis=(1, 2))
    rank = share * ops.cast(ops.maximum(number - 1, 0), "float32")
    below = ops.cast(ops.floor(rank), "int32")

    def halve(_, bounds):
        least, most = bounds
        middle = (least + most) // 2
        enough = up_to(squared, middle) > below
        return ops.where(enough, least, middle + 1), ops.where(enough, middle, most)

    start = ops.zeros_like(number)
    lower = ops.fori_loop(0, SQUARE_BITS + 1, halve, (start, start + 2**SQUARE_BITS))[1]
    # The next rank is another pixel at the same distance, or the next larger distance.
    larger = ops.min(ops.where(squared > lower[:, None, None], squared, 2**30), axis=(1, 2))
    upper = ops.where(up_to(squared, lower) > below + 1, lower, larger)
    upper = ops.where(below + 1 < number, upper, lower)
    lower, upper = (ops.sqrt(ops.cast(square, "float32")) for square in (lower, upper))
    return lower + (upper - lower) * (rank - ops.cast(below, "float32"))


def up_to(squared, limit):
    """Counts the pixels with a square of at most the limit, `[B, C]`."""
    return count(squared <= limit[:, None, None], axis=(1, 2))


def with_picture_mean(score, found):
    """Appends each picture's mean over the classes that have a score: `[B, C]` to `[B, C + 1]`."""
    number = count(found, axis=1)
    total = ops.sum(ops.where(found, score, 0.0), axis=1)
    mean = ops.divide_no_nan(total, ops.cast(number, "float32"))
    return (
        ops.concatenate([score, mean[:, None]], axis=1),
        ops.concatenate([found, number[:, None] > 0], axis=1),
    )
