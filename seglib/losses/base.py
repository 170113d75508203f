"""What all segmentation losses share, and their weighted sum."""

import math

import keras
from keras import ops

from seglib.core.checks import check_shapes, counts, expand_weight, rank_of, two_channels
from seglib.core.constants import IGNORE_LABEL
from seglib.core.distance import unpack
from seglib.core.kernels import share_of_replica


class SegmentationLoss(keras.losses.Loss):
    """A loss on a label map and logits that ignores one label.

    Losses can be added and multiplied by numbers: `CrossEntropy() + 0.5 * Dice()` is a loss too.

    Args:
        class_weights: one weight per class, or `None` for equal weights.
        ignore_label: label of pixels that count nowhere.
        name: name of the loss.

    Shape:
        Label map `[B, H, W]` (whole numbers, any dtype) and logits `[B, H, W, C]` to a scalar,
        computed in float32. `C = 1` is a yes-or-no task: the channel is the logit of class 1, and
        there are two classes. The label map may come packed with distances
        (`seglib.core.distance.pack_distances`). `sample_weight` may be `[B]` or `[B, H, W]`.

    Raises:
        ValueError: if shapes do not belong together or the weights are not one per class. Labels
            that are neither one of `0 … C-1` nor the ignore label make the loss NaN.
    """

    default_name = None  # of a subclass

    def __init__(self, class_weights=None, *, ignore_label=IGNORE_LABEL, name=None):
        super().__init__(
            name=name or self.default_name, reduction="mean_with_sample_weight", dtype="float32"
        )
        if class_weights is not None:
            class_weights = [float(w) for w in class_weights]
            # "not >= 0" also catches NaN
            if any(not w >= 0 for w in class_weights) or max(class_weights) == 0:
                raise ValueError(
                    f"class_weights are {class_weights}, expected numbers of at least 0, "
                    "not all of them 0."
                )
        self.class_weights = class_weights
        self.ignore_label = ignore_label

    def __call__(self, y_true, y_pred, sample_weight=None):
        """Returns the loss, a scalar; under `tf.distribute`, this replica's share of it."""
        return share_of_replica(self.compute(y_true, y_pred, sample_weight))

    def compute(self, y_true, y_pred, sample_weight=None):
        """Returns the loss of these pictures alone."""
        raise NotImplementedError

    def prepare(self, y_true, y_pred, sample_weight=None, *, class_weighted=True):
        """Checks both inputs and returns what every loss starts from.

        Returns:
            labels `[B, H, W]` int32 with 0 at ignored pixels, logits float32 `[B, H, W, C]` (two
            channels if there was one; 0 at ignored pixels), and weights float32 `[B, H, W]`: 0 at
            ignored pixels, elsewhere the class weight times the sample weight; NaN where the label
            is neither a class nor the ignore label.
        """
        logits = ops.convert_to_tensor(y_pred)
        y_true, _ = unpack(y_true, num_classes_of(logits))
        check_shapes(y_true, logits)
        logits = two_channels(logits)
        num_classes = logits.shape[-1]
        self.check_class_weights(num_classes)
        labels, logits, weights = valid_pixels(y_true, logits, num_classes, self.ignore_label)
        if class_weighted and self.class_weights is not None:
            weights = weights * ops.take(ops.array(self.class_weights, "float32"), labels, axis=0)
        if sample_weight is not None:
            # A weight of NaN at an ignored pixel does not count either.
            valid = ops.not_equal(weights, 0)
            sample_weight = ops.cast(expand_weight(sample_weight, labels), "float32")
            weights = ops.where(valid, weights * sample_weight, 0.0)
        return labels, logits, weights

    def check_class_weights(self, num_classes):
        if self.class_weights is not None and len(self.class_weights) != num_classes:
            raise ValueError(
                f"There are {len(self.class_weights)} class weights for {num_classes} classes. "
                "Give one weight for each channel of the logits (two, if there is one channel)."
            )

    def __add__(self, other):
        if not isinstance(other, SegmentationLoss):
            return NotImplemented
        return WeightedSum([self, other])

    def __mul__(self, factor):
        if not hasattr(factor, "__float__"):
            return NotImplemented
        return WeightedSum([self], [factor])

    __rmul__ = __mul__

    def get_config(self):
        return {
            "name": self.name,
            "class_weights": self.class_weights,
            "ignore_label": self.ignore_label,
        }


@keras.saving.register_keras_serializable("seglib")
class WeightedSum(SegmentationLoss):
    r"""A sum of losses, each times its weight: `a * loss_1 + b * loss_2`.

    $$L = \sum_k a_k L_k$$

    Every term keeps its own class weights and ignore label. A sum inside a sum is taken apart, so
    that `terms` and `term_weights` list plain losses.

    Args:
        terms: the losses.
        term_weights: one number of at least 0 for each loss, or `None` for 1 each.
        name: name of the loss.

    Shape: as the terms.
    Raises: ValueError if there is no term, or the weights are not one per term.

    When to use: a pixel loss that teaches from the first step plus a region or boundary loss that
    is nearer to the score. What breaks: the terms' scales differ by much (a boundary loss is in
    pixels), so look at each term's value before choosing its weight.

    Example:
        >>> loss = CrossEntropy() + 0.5 * Dice()
    """

    def __init__(self, terms, term_weights=None, *, name="weighted_sum"):
        terms = list(terms)
        term_weights = [1.0] * len(terms) if term_weights is None else list(term_weights)
        if not terms or len(terms) != len(term_weights):
            raise ValueError(
                f"There are {len(term_weights)} weights for {len(terms)} losses, expected at least "
                "one loss and as many weights."
            )
        for term, weight in zip(terms, term_weights, strict=True):
            if not isinstance(term, SegmentationLoss):
                raise ValueError(f"A term is {term!r}, expected a loss of seglib.losses.")
            if not 0 <= float(weight) < math.inf:
                raise ValueError(f"A weight is {weight}, expected a number of at least 0.")
        super().__init__(name=name)
        self.terms, self.term_weights = flatten(terms, term_weights)

    def compute(self, y_true, y_pred, sample_weight=None):
        return sum(
            weight * term.compute(y_true, y_pred, sample_weight)
            for term, weight in zip(self.terms, self.term_weights, strict=True)
        )

    def get_config(self):
        return {
            "name": self.name,
            "terms": [keras.saving.serialize_keras_object(term) for term in self.terms],
            "term_weights": self.term_weights,
        }

    @classmethod
    def from_config(cls, config):
        terms = [keras.saving.deserialize_keras_object(term) for term in config["terms"]]
        return cls(**config | {"terms": terms})


def flatten(terms, term_weights):
    """Returns terms and weights with the sums among the terms taken apart."""
    flat_terms, flat_weights = [], []
    for term, weight in zip(terms, term_weights, strict=True):
        inner = isinstance(term, WeightedSum)
        flat_terms += term.terms if inner else [term]
        flat_weights += [float(weight) * w for w in (term.term_weights if inner else [1.0])]
    return flat_terms, flat_weights


class PixelLoss(SegmentationLoss):
    """A loss that is a weighted mean over the valid pixels: `sum(w * l) / sum(w)`.

    A subclass gives `pixel_losses`. Since the weights also stand in the denominator, their scale
    does not matter.
    """

    def compute(self, y_true, y_pred, sample_weight=None):
        labels, logits, weights = self.prepare(y_true, y_pred, sample_weight)
        return weighted_mean(self.pixel_losses(labels, logits), weights)

    def pixel_losses(self, labels, logits):
        """Returns the loss of each pixel, `[B, H, W]`, from what `prepare` returned."""
        raise NotImplementedError


class RegionLoss(SegmentationLoss):
    """A loss of each picture and class, averaged over classes, then over the pictures.

    A subclass gives `class_losses`. The mean over classes is weighted by the class weights, the
    mean over pictures by the sample weights; a picture in which no class counts is left out.

    Args:
        class_weights: one weight per class in the mean over classes, or `None` for equal weights.
        classes: `"present"` to average over the classes that stand in the picture's truth, `"all"`
            to average over all classes.
        **kwargs: `ignore_label` and `name`, as in `SegmentationLoss`.

    Shape:
        As `SegmentationLoss`; `sample_weight` `[B]` weights the mean over pictures, `[B, H, W]`
        weights the pixels inside each picture's sums.
    """

    per_image = True  # a subclass may take the batch as one picture

    def __init__(self, class_weights=None, *, classes="present", **kwargs):
        super().__init__(class_weights, **kwargs)
        if classes not in ("present", "all"):
            raise ValueError(f"classes is {classes!r}, expected 'present' or 'all'.")
        self.classes = classes

    def compute(self, y_true, y_pred, sample_weight=None):
        labels, logits, weights, truth, shares = self.regions(y_true, y_pred, sample_weight)
        return ops.sum(shares * self.class_losses(labels, logits, weights, truth))

    def regions(self, y_true, y_pred, sample_weight=None):
        """Returns what `prepare` does, without class weights, and what each region counts.

        Returns:
            labels, logits and weights as `prepare`; the sum of the weights over the pixels of each
            class, `[B, C]`; and the `shares`. The last two are `[1, C]` without `per_image`.
        """
        pixel_weight, picture_weight = self.split(sample_weight, y_pred)
        labels, logits, weights = self.prepare(y_true, y_pred, pixel_weight, class_weighted=False)
        if picture_weight is not None:
            expand_weight(picture_weight, labels)  # raises if it does not fit
        truth = class_sums(weights, labels, logits.shape[-1])  # (B, C)
        if not self.per_image:
            truth = ops.sum(truth, axis=0, keepdims=True)  # (1, C)
        return labels, logits, weights, truth, self.shares(truth, picture_weight)

    def split(self, sample_weight, y_pred):
        """Returns the weights of the pixels and those of the pictures."""
        if not self.per_image:
            return sample_weight, None
        return split_sample_weight(sample_weight, y_pred)

    def shares(self, truth, picture_weight=None):
        """Returns how much the loss of each picture and class counts, `[B, C]`.

        They sum to 1, or are all 0 if nothing counts. For the arguments, see `regions`.
        """
        # The sign is 1 or 0 for a sum, and stays NaN where a label is no class.
        counts = ops.sign(truth)
        if self.classes == "all":
            counts = ops.sign(ops.sum(truth, axis=-1, keepdims=True)) * ops.ones_like(truth)
        if self.class_weights is not None:
            counts = counts * ops.array(self.class_weights, "float32")
        total = ops.sum(counts, axis=-1, keepdims=True)  # (B, 1)
        pictures = ops.sign(total)
        if picture_weight is not None:
            pictures = pictures * picture_weight[:, None]
        return ops.divide_no_nan(counts, total) * ops.divide_no_nan(pictures, ops.sum(pictures))

    def class_losses(self, labels, logits, weights, truth):
        """Returns the loss of each picture and class, `[B, C]`, from what `regions` returned.

        It must be finite for a class that is absent (`truth` 0): it is multiplied by 0.
        """
        raise NotImplementedError

    def get_config(self):
        return super().get_config() | {"classes": self.classes}


def valid_pixels(y_true, logits, num_classes, ignore_label):
    """Returns labels, logits and weights as `SegmentationLoss.prepare` does, unweighted."""
    labels = ops.cast(y_true, "int32")
    valid = counts(labels, ignore_label)
    known = (labels >= 0) & (labels < num_classes)
    if "float" in keras.backend.standardize_dtype(y_true.dtype):
        # A fraction comes from a mask that was resized bilinearly.
        known = known & ops.equal(y_true, ops.cast(labels, y_true.dtype))
    # What happens to a label that is no class differs between backends and devices: an exception,
    # a zero or NaN. Here it is NaN everywhere.
    weights = ops.where(valid, ops.where(known, 1.0, float("nan")), 0.0)
    # Zero times NaN is NaN, in the gradient too, so weights alone would not hide such logits.
    logits = ops.where(valid[..., None], ops.cast(logits, "float32"), 0.0)
    return ops.where(valid & known, labels, 0), logits, weights


def num_classes_of(logits):
    """Returns the number of classes of logits `[B, H, W, C]`: one channel makes two classes."""
    channels = logits.shape[-1] if len(logits.shape) else None
    if channels is None:
        raise ValueError(
            f"The prediction has shape {tuple(logits.shape)}, expected logits [B, H, W, C] with a "
            "known number of channels C."
        )
    return max(channels, 2)


def split_sample_weight(sample_weight, y_pred):
    """Returns weights of pixels `[B, H, W]`, and weights of pictures `[B]`; `None` for the other.

    Axes of size 1 may follow the `[B]`. Both come back where the rank of the weights is unknown,
    all 1 for what they are not.
    """
    if sample_weight is None:
        return None, None
    weight = ops.cast(ops.convert_to_tensor(sample_weight), "float32")
    if rank_of(weight) is None:
        of_pictures = ops.equal(ops.size(weight), ops.shape(y_pred)[0])
        weight = expand_weight(weight, y_pred[..., 0])
        return ops.where(of_pictures, 1.0, weight), ops.where(of_pictures, weight[:, 0, 0], 1.0)
    if len(weight.shape) in (1, 2, 3) and all(size == 1 for size in weight.shape[1:]):
        return None, ops.reshape(weight, [-1])
    return weight, None


def class_sums(values, labels, num_classes):
    """Sums values `[B, H, W]` over the pixels of each class in each picture: float32 `[B, C]`."""
    batch, height, _ = ops.shape(labels)
    # One sum a row of pixels first: a single float32 sum over a large picture loses its small
    # terms, and a one-hot product would write C times as many numbers.
    row = ops.reshape(ops.arange(batch * height, dtype="int32"), [batch, height, 1])
    sums = ops.segment_sum(
        ops.reshape(values, [-1]),
        ops.reshape(row * num_classes + labels, [-1]),
        num_segments=batch * height * num_classes,
    )
    return ops.sum(ops.reshape(sums, [batch, height, num_classes]), axis=1)


def soft_overlap(labels, logits, weights):
    """Returns the soft counts of true positives, false positives and false negatives.

    Returns:
        Three float32 tensors `[B, C]`: the probabilities of a class summed over its own pixels,
        those summed over all others, and what its own pixels give to other classes.
    """
    own, others, lost = split_probabilities(labels, logits, logits.shape[-1])
    tp, fn = (class_sums(weights * values, labels, logits.shape[-1]) for values in (own, lost))
    return tp, pixel_sums(weights, others), fn


def split_probabilities(labels, logits, num_classes):
    """Returns the softmax, with the probability of each pixel's own class apart from the others.

    Returns:
        The probability of the own class, `[B, H, W]`; those of the others, `[B, H, W, C]`, with 0
        for the own class; and their sum, `[B, H, W]`. The sum is one minus the first, but keeps its
        digits where that is nearly 1: a float32 of 1 - 1e-8 is 1, or on some processors 1 - 6e-8.
    """
    p = ops.softmax(logits)
    own = ops.equal(labels[..., None], ops.arange(num_classes, dtype="int32"))
    others = ops.where(own, 0.0, p)
    return ops.sum(ops.where(own, p, 0.0), axis=-1), others, ops.sum(others, axis=-1)


def of_own_class(values, labels):
    """Returns each pixel's entry for its own class: `[B, H, W, C]` to `[B, H, W]`."""
    # By one flat index: a product with one-hot labels would write C times as many numbers.
    shape = ops.shape(labels)
    first = ops.arange(shape[0] * shape[1] * shape[2], dtype="int32") * values.shape[-1]
    return ops.take(ops.reshape(values, [-1]), ops.reshape(first, shape) + labels, axis=0)


def pixel_sums(weights, values):
    """Returns the weighted sums over each picture's pixels: `[B, H, W, C]` to `[B, C]`."""
    batch, height, width, channels = ops.shape(values)
    # As a product of matrices it needs no weighted copy of the values.
    weights = ops.reshape(weights, [batch, 1, height * width])
    sums = weights @ ops.reshape(values, [batch, height * width, channels])  # (B, 1, C)
    return ops.reshape(sums, [batch, channels])


def weighted_mean(values, weights):
    """Returns `sum(w * v) / sum(w)`, and 0 (with gradient 0) if all weights are 0."""
    return ops.divide_no_nan(ops.sum(weights * values), ops.sum(weights))
