r"""Losses that compare regions: soft counts of right and wrong pixels, for each picture and class.

All of them start from the same sums over the valid pixels *i* of one picture, with `p` the softmax
of the logits, `y` the labels and `s` the sample weights (1 if not given):

$$TP_c = \sum_{i: y_i = c} s_i\, p_{ic},\qquad
  FP_c = \sum_{i: y_i \neq c} s_i\, p_{ic},\qquad
  FN_c = \sum_{i: y_i = c} s_i\, (1 - p_{ic})$$

The loss is the mean over the classes that stand in the picture, then over the pictures.
"""

import keras
from keras import ops

from seglib.losses.base import (
    RegionLoss,
    class_sums,
    pixel_sums,
    soft_overlap,
    split_probabilities,
)


class OverlapLoss(RegionLoss):
    """A region loss that follows from true positives, false positives and false negatives.

    A subclass gives `from_counts`.

    Args:
        class_weights: one weight per class in the mean over classes, or `None` for equal weights.
        smooth: a number of pixels added to each region's denominator (and to the overlap).
        **kwargs: `classes`, `ignore_label` and `name`, as in `RegionLoss`.
    """

    def __init__(self, class_weights=None, *, smooth=0.0, **kwargs):
        super().__init__(class_weights, **kwargs)
        if not smooth >= 0:
            raise ValueError(f"smooth is {smooth}, expected a number of at least 0.")
        self.smooth = smooth

    def class_losses(self, labels, logits, weights, truth):
        return self.from_counts(*soft_overlap(labels, logits, weights))

    def from_counts(self, tp, fp, fn):
        """Returns the losses from soft TP, FP and FN, each `[B, C]`."""
        raise NotImplementedError

    def get_config(self):
        return super().get_config() | {"smooth": self.smooth}


@keras.saving.register_keras_serializable("seglib")
class Dice(OverlapLoss):
    r"""Dice loss: one minus the soft Dice score of each region.

    $$L_c = 1 - \frac{2\,TP_c + \sigma}
      {\sum_i s_i\, p_{ic}^{\,k} + \sum_i s_i\, [y_i = c] + \sigma}$$

    with `k = 1`, or `k = 2` for the squared denominator.

    Args:
        class_weights: one weight per class in the mean over classes, or `None` for equal weights.
        smooth: the number `σ`. The default 0 is exact and enough for classes that are present.
        squared: whether the probabilities in the denominator are squared.
        classes: `"present"` to average over the classes that stand in the picture's truth, `"all"`
            to average over all. With `"all"`, give a `smooth` of 1 or more: without it a class that
            is absent costs 1 wherever it has any probability, and has no gradient.
        **kwargs: `ignore_label` and `name`, as in `SegmentationLoss`.

    Shape:
        Label map `[B, H, W]` and logits `[B, H, W, C]` to a scalar from 0 to 1. `sample_weight`
        `[B]` weights the pictures, `[B, H, W]` the pixels inside the sums.

    Raises:
        ValueError: if shapes do not belong together or the weights are not one per class. Labels
            that are neither one of `0 … C-1` nor the ignore label make the loss NaN.

    When to use: for small objects, together with a cross-entropy, and where the Dice score is what
    counts. What breaks: with `classes="present"`, a class that is predicted where it does not occur
    costs only what it takes from the others; probabilities are pushed to 0 and 1; the gradient of
    small regions is noisy.

    Reference:
        Milletari et al., V-Net, 3DV 2016, section 3 (the score of one object with the squared
        denominator); Sudre et al., Generalised Dice Overlap as a Deep Learning Loss Function, DLMIA
        2017 (the plain denominator; its generalized Dice, one fraction of sums weighted over the
        classes, is another loss).
    """

    default_name = "dice"

    def __init__(self, class_weights=None, *, squared=False, **kwargs):
        super().__init__(class_weights, **kwargs)
        self.squared = squared

    def class_losses(self, labels, logits, weights, truth):
        if not self.squared:
            return super().class_losses(labels, logits, weights, truth)
        own, inside, outside = squared_errors(labels, logits, weights)
        squares = outside + class_sums(weights * ops.square(own), labels, logits.shape[-1])
        # One minus the score: the sum of (p - y)^2 over the denominator
        return ops.divide_no_nan(outside + inside, squares + truth + self.smooth)

    def from_counts(self, tp, fp, fn):
        wrong = fp + fn
        return ops.divide_no_nan(wrong, 2 * tp + wrong + self.smooth)

    def get_config(self):
        return super().get_config() | {"squared": self.squared}


@keras.saving.register_keras_serializable("seglib")
class Jaccard(OverlapLoss):
    r"""Jaccard loss: one minus the soft intersection over union of each region.

    $$L_c = 1 - \frac{TP_c + \sigma}{TP_c + FP_c + FN_c + \sigma}$$

    Dice and Jaccard scores of one region rank predictions alike: `J = D / (2 - D)`.

    Args:
        class_weights, smooth, classes, ignore_label, name: as in `Dice`.

    Shape: as `Dice`. Raises: as `Dice`.

    When to use: as `Dice`, where the score is the IoU. What breaks: as `Dice`; its gradient is
    smaller where the overlap is poor and larger near the end.

    Reference:
        Rahman & Wang, Optimizing Intersection-Over-Union in Deep Neural Networks for Image
        Segmentation, ISVC 2016 (for one object against its background).
    """

    default_name = "jaccard"

    def from_counts(self, tp, fp, fn):
        wrong = fp + fn
        return ops.divide_no_nan(wrong, tp + wrong + self.smooth)


@keras.saving.register_keras_serializable("seglib")
class Tversky(OverlapLoss):
    r"""Tversky loss: Dice with separate prices for false positives and false negatives.

    $$L_c = 1 - \frac{TP_c + \sigma}{TP_c + \alpha\, FP_c + \beta\, FN_c + \sigma}$$

    `alpha=beta=0.5` is the Dice loss, `alpha=beta=1` the Jaccard loss (of the same `smooth` for
    Jaccard, twice the `smooth` for Dice).

    Args:
        class_weights, smooth, classes, ignore_label, name: as in `Dice`.
        alpha: the price `α` of a false positive.
        beta: the price `β` of a false negative.

    Shape: as `Dice`. Raises: as `Dice`.

    When to use: when missing a small object is worse than drawing it too large (`beta` above
    `alpha`). What breaks: with softmax every false negative of one class is another's false
    positive, so for the mean over all classes the prices partly cancel; `class_weights` can single
    one class out.

    Reference:
        Salehi et al., Tversky Loss Function for Image Segmentation Using 3D Fully Convolutional
        Deep Networks, MLMI 2017, arXiv:1706.05721, eq. 3 (the index; the loss is 1 minus it). Its
        best setting, 0.3 and 0.7, is the default. Other papers swap the two letters.
    """

    default_name = "tversky"

    def __init__(self, class_weights=None, *, alpha=0.3, beta=0.7, **kwargs):
        super().__init__(class_weights, **kwargs)
        if not (alpha >= 0 and beta >= 0 and alpha + beta > 0):
            raise ValueError(
                f"alpha is {alpha} and beta {beta}, expected numbers of at least 0, not both 0."
            )
        self.alpha = alpha
        self.beta = beta

    def from_counts(self, tp, fp, fn):
        wrong = self.alpha * fp + self.beta * fn
        return ops.divide_no_nan(wrong, tp + wrong + self.smooth)

    def get_config(self):
        return super().get_config() | {"alpha": self.alpha, "beta": self.beta}


@keras.saving.register_keras_serializable("seglib")
class FocalTversky(Tversky):
    r"""Focal Tversky loss: the Tversky loss of each region to the power `1/γ`.

    $$L_c = \left(1 - T_c\right)^{1/\gamma}$$

    The exponent is `1/γ`, as in the paper; some summaries print `γ`, and the authors' code calls
    the exponent itself, 0.75, gamma. Below `1 - T = 10^{-6}` the power goes on as a straight line
    to 0, because its slope would be infinite there.

    Args:
        class_weights, smooth, classes, ignore_label, name: as in `Dice`.
        alpha: the price of a false positive.
        beta: the price of a false negative.
        gamma: the number `γ`, above 0; 1 is `Tversky`.

    Shape: as `Dice`. Raises: as `Dice`.

    When to use: for small regions, as in the paper. With `γ` above 1 the slope is steeper than that
    of `Tversky` for regions that are nearly right (with 4/3, from `1 - T = 0.32` down) and flatter
    for poor ones; `γ` below 1 does the opposite. What breaks: with `γ` above 1, the slope grows as
    a region becomes right, so training does not settle.

    Reference:
        Abraham & Khan, A Novel Focal Tversky Loss Function With Improved Attention U-Net for
        Lesion Segmentation, ISBI 2019, arXiv:1810.07842, eq. 4, where `γ` is 4/3, the letters `α`
        and `β` are swapped (`α` = 0.7 is the price of a false negative), and the classes are added
        up; here it is their mean.
    """

    default_name = "focal_tversky"

    def __init__(self, class_weights=None, *, gamma=4 / 3, **kwargs):
        super().__init__(class_weights, **kwargs)
        if not gamma > 0:
            raise ValueError(f"gamma is {gamma}, expected a number above 0.")
        self.gamma = gamma

    def from_counts(self, tp, fp, fn):
        return safe_power(super().from_counts(tp, fp, fn), 1 / self.gamma)

    def get_config(self):
        return super().get_config() | {"gamma": self.gamma}


@keras.saving.register_keras_serializable("seglib")
class LogCoshDice(Dice):
    r"""Log-cosh Dice loss: the Dice loss of each region, rounded off near 0.

    $$L_c = \log \cosh\left(1 - D_c\right)$$

    It is about half the square of the Dice loss, and its slope goes to 0 with it.

    Args:
        class_weights, squared, smooth, classes, ignore_label, name: as in `Dice`.

    Shape: as `Dice`, to a scalar from 0 to log cosh 1 = 0.434.
    Raises: as `Dice`.

    When to use: when training with `Dice` does not settle. What breaks: regions that are
    nearly right hardly improve any more.

    Reference:
        Jadon, A survey of loss functions for semantic segmentation, CIBCB 2020,
        arXiv:2006.14822, which introduces it. Applied here to each region, before the mean.
    """

    default_name = "log_cosh_dice"

    def class_losses(self, labels, logits, weights, truth):
        dice = super().class_losses(labels, logits, weights, truth)
        # log cosh x = log(1 + 2 sinh(x/2)^2), which keeps its digits for a small x
        return ops.log1p(2.0 * ops.square(ops.sinh(0.5 * dice)))


@keras.saving.register_keras_serializable("seglib")
class SensitivitySpecificity(RegionLoss):
    r"""Squared error inside and outside each region, each divided by its own size.

    $$L_c = w\, \frac{\sum_{i: y_i = c} s_i\, (1 - p_{ic})^2}{\sum_{i: y_i = c} s_i}
      + (1 - w)\, \frac{\sum_{i: y_i \neq c} s_i\, p_{ic}^{\,2}}{\sum_{i: y_i \neq c} s_i}$$

    A side without pixels adds 0.

    Args:
        class_weights, classes, ignore_label, name: as in `Dice`.
        w: the share `w` of the inside (the sensitivity), from 0 to 1.

    Shape: as `Dice`, to a scalar from 0 to 1.
    Raises: as `Dice`.

    When to use: for a class that fills a thousandth of the picture; a `w` well below one half keeps
    it from being drawn too large. What breaks: the squared error of a probability has nearly no
    gradient where the prediction is confidently wrong.

    Reference:
        Brosch et al., Deep Convolutional Encoder Networks for Multiple Sclerosis Lesion
        Segmentation, MICCAI 2015, eq. 9 (for one class; here for each class, then the mean). The
        paper finds results much alike for a `w` from 0.01 to 0.1; the default of one half is ours.
    """

    default_name = "sensitivity_specificity"

    def __init__(self, class_weights=None, *, w=0.5, **kwargs):
        super().__init__(class_weights, **kwargs)
        if not 0 <= w <= 1:
            raise ValueError(f"w is {w}, expected a number from 0 to 1.")
        self.w = w

    def class_losses(self, labels, logits, weights, truth):
        _, inside, outside = squared_errors(labels, logits, weights)
        rest = ops.sum(truth, axis=-1, keepdims=True) - truth
        specificity_error = ops.divide_no_nan(outside, rest)
        return self.w * ops.divide_no_nan(inside, truth) + (1 - self.w) * specificity_error

    def get_config(self):
        return super().get_config() | {"w": self.w}


def squared_errors(labels, logits, weights):
    """Returns the own class's probability `[B, H, W]`, and squared errors inside and outside.

    The errors are summed over the pixels of the class and over all others, `[B, C]` each.
    """
    num_classes = logits.shape[-1]
    own, others, lost = split_probabilities(labels, logits, num_classes)
    inside = class_sums(weights * ops.square(lost), labels, num_classes)
    return own, inside, pixel_sums(weights, ops.square(others))


def safe_power(values, exponent, smallest=1e-6):
    """Returns `values ** exponent` for values of at least 0, with a finite slope everywhere.

    With an `exponent` below 1, it is a straight line from 0 to `smallest`.
    """
    if exponent >= 1:
        return ops.power(values, exponent)
    power = ops.power(ops.maximum(values, smallest), exponent)
    return ops.where(values < smallest, values * smallest ** (exponent - 1), power)
