"""The losses of Mask R-CNN, each divided as published, and 0 where there is nothing to learn.

A loss is divided by numbers that are counted over the whole batch. Shapes, the same everywhere:

- of S sampled anchors: `labels` `[B, S]` (1 object, 0 background, -1 unused), `deltas` `[B, S, 4]`;
- of R sampled regions: `classes` `[B, R]` (0 … C-1, C for background, -1 unused), class logits
  `[B, R, C + 1]`, `deltas` `[B, R, C, 4]`, true ones `[B, R, 4]`, mask logits `[B, R, m, m, C]`,
  true masks `[B, R, m, m]` (0 to 1), mask scores `[B, R, C]` and true IoUs `[B, R]`.

Reference:
    Girshick: Fast R-CNN, ICCV 2015. Ren et al.: Faster R-CNN, NIPS 2015. He et al.: Mask R-CNN,
    ICCV 2017. Huang et al.: Mask Scoring R-CNN, CVPR 2019. Kirillov et al.: Panoptic Feature
    Pyramid Networks, CVPR 2019.
"""

from keras import ops


def smooth_l1(x):
    """Returns `0.5 x²` for errors up to 1 and `|x| - 0.5` beyond (Fast R-CNN, equation 3)."""
    size = ops.abs(x)
    return ops.where(size < 1, 0.5 * x * x, size - 0.5)


def mean_over(values, where):
    """Returns the mean of the values that count, or 0 if none does."""
    where = ops.cast(where, values.dtype)
    return ops.sum(values * where) / ops.maximum(ops.sum(where), 1.0)


def log_loss(labels, logits):
    """Returns the binary cross-entropy of each logit; labels are 0 to 1."""
    return ops.softplus(logits) - labels * logits


def rpn_class_loss(labels, objectness):
    """Returns the mean log loss of logits `[B, S]` (Faster R-CNN, equation 1, first term)."""
    truth = ops.cast(labels == 1, "float32")
    return mean_over(log_loss(truth, objectness), labels >= 0)


def rpn_box_loss(labels, true_deltas, deltas):
    """Returns the smooth L1 loss of the objects' refinements, divided by all sampled anchors.

    The second term of Faster R-CNN's equation 1, which divides by the number of places of anchors,
    about 2400, and multiplies by 10: about the same as dividing by the 256 samples.
    """
    error = ops.sum(smooth_l1(deltas - true_deltas), axis=-1)
    return mean_over(ops.where(labels == 1, error, 0.0), labels >= 0)


def class_loss(classes, logits):
    """Returns the mean cross-entropy over the regions (Fast R-CNN, equation 1, first term)."""
    truth = ops.one_hot(classes, logits.shape[-1], dtype="float32")  # zeros for -1
    cross_entropy = -ops.sum(truth * ops.log_softmax(logits, axis=-1), axis=-1)
    return mean_over(cross_entropy, classes >= 0)


def box_loss(classes, true_deltas, deltas):
    """Returns the smooth L1 loss of the true class's refinements (Fast R-CNN, equations 1, 2)."""
    is_object = ops.logical_and(classes >= 0, classes < deltas.shape[2])
    chosen = of_class(deltas, classes, axis=2)  # (B, R, 4)
    error = ops.sum(smooth_l1(chosen - true_deltas), axis=-1)
    return mean_over(ops.where(is_object, error, 0.0), classes >= 0)


def mask_loss(classes, true_masks, logits):
    """Returns the mean log loss of the objects' masks for their class (Mask R-CNN, section 3)."""
    is_object = ops.logical_and(classes >= 0, classes < logits.shape[-1])
    cells = log_loss(true_masks, of_class(logits, classes, axis=4))  # (B, R, m, m)
    return mean_over(ops.mean(cells, axis=(2, 3)), is_object)


def mask_score_loss(classes, true_iou, scores):
    """Returns the mean squared error of the objects' predicted IoUs (Mask Scoring, section 3.2)."""
    is_object = ops.logical_and(classes >= 0, classes < scores.shape[-1])
    error = of_class(scores, classes, axis=2) - true_iou
    return mean_over(error * error, is_object)


def mask_iou(probabilities, true_masks, whole_area):
    """Returns the IoU of each predicted mask, cut at 0.5, with the true one; without gradient.

    True masks end at the region; `whole_area` `[B, R]` is that of the whole objects, in cells.
    """
    predicted = ops.cast(probabilities > 0.5, "float32")
    both = ops.sum(predicted * true_masks, axis=(2, 3))
    union = ops.sum(predicted, axis=(2, 3)) + whole_area - both
    return ops.stop_gradient(ops.where(union > 0, both / ops.maximum(union, 1e-6), 0.0))


def semantic_loss(label_map, logits):
    """Returns the mean cross-entropy of logits `[B, h, w, C]` (Panoptic FPN, section 3).

    Cells of the label map `[B, h, w]` with another class than 0 … C-1 do not count.
    """
    known = ops.logical_and(label_map >= 0, label_map < logits.shape[-1])
    return class_loss(ops.where(known, label_map, -1), logits)


def of_class(x, classes, *, axis):
    """Picks from `[B, R, …, C, …]` the entry of each region's class; zeros if it has none."""
    choice = ops.one_hot(classes, x.shape[axis], dtype=x.dtype)  # (B, R, C), zeros outside
    shape = [1] * len(x.shape)
    shape[0], shape[1], shape[axis] = -1, x.shape[1], x.shape[axis]
    return ops.sum(x * ops.reshape(choice, shape), axis=axis)
