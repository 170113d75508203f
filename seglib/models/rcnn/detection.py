"""Detections: from the outputs of the heads to a list of objects."""

import numpy as np
from keras import ops

from seglib.models.rcnn.boxes import area, clip, decode
from seglib.models.rcnn.nms import non_max_suppression
from seglib.models.rcnn.paste import paste


def select(proposals, logits, deltas, config):
    """Picks a fixed number of detections per picture from the outputs of the box head.

    Each pair of a proposal and a class is a candidate: the proposal, refined for this class, with
    the class's probability. The best ones above the lowest score are cut at the picture's edges,
    and of those of one class that overlap too much the best remains.

    Args:
        proposals: `[B, R, 4]`; those without area do not count.
        logits, deltas: `[B, R, C + 1]`, background last, and `[B, R, C, 4]`.

    Returns:
        A dict of `boxes` `[B, D, 4]`, `classes` `[B, D]` (int32) and `scores` `[B, D]`, sorted by
        score, with D = `max_detections`. Rows without a detection have class -1 and zeros.

    Reference:
        He et al.: Mask R-CNN, ICCV 2017, section 3.1, "Inference".
    """
    number, classes = deltas.shape[1:3]
    scores = ops.softmax(ops.cast(logits, "float32"), axis=-1)[..., :-1]
    scores = ops.where((area(proposals) > 0)[..., None], scores, 0.0)
    count = min(config.detection_candidates, number * classes)
    scores, pair = ops.top_k(ops.reshape(scores, (-1, number * classes)), count)  # (B, K)
    region, class_id = pair // classes, pair % classes
    origins = ops.take_along_axis(proposals, region[..., None], axis=1)  # (B, K, 4)
    moves = ops.reshape(deltas, (-1, number * classes, 4))
    moves = ops.take_along_axis(moves, pair[..., None], axis=1)
    boxes = clip(decode(moves, origins, config.box_deviations), *config.image_size)
    kept, valid = non_max_suppression(
        boxes,
        scores,
        max_output=config.max_detections,
        iou_threshold=config.detection_nms_iou,
        valid=ops.logical_and(scores > config.detection_min_score, area(boxes) > 0),
        class_ids=class_id,
    )
    boxes = ops.take_along_axis(boxes, kept[..., None], axis=1)
    class_id, scores = (ops.take_along_axis(x, kept, axis=1) for x in (class_id, scores))
    return {
        "boxes": ops.where(valid[..., None], boxes, 0.0),
        "classes": ops.where(valid, ops.cast(class_id, "int32"), -1),
        "scores": ops.where(valid, scores, 0.0),
    }


def sort(found):
    """Returns detections `[B, D, …]` by falling score; rows without one come last."""
    key = ops.where(found["classes"] >= 0, found["scores"], -1.0)
    _, order = ops.top_k(key, key.shape[1])  # (B, D)

    def in_order(x):
        shape = (-1, order.shape[1], *[1] * (len(x.shape) - 2))
        return ops.take_along_axis(x, ops.reshape(order, shape), axis=1)

    return {name: in_order(x) for name, x in found.items()}


def at_full_size(found, fit, min_score=0.0):
    """Returns one picture's part of the model's output, NumPy arrays, in its own pixels."""
    height, width = fit.size
    boxes = fit.back(found["boxes"])
    cut = np.clip(boxes, 0, np.float32([height, width, height, width]))
    # Detections in the gray beside the picture are dropped.
    inside = (cut[:, 2] > cut[:, 0]) & (cut[:, 3] > cut[:, 1])
    chosen = (found["classes"] >= 0) & (found["scores"] >= min_score) & inside
    scores = {name: x[chosen].astype(np.float32) for name, x in found.items() if "scores" in name}
    return {
        "boxes": cut[chosen],
        "classes": found["classes"][chosen].astype(np.int32),
        **scores,
        "masks": paste(found["masks"][chosen], boxes[chosen], height, width),
    }
