"""The feature pyramid and the fusions against NumPy, by hand and in shape; runs on any backend."""

import keras
import numpy as np
import pytest

from seglib.models import FPN, JPU, FusionDecoder, LowLevelFusion, PanopticFusion, PyramidFusion
from seglib.models.dilation import level_strides

to_numpy = keras.ops.convert_to_numpy

WIDTHS = {"P1": 3, "P2": 4, "P3": 5, "P4": 6, "P5": 7}


def levels(output_stride=32, height=64, width=96):
    """Random maps as a backbone makes them."""
    rng = np.random.default_rng(0)
    return {
        level: rng.normal(size=(2, height // s, width // s, WIDTHS[level])).astype("float32")
        for level, s in level_strides(output_stride).items()
    }


def shapes(features):
    return {level: tuple(x.shape) for level, x in features.items()}


def repeat(x, factor):
    return x.repeat(factor, 1).repeat(factor, 2)


# --- FPN -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_a_pyramid_by_its_definition(output_stride):
    features = levels(output_stride)
    fpn = FPN(8, output_stride=output_stride)
    found = fpn(features)
    strides, total = level_strides(output_stride), 0
    for level, below in (("P5", None), ("P4", "P5"), ("P3", "P4"), ("P2", "P3")):
        kernel, bias = fpn.lateral[level].get_weights()
        lateral = features[level] @ kernel[0, 0] + bias
        if below:
            total = repeat(total, strides[below] // strides[level])
        total = lateral + total
        expected = to_numpy(fpn.smooth[level](total))
        np.testing.assert_allclose(to_numpy(found[level]), expected, atol=1e-4)
    assert fpn.strides == {level: strides[level] for level in ("P2", "P3", "P4", "P5")}


def test_a_pyramid_on_resnet_50_is_as_large_as_published():
    # 1x1 and 3x3 convolutions with biases; torchvision's `fpn` of Faster R-CNN has 3,344,384.
    widths = {"P1": 64, "P2": 256, "P3": 512, "P4": 1024, "P5": 2048}
    fpn = FPN(256)
    fpn.build({level: (None, None, None, width) for level, width in widths.items()})
    lateral = sum(width * 256 + 256 for level, width in widths.items() if level != "P1")
    assert fpn.count_params() == lateral + 4 * (9 * 256 * 256 + 256) == 3_344_384


@pytest.mark.parametrize("coarser", ["pool", "conv"])
@pytest.mark.parametrize("max_level", [6, 7])
def test_levels_beyond_the_backbones(coarser, max_level):
    features = levels(height=96, width=160)
    fpn = FPN(8, min_level=3, max_level=max_level, coarser=coarser)
    found = fpn(features)
    sizes = {"P3": (12, 20), "P4": (6, 10), "P5": (3, 5), "P6": (2, 3), "P7": (1, 2)}
    expected = {level: (2, *sizes[level], 8) for level in list(sizes)[: max_level - 2]}
    assert shapes(found) == expected == fpn.compute_output_shape(shapes(features))
    assert fpn.strides["P6"] == 64 and list(fpn.strides) == list(expected)
    if coarser == "pool":  # every second cell
        np.testing.assert_array_equal(found["P6"], to_numpy(found["P5"])[:, ::2, ::2])
        assert not fpn.reduce
    else:  # on the backbone's P5, and on the ReLU of P6
        np.testing.assert_allclose(
            to_numpy(found["P6"]), to_numpy(fpn.reduce["P6"](features["P5"])), atol=1e-5
        )
    if (coarser, max_level) == ("conv", 7):
        above_zero = np.maximum(to_numpy(found["P6"]), 0)
        np.testing.assert_allclose(
            to_numpy(found["P7"]), to_numpy(fpn.reduce["P7"](above_zero)), atol=1e-5
        )


def test_sizes_known_only_at_run_time():
    unknown = {level: (None, None, None, width) for level, width in WIDTHS.items()}
    for layer in (FPN(8, max_level=6), JPU(4)):
        layer.build(unknown)
        found = layer.compute_output_shape(unknown)
        assert all(shape[:3] == (None, None, None) for shape in found.values())
    assert found["P5"][3] == 16


@pytest.mark.parametrize(
    "options, message",
    [
        ({"min_level": 0}, "levels are 0 to 5"),
        ({"min_level": 4, "max_level": 3}, "levels are 4 to 3"),
        ({"max_level": 8}, "levels are 2 to 8, expected a first of 1 to 5"),
        ({"coarser": "max"}, "coarser is 'max', expected 'pool' or 'conv'"),
    ],
)
def test_pyramids_that_make_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        FPN(8, **options)


# --- fusions -------------------------------------------------------------------------------------


def test_a_low_level_beside_an_enlarged_one():
    coarse, fine = np.full((2, 3, 4, 5), 7, "float32"), levels()["P2"][:, :12, :16]
    fusion = LowLevelFusion(4, filters=6)
    found = to_numpy(fusion([coarse, fine]))
    assert (
        found.shape == (2, 12, 16, 5 + 6) == fusion.compute_output_shape([coarse.shape, fine.shape])
    )
    np.testing.assert_allclose(found[..., :5], 7, atol=1e-6)
    np.testing.assert_array_equal(found[..., 5:], to_numpy(fusion.narrow(fine)))


def test_levels_added_at_one_size_by_hand():
    # Constant maps stay what they are, whatever their size; the finer level is averaged.
    strides = {"P2": 4, "P3": 8, "P4": 16}
    features = {"P2": np.zeros((1, 8, 12, 2)), "P3": np.ones((1, 4, 6, 2))}
    features["P4"] = np.full((1, 2, 3, 2), 10.0)
    features["P2"][:, ::2, ::2] = 400  # a quarter of the cells
    found = to_numpy(PyramidFusion(strides, "P3")(features))
    np.testing.assert_allclose(found, np.full((1, 4, 6, 2), 100 + 1 + 10))


def test_levels_of_different_widths_cannot_be_added():
    with pytest.raises(ValueError, match=r"channels \(P1: 3, .*P5: 7\).*pyramid=FPN\(\)"):
        PyramidFusion(level_strides(32), "P3")(levels())


@pytest.mark.parametrize("output_stride", [8, 32])
def test_the_panoptic_fusion_doubles_step_by_step(output_stride):
    features = levels(output_stride)
    strides = level_strides(output_stride)
    fusion = PanopticFusion(strides, "P2", filters=8)
    found = to_numpy(fusion(features))
    assert found.shape == (2, 16, 24, 8) == fusion.compute_output_shape(shapes(features))
    # Kirillov et al., figure 3: three, two and one doublings, and a convolution at 1/4 scale
    steps = {"P2": 0, "P3": 1, "P4": 2, "P5": 3} if output_stride == 32 else {}
    steps = steps or {"P2": 0, "P3": 1, "P4": 1, "P5": 1}
    assert fusion.steps == steps
    assert len(fusion.blocks) == sum(max(n, 1) for n in steps.values())
    expected = 0
    for level, n in steps.items():
        x = features[level]
        for block in fusion.chain(level):
            x = to_numpy(block(x))
            x = to_numpy(fusion.enlarge(x)) if n else x
        expected = expected + x
    np.testing.assert_allclose(found, expected, atol=1e-4)


# --- the composed decoder ------------------------------------------------------------------------

DECODERS = {
    "deeplabv3plus": (lambda: FusionDecoder("deeplabv3plus", **SMALL), 4),
    "deeplabv3plus_p1": (lambda: FusionDecoder("deeplabv3plus", low_level="P1", **SMALL), 2),
    "deeplabv3plus_on_a_pyramid": (lambda: FusionDecoder(pyramid=FPN(6), level="P4", **SMALL), 4),
    "pyramid_fusion": (
        lambda: FusionDecoder("pyramid_fusion", pyramid=FPN(6, max_level=6), level="P3", **SMALL),
        8,
    ),
    "panoptic_fpn_fusion": (
        lambda: FusionDecoder("panoptic_fpn_fusion", pyramid=FPN(6), level="P2", **SMALL),
        4,
    ),
    "none": (lambda: FusionDecoder(None, **SMALL), 32),
    "none_enlarged": (lambda: FusionDecoder(None, level="P4", upsample_factor=8, **SMALL), 2),
    "no_convolutions": (lambda: FusionDecoder(None, num_convs=0, level="P3"), 8),
    "jpu": (lambda: FusionDecoder(None, pyramid=JPU(4), **SMALL), 8),
}
SMALL = {"num_filters": 8, "low_level_filters": 3}


@pytest.mark.parametrize("name", DECODERS)
def test_stride_shape_and_saving(name, tmp_path):
    build, stride = DECODERS[name]
    decoder, features = build(), levels()
    assert decoder.stride == stride
    inputs = {level: keras.Input(x.shape[1:], name=level) for level, x in features.items()}
    model = keras.Model(inputs, decoder(inputs))
    width = 8 if decoder.num_convs else WIDTHS["P3"]
    assert model.output_shape == (None, 64 // stride, 96 // stride, width)
    found = to_numpy(model(features))
    assert found.shape == (2, 64 // stride, 96 // stride, width)
    for weight in model.weights:  # so that a weight which is not saved shows
        weight.assign(weight + 0.1)
    found = to_numpy(model(features))
    model.save(tmp_path / "model.keras")
    copy = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(to_numpy(copy(features)), found)
    assert copy.count_params() == model.count_params()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"fusion": "sum"}, "fusion is 'sum', expected one of 'deeplabv3plus'"),
        ({"level": "P6"}, "level is 'P6', expected one of P1, P2, P3, P4, P5"),
        ({"low_level": "P0"}, "level is 'P0'"),
        ({"level": "P2", "low_level": "P3"}, "low_level is 'P3', expected one at least as fine"),
        ({"upsample_factor": 3}, "upsample_factor is 3, expected a divisor of 4"),
    ],
)
def test_decoders_that_make_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        FusionDecoder(**options)
