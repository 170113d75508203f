"""Proposals: the boxes with the highest objectness."""

import numpy as np
from keras import ops

from seglib.models.rcnn.boxes import area, clip, decode
from seglib.models.rcnn.nms import non_max_suppression


def propose(objectness, deltas, anchors, frame, config, training=False):
    """Returns a fixed number of the region proposal network's best boxes per picture.

    The anchors of each level with the highest objectness are refined and cut at the picture's
    edges. Boxes of any level that overlap a better one too much are dropped. No gradient flows
    through the boxes, as published.

    Args:
        objectness: logits `[B, A]`.
        deltas: refinements `[B, A, 4]`.
        anchors: of each level, a list of NumPy `[A_l, 4]`, whose lengths sum to A.
        frame: where the picture ends, `(y, x)`.

    Returns:
        `(boxes, scores)`, `[B, P, 4]` and probabilities `[B, P]`, sorted by score; P is the
        configuration's. Where there are fewer boxes, the rest are zeros with a score of -1.

    Reference:
        Ren et al.: Faster R-CNN, NIPS 2015, section 3.3.
    """
    pre_top_k, post_top_k = config.pre_nms_top_k_predict, config.post_nms_top_k_predict
    if training:
        pre_top_k, post_top_k = config.pre_nms_top_k_train, config.post_nms_top_k_train
    chosen, start = [], 0
    for level in anchors:
        end = start + len(level)
        _, best = ops.top_k(objectness[:, start:end], min(pre_top_k, len(level)))
        chosen.append(best + start)
        start = end
    chosen = ops.concatenate(chosen, axis=1)  # (B, K)
    scores = ops.sigmoid(ops.take_along_axis(objectness, chosen, axis=1))
    moves = ops.take_along_axis(deltas, chosen[..., None], axis=1)  # (B, K, 4)
    origins = ops.take(ops.convert_to_tensor(np.concatenate(anchors)), chosen, axis=0)
    boxes = clip(decode(moves, origins, config.box_deviations), *frame)
    options = {"max_output": post_top_k, "iou_threshold": config.rpn_nms_iou}
    kept, valid = non_max_suppression(boxes, scores, valid=area(boxes) > 0, **options)
    boxes = ops.take_along_axis(boxes, kept[..., None], axis=1)
    scores = ops.take_along_axis(scores, kept, axis=1)
    boxes = ops.where(valid[..., None], boxes, 0.0)
    return ops.stop_gradient(boxes), ops.stop_gradient(ops.where(valid, scores, -1.0))
