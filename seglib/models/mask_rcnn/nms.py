"""Non-maximum suppression: of boxes that overlap much, only the best stays."""

from keras import ops

from seglib.models.mask_rcnn.boxes import iou_matrix


def non_max_suppression(boxes, scores, *, max_output, iou_threshold, valid=None, class_ids=None):
    """Picks boxes from the best score down, passing over those that overlap a picked one too much.

    This is the greedy rule, exactly: a box is dropped if its IoU with one that was *kept* before it
    is above the threshold. It is written without a loop over boxes: "kept" is first taken to be all
    boxes, then each box is dropped that overlaps a kept better one, from that again, and so on
    until nothing changes. A box whose fate hangs on a chain of k others has settled after k rounds;
    in practice a few rounds do, at most there are as many as boxes.

    Equal scores: the box that comes first is the better one.

    Args:
        boxes: `[B, N, 4]`.
        scores: `[B, N]`. A score of NaN never wins: such a box is neither kept nor drops others.
        max_output: how many boxes come out, a fixed number.
        iou_threshold: boxes that overlap a kept one more than this are dropped.
        valid: `[B, N]`, bool; boxes where it is False do not count. Default: all.
        class_ids: `[B, N]` integers; only boxes of the same class drop each other. Default: all are
            of one class.

    Returns:
        `(indices, valid)`, both `[B, max_output]`: int32 places in `boxes`, by falling score, and
        bool, False where there were no more boxes; the index is 0 there.

    Example:

        picked, valid = non_max_suppression(boxes, scores, max_output=100, iou_threshold=0.5)
        boxes = ops.take_along_axis(boxes, picked[..., None], axis=1)
    """
    _check(boxes, scores, max_output)
    boxes = ops.stop_gradient(ops.cast(boxes, "float32"))
    scores = ops.stop_gradient(ops.cast(scores, "float32"))
    counts = ops.logical_not(ops.isnan(scores))
    if valid is not None:
        counts = ops.logical_and(counts, ops.cast(valid, "bool"))
    # Those that do not count come last; -inf, since NaN has no place in an order.
    scores = ops.where(counts, scores, -float("inf"))
    number = boxes.shape[1]
    _, order = ops.top_k(scores, number)  # (B, N); equal scores stay in order
    boxes = ops.take_along_axis(boxes, order[..., None], axis=1)
    counts = ops.take_along_axis(counts, order, axis=1)
    drops = iou_matrix(boxes, boxes) > iou_threshold  # (B, N, N)
    drops = ops.logical_and(drops, _better(number))
    if class_ids is not None:
        class_ids = ops.take_along_axis(class_ids, order, axis=1)
        drops = ops.logical_and(drops, class_ids[:, :, None] == class_ids[:, None, :])
    kept = _settle(ops.cast(drops, "float32"), counts)
    return _first(kept, order, max_output)


def _better(number):
    # (N, N): does the row's box come before the column's?
    places = ops.arange(number)
    return places[:, None] < places[None, :]


def _settle(drops, counts):
    """Returns which boxes stay, `[B, N]`, if box i drops box j where `drops[i, j]` is 1."""
    start = ops.cast(counts, "float32")

    def again(kept, _):
        # how many kept boxes would drop each one; a product is by far the quickest "any"
        droppers = ops.matmul(kept[:, None, :], drops)[:, 0]  # (B, N)
        new = ops.where(droppers > 0, 0.0, start)
        return new, ops.any(new != kept)

    kept, _ = ops.while_loop(lambda kept, changed: changed, again, (start, ops.any(counts)))
    return kept > 0


def _first(kept, order, max_output):
    """Returns the places of the first kept boxes in the original order, and which are any."""
    number = kept.shape[1]
    rank = ops.where(kept, number - ops.arange(number), 0)  # (B, N), the best has the most
    rank, place = ops.top_k(rank, min(max_output, number))
    valid = rank > 0
    indices = ops.where(valid, ops.take_along_axis(order, place, axis=1), 0)
    missing = ((0, 0), (0, max(max_output - number, 0)))
    return ops.cast(ops.pad(indices, missing), "int32"), ops.pad(valid, missing)


def _check(boxes, scores, max_output):
    if len(boxes.shape) != 3 or boxes.shape[-1] != 4 or len(scores.shape) != 2:
        raise ValueError(
            f"boxes has shape {tuple(boxes.shape)} and scores {tuple(scores.shape)}, expected "
            "[B, N, 4] and [B, N]: add an axis for a single picture."
        )
    if boxes.shape[1] is None or boxes.shape[1] != scores.shape[1]:
        raise ValueError(
            f"There are {boxes.shape[1]} boxes and {scores.shape[1]} scores, expected the same "
            "number, known when the graph is built."
        )
    if max_output < 1:
        raise ValueError(f"max_output is {max_output}, expected at least 1.")
