"""Metrics of pictures of any size: counted whole, in parts, anew from their description."""

import json

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from seglib.core.distance import pack_distances
from seglib.metrics import ClassIoU, DiceScore, MeanIoU, PixelAccuracy, confusion_matrix, report

to_numpy = keras.ops.convert_to_numpy
# Sizes as they come, but few of them: a backend compiles a function anew for each.
SIZES = ((1, 1), (9, 1), (13, 11))


@st.composite
def pictures(draw):
    """Label maps `[B, H, W]` with ignored pixels, logits `[B, H, W, C]`, and `C`."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (draw(st.integers(1, 3)), *draw(st.sampled_from(SIZES)))
    num_classes = draw(st.integers(2, 4))
    truth = rng.integers(0, num_classes, shape)
    truth = np.where(rng.random(shape) < draw(st.sampled_from([0, 0.3, 1])), 255, truth)
    logits = rng.normal(size=(*shape, num_classes)).astype("float32")
    return truth.astype("uint8"), logits, num_classes


KINDS = {
    "PixelAccuracy": PixelAccuracy,
    "MeanIoU": MeanIoU,
    "ClassIoU": lambda num_classes: ClassIoU(num_classes, class_id=num_classes - 1),
    "DiceScore": DiceScore,
}


def result(metric, *parts):
    for truth, prediction in parts:
        metric.update_state(truth, prediction)
    return float(to_numpy(metric.result()))


@given(pictures())
def test_the_matrix_is_scikit_learns(drawn):
    truth, logits, num_classes = drawn
    keep, prediction = truth != 255, logits.argmax(-1)
    expected = np.zeros((num_classes, num_classes), int)
    if keep.any():  # scikit-learn refuses nothing at all
        expected = sklearn_metrics.confusion_matrix(
            truth[keep], prediction[keep], labels=range(num_classes)
        )
    np.testing.assert_array_equal(confusion_matrix(truth, prediction, num_classes), expected)
    np.testing.assert_array_equal(
        confusion_matrix(truth.ravel(), prediction.ravel(), num_classes), expected
    )


@given(drawn=pictures(), kind=st.sampled_from(sorted(KINDS)))
def test_whole_in_parts_and_packed(drawn, kind):
    truth, logits, num_classes = drawn
    whole = KINDS[kind](num_classes)
    expected = pytest.approx(result(whole, (truth, logits)), nan_ok=True, abs=1e-6)
    copy = type(whole).from_config(whole.get_config())
    parts = [(truth[i : i + 1], logits[i : i + 1]) for i in range(len(truth))]
    assert result(copy, *parts) == expected
    copy.reset_state()
    assert result(copy, (to_numpy(pack_distances(truth, num_classes)), logits)) == expected


@given(pictures())
def test_a_report_as_json(drawn):
    truth, logits, num_classes = drawn
    table = report(lambda images: images, [(logits, truth)], bootstrap=5, boundary=False)
    stored = json.loads(table.to_json())
    for name, cells in stored["scores"].items():
        for row, cell in cells.items():
            for key, number in cell.items():
                expected = getattr(table.scores[name][row], key)
                assert np.isnan(expected) if number is None else number == expected
    metric = result(MeanIoU(num_classes), (truth, logits))
    assert table.scores["iou"]["mean"].value == pytest.approx(metric, nan_ok=True, abs=1e-6)
