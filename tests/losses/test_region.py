"""Region losses against hand-computed values and float64 formulas of the papers."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from seglib.losses import (
    Dice,
    FocalTversky,
    Jaccard,
    LogCoshDice,
    SensitivitySpecificity,
    Tversky,
)

# One picture of 2 x 2 pixels; the probability of class 1 is 3/4, 3/4, 1/2, 1/10.
LOGITS = np.log([[[[1, 3], [1, 3]], [[1, 1], [9, 1]]]]).astype("float32")
LABELS = np.array([[[0, 1], [1, 0]]])
# Class 0: TP = 1/4 + 9/10, FP = 1/4 + 1/2, FN = 3/4 + 1/10. Class 1: FP and FN change places.
TP, FP, FN = (1.15, 1.25), (0.75, 0.85), (0.85, 0.75)


def mean_over(formula):
    return sum(formula(*counts) for counts in zip(TP, FP, FN, strict=True)) / 2


HAND = {
    "Dice": (Dice(), lambda t, p, n: 1 - 2 * t / (2 * t + p + n)),
    "smooth Dice": (Dice(smooth=2), lambda t, p, n: 1 - (2 * t + 2) / (2 * t + p + n + 2)),
    "Jaccard": (Jaccard(), lambda t, p, n: 1 - t / (t + p + n)),
    "smooth Jaccard": (Jaccard(smooth=1), lambda t, p, n: 1 - (t + 1) / (t + p + n + 1)),
    "Tversky": (Tversky(), lambda t, p, n: 1 - t / (t + 0.3 * p + 0.7 * n)),
    "Tversky 1, 2": (Tversky(alpha=1, beta=2), lambda t, p, n: 1 - t / (t + p + 2 * n)),
    "FocalTversky": (FocalTversky(), lambda t, p, n: (1 - t / (t + 0.3 * p + 0.7 * n)) ** 0.75),
    "LogCoshDice": (
        LogCoshDice(),
        lambda t, p, n: math.log(math.cosh(1 - 2 * t / (2 * t + p + n))),
    ),
}


@pytest.mark.parametrize("name", HAND)
def test_a_picture_of_four_pixels_by_hand(name, value):
    loss, formula = HAND[name]
    assert value(loss, LABELS, LOGITS) == pytest.approx(mean_over(formula), rel=1e-6)


def test_squared_dice_by_hand(value):
    # Class 1: the squares of p are 9/16, 9/16, 1/4, 1/100; class 0: 1/16, 1/16, 1/4, 81/100
    one = 1 - 2 * 1.25 / (9 / 16 + 9 / 16 + 1 / 4 + 1 / 100 + 2)
    zero = 1 - 2 * 1.15 / (1 / 16 + 1 / 16 + 1 / 4 + 81 / 100 + 2)
    result = value(Dice(squared=True), LABELS, LOGITS)
    assert result == pytest.approx((one + zero) / 2, rel=1e-6)


def test_sensitivity_specificity_by_hand(value):
    # Squared errors of class 1: inside 1/16 and 1/4, outside 9/16 and 1/100; class 0: vice versa
    inside, outside = (1 / 16 + 1 / 4) / 2, (9 / 16 + 1 / 100) / 2
    for w in (0.0, 0.2, 0.5, 1.0):
        expected = (w * inside + (1 - w) * outside + w * outside + (1 - w) * inside) / 2
        result = value(SensitivitySpecificity(w=w), LABELS, LOGITS)
        assert result == pytest.approx(expected, rel=1e-6)
        result = value(SensitivitySpecificity((0, 1), w=w), LABELS, LOGITS)
        assert result == pytest.approx(w * inside + (1 - w) * outside, rel=1e-6)


def test_a_picture_of_nine_pixels_by_hand(value):
    # A column of class 1 is predicted one column too far to the left, with certainty: TP 0. Class
    # 0 keeps 3 of its 6 pixels.
    labels = np.array([[[0, 0, 1]] * 3])
    logits = 60.0 * np.eye(2, dtype="float32")[np.array([[[0, 1, 0]] * 3])]
    assert value(Dice(), labels, logits) == pytest.approx((1 + 0.5) / 2)
    assert value(Jaccard(), labels, logits) == pytest.approx((1 + 2 / 3) / 2)
    # With the right column ignored, class 1 is absent, and 3 of 6 pixels of class 0 are right.
    labels[..., 2] = 255
    assert value(Dice(), labels, logits) == pytest.approx(1 - 2 * 3 / (3 + 6))
    # All classes: class 1 is absent but predicted, which costs 1.
    assert value(Dice(classes="all"), labels, logits) == pytest.approx((1 / 3 + 1) / 2)
    smooth = value(Dice(classes="all", smooth=1), labels, logits)
    assert smooth == pytest.approx((1 - 7 / 10 + 1 - 1 / 4) / 2)


# --- the formulas of the papers ---------------------------------------------------------------


def region_mean(formula, labels, logits, classes="present", class_weights=None, weights=None):
    """Mean over classes, then pictures, of `formula(p, g, s)` with float64 vectors of pixels."""
    p_all = softmax(logits.astype("float64"), axis=-1)
    count = logits.shape[-1]
    class_weights = np.ones(count) if class_weights is None else np.asarray(class_weights)
    pictures = []
    for b in range(len(labels)):
        valid = labels[b] != 255
        s = np.ones(valid.sum()) if weights is None else weights[b][valid].astype("float64")
        terms = []
        for c in range(count):
            g = (labels[b][valid] == c).astype("float64")
            if classes == "all" or g.any():
                terms.append((class_weights[c], formula(p_all[b][valid][:, c], g, s)))
        pictures.append(sum(w * t for w, t in terms) / sum(w for w, _ in terms))
    return np.mean(pictures)


def dice_score(p, g, s, smooth=0.0):
    return (2 * (s * p * g).sum() + smooth) / ((s * p).sum() + (s * g).sum() + smooth)


def tversky_index(p, g, s, alpha=0.3, beta=0.7):
    hit = (s * p * g).sum()
    return hit / (hit + alpha * (s * p * (1 - g)).sum() + beta * (s * (1 - p) * g).sum())


def brosch(p, g, s, w=0.5):
    error = s * (g - p) ** 2
    return w * (error * g).sum() / (s * g).sum() + (1 - w) * (error * (1 - g)).sum() / (
        (s * (1 - g)).sum()
    )


FORMULAS = {
    "Dice": (Dice, {}, lambda p, g, s: 1 - dice_score(p, g, s)),
    "smooth Dice": (Dice, {"smooth": 1.0}, lambda p, g, s: 1 - dice_score(p, g, s, 1.0)),
    "squared Dice": (
        Dice,
        {"squared": True},
        lambda p, g, s: 1 - 2 * (s * p * g).sum() / ((s * p**2).sum() + (s * g**2).sum()),
    ),
    "Jaccard": (
        Jaccard,
        {},
        lambda p, g, s: 1 - (s * p * g).sum() / (s * (p + g - p * g)).sum(),
    ),
    "Tversky": (Tversky, {}, lambda p, g, s: 1 - tversky_index(p, g, s)),
    "FocalTversky": (
        FocalTversky,
        {"alpha": 0.4, "beta": 0.6, "gamma": 2.0},
        lambda p, g, s: (1 - tversky_index(p, g, s, 0.4, 0.6)) ** 0.5,
    ),
    "LogCoshDice": (LogCoshDice, {}, lambda p, g, s: np.log(np.cosh(1 - dice_score(p, g, s)))),
    "SensitivitySpecificity": (
        SensitivitySpecificity,
        {"w": 0.1},
        lambda p, g, s: brosch(p, g, s, 0.1),
    ),
}
every_formula = pytest.mark.parametrize("name", FORMULAS)


@every_formula
@pytest.mark.parametrize("class_weights", [None, (1, 2, 0.5)])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_formula(name, class_weights, weighted, value, random_pair):
    kind, kwargs, formula = FORMULAS[name]
    labels, logits = random_pair(1, ignored=0.2)
    labels[0] = np.where(labels[0] == 2, 1, labels[0])  # class 2 is absent from one picture
    weights = np.random.default_rng(0).random(labels.shape).astype("float32")
    weights = weights if weighted else None
    expected = region_mean(formula, labels, logits, "present", class_weights, weights)
    result = value(kind(class_weights, **kwargs), labels, logits, weights)
    assert result == pytest.approx(expected, rel=1e-5)


@every_formula
def test_the_slope(name, value_and_gradient, slope, random_pair):
    kind, kwargs, formula = FORMULAS[name]
    labels, logits = random_pair(2, shape=(2, 2, 3), ignored=0.1)
    _, gradient = value_and_gradient(kind((1, 2, 3), **kwargs), labels, logits)
    expected = slope(lambda z: region_mean(formula, labels, z, "present", (1, 2, 3)), logits)
    np.testing.assert_allclose(gradient, expected, atol=2e-6)


def test_all_classes(value, value_and_gradient, slope, random_pair):
    labels, logits = random_pair(3, shape=(2, 3, 3))
    labels[labels == 2] = 0

    def formula(z):
        return region_mean(lambda p, g, s: 1 - dice_score(p, g, s, 1.0), labels, z, "all")

    loss = Dice(classes="all", smooth=1.0)
    result, gradient = value_and_gradient(loss, labels, logits)
    assert result == pytest.approx(formula(logits), rel=1e-5)
    np.testing.assert_allclose(gradient, slope(formula, logits), atol=2e-6)
    # An ignored picture counts for nothing.
    labels[1] = 255
    assert value(loss, labels, logits) == pytest.approx(value(loss, labels[:1], logits[:1]))


@every_formula
def test_weights_of_pictures_weight_the_mean(name, value, random_pair):
    kind, kwargs, _ = FORMULAS[name]
    labels, logits = random_pair(4)
    first, second = (value(kind(**kwargs), labels[b : b + 1], logits[b : b + 1]) for b in (0, 1))
    weighted = value(kind(**kwargs), labels, logits, np.array([1, 3], "float32"))
    assert weighted == pytest.approx((first + 3 * second) / 4, rel=1e-5)


def test_pixels_of_weight_zero_are_ignored(value, random_pair):
    labels, logits = random_pair(5)
    weights = (np.random.default_rng(0).random(labels.shape) < 0.7).astype("float32")
    for kind, kwargs, _ in FORMULAS.values():
        ignored = value(kind(**kwargs), np.where(weights > 0, labels, 255), logits)
        assert value(kind(**kwargs), labels, logits, weights) == pytest.approx(ignored, rel=1e-6)


def test_a_picture_whose_classes_have_weight_zero_is_left_out(value, random_pair):
    labels, logits = random_pair(6)
    labels[1] = 0
    result = value(Dice((0, 1, 1)), labels, logits)
    assert result == pytest.approx(value(Dice((0, 1, 1)), labels[:1], logits[:1]), rel=1e-6)


# --- properties -------------------------------------------------------------------------------


@given(
    seed=st.integers(0, 2**32 - 1),
    scale=st.sampled_from([0.1, 2.0, 50.0]),
    name=st.sampled_from(sorted(FORMULAS)),
    c=st.integers(0, 2),
)
def test_how_they_relate(value, random_pair, seed, scale, name, c):
    labels, logits = random_pair(seed, shape=(1, 4, 5), ignored=0.1, scale=scale)
    dice = value(Dice(), labels, logits)
    same = {"rel": 1e-5, "abs": 1e-6}
    half = {"alpha": 0.5, "beta": 0.5}
    assert value(Tversky(**half), labels, logits) == pytest.approx(dice, **same)
    assert value(Tversky(alpha=1, beta=1), labels, logits) == pytest.approx(
        value(Jaccard(), labels, logits), **same
    )
    assert value(FocalTversky(gamma=1), labels, logits) == pytest.approx(
        value(Tversky(), labels, logits), **same
    )
    kind, kwargs, _ = FORMULAS[name]
    assert 0 <= value(kind(**kwargs), labels, logits) <= 1
    if c in labels:  # J = D / (2 - D) of one region
        only = np.eye(3)[c]
        d = 1 - value(Dice(only), labels, logits)
        assert 1 - value(Jaccard(only), labels, logits) == pytest.approx(d / (2 - d), **same)


@every_formula
def test_a_certain_right_answer_costs_nothing(name, value_and_gradient, random_pair):
    kind, kwargs, _ = FORMULAS[name]
    labels, _ = random_pair(7)
    for margin in (200.0, 1e4):
        logits = margin * np.eye(3, dtype="float32")[labels]
        for classes in ("present", "all"):
            loss = kind(classes=classes, **kwargs)
            result, gradient = value_and_gradient(loss, labels % 2, logits * [1, 1, 0])
            assert math.isfinite(result) and np.isfinite(gradient).all()
            result, gradient = value_and_gradient(loss, labels, logits)
            assert result == pytest.approx(0, abs=1e-6) and np.isfinite(gradient).all()


def test_the_power_has_a_finite_slope_near_perfection(value_and_gradient, random_pair):
    labels, _ = random_pair(8)
    for margin in (5.0, 10.0, 15.0, 20.0, 40.0):
        logits = margin * np.eye(3, dtype="float32")[labels]
        result, gradient = value_and_gradient(FocalTversky(gamma=3), labels, logits)
        assert 0 <= result < 0.3 and np.abs(gradient).max() < 0.1


def test_a_small_object_counts_as_much_as_the_background(value):
    # 1 of 1024 pixels, missed: Dice per class halves, where Keras's own loss over all classes
    # together hardly moves.
    labels = np.zeros((1, 32, 32), "int32")
    labels[0, 5, 5] = 1
    logits = np.zeros((1, 32, 32, 2), "float32")
    logits[..., 0] = 30
    assert value(Dice(), labels, logits) == pytest.approx((1 + 1 / 2047) / 2, rel=1e-5)


@pytest.mark.parametrize(
    "kind, kwargs, message",
    [
        (Dice, {"smooth": -1}, "smooth is -1"),
        (Dice, {"classes": "some"}, "classes is 'some'"),
        (Tversky, {"alpha": -0.1}, "alpha is -0.1"),
        (Tversky, {"alpha": 0, "beta": 0}, "not both 0"),
        (FocalTversky, {"gamma": 0}, "gamma is 0"),
        (SensitivitySpecificity, {"w": 2}, "w is 2"),
    ],
)
def test_arguments_that_make_no_sense(kind, kwargs, message):
    with pytest.raises(ValueError, match=message):
        kind(**kwargs)
