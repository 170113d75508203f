"""Proposals and detections against plain loops over NumPy arrays; runs on any backend."""

import keras
import numpy as np
import pytest

from seglib.core.letterbox import Fit, letterbox
from seglib.models.rcnn import MaskRCNNConfig
from seglib.models.rcnn.detection import at_full_size, select, sort
from seglib.models.rcnn.proposals import propose

to_numpy = keras.ops.convert_to_numpy
SIZE = 64
DEVIATIONS = (0.1, 0.1, 0.2, 0.2)


def overlap(a, b):
    height = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
    width = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    both = height * width
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def suppress(rows, threshold, limit):
    """Greedy suppression: rows are (score, class, box), best first."""
    kept = []
    for row in sorted(rows, key=lambda row: -row[0]):
        if all(row[1] != k[1] or overlap(row[2], k[2]) <= threshold for k in kept):
            kept.append(row)
    return kept[:limit]


def refine(box, deltas):
    """Moves and grows a box, and cuts it at the picture's edges."""
    size = box[2:] - box[:2]
    center = (box[:2] + box[2:]) / 2 + deltas[:2] * DEVIATIONS[:2] * size
    half = size * np.exp(deltas[2:] * DEVIATIONS[2:]) / 2
    return np.clip(np.concatenate([center - half, center + half]), 0, SIZE)


def random_boxes(rng, count):
    corner, size = rng.uniform(0, SIZE - 24, (count, 2)), rng.uniform(8, 30, (count, 2))
    return np.concatenate([corner, np.minimum(corner + size, SIZE)], axis=1).astype("float32")


# --- proposals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("post", [4, 30])
def test_proposals_by_a_loop(post):
    rng = np.random.default_rng(0)
    levels = [random_boxes(rng, 40), random_boxes(rng, 12), random_boxes(rng, 3)]
    objectness = rng.normal(0, 3, (2, 55)).astype("float32")
    deltas = rng.normal(size=(2, 55, 4)).astype("float32")
    sizes = {"pre_nms_top_k_predict": 10, "post_nms_top_k_predict": post}
    config = MaskRCNNConfig.small(**sizes, rpn_nms_iou=0.5)
    found = propose(objectness, deltas, levels, (SIZE, SIZE), config)
    boxes, scores = map(to_numpy, found)
    assert boxes.shape == (2, post, 4) and scores.shape == (2, post)
    anchors = np.concatenate(levels)
    for i in range(2):
        rows = []
        for start, end in ((0, 40), (40, 52), (52, 55)):
            best = sorted(range(start, end), key=lambda k: -objectness[i, k])[:10]
            rows += [
                (1 / (1 + np.exp(-objectness[i, k])), 0, refine(anchors[k], deltas[i, k]))
                for k in best
            ]
        expected = suppress(rows, 0.5, post)
        count = len(expected)
        np.testing.assert_allclose(scores[i, :count], [row[0] for row in expected], rtol=1e-5)
        np.testing.assert_allclose(boxes[i, :count], [row[2] for row in expected], atol=1e-3)
        assert (scores[i, count:] == -1).all() and (boxes[i, count:] == 0).all()


# --- detections -----------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [3, 40])
def test_detections_by_a_loop(limit):
    rng = np.random.default_rng(1)
    config = MaskRCNNConfig.small(
        image_size=(SIZE, SIZE),
        num_classes=3,
        class_names=None,
        max_detections=limit,
        detection_candidates=60,
        detection_min_score=0.2,
        detection_nms_iou=0.3,
    )
    proposals = np.stack([random_boxes(rng, 20) for _ in range(2)])
    proposals[:, 17:] = 0  # suppressed
    logits = rng.normal(0, 2, (2, 20, 4)).astype("float32")
    deltas = rng.normal(size=(2, 20, 3, 4)).astype("float32")
    found = {k: to_numpy(v) for k, v in select(proposals, logits, deltas, config).items()}
    for i in range(2):
        rows = []
        for k in range(17):
            odds = np.exp(logits[i, k] - logits[i, k].max())
            rows += [
                (p, c, refine(proposals[i, k], deltas[i, k, c]))
                for c, p in enumerate((odds / odds.sum())[:3])
                if p > 0.2
            ]
        expected = suppress(rows, 0.3, limit)
        count = len(expected)
        assert count == limit or (limit == 40 and count > 5)
        assert found["classes"][i, :count].tolist() == [row[1] for row in expected]
        np.testing.assert_allclose(found["scores"][i, :count], [r[0] for r in expected], rtol=1e-5)
        np.testing.assert_allclose(found["boxes"][i, :count], [r[2] for r in expected], atol=1e-3)
        assert (found["classes"][i, count:] == -1).all()
        assert not found["scores"][i, count:].any() and not found["boxes"][i, count:].any()


def test_nothing_is_found_in_nothing():
    config = MaskRCNNConfig.small()
    found = select(
        np.zeros((1, 5, 4), "float32"),
        np.full((1, 5, 3), 9, "float32"),
        np.zeros((1, 5, 2, 4), "float32"),
        config,
    )
    assert (to_numpy(found["classes"]) == -1).all() and (to_numpy(found["boxes"]) == 0).all()


def test_sorting_takes_every_part_along():
    found = {
        "scores": np.array([[0.2, 0.9, 0.0]], "float32"),
        "classes": np.array([[1, 0, -1]], "int32"),
        "masks": np.arange(3, dtype="float32").reshape(1, 3, 1, 1),
    }
    found = {name: to_numpy(x) for name, x in sort(found).items()}
    assert found["classes"].tolist() == [[0, 1, -1]]
    assert found["masks"].ravel().tolist() == [1, 0, 2]


# --- pictures of any size -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape, inner",
    [((64, 64), (64, 64)), ((128, 64), (64, 32)), ((30, 60), (32, 64)), ((1, 1), (64, 64))],
)
def test_a_picture_fills_one_side(shape, inner):
    image = np.full((*shape, 3), 200, "uint8")
    picture, fit = letterbox(image, (SIZE, SIZE))
    assert picture.shape == (SIZE, SIZE, 3) and picture.dtype == np.uint8
    assert (picture[: inner[0], : inner[1]] == 200).all()
    assert (picture[inner[0] :] == 127).all() and (picture[:, inner[1] :] == 127).all()
    assert fit.size == shape
    box = np.array([[0, 0, *inner]], "float32")
    np.testing.assert_allclose(fit.back(box), [[0, 0, *shape]], rtol=1e-6)


def test_the_rest_can_be_filled_otherwise():
    picture, _ = letterbox(np.full((32, 64, 3), 200, "uint8"), (SIZE, SIZE), fill=3)
    assert (picture[:32] == 200).all() and (picture[32:] == 3).all()


def test_a_picture_of_the_right_size_is_not_touched():
    image = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3)).astype("uint8")
    np.testing.assert_array_equal(letterbox(image, (SIZE, SIZE))[0], image)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_making_it_smaller_averages(dtype):
    # Stripes of one pixel: every second one alone would be black or white.
    image = np.zeros((512, 512, 3), dtype)
    image[:, ::2] = 200
    picture, _ = letterbox(image, (SIZE, SIZE))
    np.testing.assert_allclose(picture, 100, atol=4)


@pytest.mark.parametrize(
    "image, message",
    [
        (np.zeros((4, 4)), "expected .height, width, 3."),
        (np.zeros((4, 4, 4)), "expected .height, width, 3."),
        (np.zeros((0, 4, 3)), "at least one pixel"),
        (np.full((4, 4, 3), np.nan), "finite numbers"),
        (np.zeros((4, 4, 3), "complex64"), "finite numbers"),
    ],
)
def test_no_picture(image, message):
    with pytest.raises(ValueError, match=message):
        letterbox(image, (SIZE, SIZE))


def test_detections_come_back_at_the_pictures_size():
    # A picture of 32 x 16 was doubled; its right half of 64 x 64 is gray.
    fit = Fit((32, 16), (64, 32))
    found = {
        "boxes": np.array([[8, 8, 24, 24], [0, 40, 64, 64], [48, 16, 72, 48], [0] * 4], "float32"),
        "classes": np.array([1, 0, 0, -1]),
        "scores": np.array([0.9, 0.8, 0.7, 0], "float32"),
        "masks": np.ones((4, 8, 8), "float32"),
    }
    result = at_full_size(found, fit)
    assert result["classes"].tolist() == [1, 0] and result["masks"].shape == (2, 32, 16)
    np.testing.assert_array_equal(result["boxes"], [[4, 4, 12, 12], [24, 8, 32, 16]])
    for box, mask in zip(result["boxes"].astype(int), result["masks"], strict=True):
        expected = np.zeros((32, 16), bool)
        expected[box[0] : box[2], box[1] : box[3]] = True
        np.testing.assert_array_equal(mask, expected)
