"""Dilated networks against the strided ones that they come from; runs on any backend."""

import sys

import keras
import numpy as np
import pytest

from seglib.models import backbone, dilate, small_backbone
from seglib.models.dilation import SpreadMaxPooling2D
from seglib.models.levels import level_strides

to_numpy = keras.ops.convert_to_numpy
pytestmark = pytest.mark.no_cover  # the same lines as in other tests, again and again
ON_JAX = keras.backend.backend() == "jax"


def randomize(network, seed=0):
    """Gives BatchNorm layers statistics that are not the initial ones."""
    rng = np.random.default_rng(seed)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    return network


def pixels(height, width, seed=0):
    return np.random.default_rng(seed).uniform(0, 255, (1, height, width, 3)).astype("float32")


def features(network, image):
    return {level: to_numpy(value) for level, value in network(image, training=False).items()}


# --- the weights of keras.applications -----------------------------------------------------------

APPLICATIONS = {
    "mobilenet_v2": (keras.applications.MobileNetV2, {"alpha": 0.35}),
    "resnet50": (keras.applications.ResNet50, {}),
    "efficientnet_b0": (keras.applications.EfficientNetB0, {}),
}
LAYERS = {  # the last at each stride
    "mobilenet_v2": ["block_1_expand_relu", "block_3_expand_relu", "block_6_expand_relu"]
    + ["block_13_expand_relu", "block_16_project_BN"],
    "resnet50": ["conv1_relu", "conv2_block3_out", "conv3_block4_out"]
    + ["conv4_block6_out", "conv5_block3_out"],
    "efficientnet_b0": ["block2a_expand_activation", "block3a_expand_activation"]
    + ["block4a_expand_activation", "block6a_expand_activation", "block7a_project_bn"],
}


def kerass_network(name, weights=None):
    build, options = APPLICATIONS[name]
    return build(include_top=False, weights=weights, input_shape=(None, None, 3), **options)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A function that returns our backbone, and the file in Keras's layout that it came from."""
    made = {}

    def get(name):
        if name not in made:
            alpha = APPLICATIONS[name][1].get("alpha", 1.0)
            path = tmp_path_factory.mktemp("weights") / f"{name}.weights.h5"
            keras.utils.set_random_seed(0)
            theirs = randomize(kerass_network(name))
            for layer in theirs.layers:
                if isinstance(layer, keras.layers.Normalization):
                    # As ImageNet's: mean and variance of the colors, red, green, blue.
                    mean, variance = (0.485, 0.456, 0.406), np.square((0.229, 0.224, 0.225))
                    layer.set_weights([np.array(mean), variance, layer.get_weights()[2]])
                    layer.finalize_state()
            theirs.save_weights(path)
            made[name] = (backbone(name, weights=path, alpha=alpha), theirs, path)
        return made[name]

    return get


@pytest.mark.skipif(ON_JAX, reason="XLA takes minutes for these; test_backbone.py has MobileNetV2")
@pytest.mark.parametrize(
    "name", ["resnet50", pytest.param("efficientnet_b0", marks=pytest.mark.rare)]
)
def test_at_stride_32_the_features_are_those_of_keras_applications(name, network, monkeypatch):
    ours, theirs, path = network(name)
    if name == "efficientnet_b0":
        # With "imagenet" Keras divides the pixels once more; let it find our file for ImageNet's.
        files = sys.modules["keras.src.applications.efficientnet"].file_utils
        monkeypatch.setattr(files, "get_file", lambda *_, **__: str(path))
        theirs = kerass_network(name, "imagenet")
    outputs = [theirs.get_layer(layer).output for layer in LAYERS[name]]
    image = pixels(64, 96)
    prepare = sys.modules[APPLICATIONS[name][0].__module__].preprocess_input
    expected = keras.Model(theirs.input, outputs)(prepare(image.copy()), training=False)
    found = features(ours, image)
    assert list(found) == ["P1", "P2", "P3", "P4", "P5"]
    for value, ours_value in zip(expected, found.values(), strict=True):
        value = to_numpy(value)
        np.testing.assert_allclose(ours_value, value, atol=1e-4 * value.std(), rtol=1e-4)


@pytest.mark.skipif(ON_JAX, reason="loading is the same on every backend, and XLA takes longer")
def test_the_same_file_loads_at_another_output_stride(network):
    ours, _, path = network("mobilenet_v2")
    dilated = backbone("mobilenet_v2", weights=path, alpha=0.35, output_stride=8)
    assert [x.name for x in dilated.layers] == [x.name for x in ours.layers]
    for a, b in zip(dilated.get_weights(), ours.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_random_weights_forget_their_statistics_soon_when_dilated_too():
    layers = backbone("mobilenet_v2", weights=None, alpha=0.35, output_stride=16).layers
    momenta = {x.momentum for x in layers if isinstance(x, keras.layers.BatchNormalization)}
    assert momenta == {0.9}


# --- dilation is what shifts say -----------------------------------------------------------------

# How far P5 sees, in pixels to each side: half the receptive field, summed up layer by layer
# (each kernel adds (size - 1) x the stride of the map it looks at).
REACH = {"small": 93, "vgg16": 106, "resnet50": 242, "mobilenet_v2": 246}
REACH |= {"efficientnet_b0": 426, "efficientnet_lite0": 425}
# A strided 3x3 kernel looks to the right and below; with symmetric padding its result lies one
# cell further there, and twice as far at the second stride. 1x1 kernels and 2x2 pools do not move.
MOVED = {"small", "mobilenet_v2", "efficientnet_b0", "efficientnet_lite0"}
CASES = [("small", 16), ("small", 8)]
if not ON_JAX:  # where XLA takes a minute and more for each of these
    CASES += [("mobilenet_v2", 16), ("vgg16", 8)]
    # The nightly run has those whose kernels and pools are of the same kinds.
    SAME = [("mobilenet_v2", 8), ("efficientnet_b0", 16), ("resnet50", 16)]
    CASES += [pytest.param(*case, marks=pytest.mark.rare) for case in SAME]
    CASES += [("efficientnet_lite0", 16), ("efficientnet_lite0", 8)]


def strided(name, network):
    if name in ("mobilenet_v2", "resnet50"):
        return network(name)[0]
    keras.utils.set_random_seed(0)
    fresh = randomize(backbone(name, weights=None, alpha=0.25 if name == "small" else 1.0))
    for layer in fresh.layers:
        if layer.name.endswith("se_expand"):
            # Squeeze and excitation sees the whole picture. Here it says the same of each.
            kernel, bias = layer.get_weights()
            layer.set_weights([0 * kernel, bias])
    return fresh


@pytest.mark.parametrize("name, output_stride", CASES)
def test_a_dilated_network_is_the_strided_one_on_shifted_pictures(name, output_stride, network):
    original = strided(name, network)
    dilated = dilate(original, output_stride)
    shifts = 32 // output_stride
    first = shifts - 1 if name in MOVED else 0
    margin = -(-REACH[name] // 32) + 1  # cells at stride 32 that see the edge
    cells = 2 * margin + 3
    image = pixels(64, 32 * cells)
    found = features(dilated, image)
    for level, value in features(original, image).items():
        if level_strides(32)[level] <= output_stride:
            np.testing.assert_allclose(found[level], value, atol=1e-4 * value.std())
    assert found["P5"].shape[1:3] == (64 // output_stride, 32 * cells // output_stride)
    inner = np.arange(margin, cells - margin)
    for shift in range(shifts):
        shifted = np.roll(image, -shift * output_stride, axis=2)
        expected = features(original, shifted)["P5"]
        columns = shifts * inner + first + shift
        result = found["P5"][:, first::shifts][:, :, columns]
        atol = 1e-3 * expected.std()
        # All rows, those at the frame too: without a shift the two networks agree everywhere.
        np.testing.assert_allclose(result, expected[:, :, inner], atol=atol)
        if shift == 0:
            whole = found["P5"][:, first::shifts, first::shifts]
            np.testing.assert_allclose(whole, expected, atol=atol)


@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_no_level_is_coarser_than_the_output_stride(output_stride):
    network = dilate(small_backbone(alpha=0.25), output_stride)
    shapes = network.compute_output_shape((2, 128, 192, 3))
    strides = [2, 4, 8, min(16, output_stride), output_stride]
    assert [shape[1:3] for shape in shapes.values()] == [(128 // s, 192 // s) for s in strides]
    assert level_strides(output_stride) == dict(zip(shapes, strides, strict=True))


def test_an_output_stride_of_32_changes_nothing():
    network = small_backbone(alpha=0.25)
    assert dilate(network, 32) is network


@pytest.mark.parametrize("output_stride", [4, 12, 64, None])
def test_other_output_strides(output_stride):
    with pytest.raises(ValueError, match=f"output_stride is {output_stride}, expected 8, 16 or 32"):
        dilate(small_backbone(alpha=0.25), output_stride)


def test_frozen_layers_stay_frozen():
    network = small_backbone(alpha=0.25)
    network.get_layer("level3_down_conv").trainable = False
    clone = dilate(network, 8)
    assert [v.path for v in clone.trainable_variables] == [
        v.path for v in network.trainable_variables
    ]


def test_a_dilated_network_is_saved_and_loaded(tmp_path):
    image = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, strides=8, padding="same")(image)
    x = keras.layers.MaxPooling2D(2)(x)
    x = keras.layers.MaxPooling2D(2)(keras.layers.Conv2D(4, 3, padding="same")(x))
    network = dilate(keras.Model(image, {"P5": x}), 8)
    rates = [x.rate for x in network.layers if isinstance(x, SpreadMaxPooling2D)]
    assert rates == [1, 2]
    network.save(tmp_path / "network.keras")
    copy = keras.saving.load_model(tmp_path / "network.keras")
    picture = pixels(64, 64)
    np.testing.assert_array_equal(features(copy, picture)["P5"], features(network, picture)["P5"])
    assert features(network, picture)["P5"].shape == (1, 8, 8, 4)


@pytest.mark.parametrize("rate", [1, 2, 3])
def test_spread_max_pooling_by_its_definition(rate):
    x = np.random.default_rng(rate).normal(size=(2, 7, 9, 3)).astype("float32")
    edge = [(0, 0), (0, rate), (0, rate), (0, 0)]
    padded = np.pad(x, edge, constant_values=-np.inf)
    corners = [padded[:, a : a + 7, b : b + 9] for a in (0, rate) for b in (0, rate)]
    np.testing.assert_array_equal(to_numpy(SpreadMaxPooling2D(rate)(x)), np.max(corners, axis=0))
    if rate == 1:
        even = to_numpy(keras.layers.MaxPooling2D(2)(x))
        np.testing.assert_array_equal(np.max(corners, axis=0)[:, :6:2, :8:2], even)
