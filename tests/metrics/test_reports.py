"""The report against the metrics, scikit-learn, SciPy's bootstrap and a binomial simulation."""

import json
import xml.etree.ElementTree

import keras
import numpy as np
import pytest
from scipy import ndimage, stats
from sklearn import metrics as sklearn_metrics

from seglib.core.distance import pack_distances
from seglib.metrics import BoundaryF1, BoundaryIoU, DiceScore, MeanIoU, report
from seglib.metrics.reports import Interval, summarize, weighted_scores

NAMES = ("pet", "background", "border")
METRICS = {
    "iou": (MeanIoU, {}),
    "dice": (DiceScore, {}),
    "boundary_f1": (BoundaryF1, {"average": "class"}),
    "boundary_iou": (BoundaryIoU, {}),
}


def pictures(seed, number=7, num_classes=3, size=(24, 20)):
    """Label maps, some pixels ignored, and logits that are right more often than not."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(
        rng.normal(size=(2, number, *size, num_classes)), (0, 0, 2, 2, 0)
    )
    truth = noise[0].argmax(-1).astype("uint8")
    logits = (noise[0] + 0.7 * noise[1]).astype("float32")
    return np.where(rng.random(truth.shape) < 0.1, 255, truth).astype("uint8"), logits


def batches(truth, logits, size=3):
    """The 'images' are the logits, and the 'model' is the identity."""
    return [(logits[i : i + size], truth[i : i + size]) for i in range(0, len(truth), size)]


def identity(images):
    return images


def made(seed=0, **kwargs):
    truth, logits = pictures(seed)
    options = {"classes": NAMES, "bootstrap": 50} | kwargs
    return report(identity, batches(truth, logits), **options)


# --- the scores -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METRICS)
def test_the_means_are_those_of_the_metrics(name):
    truth, logits = pictures(0)
    cls, options = METRICS[name]
    metric = cls(3, **options)
    metric.update_state(truth, logits)
    expected = float(keras.ops.convert_to_numpy(metric.result()))
    assert np.float32(made().scores[name]["mean"].value) == pytest.approx(expected, rel=3e-7)


def test_the_counts_are_exactly_those_of_mean_iou():
    truth, logits = pictures(0)
    metric = MeanIoU(3)
    metric.update_state(truth, logits)
    np.testing.assert_array_equal(made().confusion, metric.counts())


def test_the_classes_scores_equal_scikit_learns():
    truth, logits = pictures(0)
    keep = truth != 255
    flat = truth[keep], logits.argmax(-1)[keep]
    table = made()
    for name, function in (
        ("iou", sklearn_metrics.jaccard_score),
        ("dice", sklearn_metrics.f1_score),
        ("recall", sklearn_metrics.recall_score),
        ("precision", sklearn_metrics.precision_score),
    ):
        found = [table.scores[name][c].value for c in (*NAMES, "mean")]
        expected = [*function(*flat, average=None), function(*flat, average="macro")]
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert table.pixel_accuracy.value == pytest.approx(sklearn_metrics.accuracy_score(*flat))


def test_labels_that_are_no_class_are_named():
    truth, logits = pictures(0)
    truth = np.where(truth == 255, 255, truth + 1)
    with pytest.raises(ValueError, match=r"holds \[3\], expected whole numbers 0 to 2 or 255"):
        report(identity, batches(truth, logits), classes=NAMES, bootstrap=0)


def test_uneven_batches_packed_truth_weights_and_keras_models_give_the_same():
    truth, logits = pictures(0)
    expected = made().to_json()
    options = {"classes": NAMES, "bootstrap": 50}
    assert report(identity, batches(truth, logits, 7), **options).to_json() == expected
    packed = keras.ops.convert_to_numpy(pack_distances(truth, 3))
    assert report(identity, batches(packed, logits), **options).to_json() == expected
    filled = np.where(truth == 255, 0, truth)
    weight = (truth != 255).astype("float32")
    weighted = [(logits[i : i + 3], filled[i : i + 3], weight[i : i + 3]) for i in (0, 3, 6)]
    assert report(identity, weighted, **options).to_json() == expected
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, keras.layers.Activation("linear")(inputs))
    assert report(model, batches(truth, logits), **options).to_json() == expected


def test_one_channel_is_two_classes():
    truth, logits = pictures(1, num_classes=2)
    two = report(identity, batches(truth, logits), bootstrap=20)
    one = report(identity, batches(truth, logits[..., 1:] - logits[..., :1]), bootstrap=20)
    assert one.to_json() == two.to_json()
    assert list(one.scores["iou"]) == ["0", "1", "mean"]


def test_a_class_that_never_occurs_has_no_score():
    truth, logits = pictures(2)
    truth = np.where(truth == 2, 255, truth)
    logits[..., 2] = -9.0
    table = report(identity, batches(truth, logits), bootstrap=20)
    for column in table.scores.values():
        assert np.isnan(column["2"]).all()
        assert column["mean"].value == pytest.approx((column["0"].value + column["1"].value) / 2)
    assert json.loads(table.to_json())["scores"]["iou"]["2"] == dict.fromkeys(
        ("value", "low", "high")
    )
    assert "–" in str(table)


def test_without_boundary_and_without_bootstrap():
    table = made(boundary=False, bootstrap=0)
    assert list(table.scores) == ["iou", "dice", "recall", "precision"]
    assert table.scores["iou"]["pet"].value == made().scores["iou"]["pet"].value
    assert np.isnan(table.scores["iou"]["pet"].low)
    assert "resamples" not in str(table)


# --- the intervals ----------------------------------------------------------------------------


def counted(right, pixels):
    """Pictures of two classes with `right` of `pixels` pixels right, half of each class."""
    right, pixels = np.asarray(right), np.broadcast_to(pixels, np.shape(right))
    matrices = np.zeros((len(right), 2, 2), "int64")
    matrices[:, 0, 0], matrices[:, 0, 1] = right, pixels - right
    return {"matrices": matrices}


def interval(right, pixels, **kwargs):
    options = {"classes": ("a", "b"), "bootstrap": 400, "confidence": 0.95, "seed": 0} | kwargs
    return summarize(counted(right, pixels), **options).pixel_accuracy


def test_the_interval_is_scipys():
    # Pictures of equal size, so that the pixel accuracy is the mean of the pictures'.
    right = np.random.default_rng(0).binomial(100, 0.8, size=40) - np.arange(40)
    found = interval(right, 100, bootstrap=20_000)
    expected = stats.bootstrap(
        (right / 100,), np.mean, n_resamples=20_000, method="percentile", rng=1
    ).confidence_interval
    # Two Monte Carlo quantiles: about 2 percent of the standard error each.
    error = np.std(right / 100) / np.sqrt(40)
    assert found.low == pytest.approx(expected.low, abs=0.1 * error)
    assert found.high == pytest.approx(expected.high, abs=0.1 * error)
    assert found.value == pytest.approx(np.mean(right / 100))


def test_the_interval_of_a_ratio_is_scipys():
    # Pictures of unequal size: the sums are divided, not the pictures' ratios averaged.
    rng = np.random.default_rng(1)
    pixels = rng.integers(10, 200, 50)
    right = rng.binomial(pixels, 0.6)
    found = interval(right, pixels, bootstrap=20_000, confidence=0.8)
    expected = stats.bootstrap(
        (right, pixels),
        lambda part, whole, axis: part.sum(axis) / whole.sum(axis),
        paired=True,
        vectorized=True,
        n_resamples=20_000,
        confidence_level=0.8,
        method="percentile",
        rng=2,
    ).confidence_interval
    width = expected.high - expected.low
    assert found.low == pytest.approx(expected.low, abs=0.05 * width)
    assert found.high == pytest.approx(expected.high, abs=0.05 * width)


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_the_interval_covers_the_truth_as_often_as_it_says(confidence):
    """Pictures of one pixel, right with probability 0.7: the accuracy of 80 of them is binomial.

    400 data sets are drawn. The exact coverage of the percentile interval is within 0.02 of what it
    says here (the resampled number right is binomial, too), and 400 draws add a standard error of
    at most 0.02: four of them are allowed.
    """
    rng = np.random.default_rng(7)
    runs = 400
    covered = 0
    for run in range(runs):
        low_high = interval(rng.random(80) < 0.7, 1, confidence=confidence, seed=run)
        covered += low_high.low <= 0.7 <= low_high.high
    error = np.sqrt(confidence * (1 - confidence) / runs)
    assert abs(covered / runs - confidence) < 0.02 + 4 * error


def test_drawing_a_picture_twice_is_having_it_twice():
    rng = np.random.default_rng(3)
    statistics = {
        "matrices": rng.integers(0, 50, (5, 3, 3)),
        "f1": rng.random((5, 3)),
        "f1_seen": rng.integers(0, 2, (5, 3)),
        "band_tp": rng.integers(0, 9, (5, 3)),
        "band_union": rng.integers(9, 20, (5, 3)),
    }
    draw = np.array([2, 0, 1, 1, 1])
    repeated = {key: np.repeat(value, draw, axis=0) for key, value in statistics.items()}
    drawn = weighted_scores(statistics, draw[None])
    for name, scores in weighted_scores(repeated, np.ones((1, 5))).items():
        np.testing.assert_allclose(drawn[name], scores, rtol=1e-12)


def test_a_seed_repeats_the_intervals_and_another_does_not():
    assert made(seed=0).to_json() == made(seed=0).to_json()
    assert (
        made(seed=0, bootstrap=50).scores
        != report(identity, batches(*pictures(0)), classes=NAMES, bootstrap=50, seed=1).scores
    )


def test_more_confidence_is_a_wider_interval_around_the_score():
    wide, narrow = (made(confidence=c, bootstrap=400).scores["iou"] for c in (0.99, 0.5))
    for name in (*NAMES, "mean"):
        assert wide[name].low < narrow[name].low < narrow[name].high < wide[name].high


# --- shown and saved --------------------------------------------------------------------------


def test_nothing_is_printed(capfd):
    made()
    assert capfd.readouterr().out == ""


def test_the_text_is_a_table():
    lines = str(made()).splitlines()
    assert lines[0].split("  ")[0] == "Class"
    assert [line.split()[0] for line in lines[1:5]] == [*NAMES, "mean"]
    assert "7 pictures" in lines[-1]
    assert "95 % intervals" in lines[-1]


def test_the_html_is_a_table_that_leaves_colors_to_the_page():
    markup = made(classes=("a<b", "c&d", "e"))._repr_html_()
    table = xml.etree.ElementTree.fromstring(markup)  # well formed, so the names are escaped
    assert [cell.text for cell in table.iterfind("tbody/tr/th")] == ["a<b", "c&d", "e", "mean"]
    assert len(table.findall("tbody/tr/td")) == 4 * 6
    for word in ("color", "style", "bgcolor", "background"):
        assert word not in markup


def test_the_json_file_holds_the_table(tmp_path):
    table = made()
    path = table.save(tmp_path / "report.json")
    saved = json.loads(path.read_text(encoding="utf-8"))
    assert Interval(**saved["scores"]["iou"]["pet"]) == table.scores["iou"]["pet"]
    assert Interval(**saved["pixel_accuracy"]) == table.pixel_accuracy
    assert (saved["pictures"], saved["bootstrap"], saved["confidence"]) == (7, 50, 0.95)
    np.testing.assert_array_equal(saved["confusion"], table.confusion)


# --- bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, message",
    [
        ({"classes": ("a", "b")}, "2 names for 3 classes"),
        ({"classes": ("a", "a", "b")}, "expected different ones"),
        ({"classes": ("a", "b", "mean")}, "none of them 'mean'"),
        ({"confidence": 95}, "confidence is 95"),
        ({"bootstrap": -1}, "bootstrap is -1"),
    ],
)
def test_arguments_that_make_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        made(**options)


def test_a_data_set_without_a_batch():
    with pytest.raises(ValueError, match="holds no batch"):
        report(identity, [])


def test_the_accuracy_of_the_pictures_is_not_the_accuracy_of_the_pixels():
    """One picture of 100 pixels, all right; one of 300, all wrong: 1/4, not 1/2."""
    assert interval([100, 0], [100, 300]).value == 0.25
