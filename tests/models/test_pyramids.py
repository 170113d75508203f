"""Pyramids and fusions against NumPy, by hand and in shape; runs on any backend."""

import functools

import keras
import numpy as np
import pytest

from seglib.models import Upsample, fpn, fusion_decoder, jpu, levels_for
from seglib.models.fusion import low_level_fusion, panoptic_fusion, pyramid_fusion
from seglib.models.levels import level_strides

to_numpy = keras.ops.convert_to_numpy

WIDTHS = {"P1": 3, "P2": 4, "P3": 5, "P4": 6, "P5": 7}


def levels(output_stride=32, height=64, width=96):
    """Random maps as a backbone makes them."""
    rng = np.random.default_rng(0)
    return {
        level: rng.normal(size=(2, height // s, width // s, WIDTHS[level])).astype("float32")
        for level, s in level_strides(output_stride).items()
    }


def inputs_for(features):
    return {level: keras.Input(x.shape[1:], name=level) for level, x in features.items()}


def shapes(features):
    return {level: tuple(x.shape) for level, x in features.items()}


def repeat(x, factor):
    return x.repeat(factor, 1).repeat(factor, 2)


# --- FPN -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_a_pyramid_by_its_definition(output_stride):
    features, strides = levels(output_stride), level_strides(output_stride)
    inputs = inputs_for(features)
    outputs, found_strides = fpn(inputs, strides, filters=8)
    model = keras.Model(inputs, outputs)
    found, total = model(features), 0
    for level, below in (("P5", None), ("P4", "P5"), ("P3", "P4"), ("P2", "P3")):
        kernel, bias = model.get_layer(f"fpn_lateral_{level}").get_weights()
        lateral = features[level] @ kernel[0, 0] + bias
        if below:
            total = repeat(total, strides[below] // strides[level])
        total = lateral + total
        expected = to_numpy(model.get_layer(f"fpn_smooth_{level}")(total))
        np.testing.assert_allclose(to_numpy(found[level]), expected, atol=1e-4)
    assert found_strides == {level: strides[level] for level in ("P2", "P3", "P4", "P5")}


def test_a_pyramid_on_resnet_50_is_as_large_as_published():
    # 1x1 and 3x3 convolutions with biases; torchvision's `fpn` of Faster R-CNN has 3,344,384.
    widths = {"P1": 64, "P2": 256, "P3": 512, "P4": 1024, "P5": 2048}
    inputs = {level: keras.Input((None, None, width)) for level, width in widths.items()}
    outputs, _ = fpn(inputs, level_strides(32))
    lateral = sum(width * 256 + 256 for level, width in widths.items() if level != "P1")
    count = keras.Model(inputs, outputs).count_params()
    assert count == lateral + 4 * (9 * 256 * 256 + 256) == 3_344_384


def test_a_level_beyond_the_backbones():
    features = levels(height=96, width=160)
    inputs = inputs_for(features)
    outputs, strides = fpn(inputs, level_strides(32), filters=8, min_level=3, max_level=6)
    found = keras.Model(inputs, outputs)(features)
    sizes = {"P3": (12, 20), "P4": (6, 10), "P5": (3, 5), "P6": (2, 3)}
    assert shapes(found) == {level: (2, *size, 8) for level, size in sizes.items()}
    assert strides == {"P3": 8, "P4": 16, "P5": 32, "P6": 64}
    np.testing.assert_array_equal(to_numpy(found["P6"]), to_numpy(found["P5"])[:, ::2, ::2])


def test_sizes_known_only_at_run_time():
    features = levels()
    inputs = {level: keras.Input((None, None, width)) for level, width in WIDTHS.items()}
    for pyramid in (
        functools.partial(fpn, filters=8, max_level=6),
        functools.partial(jpu, filters=4),
    ):
        outputs, strides = pyramid(inputs, level_strides(32))
        found = keras.Model(inputs, outputs)(features)
        assert {level: 64 // x.shape[1] for level, x in found.items()} == strides
    assert found["P5"].shape[3] == 16


@pytest.mark.parametrize(
    "options, message",
    [
        ({"min_level": 0}, "levels are 0 to 5"),
        ({"min_level": 4, "max_level": 3}, "levels are 4 to 3"),
        ({"max_level": 7}, "levels are 2 to 7, expected a first of 1 to 5"),
    ],
)
def test_pyramids_that_make_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        fpn(inputs_for(levels()), level_strides(32), **options)


# --- fusions -------------------------------------------------------------------------------------


def test_a_low_level_beside_an_enlarged_one():
    coarse, fine = np.full((2, 3, 4, 5), 7, "float32"), levels()["P2"][:, :12, :16]
    inputs = [keras.Input(x.shape[1:]) for x in (coarse, fine)]
    model = keras.Model(inputs, low_level_fusion(*inputs, 4, filters=6))
    found = to_numpy(model([coarse, fine]))
    assert found.shape == (2, 12, 16, 5 + 6)
    np.testing.assert_allclose(found[..., :5], 7, atol=1e-6)
    narrow = keras.Model(inputs[1], model.get_layer("low_level_narrow_relu").output)
    np.testing.assert_array_equal(found[..., 5:], to_numpy(narrow(fine)))


def test_levels_added_at_one_size_by_hand():
    # Constant maps stay what they are, whatever their size; the finer level is averaged.
    strides = {"P2": 4, "P3": 8, "P4": 16}
    features = {"P2": np.zeros((1, 8, 12, 2)), "P3": np.ones((1, 4, 6, 2))}
    features["P4"] = np.full((1, 2, 3, 2), 10.0)
    features["P2"][:, ::2, ::2] = 400  # a quarter of the cells
    inputs = inputs_for(features)
    model = keras.Model(inputs, pyramid_fusion(inputs, strides, "P3"))
    np.testing.assert_allclose(to_numpy(model(features)), np.full((1, 4, 6, 2), 100 + 1 + 10))


def test_levels_of_different_widths_cannot_be_added():
    with pytest.raises(ValueError, match=r"channels \(P1: 3, .*P5: 7\).*pyramid=fpn"):
        pyramid_fusion(inputs_for(levels()), level_strides(32), "P3")


@pytest.mark.parametrize("output_stride", [8, 32])
def test_the_panoptic_fusion_doubles_step_by_step(output_stride):
    features, strides = levels(output_stride), level_strides(output_stride)
    inputs = inputs_for(features)
    model = keras.Model(inputs, panoptic_fusion(inputs, strides, "P2", filters=8))
    found = to_numpy(model(features))
    assert found.shape == (2, 16, 24, 8)
    # Kirillov et al., figure 3: three, two and one doublings, and a convolution at 1/4 scale
    steps = {"P2": 0, "P3": 1, "P4": 2, "P5": 3} if output_stride == 32 else {}
    steps = steps or {"P2": 0, "P3": 1, "P4": 1, "P5": 1}
    names = [f"{level}_step{n}" for level, count in steps.items() for n in range(max(count, 1))]
    convolutions = [x.name for x in model.layers if isinstance(x, keras.layers.Conv2D)]
    assert sorted(convolutions) == sorted(f"{name}_conv" for name in names)
    expected = 0
    for level, count in steps.items():
        x = features[level]
        for n in range(max(count, 1)):
            for part in ("conv", "norm", "relu"):
                x = model.get_layer(f"{level}_step{n}_{part}")(x)
            x = Upsample(2)(x) if count else x
        expected = expected + to_numpy(x)
    np.testing.assert_allclose(found, expected, atol=1e-4)


# --- the composed decoder ------------------------------------------------------------------------

PYRAMID = functools.partial(fpn, filters=6)
SMALL = {"filters": 8, "low_level_filters": 3}
# The options of each decoder, and the stride of what it makes.
DECODERS = {
    "deeplabv3plus": (SMALL | {"fusion": "deeplab_v3_plus"}, 4),
    "deeplabv3plus_p1": (SMALL | {"low_level": "P1"}, 2),
    "deeplabv3plus_on_a_pyramid": (SMALL | {"pyramid": PYRAMID, "level": "P4"}, 4),
    "pyramid_fusion": (
        SMALL
        | {"fusion": "pyramid_fusion", "level": "P3"}
        | {"pyramid": functools.partial(fpn, filters=6, max_level=6)},
        8,
    ),
    "panoptic_fpn_fusion": (
        SMALL | {"fusion": "panoptic_fpn_fusion", "pyramid": PYRAMID, "level": "P2"},
        4,
    ),
    "none": (SMALL | {"fusion": None}, 32),
    "no_convolutions": ({"fusion": None, "num_convs": 0, "level": "P3"}, 8),
    "jpu": (SMALL | {"fusion": None, "pyramid": functools.partial(jpu, filters=4)}, 8),
}


@pytest.mark.parametrize("name", DECODERS)
def test_stride_shape_and_saving(name, tmp_path):
    options, stride = DECODERS[name]
    features = levels()
    model = fusion_decoder(inputs_for(features), **options)
    width = WIDTHS["P3"] if name == "no_convolutions" else 8
    assert model.output_shape == (None, 64 // stride, 96 // stride, width)
    for weight in model.weights:  # so that a weight which is not saved shows
        weight.assign(weight + 0.1)
    features = levels_for(model, features)
    found = to_numpy(model(features))
    assert found.shape == (2, 64 // stride, 96 // stride, width)
    model.save(tmp_path / "model.keras")
    copy = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(to_numpy(copy(features)), found)
    assert copy.count_params() == model.count_params()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"fusion": "sum"}, "fusion is 'sum', expected one of 'deeplab_v3_plus'"),
        ({"level": "P6"}, "level is 'P6', expected one of P1, P2, P3, P4, P5"),
        ({"low_level": "P0"}, "level is 'P0'"),
        ({"level": "P2", "low_level": "P3"}, "low_level is 'P3', expected one at least as fine"),
    ],
)
def test_decoders_that_make_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        fusion_decoder(inputs_for(levels()), **options)
