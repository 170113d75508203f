"""The backbones against `keras.applications` itself; runs on any backend."""

import sys
import urllib.error
from pathlib import Path

import keras
import numpy as np
import pytest

from seglib.models import backbone, small_backbone
from seglib.models.backbones import as_caffe

to_numpy = keras.ops.convert_to_numpy

# The layers that the TensorFlow segmentation tutorial takes, and the BatchNorm after the last.
LAYERS = {
    "P1": "block_1_expand_relu",
    "P2": "block_3_expand_relu",
    "P3": "block_6_expand_relu",
    "P4": "block_13_expand_relu",
    "P5": "block_16_project_BN",
}


@pytest.fixture(scope="module")
def kerass_network():
    """MobileNetV2 as Keras builds it, with random numbers everywhere, statistics included."""
    keras.utils.set_random_seed(0)
    network = keras.applications.MobileNetV2(
        input_shape=(64, 96, 3), alpha=0.35, include_top=False, weights=None
    )
    rng = np.random.default_rng(0)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    return network


@pytest.fixture(scope="module")
def weights_file(kerass_network, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "mobilenet_v2_0.35.weights.h5"
    kerass_network.save_weights(path)
    return path


@pytest.fixture(scope="module")
def ours(weights_file):
    return backbone("mobilenet_v2", weights=weights_file, alpha=0.35)


def pixels(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (2, height, width, 3)).astype("uint8")


def test_features_are_those_of_kerass_own_layers_on_preprocessed_pixels(kerass_network, ours):
    outputs = {level: kerass_network.get_layer(name).output for level, name in LAYERS.items()}
    theirs = keras.Model(kerass_network.input, outputs)
    images = pixels(64, 96)
    scaled = keras.applications.mobilenet_v2.preprocess_input(images.astype("float32"))
    expected = theirs.predict(scaled, verbose=0)
    features = ours.predict(images, verbose=0)
    assert set(features) == set(LAYERS)
    for level, value in expected.items():
        assert value.std() > 0.1  # the comparison means something
        np.testing.assert_allclose(features[level], value, rtol=1e-4, atol=1e-4)


def test_the_local_file_went_into_every_layer(kerass_network, ours):
    ours_by_name = {layer.name: layer for layer in ours.layers}
    compared = 0
    for layer in kerass_network.layers:
        if layer.weights and layer.name in ours_by_name:
            for a, b in zip(
                layer.get_weights(), ours_by_name[layer.name].get_weights(), strict=True
            ):
                np.testing.assert_array_equal(a, b)
                compared += 1
    # Up to block 16: 51 convolutions and 51 BatchNorm layers of 4 arrays
    assert compared == 51 + 51 * 4


@pytest.mark.parametrize("name", ["mobilenet_v2", "small"])
@pytest.mark.parametrize("height, width", [(64, 64), (32, 96), (128, 160), (224, 32)])
def test_level_n_has_stride_2_to_the_n(name, height, width, ours):
    model = ours if name == "mobilenet_v2" else small_backbone(alpha=0.25)
    features = model(keras.KerasTensor((2, height, width, 3)))
    for level in range(1, 6):
        stride = 2**level
        shape = tuple(features[f"P{level}"].shape[:3])
        assert shape == (2, height // stride, width // stride)


@pytest.mark.parametrize("height, width", [(100, 60), (97, 131), (33, 31)])
def test_the_small_backbone_rounds_up(height, width):
    features = small_backbone(alpha=0.25)(keras.KerasTensor((2, height, width, 3)))
    for level in range(1, 6):
        stride = 2**level
        size = (-(-height // stride), -(-width // stride))
        assert tuple(features[f"P{level}"].shape[1:3]) == size


def level_shapes(model):
    return {level: tuple(tensor.shape) for level, tensor in model.output.items()}


@pytest.mark.parametrize(
    "alpha, channels",
    # Sandler et al., table 2: bottlenecks of 16, 24, 32, 96 and 320 channels, of which P1 to P4
    # see the sixfold expansion; alpha scales the bottleneck, rounded to a multiple of 8.
    [(1.0, (96, 144, 192, 576, 320)), (0.5, (48, 96, 96, 288, 160))],
)
def test_channels_of_mobilenet_v2(alpha, channels):
    shapes = level_shapes(
        backbone("mobilenet_v2", weights=None, alpha=alpha, input_shape=(64, 64, 3))
    )
    assert tuple(shapes[f"P{n}"][-1] for n in range(1, 6)) == channels
    assert [shapes[f"P{n}"][1] for n in range(1, 6)] == [32, 16, 8, 4, 2]


@pytest.mark.parametrize(
    "alpha, channels", [(1.0, (24, 32, 64, 96, 128)), (0.25, (6, 8, 16, 24, 32))]
)
def test_channels_of_the_small_backbone(alpha, channels):
    shapes = level_shapes(backbone("small", weights=None, alpha=alpha))
    assert tuple(shapes[f"P{n}"][-1] for n in range(1, 6)) == channels


def test_the_small_backbone_scales_pixels_to_plus_minus_one():
    model = small_backbone(alpha=0.25)
    scaled = keras.Model(model.input, model.get_layer("scale_pixels").output)
    image = np.array([[[[0, 127.5, 255]]]], "float32")
    np.testing.assert_allclose(to_numpy(scaled(image)), [[[[-1, 0, 1]]]], atol=1e-6)


def test_a_backbone_that_starts_from_random_numbers_forgets_its_statistics_soon(ours):
    def momenta(model):
        layers = model.layers
        return {x.momentum for x in layers if isinstance(x, keras.layers.BatchNormalization)}

    assert momenta(backbone("mobilenet_v2", weights=None, alpha=0.35)) == {0.9}
    assert momenta(ours) == {0.999}  # as keras.applications has it


# --- VGG16 ------------------------------------------------------------------------------------

# Simonyan and Zisserman, table 1, column D: the channels of the 3x3 convolutions of each block.
COLUMN_D = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


@pytest.fixture(scope="module")
def kerass_vgg16():
    keras.utils.set_random_seed(0)
    return keras.applications.VGG16(include_top=False, weights=None)


@pytest.fixture(scope="module", params=["vgg16.weights.h5", "vgg16_notop.h5"])
def vgg16_from_a_file(request, kerass_vgg16, tmp_path_factory):
    """Our VGG16 with weights from a file of Keras 3, and from one as Keras offers it."""
    path = tmp_path_factory.mktemp("weights") / request.param
    kerass_vgg16.save_weights(path) if "weights" in request.param else kerass_vgg16.save(path)
    return backbone("vgg16", weights=path)


@pytest.fixture(scope="module")
def random_vgg16():
    return backbone("vgg16", weights=None, input_shape=(64, 96, 3))


def test_features_of_vgg16_are_the_pools_of_kerass_own(kerass_vgg16, vgg16_from_a_file):
    outputs = {f"P{n}": kerass_vgg16.get_layer(f"block{n}_pool").output for n in range(1, 6)}
    theirs = keras.Model(kerass_vgg16.input, outputs)
    images = pixels(32, 64)
    scaled = keras.applications.vgg16.preprocess_input(images.astype("float32"))
    expected = theirs.predict(scaled, verbose=0)
    features = vgg16_from_a_file.predict(images, verbose=0)
    assert set(features) == set(expected)
    for level, value in expected.items():
        scale = value.std()
        assert scale > 0.01  # the comparison means something
        np.testing.assert_allclose(features[level], value, rtol=1e-4, atol=1e-4 * scale)


def test_vgg16_takes_blue_first_and_off_the_mean():
    # The mean that Caffe's VGG16 was trained with, blue, green, red: 103.939, 116.779, 123.68.
    red = np.array([[[[255, 0, 0]]]], "float32")
    expected = [[[[-103.939, -116.779, 255 - 123.68]]]]
    np.testing.assert_allclose(to_numpy(as_caffe(red)), expected, atol=1e-4)


def test_vgg16_layer_by_layer(random_vgg16):
    before, total = 3, 0
    for block, widths in enumerate(COLUMN_D, start=1):
        for i, width in enumerate(widths, start=1):
            count = random_vgg16.get_layer(f"block{block}_conv{i}").count_params()
            assert count == 9 * before * width + width
            before, total = width, total + count
    # 138,357,544 parameters of the whole network, less its three dense layers
    dense = (7 * 7 * 512 + 1) * 4096 + (4096 + 1) * 4096 + (4096 + 1) * 1000
    assert random_vgg16.count_params() == total == 138_357_544 - dense == 14_714_688


def test_pools_of_vgg16_have_stride_2_to_the_n(random_vgg16):
    expected = {f"P{n}": (None, 64 >> n, 96 >> n, COLUMN_D[n - 1][-1]) for n in range(1, 6)}
    assert level_shapes(random_vgg16) == expected


def test_a_saved_vgg16_comes_back_whole(random_vgg16, tmp_path):
    random_vgg16.save(tmp_path / "vgg16.keras")
    copy = keras.saving.load_model(tmp_path / "vgg16.keras")
    images = pixels(64, 96)
    for a, b in zip(copy(images).values(), random_vgg16(images).values(), strict=True):
        np.testing.assert_array_equal(to_numpy(a), to_numpy(b))


def test_vgg16_comes_in_one_width():
    with pytest.raises(ValueError, match="alpha is 0.5, expected 1"):
        backbone("vgg16", weights=None, alpha=0.5)


# --- errors -----------------------------------------------------------------------------------


def test_an_unknown_name():
    with pytest.raises(ValueError, match="'vgg', expected one of 'efficientnet_lite0'"):
        backbone("vgg")


def test_the_small_backbone_has_no_pretrained_weights():
    with pytest.raises(ValueError, match="weights is 'imagenet', expected None"):
        backbone("small")


def test_a_missing_weights_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no weights file .*nowhere\.weights\.h5"):
        backbone("mobilenet_v2", weights=tmp_path / "nowhere.weights.h5")


# Keras names each layer that finds no weights; the error says it once.
@pytest.mark.filterwarnings("ignore:Skipping nested container:UserWarning")
def test_weights_of_another_network(weights_file):
    with pytest.raises(ValueError, match="do not fit vgg16"):
        backbone("vgg16", weights=weights_file)


# Keras names each layer that finds no weights; the error says it once.
@pytest.mark.filterwarnings("ignore:Skipping nested container:UserWarning")
def test_weights_of_another_alpha(weights_file):
    with pytest.raises(ValueError, match="same network with the same alpha"):
        backbone("mobilenet_v2", weights=weights_file, alpha=0.5)


def test_a_file_that_holds_no_weights(tmp_path):
    path = tmp_path / "broken.weights.h5"
    path.write_bytes(b"this is no HDF5 file")
    with pytest.raises(ValueError, match="do not fit|cannot be read"):
        backbone("mobilenet_v2", weights=path, alpha=0.35)


@pytest.mark.parametrize("name, alpha", [("mobilenet_v2", 0.35), ("vgg16", 1.0)])
def test_imagenet_without_a_network_names_both_ways_out(name, alpha, monkeypatch, tmp_path):
    def no_network(*_, **__):
        raise urllib.error.URLError("Name or service not known")

    files = sys.modules["keras.src.utils.file_utils"]
    monkeypatch.setattr(files, "urlretrieve", no_network)
    # An empty cache, so that a file downloaded earlier is not found.
    monkeypatch.setattr(files.config, "keras_home", lambda: str(tmp_path))
    with pytest.raises(ConnectionError, match=r"weights='path.*or weights=None") as raised:
        backbone(name, weights="imagenet", alpha=alpha)
    assert "URL fetch failure" in str(raised.value.__cause__)


def test_imagenet_weights_do_not_exist_for_every_alpha():
    with pytest.raises(ValueError, match="alpha"):
        backbone("mobilenet_v2", weights="imagenet", alpha=0.42)


# --- the real weights, where they are ---------------------------------------------------------


@pytest.mark.parametrize(
    "alpha, name",
    [
        (1.0, "mobilenet_v2_1.0_notop_dequant_int8.weights.h5"),
        (0.35, "mobilenet_v2_0.35_notop.weights.h5"),
    ],
)
def test_real_weights_load_and_are_not_random(alpha, name):
    weights_path = Path(__file__).resolve().parents[3] / "shared" / "weights" / name
    if not weights_path.exists():
        pytest.skip(f"the ImageNet weights are not here: no ../shared/weights/{name}")
    model = backbone("mobilenet_v2", weights=weights_path, alpha=alpha)
    gammas = [
        x.get_weights()[0] for x in model.layers if isinstance(x, keras.layers.BatchNormalization)
    ]
    assert all(np.abs(g - 1).max() > 0.01 for g in gammas)  # fresh ones are exactly 1
    if alpha == 1.0:
        for value in model.predict(pixels(64, 64), verbose=0).values():
            assert np.isfinite(value).all() and 0.05 < value.std() < 20
