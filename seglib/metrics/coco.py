"""Average precision of detections, computed by COCO's own evaluator (pycocotools)."""

import contextlib
import copy
import io

import keras
import numpy as np

# The twelve numbers of COCOeval.summarize, in its order.
SUMMARY = (
    *("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"),
    *("AR1", "AR10", "AR100", "AR_small", "AR_medium", "AR_large"),
)
IOU_TYPES = {"boxes": "bbox", "masks": "segm"}


@keras.saving.register_keras_serializable("seglib")
class COCOAveragePrecision(keras.metrics.Metric):
    """Average precision (AP) of detected objects, as COCO defines it.

    Only collects the pictures and hands them to `pycocotools.cocoeval.COCOeval`, so the numbers
    are comparable with published ones. AP is the area under the precision-recall curve at 101
    recalls, averaged over the IoU thresholds 0.50, 0.55 … 0.95 and over the classes.

    Args:
        iou_type: `"boxes"` or `"masks"`, which of the two is compared.
        name: name of the metric; by default `"box_ap"` or `"mask_ap"`.

    Shape:
        For each picture one dict of the truth and one of the detections, with N rows each (N may
        differ, and may be 0):

        - `"classes"` `[N]`: whole numbers, at least 0;
        - `"boxes"` `[N, 4]`: (y1, x1, y2, x2) in **pixels**, a pixel being one wide, so that a box
          around columns 3 to 5 has x1 = 3 and x2 = 6. Needed for boxes. In other units AP is
          the same, but every object is taken for a small one;
        - `"masks"` `[N, H, W]`: bool, or numbers that are all 0 or 1. Needed for masks;
        - detections only: `"scores"` `[N]`, any finite numbers;
        - truth only, optional: `"iscrowd"` `[N]` (1 for a region of uncounted objects, in which no
          detection is wrong) and `"area"` `[N]` in pixels. By default the area is the mask's if
          there is one, as in COCO's files, else the box's.

        Other keys are ignored. Arrays of NumPy and tensors of any backend will do.

    Raises:
        ValueError: if something is missing, differs in length, or cannot be a box, mask, class or
            score.

    Example:
        >>> metric = COCOAveragePrecision("masks")
        >>> metric.update_state(truth, model.detect(image))  # one picture, or a list of each
        >>> metric.result(), metric.table()["AP_small"]

    Reference:
        Lin et al.: Microsoft COCO: Common Objects in Context, ECCV 2014.

    When to use:
        Detections with scores, which may overlap. For a prediction that gives each pixel one
        object, see `PanopticQuality`.

    What breaks:
        The state is a list, not a set of Keras variables, since pictures differ in their number of
        objects: call the metric in a loop of your own, not in `model.compile`. Masks are kept
        compressed.
        COCO counts the best 100 detections of each picture and class. A class that has no true
        object in the whole epoch is left out, however often it is detected. Without any true
        object every number is NaN; with objects and no detection, they are 0. Where equal scores
        meet, the picture that came first goes first, so the order of the pictures can then matter.
    """

    _direction = "up"

    def __init__(self, iou_type="boxes", *, name=None):
        if iou_type not in IOU_TYPES:
            raise ValueError(f"iou_type is {iou_type!r}, expected 'boxes' or 'masks'.")
        super().__init__(name=name or {"boxes": "box_ap", "masks": "mask_ap"}[iou_type])
        self.iou_type = iou_type
        self.reset_state()

    def reset_state(self):
        # In an object of their own, since Keras looks for variables in a metric's lists.
        self.seen = Pictures()

    def update_state(self, truth, detections):
        truth, detections = as_list("truth", truth), as_list("detections", detections)
        if len(truth) != len(detections):
            raise ValueError(
                f"There are {len(truth)} pictures of truth and {len(detections)} of detections, "
                "expected as many; a picture without detections has arrays of length 0."
            )
        # All pictures are read before the first is kept: a bad one leaves no half of a batch.
        pairs = zip(truth, detections, strict=True)
        read = [read_picture(true, detected, self.iou_type) for true, detected in pairs]
        self.seen.pictures += read
        self.seen.cached = None

    def result(self):
        return self.table()["AP"]

    def table(self):
        """Returns every number of COCO's summary so far, as plain numbers that JSON can hold.

        Returns:
            A dict: `AP`, `AP50`, `AP75` (at one IoU threshold), `AP_small`, `AP_medium`,
            `AP_large` (objects up to 32 x 32 pixels, up to 96 x 96, and larger), `AR1`, `AR10`,
            `AR100` (recall with so many detections a picture and class), `AR_small`, `AR_medium`,
            `AR_large`; and `per_class`, `{"AP", "AP50", "AP75"}` of each class id seen. NaN where
            there was no true object to find.
        """
        return copy.deepcopy(self.seen.table(IOU_TYPES[self.iou_type]))

    def get_config(self):
        return {"name": self.name, "iou_type": self.iou_type}


class Pictures:
    """The annotations of all pictures so far, in the form of COCO's files."""

    def __init__(self):
        self.pictures = []
        self.cached = None

    def table(self, iou_type):
        if self.cached is None:
            self.cached = self.evaluate(iou_type)
        return self.cached

    def evaluate(self, iou_type):
        from pycocotools.cocoeval import COCOeval

        with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
            evaluator = COCOeval(self.coco(0), self.coco(1), iou_type)
            evaluator.evaluate()
            evaluator.accumulate()
            evaluator.summarize()
        # (thresholds, recalls, classes): all sizes, 100 detections a picture
        precision = evaluator.eval["precision"][:, :, :, 0, -1]
        table = {key: or_nan(value) for key, value in zip(SUMMARY, evaluator.stats, strict=True)}
        table["per_class"] = {
            int(class_id): {
                "AP": or_nan(precision[:, :, k].mean()),
                "AP50": or_nan(precision[0, :, k].mean()),
                "AP75": or_nan(precision[5, :, k].mean()),
            }
            for k, class_id in enumerate(evaluator.params.catIds)
        }
        return table

    def coco(self, side):
        """The index of the truth (side 0) or of the detections (side 1)."""
        from pycocotools.coco import COCO

        coco = COCO()
        # Ids start at 1, since COCOeval takes a match with id 0 for no match. The annotations are
        # copied, since it writes into them.
        found = [
            row | {"image_id": image_id}
            for image_id, picture in enumerate(self.pictures, start=1)
            for row in picture[side]
        ]
        classes = {row["category_id"] for picture in self.pictures for s in picture for row in s}
        coco.dataset = {
            # Sizes are asked for and matter for polygons alone, of which there are none.
            "images": [
                {"id": i, "height": 0, "width": 0} for i in range(1, len(self.pictures) + 1)
            ],
            "categories": [{"id": c} for c in sorted(classes)],
            "annotations": [row | {"id": i} for i, row in enumerate(found, start=1)],
        }
        coco.createIndex()
        return coco


def or_nan(value):
    """COCOeval's -1, which stands for "there was nothing to find", as NaN."""
    return float("nan") if value == -1 else float(value)


def as_list(what, pictures):
    if isinstance(pictures, dict):
        return [pictures]
    if not isinstance(pictures, list | tuple) or not all(isinstance(p, dict) for p in pictures):
        raise ValueError(
            f"The {what} came as {type(pictures).__name__}, expected a dict of one picture or a "
            "list of such dicts; a dict of a whole batch must be taken apart."
        )
    return list(pictures)


def read_picture(truth, detections, iou_type):
    """Checks one picture and returns COCO's annotations of its truth and of its detections."""
    truth = read_objects("truth", truth, iou_type, ("iscrowd", "area"))
    found = read_objects("detections", detections, iou_type, ("scores",))
    if "scores" not in found:
        raise ValueError(
            f"The detections have the keys {sorted(detections)}, expected 'scores' among them. "
            "Are truth and detections swapped?"
        )
    if iou_type == "masks" and len(truth["classes"]) and len(found["classes"]):
        sizes = truth["masks"].shape[1:], found["masks"].shape[1:]
        if sizes[0] != sizes[1]:
            raise ValueError(
                f"True masks of {sizes[0]} pixels, detected masks of {sizes[1]}; expected the "
                "same. Paste the detected masks at the size of the picture."
            )
    truth_rows, truth_area = annotations(truth, iou_type)
    empty = np.flatnonzero(truth_area == 0)
    if empty.size:
        raise ValueError(
            f"The true {iou_type} {empty[:8].tolist()} are empty, expected at least one pixel. "
            "Drop objects that are hidden or outside of the picture."
        )
    if "area" not in truth:
        truth["area"] = areas(truth["masks"]) if "masks" in truth else truth_area
    truth.setdefault("iscrowd", np.zeros(len(truth_rows), int))
    for i, row in enumerate(truth_rows):
        row |= {"area": float(truth["area"][i]), "iscrowd": int(truth["iscrowd"][i])}
    found_rows, found_area = annotations(found, iou_type)
    for i, row in enumerate(found_rows):
        row |= {"area": float(found_area[i]), "score": float(found["scores"][i]), "iscrowd": 0}
    return truth_rows, found_rows


def read_objects(what, picture, iou_type, extra):
    """Returns the arrays of one dict that are of use, after checking them."""
    wanted = {"classes", iou_type}
    if wanted - set(picture):
        raise ValueError(
            f"The {what} have the keys {sorted(picture)}, expected {sorted(wanted)} for "
            f"iou_type={iou_type!r}."
        )
    keys = [key for key in ("classes", "boxes", "masks", *extra) if key in picture]
    arrays = {key: keras.ops.convert_to_numpy(picture[key]) for key in keys}
    number = arrays["classes"].shape[0] if arrays["classes"].ndim == 1 else "?"
    shapes = {"boxes": (number, 4), "masks": (number, None, None)}
    for key, array in arrays.items():
        if number == 0 and array.shape[:1] == (0,):
            continue  # np.zeros(0) for no object, whatever the other axes
        check_rows(f"{what}: {key}", array, shapes.get(key, (number,)))
    check_values(what, arrays)
    return arrays


def check_rows(what, array, expected):
    fits = array.ndim == len(expected) and all(
        e in (None, a) for a, e in zip(array.shape, expected, strict=True)
    )
    if not fits:
        text = ", ".join({None: "pixels"}.get(e, str(e)) for e in expected)
        raise ValueError(
            f"The {what} have shape {array.shape}, expected [{text}]: one row for each object of "
            "the picture, as many as there are classes, and no batch axis."
        )


def check_values(what, arrays):
    """Raises for classes, boxes, masks, scores, crowd flags or areas that cannot be."""

    def check(key, good, expected):
        if key in arrays and arrays[key].size and not np.all(good := good(arrays[key])):
            bad = arrays[key][~good][:4].tolist()
            raise ValueError(f"The {what}: {key} hold {bad}, expected {expected}")

    check(
        "classes",
        lambda c: (c >= 0) & (c == np.floor(c)),
        "whole numbers of at least 0. Drop rows that only fill up a fixed size.",
    )
    check(
        "boxes",
        lambda b: np.isfinite(b).all(-1) & (b[:, 0] <= b[:, 2]) & (b[:, 1] <= b[:, 3]),
        "finite (y1, x1, y2, x2) with y1 <= y2 and x1 <= x2. Boxes of COCO's files are "
        "(x, y, width, height).",
    )
    check(
        "masks",
        lambda m: (m == 0) | (m == 1),
        "True and False. Compare probabilities with 0.5 first.",
    )
    check("scores", np.isfinite, "finite numbers.")
    check("iscrowd", lambda c: (c == 0) | (c == 1), "0 or 1.")
    check("area", lambda a: np.isfinite(a) & (a >= 0), "finite numbers of at least 0.")


def annotations(objects, iou_type):
    """Returns COCO's dicts of the objects, and their areas.

    With masks there are no boxes in them: given both, pycocotools would take an object's size
    from its box.
    """
    classes = [int(c) for c in objects["classes"]]
    if not classes:
        return [], np.zeros(0)
    if iou_type == "masks":
        from pycocotools import mask

        # pycocotools reads pixels column by column
        stack = np.asfortranarray(objects["masks"].transpose(1, 2, 0).astype("uint8"))
        shapes = [{"segmentation": rle} for rle in mask.encode(stack)]
        area = areas(objects["masks"])
    else:
        y1, x1, y2, x2 = objects["boxes"].astype("float64").T
        area = (y2 - y1) * (x2 - x1)
        boxes = np.stack([x1, y1, x2 - x1, y2 - y1], axis=1)
        shapes = [{"bbox": box} for box in boxes.tolist()]
    return [{"category_id": c} | s for c, s in zip(classes, shapes, strict=True)], area


def areas(masks):
    """The number of pixels of each mask."""
    return np.array([np.count_nonzero(mask) for mask in masks])
