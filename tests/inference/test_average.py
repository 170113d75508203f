"""Test-time averaging against NumPy means, exact symmetries and the model itself."""

import keras
import numpy as np
import pytest
from scipy.special import expit, log_softmax, softmax

from seglib.inference import ViewAverage, test_time_average
from seglib.metrics import MeanIoU
from seglib.models import small_backbone, unet

rng = np.random.default_rng(0)
IMAGES = rng.integers(0, 256, (2, 32, 64, 3)).astype("float32")


def small_network(channels=3, shape=(None, None, 3), seed=0):
    """A network that answers a mirrored picture in another way than the picture.

    A convolution promises no order of its additions, so the same pixels may get another sum at
    another place. Here all inputs and weights are multiples of powers of two, and no sum needs more
    than float32's 24 bits: every order gives the same logits.
    """
    keras.utils.set_random_seed(seed)
    image = keras.Input(shape)
    x = keras.layers.Rescaling(1 / 128, -1)(image)
    x = keras.layers.Conv2D(4, 3, padding="same", activation="relu")(x)
    model = keras.Model(image, keras.layers.Conv2D(channels, 3, padding="same")(x))
    model.set_weights([np.round(32 * w) / 32 for w in model.get_weights()])
    return model


def column_network():
    """Logits (column + mean color, 0): a pixel's answer can be worked out by hand."""
    image = keras.Input((None, None, 1))
    values = keras.layers.Conv2D(2, 1, use_bias=False)(image)
    model = keras.Model(image, values)
    model.set_weights([np.array([[[[1.0, 0.0]]]], "float32")])
    return model


@pytest.mark.parametrize("size", [(None, None), (32, 64)])
def test_one_plain_view_is_the_model(size):
    model = small_network(shape=(*size, 3))
    plain = model.predict(IMAGES, verbose=0)
    answer = test_time_average(model, (1,), flip=False).predict(IMAGES, verbose=0)
    np.testing.assert_allclose(answer, log_softmax(plain, axis=-1), atol=1e-5)


def test_a_mirrored_picture_gets_the_mirrored_answer():
    # The logits are exact. The logarithm of two probabilities' mean goes through exp and log, which
    # may round differently for each place in a vector.
    model = test_time_average(small_network(), (1,))
    answer = model.predict(IMAGES, verbose=0)
    mirrored = model.predict(IMAGES[:, :, ::-1], verbose=0)
    bound = 8 * 2**-24 * np.abs(answer).max()
    np.testing.assert_allclose(mirrored[:, :, ::-1], answer, rtol=0, atol=bound)


def test_a_mirrored_picture_gets_the_mirrored_answer_at_several_scales():
    model = test_time_average(small_network(), (0.5, 1, 1.5), input_shape=(32, 64, 3))
    answer = model.predict(IMAGES, verbose=0)
    mirrored = model.predict(IMAGES[:, :, ::-1], verbose=0)
    np.testing.assert_allclose(mirrored[:, :, ::-1], answer, atol=1e-4)


def test_the_mean_of_two_views_in_numpy():
    model = small_network()
    plain = model.predict(IMAGES, verbose=0)
    turned = model.predict(IMAGES[:, :, ::-1], verbose=0)[:, :, ::-1]
    log_p = test_time_average(model, (1,)).predict(IMAGES, verbose=0)
    mean = (softmax(plain, -1) + softmax(turned, -1)) / 2
    np.testing.assert_allclose(np.exp(log_p), mean, atol=1e-6)
    np.testing.assert_allclose(np.exp(log_p).sum(-1), 1, atol=1e-5)


def test_two_scales_by_hand():
    # A checkerboard of 0 and 4, halved in a wide filter, is 2 inside; its answer, enlarged, too.
    board = np.indices((64, 64)).sum(0) % 2 * 4.0
    options = {"flip": False, "input_shape": (64, 64, 1)}
    model = test_time_average(column_network(), (1, 0.5), **options)
    answer = np.exp(model.predict(board[None, ..., None], verbose=0)[0])
    inside = np.s_[8:-8, 8:-8]
    mean = (expit(board) + expit(2)) / 2
    np.testing.assert_allclose(answer[..., 0][inside], mean[inside], atol=1e-4)
    np.testing.assert_allclose(answer.sum(-1), 1, atol=1e-5)


def test_one_sure_view_by_hand():
    # A network that sees the left column only: one view gives a pixel the logits (30, 0), the
    # other (0, 0). The probabilities of class 0 are almost 1 and 1/2, their mean is 3/4.
    class LeftColumn(keras.layers.Layer):
        def call(self, image):
            left = image * np.array([1, 0], "float32")[:, None]
            return keras.ops.concatenate([left, 0 * image], axis=-1)

    image = keras.Input((1, 2, 1))
    model = keras.Model(image, LeftColumn()(image))
    picture = np.full((1, 1, 2, 1), 30.0, "float32")
    log_p = test_time_average(model, (1,)).predict(picture, verbose=0)
    np.testing.assert_allclose(np.exp(log_p[..., 0]), 0.75, atol=1e-6)


def test_one_channel_stays_one_channel():
    model = small_network(channels=1)
    plain = model.predict(IMAGES, verbose=0)
    turned = model.predict(IMAGES[:, :, ::-1], verbose=0)[:, :, ::-1]
    answer = test_time_average(model, (1,)).predict(IMAGES, verbose=0)
    assert answer.shape == plain.shape
    np.testing.assert_allclose(expit(answer), (expit(plain) + expit(turned)) / 2, atol=1e-6)


def test_probabilities_far_below_float32_survive():
    model = small_network()
    *_, bias = weights = model.get_weights()
    bias[:] = [0, 500, 900]
    model.set_weights(weights)
    answer = test_time_average(model, (1,)).predict(IMAGES, verbose=0)
    assert np.isfinite(answer).all()
    assert answer[..., 0].max() < -800


def test_a_unet_at_two_scales_evaluates_and_saves(tmp_path):
    model = unet(3, backbone=small_backbone(alpha=0.2), weights=None)
    averaged = test_time_average(model, (0.5, 1), input_shape=(64, 64, 3))
    images = rng.uniform(0, 255, (2, 64, 64, 3)).astype("float32")
    answer = averaged.predict(images, verbose=0)
    assert answer.shape == (2, 64, 64, 3)
    averaged.save(tmp_path / "averaged.keras")
    again = keras.saving.load_model(tmp_path / "averaged.keras")
    np.testing.assert_allclose(again.predict(images, verbose=0), answer, atol=1e-5)
    metric = MeanIoU(3)
    metric.update_state(answer.argmax(-1), answer)
    assert float(metric.result()) == 1
    # BatchNorm must not see the batch, whatever the caller says.
    trained = keras.ops.convert_to_numpy(averaged(images, training=True))
    np.testing.assert_allclose(trained, answer, atol=1e-4)


def test_the_weights_are_the_models_own():
    model = small_network()
    averaged = test_time_average(model, (1,))
    before = averaged.predict(IMAGES, verbose=0)
    assert averaged.count_params() == model.count_params()
    model.set_weights([-w for w in model.get_weights()])
    assert np.abs(averaged.predict(IMAGES, verbose=0) - before).max() > 0.1


def test_logits_stay_float32_under_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        averaged = test_time_average(small_network(), (1,))
        assert averaged.output.dtype == "float32"
        assert averaged.predict(IMAGES, verbose=0).dtype == "float32"
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scales": (0.5, 1)}, "expected numbers for height and width"),
        ({"scales": ()}, "expected factors above 0"),
        ({"scales": (1, -1)}, "expected factors above 0"),
    ],
)
def test_arguments_that_make_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        test_time_average(small_network(), **options)


def test_a_model_of_one_size_takes_no_other_scale():
    model = small_network(shape=(64, 64, 3))
    with pytest.raises(ValueError, match="was built for .64, 64, 3.. Build it for any size"):
        test_time_average(model, (0.5, 1))
    # 0.9 x 64 rounds to 64.
    assert test_time_average(model, (0.9, 1)).output_shape == (None, 64, 64, 3)


def test_the_layers_config_makes_the_same_layer():
    layer = ViewAverage(small_network(), (1, 2), flip=False)
    config = ViewAverage.from_config(layer.get_config()).get_config()
    assert config["scales"] == (1, 2) and config["flip"] is False
