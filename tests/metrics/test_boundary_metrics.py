"""The boundary metrics against SciPy, scikit-image, NumPy and hand-computed pictures."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial import distance as scipy_distance
from skimage import metrics as skimage_metrics
from skimage import segmentation

from seglib.core.distance import edges, pack_distances
from seglib.losses import CrossEntropy
from seglib.metrics import AverageSurfaceDistance, BoundaryF1, BoundaryIoU, HausdorffDistance
from seglib.metrics.boundary import quantile

to_numpy = keras.ops.convert_to_numpy
ALL = [
    (BoundaryF1, {"tolerance": 2}),
    (BoundaryF1, {"average": "class"}),
    (BoundaryIoU, {"width": 2}),
    (BoundaryIoU, {"class_id": 1}),
    (HausdorffDistance, {}),
    (HausdorffDistance, {"percentile": 100}),
    (AverageSurfaceDistance, {"average": "class"}),
]
IDS = [f"{cls.__name__}-{'-'.join(map(str, kwargs.values()))}" for cls, kwargs in ALL]

# A square of 3 x 3 in a picture of 7 x 9, and the same one moved two pixels to the right.
SQUARE = np.zeros((1, 7, 9), "int32")
SQUARE[0, 2:5, 2:5] = 1
MOVED = np.roll(SQUARE, 2, axis=2)


def blobs(seed, shape=(2, 20, 27), num_classes=3):
    """Label maps with smooth regions, so that they have boundaries worth the name."""
    noise = np.random.default_rng(seed).normal(size=(*shape, num_classes))
    return ndimage.gaussian_filter(noise, (0, 2, 2, 0)).argmax(-1).astype("int32")


def one_hot(labels, num_classes):
    noise = np.random.default_rng(5).normal(size=(*labels.shape, num_classes))
    return (noise + 20.0 * np.eye(num_classes)[labels]).astype("float32")


def value(metric, *batches, **kwargs):
    for truth, prediction in batches:
        metric.update_state(truth, prediction, **kwargs)
    return float(to_numpy(metric.result()))


def on_labels(cls, num_classes=3, **kwargs):
    return cls(num_classes, from_logits=False, **kwargs)


# --- references, one picture and class at a time ----------------------------------------------


def boundary_points(mask):
    return np.argwhere(segmentation.find_boundaries(mask, connectivity=1, mode="inner") & mask)


def both_ways(truth, prediction):
    """Distances of the truth's boundary pixels to the prediction's boundary, and back."""
    true, predicted = boundary_points(truth), boundary_points(prediction)
    if not len(true) or not len(predicted):
        return None
    table = scipy_distance.cdist(true, predicted)
    return table.min(1), table.min(0)


def reference_f1(truth, prediction, tolerance):
    found = both_ways(truth, prediction)
    if found is None:
        has_one = len(boundary_points(truth)) or len(boundary_points(prediction))
        return 0.0 if has_one else np.nan
    recall, precision = (np.mean(distances <= tolerance) for distances in found)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def reference_hausdorff(truth, prediction, percentile):
    found = both_ways(truth, prediction)
    return np.nan if found is None else max(np.percentile(d, percentile) for d in found)


def reference_surface(truth, prediction):
    found = both_ways(truth, prediction)
    return np.nan if found is None else np.mean(np.concatenate(found))


def table(reference, truth, prediction, *args, num_classes=3):
    """The reference for each picture and class; NaN where there is none."""
    return np.array(
        [
            [reference(t == c, p == c, *args) for c in range(num_classes)]
            for t, p in zip(truth, prediction, strict=True)
        ]
    )


REFERENCES = [
    (BoundaryF1, {"tolerance": 0}, reference_f1, [0]),
    (BoundaryF1, {"tolerance": 1.5}, reference_f1, [1.5]),
    (BoundaryF1, {"tolerance": 0.06}, reference_f1, [0.06 * np.hypot(20, 27)]),
    (HausdorffDistance, {}, reference_hausdorff, [95]),
    (HausdorffDistance, {"percentile": 30}, reference_hausdorff, [30]),
    (HausdorffDistance, {"percentile": 100}, reference_hausdorff, [100]),
    (AverageSurfaceDistance, {}, reference_surface, []),
]


@pytest.mark.parametrize("cls, kwargs, reference, args", REFERENCES)
def test_the_scores_equal_scipys_and_scikit_images(cls, kwargs, reference, args):
    batches = [(blobs(seed), blobs(seed + 10)) for seed in range(2)]
    # one picture in which class 2 stands in the truth alone
    batches[1][1][0] = np.where(batches[1][1][0] == 2, 1, batches[1][1][0])
    expected = np.concatenate([table(reference, *pair, *args) for pair in batches])
    logits = [(truth, one_hot(prediction, 3)) for truth, prediction in batches]
    by_picture = np.nanmean(np.nanmean(expected, axis=1))
    by_class = np.nanmean(np.nanmean(expected, axis=0))
    assert value(cls(3, **kwargs), *logits) == pytest.approx(by_picture, abs=1e-4)
    metric = on_labels(cls, average="class", **kwargs)
    assert value(metric, *batches) == pytest.approx(by_class, abs=1e-4)
    np.testing.assert_allclose(
        to_numpy(metric.per_class()), np.nanmean(expected, axis=0), atol=1e-4
    )
    np.testing.assert_array_equal(metric.missed(), [0, 0, 1])


@pytest.mark.parametrize("seed", range(3))
def test_the_whole_hausdorff_distance_equals_scikit_images_and_scipys(seed):
    truth, prediction = blobs(seed, (1, 24, 24), 2), blobs(seed + 9, (1, 24, 24), 2)
    true, predicted = (
        segmentation.find_boundaries(m[0] == 1, mode="inner") for m in (truth, prediction)
    )
    per_class = HausdorffDistance(2, percentile=100, from_logits=False, average="class")
    per_class.update_state(truth, prediction)
    found = to_numpy(per_class.per_class())[1]
    assert found == pytest.approx(skimage_metrics.hausdorff_distance(true, predicted), abs=1e-4)
    directed = [
        scipy_distance.directed_hausdorff(np.argwhere(a), np.argwhere(b))[0]
        for a, b in ((true, predicted), (predicted, true))
    ]
    assert found == pytest.approx(max(directed), abs=1e-4)


def eroded_band(mask, width):
    """The mask without its erosion by `width` steps of a 3 x 3 square, with nothing outside."""
    padded = np.pad(mask, 1)
    return mask & ~ndimage.binary_erosion(padded, np.ones((3, 3)), iterations=width)[1:-1, 1:-1]


@pytest.mark.parametrize("width, pixels", [(1, 1), (3, 3), (40, 40), (0.02, 1), (0.07, 2)])
def test_boundary_iou_equals_erosion_by_scipy(width, pixels):
    truth, prediction = blobs(1, (3, 20, 27)), blobs(2, (3, 20, 27))
    if width < 1:
        assert max(1, round(width * np.hypot(20, 27))) == pixels
    expected = []
    for c in range(3):
        true = np.array([eroded_band(t == c, pixels) for t in truth])
        predicted = np.array([eroded_band(p == c, pixels) for p in prediction])
        expected.append((true & predicted).sum() / (true | predicted).sum())
    metric = on_labels(BoundaryIoU, width=width)
    score = value(metric, (truth[:2], prediction[:2]), (truth[2:], prediction[2:]))
    assert score == pytest.approx(np.mean(expected))
    np.testing.assert_allclose(to_numpy(metric.per_class()), expected, rtol=1e-6)
    single = value(BoundaryIoU(3, width=width, class_id=2), (truth, one_hot(prediction, 3)))
    assert single == pytest.approx(expected[2])


def test_a_band_as_wide_as_the_picture_gives_the_plain_iou():
    from seglib.metrics import MeanIoU

    pair = blobs(3), blobs(4)
    assert value(on_labels(BoundaryIoU, width=99), pair) == pytest.approx(
        value(on_labels(MeanIoU), pair)
    )


# --- by hand ----------------------------------------------------------------------------------


def test_the_boundary_pixels_of_a_hand_drawn_map():
    labels = np.array([[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]])
    # A corner of the picture touches the square across its corner only: no boundary.
    expected = [[0, 1, 1, 0], [1, 1, 1, 1], [1, 1, 1, 1], [0, 1, 1, 0]]
    np.testing.assert_array_equal(to_numpy(edges(keras.ops.array(labels[None])))[0], expected)


def test_the_frame_and_ignored_pixels_are_no_boundary():
    labels = keras.ops.array([[[0, 0, -1, 1, 1], [0, 0, -1, 1, 1]]])
    assert not to_numpy(edges(labels)).any()


def test_the_moved_square_by_hand():
    """Rows 2 to 4; columns 2 to 4 against 4 to 6. The square's boundary is its ring of 8 pixels.

    Distances of the true ring to the moved one: column 2 has 2 in each row, column 3 has 1 twice,
    column 4 has 0 at both corners and in the middle row (the moved ring's left column).
    """
    distances = [0, 0, 0, 1, 1, 2, 2, 2]
    metric = on_labels(HausdorffDistance, 2, average="class")
    metric.update_state(SQUARE, MOVED)
    assert to_numpy(metric.per_class())[1] == pytest.approx(np.percentile(distances, 95))
    metric = on_labels(AverageSurfaceDistance, 2, average="class")
    metric.update_state(SQUARE, MOVED)
    assert to_numpy(metric.per_class())[1] == pytest.approx(8 / 8)
    for tolerance, expected in ((0, 3 / 8), (1, 5 / 8), (2, 1.0)):
        metric = on_labels(BoundaryF1, 2, tolerance=tolerance)
        metric.update_state(SQUARE, MOVED)
        assert to_numpy(metric.per_class())[1] == pytest.approx(expected)


def test_the_bands_of_the_moved_square_by_hand():
    # Rings of 8 pixels that share the 3 pixels of column 4; plain IoU is 3 / 15.
    assert value(on_labels(BoundaryIoU, 2, width=1, class_id=1), (SQUARE, MOVED)) == pytest.approx(
        3 / 13
    )


def test_a_class_in_one_map_alone_scores_zero_has_no_distance_and_is_counted():
    empty = np.zeros_like(SQUARE)
    for pair in ((SQUARE, empty), (empty, SQUARE)):
        f1 = on_labels(BoundaryF1, 3)
        assert value(f1, pair) == 0.0
        np.testing.assert_array_equal(np.isnan(to_numpy(f1.per_class())), [False, False, True])
        for cls in (HausdorffDistance, AverageSurfaceDistance):
            metric = on_labels(cls, 3)
            assert np.isnan(value(metric, pair))
            np.testing.assert_array_equal(metric.missed(), [1, 1, 0])
            assert value(metric, (SQUARE, MOVED)) > 0  # the next picture counts alone
            np.testing.assert_array_equal(metric.missed(), [1, 1, 0])


def test_a_picture_without_boundaries_is_left_out():
    plain = np.ones_like(SQUARE)
    for cls in (BoundaryF1, HausdorffDistance, AverageSurfaceDistance):
        alone = value(on_labels(cls), (SQUARE, MOVED))
        assert value(on_labels(cls), (plain, plain), (SQUARE, MOVED)) == pytest.approx(alone)
        assert np.isnan(value(on_labels(cls), (plain, plain)))


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.95, 1.0])
def test_the_quantile_is_numpys(share):
    rng = np.random.default_rng(3)
    distance = np.sqrt(rng.integers(0, 3000, (2, 6, 7, 3))).astype("float32")
    mask = rng.random((2, 6, 7, 3)) < 0.4
    mask[0, :, :, 0] = False
    mask[0, 2, 3, 0] = True  # one pixel
    found = to_numpy(quantile(keras.ops.array(distance), keras.ops.array(mask), share))
    for b in range(2):
        for c in range(3):
            expected = np.quantile(distance[b, :, :, c][mask[b, :, :, c]], share)
            assert found[b, c] == pytest.approx(expected, abs=1e-4)


# --- properties -------------------------------------------------------------------------------


kinds = st.sampled_from([BoundaryF1, BoundaryIoU, HausdorffDistance, AverageSurfaceDistance])


@given(cls=kinds, seed=st.integers(0, 2**16), shift=st.integers(1, 2))
def test_symmetry_bounds_and_the_names_of_the_classes(cls, seed, shift):
    truth, prediction = blobs(seed, (2, 12, 12)), blobs(seed + 1, (2, 12, 12))
    renamed = (truth + shift) % 3, (prediction + shift) % 3
    score = value(on_labels(cls), (truth, prediction))
    same = pytest.approx(score, abs=1e-5, nan_ok=True)
    assert value(on_labels(cls), (prediction, truth)) == same
    assert value(on_labels(cls), renamed) == same
    flipped = truth[:, ::-1].swapaxes(1, 2), prediction[:, ::-1].swapaxes(1, 2)
    assert value(on_labels(cls), flipped) == same
    assert np.isnan(score) or score >= 0
    if cls in (BoundaryF1, BoundaryIoU):
        assert np.isnan(score) or score <= 1


@given(cls=kinds, seed=st.integers(0, 2**16))
def test_what_stands_at_ignored_pixels_does_not_matter(cls, seed):
    truth, prediction = blobs(seed, (2, 12, 12)), blobs(seed + 1, (2, 12, 12))
    hole = np.random.default_rng(seed).random(truth.shape) < 0.2
    other = np.where(hole, (prediction + 1) % 3, prediction)
    ignored = np.where(hole, 255, truth)
    weight = np.where(hole, 0.0, 2.0)
    score = value(on_labels(cls), (ignored, prediction))
    same = pytest.approx(score, abs=1e-6, nan_ok=True)
    assert value(on_labels(cls), (ignored, other)) == same
    assert value(on_labels(cls), (truth, prediction), sample_weight=weight) == same


@pytest.mark.parametrize("cls, kwargs", ALL, ids=IDS)
def test_a_perfect_prediction(cls, kwargs):
    perfect = 0.0 if cls in (HausdorffDistance, AverageSurfaceDistance) else 1.0
    truth = blobs(0)
    assert value(cls(3, **kwargs), (truth, one_hot(truth, 3))) == perfect


@pytest.mark.parametrize("cls, kwargs", ALL, ids=IDS)
def test_nothing_counted_is_no_score(cls, kwargs):
    metric = on_labels(cls, **kwargs)
    assert np.isnan(float(to_numpy(metric.result())))
    assert np.isnan(value(metric, (np.full((1, 8, 8), 255), blobs(0, (1, 8, 8)))))


# --- a whole epoch, and Keras -----------------------------------------------------------------


@pytest.mark.parametrize("cls, kwargs", ALL, ids=IDS)
def test_the_batches_do_not_matter_and_replicas_add_up(cls, kwargs):
    truth, prediction = blobs(1, (5, 14, 14)), blobs(2, (5, 14, 14))
    whole = on_labels(cls, **kwargs)
    whole.update_state(truth, prediction)
    parts = [on_labels(cls, **kwargs) for _ in range(2)]
    for start, metric in ((0, parts[0]), (2, parts[1]), (4, parts[0])):
        metric.update_state(truth[start : start + 2], prediction[start : start + 2])
    merged = on_labels(cls, **kwargs)
    for target, *replicas in zip(
        merged.variables, *(metric.variables for metric in parts), strict=True
    ):
        target.assign(sum(to_numpy(v.value) for v in replicas))
    assert float(to_numpy(merged.result())) == float(to_numpy(whole.result()))


def test_sums_stay_exact_past_the_range_of_one_int32():
    metric = on_labels(HausdorffDistance, 2, percentile=100)
    truth = np.zeros((40, 1, 4001), "uint8")
    prediction = truth.copy()
    truth[:, :, 0] = 1
    prediction[:, :, -1] = 1
    # boundaries at columns 0, 1 against 3999, 4000: class 1 is 4000 off, class 0 is 3998
    for _ in range(3):
        metric.update_state(truth, prediction)
    assert float(to_numpy(metric.result())) == 3999.0


@pytest.mark.parametrize("cls, kwargs", ALL, ids=IDS)
def test_packed_truth_and_one_channel(cls, kwargs):
    truth, prediction = blobs(1, num_classes=2), blobs(2, num_classes=2)
    expected = value(cls(2, from_logits=False, **kwargs), (truth, prediction))
    one = np.where(prediction == 1, 3.0, -3.0).astype("float32")[..., None]
    assert value(cls(2, **kwargs), (truth, one)) == expected
    packed = to_numpy(pack_distances(truth, 2))
    assert value(cls(2, **kwargs), (packed, one)) == expected


@pytest.mark.parametrize("cls, kwargs", ALL, ids=IDS)
def test_saved_and_made_anew(cls, kwargs):
    metric = cls(3, ignore_label=7, **kwargs)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    assert type(again) is cls
    assert again.get_config() == metric.get_config()
    pair = blobs(1), one_hot(blobs(2), 3)
    assert value(again, pair) == value(metric, pair)
    metric.reset_state()
    assert np.isnan(float(to_numpy(metric.result())))


# XLA compiles the four metrics for fifteen seconds.
@pytest.mark.parametrize("jit_compile", [False, pytest.param(True, marks=pytest.mark.rare)])
def test_in_compile_and_evaluate(jit_compile):
    truth, prediction = blobs(1, (6, 16, 16)), blobs(2, (6, 16, 16))
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, keras.layers.Activation("linear")(inputs))
    metrics = [
        BoundaryF1(3, tolerance=0.1),
        BoundaryIoU(3, width=0.1),
        HausdorffDistance(3),
        AverageSurfaceDistance(3),
    ]
    model.compile(loss=CrossEntropy(), metrics=metrics, jit_compile=jit_compile)
    found = model.evaluate(one_hot(prediction, 3), truth, batch_size=3, verbose=0, return_dict=True)
    for metric in metrics:
        alone = type(metric).from_config(metric.get_config())
        expected = value(alone, (truth, one_hot(prediction, 3)))
        assert found[metric.name] == pytest.approx(expected, rel=1e-6)


# --- bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: BoundaryF1(3, tolerance=-1), "tolerance is -1"),
        (lambda: BoundaryF1(3, tolerance=float("nan")), "tolerance is nan"),
        (lambda: BoundaryF1(3, average="micro"), "average is 'micro'"),
        (lambda: BoundaryIoU(3, width=0), "width is 0"),
        (lambda: BoundaryIoU(3, class_id=3), "class_id is 3"),
        (lambda: HausdorffDistance(3, percentile=0), "percentile is 0"),
        (lambda: HausdorffDistance(3, percentile=101), "percentile is 101"),
        (lambda: AverageSurfaceDistance(1), "num_classes is 1"),
    ],
)
def test_arguments_that_make_no_sense(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_shapes_that_do_not_belong_together():
    with pytest.raises(ValueError, match="expected 3 classes"):
        BoundaryF1(3).update_state(SQUARE, one_hot(SQUARE, 4))
    with pytest.raises(ValueError, match="1 channels, expected 3 classes"):
        BoundaryIoU(3).update_state(SQUARE, np.zeros((*SQUARE.shape, 1)))
    with pytest.raises(ValueError, match="differ in height"):
        BoundaryIoU(2).update_state(SQUARE[:, 1:], one_hot(SQUARE, 2))
