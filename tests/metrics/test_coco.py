"""COCO's average precision against direct calls of COCOeval and cases counted by hand."""

import contextlib
import io
import json
from pathlib import Path

import keras
import numpy as np
import pytest
from pycocotools import mask as mask_tools
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import seglib.metrics
from seglib.metrics import COCOAveragePrecision

KEYS = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")
KEYS += ("AR1", "AR10", "AR100", "AR_small", "AR_medium", "AR_large")


def objects(boxes, classes=None, **more):
    """One picture's dict; every object is of class 1 unless said otherwise."""
    boxes = np.reshape(np.array(boxes, "float64"), (-1, 4))
    classes = np.ones(len(boxes), int) if classes is None else np.array(classes, int)
    return {"boxes": boxes, "classes": classes} | {k: np.array(v) for k, v in more.items()}


def scored(truth, detections, iou_type="boxes"):
    metric = COCOAveragePrecision(iou_type)
    metric.update_state(truth, detections)
    return metric


def masks_of(boxes, size=(80, 90)):
    """Masks `[N, H, W]` that fill boxes of whole numbers."""
    masks = np.zeros((len(boxes), *size), bool)
    for mask, (y1, x1, y2, x2) in zip(masks, np.array(boxes, int), strict=True):
        mask[y1:y2, x1:x2] = True
    return masks


# --- by hand ----------------------------------------------------------------------------------

# A box of 100 x 100 pixels, and what a detection of its lower part has in common with it.
BOX = [0, 0, 100, 100]


@pytest.mark.parametrize("share, thresholds", [(49, 0), (50, 1), (60, 3), (62, 3), (97, 10)])
def test_one_object_counts_at_each_threshold_that_its_iou_reaches(share, thresholds):
    # 0.50, 0.55 … 0.95; an IoU that equals the threshold reaches it.
    table = scored(objects([BOX]), objects([[0, 0, share, 100]], scores=[0.9])).table()
    assert table["AP"] == pytest.approx(thresholds / 10)
    assert table["AP50"] == pytest.approx(float(share >= 50))
    assert table["AP75"] == pytest.approx(float(share >= 75))
    assert table["AR100"] == pytest.approx(thresholds / 10)


@pytest.mark.parametrize(
    "hit, wrong, expected",
    [
        # Of two objects one is found. Precision 1 up to the recall of one half: 51 of the 101
        # recalls 0, 0.01 … 1. A wrong detection with a lower score takes nothing from it.
        (0.9, 0.8, 51 / 101),
        # With a higher score it halves the precision there.
        (0.8, 0.9, 51 / 101 / 2),
    ],
)
def test_one_of_two_objects_and_one_wrong_detection(hit, wrong, expected):
    truth = objects([BOX, [0, 200, 100, 300]])
    found = objects([BOX, [300, 300, 400, 400]], scores=[hit, wrong])
    table = scored(truth, found).table()
    assert [table["AP"], table["AP50"]] == pytest.approx([expected, expected])
    assert table["AR100"] == pytest.approx(0.5)


def test_a_second_detection_of_the_same_object_is_wrong():
    # The better one has the lower score: at IoU 0.5 the first takes the object, precision 1 at
    # every recall; at 0.75 the first is wrong and the second right, precision 1/2.
    found = objects([[0, 0, 60, 100], BOX], scores=[0.9, 0.8])
    table = scored(objects([BOX]), found).table()
    assert table["AP50"] == pytest.approx(1.0)
    assert table["AP75"] == pytest.approx(0.5)
    assert table["AP"] == pytest.approx((3 * 1 + 7 * 0.5) / 10)


def test_ap_is_the_mean_over_the_classes_with_objects():
    truth = objects([BOX, [0, 200, 100, 300]], classes=[0, 7])
    # Class 0 found; class 7 taken for class 0 (with a lower score); class 3 is nowhere.
    found = objects(
        [BOX, [0, 200, 100, 300], [0, 0, 9, 9]], classes=[0, 0, 3], scores=[0.9, 0.8, 0.9]
    )
    table = scored(truth, found).table()
    assert table["AP"] == pytest.approx((1 + 0) / 2)
    assert table["per_class"][0] == pytest.approx({"AP": 1.0, "AP50": 1.0, "AP75": 1.0})
    assert table["per_class"][7] == {"AP": 0.0, "AP50": 0.0, "AP75": 0.0}
    assert set(table["per_class"]) == {0, 3, 7}
    assert all(np.isnan(value) for value in table["per_class"][3].values())


SIDES = [(31, "small"), (33, "medium"), (95, "medium"), (97, "large")]


@pytest.mark.parametrize("side, size", SIDES)
def test_the_area_decides_the_size(side, size):
    box = [10, 10, 10 + side, 10 + side]
    table = scored(objects([box]), objects([box], scores=[0.5])).table()
    for name in ("small", "medium", "large"):
        if name == size:
            assert [table[f"AP_{name}"], table[f"AR_{name}"]] == pytest.approx([1.0, 1.0])
        else:
            assert np.isnan(table[f"AP_{name}"]) and np.isnan(table[f"AR_{name}"])


def test_the_area_is_the_one_given_then_the_masks_then_the_boxs():
    box = [0, 0, 60, 60]  # medium as a box
    found = objects([box], scores=[0.5])
    thin = np.zeros((1, 80, 80), bool)
    thin[0, :60, :10] = True  # small as a mask
    assert scored(objects([box]), found).table()["AP_medium"] == pytest.approx(1.0)
    assert scored(objects([box], masks=thin), found).table()["AP_small"] == pytest.approx(1.0)
    given = objects([box], masks=thin, area=[10_000])
    assert scored(given, found).table()["AP_large"] == pytest.approx(1.0)


def test_the_size_of_a_mask_is_not_that_of_its_box():
    # A thin diagonal: its box is large, the mask itself small.
    mask = np.eye(200, dtype=bool)[None]
    truth = objects([[0, 0, 200, 200]], masks=mask)
    found = objects([[0, 0, 200, 200]], masks=mask, scores=[1.0])
    table = scored(truth, found, "masks").table()
    assert table["AP_small"] == pytest.approx(1.0) and np.isnan(table["AP_large"])


def test_a_detection_inside_a_crowd_is_not_wrong():
    truth = objects([BOX, [0, 200, 100, 400]], iscrowd=[0, 1])
    found = objects([[0, 210, 50, 260], [0, 300, 50, 350], BOX], scores=[0.9, 0.8, 0.7])
    assert scored(truth, found).table()["AP"] == pytest.approx(1.0)
    truth["iscrowd"] = np.array([0, 0])
    assert scored(truth, found).table()["AP"] < 0.5


# --- against COCOeval on a data set of COCO's form --------------------------------------------


def random_pictures(seed, number=6, size=(80, 90)):
    """Scenes of boxes, and detections that miss, move, repeat and invent some."""
    rng = np.random.default_rng(seed)
    truths, detections = [], []
    for _ in range(number):
        n = rng.integers(0, 6)
        boxes = random_boxes(rng, n, size)
        classes = rng.integers(0, 3, n)
        crowd = rng.random(n) < 0.15
        truths.append(objects(boxes, classes, iscrowd=crowd, masks=masks_of(boxes, size)))
        kept = np.flatnonzero(rng.random(n) < 0.8).repeat(rng.integers(1, 3))
        moved = np.clip(boxes[kept] + rng.integers(-4, 5, (len(kept), 4)), 0, (*size, *size))
        moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2])
        invented = random_boxes(rng, rng.integers(0, 3), size)
        found = np.concatenate([moved, invented])
        found_classes = np.concatenate([classes[kept], rng.integers(0, 3, len(invented))])
        scores = rng.random(len(found))
        detections.append(objects(found, found_classes, scores=scores, masks=masks_of(found, size)))
    return truths, detections


def random_boxes(rng, number, size):
    corner = rng.integers(0, np.array(size) - 12, (number, 2))
    return np.concatenate([corner, np.minimum(corner + rng.integers(3, 60, (number, 2)), size)], 1)


def to_json(truths, detections, with_masks):
    """COCO's two files: a data set with bit masks as RLE, and a list of results."""
    images, annotations, results = [], [], []
    for i, (truth, found) in enumerate(zip(truths, detections, strict=True)):
        height, width = truth["masks"].shape[1:]
        images.append({"id": 100 + i, "height": height, "width": width})
        for side, rows in ((truth, annotations), (found, results)):
            for k, (y1, x1, y2, x2) in enumerate(side["boxes"].tolist()):
                mask = np.asfortranarray(side["masks"][k].astype("uint8"))
                rle = mask_tools.encode(mask)
                row = {"image_id": 100 + i, "category_id": int(side["classes"][k])}
                if with_masks or side is truth:
                    row["segmentation"] = rle | {"counts": rle["counts"].decode()}
                if not with_masks or side is truth:
                    row["bbox"] = [x1, y1, x2 - x1, y2 - y1]
                if side is truth:
                    row |= {"id": len(annotations) + 1, "iscrowd": int(side["iscrowd"][k])}
                    row["area"] = float(mask.sum())
                else:
                    row["score"] = float(side["scores"][k])
                rows.append(row)
    categories = [{"id": c, "name": str(c)} for c in range(3)]
    return {"images": images, "annotations": annotations, "categories": categories}, results


def direct(truths, detections, iou_type, tmp_path):
    dataset, results = to_json(truths, detections, iou_type == "masks")
    (tmp_path / "truth.json").write_text(json.dumps(dataset))
    (tmp_path / "results.json").write_text(json.dumps(results))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(tmp_path / "truth.json"))
        found = coco.loadRes(str(tmp_path / "results.json"))
        evaluator = COCOeval(coco, found, {"boxes": "bbox", "masks": "segm"}[iou_type])
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator


@pytest.mark.parametrize("iou_type", ["boxes", "masks"])
@pytest.mark.parametrize("seed", range(4))
def test_every_number_is_that_of_a_direct_call_on_files(seed, iou_type, tmp_path):
    truths, detections = random_pictures(seed)
    evaluator = direct(truths, detections, iou_type, tmp_path)
    metric = scored(truths, detections, iou_type)
    table = metric.table()
    expected = np.where(evaluator.stats == -1, np.nan, evaluator.stats)
    assert 0.05 < expected[0] < 0.95, "the case tests nothing"
    np.testing.assert_array_equal([table[key] for key in KEYS], expected)
    assert metric.result() == table["AP"]
    # COCO's own way to the AP of one class: evaluate that class alone.
    for c in range(3):
        evaluator.params.catIds = [c]
        with contextlib.redirect_stdout(io.StringIO()):
            evaluator.evaluate()
            evaluator.accumulate()
            evaluator.summarize()
        one = [table["per_class"][c][key] for key in ("AP", "AP50", "AP75")]
        expected = np.where(evaluator.stats == -1, np.nan, evaluator.stats)[:3]
        np.testing.assert_allclose(one, expected, rtol=1e-12)


# --- a whole epoch ----------------------------------------------------------------------------


@pytest.mark.parametrize("iou_type", ["boxes", "masks"])
def test_the_order_of_pictures_and_objects_does_not_matter(iou_type):
    truths, detections = random_pictures(5)
    whole = scored(truths, detections, iou_type).table()
    rng = np.random.default_rng(0)
    metric = COCOAveragePrecision(iou_type)
    for i in rng.permutation(len(truths)):
        shuffled = []
        for side in (truths[i], detections[i]):
            order = rng.permutation(len(side["classes"]))
            shuffled.append({key: value[order] for key, value in side.items()})
        metric.update_state(*shuffled)
        metric.result()  # looking in between changes nothing
    assert_same(metric.table(), whole)


def assert_same(table, other):
    np.testing.assert_allclose([table[k] for k in KEYS], [other[k] for k in KEYS], rtol=1e-12)
    assert set(table["per_class"]) == set(other["per_class"])


def test_the_ap_of_an_epoch_is_not_the_mean_of_its_pictures():
    # The first picture's wrong detection has the highest score of both.
    truths = [objects([BOX]), objects([BOX])]
    found = [
        objects([BOX, [300, 300, 400, 400]], scores=[0.1, 0.9]),
        objects([BOX], scores=[0.5]),
    ]
    # wrong, right, right: precision 2/3 at the recall of 1, and the best from there down
    assert scored(truths, found).result() == pytest.approx(2 / 3)
    single = [scored(t, f).result() for t, f in zip(truths, found, strict=True)]
    assert np.mean(single) == pytest.approx((0.5 + 1) / 2)


def test_reset_forgets():
    metric = scored(objects([BOX]), objects([[500, 500, 600, 600]], scores=[0.9]))
    assert metric.result() == 0.0
    metric.reset_state()
    assert np.isnan(metric.result())
    metric.update_state(objects([BOX]), objects([BOX], scores=[0.9]))
    assert metric.result() == pytest.approx(1.0)


def test_a_table_is_the_readers_own():
    metric = scored(objects([BOX]), objects([BOX], scores=[0.9]))
    metric.table()["per_class"].clear()
    assert metric.table()["per_class"][1]["AP"] == pytest.approx(1.0)


def test_relative_boxes_give_the_same_ap_but_only_small_objects():
    truths, detections = random_pictures(7)
    whole = scored(truths, detections).table()
    for side in truths + detections:
        side["boxes"] = side["boxes"] / 128  # a power of two: not one bit of an IoU changes
        del side["masks"]
    table = scored(truths, detections).table()
    assert [table[key] for key in KEYS[:3]] == [whole[key] for key in KEYS[:3]]
    assert np.isnan(table["AP_medium"]) and not np.isnan(whole["AP_medium"])


# --- nothing there ----------------------------------------------------------------------------

NOTHING = {"boxes": np.zeros((0, 4)), "classes": np.zeros(0), "masks": np.zeros((0, 8, 8), bool)}
NOTHING_FOUND = NOTHING | {"scores": np.zeros(0)}
ONE = objects([[1, 1, 5, 5]], masks=masks_of([[1, 1, 5, 5]], (8, 8)))


@pytest.mark.parametrize("iou_type", ["boxes", "masks"])
def test_no_detection_at_all_scores_zero(iou_type):
    table = scored(ONE, NOTHING_FOUND, iou_type).table()
    assert [table[key] for key in ("AP", "AP50", "AP75", "AP_small", "AR100")] == [0.0] * 5
    assert np.isnan(table["AP_large"])


@pytest.mark.parametrize("iou_type", ["boxes", "masks"])
def test_without_any_true_object_there_is_no_score(iou_type):
    empty = COCOAveragePrecision(iou_type)
    no_truth = scored(NOTHING, ONE | {"scores": np.array([0.5])}, iou_type)
    neither = scored([NOTHING, NOTHING], [NOTHING_FOUND, NOTHING_FOUND], iou_type)
    for metric in (empty, no_truth, neither, scored([], [], iou_type)):
        assert np.isnan(metric.result())
        assert all(np.isnan(metric.table()[key]) for key in KEYS)
    assert np.isnan(no_truth.table()["per_class"][1]["AP"])
    assert neither.table()["per_class"] == {}


def test_a_picture_without_objects_makes_its_detections_wrong():
    pair = [ONE], [ONE | {"scores": np.array([0.5])}]
    assert scored(*pair).result() == pytest.approx(1.0)
    found = ONE | {"scores": np.array([0.9])}
    # wrong, right: precision one half
    assert scored([NOTHING, ONE], [found, pair[1][0]]).result() == pytest.approx(0.5)


def test_arrays_of_length_zero_need_no_further_axes():
    nothing = {"boxes": np.zeros(0), "classes": [], "scores": []}
    assert scored(objects([BOX]), nothing).result() == 0.0


# --- as a Keras metric ------------------------------------------------------------------------


def test_tensors_and_other_numbers_will_do():
    tensor = keras.ops.convert_to_tensor
    truth = {key: tensor(value) for key, value in ONE.items()}
    found = {key: tensor(value.astype("float32")) for key, value in ONE.items()}
    found["scores"] = tensor([0.5])
    for iou_type in ("boxes", "masks"):
        assert scored(truth, found, iou_type).result() == pytest.approx(1.0)


@pytest.mark.parametrize("iou_type, name", [("boxes", "box_ap"), ("masks", "mask_ap")])
def test_a_metric_survives_serialization(iou_type, name):
    metric = COCOAveragePrecision(iou_type)
    assert metric.name == name
    twin = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    assert type(twin) is COCOAveragePrecision
    assert (twin.name, twin.iou_type) == (name, iou_type)


def test_nothing_is_printed_and_the_table_is_json(capsys):
    table = scored(*random_pictures(2)).table()
    assert capsys.readouterr().out == ""
    assert json.loads(json.dumps(table))["AP"] == table["AP"]


def test_importing_the_metrics_does_not_import_pycocotools():
    for file in Path(seglib.metrics.__file__).parent.glob("*.py"):
        for line in file.read_text().splitlines():
            assert not line.startswith(("import pycocotools", "from pycocotools")), file


# --- what cannot be ---------------------------------------------------------------------------

GOOD = objects([BOX, BOX]), objects([BOX], scores=[0.5])


@pytest.mark.parametrize(
    "which, change, message",
    [
        (0, {"boxes": None}, r"truth have the keys \['classes'\], expected \['boxes', 'classes'\]"),
        (1, {"scores": None}, "expected 'scores'.*swapped"),
        (0, {"boxes": np.zeros((3, 4))}, r"truth: boxes have shape \(3, 4\), expected \[2, 4\]"),
        (0, {"boxes": np.zeros((1, 2, 4))}, "no batch axis"),
        (0, {"classes": np.zeros((2, 1))}, r"classes have shape \(2, 1\)"),
        (0, {"boxes": [BOX, [0, 50, 100, 10]]}, r"hold \[\[0.*y1 <= y2.*width, height"),
        (1, {"boxes": [[0, 0, np.nan, 9]]}, "detections: boxes hold .*nan"),
        (0, {"boxes": [BOX, [5, 5, 5, 9]]}, r"true boxes \[1\] are empty"),
        (0, {"classes": [1, -1]}, r"classes hold \[-1\].*fill up a fixed size"),
        (0, {"classes": [1, 0.5]}, r"classes hold \[0\.5\]"),
        (1, {"scores": [np.nan]}, r"scores hold \[nan\]"),
        (1, {"scores": [0.5, 0.5]}, r"scores have shape \(2,\), expected \[1\]"),
        (0, {"iscrowd": [0, 2]}, r"iscrowd hold \[2\]"),
        (0, {"area": [0, -1]}, r"area hold \[-1\]"),
        (0, {"masks": np.full((2, 5, 5), 0.5)}, "masks hold .*Compare probabilities"),
    ],
)
def test_what_cannot_be_is_named(which, change, message):
    pair = list(GOOD)
    pair[which] = {k: v for k, v in (pair[which] | change).items() if v is not None}
    metric = COCOAveragePrecision()
    with pytest.raises(ValueError, match=message):
        metric.update_state([GOOD[0], pair[0]], [GOOD[1], pair[1]])
    assert metric.seen.pictures == []  # the good picture of the same call is not kept either


def test_masks_that_cannot_be():
    small = ONE | {"masks": ONE["masks"][:, :7], "scores": np.array([0.5])}
    with pytest.raises(ValueError, match=r"True masks of \(8, 8\) pixels, detected masks of \(7"):
        scored(ONE, small, "masks")
    with pytest.raises(ValueError, match=r"true masks \[0\] are empty"):
        scored(ONE | {"masks": np.zeros((1, 8, 8))}, NOTHING_FOUND, "masks")


@pytest.mark.parametrize(
    "truth, detections, message",
    [
        ([GOOD[0]], [], "1 pictures of truth and 0 of detections"),
        (np.zeros((1, 4)), GOOD[1], "truth came as ndarray, expected a dict"),
        ([GOOD[0]], [np.zeros(3)], "detections came as list"),
    ],
)
def test_pictures_that_do_not_belong_together(truth, detections, message):
    with pytest.raises(ValueError, match=message):
        scored(truth, detections)


def test_an_iou_type_that_is_none():
    with pytest.raises(ValueError, match="iou_type is 'bbox', expected 'boxes' or 'masks'"):
        COCOAveragePrecision("bbox")
