"""Targets of anchors and proposals, and which of them are sampled."""

from keras import ops

from seglib.models.rcnn.boxes import area, encode, iou_matrix

# Two overlaps this close are the same: a compiler may round them differently.
SAME = 1e-6


def assign_anchors(anchors, boxes, classes, *, positive_iou, negative_iou):
    """Labels anchors `[A, 4]` as objects, background or neither.

    An anchor is an object if its IoU with some true box is at least `positive_iou`, or if no anchor
    has a higher one with some true box (so that every object has an anchor). It is background if
    its IoU with every box is below `negative_iou`. Others are not trained on.

    Args:
        boxes: the truth, `[B, N, 4]`.
        classes: `[B, N]`; -1 in rows that hold no object.

    Returns:
        `(labels, match)`, both `[B, A]`, int32: 1 for an object, 0 for background, -1 for neither;
        and the row of the true box that the anchor overlaps most.

    Reference:
        Ren et al.: Faster R-CNN, NIPS 2015, section 3.1.2.
    """
    real = classes >= 0
    overlap = iou_matrix(ops.convert_to_tensor(anchors, "float32")[None], boxes)  # (B, A, N)
    overlap = ops.where(real[:, None], overlap, -1.0)
    best = ops.max(overlap, axis=-1)  # (B, A)
    best_of_box = ops.max(overlap, axis=1, keepdims=True)  # (B, 1, N)
    is_best = ops.logical_and(overlap >= best_of_box - SAME, overlap > 0)
    positive = ops.logical_or(best >= positive_iou, ops.any(is_best, axis=-1))
    labels = ops.where(positive, 1, ops.where(best < negative_iou, 0, -1))
    return ops.cast(labels, "int32"), ops.cast(ops.argmax(overlap, axis=-1), "int32")


def sample(labels, *, count, positive_count, noise):
    """Samples `count` rows of labels `[B, N]`: first objects, at most `positive_count`.

    Returns:
        `(indices, labels)`, both `[B, min(count, N)]`, int32. The label is -1, and the index has no
        meaning, where there were too few rows.
    """
    number = labels.shape[1]
    count, most = min(count, number), min(positive_count, count, number)
    objects, are_objects = choose(labels == 1, most, noise)
    others, are_others = choose(labels == 0, count, noise)
    found = ops.sum(ops.cast(are_objects, "int32"), axis=1, keepdims=True)  # (B, 1)
    place = ops.arange(count)[None]
    # The first `found` places take objects, the next ones background from its beginning.
    take = ops.where(place < found, place, place - found + most)
    indices = ops.take_along_axis(ops.concatenate([objects, others], axis=1), take, axis=1)
    good = ops.concatenate([are_objects, are_others], axis=1)
    good = ops.take_along_axis(ops.cast(good, "int32"), take, axis=1)
    labels = ops.where(place < found, 1, good - 1)  # 0, or -1 where there was nothing left
    return indices, ops.cast(labels, "int32")


def choose(allowed, count, noise):
    """Returns `(indices, valid)`, both `[B, count]`: rows that are allowed, at random."""
    key, indices = ops.top_k(ops.where(allowed, 1.0 + noise, 0.0), count)
    return ops.cast(indices, "int32"), key > 0


def anchor_targets(anchors, boxes, classes, noise, config):
    """Samples the anchors that the region proposal network learns from, with their targets.

    Arguments as in `assign_anchors`; the noise `[B, A]` is random numbers of 0 to 1.

    Returns:
        A dict of `indices` (rows of `anchors`), `labels` (1 object, 0 background, -1 unused), both
        `[B, S]`, and `deltas` `[B, S, 4]`, zeros but for objects.
    """
    limits = {"positive_iou": config.rpn_positive_iou, "negative_iou": config.rpn_negative_iou}
    labels, match = assign_anchors(anchors, boxes, classes, **limits)
    count = config.rpn_samples
    positive_count = max(int(count * config.rpn_positive_share), 1)
    indices, labels = sample(labels, count=count, positive_count=positive_count, noise=noise)
    origins = ops.take(ops.convert_to_tensor(anchors, "float32"), indices, axis=0)  # (B, S, 4)
    true = rows(boxes, ops.take_along_axis(match, indices, axis=1))
    deltas = safe_deltas(true, origins, labels, config)
    return {"indices": indices, "labels": labels, "deltas": deltas}


def roi_targets(proposals, boxes, classes, noise, config):
    """Samples the proposals `[B, P, 4]` that the heads learn from, with their targets.

    The true boxes join the proposals, so that the heads learn while the proposals are still bad.
    Those with an IoU of at least `roi_positive_iou` with a true box are objects, all others
    background; proposals without area do not count. Arguments as in `anchor_targets`, the noise
    being `[B, P + N]`.

    Returns:
        A dict of `boxes` `[B, R, 4]`, objects first; `classes` `[B, R]` (C for background, -1 for
        unused rows); `match` `[B, R]`, the row of an object's true box; `deltas` `[B, R, 4]`, zeros
        but for objects.

    Reference:
        Girshick: Fast R-CNN, ICCV 2015, section 2.3; He et al.: Mask R-CNN, ICCV 2017, section 3.1.
    """
    boxes = ops.cast(boxes, "float32")
    candidates = ops.concatenate([proposals, boxes], axis=1)  # (B, P + N, 4)
    real = ops.concatenate([area(proposals) > 0, classes >= 0], axis=1)
    overlap = ops.where((classes >= 0)[:, None], iou_matrix(candidates, boxes), -1.0)
    positive = ops.max(overlap, axis=-1) >= config.roi_positive_iou
    labels = ops.where(real, ops.cast(positive, "int32"), -1)
    count, positive_count = config.rois_per_image, config.positive_rois
    indices, labels = sample(labels, count=count, positive_count=positive_count, noise=noise)
    match = ops.cast(ops.argmax(overlap, axis=-1), "int32")
    match = ops.take_along_axis(match, indices, axis=1)  # (B, R)
    chosen = ops.stop_gradient(rows(candidates, indices))
    true_classes = ops.take_along_axis(ops.cast(classes, "int32"), match, axis=1)
    background = ops.where(labels == 0, config.num_classes, -1)
    return {
        "boxes": chosen,
        "classes": ops.where(labels == 1, true_classes, background),
        "match": match,
        "deltas": safe_deltas(rows(boxes, match), chosen, labels, config),
    }


def rows(x, indices):
    """Returns the rows `[B, K, 4]` of `[B, N, 4]` with these numbers, `[B, K]`."""
    return ops.take_along_axis(x, indices[..., None], axis=1)


def safe_deltas(boxes, origins, labels, config):
    """Returns the refinements of objects, and zeros for everything else."""
    deltas = encode(boxes, origins, config.box_deviations)
    return ops.stop_gradient(ops.where((labels == 1)[..., None], deltas, 0.0))


def semantic_target(masks, classes, num_classes):
    """Returns the label map `[B, H, W]` of the objects' classes, int32; background is the last.

    Where masks `[B, N, H, W]` overlap, the earlier row counts.
    """
    there = ops.logical_and(ops.cast(masks, "bool"), (classes >= 0)[:, :, None, None])
    first = ops.argmax(ops.cast(there, "int32"), axis=1)  # (B, H, W): the first row with a mask
    height, width = first.shape[1:]
    first = ops.reshape(first, (-1, height * width))
    label = ops.take_along_axis(ops.cast(classes, "int32"), first, axis=1)
    label = ops.reshape(label, (-1, height, width))
    return ops.where(ops.any(there, axis=1), label, num_classes)
