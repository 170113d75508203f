r"""Lovász losses: the Jaccard index, extended to a function that gradient descent can minimize.

The Jaccard loss of a class depends on the set of wrong pixels `M` alone. With `F` the pixels of the
class in the truth,

$$\Delta_J(M) = 1 - \frac{|F \setminus M|}{|F \cup M|}.$$

It is submodular, so its Lovász extension to pixel errors `e` from 0 (right) to 1 (wrong) is convex,
and equals it wherever all errors are 0 or 1. Written as an integral over thresholds, with `f(t)`
and `b(t)` the number of pixels with an error above `t` inside and outside of `F`:

$$\bar\Delta_J(e) = \int_0^1 J(t)\,dt,\qquad J(t) = \frac{f(t) + b(t)}{|F| + b(t)}$$

Pixel weights fit in without a change: they are summed where pixels are counted, and a pixel of
weight 2 is two equal pixels.
"""

import keras
from keras import ops

from seglib.core.kernels import count_each, fused
from seglib.losses.base import RegionLoss


class LovaszLoss(RegionLoss):
    """What both Lovász losses share: pictures one by one, or the batch as one picture.

    A subclass gives `weighted_losses`.

    Args:
        class_weights: one weight per class in the mean over classes, or `None` for equal weights.
        per_image: `True` for the mean of each picture's loss, `False` for one loss of the batch as
            if it were one large picture, closer to an IoU over a data set.
        **kwargs: `classes`, `ignore_label` and `name`, as in `RegionLoss`.

    Shape:
        As `SegmentationLoss`. `sample_weight` `[B, H, W]` weights pixels: one of weight 2 counts as
        two equal pixels. `[B]` weights the mean over pictures, and without `per_image` every pixel
        of a picture.
    """

    def __init__(self, class_weights=None, *, per_image=True, **kwargs):
        super().__init__(class_weights, **kwargs)
        self.per_image = bool(per_image)

    def compute(self, y_true, y_pred, sample_weight=None):
        labels, logits, weights, _, shares = self.regions(y_true, y_pred, sample_weight)
        weighted = self.split(sample_weight, y_pred)[0] is not None
        return self.weighted_losses(labels, logits, weights, shares, weighted)

    def weighted_losses(self, labels, logits, weights, shares, weighted):
        """Returns the loss, a scalar: the sum of each picture's and class's loss times its share.

        The arguments are what `regions` returned, and whether weights but 0 and 1 can occur.
        """
        raise NotImplementedError

    def get_config(self):
        return super().get_config() | {"per_image": self.per_image}


@keras.saving.register_keras_serializable("seglib")
class LovaszSoftmax(LovaszLoss):
    r"""Lovász-softmax loss: the convex extension of the Jaccard loss, on softmax errors.

    $$L = \frac{1}{|\mathcal C|} \sum_{c \in \mathcal C} \bar\Delta_{J_c}\big(m(c)\big),\qquad
      m_i(c) = \begin{cases} 1 - p_{ic} & \text{if } c = y_i \\ p_{ic} & \text{otherwise}
      \end{cases}$$

    With the errors sorted from the largest down, the extension is `Σ g_i m_i`, and `g_i` is what
    the Jaccard loss grows by when pixel *i* joins the wrong ones. That is `method="sort"`: exact,
    and slow, since every class sorts every pixel.

    `method="histogram"` only sorts the errors into bins. Inside a bin it gives all pixels of the
    class one slope and all others another: the mean of the two orders "those of the class first"
    and "those of the class last". With *f*, *b* the weight inside and outside of the class in the
    bin, *U* that of the class plus all *b* in higher bins, and *r* that of the class in lower bins,

    $$g_\text{in} = \tfrac12 \Big(\frac1U + \frac1{U + b}\Big),\qquad
      g_\text{out} = \frac{r + f / 2}{U\,(U + b)}.$$

    The bins are narrow at both ends, where a trained network's errors lie: error `2 (k / bins)²`
    starts bin *k* of the lower half, and the upper half mirrors it. No bin is wider than
    `2 / bins`; the first one ends at 2e-6 (for 1024).

    **Its error.** For each picture and class, `0 ≤ exact - histogram ≤ 2 / bins`. *Proof.* The
    exact loss is the largest `Σ g_i m_i` over all orders in which pixels can join (a property of
    the Lovász extension), and the slopes above are a mean over such orders, so the histogram is
    never above. Let bin *k* start at the error `t_k` and be `d_k` wide, and let the Jaccard loss
    grow by `D_k` across it. In both forms the slopes of the bin's pixels are at least 0 and sum to
    `D_k`, so both losses are `Σ_k D_k t_k` plus a rest of 0 to `Σ_k D_k d_k`; all `D_k` sum to at
    most 1. Mostly the difference is about 1e-7, as large as the rounding of the float32 sums.

    The gradient is that of the sum with `g` held fixed, as in the exact form.

    Args:
        class_weights, per_image, ignore_label, name: as in `LovaszLoss`.
        classes: `"present"` to average over the classes that stand in the truth, `"all"` to average
            over all. The loss of an absent class is its largest probability.
        method: `"histogram"` or `"sort"`.
        bins: number of bins of the histogram, of no effect with `"sort"`.

    Shape:
        As `LovaszLoss`, to a scalar from 0 to 1.

    Raises:
        ValueError: if shapes do not belong together, or the method or the number of bins is
            unknown. Labels that are no class make the loss NaN.

    When to use: to raise the IoU of a network that cross-entropy has trained, alone or added to
    cross-entropy; small objects count as much as large ones. What breaks: from scratch it starts
    slowly; probabilities are no longer calibrated; with `per_image=True` a class of three pixels
    weighs as much as any other.

    Reference:
        Berman, Rannen Triki, Blaschko, The Lovász-Softmax Loss, CVPR 2018: equations 8 and 9 for
        the extension, 11 for the softmax errors, 12 for the mean over the classes, algorithm 1 for
        the slopes. The histogram is seglib's own.
    """

    default_name = "lovasz_softmax"

    def __init__(self, class_weights=None, *, method="histogram", bins=1024, **kwargs):
        super().__init__(class_weights, **kwargs)
        if method not in ("histogram", "sort"):
            raise ValueError(f"method is {method!r}, expected 'histogram' or 'sort'.")
        if bins != int(bins) or bins < 1:
            raise ValueError(f"bins is {bins}, expected a whole number of at least 1.")
        self.method = method
        self.bins = int(bins)

    def weighted_losses(self, labels, logits, weights, shares, weighted):
        if self.method == "histogram":
            return histogram_loss(labels, logits, weights, shares, self.bins, weighted)
        num_classes = logits.shape[-1]
        probabilities = rows_of_pixels(ops.softmax(logits), self.per_image)
        inside = rows_of_pixels(ops.one_hot(labels, num_classes), self.per_image)
        weights = rows_of_pixels(weights[..., None], self.per_image)
        errors = ops.where(inside > 0, 1 - probabilities, probabilities)
        losses = sorted_loss(errors, weights * inside, weights * (1 - inside))
        return ops.sum(shares * losses)

    def get_config(self):
        return super().get_config() | {"method": self.method, "bins": self.bins}


@keras.saving.register_keras_serializable("seglib")
class LovaszHinge(LovaszLoss):
    r"""Lovász hinge: the convex extension of the Jaccard loss, on hinge errors. Binary, exact.

    $$L = \bar\Delta_J(m),\qquad m_i = \max(0,\ 1 - s_i z_i)$$

    with `z` the logit of class 1 (of two channels, their difference) and `s` 1 where the truth is
    class 1 and -1 elsewhere. The loss is convex in the logits. Errors have no upper bound here, so
    they are sorted, not counted in bins.

    Args:
        class_weights: weights of the Jaccard losses of class 0 and class 1. `(0, 1)`, the paper's
            loss, is that of class 1 alone; `None` is the mean of both.
        classes: `"all"`, the paper's loss: for a picture without the class it is the largest error.
            `"present"` leaves such pictures out of the mean.
        per_image, ignore_label, name: as in `LovaszLoss`.

    Shape:
        Label map `[B, H, W]` of 0 and 1, logits `[B, H, W, 1]` or `[B, H, W, 2]`, to a scalar of at
        least 0; sample weights as in `LovaszLoss`.

    Raises:
        ValueError: if shapes do not belong together or there are more than two channels.

    When to use: for one object against its background, when the IoU is what counts. What breaks:
    the sigmoid of the logits is no probability, since a margin of 1 is enough; sorting takes time;
    one picture without the object follows its single worst pixel.

    Reference:
        Yu and Blaschko, Learning Submodular Losses with the Lovász Hinge, ICML 2015; Berman, Rannen
        Triki, Blaschko, The Lovász-Softmax Loss, CVPR 2018, section 2: equations 8 and 9 with the
        hinge errors.
    """

    default_name = "lovasz_hinge"

    def __init__(self, class_weights=(0, 1), *, classes="all", **kwargs):
        super().__init__(class_weights, classes=classes, **kwargs)

    def check_class_weights(self, num_classes):
        if num_classes != 2:
            raise ValueError(
                f"The logits have {num_classes} channels, expected 1 or 2: the Lovász hinge is for "
                "two classes. Use LovaszSoftmax for more."
            )
        super().check_class_weights(num_classes)

    def weighted_losses(self, labels, logits, weights, shares, weighted):
        margins = logits[..., 1:] - logits[..., :1]
        inside = ops.cast(labels, "float32")[..., None]
        errors = rows_of_pixels(ops.relu(1 - (2 * inside - 1) * margins), self.per_image)
        class_1 = rows_of_pixels(weights[..., None] * inside, self.per_image)
        class_0 = rows_of_pixels(weights[..., None] * (1 - inside), self.per_image)
        losses = [sorted_loss(errors, class_1, class_0)]
        # For class 0 the label and the margin change sign, and the errors stay the same.
        if self.class_weights is None or self.class_weights[0]:
            losses.insert(0, sorted_loss(errors, class_0, class_1))
        return ops.sum(shares[:, 2 - len(losses) :] * ops.concatenate(losses, axis=1))


def slopes(inside, outside):
    """Returns what the Jaccard loss grows by for each unit of weight of the pixels of a bin.

    Args:
        inside: weight of the pixels of the class in each bin, `[..., K]`, the bin of the largest
            errors first.
        outside: that of the other pixels.

    Returns:
        Two tensors `[..., K]`, the slopes of the pixels of the class and of the others: the mean
        over both orders in which the two kinds can join. With one pixel per bin they are exact.
    """
    lower = ops.flip(ops.cumsum(ops.flip(inside, axis=-1), axis=-1), axis=-1)
    union = lower[..., :1] + ops.cumsum(outside, axis=-1)  # after the bin
    before = union - outside
    slope_in = (ops.divide_no_nan(1.0, before) + ops.divide_no_nan(1.0, union)) / 2
    slope_out = ops.divide_no_nan(lower - inside / 2, before * union)
    # Without any pixel of the class, one wrong pixel is a Jaccard loss of 1, and more cost nothing.
    first = ops.divide_no_nan(1.0, outside)
    return slope_in, ops.where(ops.equal(before, 0), first, slope_out)


def sorted_loss(errors, inside, outside):
    """Returns the exact Lovász extension of the Jaccard loss, `[...]`.

    Args:
        errors: `[..., N]`, at least 0.
        inside: weight of each pixel if it belongs to the class, otherwise 0, `[..., N]`.
        outside: weight of each pixel if it does not, otherwise 0.
    """
    order = ops.stop_gradient(ops.argsort(-errors, axis=-1))
    inside = ops.take_along_axis(inside, order, axis=-1)
    outside = ops.take_along_axis(outside, order, axis=-1)
    slope_in, slope_out = slopes(inside, outside)
    steps = ops.stop_gradient(slope_in * inside + slope_out * outside)
    return ops.sum(steps * ops.take_along_axis(errors, order, axis=-1), axis=-1)


def rows_of_pixels(values, per_image):
    """Returns `[B, H, W, C]` as `[B, C, H * W]`, or as `[1, C, B * H * W]`."""
    batch, _, _, channels = ops.shape(values)
    rows = ops.reshape(values, [batch if per_image else 1, -1, channels])
    return ops.transpose(rows, [0, 2, 1])


def histogram_loss(labels, logits, weights, shares, bins, weighted):
    """Returns the Lovász-softmax loss by a histogram of the errors; see `weighted_losses`."""
    batch, height, width, num_classes = ops.shape(logits)
    num_cells = (2 * num_classes + 1) * bins
    kinds = ops.where(ops.equal(weights, 0), num_classes, labels)

    @ops.custom_gradient
    def loss_of(logits):
        p = ops.softmax(logits)
        cells = cells_of(p, kinds, num_classes, bins)
        count_weights = None
        if weighted:
            count_weights = ops.reshape(weights[..., None] * ops.ones_like(p), [batch, -1])
        counts = count_each(ops.reshape(cells, [batch, -1]), num_cells, count_weights)
        table, rest = slope_table(counts, shares, num_classes, bins)
        first = num_cells * ops.arange(batch, dtype="int32")
        projected = project(p, cells, first, table)  # (B, H, W)
        # Axis by axis: one float32 sum over all pixels loses its small terms on some backends.
        value = rest + ops.sum(ops.sum(ops.sum(weights * projected, axis=2), axis=1))

        def gradient(*args, upstream=None):
            upstream = args[0] if upstream is None else upstream
            return through_softmax(p, cells, first, table, projected, upstream * weights)

        # Rounding can leave a perfect prediction a little less than 0; NaN stays NaN.
        return ops.where(value < 0, 0.0, value), gradient

    return loss_of(logits)


@fused
def cells_of(p, kinds, num_classes, bins):
    """Returns the number of the histogram's cell of each pixel and class, int32 `[B, H, W, C]`.

    Each class has `bins` cells for the pixels outside of it and `bins` for those inside, both in
    the order of p; the last `bins` cells are for pixels that do not count.
    """
    classes = 2 * ops.arange(num_classes, dtype="int32") + ops.eye(num_classes, dtype="int32")
    ignored = 2 * num_classes * ops.ones([1, num_classes], "int32")
    first = bins * ops.concatenate([classes, ignored])  # (C + 1, C)
    from_end = ops.sqrt(ops.minimum(p, 1 - p) / 2)
    place = ops.where(p < 0.5, from_end, 1 - from_end)
    # NaN is cast to any number; it must be a cell, and the loss is NaN in the end.
    bin_number = ops.clip(ops.cast(place * bins, "int32"), 0, bins - 1)
    return bin_number + ops.take(first, kinds, axis=0)


def slope_table(counts, shares, num_classes, bins):
    """Returns the derivative of the loss by `p` for each cell, and what `p` is not part of.

    Args:
        counts: weight of each cell, `[B, (2 * C + 1) * bins]`.
        shares: `[B, C]` or `[1, C]`.
        num_classes: number of classes `C`.
        bins: number of bins.

    Returns:
        The derivatives, flat, `B * (2 * C + 1) * bins` numbers, 0 for pixels that do not count; and
        the scalar by which the loss exceeds the sum of the derivatives times `p`.
    """
    batch, num_cells = ops.shape(counts)
    if shares.shape[0] == 1:
        counts = ops.sum(counts, axis=0, keepdims=True)
    counts = ops.reshape(counts[:, : 2 * num_classes * bins], [-1, num_classes, 2, bins])
    # An error is p outside of the class and 1 - p inside: p ascends where this error descends.
    inside, outside = counts[:, :, 1], ops.flip(counts[:, :, 0], axis=-1)
    slope_in, slope_out = slopes(inside, outside)
    slope_in, slope_out = shares[..., None] * slope_in, shares[..., None] * slope_out
    table = ops.stack([ops.flip(slope_out, axis=-1), -slope_in], axis=2)
    table = ops.reshape(table, [-1, 2 * num_classes * bins])
    table = ops.pad(table, [[0, 0], [0, bins]])
    table = ops.broadcast_to(table, [batch, num_cells])
    return ops.reshape(table, [-1]), ops.sum(slope_in * inside)


@fused
def project(p, cells, first, table):
    """Returns the sum over the classes of `p` times its derivative, `[B, H, W]`."""
    return ops.sum(p * derivatives(cells, first, table), axis=-1)


@fused
def through_softmax(p, cells, first, table, projected, scale):
    """Returns the gradient with respect to the logits, `[B, H, W, C]`."""
    return scale[..., None] * p * (derivatives(cells, first, table) - projected[..., None])


def derivatives(cells, first, table):
    return ops.take(table, cells + first[:, None, None, None], axis=0)
