"""DeepLabV3+ and its parts against published sizes, definitions and properties; any backend."""

import functools

import keras
import numpy as np
import pytest

from seglib.losses import CrossEntropy
from seglib.models import (
    RATES,
    AtrousConv2D,
    SegmentationModel,
    aspp,
    backbone,
    conv_norm_relu,
    deeplab_v3_plus,
    dilate,
    jpu,
    small_backbone,
    stride_of,
)
from seglib.models.levels import level_strides

to_numpy = keras.ops.convert_to_numpy
ON_JAX = keras.backend.backend() == "jax"

TINY = {"backbone": "small", "weights": None, "alpha": 0.25, "filters": 8, "low_level_filters": 4}
TINY["separable"] = False


def pixels(height=64, width=96, batch=2):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (batch, height, width, 3)).astype("uint8")


def noise(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def trainable(*parts):
    return sum(int(np.prod(v.shape)) for part in parts for v in part.trainable_variables)


def layers_like(model, start):
    return [layer for layer in model.layers if layer.name.startswith(start)]


def model_of(function, *shape, **options):
    """A model of one map, or of several, that a function of tensors makes."""
    x = keras.Input(shape)
    return keras.Model(x, function(x, **options))


# --- published sizes -----------------------------------------------------------------------------


def conv(size, channels_in, channels_out):
    """Weights of a convolution without bias and of the BatchNorm after it."""
    return size * size * channels_in * channels_out + 2 * channels_out


# torchvision's DeepLabV3 for 21 classes has, with the head that helps only in training, so many
# parameters (its documentation, COCO_WITH_VOC_LABELS_V1):
TORCHVISION = {"resnet50": 42_004_074, "resnet101": 60_996_202}
# Its ResNets without the last layer, and that further head on P4:
RESNET = {"resnet50": 25_557_032 - 2_049_000, "resnet101": 44_549_160 - 2_049_000}
FURTHER_HEAD = conv(3, 1024, 256) + 256 * 21 + 21


@pytest.fixture(scope="module")
def resnet50():
    if ON_JAX:
        pytest.skip("sizes are the same on every backend; JAX takes a minute for these weights")
    return backbone("resnet50", weights=None, output_stride=16, input_shape=(64, 64, 3))


@pytest.mark.parametrize("name", TORCHVISION)
def test_deeplab_v3_is_as_large_as_torchvisions(name, resnet50):
    options = {"low_level": None, "num_convs": 1, "separable": False, "weights": None}
    model = deeplab_v3_plus(21, backbone=resnet50, **options)
    decoder = trainable(model.decoder, model.head)
    assert RESNET[name] + decoder + FURTHER_HEAD == TORCHVISION[name]


# Parameters with the classifier for 1000 classes, as keras.io/api/applications has them in
# millions (25.6, 44.7, 5.3) and `summary` exactly.
KERAS = {"resnet50": 25_636_712, "resnet101": 44_707_176, "efficientnet_b0": 5_330_571}
# What we leave out: the classifier, and the widening before it.
LEFT_OUT = {
    "resnet50": 2048 * 1000 + 1000,
    "resnet101": 2048 * 1000 + 1000,
    "efficientnet_b0": 1280 * 1000 + 1000 + 320 * 1280 + 4 * 1280,
}


@pytest.mark.parametrize("name", KERAS)
def test_backbones_are_as_large_as_keras_says(name, resnet50):
    model = resnet50 if name == "resnet50" else backbone(name, weights=None)
    assert model.count_params() == KERAS[name] - LEFT_OUT[name]


def test_resnets_parameters_are_torchvisions_but_for_the_biases(resnet50):
    biases = [v for v in resnet50.trainable_variables if v.path.endswith("bias")]
    assert trainable(resnet50) - sum(v.shape[0] for v in biases) == RESNET["resnet50"]


def test_deeplab_v3_plus_layer_by_layer(resnet50):
    model = deeplab_v3_plus(21, backbone=resnet50, weights=None, separable=False)
    expected = {
        "aspp": 2 * conv(1, 2048, 256) + 3 * conv(3, 2048, 256) + conv(1, 5 * 256, 256),
        "low_level": conv(1, 256, 48),
        "conv0": conv(3, 256 + 48, 256),
        "conv1": conv(3, 256, 256),
    }
    found = {part: trainable(*layers_like(model.decoder, part)) for part in expected}
    assert found == expected and sum(found.values()) == trainable(model.decoder)
    assert trainable(model.head) == 256 * 21 + 21


def test_separable_convolutions_layer_by_layer(resnet50):
    def split(channels_in, channels_out):
        return 9 * channels_in + conv(1, channels_in, channels_out)

    decoder = deeplab_v3_plus(21, backbone=resnet50, weights=None).decoder
    expected = {
        "aspp": 2 * conv(1, 2048, 256) + 3 * split(2048, 256) + conv(1, 5 * 256, 256),
        "conv0": split(304, 256),
        "conv1": split(256, 256),
    }
    assert {part: trainable(*layers_like(decoder, part)) for part in expected} == expected


def test_fastfcns_upsampling_layer_by_layer(resnet50):
    shapes = {level: (None, None, x.shape[-1]) for level, x in resnet50.output.items()}
    features = {level: keras.Input(shape) for level, shape in shapes.items()}
    levels, strides = jpu(features, level_strides(32))
    narrow = sum(conv(3, width, 512) for width in (512, 1024, 2048))
    # one kernel a channel, BatchNorm, 1x1, BatchNorm
    spread = 9 * 1536 + 2 * 1536 + conv(1, 1536, 512)
    assert trainable(keras.Model(features, levels["P5"])) == narrow + 4 * spread
    assert strides == level_strides(8) | {"P4": 16}


# --- the model -----------------------------------------------------------------------------------


def found_rates(model):
    layers = layers_like(model.decoder, "aspp_rate")
    rates = [x.dilation_rate[0] for x in layers if isinstance(x, AtrousConv2D)]
    return tuple(sorted(rates))


@pytest.mark.parametrize("output_stride, rates", [(8, (12, 24, 36)), (16, (6, 12, 18))])
def test_rates_follow_the_output_stride(output_stride, rates):
    # Chen et al. 2017, section 3.3: (6, 12, 18), and doubled when the output stride is 8.
    given = dilate(small_backbone(alpha=0.25), output_stride)
    # A backbone's own output stride counts.
    model = deeplab_v3_plus(**TINY | {"backbone": given, "output_stride": 32})
    assert found_rates(model) == rates and model.backbone is given
    # and so does the reach, in pixels
    assert rates[0] * output_stride == 96 == RATES[32][0] * 32


@pytest.mark.parametrize(
    "output_stride, low_level, stride", [(8, "P2", 4), (16, "P2", 4), (16, "P1", 2), (32, None, 32)]
)
def test_any_size_and_stride(output_stride, low_level, stride):
    model = deeplab_v3_plus(3, output_stride=output_stride, low_level=low_level, **TINY)
    assert stride_of(model.backbone, model.decoder) == stride
    logits = to_numpy(model(pixels(97, 131)))
    assert logits.shape == (2, 97, 131, 3) and logits.dtype == "float32"
    assert np.isfinite(logits).all()


def test_a_known_size_gives_the_same_logits():
    # At 64 px and stride 16 most taps of the pyramid pooling see nothing and are skipped, but
    # not where the size is known only at run time.
    models = []
    for input_shape in ((64, 80, 3), (None, None, 3)):
        keras.utils.set_random_seed(1)
        models.append(deeplab_v3_plus(3, input_shape=input_shape, **TINY))
    images = pixels(64, 80)
    known = to_numpy(models[0](images))
    np.testing.assert_allclose(models[1].predict(images, verbose=0), known, atol=1e-4)
    assert known.std() > 0.01


def test_jpu_reaches_stride_8_without_dilation():
    options = TINY | {"output_stride": 32, "low_level": None}
    model = deeplab_v3_plus(3, pyramid=functools.partial(jpu, filters=8), **options)
    assert stride_of(model.backbone) == 32 and stride_of(model.backbone, model.decoder) == 8
    assert found_rates(model) == RATES[8]
    assert model.decoder.get_layer("jpu_concat").output.shape[3] == 4 * 8
    assert to_numpy(model(pixels())).shape == (2, 64, 96, 3)


def test_it_is_saved_and_loaded(tmp_path):
    model = deeplab_v3_plus(4, **TINY | {"separable": True, "dropout": 0.3})
    model.backbone.trainable = False
    model.save(tmp_path / "model.keras")
    copy = keras.saving.load_model(tmp_path / "model.keras")
    assert type(copy) is SegmentationModel and copy.name == "deeplab_v3_plus"
    assert copy.decoder.get_layer("aspp_dropout").rate == 0.3
    images = pixels(41, 37)
    np.testing.assert_array_equal(to_numpy(copy(images)), to_numpy(model(images)))


@pytest.mark.parametrize("frozen", [None, False, True])
def test_a_frozen_backbone(frozen):
    model = deeplab_v3_plus(3, freeze_backbone=frozen, **TINY)
    assert model.backbone.trainable is (not frozen)  # random weights have to train
    model.unfreeze_backbone("level4_down_conv")
    names = {v.path.split("/")[0] for v in model.backbone.trainable_variables}
    assert "level4_down_conv" in names and "level3_keep_conv" not in names


def test_it_learns_an_easy_task():
    # Blocks of one color, as in the test of SegmentationModel.
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 3, (8, 4, 4)).repeat(8, 1).repeat(8, 2)
    images = np.where(np.eye(3, dtype=bool)[blocks], 220, 40).astype("uint8")
    keras.utils.set_random_seed(3)
    model = deeplab_v3_plus(3, **TINY, dropout=0.0)
    model.compile(keras.optimizers.Adam(0.02), CrossEntropy())
    losses = model.fit(images, blocks, batch_size=4, epochs=10, verbose=0).history["loss"]
    assert losses[-1] < 0.5 < losses[0]


def test_an_unknown_low_level():
    with pytest.raises(ValueError, match="level is 'P9', expected one of P1, P2"):
        deeplab_v3_plus(3, low_level="P9", **TINY)


# --- its parts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("height, width", [(4, 9), (9, 4), (6, 6), (7, 1), (13, 13)])
@pytest.mark.parametrize("rate", [1, 3, 6])
@pytest.mark.parametrize("size", [3, 5])
def test_skipped_taps_see_padding_only(height, width, rate, size):
    x = noise(2, height, width, 3)
    ours = AtrousConv2D(4, size, dilation_rate=rate)
    kerass = keras.layers.Conv2D(4, size, dilation_rate=rate, padding="same")
    kerass.build(x.shape)
    expected = to_numpy(kerass(x))
    ours.build(x.shape)
    ours.set_weights(kerass.get_weights())
    np.testing.assert_allclose(to_numpy(ours(x)), expected, atol=1e-4)


def test_which_taps_are_skipped():
    taps = AtrousConv2D.useful_taps
    assert taps(16, 3, 18) == taps(16, 3, 16) == slice(1, 2)  # the center sees the map, no other
    assert taps(16, 3, 15) == taps(None, 3, 18) == slice(0, 3)
    assert taps(16, 5, 8) == slice(1, 4) and taps(16, 5, 7) == slice(0, 5)


def test_the_reach_of_an_atrous_convolution_by_hand():
    # 1, 10, 100 at a distance of 2: each cell is itself ten times, its left and right neighbors.
    layer = AtrousConv2D(1, (1, 3), dilation_rate=2, use_bias=False)
    x = np.array([1, 2, 3, 4, 5], "float32").reshape(1, 1, 5, 1)
    layer.build(x.shape)
    layer.set_weights([np.array([1, 10, 100], "float32").reshape(1, 3, 1, 1)])
    found = to_numpy(layer(x))[0, 0, :, 0]
    np.testing.assert_allclose(found, [310, 420, 531, 42, 53])


def test_the_branches_of_aspp_see_what_they_should():
    # One bright cell in the middle; which cells of each branch differ from those without it?
    dark, bright = np.zeros((2, 1, 15, 15, 1), "float32")
    bright[0, 7, 7] = 1
    model = model_of(aspp, 15, 15, 1, filters=6, rates=(2, 4), dropout=0.0)
    reach = {"cell": [0], "rate2": [-2, 0, 2], "rate4": [-4, 0, 4]}
    for name, offsets in reach.items():
        layer = model.get_layer(f"aspp_{name}_conv")
        seen = np.abs(to_numpy(layer(bright)) - to_numpy(layer(dark))).max(-1)[0] > 0
        expected = np.zeros((15, 15), bool)
        expected[np.ix_(np.add(7, offsets), np.add(7, offsets))] = True
        np.testing.assert_array_equal(seen, expected)
    # Through the mean every cell sees it.
    assert (np.abs(to_numpy(model(bright)) - to_numpy(model(dark))).max(-1) > 0).all()


def test_the_picture_branch_is_the_mean_everywhere():
    x = noise(2, 5, 7, 3)
    model = model_of(aspp, 5, 7, 3, filters=4, rates=(), dropout=0.0)
    [kernel] = model.get_layer("aspp_picture_conv").get_weights()
    norm = model.get_layer("aspp_picture_norm")
    gamma, beta, mean, variance = norm.get_weights()
    scale = gamma / np.sqrt(variance + norm.epsilon)
    branch = np.maximum((x.mean((1, 2)) @ kernel[0, 0] - mean) * scale + beta, 0)  # (2, 4)
    views = keras.Model(model.input, model.get_layer("aspp_concat").output)
    cell, everywhere = np.split(to_numpy(views(x)), 2, axis=-1)
    np.testing.assert_allclose(
        everywhere, np.broadcast_to(branch[:, None, None], cell.shape), atol=1e-5
    )


@pytest.mark.parametrize("separable, norm_between", [(False, False), (True, False), (True, True)])
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_which_layers_a_block_has(separable, norm_between, norm):
    options = {"separable": separable, "norm_between": norm_between, "norm": norm}
    model = model_of(conv_norm_relu, 6, 5, 3, filters=6, dilation_rate=2, name="x", **options)
    parts = ["depthwise"] * separable + ["between"] * norm_between + ["conv", "norm", "relu"]
    assert [layer.name for layer in model.layers[1:]] == [f"x_{part}" for part in parts]
    value = to_numpy(model(noise(2, 6, 5, 3)))
    assert value.shape == (2, 6, 5, 6) and value.min() == 0 < value.max()  # ReLU


def test_group_norm_does_not_look_at_other_pictures():
    block = model_of(conv_norm_relu, 6, 5, 4, filters=8, norm="group", name="x")
    x = noise(3, 6, 5, 4)
    together, alone = to_numpy(block(x, training=True)), to_numpy(block(x[:1], training=True))
    np.testing.assert_allclose(together[:1], alone, atol=1e-5)
    with pytest.raises(ValueError, match="norm is 'layer', expected 'batch' or 'group'"):
        model_of(conv_norm_relu, 6, 5, 4, filters=8, norm="layer", name="x")
