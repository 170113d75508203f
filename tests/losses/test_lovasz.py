"""The Lovász losses against hand-computed values and the definition in NumPy; any backend.

The paper prints no loss value that could be checked, so the examples are computed by hand.
"""

import math

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import softmax
from sklearn.metrics import jaccard_score

from seglib.losses.lovasz import LovaszHinge, LovaszSoftmax, sorted_loss

BACKEND = keras.backend.backend()
to_numpy = keras.ops.convert_to_numpy

both_methods = pytest.mark.parametrize("method", ["histogram", "sort"])


def jaccard(inside, wrong, weights):
    """The Jaccard loss of a set of wrong pixels, as the paper defines it."""
    union = weights[inside | wrong].sum()
    return 1 - weights[inside & ~wrong].sum() / union if union else 0.0


def extension(errors, inside, weights):
    """The Lovász extension as it is defined: each prefix of the sorted errors is a set of pixels.

    No cumulative sum: the Jaccard loss of each set is computed anew.
    """
    total, before, wrong = 0.0, 0.0, np.zeros(len(errors), bool)
    for i in np.argsort(-errors, kind="stable"):
        wrong[i] = True
        after = jaccard(inside, wrong, weights)
        total += errors[i] * (after - before)
        before = after
    return total


def mean_extension(
    labels, logits, weights=None, *, classes="present", per_image=True, class_weights=None
):
    """Lovász-softmax in float64: the mean over classes, then over pictures."""
    count = logits.shape[-1]
    weights = np.ones(labels.shape) if weights is None else weights.astype("float64")
    class_weights = np.ones(count) if class_weights is None else np.array(class_weights, float)
    if not per_image:
        labels, weights = labels.reshape(1, -1), weights.reshape(1, -1)
        logits = logits.reshape(1, -1, count)
    pictures = []
    for y, z, w in zip(labels, logits, weights, strict=True):
        keep = y != 255
        p, y, w = softmax(z[keep].astype("float64"), axis=-1), y[keep], w[keep]
        used = [c for c in range(count) if (w[y == c].sum() > 0 or classes == "all") and len(y)]
        each = [extension(abs((y == c) - p[:, c]), y == c, w) for c in used]
        if used and class_weights[used].sum():
            pictures.append(np.average(each, weights=class_weights[used]))
    return np.mean(pictures) if pictures else 0.0


def logits_of(p):
    """Logits `[..., 2]` whose softmax gives class 1 the probability p."""
    return np.log(np.stack([1 - np.asarray(p), p], axis=-1)).astype("float32")


def hard(labels, num_classes):
    return np.where(np.eye(num_classes)[labels] > 0, 1e4, -1e4).astype("float32")


# --- values -----------------------------------------------------------------------------------


@both_methods
def test_a_picture_of_four_pixels_by_hand(method, value, value_and_gradient):
    labels = np.array([[[1, 1], [0, 0]]])
    logits = logits_of([[[0.75, 0.25], [0.5, 0.2]]])
    # Errors .25 .75 .5 .2 for both classes. Class 1: sorted .75 (in), .5 (out), .25 (in), .2 (out);
    # Jaccard losses 1/2, 2/3, 1, 1, so the slopes are 1/2, 1/6, 1/3, 0.
    class_1 = 0.75 / 2 + 0.5 / 6 + 0.25 / 3
    # Class 0: .75 (out), .5 (in), .25 (out), .2 (in); losses 1/3, 2/3, 3/4, 1.
    class_0 = 0.75 / 3 + 0.5 / 3 + 0.25 / 12 + 0.2 / 4
    assert class_1 == pytest.approx(13 / 24) and class_0 == pytest.approx(0.4875)
    options = {"method": method}
    loss = LovaszSoftmax(**options)
    assert value(loss, labels, logits) == pytest.approx((class_0 + class_1) / 2, rel=1e-6)
    assert value(LovaszSoftmax((0, 1), **options), labels, logits) == pytest.approx(class_1)
    assert value(LovaszSoftmax((1, 3), **options), labels, logits) == pytest.approx(
        (class_0 + 3 * class_1) / 4
    )
    # Pixel 2 (p = .25, class 1): its error has slope 1/2 in class 1 and 1/3 in class 0, and falls
    # with the logit z by dp/dz = p (1 - p) = 3/16.
    _, gradient = value_and_gradient(loss, labels, logits)
    assert gradient[0, 0, 1, 1] == pytest.approx(-(1 / 2 + 1 / 3) / 2 * 3 / 16, rel=1e-5)
    assert gradient[0, 0, 1, 0] == pytest.approx(+(1 / 2 + 1 / 3) / 2 * 3 / 16, rel=1e-5)


@both_methods
def test_hard_predictions_of_nine_pixels_by_hand(method, value):
    labels = np.array([[[0, 0, 1], [0, 1, 1], [2, 2, 2]]])
    predicted = np.array([[[0, 1, 1], [0, 1, 1], [2, 2, 0]]])
    # IoU: class 0 2/4, class 1 3/4, class 2 2/3
    expected = (1 / 2 + 1 / 4 + 1 / 3) / 3
    loss = LovaszSoftmax(method=method)
    assert value(loss, labels, hard(predicted, 3)) == pytest.approx(expected, rel=1e-6)
    # A probability of 1 comes out of a softmax with an error of up to 2^-23, and the histogram adds
    # up 27 terms of at most 1 in float32: 0 is promised to 27 roundings of 2^-24.
    assert value(loss, labels, hard(labels, 3)) == pytest.approx(0, abs=27 * 2**-24)


def test_the_hinge_of_four_pixels_by_hand(value, value_and_gradient):
    labels = np.array([[[1, 1], [0, 0]]])
    logits = np.array([2, 0.5, -0.25, 1], "float32").reshape(1, 2, 2, 1)
    # Errors 1 - s z: -1 (so 0), .5, .75, 2. Sorted 2 (out), .75 (out), .5 (in), 0 (in): Jaccard
    # losses 1/3, 1/2, 3/4, 1.
    expected = 2 / 3 + 0.75 / 6 + 0.5 / 4
    result, gradient = value_and_gradient(LovaszHinge(), labels, logits)
    assert result == pytest.approx(expected)
    np.testing.assert_allclose(gradient.ravel(), [0, -1 / 4, 1 / 6, 1 / 3], rtol=1e-6)
    # For class 0: 2 (in), .75 (in), .5 (out), 0 (out): 1/2, 1, 1, 1
    class_0 = 2 / 2 + 0.75 / 2
    assert value(LovaszHinge((1, 0)), labels, logits) == pytest.approx(class_0)
    for weights in (None, (1, 1)):
        both = value(LovaszHinge(weights), labels, logits)
        assert both == pytest.approx((expected + class_0) / 2)


@both_methods
@pytest.mark.parametrize("per_image", [True, False])
@pytest.mark.parametrize("classes", ["present", "all"])
@pytest.mark.parametrize("class_weights", [None, (1, 2, 0.5, 4)])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_definition(method, per_image, classes, class_weights, weighted, random_pair, value):
    labels, logits = random_pair(1, (3, 4, 5), num_classes=4, ignored=0.2)
    labels[0][labels[0] == 1] = 0
    labels[1][labels[1] != 255] = 3
    weights = np.random.default_rng(0).random(labels.shape).astype("float32") if weighted else None
    options = {"per_image": per_image, "classes": classes}
    expected = mean_extension(labels, logits, weights, class_weights=class_weights, **options)
    loss = LovaszSoftmax(class_weights, method=method, **options)
    # With at most 20 or 60 pixels, next to no two of them share a bin of 4096.
    fine = LovaszSoftmax(class_weights, method=method, bins=4096, **options)
    assert value(fine, labels, logits, weights) == pytest.approx(expected, abs=2e-6)
    assert value(loss, labels, logits, weights) == pytest.approx(expected, abs=2 / 1024)


@pytest.mark.parametrize("per_image", [True, False])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_definition_of_the_hinge(per_image, weighted, random_pair, value):
    labels, logits = random_pair(2, (3, 4, 5), num_classes=2, ignored=0.2)
    labels[2][labels[2] == 1] = 0
    weights = np.ones(labels.shape)
    if weighted:
        weights = np.random.default_rng(0).random(labels.shape)
    margins = logits.astype("float64")
    errors = np.maximum(0, 1 - (2.0 * (labels == 1) - 1) * (margins[..., 1] - margins[..., 0]))
    groups = range(3) if per_image else [slice(None)]
    expected = []
    for group in groups:
        keep = labels[group] != 255
        parts = (part[group][keep] for part in (errors, labels == 1, weights))
        expected.append(extension(*parts))
    loss = LovaszHinge(per_image=per_image)
    result = value(loss, labels, logits, weights.astype("float32") if weighted else None)
    assert result == pytest.approx(np.mean(expected), rel=1e-5)
    if per_image:  # the last picture has no pixel of the class
        present = LovaszHinge(classes="present")
        result = value(present, labels, logits, weights.astype("float32") if weighted else None)
        assert result == pytest.approx(np.mean(expected[:2]), rel=1e-5)


@both_methods
@given(
    true=hnp.arrays("int32", (2, 3, 4), elements=st.integers(0, 2)),
    predicted=hnp.arrays("int32", (2, 3, 4), elements=st.integers(0, 2)),
)
def test_at_hard_predictions_it_is_the_jaccard_loss(method, value, true, predicted):
    expected = []
    for y, x in zip(true, predicted, strict=True):
        present = np.unique(y)
        iou = jaccard_score(y.ravel(), x.ravel(), labels=present, average="macro")
        expected.append(1 - iou)
    result = value(LovaszSoftmax(method=method), true, hard(predicted, 3))
    assert result == pytest.approx(np.mean(expected), abs=1e-6)


@both_methods
def test_an_absent_class_costs_its_largest_probability(method, value):
    labels = np.zeros((1, 2, 2), "int32")
    logits = logits_of([[[0.75, 0.25], [0.5, 0.2]]])
    # Class 0 fills the picture: each pixel's slope is 1/4.
    class_0 = (0.75 + 0.25 + 0.5 + 0.2) / 4
    assert value(LovaszSoftmax(method=method), labels, logits) == pytest.approx(class_0)
    everything = LovaszSoftmax(method=method, classes="all")
    assert value(everything, labels, logits) == pytest.approx((class_0 + 0.75) / 2)


# --- the histogram's error --------------------------------------------------------------------

# Errors that share bins, sit on their edges, are tied, or lie at both ends.
awkward = st.sampled_from([1e-7, 1e-4, 0.02, 0.125, 0.49, 0.5, 0.51, 0.875, 0.98, 1 - 1e-4, 1])
error_values = st.one_of(awkward, st.floats(0.0009765625, 0.9990234375, width=32))


@given(
    bins=st.sampled_from([1, 2, 3, 8, 64, 1024]),
    labels=hnp.arrays("int32", (1, 3, 4), elements=st.integers(0, 1)),
    p=hnp.arrays("float64", (1, 3, 4), elements=error_values),
    weights=st.one_of(
        st.none(), hnp.arrays("float32", (1, 3, 4), elements=st.sampled_from([0.25, 1, 40]))
    ),
)
def test_the_bound_of_the_docstring(value, bins, labels, p, weights):
    logits = logits_of(np.minimum(p, 1 - 1e-9))
    for c in (0, 1):
        class_weights = (1 - c, c)
        exact = mean_extension(labels, logits, weights, class_weights=class_weights)
        histogram = value(LovaszSoftmax(class_weights, bins=bins), labels, logits, weights)
        assert -1e-6 <= exact - histogram <= 2 / bins + 1e-6


@pytest.mark.parametrize("p", [1e-6, 0.3, 0.5, 0.999])
def test_tied_errors_are_exact_with_any_number_of_bins(p, value):
    labels = np.random.default_rng(0).integers(0, 2, (1, 6, 6))
    right = np.full(labels.shape, p)
    logits = logits_of(np.where(labels == 1, 1 - right, right))  # every error is p
    for bins in (1, 5, 1024):  # float32 knows 1 - p to 6e-8
        result = value(LovaszSoftmax(bins=bins), labels, logits)
        assert result == pytest.approx(p, rel=1e-5, abs=1e-7)


def test_the_worst_case_is_within_the_bound(value):
    # One pixel of the class, right; one other wrong by just less than one bin, 38 right: the exact
    # slope of the wrong one is 1/2, the bin's mean slope far less.
    labels = np.zeros((1, 5, 8), "int32")
    labels[0, 0, 0] = 1
    p = np.zeros(labels.shape)
    p[0, 0, 0], p[0, 1, 1] = 1, 0.124  # 8 bins: the first ends at 2 / 64, the second at 1 / 8
    p = np.clip(p, 1e-9, 1 - 1e-9)
    exact = mean_extension(labels, logits_of(p), class_weights=(0, 1))
    for bins in (4, 2, 1):
        loss = value(LovaszSoftmax((0, 1), bins=bins), labels, logits_of(p))
        assert 0.01 < exact - loss < 2 / bins


def predictions(kind):
    """Labels and logits `[2, 128, 128, 5]` of networks in different stages of training."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, (2, 128, 128))
    noise = rng.normal(size=(*labels.shape, 5))
    right = np.eye(5)[labels]
    logits = {
        "random": noise,
        "random and confident": 20 * noise,
        "half right": 2 * noise + 3 * right,
        "right": 2 * noise + 10 * right,
        "near-perfect": 2 * noise + 15 * right,
    }[kind]
    return labels, logits.astype("float32")


@pytest.mark.parametrize(
    "kind", ["random", "random and confident", "half right", "right", "near-perfect"]
)
@pytest.mark.parametrize("per_image", [True, False])
def test_the_gradient_is_that_of_the_exact_form(kind, per_image, value_and_gradient):
    labels, logits = predictions(kind)
    loss, gradient = value_and_gradient(LovaszSoftmax(per_image=per_image), labels, logits)
    exact = LovaszSoftmax(per_image=per_image, method="sort")
    expected, right = value_and_gradient(exact, labels, logits)
    assert loss == pytest.approx(expected, abs=2e-6)
    assert np.linalg.norm(gradient - right) < 0.001 * np.linalg.norm(right)


# --- gradients --------------------------------------------------------------------------------


@both_methods
@pytest.mark.parametrize("per_image", [True, False])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_gradient_is_the_slope_of_the_definition(
    method, per_image, weighted, random_pair, value_and_gradient, slope
):
    labels, logits = random_pair(8, (2, 2, 3), num_classes=3, ignored=0.2)
    weights = np.random.default_rng(0).random(labels.shape).astype("float32") if weighted else None
    loss = LovaszSoftmax((1, 2, 5), method=method, per_image=per_image, bins=8192)
    _, gradient = value_and_gradient(loss, labels, logits, weights)
    expected = slope(
        lambda z: mean_extension(labels, z, weights, per_image=per_image, class_weights=(1, 2, 5)),
        logits,
    )
    np.testing.assert_allclose(gradient, expected, atol=1e-6)


@both_methods
def test_going_downhill_raises_the_iou(method, value_and_gradient):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (2, 6, 6))
    logits = rng.normal(size=(*labels.shape, 3)).astype("float32")
    loss, losses = LovaszSoftmax(method=method), []
    before = (logits.argmax(-1) == labels).mean()
    for _ in range(60):
        result, gradient = value_and_gradient(loss, labels, logits)
        losses.append(result)
        logits = logits - 20 * gradient
    assert losses[-1] < 0.25 * losses[0]
    assert before < 0.5 and (logits.argmax(-1) == labels).mean() > 0.8


# --- convexity --------------------------------------------------------------------------------

unit = st.floats(0, 1, width=32)


@given(
    a=hnp.arrays("float32", 9, elements=unit),
    b=hnp.arrays("float32", 9, elements=unit),
    inside=hnp.arrays("bool", 9),
    share=unit,
)
def test_it_is_convex_in_the_errors(a, b, inside, share):
    mask = inside.astype("float32")

    def loss(errors):
        return float(to_numpy(sorted_loss(errors.astype("float32"), mask, 1 - mask)))

    between = loss(share * a + (1 - share) * b)
    assert between <= share * loss(a) + (1 - share) * loss(b) + 1e-6


@given(
    a=hnp.arrays("float32", (1, 2, 4, 1), elements=st.floats(-3, 3, width=32)),
    b=hnp.arrays("float32", (1, 2, 4, 1), elements=st.floats(-3, 3, width=32)),
    labels=hnp.arrays("int32", (1, 2, 4), elements=st.integers(0, 1)),
)
def test_the_hinge_is_convex_in_the_logits_and_above_the_jaccard_loss(value, a, b, labels):
    loss = LovaszHinge()
    of_a, of_b, between = (value(loss, labels, logits) for logits in (a, b, (a + b) / 2))
    assert between <= (of_a + of_b) / 2 + 1e-5
    wrong = ((a[..., 0] > 0) != (labels == 1)).ravel()
    assert of_a >= jaccard((labels == 1).ravel(), wrong, np.ones(8)) - 1e-6


# --- ignored pixels, weights, channels --------------------------------------------------------


ALL = {
    "histogram": LovaszSoftmax,
    "sort": lambda **kwargs: LovaszSoftmax(method="sort", **kwargs),
    "hinge": LovaszHinge,
}
all_losses = pytest.mark.parametrize("kind", ALL)


@all_losses
@pytest.mark.parametrize("per_image", [True, False])
@pytest.mark.parametrize("garbage", [float("nan"), 1e4])
def test_ignored_pixels_do_not_matter(kind, per_image, garbage, random_pair, value_and_gradient):
    labels, logits = random_pair(3, num_classes=2, ignored=0.3)
    ignored = labels == 255
    loss = ALL[kind](per_image=per_image)
    before, gradient = value_and_gradient(loss, labels, logits)
    changed = np.where(ignored[..., None], np.float32(garbage), logits)
    after, gradient_after = value_and_gradient(loss, labels, changed)
    assert after == before
    np.testing.assert_array_equal(gradient_after, gradient)
    assert not gradient[ignored].any()


@all_losses
@pytest.mark.parametrize("per_image", [True, False])
def test_a_pixel_of_weight_two_is_two_equal_pixels(kind, per_image, random_pair, value):
    labels, logits = random_pair(4, num_classes=2, ignored=0.1)
    weights = np.ones(labels.shape, "float32")
    weights[:, :, :3] = 2
    wide = [np.concatenate([part, part[:, :, :3]], axis=2) for part in (labels, logits)]
    loss = ALL[kind](per_image=per_image)
    assert value(loss, labels, logits, weights) == pytest.approx(value(loss, *wide), rel=1e-5)


@all_losses
def test_weights_of_pictures(kind, random_pair, value):
    labels, logits = random_pair(5, num_classes=2)
    loss = ALL[kind]()
    single = [value(loss, labels[i : i + 1], logits[i : i + 1]) for i in range(2)]
    weighted = value(loss, labels, logits, np.array([1.0, 3.0], "float32"))
    assert weighted == pytest.approx((single[0] + 3 * single[1]) / 4, rel=1e-5)
    # As one picture, there is no mean to weight: all pixels of the second count three times.
    pooled = ALL[kind](per_image=False)
    thrice = [np.concatenate([part, part[1:], part[1:]]) for part in (labels, logits)]
    weighted = value(pooled, labels, logits, np.array([1.0, 3.0], "float32"))
    assert weighted == pytest.approx(value(pooled, *thrice), rel=1e-5)


@all_losses
@pytest.mark.parametrize("per_image", [True, False])
def test_a_batch_of_ignored_pixels_costs_nothing(kind, per_image, random_pair, value_and_gradient):
    _, logits = random_pair(num_classes=2)
    labels = np.full(logits.shape[:3], 255, "uint8")
    result, gradient = value_and_gradient(ALL[kind](per_image=per_image), labels, logits)
    assert result == 0.0
    np.testing.assert_array_equal(gradient, np.zeros_like(logits))


@all_losses
def test_one_channel_is_the_second_of_two(kind, random_pair, value_and_gradient):
    labels, logits = random_pair(6, num_classes=2, ignored=0.1)
    z = logits[..., 1:]
    one, gradient = value_and_gradient(ALL[kind](), labels, z)
    two, of_two = value_and_gradient(ALL[kind](), labels, np.concatenate([0 * z, z], axis=-1))
    assert one == pytest.approx(two, rel=1e-6)
    np.testing.assert_allclose(gradient, of_two[..., 1:], atol=1e-7)


@all_losses
def test_extreme_logits_are_finite(kind, value_and_gradient):
    rng = np.random.default_rng(0)
    logits = rng.choice([-1e4, 0, 1e4], (1, 8, 8, 2)).astype("float32")
    result, gradient = value_and_gradient(ALL[kind](), rng.integers(0, 2, (1, 8, 8)), logits)
    assert math.isfinite(result) and result > 0
    assert np.isfinite(gradient).all()


@all_losses
@pytest.mark.parametrize("per_image", [True, False])
def test_labels_that_are_no_class_and_nan_logits_make_it_nan(kind, per_image, random_pair, value):
    labels, logits = random_pair(num_classes=2)
    loss = ALL[kind](per_image=per_image)
    wrong = labels.copy()
    wrong[1, 2, 3] = 7
    assert math.isnan(value(loss, wrong, logits))
    logits[0, 0, 0, 0] = np.nan
    assert math.isnan(value(loss, labels, logits))


# --- compiled, saved, refused -----------------------------------------------------------------


@all_losses
@pytest.mark.parametrize("per_image, weighted", [(True, False), (False, True)])
def test_compiled_it_is_the_same(kind, per_image, weighted, random_pair, value_and_gradient):
    labels, logits = random_pair(7, num_classes=2, ignored=0.1)
    weights = np.random.default_rng(0).random(labels.shape).astype("float32") if weighted else None
    loss = ALL[kind](per_image=per_image)
    expected, gradient = value_and_gradient(loss, labels, logits, weights)
    if BACKEND == "jax":
        import jax

        result = jax.jit(jax.value_and_grad(lambda z: loss(labels, z, weights)))(logits)
        check(result, expected, gradient)
    elif BACKEND == "tensorflow":
        import tensorflow as tf

        def step(y, z):
            with tf.GradientTape() as tape:
                tape.watch(z)
                result = loss(y, z, weights)
            return result, tape.gradient(result, z)

        for options in ({"jit_compile": True}, {"input_signature": unknown_sizes(tf)}):
            compiled = tf.function(step, autograph=False, **options)
            check(compiled(labels.astype("int32"), tf.constant(logits)), expected, gradient)


def unknown_sizes(tf):
    shape = [None, None, None]
    return [tf.TensorSpec(shape, "int32"), tf.TensorSpec([*shape, 2], "float32")]


def check(result, expected, gradient):
    assert float(result[0]) == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(to_numpy(result[1]), gradient, atol=1e-6)


@pytest.mark.parametrize(
    "loss",
    [
        LovaszSoftmax((1, 2), per_image=False, classes="all", method="sort", bins=64, name="a"),
        LovaszSoftmax(bins=256, ignore_label=9),
        LovaszHinge(None, per_image=False, classes="present", ignore_label=9),
    ],
    ids=["sort", "histogram", "hinge"],
)
def test_it_survives_serialization(loss, random_pair, value):
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert type(copy) is type(loss) and copy.get_config() == loss.get_config()
    labels, logits = random_pair(9, num_classes=2)
    assert value(copy, labels, logits) == value(loss, labels, logits)


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"method": "exact"}, "expected 'histogram' or 'sort'"),
        ({"bins": 0}, "expected a whole number of at least 1"),
        ({"bins": 2.5}, "expected a whole number of at least 1"),
        ({"classes": "some"}, "expected 'present' or 'all'"),
        ({"class_weights": (1, -1)}, "expected numbers of at least 0"),
    ],
)
def test_arguments_that_make_no_sense(kwargs, message):
    with pytest.raises(ValueError, match=message):
        LovaszSoftmax(**kwargs)


def test_the_hinge_is_for_two_classes():
    with pytest.raises(ValueError, match="3 channels, expected 1 or 2"):
        LovaszHinge()(np.zeros((1, 4, 4)), np.zeros((1, 4, 4, 3)))


@all_losses
@pytest.mark.parametrize("per_image", [True, False])
@pytest.mark.parametrize("shape", [(3,), (2, 4), (2, 4, 4, 1), (2, 3, 4)])
def test_weights_that_do_not_fit(kind, per_image, shape):
    with pytest.raises(ValueError, match="sample_weight has shape"):
        ALL[kind](per_image=per_image)(
            np.zeros((2, 4, 4)), np.zeros((2, 4, 4, 2)), np.ones(shape, "float32")
        )
