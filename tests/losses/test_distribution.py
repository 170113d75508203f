"""Losses of single pixels against hand-computed values and float64 formulas of the papers."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt
from scipy.special import log_softmax, softmax

from seglib.losses import (
    BalancedCrossEntropy,
    CrossEntropy,
    DistancePenalized,
    Focal,
    IoUBalanced,
    TopK,
)

# Logits of one picture of 2 x 2 pixels whose softmax is easy: 1/4 and 3/4, 1/2 and 1/2, 9/10 and
# 1/10. The probability of the true class is 1/4, 3/4, 1/2, 9/10.
LOGITS = np.log([[[[1, 3], [1, 3]], [[1, 1], [9, 1]]]]).astype("float32")
LABELS = np.array([[[0, 1], [1, 0]]])
TERMS = [math.log(4), math.log(4 / 3), math.log(2), math.log(10 / 9)]


def pixel_terms(labels, logits):
    """Cross-entropy of the valid pixels and their labels, float64."""
    keep = labels != 255
    log_p = log_softmax(logits.astype("float64"), axis=-1)[keep]
    return -log_p[np.arange(keep.sum()), labels[keep]], labels[keep]


# --- cross-entropy with a positive weight -----------------------------------------------------


def test_positive_weight_by_hand(value):
    # Pixels 2 and 3 are of class 1, each three times as heavy.
    expected = (TERMS[0] + 3 * TERMS[1] + 3 * TERMS[2] + TERMS[3]) / 8
    assert value(CrossEntropy(positive_weight=3), LABELS, LOGITS) == pytest.approx(expected)
    assert value(CrossEntropy((1, 3)), LABELS, LOGITS) == pytest.approx(expected)


def test_positive_weight_is_the_weighted_binary_cross_entropy(value, random_pair):
    labels, logits = random_pair(0, num_classes=2)
    logits = logits[..., :1]
    p, beta = 1 / (1 + np.exp(-logits[..., 0].astype("float64"))), 4.0
    terms = -beta * labels * np.log(p) - (1 - labels) * np.log(1 - p)
    expected = terms.sum() / np.where(labels == 1, beta, 1).sum()
    assert value(CrossEntropy(positive_weight=beta), labels, logits) == pytest.approx(expected)


def test_positive_weight_that_makes_no_sense(value, random_pair):
    with pytest.raises(ValueError, match="expected one of them"):
        CrossEntropy((1, 2), positive_weight=2)
    with pytest.raises(ValueError, match="more than 0"):
        CrossEntropy(positive_weight=0)
    with pytest.raises(ValueError, match="2 class weights for 3 classes"):
        CrossEntropy(positive_weight=2)(*random_pair())


# --- balanced cross-entropy -------------------------------------------------------------------


def test_balanced_by_hand(value):
    labels = np.array([[[0, 1], [1, 1]]])
    terms = [TERMS[0], TERMS[1], TERMS[2], math.log(10)]
    expected = (terms[0] + sum(terms[1:]) / 3) / 2
    assert value(BalancedCrossEntropy(), labels, LOGITS) == pytest.approx(expected)
    # Class weights weight the mean over the classes.
    expected = (1 * terms[0] + 4 * sum(terms[1:]) / 3) / 5
    assert value(BalancedCrossEntropy((1, 4)), labels, LOGITS) == pytest.approx(expected)
    # The frequencies are those of the valid pixels.
    labels[0, 0, 1] = 255
    expected = (terms[0] + (terms[2] + terms[3]) / 2) / 2
    assert value(BalancedCrossEntropy(), labels, LOGITS) == pytest.approx(expected)


def test_the_balance_is_that_of_the_batch(value, random_pair):
    labels, logits = random_pair(1, ignored=0.2)
    labels[0] = np.where(labels[0] == 2, 0, labels[0])  # class 2 only stands in one picture
    terms, classes = pixel_terms(labels, logits)
    expected = np.mean([terms[classes == c].mean() for c in range(3)])
    assert value(BalancedCrossEntropy(), labels, logits) == pytest.approx(expected, rel=1e-5)


def test_balanced_with_pixel_weights(value, random_pair):
    labels, logits = random_pair(2)
    weights = np.random.default_rng(0).random(labels.shape).astype("float32")
    terms, classes = pixel_terms(labels, logits)
    means = [
        np.average(terms[classes == c], weights=weights.ravel()[classes == c]) for c in range(3)
    ]
    result = value(BalancedCrossEntropy(), labels, logits, weights)
    assert result == pytest.approx(np.mean(means), rel=1e-5)


# --- focal ------------------------------------------------------------------------------------


def test_focal_by_hand(value):
    p = [1 / 4, 3 / 4, 1 / 2, 9 / 10]
    expected = sum((1 - q) ** 2 * t for q, t in zip(p, TERMS, strict=True)) / 4
    assert value(Focal(), LABELS, LOGITS) == pytest.approx(expected)
    # The paper's alpha = 0.25 for class 1: 0.75 for class 0, and no part in the denominator
    alpha = [0.75, 0.25, 0.25, 0.75]
    expected = sum(a * (1 - q) ** 2 * t for a, q, t in zip(alpha, p, TERMS, strict=True)) / 4
    assert value(Focal(alpha=(0.75, 0.25)), LABELS, LOGITS) == pytest.approx(expected)
    # Class weights stand in the denominator.
    w = [1, 3, 3, 1]
    expected = sum(a * (1 - q) ** 2 * t for a, q, t in zip(w, p, TERMS, strict=True)) / 8
    assert value(Focal((1, 3)), LABELS, LOGITS) == pytest.approx(expected)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
def test_focal_value_and_slope(gamma, value_and_gradient, slope, random_pair):
    labels, logits = random_pair(3, shape=(1, 2, 3), ignored=0.2)

    def formula(z):
        terms, _ = pixel_terms(labels, z)
        return ((1 - np.exp(-terms)) ** gamma * terms).mean()

    result, gradient = value_and_gradient(Focal(gamma=gamma), labels, logits)
    assert result == pytest.approx(formula(logits), rel=1e-5)
    np.testing.assert_allclose(gradient, slope(formula, logits), atol=1e-6)


@pytest.mark.parametrize("gamma", [0.3, 1.0, 2.0])
def test_focal_of_a_certain_pixel(gamma, value_and_gradient):
    for margin in (20.0, 200.0, 1e4):
        logits = np.array([[[[margin, 0.0]]]], "float32")
        result, gradient = value_and_gradient(Focal(gamma=gamma), np.zeros((1, 1, 1)), logits)
        assert 0 <= result < 1e-6 and np.abs(gradient).max() < 1e-6


# --- top k ------------------------------------------------------------------------------------


def test_top_k_by_hand(value):
    assert value(TopK(k=0.25), LABELS, LOGITS) == pytest.approx(TERMS[0])
    assert value(TopK(k=0.5), LABELS, LOGITS) == pytest.approx((TERMS[0] + TERMS[2]) / 2)
    assert value(TopK(k=1), LABELS, LOGITS) == pytest.approx(sum(TERMS) / 4)
    # At least one pixel.
    assert value(TopK(k=0.001), LABELS, LOGITS) == pytest.approx(TERMS[0])
    # Half of the three valid pixels, rounded to two: neither half of all, nor ignored ones.
    labels = np.array([[[255, 1], [1, 0]]])
    assert value(TopK(k=0.5), labels, LOGITS) == pytest.approx((TERMS[2] + TERMS[1]) / 2)


def test_top_k_counts_over_the_batch(value, random_pair):
    labels, logits = random_pair(4, shape=(3, 7, 9), ignored=0.3)
    terms, _ = pixel_terms(labels, logits)
    for k in (0.05, 0.13, 0.31, 0.77):
        number = round(k * len(terms))
        expected = np.sort(terms)[-number:].mean()
        assert value(TopK(k=k), labels, logits) == pytest.approx(expected, rel=1e-5)


def test_top_k_teaches_the_hardest_only(value_and_gradient, random_pair):
    labels, logits = random_pair(5, shape=(1, 10, 10))
    terms, _ = pixel_terms(labels, logits)
    _, gradient = value_and_gradient(TopK(k=0.2), labels, logits)
    taught = np.abs(gradient).max(-1).ravel() > 0
    np.testing.assert_array_equal(np.sort(terms)[-20:], np.sort(terms[taught]))
    _, of_all = value_and_gradient(CrossEntropy(), labels, logits)
    np.testing.assert_allclose(
        gradient.reshape(-1, 3)[taught], 5 * of_all.reshape(-1, 3)[taught], rtol=1e-5, atol=1e-8
    )


def test_pixels_that_tie_share_the_places(value_and_gradient):
    labels, logits = np.zeros((1, 4, 4)), np.zeros((1, 4, 4, 2), "float32")
    result, gradient = value_and_gradient(TopK(k=0.25), labels, logits)
    assert result == pytest.approx(math.log(2))
    np.testing.assert_allclose(gradient[..., 0], -0.5 / 16, rtol=1e-6)


def test_one_pixel_of_huge_loss_does_not_blur_the_threshold(value, random_pair):
    labels, logits = random_pair(6, shape=(1, 20, 20), scale=0.01)
    logits[0, 0, 0] = [-1e4, -1e4, -1e4]
    logits[0, 0, 0, (labels[0, 0, 0] + 1) % 3] = 1e4
    terms, _ = pixel_terms(labels, logits)
    expected = np.sort(terms)[-40:].mean()
    assert value(TopK(k=0.1), labels, logits) == pytest.approx(expected, rel=1e-6)


# --- IoU-balanced -----------------------------------------------------------------------------


def iou_weights(labels, logits, eta):
    p = softmax(logits.astype("float64"), axis=-1)
    found = np.zeros(labels.shape)
    for b in range(len(labels)):
        valid = labels[b] != 255
        for c in range(logits.shape[-1]):
            own = labels[b] == c
            hit, union = p[b, own, c].sum(), own.sum() + p[b, valid & ~own, c].sum()
            found[b, own] = max(hit / union, 0.01) ** eta if own.any() else 0
    return found


def test_iou_balanced_keeps_the_value_and_moves_the_gradient(value_and_gradient, random_pair):
    labels, logits = random_pair(7, ignored=0.2)
    weights = iou_weights(labels, logits, 1.5)
    result, gradient = value_and_gradient(IoUBalanced(), labels, logits)
    plain, plain_gradient = value_and_gradient(CrossEntropy(), labels, logits)
    assert result == pytest.approx(plain, rel=1e-6)
    terms, _ = pixel_terms(labels, logits)
    scale = terms.sum() / (weights[labels != 255] * terms).sum()
    expected = scale * weights[..., None] * plain_gradient
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-8)


def test_iou_balanced_by_hand(value_and_gradient):
    # One picture of two pixels: p of the true class is 3/4 in class 0, 1/2 in class 1.
    logits = np.log([[[[3, 1], [1, 1]]]]).astype("float32")
    _, gradient = value_and_gradient(IoUBalanced(eta=1), np.array([[[0, 1]]]), logits)
    # IoU of class 0: 3/4 / (1 + 1/2) = 1/2; of class 1: 1/2 / (1 + 1/4) = 2/5
    a, b = math.log(4 / 3), math.log(2)
    scale = (a + b) / (a / 2 + 2 * b / 5)
    expected = scale * np.array([[[[-1 / 8, 1 / 8], [1 / 5, -1 / 5]]]]) / 2
    np.testing.assert_allclose(gradient, expected, rtol=1e-5)


def test_a_class_that_is_missed_altogether_is_still_taught(value_and_gradient):
    labels = np.array([[[0, 0, 1, 1]]])
    logits = np.array([[[[50, 0]] * 4]], "float32")
    result, gradient = value_and_gradient(IoUBalanced(), labels, logits)
    assert result == pytest.approx(25)
    assert (gradient[0, 0, 2:, 1] < -0.1).all()


# --- distance-penalized -----------------------------------------------------------------------


def test_distance_penalized_by_hand(value):
    # Class 0 0 0 1 in a row: distances 3 2 1 1, the weights 1 + 3 - d are 1 2 3 3.
    labels, logits = np.array([[[0, 0, 0, 1]]]), LOGITS.reshape(1, 1, 4, 2)
    terms = [math.log(4), math.log(4), math.log(2), math.log(10)]
    expected = (terms[0] + 2 * terms[1] + 3 * terms[2] + 3 * terms[3]) / 9
    assert value(DistancePenalized(), labels, logits) == pytest.approx(expected)
    # The farthest pixel ignored: the weights become 1 2 2.
    labels = np.array([[[255, 0, 0, 1]]])
    expected = (terms[1] + 2 * terms[2] + 2 * terms[3]) / 5
    assert value(DistancePenalized(), labels, logits) == pytest.approx(expected)


def test_distance_penalized_against_scipy(value, random_pair):
    labels, logits = random_pair(8, shape=(3, 9, 11))
    weights = np.zeros(labels.shape)
    for b, picture in enumerate(labels):
        depth = sum(distance_transform_edt(picture == c) for c in range(3))
        weights[b] = 1 + depth.max() - depth
    terms, _ = pixel_terms(labels, logits)
    expected = np.average(terms, weights=weights.ravel())
    assert value(DistancePenalized(), labels, logits) == pytest.approx(expected, rel=1e-5)


def test_without_a_boundary_it_is_cross_entropy(value, random_pair):
    _, logits = random_pair(9)
    labels = np.ones((2, 5, 6), "int32")
    expected = value(CrossEntropy(), labels, logits)
    assert value(DistancePenalized(), labels, logits) == pytest.approx(expected, rel=1e-6)


# --- together ---------------------------------------------------------------------------------


@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([0.1, 1.0, 10.0]))
def test_how_they_relate(value, random_pair, seed, scale):
    labels, logits = random_pair(seed, ignored=0.2, scale=scale)
    plain = value(CrossEntropy(), labels, logits)
    same = pytest.approx(plain, rel=1e-5, abs=1e-7)
    assert value(Focal(gamma=0), labels, logits) == same
    assert value(TopK(k=1), labels, logits) == same
    assert value(IoUBalanced(), labels, logits) == same
    assert 0 <= value(Focal(), labels, logits) <= plain * (1 + 1e-5)
    hard, harder = (value(TopK(k=k), labels, logits) for k in (0.5, 0.1))
    assert plain * (1 - 1e-5) <= hard <= harder * (1 + 1e-5)


@pytest.mark.parametrize(
    "kind, kwargs, message",
    [
        (Focal, {"gamma": -1}, "gamma is -1"),
        (Focal, {"alpha": (1, -1)}, "alpha is"),
        (TopK, {"k": 0}, "k is 0"),
        (TopK, {"k": 1.5}, "k is 1.5"),
        (IoUBalanced, {"eta": -0.5}, "eta is -0.5"),
    ],
)
def test_arguments_that_make_no_sense(kind, kwargs, message):
    with pytest.raises(ValueError, match=message):
        kind(**kwargs)


def test_one_alpha_a_class(random_pair):
    with pytest.raises(ValueError, match="2 numbers in alpha for 3 classes"):
        Focal(alpha=(1, 2))(*random_pair())
