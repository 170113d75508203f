"""Panoptic quality against hand-computed cases, a set-based evaluator and properties."""

import json

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seglib.metrics import PanopticQuality

to_numpy = keras.ops.convert_to_numpy
VOID = 255


def panoptic(classes, instances=None):
    """One row of pixels (or any array) as `[1, H, W, 2]`."""
    classes = np.atleast_2d(classes)
    instances = np.zeros_like(classes) if instances is None else np.atleast_2d(instances)
    return np.stack([classes, instances], axis=-1)[None]


def scored(truth, prediction, num_classes=3, things=(1, 2), **kwargs):
    metric = PanopticQuality(num_classes, things=things, **kwargs)
    metric.update_state(truth, prediction)
    return metric


def same(table, other):
    """Equality of two tables in which NaN equals NaN."""
    return json.dumps(table) == json.dumps(other)


def result(metric):
    return float(to_numpy(metric.result()))


def brute_force(truths, predictions, num_classes, things):
    """(sum of IoU, TP, FP, FN) of each class by the paper's words, with sets of pixels."""
    scores = np.zeros((num_classes, 4))
    for truth, prediction in zip(truths, predictions, strict=True):
        void = {p for p in np.ndindex(truth.shape[:2]) if truth[p][0] == VOID}
        true_segments, pred_segments = segments(truth, things), segments(prediction, things)
        matched = set()
        for (true_class, _), g in true_segments.items():
            found = False
            for (pred_class, pred_id), p in pred_segments.items():
                seen = p - void
                if true_class == pred_class and len(g & seen) / len(g | seen) > 0.5:
                    assert not found and (pred_class, pred_id) not in matched, "not unique"
                    found = True
                    matched.add((pred_class, pred_id))
                    scores[true_class] += [len(g & seen) / len(g | seen), 1, 0, 0]
            scores[true_class, 3] += not found
        for key, p in pred_segments.items():
            if key not in matched and len(p & void) / len(p) <= 0.5:
                scores[key[0], 2] += 1
    return scores


def segments(picture, things):
    found = {}
    for pixel in np.ndindex(picture.shape[:2]):
        class_id, instance = picture[pixel].tolist()
        if class_id != VOID:
            key = (class_id, instance if class_id in things else 0)
            found.setdefault(key, set()).add(pixel)
    return found


def random_pair(seed, batch=3, size=10, num_classes=4, instances=3):
    """Blocky pictures of which the prediction is a shifted and disturbed copy."""
    rng = np.random.default_rng(seed)
    shape = (batch, size // 2, size // 2)
    blocks = np.stack([rng.integers(0, num_classes, shape), rng.integers(0, instances, shape)], -1)
    truth = blocks.repeat(2, axis=1).repeat(2, axis=2)
    pixels = truth.shape[:3]
    other = np.stack([rng.integers(0, n, pixels) for n in (num_classes, instances)], axis=-1)
    prediction = np.where(rng.random(pixels)[..., None] < 0.8, truth, other)
    truth[rng.random(pixels) < 0.15, 0] = VOID
    prediction[rng.random(pixels) < 0.05, 0] = VOID
    return truth, prediction


# --- cases counted by hand --------------------------------------------------------------------

# Ten pixels. Truth: five of stuff 0; cat (class 1) number 0 with three, number 1 with two.
TRUTH = panoptic([0, 0, 0, 0, 0, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0, 0, 0, 1, 1])
# The prediction takes one stuff pixel for cat 0 and splits cat 1 in a cat and a dog (class 2).
PREDICTION = panoptic([0, 0, 0, 0, 1, 1, 1, 1, 1, 2], [0, 0, 0, 0, 0, 0, 0, 0, 1, 0])


def test_the_scores_of_the_hand_counted_picture():
    # Stuff: 4 of 5, IoU 4/5. Cat 0: 3 of 4, IoU 3/4. Cat 1: 1 of 2 is exactly one half, no match:
    # one missed and one wrong. The dog is wrong.
    metric = scored(TRUTH, PREDICTION)
    table = metric.table()
    assert table["per_class"][0] == pytest.approx(
        {"PQ": 0.8, "SQ": 0.8, "RQ": 1.0, "TP": 1, "FP": 0, "FN": 0}
    )
    assert table["per_class"][1] == pytest.approx(
        {"PQ": 0.75 / 2, "SQ": 0.75, "RQ": 1 / 2, "TP": 1, "FP": 1, "FN": 1}
    )
    assert table["per_class"][2] == {"PQ": 0, "SQ": 0, "RQ": 0, "TP": 0, "FP": 1, "FN": 0}
    assert table["stuff"] == pytest.approx({"PQ": 0.8, "SQ": 0.8, "RQ": 1.0, "classes": 1})
    assert table["things"] == pytest.approx(
        {"PQ": 0.375 / 2, "SQ": 0.75 / 2, "RQ": 0.25, "classes": 2}
    )
    assert table["all"]["PQ"] == pytest.approx((0.8 + 0.375 + 0) / 3)
    assert result(metric) == pytest.approx((0.8 + 0.375 + 0) / 3)


def test_an_iou_of_exactly_one_half_is_no_match():
    metric = scored(panoptic([1, 1, 0]), panoptic([1, 0, 0]))
    assert metric.table()["per_class"][1] == {"PQ": 0, "SQ": 0, "RQ": 0, "TP": 0, "FP": 1, "FN": 1}
    # two of three is more than one half
    metric = scored(panoptic([1, 1, 1]), panoptic([1, 1, 0]))
    assert metric.table()["per_class"][1]["PQ"] == pytest.approx(2 / 3)


def test_void_pixels_of_the_truth_are_taken_from_the_prediction():
    # The predicted cat covers the true one, 3 pixels, and 4 of void: IoU 3/3, not 3/7.
    truth = panoptic([1, 1, 1, VOID, VOID, VOID, VOID])
    metric = scored(truth, panoptic([1] * 7))
    assert metric.table()["per_class"][1]["PQ"] == 1.0
    # What truth and prediction say of instances at void does not matter.
    truth[..., 1] = np.where(truth[..., 0] == VOID, 10**6, 0)
    assert result(scored(truth, panoptic([1] * 7))) == 1.0


@pytest.mark.parametrize("void, false_positives", [(1, 1), (2, 1), (3, 0), (4, 0)])
def test_a_prediction_that_is_mostly_void_is_no_false_positive(void, false_positives):
    # A dog of four pixels that is not there; exactly one half of void is not "mostly".
    truth = panoptic([VOID] * void + [0] * (4 - void) + [0] * 20)
    prediction = panoptic([2] * 4 + [0] * 20)
    assert scored(truth, prediction).table()["per_class"][2]["FP"] == false_positives


def test_pixels_that_the_prediction_leaves_open_belong_to_no_segment():
    # Three of four cat pixels found, the fourth left open: IoU 3/4 and nothing wrong.
    metric = scored(panoptic([1, 1, 1, 1]), panoptic([1, 1, 1, VOID]))
    assert metric.table()["per_class"][1] == pytest.approx(
        {"PQ": 0.75, "SQ": 0.75, "RQ": 1.0, "TP": 1, "FP": 0, "FN": 0}
    )


def test_stuff_is_one_segment_whatever_its_instance_ids():
    truth = panoptic([0, 0, 0, 0], [0, 1, 2, 10**6])
    assert result(scored(truth, panoptic([0, 0, 0, 0]))) == 1.0
    # The same ids at a thing are four segments against one.
    metric = scored(panoptic([1, 1, 1, 1], [0, 1, 2, 3]), panoptic([1, 1, 1, 1]))
    assert metric.table()["per_class"][1] == {"PQ": 0, "SQ": 0, "RQ": 0, "TP": 0, "FP": 1, "FN": 4}


def test_one_id_in_two_classes_and_two_pictures_is_four_segments():
    picture = panoptic([1, 1, 2, 2])
    metric = scored(np.concatenate([picture, picture]), np.concatenate([picture, picture]))
    assert [metric.table()["per_class"][c]["TP"] for c in range(3)] == [0, 2, 2]


# --- against the definition -------------------------------------------------------------------


@pytest.mark.parametrize("things", [(1, 2, 3), (2,), (), (0, 1, 2, 3)])
@pytest.mark.parametrize("seed", range(3))
def test_the_counts_equal_those_of_the_sets_of_pixels(seed, things):
    truth, prediction = random_pair(seed)
    expected = brute_force(truth, prediction, 4, things)
    assert expected[:, 1].sum() > 0, "the case tests nothing"
    assert not things or expected[:, 2:].sum() > 0, "the case tests nothing"
    metric = scored(truth, prediction, 4, things, max_instances=3)
    per_class = metric.table()["per_class"]
    for c, (iou, tp, fp, fn) in enumerate(expected):
        assert [per_class[c][key] for key in ("TP", "FP", "FN")] == [tp, fp, fn]
        assert per_class[c]["PQ"] == pytest.approx(iou / (tp + fp / 2 + fn / 2), rel=1e-6)
        assert per_class[c]["SQ"] == pytest.approx(iou / max(tp, 1), rel=1e-6)
    assert result(metric) == pytest.approx(metric.table()["all"]["PQ"], rel=1e-6)


@given(st.integers(0, 10**6))
def test_properties(seed):
    truth, prediction = random_pair(seed, batch=2, size=6)
    table = scored(truth, prediction, 4, (1, 2), max_instances=3).table()
    for scores in table["per_class"].values():
        if scores["TP"] + scores["FP"] + scores["FN"]:
            assert scores["PQ"] == pytest.approx(scores["SQ"] * scores["RQ"])
            assert 0 <= scores["PQ"] <= scores["RQ"] <= 1 and scores["SQ"] <= 1
            assert scores["SQ"] > 0.5 or scores["TP"] == 0
    assert result(scored(truth, truth, 4, (1, 2), max_instances=3)) == 1.0
    # Other names for the instances change nothing.
    names = np.random.default_rng(seed).permutation(3)
    renamed = prediction.copy()
    renamed[..., 1] = names[prediction[..., 1]]
    assert same(scored(truth, renamed, 4, (1, 2), max_instances=3).table(), table)


def test_truth_and_prediction_change_places_without_void():
    rng = np.random.default_rng(3)
    truth, prediction = (rng.integers(0, 2, (2, 8, 8, 2)) for _ in range(2))
    one = scored(truth, prediction, 2, (1,)).table()["per_class"][1]
    other = scored(prediction, truth, 2, (1,)).table()["per_class"][1]
    assert (one["PQ"], one["FP"], one["FN"]) == (other["PQ"], other["FN"], other["FP"])


# --- a whole epoch ----------------------------------------------------------------------------


def test_batches_in_any_order_give_the_same_bits_as_the_whole():
    truth, prediction = random_pair(5, batch=12)
    whole = scored(truth, prediction, 4, max_instances=3)
    for order in (range(12), range(11, -1, -1)):
        metric = PanopticQuality(4, things=(1, 2), max_instances=3)
        for i in order:
            metric.update_state(truth[i : i + 1], prediction[i : i + 1])
        assert metric.table() == whole.table()
        assert result(metric) == result(whole)


def test_the_state_of_replicas_adds_up():
    truth, prediction = random_pair(6, batch=6)
    whole = scored(truth, prediction, 4, max_instances=3)
    halves = [scored(truth[i::2], prediction[i::2], 4, max_instances=3) for i in range(2)]
    merged = PanopticQuality(4, things=(1, 2), max_instances=3)
    for variable, *parts in zip(merged.variables, *(h.variables for h in halves), strict=True):
        variable.assign(parts[0] + parts[1])
    assert merged.table() == whole.table()
    assert result(merged) == pytest.approx(result(whole), rel=1e-6)


def test_the_sum_of_many_ious_is_exact_where_float32_is_not():
    # 2**24 + 3 matches with an IoU of 2/3: a float32 sum would have stopped growing by one.
    metric = PanopticQuality(2, things=(1,))
    third = int(np.float32(2 / 3) * 2**24)
    before = (2**24 + 2) * third
    metric.whole.assign([0, before >> 24])
    metric.fraction.assign([0, before % 2**24])
    metric.counts.assign([[0, 2**24 + 2], [0, 0], [0, 0]])  # TP, FP, FN
    metric.update_state(panoptic([1, 1, 1]), panoptic([1, 1, VOID]))
    assert metric.table()["per_class"][1]["TP"] == 2**24 + 3
    whole, fraction = int(to_numpy(metric.whole)[1]), int(to_numpy(metric.fraction)[1])
    assert whole * 2**24 + fraction == (2**24 + 3) * third
    assert metric.table()["per_class"][1]["SQ"] == pytest.approx(2 / 3, rel=1e-7)


def test_reset_forgets():
    metric = scored(TRUTH, PREDICTION)
    metric.reset_state()
    assert np.isnan(result(metric))
    metric.update_state(TRUTH, TRUTH)
    assert result(metric) == 1.0


def test_without_any_segment_there_is_no_score():
    empty = panoptic([VOID, VOID])
    for metric in (PanopticQuality(3, things=(1,)), scored(empty, empty)):
        assert np.isnan(result(metric))
        table = metric.table()
        assert np.isnan(table["all"]["PQ"]) and table["all"]["classes"] == 0
        assert all(np.isnan(scores["PQ"]) for scores in table["per_class"].values())


def test_a_class_in_neither_map_is_left_out_of_the_means():
    metric = scored(TRUTH, TRUTH, 5, (1, 2, 3))
    np.testing.assert_array_equal(metric.per_class(), [1, 1, np.nan, np.nan, np.nan])
    table = metric.table()
    assert table["all"] == {"PQ": 1, "SQ": 1, "RQ": 1, "classes": 2}
    assert np.isnan(table["per_class"][4]["PQ"])


def test_pixels_and_pictures_of_weight_zero_are_void():
    truth, prediction = random_pair(8, batch=4)
    weight = np.random.default_rng(1).integers(0, 3, truth.shape[:3])
    hidden = truth.copy()
    hidden[weight == 0, 0] = VOID
    metric = PanopticQuality(4, things=(1, 2))
    metric.update_state(truth, prediction, sample_weight=weight)
    assert metric.table() == scored(hidden, prediction, 4).table()
    metric.reset_state()
    metric.update_state(truth, prediction, sample_weight=np.array([0, 1, 0.5, 0]))
    assert metric.table() == scored(truth[1:3], prediction[1:3], 4).table()


# --- as a Keras metric ------------------------------------------------------------------------


class Predicts(keras.layers.Layer):
    """Gives back the panoptic map that it was given, through a weight that can be trained."""

    def build(self, _):
        self.scale = self.add_weight((), initializer="ones")

    def call(self, inputs):
        return inputs * self.scale


@pytest.mark.parametrize("jit_compile", [False, True])
def test_evaluate_equals_the_eager_count(jit_compile):
    truth, prediction = random_pair(9, batch=7)
    inputs = keras.Input((None, None, 2))
    model = keras.Model(inputs, Predicts()(inputs))
    model.compile(
        loss="mse",
        metrics=[PanopticQuality(4, things=(1, 2), max_instances=3)],
        jit_compile=jit_compile,
    )
    scores = model.evaluate(
        prediction.astype("float32"), truth, batch_size=3, verbose=0, return_dict=True
    )
    expected = result(scored(truth, prediction, 4, max_instances=3))
    assert scores["panoptic_quality"] == pytest.approx(expected)


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32", "float64"])
def test_any_dtype_of_whole_numbers(dtype):
    metric = scored(TRUTH.astype(dtype), PREDICTION.astype(dtype))
    assert metric.table() == scored(TRUTH, PREDICTION).table()


def test_a_metric_survives_serialization():
    metric = PanopticQuality(4, things=(3, 1), max_instances=7, ignore_label=9, name="pq")
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    assert type(copy) is PanopticQuality and copy.get_config() == metric.get_config()
    assert (copy.name, copy.things, copy.max_instances, copy.ignore_label) == ("pq", (1, 3), 7, 9)


# --- what cannot be ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"num_classes": 1, "things": ()}, "num_classes is 1"),
        (
            {"num_classes": 3, "things": (1, 3)},
            r"things are \[1, 3\], expected class ids from 0 to 2",
        ),
        ({"num_classes": 3, "things": (-1,)}, r"things are \[-1\]"),
        ({"num_classes": 3, "things": (1,), "max_instances": 0}, "max_instances is 0"),
    ],
)
def test_arguments_that_make_no_sense(kwargs, message):
    with pytest.raises(ValueError, match=message):
        PanopticQuality(**kwargs)


@pytest.mark.parametrize(
    "true_shape, pred_shape, message",
    [
        ((1, 4, 4), (1, 4, 4, 2), r"truth has shape \(1, 4, 4\).*np\.stack"),
        ((1, 4, 4, 2), (1, 4, 4, 3), r"prediction has shape \(1, 4, 4, 3\)"),
        ((1, 4, 4, 2), (1, 4, 5, 2), "nearest neighbor"),
    ],
)
def test_wrong_shapes(true_shape, pred_shape, message):
    with pytest.raises(ValueError, match=message):
        scored(np.zeros(true_shape, int), np.zeros(pred_shape, int))


BAD = [
    (panoptic([3, 0]), r"class ids \[3\], expected whole numbers 0 to 2 or 255"),
    (panoptic([-1, 0]), r"class ids \[-1\]"),
    (panoptic([0.5, 0.0]), r"class ids \[0\.5\]"),
    (panoptic([np.nan, 0.0]), r"class ids \[nan\]"),
    (panoptic([1, 0], [100, 0]), r"instance ids \[100\], expected 0 to 99.*max_instances"),
    (panoptic([1, 0], [-1, 0]), r"instance ids \[-1\]"),
    (panoptic([1.0, 0.0], [0.5, 0]), r"instance ids \[0\.5\]"),
]


@pytest.mark.parametrize("bad, message", BAD)
def test_arrays_with_ids_that_cannot_be(bad, message):
    good = panoptic([0, 0])
    with pytest.raises(ValueError, match="The truth holds the " + message):
        scored(bad, good)
    with pytest.raises(ValueError, match="The prediction holds the " + message):
        scored(good, bad)


@pytest.mark.parametrize("bad, _", BAD)
def test_tensors_with_ids_that_cannot_be_give_nan(bad, _):
    bad, good = keras.ops.convert_to_tensor(bad), keras.ops.convert_to_tensor(panoptic([0, 0]))
    for pair in ((bad, good), (good, bad)):
        metric = scored(*pair)
        assert np.isnan(result(metric))
        with pytest.raises(ValueError, match="out of range"):
            metric.table()
