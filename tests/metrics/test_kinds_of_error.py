"""Kinds of wrong pixels: by hand, against SciPy's distances, and as a partition."""

import keras
import numpy as np
import pytest
from scipy import ndimage

from seglib.metrics import error_kinds

PET, BACKGROUND, BORDER = range(3)


def test_by_hand():
    # one row: pet pet border background background background
    truth = np.array([[[PET, PET, BORDER, BACKGROUND, BACKGROUND, BACKGROUND]]])
    guess = np.array([[[BACKGROUND, BORDER, PET, PET, PET, PET]]])
    found = error_kinds(truth, guess, near=1)
    assert found["outline"].tolist() == [[[False, True, True, True, False, False]]]
    assert found["lost"].tolist() == [[[True, False, False, False, False, False]]]
    assert found["invented"].tolist() == [[[False, False, False, False, True, True]]]


def random_maps(seed=0):
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=(2, 4, 30, 26, 3)), (0, 0, 3, 3, 0))
    truth, guess = noise.argmax(-1).astype("uint8")
    return np.where(rng.random(truth.shape) < 0.05, 255, truth).astype("uint8"), guess


@pytest.mark.parametrize("near", [0, 1, 2.5])
def test_distances_are_scipys_and_each_wrong_pixel_has_one_kind(near):
    truth, guess = random_maps()
    found = error_kinds(truth, guess, near=near)
    wrong = (truth != guess) & (truth != 255)
    np.testing.assert_array_equal(sum(kind.astype(int) for kind in found.values()), wrong)
    distance = np.stack([ndimage.distance_transform_edt(mask != BORDER) for mask in truth])
    np.testing.assert_array_equal(found["outline"], wrong & (distance <= near))
    np.testing.assert_array_equal(
        found["invented"], wrong & (distance > near) & (truth == BACKGROUND)
    )


def test_without_a_border_nothing_is_near_it():
    truth, guess = np.full((1, 4, 4), BACKGROUND), np.full((1, 4, 4), PET)
    found = error_kinds(truth, guess, near=100)
    assert found["invented"].all() and not found["outline"].any()


def test_a_right_picture_and_ignored_pixels_have_no_errors():
    truth, _ = random_maps()
    guess = np.where(truth == 255, PET, truth)
    assert not any(kind.any() for kind in error_kinds(truth, guess, near=2).values())


def test_tensors_and_other_class_ids():
    truth = keras.ops.convert_to_tensor([[[5, 5, 0, 7]]])
    found = error_kinds(truth, truth * 0 + 5, near=0, background=0, border=7)
    assert found["invented"].tolist() == [[[False, False, True, False]]]
    assert found["outline"].tolist() == [[[False, False, False, True]]]


@pytest.mark.parametrize(
    "truth, guess, near, message",
    [
        (np.zeros((1, 4, 4)), np.zeros((1, 4, 5)), 1, r"\(1, 4, 4\) and \(1, 4, 5\)"),
        (np.zeros((1, 4, 4, 3)), np.zeros((1, 4, 4, 3)), 1, "arg-max"),
        (np.zeros((1, 4, 4)), np.zeros((1, 4, 4)), -1, "near is -1"),
    ],
)
def test_what_cannot_be_sorted(truth, guess, near, message):
    with pytest.raises(ValueError, match=message):
        error_kinds(truth, guess, near=near)
