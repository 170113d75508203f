"""Losses that compare distributions pixel by pixel."""

import keras
from keras import ops

from seglib.losses.base import SegmentationLoss, weighted_mean


@keras.saving.register_keras_serializable("seglib")
class CrossEntropy(SegmentationLoss):
    r"""Cross-entropy: minus the log-probability of the true class.

    $$L = \frac{\sum_i w_i \left[-\sum_c q_{ic} \log p_{ic}\right]}{\sum_i w_i},\qquad
      q_{ic} = (1 - \varepsilon)\,[c = y_i] + \varepsilon / C$$

    over all pixels *i* whose label is not the ignore label, with `p` the softmax of the logits
    and `w_i` the weight of the pixel's class times its sample weight. Since the weights also
    stand in the denominator, their scale does not matter: `(1, 1, 2)` and `(10, 10, 20)` are the
    same loss, and weighting does not change the learning rate by stealth.

    Args:
        class_weights: one weight a class, or `None` for equal weights.
        ignore_label: label of pixels that count nowhere.
        label_smoothing: the share `ε` of the truth that is spread over all classes, from 0 up to
            but not including 1.
        name: name of the loss.

    Shape:
        Label map `[B, H, W]` and logits `[B, H, W, C]` to a scalar. `sample_weight` may be
        `[B]` or `[B, H, W]`.

    Raises:
        ValueError: if shapes do not belong together or the weights are not one a class. Labels
            that are neither one of `0 … C-1` nor the ignore label, such as the fractions of a mask
            resized bilinearly, make the loss NaN: inside a graph that is the one sign that cannot
            be overlooked.

    When to use: always first. What breaks: a rare class is easily sacrificed, and the loss looks at
    pixels one by one, not at shapes.

    Reference:
        Label smoothing: Szegedy et al., Rethinking the Inception Architecture, CVPR 2016,
        section 7.
    """

    def __init__(
        self, class_weights=None, *, ignore_label=255, label_smoothing=0.0, name="cross_entropy"
    ):
        super().__init__(class_weights, ignore_label=ignore_label, name=name)
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing is {label_smoothing}, expected a number in [0, 1).")
        self.label_smoothing = label_smoothing

    def __call__(self, y_true, y_pred, sample_weight=None):
        labels, logits, weights = self.prepare(y_true, y_pred, sample_weight)
        values = sparse_cross_entropy(labels, logits)  # (B, H, W)
        if self.label_smoothing:
            # cross-entropy with the uniform distribution: log-sum-exp minus the mean logit
            uniform = ops.logsumexp(logits, axis=-1) - ops.mean(logits, axis=-1)
            values = (1 - self.label_smoothing) * values + self.label_smoothing * uniform
        return weighted_mean(values, weights)

    def get_config(self):
        return super().get_config() | {"label_smoothing": self.label_smoothing}


def sparse_cross_entropy(labels, logits):
    """Returns minus the log-softmax of each pixel's label, `[B, H, W]`."""
    return keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
