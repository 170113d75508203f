"""The comparison of two models against their reports, SciPy's bootstrap, and by symmetry."""

import numpy as np
import pytest
from scipy import ndimage, stats

from seglib.metrics import compare, report
from seglib.metrics.comparison import Difference, differences

NAMES = ("pet", "background", "border")


def pictures(seed=0, number=8, size=(24, 20)):
    """Label maps, some pixels ignored, and the logits of a bad and of a better model."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=(3, number, *size, 3)), (0, 0, 2, 2, 0))
    truth = noise[0].argmax(-1).astype("uint8")
    truth = np.where(rng.random(truth.shape) < 0.1, 255, truth).astype("uint8")
    logits = [(noise[0] + amount * noise[1]).astype("float32") for amount in (1.0, 0.3)]
    return truth, *logits


def batches(truth, *logits, size=3):
    """The 'images' are the logits of both models, side by side."""
    both = np.concatenate(logits, axis=-1)
    return [(both[i : i + size], truth[i : i + size]) for i in range(0, len(truth), size)]


def bad(images):
    return images[..., :3]


def good(images):
    return images[..., 3:]


def made(first=bad, second=good, **kwargs):
    options = {"classes": NAMES, "bootstrap": 50} | kwargs
    return compare(first, second, batches(*pictures()), **options)


def test_the_differences_are_those_of_the_reports():
    data, found = batches(*pictures()), made()
    one, two = (report(model, data, classes=NAMES, bootstrap=0) for model in (bad, good))
    assert list(found) == [*list(one.scores)[:4], "pixel_accuracy", *list(one.scores)[4:]]
    for score, column in one.scores.items():
        for name, value in column.items():
            expected = two.scores[score][name].value - value.value
            assert found[score][name].value == pytest.approx(expected, abs=1e-12)
    expected = two.pixel_accuracy.value - one.pixel_accuracy.value
    assert found["pixel_accuracy"]["mean"].value == pytest.approx(expected, abs=1e-12)


def test_a_model_is_as_good_as_itself():
    for column in made(good, good).values():
        assert all(
            difference == (0, 0, 0) and not difference.seen for difference in column.values()
        )


def test_exchanged_models_change_the_sign():
    forth, back = made(), made(good, bad)
    for score, column in forth.items():
        for name, (value, low, high) in column.items():
            assert back[score][name] == pytest.approx((-value, -high, -low), abs=1e-12)


def test_the_interval_is_scipys_of_pairs():
    rng = np.random.default_rng(1)
    pixels = rng.integers(50, 200, 60)
    one = rng.binomial(pixels, 0.6)
    two = one + rng.binomial(pixels - one, 0.1)

    def counted(right):
        matrices = np.zeros((len(right), 2, 2), "int64")
        matrices[:, 0, 0], matrices[:, 0, 1] = right, pixels - right
        return {"matrices": matrices}

    found = differences(counted(one), counted(two), ("a", "b"), 20_000, 0.9, 0)
    found = found["pixel_accuracy"]["mean"]
    expected = stats.bootstrap(
        (one, two, pixels),
        lambda one, two, whole, axis: (two.sum(axis) - one.sum(axis)) / whole.sum(axis),
        paired=True,
        vectorized=True,
        n_resamples=20_000,
        confidence_level=0.9,
        method="percentile",
        rng=2,
    ).confidence_interval
    width = expected.high - expected.low
    assert found.low == pytest.approx(expected.low, abs=0.05 * width)
    assert found.high == pytest.approx(expected.high, abs=0.05 * width)


def test_pairing_sees_what_two_reports_do_not():
    """Pictures between easy and hopeless; the second model gets one pixel more of each right."""
    right = np.linspace(5, 95, 30).astype(int)

    def model(more):
        # one channel a class; `images` holds the number of right pixels out of 100
        def logits(images):
            is_right = np.arange(100).reshape(10, 10) < (images[:, None, None] + more)
            return np.stack([is_right, ~is_right], axis=-1).astype("float32")

        return logits

    data = [(right, np.zeros((30, 10, 10), "uint8"))]
    options = {"bootstrap": 200, "boundary": False}
    one, two = (report(model(more), data, **options).pixel_accuracy for more in (0, 1))
    assert one.high > two.low
    found = compare(model(0), model(1), data, **options)["pixel_accuracy"]["mean"]
    assert found == pytest.approx((0.01, 0.01, 0.01), abs=1e-12) and found.seen


@pytest.mark.parametrize(
    "difference, seen, text",
    [
        (Difference(0.02, 0.01, 0.03), True, "+0.020 (+0.010 to +0.030)"),
        (Difference(-0.02, -0.03, -0.01), True, "-0.020 (-0.030 to -0.010)"),
        (Difference(0.02, -0.01, 0.05), False, "+0.020 (-0.010 to +0.050)"),
        (Difference(0.02, np.nan, np.nan), False, "+0.020"),
        (Difference(np.nan, np.nan, np.nan), False, "–"),
    ],
)
def test_a_difference_is_seen_if_zero_lies_outside(difference, seen, text):
    assert (difference.seen, str(difference)) == (seen, text)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"classes": ("a", "b")}, "2 names for 3 classes"),
        ({"confidence": 95}, "confidence is 95"),
        ({"bootstrap": -1}, "bootstrap is -1"),
        ({"second": lambda images: images[..., :2]}, "3 and 2 classes"),
    ],
)
def test_arguments_that_make_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        made(**options)


def test_a_data_set_without_a_batch():
    with pytest.raises(ValueError, match="holds no batch"):
        compare(bad, good, [])
