"""The panoptic merge by hand, by its definition, and through panoptic quality."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seglib.inference import panoptic
from seglib.metrics import PanopticQuality

VOID = 255


def detections(*rows, shape=(4, 6)):
    """Rectangles: (class, score, y1, x1, y2, x2)."""
    masks = np.zeros((len(rows), *shape), bool)
    for mask, (_, _, y1, x1, y2, x2) in zip(masks, rows, strict=True):
        mask[y1:y2, x1:x2] = True
    return {
        "masks": masks,
        "classes": np.array([row[0] for row in rows], int),
        "scores": np.array([row[1] for row in rows], float),
    }


# Background 0, cat 1, dog 2, grass 3; the label map sees grass below and a cat at the left.
LABELS = np.array(
    [
        [1, 1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [3, 3, 3, 3, 3, 3],
        [3, 3, 3, 3, 3, 3],
    ]
)


def test_the_better_one_takes_what_both_claim():
    found = detections((0, 0.6, 0, 0, 2, 3), (1, 0.9, 1, 2, 4, 4))
    classes, instances = panoptic.merge(found, LABELS, things=(1, 2))
    assert classes.tolist() == [
        [1, 1, 1, 0, 0, 0],
        [1, 1, 2, 2, 0, 0],
        [3, 3, 2, 2, 3, 3],
        [3, 3, 2, 2, 3, 3],
    ]
    assert instances.tolist() == [
        [1, 1, 1, -1, -1, -1],
        [1, 1, 0, 0, -1, -1],
        [-1, -1, 0, 0, -1, -1],
        [-1, -1, 0, 0, -1, -1],
    ]
    assert classes.dtype == instances.dtype == np.int32


def test_a_thing_of_the_label_map_without_a_detection_is_void():
    classes, instances = panoptic.merge(detections(), LABELS, things=(1, 2))
    assert classes[:2, :2].tolist() == [[VOID, VOID]] * 2
    assert (classes[2:] == 3).all() and (classes[:2, 2:] == 0).all()
    assert (instances == -1).all()
    assert (panoptic.merge(detections(), LABELS, things=(1, 2), ignore_label=9)[0][0, 0]) == 9


@pytest.mark.parametrize(
    "columns, kept",
    [(3, True), (2, False)],  # of the second one's 4 columns, so many are free
)
def test_more_than_half_hidden_is_dropped(columns, kept):
    found = detections((0, 0.9, 0, 0, 2, 4), (0, 0.8, 0, columns, 2, columns + 4), shape=(2, 8))
    hidden = (4 - columns) / 4
    _, instances = panoptic.merge(
        found, np.zeros((2, 8), int), things=(1,), overlap=hidden if kept else hidden - 0.01
    )
    assert (instances == 1).any() == kept
    assert (instances[0] == 0).sum() == 4


def test_exactly_half_hidden_stays_by_default():
    found = detections((0, 0.9, 0, 0, 2, 2), (0, 0.8, 0, 0, 2, 4))
    _, instances = panoptic.merge(found, np.zeros((4, 6), int), things=(1,))
    assert instances[0].tolist() == [0, 0, 1, 1, -1, -1]
    found = detections((0, 0.9, 0, 0, 2, 3), (0, 0.8, 0, 0, 2, 4))
    _, instances = panoptic.merge(found, np.zeros((4, 6), int), things=(1,))
    assert instances[0].tolist() == [0, 0, 0, -1, -1, -1]


def test_a_dropped_detection_hides_nothing():
    """The second is dropped, so the third keeps what only the second disputed."""
    found = detections(
        (0, 0.9, 0, 0, 1, 4), (0, 0.8, 0, 1, 1, 6), (0, 0.7, 0, 3, 1, 6), shape=(1, 6)
    )
    _, instances = panoptic.merge(found, np.zeros((1, 6), int), things=(1,))
    assert instances[0].tolist() == [0, 0, 0, 0, 1, 1]


def test_low_scores_padding_and_empty_masks_are_no_instances():
    found = detections((0, 0.4, 0, 0, 2, 2), (-1, 0.9, 0, 2, 2, 4), (1, 0.9, 0, 0, 0, 0))
    _, instances = panoptic.merge(found, LABELS, things=(1, 2))
    assert (instances == -1).all()
    _, instances = panoptic.merge(found, LABELS, things=(1, 2), min_score=0.4)
    assert (instances == 0).sum() == 4


def test_small_stuff_becomes_void():
    classes, _ = panoptic.merge(detections(), LABELS, things=(1, 2), stuff_area=9)
    assert (classes[:2, 2:] == VOID).all() and (classes[2:] == 3).all()  # 8 and 12 pixels
    # What counts is what the things leave of it.
    grass = detections((0, 0.9, 2, 0, 4, 2))
    classes, _ = panoptic.merge(grass, LABELS, things=(1, 2), stuff_area=9)
    assert (classes[2:, 2:] == VOID).all()


def test_equal_scores_keep_their_order():
    found = detections((0, 0.7, 0, 0, 2, 3), (1, 0.7, 0, 2, 2, 6))
    classes, _ = panoptic.merge(found, LABELS, things=(1, 2))
    assert classes[0].tolist() == [1, 1, 1, 2, 2, 2]
    without = {key: value for key, value in found.items() if key != "scores"}
    np.testing.assert_array_equal(panoptic.merge(without, LABELS, things=(1, 2))[0], classes)


@given(
    seed=st.integers(0, 2**32 - 1), count=st.integers(0, 5), overlap=st.sampled_from([0, 0.3, 0.5])
)
def test_the_result_is_a_panoptic_picture(seed, count, overlap):
    rng = np.random.default_rng(seed)
    found = {
        "masks": rng.random((count, 5, 7)) < 0.4,
        "classes": rng.integers(0, 2, count),
        "scores": rng.random(count),
    }
    labels = rng.integers(0, 4, (5, 7))
    classes, instances = panoptic.merge(found, labels, things=(1, 2), overlap=overlap)
    numbers = np.unique(instances[instances >= 0])
    assert numbers.tolist() == list(range(len(numbers)))
    assert ((instances >= 0) == np.isin(classes, (1, 2))).all()
    stuff = np.isin(classes, (0, 3))
    assert (classes[stuff] == labels[stuff]).all()
    for n in numbers:  # each lies inside a detection of its class, and shows enough of it
        pixels = instances == n
        fits = [
            (pixels & ~mask).sum() == 0
            and pixels.sum() >= (1 - overlap) * mask.sum() - 1e-9
            and (classes[pixels] == 1 + kind).all()
            for mask, kind in zip(found["masks"], found["classes"], strict=True)
        ]
        assert any(fits)


def score(truth, predicted):
    metric = PanopticQuality(4, things=[1, 2])
    metric.update_state(*(np.stack(maps, axis=-1)[None] for maps in (truth, predicted)))
    return metric.table()


def test_truth_against_itself_has_quality_one():
    scene = detections((0, 1.0, 0, 0, 2, 2), (1, 1.0, 1, 3, 4, 5))
    truth = panoptic.merge(scene, LABELS, things=(1, 2))
    assert score(truth, truth)["all"] == {"PQ": 1.0, "SQ": 1.0, "RQ": 1.0, "classes": 4}


def test_a_missed_and_a_wrong_object_by_hand():
    labels = np.zeros((4, 6), int)
    true = detections((0, 1.0, 0, 0, 2, 2), (0, 1.0, 0, 4, 2, 6))
    # The first cat is found with IoU 4/6, the second is missed, and there is a dog that is none.
    found = detections((0, 0.9, 0, 0, 2, 3), (1, 0.8, 2, 0, 4, 2))
    table = score(
        panoptic.merge(true, labels, things=(1, 2)), panoptic.merge(found, labels, things=(1, 2))
    )
    cat, dog, background = (table["per_class"][c] for c in (1, 2, 0))
    assert (cat["TP"], cat["FP"], cat["FN"]) == (1, 0, 1)
    assert cat["SQ"] == pytest.approx(4 / 6) and cat["RQ"] == pytest.approx(1 / 1.5)
    assert (dog["TP"], dog["FP"], dog["FN"]) == (0, 1, 0)
    # Of 16 true pixels the prediction takes 2 for the cat and 4 for the dog, and it adds 4: an IoU
    # of 10 / 20, and one half is no match.
    assert (background["TP"], background["FP"], background["FN"]) == (0, 1, 1)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"label_map": LABELS[None]}, r"shape \(1, 4, 6\), expected whole numbers \[H, W\]"),
        ({"label_map": LABELS / 2}, "float64"),
        ({"label_map": LABELS[:3]}, r"shape \(1, 4, 6\), expected \(1, 3, 6\)"),
        ({"masks": np.full((1, 4, 6), 0.5)}, "other values than 0 and 1"),
        ({"classes": np.array([2])}, "class 2, expected 0 to 1"),
        ({"scores": np.array([np.nan])}, "expected 1 finite numbers"),
        ({"things": (1, 1)}, "a different id for each class"),
    ],
    ids=["batch", "logits", "size", "probabilities", "class", "score", "things"],
)
def test_what_does_not_fit_is_named(change, message):
    found = detections((0, 0.9, 0, 0, 2, 2))
    found |= {key: value for key, value in change.items() if key in found}
    with pytest.raises(ValueError, match=message):
        panoptic.merge(found, change.get("label_map", LABELS), things=change.get("things", (1, 2)))
