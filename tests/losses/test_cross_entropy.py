"""`CrossEntropy` against hand-computed values, NumPy, SciPy and Keras; runs on any backend."""

import math

import keras
import numpy as np
import pytest
from scipy.special import log_softmax

from seglib.losses import CrossEntropy

to_numpy = keras.ops.convert_to_numpy
BACKEND = keras.backend.backend()


def value(loss, labels, logits, sample_weight=None):
    return float(to_numpy(loss(labels, logits, sample_weight)))


def value_and_gradient(loss, labels, logits, sample_weight=None):
    """The loss and its gradient with respect to the logits, by the backend's own autodiff."""
    logits = keras.ops.convert_to_tensor(logits)
    if BACKEND == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(logits)
            result = loss(labels, logits, sample_weight)
        return float(result), to_numpy(tape.gradient(result, logits))
    if BACKEND == "jax":
        import jax

        result, gradient = jax.value_and_grad(lambda x: loss(labels, x, sample_weight))(logits)
        return float(result), np.asarray(gradient)
    logits.requires_grad_(True)
    result = loss(labels, logits, sample_weight)
    result.backward()
    return float(result), to_numpy(logits.grad)


def random_pair(seed=0, shape=(2, 5, 6), num_classes=3, ignored=0.0, dtype="uint8"):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, num_classes, shape)
    labels = np.where(rng.random(shape) < ignored, 255, labels).astype(dtype)
    return labels, rng.normal(scale=3, size=(*shape, num_classes)).astype("float32")


def reference(labels, logits, pixel_weights, label_smoothing=0.0):
    """The formula of the docstring in NumPy and SciPy, float64, without ignored pixels."""
    keep = labels != 255
    log_p = log_softmax(logits[keep].astype("float64"), axis=-1)
    count = logits.shape[-1]
    q = np.eye(count)[labels[keep]] * (1 - label_smoothing) + label_smoothing / count
    weights = np.broadcast_to(pixel_weights, labels.shape)[keep]
    return (weights * -(q * log_p).sum(-1)).sum() / weights.sum()


# --- values -----------------------------------------------------------------------------------


def test_a_picture_of_four_pixels_by_hand():
    # Logits whose softmax is easy: (log 1, log 3) gives 1/4 and 3/4; equal ones give 1/2.
    logits = np.log([[[[1, 3], [1, 3]], [[1, 1], [9, 1]]]]).astype("float32")
    labels = np.array([[[0, 1], [1, 0]]])
    terms = [math.log(4), math.log(4 / 3), math.log(2), math.log(10 / 9)]
    assert value(CrossEntropy(), labels, logits) == pytest.approx(sum(terms) / 4)
    # One pixel ignored: the other three are averaged.
    labels[0, 0, 0] = 255
    assert value(CrossEntropy(), labels, logits) == pytest.approx(sum(terms[1:]) / 3)
    # Class 1 (pixels 1 and 2) three times as heavy as class 0 (pixel 3): weights 3, 3, 1
    expected = (3 * terms[1] + 3 * terms[2] + terms[3]) / 7
    assert value(CrossEntropy([1, 3]), labels, logits) == pytest.approx(expected)


def test_gradient_of_one_pixel_by_hand():
    # d loss / d logits = softmax - one-hot = (1/4, 3/4) - (1, 0)
    logits = np.log([[[[1.0, 3.0]]]]).astype("float32")
    _, gradient = value_and_gradient(CrossEntropy(), np.array([[[0]]]), logits)
    np.testing.assert_allclose(gradient, [[[[-0.75, 0.75]]]], rtol=1e-6)


@pytest.mark.parametrize("num_classes", [2, 3, 21])
@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64", "float32"])
def test_without_extras_it_is_kerass_sparse_cross_entropy(num_classes, dtype):
    labels, logits = random_pair(num_classes=num_classes, dtype=dtype)
    kerass = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    assert value(CrossEntropy(), labels, logits) == pytest.approx(
        float(to_numpy(kerass(labels, logits))), rel=1e-6
    )


@pytest.mark.parametrize("label_smoothing", [0.05, 0.1, 0.5])
def test_label_smoothing_is_kerass_on_one_hot_labels(label_smoothing):
    labels, logits = random_pair()
    kerass = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=label_smoothing)
    expected = float(to_numpy(kerass(np.eye(3, dtype="float32")[labels], logits)))
    ours = value(CrossEntropy(label_smoothing=label_smoothing), labels, logits)
    assert ours == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("class_weights", [None, (1, 2, 0.5), (0, 1, 4)])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weight_shape", [None, (2,), (2, 5, 6)])
def test_the_formula_of_the_docstring(class_weights, label_smoothing, weight_shape):
    labels, logits = random_pair(1, ignored=0.3)
    pixel_weights = np.ones(labels.shape)
    if class_weights is not None:
        pixel_weights = np.array((*class_weights, *[0] * 253))[labels]
    sample_weight = None
    if weight_shape is not None:
        sample_weight = np.random.default_rng(3).random(weight_shape).astype("float32")
        pixel_weights = pixel_weights * sample_weight.reshape(
            weight_shape + (1,) * (3 - len(weight_shape))
        )
    loss = CrossEntropy(class_weights, label_smoothing=label_smoothing)
    expected = reference(labels, logits, pixel_weights, label_smoothing)
    assert value(loss, labels, logits, sample_weight) == pytest.approx(expected, rel=1e-5)


def test_a_confident_right_answer_costs_nothing_and_a_wrong_one_its_margin():
    labels = np.array([[[0, 2]]])
    logits = np.array([[[[1e4, 0, -1e4], [1e4, 0, 0]]]], "float32")
    assert value(CrossEntropy(), labels[:, :, :1], logits[:, :, :1]) == 0.0
    assert value(CrossEntropy(), labels[:, :, 1:], logits[:, :, 1:]) == pytest.approx(1e4)


# --- ignored pixels and weights ---------------------------------------------------------------


@pytest.mark.parametrize("ignore_label", [255, 0, -1])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_ignored_pixels_change_nothing_and_get_no_gradient(ignore_label, label_smoothing):
    labels, logits = random_pair(2, dtype="int32")
    ignored = np.random.default_rng(0).random(labels.shape) < 0.3
    labels = np.where(ignored, ignore_label, labels)
    ignored = labels == ignore_label
    loss = CrossEntropy((1, 2, 3), ignore_label=ignore_label, label_smoothing=label_smoothing)
    before, gradient = value_and_gradient(loss, labels, logits)
    changed = np.where(ignored[..., None], 1000.0 * logits, logits)
    after, gradient_after = value_and_gradient(loss, labels, changed)
    assert after == before
    np.testing.assert_array_equal(gradient_after, gradient)
    assert not gradient[ignored].any()
    assert np.abs(gradient[~ignored]).max(axis=-1).min() > 0


def test_ignored_pixels_do_not_dilute_the_mean():
    labels, logits = random_pair(2)
    padded_labels = np.pad(labels, [(0, 0), (2, 3), (1, 0)], constant_values=255)
    padded_logits = np.pad(logits, [(0, 0), (2, 3), (1, 0), (0, 0)])
    assert value(CrossEntropy(), padded_labels, padded_logits) == pytest.approx(
        value(CrossEntropy(), labels, logits), rel=1e-6
    )


@pytest.mark.parametrize("scale", [1 / 64, 10, 1000])
def test_the_scale_of_the_class_weights_matters_neither_to_value_nor_gradient(scale):
    labels, logits = random_pair(4, ignored=0.2)
    weights = np.array([1.0, 2.0, 5.0])
    one, gradient = value_and_gradient(CrossEntropy(weights), labels, logits)
    other, scaled = value_and_gradient(CrossEntropy(weights * scale), labels, logits)
    assert other == pytest.approx(one, rel=1e-6)
    np.testing.assert_allclose(scaled, gradient, rtol=1e-5, atol=1e-8)


def test_class_weights_are_sample_weights():
    labels, logits = random_pair(4, ignored=0.2)
    weights = np.array([1.0, 2.0, 5.0], "float32")
    per_pixel = np.append(weights, np.zeros(253, "float32"))[labels]
    assert value(CrossEntropy(weights), labels, logits) == pytest.approx(
        value(CrossEntropy(), labels, logits, per_pixel), rel=1e-6
    )


@pytest.mark.parametrize(
    "kwargs", [{}, {"label_smoothing": 0.1}, {"class_weights": (1, 2, 3)}], ids=str
)
def test_a_batch_of_ignored_pixels_costs_nothing_and_teaches_nothing(kwargs):
    _, logits = random_pair()
    labels = np.full((2, 5, 6), 255, "uint8")
    result, gradient = value_and_gradient(CrossEntropy(**kwargs), labels, logits)
    assert result == 0.0
    np.testing.assert_array_equal(gradient, np.zeros_like(logits))


def test_a_class_of_weight_zero_is_ignored():
    labels, logits = random_pair(6)
    result, gradient = value_and_gradient(CrossEntropy((0, 1, 1)), labels, logits)
    without = np.where(labels == 0, 255, labels)
    assert result == pytest.approx(value(CrossEntropy(), without, logits), rel=1e-6)
    assert not gradient[labels == 0].any()


# --- gradients --------------------------------------------------------------------------------


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_the_gradient_is_the_slope_of_the_formula(label_smoothing):
    labels, logits = random_pair(8, shape=(1, 2, 3), ignored=0.2)
    class_weights = np.array([1.0, 2.0, 5.0])
    pixel_weights = np.append(class_weights, np.zeros(253))[labels]
    loss = CrossEntropy(class_weights, label_smoothing=label_smoothing)
    _, gradient = value_and_gradient(loss, labels, logits)
    slope, step = np.zeros(logits.shape), 1e-5
    for i in np.ndindex(logits.shape):  # central differences in float64
        shift = np.zeros(logits.shape)
        shift[i] = step
        up, down = (
            reference(labels, logits + s * shift, pixel_weights, label_smoothing) for s in (1, -1)
        )
        slope[i] = (up - down) / (2 * step)
    np.testing.assert_allclose(gradient, slope, atol=1e-6)


def test_the_gradient_of_each_pixel_sums_to_zero():
    # A constant added to all logits of a pixel changes no probability.
    labels, logits = random_pair(9, ignored=0.2)
    loss = CrossEntropy((1, 2, 3), label_smoothing=0.1)
    _, gradient = value_and_gradient(loss, labels, logits)
    np.testing.assert_allclose(gradient.sum(-1), 0, atol=1e-7)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_extreme_logits_have_finite_values_and_gradients(label_smoothing):
    rng = np.random.default_rng(0)
    logits = rng.choice([-1e4, 0, 1e4], (1, 8, 8, 3)).astype("float32")
    labels = rng.integers(0, 3, (1, 8, 8))
    loss = CrossEntropy(label_smoothing=label_smoothing)
    result, gradient = value_and_gradient(loss, labels, logits)
    assert math.isfinite(result) and result > 0
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() <= 1 / 64 + 1e-7  # softmax minus one-hot, over 64 pixels


# --- precision --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_logits_of_low_precision_are_computed_in_float32(dtype):
    labels, logits = random_pair(10, shape=(2, 64, 64), ignored=0.1)
    low = keras.ops.cast(logits, dtype)
    result = CrossEntropy()(labels, low)
    assert keras.backend.standardize_dtype(result.dtype) == "float32"
    exact = reference(labels, to_numpy(keras.ops.cast(low, "float32")), 1.0)
    assert float(to_numpy(result)) == pytest.approx(exact, rel=1e-6)


# --- bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize("label", [3, 200, -1, 0.5, float("nan")])
@pytest.mark.parametrize(
    "kwargs", [{}, {"class_weights": (1, 2, 3)}, {"label_smoothing": 0.1}], ids=str
)
def test_a_label_that_is_no_class_makes_the_loss_nan(label, kwargs):
    labels, logits = random_pair(dtype="float32")
    labels[1, 2, 3] = label
    assert math.isnan(value(CrossEntropy(**kwargs), labels, logits))


def test_nan_logits_make_the_loss_nan():
    labels, logits = random_pair()
    logits[0, 0, 0, 0] = np.nan
    assert math.isnan(value(CrossEntropy(), labels, logits))


@pytest.mark.parametrize(
    "true_shape, pred_shape, weight_shape, message",
    [
        ((2, 4, 4, 1), (2, 4, 4, 3), None, r"masks\[\.\.\., 0\]"),
        ((2, 4, 4, 3), (2, 4, 4, 3), None, "argmax"),
        ((4, 4), (2, 4, 4, 3), None, r"expected \[B, H, W\]"),
        ((2, 4, 4), (2, 4, 4), None, r"expected logits \[B, H, W, C\]"),
        ((2, 8, 8), (2, 4, 8, 3), None, "differ in height.*resize the logits"),
        ((2, 4, 4), (2, 4, 8, 3), None, "differ in width"),
        ((1, 4, 4), (2, 4, 4, 3), None, "differ in batch size"),
        ((2, 4, 4), (2, 4, 4, 3), (3,), r"sample_weight has shape \(3,\)"),
        ((2, 4, 4), (2, 4, 4, 3), (2, 4, 4, 1), r"weights\[\.\.\., 0\]"),
    ],
)
def test_shapes_that_do_not_belong_together(true_shape, pred_shape, weight_shape, message):
    weight = None if weight_shape is None else np.ones(weight_shape)
    with pytest.raises(ValueError, match=message):
        CrossEntropy()(np.zeros(true_shape), np.zeros(pred_shape), weight)


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"class_weights": (1, -1, 1)}, "expected numbers of at least 0"),
        ({"class_weights": (0, 0, 0)}, "not all of them 0"),
        ({"label_smoothing": 1.0}, r"expected a number in \[0, 1\)"),
        ({"label_smoothing": -0.1}, r"expected a number in \[0, 1\)"),
    ],
)
def test_arguments_that_make_no_sense(kwargs, message):
    with pytest.raises(ValueError, match=message):
        CrossEntropy(**kwargs)


def test_one_weight_a_class():
    with pytest.raises(ValueError, match="2 class weights for 3 classes"):
        CrossEntropy((1, 2))(np.zeros((1, 4, 4)), np.zeros((1, 4, 4, 3)))


# --- as a Keras loss --------------------------------------------------------------------------


def test_it_survives_serialization():
    loss = CrossEntropy(np.array([1, 2, 4]), ignore_label=0, label_smoothing=0.25, name="weighted")
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert type(copy) is CrossEntropy and copy.name == "weighted"
    assert copy.get_config() == loss.get_config()
    labels, logits = random_pair(11)
    assert value(copy, labels, logits) == value(loss, labels, logits)


@pytest.mark.parametrize("jit_compile", [False, True] if BACKEND == "jax" else [False])
def test_training_with_it(jit_compile):
    # One 1 x 1 convolution can solve this: the class is the largest of three channels.
    rng = np.random.default_rng(0)
    images = rng.normal(size=(16, 6, 6, 3)).astype("float32")
    masks = images.argmax(-1).astype("uint8")
    masks[:, 0] = 255
    keras.utils.set_random_seed(0)
    image = keras.Input((6, 6, 3))
    model = keras.Model(image, keras.layers.Conv2D(3, 1)(image))
    model.compile(keras.optimizers.Adam(0.1), CrossEntropy((1, 2, 3)), jit_compile=jit_compile)
    losses = model.fit(images, masks, batch_size=8, epochs=15, verbose=0).history["loss"]
    assert losses[-1] < 0.4 * losses[0]
    # The logged loss is the formula's value.
    logits = model.predict(images, verbose=0)
    pixel_weights = np.array((1, 2, 3, *[0] * 253))[masks]
    expected = reference(masks, logits, pixel_weights)
    assert model.evaluate(images, masks, batch_size=16, verbose=0) == pytest.approx(
        expected, rel=1e-4
    )


def test_fit_hands_sample_weights_over():
    rng = np.random.default_rng(0)
    images = rng.normal(size=(4, 5, 5, 3)).astype("float32")
    masks = rng.integers(0, 3, (4, 5, 5)).astype("uint8")
    weights = rng.random((4, 5, 5)).astype("float32")
    image = keras.Input((5, 5, 3))
    model = keras.Model(image, keras.layers.Conv2D(3, 1)(image))
    model.compile("sgd", CrossEntropy())
    expected = reference(masks, model.predict(images, verbose=0), weights)
    logged = model.evaluate(images, masks, sample_weight=weights, batch_size=4, verbose=0)
    assert logged == pytest.approx(expected, rel=1e-5)


def test_weights_per_row_are_refused_as_class_weight_in_fit_makes_them():
    labels, logits = random_pair()
    with pytest.raises(ValueError, match="one weight per row.*class_weights"):
        CrossEntropy()(labels, logits, np.ones(labels.shape[:2], "float32"))
