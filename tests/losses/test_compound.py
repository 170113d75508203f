"""Losses made of losses against hand-computed values and float64 formulas of the papers."""

import math

import keras
import numpy as np
import pytest
from scipy.special import softmax

from seglib.losses import Combo, CrossEntropy, Dice, ExpLog, Focal, Tversky, WeightedSum

# As in test_region.py: the probability of the true class is 1/4, 3/4, 1/2, 9/10.
LOGITS = np.log([[[[1, 3], [1, 3]], [[1, 1], [9, 1]]]]).astype("float32")
LABELS = np.array([[[0, 1], [1, 0]]])
TERMS = [math.log(4), math.log(4 / 3), math.log(2), math.log(10 / 9)]
# TP, and the sum of p and g, of the classes 0 and 1
REGIONS = [(1.15, 1.9 + 2), (1.25, 2.1 + 2)]
DICE = 1 - sum(2 * t / total for t, total in REGIONS) / 2


# --- weighted sum -----------------------------------------------------------------------------


def test_a_sum_by_hand(value):
    expected = 0.5 * sum(TERMS) / 4 + 2 * DICE
    for loss in [
        0.5 * CrossEntropy() + 2 * Dice(),
        Dice() * 2 + CrossEntropy() * np.float32(0.5),
        WeightedSum([CrossEntropy(), Dice()], [0.5, 2]),
        2 * (0.25 * CrossEntropy() + Dice()),
    ]:
        assert value(loss, LABELS, LOGITS) == pytest.approx(expected, rel=1e-6)


def test_sums_in_sums_are_taken_apart():
    loss = 2 * (CrossEntropy() + 0.5 * (Dice() + 3 * Focal())) + Tversky()
    assert [type(t) for t in loss.terms] == [CrossEntropy, Dice, Focal, Tversky]
    assert loss.term_weights == [2, 1, 3, 1]
    config = keras.saving.serialize_keras_object(loss)
    copy = keras.saving.deserialize_keras_object(config)
    assert copy.get_config() == loss.get_config()
    assert [type(t) for t in copy.terms] == [CrossEntropy, Dice, Focal, Tversky]


def test_every_term_keeps_its_arguments(value, random_pair):
    labels, logits = random_pair(0, ignored=0.2)
    loss = CrossEntropy((1, 2, 3)) + Dice(smooth=1, classes="all")
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    parts = [
        value(CrossEntropy((1, 2, 3)), labels, logits),
        value(Dice(smooth=1, classes="all"), labels, logits),
    ]
    assert value(copy, labels, logits) == pytest.approx(sum(parts), rel=1e-6)
    weights = np.array([1, 2], "float32")
    parts = [value(term, labels, logits, weights) for term in loss.terms]
    assert value(loss, labels, logits, weights) == pytest.approx(sum(parts), rel=1e-6)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: WeightedSum([]), "at least one loss"),
        (lambda: WeightedSum([Dice()], [1, 2]), "2 weights for 1 losses"),
        (lambda: WeightedSum([Dice()], [-1]), "expected a number of at least 0"),
        (lambda: float("nan") * Dice(), "expected a number of at least 0"),
        (lambda: WeightedSum([keras.losses.Dice()]), "expected a loss of seglib.losses"),
    ],
)
def test_sums_that_make_no_sense(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_only_losses_are_added_and_only_numbers_multiply():
    with pytest.raises(TypeError):
        Dice() + 1
    with pytest.raises(TypeError):
        Dice() * "2"
    with pytest.raises(TypeError):
        Dice() + keras.losses.Dice()


# --- combo ------------------------------------------------------------------------------------


def test_combo_by_hand(value):
    for alpha in (0.0, 0.5, 0.8, 1.0):
        expected = alpha * sum(TERMS) / 4 + (1 - alpha) * DICE
        assert value(Combo(alpha=alpha), LABELS, LOGITS) == pytest.approx(expected, rel=1e-6)
    # The paper's beta = 3/4 for class 1
    weighted = (0.25 * TERMS[0] + 0.75 * TERMS[1] + 0.75 * TERMS[2] + 0.25 * TERMS[3]) / 2
    expected = 0.5 * weighted + 0.5 * DICE
    assert value(Combo((0.25, 0.75)), LABELS, LOGITS) == pytest.approx(expected, rel=1e-6)


def test_combo_is_a_sum_of_two_losses(value, random_pair):
    labels, logits = random_pair(1, ignored=0.2)
    combo = Combo((1, 2, 3), alpha=0.3, smooth=1.0, classes="all")
    parts = 0.3 * CrossEntropy((1, 2, 3)) + 0.7 * Dice(smooth=1.0, classes="all")
    assert value(combo, labels, logits) == pytest.approx(value(parts, labels, logits), rel=1e-6)
    assert Combo.from_config(combo.get_config()).get_config() == combo.get_config()


# --- exponential logarithmic ------------------------------------------------------------------


def test_exp_log_by_hand(value):
    cross = sum(t**0.3 for t in TERMS) / 4
    dice = sum((-math.log((2 * t + 1) / (total + 1))) ** 0.3 for t, total in REGIONS) / 2
    expected = 0.8 * dice + 0.2 * cross
    assert value(ExpLog(), LABELS, LOGITS) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("gamma", [0.3, 1.0, 2.0])
def test_exp_log_value_and_slope(gamma, value_and_gradient, slope, random_pair):
    labels, logits = random_pair(2, shape=(2, 2, 3), ignored=0.1, scale=1.0)
    class_weights = np.array([1.0, 2.0, 4.0])

    def formula(z):
        p, keep = softmax(z.astype("float64"), axis=-1), labels != 255
        own = -np.log(p[keep][np.arange(keep.sum()), labels[keep]])
        cross = np.average(own**gamma, weights=class_weights[labels[keep]])
        pictures = []
        for b in range(2):
            scores = []
            for c in np.unique(labels[b][keep[b]]):
                g, q = labels[b][keep[b]] == c, p[b][keep[b]][:, c]
                score = (2 * q[g].sum() + 1) / (q.sum() + g.sum() + 1)
                scores.append((-np.log(score)) ** gamma)
            pictures.append(np.mean(scores))
        return 0.6 * np.mean(pictures) + 0.4 * cross

    loss = ExpLog(class_weights, gamma=gamma, dice_weight=0.6, cross_weight=0.4)
    result, gradient = value_and_gradient(loss, labels, logits)
    assert result == pytest.approx(formula(logits), rel=1e-5)
    np.testing.assert_allclose(gradient, slope(formula, logits), atol=3e-6)


def nearly_right(labels, margin):
    """The formula where all pixels of three classes are right by one margin, in float64."""
    odds = 2 * math.exp(-margin)  # of the other two classes, over the own one's
    lost = odds / (1 + odds)  # of each pixel; half of it goes to either of the others

    def power(x):
        return x**0.3 if x >= 1e-6 else x * 1e-6**-0.7

    terms = []
    for picture in labels:
        sizes = np.bincount(picture.ravel(), minlength=3)
        for size in sizes:
            wrong = size * lost + (sizes.sum() - size) * lost / 2
            terms.append(power(math.log1p(wrong / (2 * size * (1 - lost) + 1))))
    return 0.8 * np.mean(terms) + 0.2 * power(math.log1p(odds))


def test_exp_log_of_a_perfect_prediction(value_and_gradient, random_pair):
    # A power of 0.3 has no slope to bound a rounding by: 6e-8 in a probability that is almost 1
    # would be 1e-3 in the loss. So both terms start from what is left to the other classes, exp of
    # minus the margin, which has its digits however small it is.
    labels, _ = random_pair(3)
    for margin in (10.0, 14.0, 16.0, 20.0, 40.0, 1e4):
        logits = margin * np.eye(3, dtype="float32")[labels]
        result, gradient = value_and_gradient(ExpLog(), labels, logits)
        assert result == pytest.approx(nearly_right(labels, margin), rel=1e-4, abs=1e-9)
        assert np.abs(gradient).max() < 0.1
    # As wrong as can be
    result, gradient = value_and_gradient(ExpLog(), labels, -logits)
    assert math.isfinite(result) and np.isfinite(gradient).all()


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Combo(alpha=1.5), "alpha is 1.5"),
        (lambda: ExpLog(gamma=0), "gamma is 0"),
        (lambda: ExpLog(smooth=0), "smooth is 0"),
        (lambda: ExpLog(dice_weight=-1), "expected numbers of at least 0"),
    ],
)
def test_arguments_that_make_no_sense(make, message):
    with pytest.raises(ValueError, match=message):
        make()
