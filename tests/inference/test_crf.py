"""The CRF against loops over the paper's sums, the exact form, and what it is made for."""

import keras
import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from seglib.inference import DenseCRF, WindowedCRF

BACKEND = keras.backend.backend()
to_numpy = keras.ops.convert_to_numpy


def defined(image, logits, *, w1, w2, alpha, beta, gamma, iterations, radius=None):
    """Mean field as the paper writes it, pixel by pixel, in float64."""
    height, width, classes = logits.shape
    pixels = [(y, x) for y in range(height) for x in range(width)]
    color = image.reshape(-1, 3).astype("float64")
    appearance, smoothness = np.zeros((2, len(pixels), len(pixels)))
    for i, (y1, x1) in enumerate(pixels):
        for j, (y2, x2) in enumerate(pixels):
            if radius is not None and max(abs(y1 - y2), abs(x1 - x2)) > radius:
                continue
            near = (y1 - y2) ** 2 + (x1 - x2) ** 2
            unlike = ((color[i] - color[j]) ** 2).sum()
            appearance[i, j] = np.exp(-near / (2 * alpha**2) - unlike / (2 * beta**2))
            smoothness[i, j] = np.exp(-near / (2 * gamma**2))
    kernel = 0
    for weight, one in ((w1, appearance), (w2, smoothness)):
        sums = one.sum(axis=1)
        kernel = kernel + weight * one / np.sqrt(sums[:, None] * sums[None, :])
    np.fill_diagonal(kernel, 0)
    flat = logits.reshape(-1, classes).astype("float64")
    q = softmax(flat, axis=-1)
    for _ in range(iterations):
        penalty = np.zeros_like(q)
        for label in range(classes):
            for other in range(classes):
                if other != label:
                    penalty[:, label] += kernel @ q[:, other]
        q = softmax(flat - penalty, axis=-1)
    return q.reshape(logits.shape)


def pair(size=(5, 6), classes=3, batch=1, seed=0):
    """Random pictures of few colors, so that some neighbors are alike, and random logits."""
    rng = np.random.default_rng(seed)
    image = 20.0 * rng.integers(0, 4, (batch, *size, 3)) + 90
    return image.astype("float32"), rng.normal(size=(batch, *size, classes)).astype("float32")


SETTINGS = {"theta_alpha": 4.0, "theta_beta": 15.0, "theta_gamma": 1.5, "iterations": 3}
WEIGHTS = {"appearance_weight": 1.5, "smoothness_weight": 0.7}
SHORT = {"w1": 1.5, "w2": 0.7, "alpha": 4.0, "beta": 15.0, "gamma": 1.5, "iterations": 3}


def is_the_papers_sum(crf, size, radius):
    image, logits = pair(size, batch=2)
    q = np.exp(to_numpy(crf([image, logits])))
    for n in range(2):
        expected = defined(image[n], logits[n], radius=radius, **SHORT)
        np.testing.assert_allclose(q[n], expected, atol=2e-6)


def test_dense_is_the_papers_sum():
    is_the_papers_sum(DenseCRF(**SETTINGS, **WEIGHTS), (5, 6), None)


@pytest.mark.parametrize(("size", "radius"), [((5, 6), 1), ((9, 7), 3), ((1, 6), 2)])
def test_windowed_is_the_papers_sum_within_the_window(size, radius):
    is_the_papers_sum(WindowedCRF(radius=radius, **SETTINGS, **WEIGHTS), size, radius)


def test_a_window_over_the_whole_picture_is_the_fully_connected_crf():
    image, logits = pair((6, 7))
    windowed = to_numpy(WindowedCRF(radius=6, **SETTINGS, **WEIGHTS)([image, logits]))
    dense = to_numpy(DenseCRF(**SETTINGS, **WEIGHTS)([image, logits]))
    np.testing.assert_allclose(windowed, dense, atol=1e-5)


@pytest.fixture(params=[DenseCRF, WindowedCRF])
def crf_class(request):
    return request.param


def test_zero_weights_leave_the_softmax(crf_class):
    image, logits = pair()
    crf = crf_class(appearance_weight=0.0, smoothness_weight=0.0)
    np.testing.assert_allclose(
        to_numpy(crf([image, logits])), log_softmax(logits, axis=-1), atol=1e-6
    )


def test_two_pixels_by_hand():
    # Equal colors, one step: each pixel hears the other's Q, weighted by w2 exp(-1 / 2), over the
    # sum of that and the 1 of the pixel itself, the same for both: k. Q of the second pixel is
    # (3/4, 1/4), so the first gets -k (1/4, 3/4).
    image = np.full((1, 1, 2, 3), 50.0, "float32")
    logits = np.array([0, 0, np.log(3), 0], "float32").reshape(1, 1, 2, 2)
    options = {"appearance_weight": 0.0, "smoothness_weight": 2.0, "theta_gamma": 1.0}
    crf = WindowedCRF(radius=1, iterations=1, **options)
    k = 2 * np.exp(-0.5) / (1 + np.exp(-0.5))
    expected = [-k / 4, -3 * k / 4], [np.log(3) - k / 2, -k / 2]
    np.testing.assert_allclose(
        to_numpy(crf([image, logits]))[0, 0], log_softmax(expected, axis=-1), atol=1e-6
    )


def test_classes_are_alike(crf_class):
    image, logits = pair(classes=4)
    crf, order = crf_class(**SETTINGS, **WEIGHTS), [2, 0, 3, 1]
    np.testing.assert_allclose(
        to_numpy(crf([image, logits[..., order]])),
        to_numpy(crf([image, logits]))[..., order],
        atol=1e-5,
    )


@pytest.mark.parametrize("axis", [1, 2])
def test_a_mirrored_picture_gets_the_mirrored_answer(axis):
    image, logits = pair((7, 9))
    crf = WindowedCRF(radius=3, **SETTINGS, **WEIGHTS)
    mirrored = crf([np.flip(image, axis), np.flip(logits, axis)])
    np.testing.assert_allclose(
        np.flip(to_numpy(mirrored), axis), to_numpy(crf([image, logits])), atol=1e-5
    )


def test_noise_on_a_uniform_picture_is_smoothed():
    rng = np.random.default_rng(0)
    image = np.full((1, 24, 24, 3), 120.0, "float32")
    logits = np.zeros((1, 24, 24, 2), "float32")
    logits[..., 0] = 1 + rng.normal(size=logits.shape[:3])
    wrong = (logits.argmax(-1) != 0).mean()
    assert wrong > 0.1
    answer = to_numpy(WindowedCRF(radius=5, smoothness_weight=3.0)([image, logits]))
    assert (answer.argmax(-1) == 0).all()


def test_an_edge_in_the_picture_draws_the_edge_of_the_labels():
    image = np.full((1, 16, 24, 3), 60.0, "float32")
    image[:, :, 12:] = 180
    logits = np.zeros((1, 16, 24, 2), "float32")
    logits[:, :, :9, 0] = 2  # the network ends the object 3 pixels too early
    logits[:, :, 9:, 1] = 0.5
    logits[:, :, 12:, 1] = 2
    drawn = WindowedCRF(radius=5, appearance_weight=10.0, smoothness_weight=0.0)([image, logits])
    answer = to_numpy(drawn).argmax(-1)
    np.testing.assert_array_equal(answer, (image[..., 0] > 100).astype(int))
    # Without color there is nothing to draw it: the edge stays within a pixel of where it was.
    blind = WindowedCRF(radius=5, appearance_weight=0.0)([image, logits])
    edges = to_numpy(blind).argmax(-1).argmax(-1)
    assert (abs(edges - 9) <= 1).all()


def test_stronger_weights_never_make_a_uniform_picture_less_certain():
    image, logits = pair((8, 8), classes=2)
    image[:] = 100
    spreads = [
        np.ptp(
            np.exp(to_numpy(WindowedCRF(radius=3, smoothness_weight=w)([image, logits]))[..., 0])
        )
        for w in (0.0, 5.0, 20.0)
    ]
    assert spreads[0] > spreads[1] > spreads[2]


def test_far_logits_stay_finite():
    image, logits = pair()
    answer = to_numpy(WindowedCRF(radius=2)([image, 1000 * logits]))
    assert np.isfinite(answer).all()
    np.testing.assert_allclose(np.exp(answer).sum(-1), 1, atol=1e-5)


def test_one_channel_becomes_two_classes():
    image, logits = pair(classes=1)
    both = np.concatenate([0 * logits, logits], axis=-1)
    crf = WindowedCRF(radius=2, **SETTINGS)
    assert crf.compute_output_shape([image.shape, logits.shape]) == (1, 5, 6, 2)
    np.testing.assert_allclose(
        to_numpy(crf([image, logits])),
        to_numpy(WindowedCRF(radius=2, **SETTINGS)([image, both])),
        atol=1e-6,
    )


@pytest.mark.parametrize("size", [(None, None), (6, 8)])
def test_in_a_model_that_predicts_and_saves(size, tmp_path):
    image = keras.Input((*size, 3))
    logits = keras.layers.Conv2D(3, 3, padding="same")(image)
    crf = WindowedCRF(radius=1, theta_beta=20.0, iterations=2)
    model = keras.Model(image, crf([image, logits]))
    pictures = pair((6, 8), batch=3)[0]
    answer = model.predict(pictures, verbose=0)
    model.save(tmp_path / "crf.keras")
    again = keras.saving.load_model(tmp_path / "crf.keras")
    np.testing.assert_allclose(again.predict(pictures, verbose=0), answer, atol=1e-6)
    assert len(model.trainable_variables) == 2  # of the convolution alone


def test_float32_under_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        crf = WindowedCRF(radius=1)
    finally:
        keras.config.set_dtype_policy("float32")
    image, logits = pair()
    assert to_numpy(crf([image, logits])).dtype == "float32"
    assert crf.compute_dtype == "float32"


def cross_entropy(target, log_q):
    return -keras.ops.mean(keras.ops.sum(target * log_q, axis=-1))


def gradients_of(crf, image, logits, target):
    """The gradients of the cross-entropy with respect to the CRF's weights, by autodiff."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            value = cross_entropy(target, crf([image, logits]))
        gradients = tape.gradient(value, [v.value for v in crf.trainable_variables])
    elif BACKEND == "jax":
        import jax

        def stateless(values):
            return cross_entropy(target, crf.stateless_call(values, [], [image, logits])[0])

        gradients = jax.grad(stateless)([v.value for v in crf.trainable_variables])
    else:
        pytest.skip(f"no autodiff written for {BACKEND}")
    return [to_numpy(g) for g in gradients]


def test_learned_weights_have_the_slope_of_the_loss():
    image, logits = pair((6, 7), batch=2)
    target = np.eye(3, dtype="float32")[np.random.default_rng(1).integers(0, 3, (2, 6, 7))]
    crf = WindowedCRF(radius=1, trainable=True, **SETTINGS, **WEIGHTS)
    crf.build([image.shape, logits.shape])
    gradients = gradients_of(crf, image, logits, target)
    assert [v.shape for v in crf.trainable_variables] == [(2,), (3, 3)]
    rng = np.random.default_rng(2)
    for variable, gradient in zip(crf.trainable_variables, gradients, strict=True):
        start = to_numpy(variable.value).copy()
        # A slope along a random direction holds every entry of the gradient to account.
        direction = rng.normal(size=start.shape).astype("float32")
        values = []
        for step in (1e-2, -1e-2):
            variable.assign(start + step * direction)
            values.append(float(cross_entropy(target, crf([image, logits]))))
        variable.assign(start)
        slope = (values[0] - values[1]) / 2e-2
        assert (gradient * direction).sum() == pytest.approx(slope, abs=1e-4)
        assert abs(slope) > 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"radius": 0}, "expected at least 1 pixel"),
        ({"iterations": 0}, "expected at least 1"),
        ({"theta_beta": 0.0}, "expected widths above 0"),
    ],
)
def test_arguments_that_make_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        WindowedCRF(**options)


def test_images_and_logits_that_do_not_belong_together():
    image, logits = pair()
    with pytest.raises(ValueError, match="of one size"):
        WindowedCRF()([image[:, :4], logits])
    with pytest.raises(ValueError, match="Use WindowedCRF"):
        DenseCRF()([np.zeros((1, 200, 200, 3)), np.zeros((1, 200, 200, 2))])


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_the_other_way_around_is_refused(classes, dtype):
    image, logits = pair(classes=classes)
    with pytest.raises(ValueError, match=r"crf\(\[image, logits\]\), in this order"):
        WindowedCRF()([logits, image.astype(dtype)])
