"""A folded pair of layers says what the two say one after the other, and learns the same."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from seglib.models import AtrousConv2D
from seglib.models.folding import convolve, fold, folded
from seglib.models.upsample import Upsample

to_numpy = ops.convert_to_numpy
rng = np.random.default_rng(0)
tensorflow_only = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="takes gradients with TensorFlow's tape"
)


def randomize(*built):
    """Gives layers weights as if they were trained; variances are positive."""
    for layer in built:
        for weight in layer.weights:
            low, high = (0.5, 2) if weight.name in ("gamma", "moving_variance") else (-1, 1)
            weight.assign(rng.uniform(low, high, weight.shape))


def pair(convolution, size=(9, 7), **options):
    """A built convolution and BatchNorm, and a map for them."""
    norm = layers.BatchNormalization(**options)
    x = rng.normal(size=(2, *size, 6)).astype("float32")
    norm.build(convolution(x).shape)
    randomize(convolution, norm)
    return convolution, norm, x


CONVOLUTIONS = {
    "3x3": lambda: layers.Conv2D(5, 3, padding="same", use_bias=False),
    "with bias, strides and valid padding": lambda: layers.Conv2D(5, 3, strides=2),
    "dilated": lambda: layers.Conv2D(5, 3, dilation_rate=2, padding="same"),
    "in groups": lambda: layers.Conv2D(4, 3, groups=2, padding="same"),
    "atrous, beyond the map": lambda: AtrousConv2D(5, 3, dilation_rate=8, use_bias=False),
    "depthwise": lambda: layers.DepthwiseConv2D(3, strides=2, padding="same"),
    "depthwise, two a channel": lambda: layers.DepthwiseConv2D(
        3, depth_multiplier=2, use_bias=False
    ),
    "not foldable: with an activation": lambda: layers.Conv2D(5, 3, activation="relu"),
    "not foldable: transposed": lambda: layers.Conv2DTranspose(5, 3, strides=2),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("options", [{}, {"scale": False}, {"center": False, "epsilon": 0.1}])
def test_folded_or_not_the_values_are_the_same(name, options):
    convolution, norm, x = pair(CONVOLUTIONS[name](), **options)
    expected = norm(convolution(x), training=False)
    found = convolve(convolution, norm, ops.convert_to_tensor(x), training=False)
    np.testing.assert_allclose(to_numpy(found), to_numpy(expected), rtol=1e-5, atol=2e-5)


def test_by_hand():
    convolution, norm = layers.Conv2D(1, 1), layers.BatchNormalization(epsilon=0.0)
    convolution.build((1, 1, 1, 2))
    norm.build((1, 1, 1, 1))
    convolution.set_weights([np.reshape([2.0, 3.0], (1, 1, 2, 1)), np.array([1.0])])
    norm.set_weights([np.array([v]) for v in (5.0, 7.0, 4.0, 9.0)])  # gamma, beta, mean, variance
    # (2 * 1 + 3 * 10 + 1 - 4) / 3 * 5 + 7
    found = folded(convolution, ops.convert_to_tensor([[[[1.0, 10.0]]]]), norm)
    assert to_numpy(found).item() == pytest.approx(29 / 3 * 5 + 7, rel=1e-6)


LARGE = (25, 18)  # enough for TensorFlow's own kernel, if the channels suit it


@pytest.fixture
def kernel_calls(monkeypatch):
    """A list that grows with each call of TensorFlow's kernel."""
    calls = []
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        kernel = tf.raw_ops.FusedBatchNormV3
        monkeypatch.setattr(
            tf.raw_ops, "FusedBatchNormV3", lambda **inputs: calls.append(1) or kernel(**inputs)
        )
    return calls


@tensorflow_only
@pytest.mark.parametrize(
    ("channels", "size", "kernel"), [(32, LARGE, 1), (24, LARGE, 0), (32, (9, 7), 0)]
)
def test_the_kernel_is_used_where_it_is_fast(channels, size, kernel, kernel_calls):
    convolution, norm, x = pair(layers.Conv2D(channels, 1), size)
    convolve(convolution, norm, x, training=True)
    assert len(kernel_calls) == kernel


@pytest.mark.parametrize("channels", [24, 32])  # TensorFlow's own kernel takes the latter
@pytest.mark.parametrize("options", [{}, {"scale": False, "center": False}, {"momentum": 0.5}])
def test_in_training_values_and_statistics_are_those_of_keras(channels, options):
    convolution = layers.Conv2D(channels, 1)
    convolution, norm, x = pair(convolution, LARGE, **options)
    before = norm.get_weights()
    expected = to_numpy(norm(convolution(x), training=True))
    after = norm.get_weights()
    norm.set_weights(before)
    found = convolve(convolution, norm, ops.convert_to_tensor(x), training=True)
    np.testing.assert_allclose(to_numpy(found), expected, rtol=1e-4, atol=1e-5)
    for weight, wanted in zip(norm.get_weights(), after, strict=True):
        np.testing.assert_allclose(weight, wanted, rtol=1e-5, atol=1e-6)


def test_a_single_value_a_channel_has_no_variance():
    norm = layers.BatchNormalization(momentum=0.0)
    convolution = layers.Conv2D(16, 1)
    x = np.ones((1, 1, 1, 3), "float32")
    norm.build(convolution(x).shape)
    found = convolve(convolution, norm, ops.convert_to_tensor(x), training=True)
    np.testing.assert_allclose(to_numpy(found), 0, atol=1e-6)
    np.testing.assert_allclose(norm.moving_variance, 0, atol=1e-6)


def test_a_frozen_norm_keeps_its_statistics_in_training():
    convolution, norm, x = pair(layers.Conv2D(32, 1))
    norm.trainable = False
    before = norm.get_weights()
    expected = norm(convolution(x), training=False)
    found = convolve(convolution, norm, ops.convert_to_tensor(x), training=True)
    np.testing.assert_allclose(to_numpy(found), to_numpy(expected), rtol=1e-5, atol=2e-5)
    for weight, wanted in zip(norm.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, wanted)


@tensorflow_only
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("channels", [24, 32])
def test_the_gradients_are_the_same(training, channels):
    import tensorflow as tf

    convolution, norm, x = pair(layers.Conv2D(channels, 3), LARGE)
    x = tf.constant(x)
    direction = tf.constant(rng.normal(size=convolution(x).shape).astype("float32"))
    variables = [v.value for v in convolution.trainable_weights + norm.trainable_weights]

    def gradients(call):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(call() * direction)
        return tape.gradient(loss, [x, *variables])

    expected = gradients(lambda: norm(convolution(x), training=training))
    found = gradients(lambda: convolve(convolution, norm, x, training))
    for one, other in zip(found, expected, strict=True):
        # The bias before a norm of the batch has no gradient but rounding.
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=2e-4)


def network():
    """A convolution used twice, one that two layers read, and one that needs no norm."""
    image = keras.Input((8, 8, 4))
    twice = layers.Conv2D(4, 3, padding="same")
    x = layers.ReLU()(layers.BatchNormalization()(twice(image)))
    x = layers.BatchNormalization()(twice(x))
    y = layers.DepthwiseConv2D(3, padding="same")(x)
    z = layers.BatchNormalization()(y)
    outputs = {"sum": layers.Add()([y, z]), "last": layers.Conv2D(2, 1)(layers.ReLU()(z))}
    model = keras.Model(image, outputs)
    randomize(model)
    return model


def test_a_folded_network_trains_like_the_one_it_was_made_of():
    model = network()
    found = fold(model)
    x = rng.normal(size=(2, 8, 8, 4)).astype("float32")
    before = model.get_weights()
    expected = {name: to_numpy(y) for name, y in model(x, training=True).items()}
    after = model.get_weights()
    assert any((a != b).any() for a, b in zip(after, before, strict=True))
    model.set_weights(before)
    for name, result in found(x, training=True).items():
        np.testing.assert_allclose(to_numpy(result), expected[name], rtol=1e-4, atol=1e-4)
    for weight, wanted in zip(model.get_weights(), after, strict=True):
        np.testing.assert_allclose(weight, wanted, rtol=1e-5, atol=1e-6)


def test_a_folded_network_predicts_the_same_and_follows_its_weights():
    model = network()
    found = fold(model)
    x = rng.normal(size=(2, 8, 8, 4)).astype("float32")
    for _ in range(2):
        expected, result = model(x, training=False), found(x, training=False)
        assert set(result) == {"sum", "last"}
        for name in expected:
            np.testing.assert_allclose(
                to_numpy(result[name]), to_numpy(expected[name]), rtol=1e-4, atol=1e-4
            )
        randomize(model)
    assert {id(w) for w in found.weights} <= {id(w) for w in model.weights}
    assert not any(isinstance(layer, layers.BatchNormalization) for layer in found.layers)


def test_a_network_with_a_call_of_its_own_is_left_alone():
    class Own(keras.Model):
        def call(self, x):
            return 2 * x

    model = Own()
    assert fold(model) is model


def test_mixed_precision_rounds_the_product_once():
    dtype = "mixed_bfloat16"
    image = keras.Input((8, 8, 4))
    norm = layers.BatchNormalization(dtype=dtype)
    model = keras.Model(image, norm(layers.Conv2D(8, 3, use_bias=False, dtype=dtype)(image)))
    randomize(model)
    exact = network_in_float32(model)
    x = rng.integers(-4, 5, (2, 8, 8, 4)).astype("float32")  # exact in bfloat16
    found = fold(model)(x, training=False)
    assert keras.backend.standardize_dtype(found.dtype) == "bfloat16"
    expected = to_numpy(exact(x, training=False))
    error = np.abs(to_numpy(ops.cast(found, "float32")) - expected).max()
    # 8 bits: half of 1/128 of a kernel's entries, of the bias and of the sum.
    assert error < 3 * np.abs(expected).max() / 256


def network_in_float32(model):
    """The same layers and weights in 32 bits."""
    configs = model.get_config()
    for layer in configs["layers"]:
        layer["config"]["dtype"] = "float32"
    exact = keras.Model.from_config(configs)
    exact.set_weights(model.get_weights())
    return exact


def test_upsampling_in_16_bits_is_that_of_32_bits_rounded():
    x = ops.cast(rng.normal(size=(1, 4, 4, 3)), "bfloat16")
    found = Upsample(2, dtype="bfloat16")(x)
    expected = ops.cast(Upsample(2, dtype="float32")(ops.cast(x, "float32")), "bfloat16")
    np.testing.assert_array_equal(
        to_numpy(ops.cast(found, "float32")), to_numpy(ops.cast(expected, "float32"))
    )
