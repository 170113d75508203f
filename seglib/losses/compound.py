"""Losses made of cross-entropy and Dice."""

import math

import keras
from keras import ops

from seglib.losses.base import PixelLoss, SegmentationLoss
from seglib.losses.distribution import CrossEntropy
from seglib.losses.region import Dice, safe_power


@keras.saving.register_keras_serializable("seglib")
class Combo(SegmentationLoss):
    r"""Combo loss: cross-entropy and Dice in one.

    $$L = \alpha\, L_\text{CrossEntropy} + (1 - \alpha)\, L_\text{Dice}$$

    The paper subtracts the Dice score; adding the Dice *loss* makes a perfect prediction cost 0.
    Its `β`, the price of missing the object of a binary task, is the class weights `(1 - β, β)`.

    Args:
        class_weights: one weight per class in the cross-entropy, or `None` for equal weights. The
            Dice term is not weighted, as in the paper.
        alpha: the share `α` of the cross-entropy, from 0 to 1.
        smooth, classes: as in `Dice`.
        ignore_label, name: as in `SegmentationLoss`.

    Shape: as `CrossEntropy`. Raises: as `CrossEntropy`.

    When to use: the safe choice for unbalanced classes; cross-entropy teaches from the first step,
    Dice looks after the small regions. What breaks: hardly anything, but the two terms have
    different scales: cross-entropy has no upper bound, Dice ends at 1.

    Reference:
        Taghanaki et al., Combo loss: Handling input and output imbalance in multi-organ
        segmentation, Computerized Medical Imaging and Graphics 75, 2019, arXiv:1805.02798. The
        paper takes the binary cross-entropy of each class, here it is that of the softmax; and the
        Dice scores of the classes are averaged here.
    """

    default_name = "combo"

    def __init__(self, class_weights=None, *, alpha=0.5, smooth=0.0, classes="present", **kwargs):
        super().__init__(class_weights, **kwargs)
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha is {alpha}, expected a number from 0 to 1.")
        self.alpha = alpha
        self.cross_entropy = CrossEntropy(class_weights, ignore_label=self.ignore_label)
        self.dice = Dice(smooth=smooth, classes=classes, ignore_label=self.ignore_label)

    def compute(self, y_true, y_pred, sample_weight=None):
        cross_entropy = self.cross_entropy.compute(y_true, y_pred, sample_weight)
        dice = self.dice.compute(y_true, y_pred, sample_weight)
        return self.alpha * cross_entropy + (1 - self.alpha) * dice

    def get_config(self):
        return super().get_config() | {
            "alpha": self.alpha,
            "smooth": self.dice.smooth,
            "classes": self.dice.classes,
        }


@keras.saving.register_keras_serializable("seglib")
class ExpLog(SegmentationLoss):
    r"""Exponential logarithmic loss: powers of the logarithms of Dice and cross-entropy.

    $$L = w_\text{dice}\, \operatorname{mean}_c \left(-\ln D_c\right)^{\gamma}
      + w_\text{cross}\, \frac{\sum_i w_i \left(-\ln p_{i y_i}\right)^{\gamma}}{\sum_i w_i},\qquad
      D_c = \frac{2\,TP_c + \sigma}{\sum_i s_i\, p_{ic} + \sum_i s_i\, [y_i = c] + \sigma}$$

    The mean over classes runs over those present in each picture, then over the pictures. With
    `γ` below 1 both powers have an infinite slope at a perfect prediction; below a logarithm of
    `10^{-6}` they go on as straight lines to 0, so that the gradient stays finite.

    Args:
        class_weights: one weight per class in the cross-entropy, or `None` for equal weights. The
            paper's are `(Σ f / f_c) ** 0.5`, with `f_c` the number of pixels of class *c* in the
            training set.
        dice_weight: the factor `w_dice`.
        cross_weight: the factor `w_cross`.
        gamma: the exponent `γ` of both terms, above 0.
        smooth: the number `σ`, above 0: it keeps the logarithm finite.
        classes, ignore_label, name: as in `Combo`.

    Shape: as `Combo`. Raises: as `Combo`.

    When to use: when the sizes of the objects differ a hundredfold. What breaks: with `γ = 0.3`
    the pull at a logit hardly fades as its pixel becomes right, so training does not settle
    without a falling learning rate, and it is weak where the network is wrong.

    Reference:
        Wong et al., 3D Segmentation with Exponential Logarithmic Loss for Highly Unbalanced
        Object Sizes, MICCAI 2018, arXiv:1809.00076, section 2: the two factors 0.8 and 0.2,
        `γ` = 0.3 and `σ` = 1 are the paper's. It divides by the number of pixels; here it is the
        sum of the weights.
    """

    default_name = "exp_log"

    def __init__(
        self,
        class_weights=None,
        *,
        dice_weight=0.8,
        cross_weight=0.2,
        gamma=0.3,
        smooth=1.0,
        classes="present",
        **kwargs,
    ):
        super().__init__(class_weights, **kwargs)
        if not gamma > 0:
            raise ValueError(f"gamma is {gamma}, expected a number above 0.")
        if not smooth > 0:
            raise ValueError(f"smooth is {smooth}, expected a number above 0.")
        if not (dice_weight >= 0 and cross_weight >= 0):
            raise ValueError(
                f"dice_weight is {dice_weight} and cross_weight {cross_weight}, expected numbers "
                "of at least 0."
            )
        self.dice_weight = dice_weight
        self.cross_weight = cross_weight
        self.gamma = gamma
        options = {"ignore_label": self.ignore_label}
        self.cross = PowerCrossEntropy(gamma, class_weights, **options)
        self.dice = PowerLogDice(gamma, smooth=smooth, classes=classes, **options)

    def compute(self, y_true, y_pred, sample_weight=None):
        dice = self.dice.compute(y_true, y_pred, sample_weight)
        cross = self.cross.compute(y_true, y_pred, sample_weight)
        return self.dice_weight * dice + self.cross_weight * cross

    def get_config(self):
        return super().get_config() | {
            "dice_weight": self.dice_weight,
            "cross_weight": self.cross_weight,
            "gamma": self.gamma,
            "smooth": self.dice.smooth,
            "classes": self.dice.classes,
        }


class PowerCrossEntropy(PixelLoss):
    """The pixels' part of `ExpLog`: cross-entropy to the power `gamma`."""

    def __init__(self, gamma, class_weights, **kwargs):
        super().__init__(class_weights, **kwargs)
        self.gamma = gamma

    def pixel_losses(self, labels, logits):
        return safe_power(small_cross_entropy(labels, logits, logits.shape[-1]), self.gamma)


def small_cross_entropy(labels, logits, num_classes):
    """Returns `sparse_cross_entropy` with all its digits where it is nearly 0.

    The logarithm of a softmax is a difference of two logits, so it is off by 1e-7 or more, and the
    power 0.3 makes 2e-3 of that. Here it is `log(1 + x)`, with `x` the other classes' exponentials
    over the own class's.
    """
    own = ops.equal(labels[..., None], ops.arange(num_classes, dtype="int32"))
    others = ops.logsumexp(ops.where(own, -math.inf, logits), axis=-1)
    return ops.softplus(others - ops.sum(ops.where(own, logits, 0.0), axis=-1))


class PowerLogDice(Dice):
    """The regions' part of `ExpLog`: minus the logarithm of Dice to the power `gamma`."""

    def __init__(self, gamma, **kwargs):
        super().__init__(**kwargs)
        self.gamma = gamma

    def from_counts(self, tp, fp, fn):
        # minus the logarithm of D, with all its digits both where D is near 0 and near 1
        log_dice = ops.log1p((fp + fn) / (2 * tp + self.smooth))
        return safe_power(log_dice, self.gamma)
