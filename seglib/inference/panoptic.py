"""Joins detected objects and a label map into one panoptic picture."""

import numpy as np

from seglib.core.constants import IGNORE_LABEL


def merge(
    detections,
    label_map,
    *,
    things,
    min_score=0.5,
    overlap=0.5,
    stuff_area=0,
    ignore_label=IGNORE_LABEL,
):
    """Gives each pixel one class and, on things, one instance.

    Detections may overlap and leave gaps, and a label map knows no instances. The detections come
    first, the highest score first: each takes those of its pixels that no better one has taken, and
    is dropped if those are too few. The stuff of the label map fills the rest. A pixel that the
    label map gives to a thing, but no detection does, stays void.

    Args:
        detections: dict of `"masks"` `[n, H, W]` (bool, or 0 and 1), `"classes"` `[n]` and
            `"scores"` `[n]`, as Mask R-CNN's `detect` gives them. Without scores all count alike,
            the first one first; so the truth of a scene becomes a panoptic truth. Rows of a
            negative class are padding.
        label_map: whole numbers `[H, W]`, the classes of the semantic prediction.
        things: for each class of the detections its class id in the label map: with `(1, 2)`,
            detected class 0 is 1 there, detected class 1 is 2, and all other ids are stuff.
        min_score: detections of a lower score are dropped.
        overlap: a detection is dropped if more than this share of it is taken already.
        stuff_area: stuff of fewer pixels than that, in all of the picture, becomes void.
        ignore_label: class id of void pixels, in the label map and in the result.

    Returns:
        `(classes, instances)`, int32 `[H, W]` each: class ids of the label map, and the number of
        the instance, from 0 on by score; -1 on stuff and void.

    Raises:
        ValueError: if shapes do not belong together, or a class or score cannot be.

    Example:
        >>> predicted = np.stack(merge(detection, label_map, things=(1, 2)), axis=-1)
        >>> metric = PanopticQuality(3, things=[1, 2])  # 0 is the background
        >>> metric.update_state(truth[None], predicted[None])

    Reference:
        Kirillov et al.: Panoptic Segmentation, CVPR 2019, section 7. COCO's script for it
        (panopticapi) has the same defaults of `min_score` and `overlap`, and drops stuff of fewer
        than 64 * 64 pixels.
    """
    label_map = np.asarray(label_map)
    masks, classes, scores = check_detections(detections, label_map, things)
    panoptic = np.full(label_map.shape, ignore_label, "int32")
    instances = np.full(label_map.shape, -1, "int32")
    free = np.ones(label_map.shape, bool)
    number = 0
    for i in np.argsort(-scores, kind="stable"):
        area = np.count_nonzero(masks[i])
        taken = np.count_nonzero(masks[i] & ~free)
        if classes[i] < 0 or scores[i] < min_score or area == taken or taken > overlap * area:
            continue
        visible = masks[i] & free
        panoptic[visible] = things[classes[i]]
        instances[visible] = number
        free &= ~visible
        number += 1
    for label in np.unique(label_map[free]):
        rest = free & (label_map == label)
        if label not in (*things, ignore_label) and np.count_nonzero(rest) >= stuff_area:
            panoptic[rest] = label
    return panoptic, instances


def check_detections(detections, label_map, things):
    """Returns masks (bool), classes and scores of detections, or raises as `merge` says."""
    if label_map.ndim != 2 or not np.issubdtype(label_map.dtype, np.integer):
        raise ValueError(
            f"The label map is {label_map.dtype} of shape {label_map.shape}, expected whole "
            "numbers [H, W], one picture. Logits become a label map by an argmax over the last "
            "axis."
        )
    if len(set(things)) < len(things):
        raise ValueError(f"things are {tuple(things)}, expected a different id for each class.")
    masks, classes = np.asarray(detections["masks"]), np.asarray(detections["classes"])
    count = len(classes)
    if masks.shape != (count, *label_map.shape):
        raise ValueError(
            f"The masks have shape {masks.shape}, expected {(count, *label_map.shape)}: one of "
            f"the label map's size for each of {count} classes."
        )
    if not np.isin(masks, (0, 1)).all():
        raise ValueError("The masks hold other values than 0 and 1; compare probabilities to 0.5.")
    if classes.max(initial=-1) >= len(things):
        raise ValueError(
            f"A detection has the class {classes.max()}, expected 0 to {len(things) - 1}: things "
            f"names {len(things)} classes."
        )
    scores = np.asarray(detections.get("scores", np.ones(count)), "float64")
    if scores.shape != (count,) or not np.isfinite(scores).all():
        raise ValueError(f"The scores are {scores}, expected {count} finite numbers.")
    return masks.astype(bool), classes.astype(int), scores
