"""Costs against counts by hand and published ones; runs on any backend."""

import keras
import numpy as np
import pytest

from seglib.models import (
    cost,
    fcn8,
    layer_costs,
    unet,
)

conv = keras.layers.Conv2D


def one_layer(layer, shape):
    image = keras.Input(shape)
    return keras.Model(image, layer(image), name="one")


@pytest.fixture
def no_random_numbers(monkeypatch):
    """Zeros for weights: 138 million random numbers take ten seconds."""
    zeros = keras.initializers.Zeros.__call__
    for kind in (keras.initializers.GlorotUniform, keras.initializers.HeNormal):
        monkeypatch.setattr(kind, "__call__", zeros)


# --- one layer, by hand -----------------------------------------------------------------------

# Input 8 x 6 x 4. Products: output pixels x kernel x channels in x channels out.
BY_HAND = {
    "3x3": (conv(5, 3, padding="same"), 8 * 6 * 9 * 4 * 5, 9 * 4 * 5 + 5),
    "valid": (conv(5, 3), 6 * 4 * 9 * 4 * 5, 9 * 4 * 5 + 5),
    "stride 2": (conv(5, 3, strides=2, padding="same"), 4 * 3 * 9 * 4 * 5, 9 * 4 * 5 + 5),
    "dilated": (conv(5, 3, dilation_rate=2, padding="same"), 8 * 6 * 9 * 4 * 5, 9 * 4 * 5 + 5),
    "no bias": (conv(5, 1, use_bias=False), 8 * 6 * 4 * 5, 4 * 5),
    # Each of 6 outputs sees only 2 of the 4 channels.
    "2 groups": (conv(6, 3, groups=2, padding="same"), 8 * 6 * 9 * 2 * 6, 9 * 2 * 6 + 6),
    "depthwise": (
        keras.layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same"),
        8 * 6 * 9 * 4 * 2,
        9 * 4 * 2 + 8,
    ),
    "separable": (
        keras.layers.SeparableConv2D(5, 3, strides=2, padding="same"),
        4 * 3 * (9 * 4 + 4 * 5),
        9 * 4 + 4 * 5 + 5,
    ),
    # Each of 8 x 6 input pixels writes 4 x 4 x 5 numbers, each a sum over 4 channels.
    "transposed": (
        keras.layers.Conv2DTranspose(5, 4, strides=2, padding="same"),
        8 * 6 * 16 * 4 * 5,
        16 * 4 * 5 + 5,
    ),
    "dense on each pixel": (keras.layers.Dense(7), 8 * 6 * 4 * 7, 4 * 7 + 7),
    "pooling": (keras.layers.MaxPooling2D(), 0, 0),
    "normalization": (keras.layers.BatchNormalization(), 0, 16),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_one_layer_by_hand(name):
    layer, products, parameters = BY_HAND[name]
    assert cost(one_layer(layer, (8, 6, 4))) == [("one", parameters, products)]


def test_a_dense_layer_on_flattened_pixels():
    image = keras.Input((8, 6, 4))
    model = keras.Model(image, keras.layers.Dense(7)(keras.layers.Flatten()(image)))
    (row,) = layer_costs(model)
    assert row[2:] == ((7,), 8 * 6 * 4 * 7 + 7, 8 * 6 * 4 * 7)


@pytest.mark.skipif(
    keras.backend.backend() == "tensorflow", reason="TensorFlow on a CPU has no channels first"
)
def test_channels_first():
    layer = conv(5, 3, padding="same", data_format="channels_first")
    assert cost(one_layer(layer, (4, 8, 6)))[0].multiply_adds == 8 * 6 * 9 * 4 * 5


def test_a_layer_that_is_called_twice_has_its_parameters_once():
    layer = conv(4, 3, padding="same", name="shared")
    image = keras.Input((8, 6, 4))
    model = keras.Model(image, layer(keras.layers.MaxPooling2D()(layer(image))), name="twice")
    parameters, kernel = 9 * 4 * 4 + 4, 9 * 4 * 4
    assert layer_costs(model) == [
        ("twice", "shared", (8, 6, 4), parameters, 48 * kernel),
        ("twice", "shared", (4, 3, 4), 0, 12 * kernel),
    ]
    assert cost(model) == [("twice", parameters, 60 * kernel)]


def test_a_layer_of_ones_own():
    class Mine(conv):
        def call(self, x):
            return super().call(2 * x)

    class Wrapped(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.inner = Mine(5, 1)

        def build(self, shape):
            self.inner.build(shape)

        def compute_output_shape(self, shape):
            return self.inner.compute_output_shape(shape)

        def call(self, x):
            return self.inner(self.inner(x)[..., :4])

    products = 8 * 6 * 4 * 5
    assert cost(one_layer(Wrapped(), (8, 6, 4))) == [("one", 4 * 5 + 5, 2 * products)]


# --- published networks -----------------------------------------------------------------------


def test_vgg16_as_published(no_random_numbers):
    model = keras.applications.VGG16(weights=None)
    rows = layer_costs(model)
    assert len(rows) == 16  # what the network is named after
    total = sum(row.multiply_adds for row in rows)
    convolutions = sum(row.multiply_adds for row in rows if row.layer.startswith("block"))
    # torchvision's table of models: 15.47; He et al., CVPR 2016, without the dense layers: 15.3
    assert f"{total / 1e9:.2f}" == "15.47"
    assert f"{convolutions / 1e9:.1f}" == "15.3"
    assert sum(row.parameters for row in rows) == 138_357_544  # torchvision's table


def test_mobilenet_v2_as_published():
    model = keras.applications.MobileNetV2(weights=None)
    ((_, parameters, products),) = cost(model)
    # Sandler et al., CVPR 2018, table 4: 300 million; torchvision's table: 0.30
    assert products == pytest.approx(300e6, rel=0.005)
    # torchvision's 3,504,872, which has no moving averages among its parameters
    averages = sum(int(np.prod(v.shape)) for v in model.non_trainable_variables)
    assert parameters - averages == 3_504_872


# --- the book's models ------------------------------------------------------------------------


def test_the_published_fcn8_part_by_part(no_random_numbers):
    model = fcn8(21, backbone="vgg16", weights=None, filters=4096, upsampling="learned")
    rows = {row.layer: row for row in layer_costs(model, input_shape=(224, 224, 3))}
    # Dense on one map of 7 x 7 cells before, now at 7 x 7 places
    assert rows["fc6"].parameters == 7 * 7 * 512 * 4096 + 4096
    assert rows["fc6"].multiply_adds == 49 * 102_760_448
    assert rows["fc7"].multiply_adds == 49 * 4096 * 4096
    assert rows["score"].multiply_adds == 49 * 4096 * 21
    assert rows["score_P4"][2:] == ((14, 14, 21), 512 * 21 + 21, 14 * 14 * 512 * 21)
    assert rows["score_P3"][2:] == ((28, 28, 21), 256 * 21 + 21, 28 * 28 * 256 * 21)
    backbone, decoder, head = cost(model, input_shape=(224, 224, 3))
    assert f"{backbone.multiply_adds / 1e9:.1f}" == "15.3"
    # Each map has a frame of one cell while it is enlarged: (7 + 2)^2 and (14 + 2)^2 inputs
    enlarging = (9 * 9 + 16 * 16) * 4 * 4 * 21 * 21
    scores = sum(rows[name].multiply_adds for name in ("score", "score_P4", "score_P3"))
    dense = 49 * (102_760_448 + 4096 * 4096)
    assert decoder.multiply_adds == dense + scores + enlarging
    assert head == ("head", 16 * 16 * 21 * 21, 30 * 30 * 16 * 16 * 21 * 21)
    assert backbone.parameters + decoder.parameters + head.parameters == 134_489_759


@pytest.mark.parametrize("build, weights", [(fcn8, None), (unet, "file")])
def test_the_parts_sum_up_to_the_model(build, weights, tmp_path):
    if weights == "file":  # then the backbone is called in inference mode, inside another layer
        weights = tmp_path / "network.weights.h5"
        network = keras.applications.MobileNetV2(weights=None, include_top=False, alpha=0.35)
        network.save_weights(weights)
    model = build(3, backbone="mobilenet_v2", weights=weights, alpha=0.35)
    found = cost(model, input_shape=(64, 96, 3))
    assert [row.part for row in found] == ["backbone", "decoder", "head"]
    assert sum(row.parameters for row in found) == model.count_params()
    assert found[0].multiply_adds == cost(model.backbone, input_shape=(64, 96, 3))[0].multiply_adds


def test_a_unet_step_by_hand():
    model = unet(3, backbone="small", weights=None, input_shape=(64, 64, 3))
    rows = [row for row in layer_costs(model) if row.part == "decoder"]
    channels, sizes = (128, 96, 64, 32, 24), (4, 8, 16, 32)  # P5 to P1
    below, expected = channels[0], []
    for n, skip, (narrow, wide) in zip(
        sizes, channels[1:], [(96, 160), (64, 96), (48, 64), (24, 32)], strict=True
    ):
        expected += [n * n * skip * narrow, n * n * 9 * (below + narrow) * wide]
        below = wide
    assert [row.multiply_adds for row in rows] == expected


def test_a_picture_is_padded_to_a_multiple_of_32():
    model = fcn8(3, backbone="small", weights=None)
    padded, exact = (cost(model, input_shape=(n, n, 3)) for n in (97, 128))
    assert padded == exact


def test_nothing_is_left_behind():
    model = fcn8(3, backbone="small", weights=None, alpha=0.25, filters=8)
    before = {kind: kind.call for kind in (conv, keras.layers.Dense)}
    inherited = "call" not in vars(conv)
    cost(model, input_shape=(64, 64, 3))
    with pytest.raises(ValueError, match=r"shape \(None, None, 3\).*Pass input_shape="):
        cost(model)
    assert all(kind.call is call for kind, call in before.items())
    assert inherited == ("call" not in vars(conv))
    assert np.isfinite(model.predict(np.zeros((1, 64, 64, 3), "uint8"), verbose=0)).all()
