r"""Losses that look at how far from the boundary of the truth a mistake is.

All of them multiply a cost of each pixel, which has a gradient, by a distance, which has none. With
a truth packed by `seglib.core.distance.pack_distances`, the distances of the truth are taken from
it; otherwise they are computed, to the same values. Ignored pixels are no boundary: distances are
measured past them (`seglib.core.distance.signed_distance`).
"""

import keras
from keras import ops

from seglib.core.checks import counts
from seglib.core.distance import edges, signed_distance, unpack
from seglib.losses.base import (
    RegionLoss,
    SegmentationLoss,
    of_own_class,
    pixel_sums,
    weighted_mean,
)
from seglib.losses.distribution import sparse_cross_entropy


class DistanceLoss(RegionLoss):
    """The mean over the valid pixels of a cost of each pixel and class that distances enter.

    A subclass gives `costs`. The means are averaged over the classes of each picture, then over the
    pictures. The arguments are those of `RegionLoss`.
    """

    def compute(self, y_true, y_pred, sample_weight=None):
        labels, logits, weights, truth, shares = self.regions(y_true, y_pred, sample_weight)
        costs = self.costs(y_true, labels, logits)  # (B, H, W, C)
        area = ops.sum(truth, axis=-1, keepdims=True)  # (B, 1)
        return ops.sum(shares * ops.divide_no_nan(pixel_sums(weights, costs), area))

    def costs(self, y_true, labels, logits):
        """Returns the cost of each pixel and class, `[B, H, W, C]`, from `prepare`'s results."""
        raise NotImplementedError


@keras.saving.register_keras_serializable("seglib")
class Boundary(DistanceLoss):
    r"""Boundary loss: the signed distance to the true boundary, wherever the class is predicted.

    $$L_c = \frac{\sum_i s_i\, \phi_{ic}\, p_{ic}}{\sum_i s_i}$$

    over the valid pixels *i* of one picture, with `p` the softmax of the logits, `s` the sample
    weights and `φ` the distance in pixels to the boundary of class *c*, negative inside
    (`seglib.core.distance.signed_distance`; 0 for a class without a boundary). The loss is the mean
    over the classes in the picture, then over the pictures. It is negative for good predictions;
    its least value, minus the mean depth of the classes, differs from picture to picture.

    Args:
        class_weights: one weight per class in the mean over classes, or `None` for equal weights.
        classes: `"present"` to average over the classes that stand in the picture's truth, `"all"`
            to divide by their number including those that do not, which cost 0.
        **kwargs: `ignore_label` and `name`, as in `SegmentationLoss`.

    Shape:
        Label map `[B, H, W]`, or truth packed with distances, and logits
        `[B, H, W, C]` to a scalar in pixels. `sample_weight` `[B]` weights the pictures,
        `[B, H, W]` the pixels inside the means.

    Raises:
        ValueError: if shapes do not belong together or the weights are not one per class. Labels
            that are neither one of `0 … C-1` nor the ignore label make the loss NaN.

    When to use: for small or thin regions whose outline matters, added to a region loss:
    `Dice() + 0.01 * Boundary()`, with a factor that may grow during training. What breaks: alone it
    learns slowly, because most of the gradient comes from pixels far from the boundary; a class
    that is absent from the truth is never pushed down.

    Reference:
        Kervadec et al., Boundary loss for highly unbalanced segmentation, MIDL 2019,
        arXiv:1812.07032, eq. 5, and Medical Image Analysis 67, 2021. The authors' code subtracts 1
        from the distances inside the class, and takes the mean over pictures and over classes that
        the user picks, where absent ones count as 0.
    """

    default_name = "boundary"

    def costs(self, y_true, labels, logits):
        return weighted_probabilities(true_distances(y_true, logits, self.ignore_label), logits)


@keras.saving.register_keras_serializable("seglib")
class Hausdorff(DistanceLoss):
    r"""Hausdorff loss: squared errors, weighted by their distance to both boundaries.

    $$L_c = \frac{\sum_i s_i\, (p_{ic} - g_{ic})^2
      \left(\delta_{ic}^{\,\alpha} + \hat\delta_{ic}^{\,\alpha}\right)}{\sum_i s_i}$$

    over the valid pixels *i* of one picture, with `p` the softmax of the logits, `g` the one-hot
    truth, `s` the sample weights and `δ` the distance in pixels to the boundary of class *c* in the
    truth (the absolute value of `φ` in `Boundary`). `δ̂` is the same for the predicted label map,
    the arg-max of the logits, and counts as a constant. The means are those of `Boundary`.

    Args:
        class_weights, classes, ignore_label, name: as in `Boundary`.
        alpha: the power of the distances. The paper finds 1 to 3 good, and uses 2.
        one_sided: whether to leave out the distances of the prediction, which have to be computed
            in each step.

    Shape: as `Boundary`, to a scalar of at least 0, in pixels to the power `α`.
    Raises: as `Boundary`.

    When to use: when a single far-off blob is worse than a rough edge; added to a region loss with
    a small factor, or after some epochs with one. What breaks: its scale grows with the picture (a
    far mistake costs thousands), so it drowns other losses early in training; a picture of one
    class has no boundary and costs nothing with `one_sided`.

    Reference:
        Karimi and Salcudean, Reducing the Hausdorff Distance in Medical Image Segmentation with
        Convolutional Neural Networks, IEEE Transactions on Medical Imaging 39(2), 2020,
        arXiv:1904.10030, eq. 8 (Loss_DT) and its one-sided variant, for one foreground class. Some
        public code measures inside the object only; here, as in the paper, it is both sides.
    """

    default_name = "hausdorff"

    def __init__(self, class_weights=None, *, alpha=2.0, one_sided=False, **kwargs):
        super().__init__(class_weights, **kwargs)
        if not alpha > 0:
            raise ValueError(f"alpha is {alpha}, expected a number above 0.")
        self.alpha = alpha
        self.one_sided = one_sided

    def costs(self, y_true, labels, logits):
        num_classes = logits.shape[-1]
        weight = self.power(true_distances(y_true, logits, self.ignore_label))
        if not self.one_sided:
            predicted = predicted_labels(y_true, logits, self.ignore_label)
            weight = weight + self.power(signed_distance(predicted, num_classes, -1))
        return weighted_errors(weight, labels, logits, num_classes)

    def power(self, distance):
        if self.alpha == 2:
            return ops.square(distance)
        return ops.power(ops.abs(distance), self.alpha)

    def get_config(self):
        return super().get_config() | {"alpha": self.alpha, "one_sided": self.one_sided}


@keras.saving.register_keras_serializable("seglib")
class ShapeAware(SegmentationLoss):
    r"""Cross-entropy that counts more where the predicted contour runs far from the true one.

    $$L = \frac{\sum_i w_i (1 + E_i) \left[-\log p_{i y_i}\right]}{\sum_i w_i},\qquad
      E_i = \begin{cases} d_i - 1 & \text{if } i \text{ is on the predicted contour}\\
      0 & \text{otherwise}\end{cases}$$

    over the valid pixels, with `w_i` the weight of the pixel's class times its sample weight and
    `d_i` the distance in pixels from pixel *i* to the nearest pixel of another class in the truth.
    A pixel is on the predicted contour if the arg-max of the logits differs from that of the
    valid pixel above, below, to the left or to the right. `E` is thus 0 where the contours
    coincide, and how many pixels they are apart elsewhere; it is 0 in a picture of one class, and
    counts as a constant.

    Args:
        class_weights, ignore_label, name: as in `CrossEntropy`.

    Shape: as `CrossEntropy`; the truth may be packed with distances.
    Raises: as `CrossEntropy`.

    When to use: against ragged outlines and false islands, in place of cross-entropy. What breaks:
    it looks from the prediction to the truth only, so an object that is missed altogether has no
    predicted contour and costs no more than plain cross-entropy.

    Reference:
        Jadon, A survey of loss functions for semantic segmentation, CIBCB 2020, arXiv:2006.14822:
        the average distance from points around the predicted contour to the true one, as a
        coefficient of the cross-entropy. The survey leaves open which pixels get which coefficient;
        the formula above is our reading. It cites Hayder et al., CVPR 2017, for this loss, which we
        did not find there.
    """

    default_name = "shape_aware"

    def compute(self, y_true, y_pred, sample_weight=None):
        labels, logits, weights = self.prepare(y_true, y_pred, sample_weight)
        apart = -of_own_class(true_distances(y_true, logits, self.ignore_label), labels) - 1.0
        contour = edges(predicted_labels(y_true, logits, self.ignore_label))
        factor = ops.where(contour, 1.0 + ops.maximum(apart, 0.0), 1.0)
        return weighted_mean(factor * sparse_cross_entropy(labels, logits), weights)


def true_distances(y_true, logits, ignore_label):
    """Returns the signed distances of the truth, `[B, H, W, C]`: the packed ones, if there are."""
    labels, distances = unpack(y_true, logits.shape[-1])
    if distances is None:
        return signed_distance(labels, logits.shape[-1], ignore_label)
    return ops.cast(distances, "float32")


def predicted_labels(y_true, logits, ignore_label):
    """Returns the predicted classes, int32 `[B, H, W]`, and -1 at ignored pixels."""
    truth, _ = unpack(y_true, logits.shape[-1])
    valid = counts(ops.cast(truth, "int32"), ignore_label)
    return largest(ops.stop_gradient(logits), valid)


def weighted_probabilities(weight, logits):
    return weight * ops.softmax(logits)


def weighted_errors(weight, labels, logits, num_classes):
    own = ops.equal(labels[..., None], ops.arange(num_classes, dtype="int32"))
    return weight * ops.square(ops.softmax(logits) - ops.cast(own, "float32"))


def largest(logits, valid):
    """Returns the index of the largest logit, and -1 where a pixel is not valid."""
    return ops.where(valid, ops.cast(ops.argmax(logits, axis=-1), "int32"), -1)
