"""Losses that compare distributions pixel by pixel."""

import keras
from keras import ops

from seglib.core.checks import counts
from seglib.core.distance import boundary_distance, unpack
from seglib.losses.base import PixelLoss, class_sums, of_own_class, soft_overlap, weighted_mean


@keras.saving.register_keras_serializable("seglib")
class CrossEntropy(PixelLoss):
    r"""Cross-entropy: minus the log-probability of the true class.

    $$L = \frac{\sum_i w_i \left[-\sum_c q_{ic} \log p_{ic}\right]}{\sum_i w_i},\qquad
      q_{ic} = (1 - \varepsilon)\,[c = y_i] + \varepsilon / C$$

    over all pixels *i* whose label is not the ignore label, with `p` the softmax of the logits
    and `w_i` the weight of the pixel's class times its sample weight. Since the weights also
    stand in the denominator, their scale does not matter: `(1, 1, 2)` and `(10, 10, 20)` are the
    same loss.

    Args:
        class_weights: one weight per class, or `None` for equal weights.
        label_smoothing: the share `ε` of the truth that is spread over all classes, from 0 up to
            but not including 1.
        positive_weight: for two classes, the weight `β` of class 1, short for the class weights
            `(1, β)`. The sum over pixels is then that of the weighted binary cross-entropy
            `-β y log p - (1 - y) log(1 - p)`; it is divided by the sum of the weights, not by the
            number of pixels.
        **kwargs: `ignore_label` and `name`, as in `SegmentationLoss`.

    Shape:
        Label map `[B, H, W]` and logits `[B, H, W, C]` to a scalar. `sample_weight` may be `[B]` or
        `[B, H, W]`.

    Raises:
        ValueError: if shapes do not belong together or the weights are not one per class. Labels
            that are neither one of `0 … C-1` nor the ignore label, such as the fractions of a mask
            resized bilinearly, make the loss NaN, which shows even inside a graph.

    When to use: always first. What breaks: a rare class is easily sacrificed, and the loss looks at
    pixels one by one, not at shapes.

    Reference:
        Label smoothing: Szegedy et al., Rethinking the Inception Architecture, CVPR 2016,
        section 7.
    """

    default_name = "cross_entropy"

    def __init__(self, class_weights=None, *, label_smoothing=0.0, positive_weight=None, **kwargs):
        if positive_weight is not None:
            if class_weights is not None:
                raise ValueError(
                    "Both class_weights and positive_weight are given, expected one of them: "
                    "positive_weight=b means class_weights=(1, b)."
                )
            if not positive_weight > 0:
                raise ValueError(f"positive_weight is {positive_weight}, expected more than 0.")
            class_weights = (1.0, positive_weight)
        super().__init__(class_weights, **kwargs)
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing is {label_smoothing}, expected a number in [0, 1).")
        self.label_smoothing = label_smoothing

    def pixel_losses(self, labels, logits):
        values = sparse_cross_entropy(labels, logits)  # (B, H, W)
        if self.label_smoothing:
            # cross-entropy with the uniform distribution: log-sum-exp minus the mean logit
            uniform = ops.logsumexp(logits, axis=-1) - ops.mean(logits, axis=-1)
            values = (1 - self.label_smoothing) * values + self.label_smoothing * uniform
        return values

    def get_config(self):
        # positive_weight has become class weights
        return super().get_config() | {"label_smoothing": self.label_smoothing}


@keras.saving.register_keras_serializable("seglib")
class BalancedCrossEntropy(PixelLoss):
    r"""Cross-entropy in which every class of the batch has the same say.

    $$L = \frac{\sum_i w_i \left[-\log p_{i y_i}\right]}{\sum_i w_i},\qquad
      w_i = \frac{s_i\, a_{y_i}}{\sum_{j:\, y_j = y_i} s_j}$$

    over the valid pixels of the whole batch, with sample weights `s` (1 if not given) and class
    weights `a`. Equal class weights make it the plain mean, over the classes that occur in the
    batch, of each class's mean cross-entropy; classes that do not occur have no part in it.

    Args:
        class_weights: one weight per class in that mean, or `None` for equal weights.
        **kwargs: `ignore_label` and `name`, as in `CrossEntropy`.

    Shape: as `CrossEntropy`. Raises: as `CrossEntropy`.

    When to use: for rare classes whose frequency is not known beforehand. What breaks: one pixel
    of a class that is rare in the batch weighs as much as all the background, so that the loss
    jumps from batch to batch and rare classes are predicted too often.

    Reference:
        Xie & Tu, Holistically-Nested Edge Detection, ICCV 2015, eq. 2, has the two weights of a
        binary task in the same ratio (the number of pixels of the other class).
    """

    default_name = "balanced_cross_entropy"

    def compute(self, y_true, y_pred, sample_weight=None):
        labels, logits, weights = self.prepare(y_true, y_pred, sample_weight, class_weighted=False)
        count = ops.sum(class_sums(weights, labels, logits.shape[-1]), axis=0)  # (C,)
        share = ops.divide_no_nan(1.0, count)
        if self.class_weights is not None:
            share = share * ops.array(self.class_weights, "float32")
        weights = weights * ops.take(share, labels, axis=0)
        return weighted_mean(sparse_cross_entropy(labels, logits), weights)


@keras.saving.register_keras_serializable("seglib")
class Focal(PixelLoss):
    r"""Focal loss: cross-entropy that fades where the prediction is already right.

    $$L = \frac{\sum_i w_i\,\alpha_{y_i} (1 - p_{i y_i})^\gamma \left[-\log p_{i y_i}\right]}
      {\sum_i w_i}$$

    over the valid pixels. `α` stands in the numerator only, as in the paper; the class weights `w`
    stand in both and so leave the loss's scale alone. `gamma=0` without `alpha` is `CrossEntropy`.

    Args:
        class_weights, ignore_label, name: as in `CrossEntropy`.
        gamma: the exponent `γ`, at least 0; 2 in the paper's best runs.
        alpha: one factor `α` a class, or `None` for 1. The paper's one number `α` for class 1 of
            two is `(1 - α, α)`.

    Shape: as `CrossEntropy`. Raises: as `CrossEntropy`.

    When to use: when easy pixels outnumber the hard ones a hundredfold. What breaks: wrong labels
    are the hardest pixels of all, and the probabilities come out too timid.

    Reference:
        Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, eq. 4 without `α` and 5 with
        it. The paper divides by the number of anchors assigned to an object; here it is the sum of
        the weights.
    """

    default_name = "focal"

    def __init__(self, class_weights=None, *, gamma=2.0, alpha=None, **kwargs):
        super().__init__(class_weights, **kwargs)
        if not gamma >= 0:
            raise ValueError(f"gamma is {gamma}, expected a number of at least 0.")
        if alpha is not None:
            alpha = [float(a) for a in alpha]
            if any(not a >= 0 for a in alpha):
                raise ValueError(f"alpha is {alpha}, expected numbers of at least 0.")
        self.gamma = gamma
        self.alpha = alpha

    def pixel_losses(self, labels, logits):
        values = sparse_cross_entropy(labels, logits)  # (B, H, W)
        if self.gamma:
            # 1 - p without cancellation. For γ < 1 the power has no slope at 0, where p is 1 and
            # the value 0 whatever the power: hence the smallest number in its place.
            wrong = ops.maximum(-ops.expm1(-values), 1e-30)
            values = values * ops.power(wrong, self.gamma)
        if self.alpha is not None:
            if len(self.alpha) != logits.shape[-1]:
                raise ValueError(
                    f"There are {len(self.alpha)} numbers in alpha for {logits.shape[-1]} classes. "
                    "Pass one value per class."
                )
            values = values * ops.take(ops.array(self.alpha, "float32"), labels, axis=0)
        return values

    def get_config(self):
        return super().get_config() | {"gamma": self.gamma, "alpha": self.alpha}


@keras.saving.register_keras_serializable("seglib")
class TopK(PixelLoss):
    r"""Cross-entropy of the hardest pixels only.

    $$L = \frac{\sum_{i \in K} w_i \left[-\log p_{i y_i}\right]}{\sum_{i \in K} w_i}$$

    with *K* the `k · n` pixels, rounded to a whole number but at least one, that have the largest
    cross-entropy among the *n* valid pixels of the batch. Pixels that tie at the edge of *K* share
    the places that are left. Weights say how much a pixel of *K* counts, not which pixels are hard;
    pixels of weight 0 are not among the *n*.

    Args:
        class_weights, ignore_label, name: as in `CrossEntropy`.
        k: the share of the valid pixels, above 0 and up to 1 (which makes it `CrossEntropy`).

    Shape: as `CrossEntropy`. Raises: as `CrossEntropy`.

    When to use: late in training, when most pixels are solved. What breaks: from random weights
    with a small `k`, all pixels of the hardest class are learned first, at the cost of the others;
    wrong labels always stay in *K*.

    Reference:
        Wu, Shen & van den Hengel, Bridging Category-level and Instance-level Semantic Image
        Segmentation, arXiv:1605.06885 (online bootstrapping, by a threshold); a fixed number of
        pixels is in Pohlen et al., Full-Resolution Residual Networks, CVPR 2017.
    """

    default_name = "top_k"

    def __init__(self, class_weights=None, *, k=0.1, **kwargs):
        super().__init__(class_weights, **kwargs)
        if not 0 < k <= 1:
            raise ValueError(f"k is {k}, expected a share of the pixels in (0, 1].")
        self.k = k

    def compute(self, y_true, y_pred, sample_weight=None):
        labels, logits, weights = self.prepare(y_true, y_pred, sample_weight)
        values = sparse_cross_entropy(labels, logits)
        chosen = hardest(ops.stop_gradient(values), ops.not_equal(weights, 0.0), self.k)
        # NaN where the label is no class, whether it is among the hardest or not
        return weighted_mean(values, weights * chosen) + 0.0 * ops.sum(weights)

    def get_config(self):
        return super().get_config() | {"k": self.k}


@keras.saving.register_keras_serializable("seglib")
class IoUBalanced(PixelLoss):
    r"""Cross-entropy in which well-segmented classes count more.

    $$L = \frac{\sum_i w_i\, m_i \left[-\log p_{i y_i}\right]}{\sum_i w_i},\qquad
      m_i = J_i^{\,\eta}\;
      \frac{\sum_j w_j \ell_j}{\sum_j w_j J_j^{\,\eta} \ell_j},\qquad
      \ell_i = -\log p_{i y_i}$$

    over the valid pixels. `J_i` is the soft IoU (`Jaccard`) of the pixel's own class in its own
    picture, at least 0.01.

    The paper weights the positive anchors of an object detector by the IoU of their boxes. Taken
    over are the weight `IoU^η`, the factor that keeps the sum of the loss, and, as in the authors'
    code, that no gradient flows through `m`: the *value* is that of `CrossEntropy`, and only the
    gradient is distributed in another way. Ours are the region of a class in a picture in place of
    an anchor, all classes in place of the positives, and the floor of 0.01, without which a class
    that is missed altogether would never be learned.

    Args:
        class_weights, ignore_label, name: as in `CrossEntropy`.
        eta: the exponent `η`, at least 0; 0 is `CrossEntropy`.

    Shape: as `CrossEntropy`. Raises: as `CrossEntropy`.

    When to use: to polish classes that are nearly right. What breaks: classes that are badly
    segmented are given up; it is the opposite of a loss for rare classes.

    Reference:
        Wu et al., IoU-balanced Loss Functions for Single-stage Object Detection,
        arXiv:1908.05641 (the classification loss); `η` = 1.5 is the default of the authors' code.
    """

    default_name = "iou_balanced"

    def __init__(self, class_weights=None, *, eta=1.5, **kwargs):
        super().__init__(class_weights, **kwargs)
        if not eta >= 0:
            raise ValueError(f"eta is {eta}, expected a number of at least 0.")
        self.eta = eta

    def compute(self, y_true, y_pred, sample_weight=None):
        labels, logits, weights = self.prepare(y_true, y_pred, sample_weight)
        values = sparse_cross_entropy(labels, logits)
        # Which pixels exist, without class weights: a weight is no part of a region's IoU.
        exists = ops.cast(ops.not_equal(weights, 0.0), "float32")
        truth = class_sums(exists, labels, logits.shape[-1])  # (B, C)
        tp, fp, _ = soft_overlap(labels, ops.stop_gradient(logits), exists)
        iou = ops.maximum(ops.divide_no_nan(tp, truth + fp), 0.01)
        factor = ops.power(pixels_of(iou, labels), self.eta)  # (B, H, W)
        fixed = ops.stop_gradient(weights * values)
        scale = ops.divide_no_nan(ops.sum(fixed), ops.sum(factor * fixed))
        return weighted_mean(scale * factor * values, weights)

    def get_config(self):
        return super().get_config() | {"eta": self.eta}


@keras.saving.register_keras_serializable("seglib")
class DistancePenalized(PixelLoss):
    r"""Cross-entropy that counts more near the boundaries of the truth.

    $$L = \frac{\sum_i w_i (1 + \phi_i) \left[-\log p_{i y_i}\right]}{\sum_i w_i (1 + \phi_i)},
      \qquad \phi_i = \max_j d_j - d_i$$

    over the valid pixels, with `d_i` the distance in pixels from pixel *i* to the nearest pixel of
    another class (`seglib.core.distance.boundary_distance`) and the largest distance taken over the
    valid pixels of the same picture. As in the paper, the weight is largest at the boundary and
    falls by 1 with each pixel, to 1 at the farthest. In a picture of one class `φ` is 0.

    Args:
        class_weights, ignore_label, name: as in `CrossEntropy`.

    Shape: as `CrossEntropy`. Raises: as `CrossEntropy`.

    When to use: when edges matter and the annotation is exact to the pixel. What breaks: the
    boundary is where annotators disagree, so wrong labels weigh most; a picture with one large
    region outweighs pictures full of small ones.

    Reference:
        Caliva et al., Distance Map Loss Penalty Term for Semantic Segmentation, MIDL 2019,
        arXiv:1908.03679. The paper divides by the number of pixels; the sum of the weights keeps
        the loss at the scale of cross-entropy. Here one largest distance serves all classes of a
        picture. Widely copied code takes one for each side of a binary mask and divides by it, so
        that `φ` ends at 1.
    """

    default_name = "distance_penalized"

    def compute(self, y_true, y_pred, sample_weight=None):
        labels, logits, weights = self.prepare(y_true, y_pred, sample_weight)
        weights = weights * self.penalty(y_true, labels, logits.shape[-1])
        return weighted_mean(sparse_cross_entropy(labels, logits), weights)

    def penalty(self, y_true, labels, num_classes):
        """Returns `1 + φ`, `[B, H, W]`; distances that were packed with the labels are taken."""
        truth, distances = unpack(y_true, num_classes)
        truth = ops.cast(truth, "int32")
        if distances is None:
            depth = boundary_distance(truth, self.ignore_label, num_classes)
        else:
            depth = -of_own_class(ops.cast(distances, "float32"), labels)
        depth = ops.where(counts(truth, self.ignore_label), depth, 0.0)
        return 1.0 + ops.max(depth, axis=(1, 2), keepdims=True) - depth


def sparse_cross_entropy(labels, logits):
    """Returns minus the log-softmax of each pixel's label, `[B, H, W]`."""
    return ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)


def pixels_of(table, labels):
    """Returns the entry of each pixel's picture and class: `[B, C]` to `[B, H, W]`."""
    batch, num_classes = ops.shape(table)
    picture = ops.reshape(ops.arange(batch, dtype="int32"), [batch, 1, 1])
    return ops.take(ops.reshape(table, [-1]), picture * num_classes + labels, axis=0)


# Two losses that differ by less than one part in this many, or by 1e-10, are taken for a tie.
# float32 tells numbers apart to one part in 2**23 at best.
TIE = 2.0**22


def hardest(values, valid, share):
    """Returns how much of each pixel is among the hardest share of the valid pixels.

    A bisection for the threshold, because sorting takes ten times as long as the cross-entropy.

    Args:
        values: losses of at least 0, `[B, H, W]`.
        valid: bool `[B, H, W]`.
        share: from 0 to 1.

    Returns:
        float32 `[B, H, W]`: 1 above the threshold, below it 0, at it what makes the sum exact.
    """
    values = ops.where(valid, values, -1.0)
    number = ops.cast(ops.sum(ops.cast(valid, "int32")), "float32")
    wanted = ops.maximum(ops.round(share * number), 1.0)

    def above(threshold):
        return ops.cast(ops.sum(ops.cast(values > threshold, "int32")), "float32")

    def apart(low, high):
        return high - low > ops.maximum(high / TIE, 1e-10)

    def halve(low, high):
        middle = 0.5 * (low + high)
        enough = above(middle) >= wanted
        return ops.where(enough, middle, low), ops.where(enough, high, middle)

    # At least `wanted` values lie above `low` (below all valid ones at first), fewer above `high`.
    low, high = ops.while_loop(apart, halve, (ops.full((), -1e-30), ops.max(values)))
    certain = values > high
    tied = ops.cast((values > low) & ~certain, "float32")
    left = wanted - ops.sum(ops.cast(certain, "float32"))
    return ops.cast(certain, "float32") + tied * ops.divide_no_nan(left, ops.sum(tied))
