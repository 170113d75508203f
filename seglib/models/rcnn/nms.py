"""Non-maximum suppression: of boxes that overlap much, the best stays."""

from keras import ops

from seglib.models.rcnn.boxes import iou_matrix

# Boxes that are looked at together. More makes fewer, slower rounds.
BLOCK = 128


def non_max_suppression(boxes, scores, *, max_output, iou_threshold, valid=None, class_ids=None):
    """Picks boxes from the best score down, passing over those that overlap a picked one too much.

    This is exactly the greedy rule: a box is dropped if its IoU with one that was *kept* before it
    is above the threshold. Of equal scores the first is the better one. The boxes are taken in
    blocks, best first, until there are enough, so the work does not grow with the square of N.

    Args:
        boxes: `[B, N, 4]`; N is known when the graph is built.
        scores: `[B, N]`. A box with a score of NaN is neither kept nor drops others.
        max_output: how many boxes come out, a fixed number.
        iou_threshold: 0 to 1.
        valid: `[B, N]`, bool; boxes where it is False do not count. Default: all.
        class_ids: `[B, N]`; only boxes of one class drop each other. Default: all are of one class.

    Returns:
        `(indices, valid)`, both `[B, max_output]`: int32 places in `boxes`, by falling score, and
        bool, False where there were no more boxes; the index is 0 there. No gradient flows.

    Raises:
        ValueError: for other shapes, or an option out of its range.
    """
    boxes, scores = ops.convert_to_tensor(boxes), ops.convert_to_tensor(scores)
    _check(boxes, scores, max_output, iou_threshold)
    boxes, scores = (ops.cast(ops.stop_gradient(x), "float32") for x in (boxes, scores))
    number = boxes.shape[1]
    counts = ops.logical_not(ops.isnan(scores))
    if valid is not None:
        counts = ops.logical_and(counts, ops.cast(valid, "bool"))
    # -inf, since NaN has no place in an order; equal scores stay in theirs
    _, order = ops.top_k(ops.where(counts, scores, -float("inf")), number)  # (B, N)

    def sort_and_pad(x):  # to whole blocks, and one box without area: see `_kept_places`
        shape = (-1, number, *[1] * (len(x.shape) - 2))
        x = ops.take_along_axis(x, ops.reshape(order, shape), axis=1)
        return ops.pad(x, [(0, 0), (0, -number % BLOCK + 1)] + [(0, 0)] * (len(x.shape) - 2))

    if class_ids is not None:
        class_ids = sort_and_pad(ops.cast(ops.convert_to_tensor(class_ids), "int32"))
    places = _kept_places(
        sort_and_pad(boxes), sort_and_pad(counts), class_ids, max_output, iou_threshold
    )  # (B, max_output)
    valid = places < number
    picked = ops.take_along_axis(order, ops.where(valid, places, 0), axis=1)
    return ops.where(valid, ops.cast(picked, "int32"), 0), valid


def _kept_places(boxes, counts, class_ids, max_output, threshold):
    """Returns the places of the kept boxes, rising, `[B, max_output]`.

    The last place, of a box without area, which drops no other, stands where there is none.
    """
    nothing = boxes.shape[1] - 1
    kept = ops.full((ops.shape(boxes)[0], max_output), nothing, dtype="int32")

    def is_wanting(start, kept):
        return ops.logical_and(start < nothing, ops.any(kept[:, -1] == nothing))

    def next_block(start, kept):
        places = start + ops.arange(BLOCK, dtype="int32")
        block = ops.take(boxes, places, axis=1)  # (B, BLOCK, 4)
        before = ops.take_along_axis(boxes, kept[..., None], axis=1)  # (B, max_output, 4)
        drops, overlaps = (iou_matrix(other, block) > threshold for other in (before, block))
        if class_ids is not None:
            ids = ops.take(class_ids, places, axis=1)
            kept_ids = ops.take_along_axis(class_ids, kept, axis=1)
            drops = ops.logical_and(drops, kept_ids[:, :, None] == ids[:, None, :])
            overlaps = ops.logical_and(overlaps, ids[:, :, None] == ids[:, None, :])
        left = ops.logical_and(
            ops.take(counts, places, axis=1), ops.logical_not(ops.any(drops, axis=1))
        )
        stays = _settle(overlaps, left)  # (B, BLOCK)
        kept = ops.concatenate([kept, ops.where(stays, places, nothing)], axis=1)
        return start + BLOCK, ops.sort(kept, axis=1)[:, :max_output]

    return ops.while_loop(is_wanting, next_block, (ops.convert_to_tensor(0, "int32"), kept))[1]


def _settle(overlaps, counts):
    """Returns which boxes of a sorted block stay, `[B, BLOCK]`.

    First all that count are taken to be kept; then each is dropped that overlaps a better one that
    is kept; with what that leaves, again, until nothing changes, mostly after a few rounds.
    """
    places = ops.arange(BLOCK)
    drops = ops.logical_and(overlaps, places[:, None] < places)  # (B, BLOCK, BLOCK)
    drops, start = ops.cast(drops, "float32"), ops.cast(counts, "float32")

    def again(kept, changed):
        # how many kept boxes would drop each one: a product is by far the quickest "any"
        droppers = ops.matmul(kept[:, None, :], drops)[:, 0]  # (B, BLOCK)
        new = ops.where(droppers > 0, 0.0, start)
        return new, ops.any(new != kept)

    kept, _ = ops.while_loop(lambda kept, changed: changed, again, (start, ops.any(counts)))
    return kept > 0


def _check(boxes, scores, max_output, iou_threshold):
    shape = tuple(boxes.shape)
    if len(shape) != 3 or not shape[1] or shape[2] != 4 or tuple(scores.shape[1:]) != shape[1:2]:
        raise ValueError(
            f"boxes has shape {shape} and scores {tuple(scores.shape)}, expected [B, N, 4] and "
            "[B, N], N being at least 1 and known when the graph is built: add an axis for a "
            "single picture."
        )
    if max_output < 1:
        raise ValueError(f"max_output is {max_output}, expected at least 1.")
    if not 0 <= iou_threshold <= 1:
        raise ValueError(f"iou_threshold is {iou_threshold}, expected 0 to 1.")
