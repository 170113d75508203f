"""The sentences that a wrong shape or label ends in."""

import keras
import numpy as np
import pytest

from seglib.core import checks


@pytest.mark.parametrize(
    "true_shape, pred_shape, kwargs",
    [
        ((2, 4, 5), (2, 4, 5, 3), {}),
        ((2, 4, 5), (2, 4, 5, 3), {"num_classes": 3}),
        ((2, 4, 5), (2, 4, 5), {"from_logits": False}),
        ((None, None, 5), (2, 4, None, None), {"num_classes": 3}),  # unknown until run time
    ],
)
def test_shapes_that_belong_together(true_shape, pred_shape, kwargs):
    checks.check_shapes(keras.KerasTensor(true_shape), keras.KerasTensor(pred_shape), **kwargs)


@pytest.mark.parametrize(
    "true_shape, pred_shape, kwargs, message",
    [
        (
            (2, 4, 5, 1),
            (2, 4, 5, 3),
            {},
            r"shape \(2, 4, 5, 1\), expected \[B, H, W\].* masks\[\.\.\., 0\]",
        ),
        ((2, 4, 5, 3), (2, 4, 5, 3), {}, r"shape \(2, 4, 5, 3\), expected \[B, H, W\].* argmax"),
        ((4, 5), (2, 4, 5, 3), {}, r"shape \(4, 5\), expected \[B, H, W\]\.$"),
        ((2, 4, 5), (2, 4, 5), {}, r"expected logits \[B, H, W, C\]\. Pass from_logits=False"),
        (
            (2, 4, 5),
            (2, 4, 5, 3),
            {"from_logits": False},
            "expected a label map .* from_logits=True",
        ),
        ((2, 4, 5), (2, 4, 5, 2), {"num_classes": 3}, "2 channels, expected 3 classes"),
        ((2, 4, 5), (1, 4, 5, 3), {}, r"differ in batch size \(2 against 1\)"),
        ((2, 8, 5), (2, 4, 5, 3), {}, r"differ in height \(8 against 4\).*never the labels"),
        ((None, 8, None), (2, 4, 5, 3), {}, "differ in height"),
        ((2, 4, 6), (2, 4, 5, 3), {}, r"differ in width \(6 against 5\)"),
    ],
)
def test_shapes_that_do_not(true_shape, pred_shape, kwargs, message):
    with pytest.raises(ValueError, match=message):
        checks.check_shapes(keras.KerasTensor(true_shape), keras.KerasTensor(pred_shape), **kwargs)


@pytest.mark.parametrize(
    "labels, kwargs",
    [
        ([0, 1, 2, 255], {}),
        ([[0.0, 2.0]], {}),
        ([0, 1, 2, 7], {"ignore_label": 7}),
        ([0, 1, 2], {"ignore_label": None}),
    ],
)
def test_label_maps_that_are_right(labels, kwargs):
    checks.check_labels(np.array(labels), 3, **kwargs)


@pytest.mark.parametrize(
    "labels, kwargs, bad",
    [
        ([1, 2, 3], {}, r"\[3\]"),
        ([0, -1, 1], {}, r"\[-1\]"),
        ([0, 0.5, 1.25], {}, r"\[0.5, 1.25\]"),
        ([0, 255], {"ignore_label": 0}, r"\[255\]"),
        ([0, 255], {"ignore_label": None}, r"\[255\]"),
        (range(20), {}, r"\[3, 4, 5, 6, 7, 8, 9, 10\]"),  # the first eight will do
    ],
)
def test_label_maps_that_are_wrong_are_told_which_labels(labels, kwargs, bad):
    with pytest.raises(ValueError, match=f"holds {bad}, expected whole numbers 0 to 2"):
        checks.check_labels(np.array(labels), 3, **kwargs)


@pytest.mark.parametrize(
    "shape, expected",
    [((2,), (2, 1, 1)), ((2, 4, 5), (2, 4, 5)), ((2, 1, 5), (2, 1, 5)), ((), (1, 1, 1))],
)
def test_weights_get_the_rank_of_the_label_map(shape, expected):
    weight = checks.expand_weight(np.ones(shape), np.zeros((2, 4, 5)))
    assert tuple(weight.shape) == expected


@pytest.mark.parametrize("shape", [(3,), (4, 5), (2, 4, 5, 1), (2, 4, 6)])
def test_weights_that_fit_nothing(shape):
    with pytest.raises(ValueError, match=r"sample_weight has shape .* expected \[B\]"):
        checks.expand_weight(np.ones(shape), np.zeros((2, 4, 5)))


def test_at_least_two_classes():
    checks.check_num_classes(2)
    with pytest.raises(ValueError, match="num_classes is 1, expected at least 2; .*'yes' and 'no'"):
        checks.check_num_classes(1)


@pytest.mark.parametrize("classes", [[[0, 1, -1]], [[-1]]])
def test_classes_of_objects_that_are_right(classes):
    checks.check_object_classes(np.array(classes), 2)


@pytest.mark.parametrize("classes, bad", [([[1, 2]], r"\[2\]"), ([[-2, 0]], r"\[-2\]")])
def test_classes_of_objects_that_the_model_lacks(classes, bad):
    with pytest.raises(ValueError, match=f"classes {bad}, expected 0 to 1"):
        checks.check_object_classes(np.array(classes), 2)
