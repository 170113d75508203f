"""The metrics against scikit-learn, hand-computed cases and properties; runs on any backend."""

import keras
import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from seglib.core.distance import pack_distances
from seglib.metrics import (
    ClassIoU,
    DiceScore,
    MeanIoU,
    PixelAccuracy,
    confusion,
    confusion_matrix,
)

to_numpy = keras.ops.convert_to_numpy

# Truth and prediction of one 3 x 3 picture, counted by hand:
#               predicted 0  1  2
#     truth 0             2  1  0
#     truth 1             1  1  1
#     truth 2             0  0  3
TRUTH = np.array([[[0, 0, 0], [1, 1, 1], [2, 2, 2]]])
PREDICTION = np.array([[[0, 0, 1], [0, 1, 2], [2, 2, 2]]])
MATRIX = [[2, 1, 0], [1, 1, 1], [0, 0, 3]]
IOU = (2 / 4, 1 / 4, 3 / 4)
DICE = (4 / 6, 2 / 5, 6 / 7)

METRICS = [
    (PixelAccuracy, {}, 6 / 9),
    (MeanIoU, {}, 0.5),
    (ClassIoU, {"class_id": 0}, IOU[0]),
    (ClassIoU, {"class_id": 1}, IOU[1]),
    (ClassIoU, {"class_id": 2}, IOU[2]),
    (DiceScore, {}, sum(DICE) / 3),
    (DiceScore, {"class_id": 0}, DICE[0]),
    (DiceScore, {"class_id": 1}, DICE[1]),
    (DiceScore, {"class_id": 2}, DICE[2]),
]
IDS = [f"{cls.__name__}-{kw.get('class_id', 'all')}" for cls, kw, _ in METRICS]


def random_pair(seed, shape=(3, 9, 11), num_classes=4, ignored=0.2):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, num_classes, shape)
    # More right than wrong, so that the classes differ in their scores.
    prediction = np.where(rng.random(shape) < 0.6, truth, rng.integers(0, num_classes, shape))
    return np.where(rng.random(shape) < ignored, 255, truth), prediction


def one_hot(labels, num_classes):
    """Logits whose argmax is the label map, with the other channels in disorder."""
    noise = np.random.default_rng(5).normal(size=(*labels.shape, num_classes))
    return (noise + 20.0 * np.eye(num_classes)[labels]).astype("float32")


def sklearn_matrix(truth, prediction, num_classes, ignore_label=255):
    keep = truth != ignore_label
    return sklearn_metrics.confusion_matrix(
        truth[keep], prediction[keep], labels=range(num_classes)
    )


def result(metric, *batches, **kwargs):
    for truth, prediction in batches:
        metric.update_state(truth, prediction, **kwargs)
    return float(to_numpy(metric.result()))


# --- the matrix -------------------------------------------------------------------------------


def test_the_matrix_of_the_hand_counted_picture():
    matrix = to_numpy(confusion_matrix(TRUTH, PREDICTION, 3))
    assert matrix.dtype == "int32"
    np.testing.assert_array_equal(matrix, MATRIX)


@pytest.mark.parametrize("num_classes", [2, 3, 21])
@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64", "float32"])
def test_the_matrix_equals_scikit_learns(num_classes, dtype):
    truth, prediction = random_pair(num_classes, num_classes=num_classes)
    matrix = confusion_matrix(truth.astype(dtype), prediction.astype(dtype), num_classes)
    np.testing.assert_array_equal(to_numpy(matrix), sklearn_matrix(truth, prediction, num_classes))


@pytest.mark.parametrize("ignore_label", [0, 2, 255, -1, None])
def test_any_label_can_be_the_ignored_one(ignore_label):
    truth, prediction = random_pair(3, ignored=0)
    truth[0, 0, :3] = 2 if ignore_label is None else ignore_label
    np.testing.assert_array_equal(
        to_numpy(confusion_matrix(truth, prediction, 4, ignore_label=ignore_label)),
        sklearn_matrix(truth, prediction, 4, ignore_label),
    )


def test_labels_that_are_no_class_are_not_counted():
    truth = np.array([[[0, 7, -1, 1]]])
    prediction = np.array([[[0, 0, 0, 9]]])
    np.testing.assert_array_equal(
        to_numpy(confusion_matrix(truth, prediction, 2)), [[1, 0], [0, 0]]
    )


def test_pixels_of_weight_zero_do_not_count():
    truth, prediction = random_pair(1, num_classes=3)
    weight = np.random.default_rng(2).integers(0, 3, truth.shape).astype("float32")
    expected = sklearn_matrix(truth[weight > 0], prediction[weight > 0], 3)
    matrix = confusion_matrix(truth, prediction, 3, sample_weight=weight)
    np.testing.assert_array_equal(to_numpy(matrix), expected)


def test_one_weight_a_picture_drops_whole_pictures():
    truth, prediction = random_pair(1, num_classes=3)
    matrix = confusion_matrix(truth, prediction, 3, sample_weight=np.array([1.0, 0.0, 0.5]))
    np.testing.assert_array_equal(
        to_numpy(matrix), sklearn_matrix(truth[[0, 2]], prediction[[0, 2]], 3)
    )


@pytest.mark.parametrize(
    "pred_shape, weight_shape, message",
    [
        ((2, 4, 4, 3), None, "argmax"),
        ((2, 4, 5), None, r"expected the same"),
        ((2, 4, 1), None, r"expected the same"),  # would broadcast
        ((2, 4, 4), (2, 4, 4, 1), "sample_weight has shape"),
        ((2, 4, 4), (3,), "sample_weight has shape"),
    ],
)
def test_shapes_that_do_not_belong_together(pred_shape, weight_shape, message):
    weight = None if weight_shape is None else np.ones(weight_shape)
    with pytest.raises(ValueError, match=message):
        confusion_matrix(np.zeros((2, 4, 4)), np.zeros(pred_shape), 3, sample_weight=weight)


# --- the scores -------------------------------------------------------------------------------


@pytest.mark.parametrize("cls, kwargs, expected", METRICS, ids=IDS)
def test_the_scores_of_the_hand_counted_picture(cls, kwargs, expected):
    assert result(cls(3, **kwargs), (TRUTH, one_hot(PREDICTION, 3))) == pytest.approx(expected)
    labels = cls(3, from_logits=False, **kwargs)
    assert result(labels, (TRUTH, PREDICTION)) == pytest.approx(expected)


def test_the_scores_of_each_class():
    scores = {MeanIoU(4): IOU, ClassIoU(4, class_id=1): IOU, DiceScore(4): DICE}
    for metric, expected in (scores | {PixelAccuracy(4): (2 / 3, 1 / 3, 1)}).items():
        metric.update_state(TRUTH, one_hot(PREDICTION, 4))
        found = metric.per_class()
        assert isinstance(found, np.ndarray) and found.dtype == "float32"
        np.testing.assert_allclose(found, [*expected, np.nan], rtol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_the_scores_equal_scikit_learns(seed):
    truth, prediction = random_pair(seed)
    keep = truth != 255
    flat = truth[keep], prediction[keep]
    pair = (truth, one_hot(prediction, 4))
    approx = pytest.approx
    assert result(PixelAccuracy(4), pair) == approx(sklearn_metrics.accuracy_score(*flat))
    assert result(MeanIoU(4), pair) == approx(sklearn_metrics.jaccard_score(*flat, average="macro"))
    assert result(DiceScore(4), pair) == approx(sklearn_metrics.f1_score(*flat, average="macro"))
    jaccard = sklearn_metrics.jaccard_score(*flat, average=None)
    for c in range(4):
        assert result(ClassIoU(4, class_id=c), pair) == approx(jaccard[c])


@pytest.mark.parametrize("seed", range(3))
def test_dice_and_iou_of_a_class_are_one_function_of_each_other(seed):
    pair = random_pair(seed)
    for c in range(4):
        iou = result(ClassIoU(4, class_id=c, from_logits=False), pair)
        dice = result(DiceScore(4, class_id=c, from_logits=False), pair)
        assert dice == pytest.approx(2 * iou / (1 + iou))


def test_a_class_in_neither_map_is_left_out_of_the_mean():
    # Five classes, of which 3 and 4 occur nowhere.
    pair = TRUTH, PREDICTION
    assert result(MeanIoU(5, from_logits=False), pair) == pytest.approx(0.5)
    assert result(DiceScore(5, from_logits=False), pair) == pytest.approx(sum(DICE) / 3)
    assert np.isnan(result(ClassIoU(5, class_id=4, from_logits=False), pair))
    assert np.isnan(result(DiceScore(5, class_id=4, from_logits=False), pair))


def test_a_class_that_is_predicted_but_absent_counts_as_zero():
    truth, prediction = np.array([[[0, 0, 1, 1]]]), np.array([[[0, 2, 1, 1]]])
    # IoU 1/2, 2/2 and 0/1; Dice 2/3, 1 and 0
    assert result(MeanIoU(3, from_logits=False), (truth, prediction)) == pytest.approx(0.5)
    assert result(ClassIoU(3, class_id=2, from_logits=False), (truth, prediction)) == 0.0
    assert result(DiceScore(3, from_logits=False), (truth, prediction)) == pytest.approx(5 / 9)


def test_what_is_predicted_on_ignored_pixels_does_not_matter():
    truth = np.where(TRUTH == 1, 255, TRUTH)
    # left: truth 0 as 0, 0, 1 and truth 2 as 2, 2, 2
    for filler in range(3):
        prediction = np.where(truth == 255, filler, PREDICTION)
        assert result(PixelAccuracy(3, from_logits=False), (truth, prediction)) == pytest.approx(
            5 / 6
        )
        mean = result(MeanIoU(3, from_logits=False), (truth, prediction))
        assert mean == pytest.approx((2 / 3 + 0 / 1 + 1) / 3)


@pytest.mark.parametrize("cls, kwargs, _", METRICS, ids=IDS)
def test_with_every_pixel_ignored_there_is_no_score(cls, kwargs, _):
    metric = cls(3, from_logits=False, **kwargs)
    assert np.isnan(result(metric))  # before the first pixel
    assert np.isnan(result(metric, (np.full((1, 3, 3), 255), PREDICTION)))


@pytest.mark.parametrize("cls, kwargs, expected", METRICS, ids=IDS)
def test_perfect_and_worst_scores(cls, kwargs, expected):
    assert result(cls(3, from_logits=False, **kwargs), (TRUTH, TRUTH)) == 1.0
    assert result(cls(3, from_logits=False, **kwargs), (TRUTH, (TRUTH + 1) % 3)) == 0.0


@pytest.mark.parametrize("num_classes", [2, 3])
def test_truth_that_is_packed_with_distances(num_classes):
    truth, prediction = random_pair(8, num_classes=num_classes)
    packed = pack_distances(truth, num_classes)
    assert tuple(packed.shape) == (*truth.shape, 1 + num_classes, 1)
    for y_pred, from_logits in ((one_hot(prediction, num_classes), True), (prediction, False)):
        metric = MeanIoU(num_classes, from_logits=from_logits)
        metric.update_state(packed, y_pred)
        expected = sklearn_matrix(truth, prediction, num_classes)
        np.testing.assert_array_equal(metric.counts(), expected)


def test_one_channel_is_the_logit_of_class_1():
    truth, prediction = random_pair(9, num_classes=2)
    logits = np.where(prediction == 1, 0.5, -0.5).astype("float32")[..., None]
    for y_true in (truth, pack_distances(truth, 2)):
        metric = MeanIoU(2)
        metric.update_state(y_true, logits)
        np.testing.assert_array_equal(metric.counts(), sklearn_matrix(truth, prediction, 2))
    with pytest.raises(ValueError, match="1 channels, expected 3"):
        MeanIoU(3).update_state(truth, logits)


def test_sample_weight_masks_pixels():
    weight = (TRUTH != 1).astype("float32")
    metric = PixelAccuracy(3)
    score = result(metric, (TRUTH, one_hot(PREDICTION, 3)), sample_weight=weight)
    assert score == pytest.approx(5 / 6)


# --- a whole epoch ----------------------------------------------------------------------------


def test_uneven_batches_give_the_score_of_the_whole_and_not_the_mean_of_batches():
    truth, prediction = random_pair(7, shape=(10, 8, 8))
    truth[:5], prediction[:5] = 0, 0  # easy pictures first: the batches differ
    parts = [slice(0, 5), slice(5, 6), slice(6, 10)]
    streamed = result(MeanIoU(4, from_logits=False), *((truth[p], prediction[p]) for p in parts))
    whole = sklearn_metrics.jaccard_score(
        truth[truth != 255], prediction[truth != 255], average="macro"
    )
    single = [result(MeanIoU(4, from_logits=False), (truth[p], prediction[p])) for p in parts]
    assert streamed == pytest.approx(whole)
    assert abs(streamed - np.mean(single)) > 0.05


def test_reset_forgets():
    metric = MeanIoU(3, from_logits=False)
    result(metric, (TRUTH, (TRUTH + 1) % 3))
    metric.reset_state()
    np.testing.assert_array_equal(metric.counts(), np.zeros((3, 3)))
    assert result(metric, (TRUTH, PREDICTION)) == pytest.approx(0.5)


def test_the_count_is_exact_where_float32_is_not():
    # 2**24 + 3 pixels in one batch: a float32 counter would stop at 2**24.
    size = 2**24 + 3
    truth = np.zeros((1, 1, size), "uint8")
    metric = PixelAccuracy(2, from_logits=False)
    metric.update_state(truth, truth)
    assert np.float32(2**24) + np.float32(1) == 2**24  # the trap
    assert metric.counts()[0, 0] == size
    metric.update_state(truth[:, :, :1], truth[:, :, :1])
    assert metric.counts()[0, 0] == size + 1


@pytest.mark.parametrize("before", [2**30 - 1, 2**30 - 9, 2**30 - 10])
def test_the_count_carries_over_at_2_to_the_30(before):
    metric = MeanIoU(3, from_logits=False)
    metric.low.assign(np.full((3, 3), before, "int32"))
    metric.high.assign(np.full((3, 3), 5, "int32"))
    metric.update_state(TRUTH, PREDICTION)
    expected = 5 * 2**30 + before + np.array(MATRIX, "int64")
    np.testing.assert_array_equal(metric.counts(), expected)
    np.testing.assert_allclose(to_numpy(metric.matrix()), expected.astype("float32"), rtol=1e-6)


def test_sums_of_many_huge_batches_are_exact(monkeypatch):
    # Batches of half a billion pixels a cell, without their pixels: 200 of them pass 2**36.
    batch = np.array([[2**29 + 1, 3], [2**30 - 1, 2**29 - 7]])
    monkeypatch.setattr(
        confusion, "confusion_matrix", lambda *_, **__: keras.ops.array(batch, "int32")
    )
    metric = PixelAccuracy(2, from_logits=False)
    for _ in range(200):
        metric.update_state(np.zeros((1, 1, 1)), np.zeros((1, 1, 1)))
    np.testing.assert_array_equal(metric.counts(), 200 * batch.astype("int64"))
    share = (batch[0, 0] + batch[1, 1]) / batch.sum()
    assert float(to_numpy(metric.result())) == pytest.approx(share)


# --- as a Keras metric ------------------------------------------------------------------------


def tiny_model(**compile_kwargs):
    keras.utils.set_random_seed(1)
    image = keras.Input((None, None, 3))
    model = keras.Model(image, keras.layers.Conv2D(3, 1)(image))
    metrics = [
        PixelAccuracy(3),
        MeanIoU(3),
        ClassIoU(3, class_id=2, name="iou_border"),
        DiceScore(3),
    ]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
    model.compile("sgd", loss, metrics=metrics, **compile_kwargs)
    return model


def test_evaluate_equals_the_direct_count():
    rng = np.random.default_rng(0)
    images = rng.normal(size=(7, 6, 5, 3)).astype("float32")
    masks = rng.choice([0, 1, 2, 255], size=(7, 6, 5)).astype("uint8")
    model = tiny_model()
    history = model.fit(images, masks, batch_size=3, epochs=2, verbose=0, shuffle=False).history
    assert all(np.isfinite(history["mean_iou"])) and len(history["iou_border"]) == 2
    scores = model.evaluate(images, masks, batch_size=2, verbose=0, return_dict=True)
    labels = model.predict(images, verbose=0).argmax(-1)
    keep = masks != 255
    flat = masks[keep], labels[keep]
    jaccard = sklearn_metrics.jaccard_score(*flat, average=None)
    assert scores["pixel_accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(*flat))
    assert scores["mean_iou"] == pytest.approx(jaccard.mean())
    assert scores["iou_border"] == pytest.approx(jaccard[2])
    assert scores["dice"] == pytest.approx(sklearn_metrics.f1_score(*flat, average="macro"))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_logits_of_low_precision(dtype):
    truth, prediction = random_pair(4, num_classes=3)
    logits = keras.ops.cast(one_hot(prediction, 3), dtype)
    metric = MeanIoU(3)
    metric.update_state(truth, logits)
    np.testing.assert_array_equal(metric.counts(), sklearn_matrix(truth, prediction, 3))
    assert keras.backend.standardize_dtype(metric.result().dtype) == "float32"


@pytest.mark.parametrize("cls, kwargs, expected", METRICS, ids=IDS)
def test_a_metric_survives_serialization(cls, kwargs, expected):
    metric = cls(3, ignore_label=7, from_logits=False, name="score", **kwargs)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    assert type(copy) is cls and copy.name == "score"
    assert copy.get_config() == metric.get_config()
    truth = np.concatenate([TRUTH, np.full((1, 3, 3), 7)])  # the second picture is ignored
    prediction = np.concatenate([PREDICTION, np.zeros((1, 3, 3), int)])
    assert result(copy, (truth, prediction)) == pytest.approx(expected)


@pytest.mark.parametrize(
    "metric, name",
    [
        (PixelAccuracy(3), "pixel_accuracy"),
        (MeanIoU(3), "mean_iou"),
        (ClassIoU(3, class_id=1), "iou_1"),
        (DiceScore(3), "dice"),
    ],
)
def test_names(metric, name):
    assert metric.name == name


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: MeanIoU(1), "num_classes is 1, expected at least 2"),
        (lambda: ClassIoU(3, class_id=3), "class_id is 3, expected 0 to 2"),
        (lambda: ClassIoU(3, class_id=-1), "class_id is -1"),
        (lambda: DiceScore(3, class_id=3), "class_id is 3, expected 0 to 2, or None"),
    ],
)
def test_arguments_that_make_no_sense(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize(
    "true_shape, pred_shape, from_logits, message",
    [
        ((1, 3, 3, 1), (1, 3, 3, 3), True, r"masks\[\.\.\., 0\]"),
        ((1, 3, 3, 3), (1, 3, 3, 3), True, "argmax"),
        ((3, 3), (1, 3, 3, 3), True, r"expected \[B, H, W\]"),
        ((1, 3, 3), (1, 3, 3), True, "from_logits=False"),
        ((1, 3, 3), (1, 3, 3, 3), False, "from_logits=True"),
        ((1, 3, 3), (1, 3, 3, 4), True, "4 channels, expected 3"),
        ((1, 3, 3), (1, 3, 4, 3), True, "differ in width"),
        ((1, 3, 3), (1, 4, 3, 3), True, "differ in height"),
        ((2, 3, 3), (1, 3, 3), False, "differ in batch size"),
    ],
)
def test_wrong_shapes(true_shape, pred_shape, from_logits, message):
    metric = MeanIoU(3, from_logits=from_logits)
    with pytest.raises(ValueError, match=message):
        metric.update_state(np.zeros(true_shape), np.zeros(pred_shape))
