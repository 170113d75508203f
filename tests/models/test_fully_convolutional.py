"""FCN-32s, 16s and 8s against the authors' own nets, NumPy and properties; runs on any backend."""

import keras
import numpy as np
import pytest

from seglib.losses import CrossEntropy
from seglib.metrics import MeanIoU
from seglib.models import (
    SegmentationModel,
    convert_classifier,
    fcn,
    fcn8,
    fcn16,
    fcn32,
    fcn_decoder,
    levels_for,
    small_backbone,
    stride_of,
    unet,
    warm_start,
)
from seglib.models.fully_convolutional import bilinear_kernel, upsample
from seglib.models.layers import Upsample

to_numpy = keras.ops.convert_to_numpy

TINY = {"backbone": "small", "weights": None, "alpha": 0.25, "filters": 8, "kernel_size": 3}


def pixels(height=64, width=96, batch=2, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (batch, height, width, 3)).astype("uint8")


def randomize(model, seed=0):
    """Gives every score layer random weights: they start at zero, where nothing can be seen."""
    rng = np.random.default_rng(seed)
    for layer in score_layers(model):
        layer.set_weights([rng.normal(size=w.shape) for w in layer.get_weights()])
    return model


def score_layers(model):
    """The layers that score P5, P4 and P3, as many as there are."""
    layers = {layer.name: layer for layer in model.decoder.layers}
    return [layers[name] for name in ("score", "score_P4", "score_P3") if name in layers]


def score_map(model, images):
    """The scores before the last upsampling."""
    levels = model.backbone(images.astype("float32"))
    return to_numpy(model.decoder(levels_for(model.decoder, levels)))


def part_of(model, name):
    """The decoder up to one of its layers."""
    return keras.Model(model.decoder.input, model.decoder.get_layer(name).output)


def upsampling_layers(model):
    parts = (*model.decoder.layers, *model.head.layers)
    names = ("upsample_P4", "upsample_P3", "upsample")
    return [layer for layer in parts if layer.name in names]


# --- the published nets -----------------------------------------------------------------------


def convolution(size, channels_in, channels_out, *, bias=True):
    return size * size * channels_in * channels_out + bias * channels_out


# voc-fcn8s/net.py in github.com/shelhamer/fcn.berkeleyvision.org, layer by layer; 21 classes.
PUBLISHED = {
    "fc6": convolution(7, 512, 4096),  # 102.8 million
    "fc7": convolution(1, 4096, 4096),
    "score": convolution(1, 4096, 21),
    "score_P4": convolution(1, 512, 21),
    "score_P3": convolution(1, 256, 21),
}
VGG16 = 14_714_688
UPSCORE = 2 * convolution(4, 21, 21, bias=False) + convolution(16, 21, 21, bias=False)


@pytest.fixture(scope="module")
def published():
    """The published FCN-8s. Zeros, for 134 million random numbers take ten seconds."""
    with pytest.MonkeyPatch.context() as patch:
        zeros = keras.initializers.Zeros.__call__
        patch.setattr(keras.initializers.HeNormal, "__call__", zeros)
        return fcn8(21, backbone="vgg16", weights=None, filters=4096, upsampling="learned")


def test_the_published_parameters_layer_by_layer(published):
    found = {x.name: x.count_params() for x in published.decoder.layers if x.name in PUBLISHED}
    assert found == PUBLISHED
    assert published.backbone.count_params() == VGG16
    # VGG16 without its last dense layer: the 134 million of Long et al., table 1
    assert VGG16 + PUBLISHED["fc6"] + PUBLISHED["fc7"] == 134_260_544


def test_the_published_parameters_in_all(published):
    upscores = [layer.count_params() for layer in upsampling_layers(published)]
    assert len(upscores) == 3
    assert sum(upscores) == UPSCORE == 127_008
    # What other rebuilt FCN-8s count: with these kernels, and without
    assert published.count_params() == 134_489_759
    assert published.count_params() - sum(upscores) == 134_362_751


def test_the_default_head_costs_under_a_tenth(published):
    narrow = fcn_decoder(published.backbone.output, 21)
    assert narrow.count_params() < published.decoder.count_params() / 10


def test_fixed_upsampling_has_no_parameters():
    model = fcn8(**TINY)
    assert [layer.count_params() for layer in upsampling_layers(model)] == [0, 0, 0]


# --- the classifier as convolutions -----------------------------------------------------------


@pytest.fixture(scope="module")
def classifier():
    """VGG16's dense layers with random weights, 64 wide."""
    keras.utils.set_random_seed(1)
    features = keras.Input((7, 7, 512))
    x = keras.layers.Flatten()(features)
    x = keras.layers.Dense(64, activation="relu", bias_initializer="normal", name="fc1")(x)
    x = keras.layers.Dense(64, activation="relu", bias_initializer="normal", name="fc2")(x)
    return keras.Model(features, x)


def test_the_converted_classifier_says_the_same_of_a_picture_of_224_pixels(classifier):
    keras.utils.set_random_seed(0)
    model = fcn8(21, backbone="vgg16", weights=None, filters=64, input_shape=(224, 224, 3))
    convert_classifier(model, classifier)
    levels = model.backbone(pixels(224, 224, batch=1).astype("float32"))
    dense = to_numpy(classifier(levels["P5"]))
    convolve = part_of(model, "fc7")
    convolved = to_numpy(convolve(levels_for(convolve, levels)))
    assert convolved.shape == (1, 7, 7, 64)
    assert dense.std() > 0.1 * dense.mean() > 0  # the comparison means something
    # In the middle the 7x7 kernel sees just the 7x7 cells that the dense layer sees.
    np.testing.assert_allclose(convolved[:, 3, 3], dense, rtol=1e-3, atol=1e-4 * dense.max())


def test_the_converted_classifier_slides_over_a_larger_picture(classifier):
    model = fcn8(3, backbone="vgg16", weights=None, filters=64)
    convert_classifier(model, classifier)
    features = np.random.default_rng(0).normal(size=(1, 9, 10, 512)).astype("float32")
    fc6, fc7 = (model.decoder.get_layer(name) for name in ("fc6", "fc7"))
    convolved = to_numpy(fc7(fc6(features)))
    for row, column in [(3, 3), (5, 3), (4, 6)]:
        window = features[:, row - 3 : row + 4, column - 3 : column + 4]
        dense = to_numpy(classifier(window))
        np.testing.assert_allclose(convolved[:, row, column], dense, rtol=1e-3, atol=1e-3)


def test_converting_what_does_not_fit(classifier):
    model = fcn8(**TINY)
    with pytest.raises(ValueError, match=r"'fc1' has a kernel of .* with filters=64"):
        convert_classifier(model, classifier)
    with pytest.raises(ValueError, match="expected 'fc1' and 'fc2' among them"):
        convert_classifier(model, small_backbone(alpha=0.25))


# --- upsampling -------------------------------------------------------------------------------


def test_the_bilinear_kernel_by_hand():
    line = np.array([0.25, 0.75, 0.75, 0.25])
    kernel = to_numpy(bilinear_kernel((4, 4, 2, 2)))
    np.testing.assert_allclose(kernel[:, :, 0, 0], np.outer(line, line))
    np.testing.assert_array_equal(kernel[:, :, 0, 0], kernel[:, :, 1, 1])
    assert not kernel[:, :, 0, 1].any() and not kernel[:, :, 1, 0].any()
    odd = to_numpy(bilinear_kernel((5, 5, 1, 1)))[2, :, 0, 0]
    np.testing.assert_allclose(odd, np.array([1, 2, 3, 2, 1]) / 3, atol=1e-6)


def upsampling(kind, factor, shape):
    """A model that only enlarges."""
    scores = keras.Input(shape)
    return keras.Model(scores, upsample(scores, factor, kind, name="upsample"))


@pytest.mark.parametrize("known_size", [True, False])
@pytest.mark.parametrize("factor", [1, 2, 3, 8, 32])
def test_learned_upsampling_starts_as_the_fixed_one_at_the_frame_too(factor, known_size):
    x = np.random.default_rng(factor).normal(size=(2, 4, 5, 3)).astype("float32")
    learned = upsampling("learned", factor, (4, 5, 3) if known_size else (None, None, 3))
    np.testing.assert_allclose(to_numpy(learned(x)), to_numpy(Upsample(factor)(x)), atol=1e-5)


@pytest.mark.parametrize("kind", ["fixed", "learned"])
@pytest.mark.parametrize("factor", [2, 8, 16, 32])
def test_an_upsampled_ramp_stays_a_ramp(kind, factor):
    # Scores that are the coordinates of their cells' centers, in pixels of the picture
    rows, columns = np.meshgrid(*[(np.arange(n) + 0.5) * factor for n in (5, 6)], indexing="ij")
    x = np.stack([rows, columns], -1)[None].astype("float32")
    y = to_numpy(upsampling(kind, factor, (5, 6, 2))(x))[0]
    height, width = 5 * factor, 6 * factor
    away = slice(factor // 2, -(factor // 2))  # half a cell at the frame repeats the last value
    rows, columns = np.meshgrid(np.arange(height) + 0.5, np.arange(width) + 0.5, indexing="ij")
    np.testing.assert_allclose(y[away, away, 0], rows[away, away], atol=1e-3)
    np.testing.assert_allclose(y[away, away, 1], columns[away, away], atol=1e-3)
    assert y.min() == pytest.approx(factor / 2) and y.max() == pytest.approx(width - factor / 2)


@pytest.mark.parametrize("build, stride", [(fcn8, 8), (fcn16, 16), (fcn32, 32)])
@pytest.mark.parametrize("upsampling", ["fixed", "learned"])
def test_a_ramp_in_the_picture_is_a_ramp_in_the_logits(build, stride, upsampling):
    # The whole path, padding, skips and crop included: features that are linear in x and y.
    model = build(2, upsampling=upsampling, **TINY | {"backbone": coordinates()})
    fc6, fc7 = (model.decoder.get_layer(name) for name in ("fc6", "fc7"))
    for layer in (fc6, fc7, *score_layers(model)):
        layer.set_weights(center_tap(layer))
    height, width = 160, 192
    logits = model.predict(np.zeros((1, height, width, 3), "uint8"), verbose=0)[0]
    rows, columns = np.meshgrid(np.arange(height) + 0.5, np.arange(width) + 0.5, indexing="ij")
    terms = len(score_layers(model))
    away = slice(32, -32)
    np.testing.assert_allclose(logits[away, away, 0], terms * rows[away, away], rtol=1e-3)
    np.testing.assert_allclose(logits[away, away, 1], terms * columns[away, away], rtol=1e-3)


def center_tap(layer):
    """Weights that hand the first channels through."""
    kernel = np.zeros(layer.kernel.shape)
    middle = kernel.shape[0] // 2
    for channel in range(min(kernel.shape[2:])):
        kernel[middle, middle, channel, channel] = 1
    return [kernel, np.zeros(kernel.shape[-1])]


class Coordinates(keras.layers.Layer):
    """A feature map that holds where the centers of its cells lie in the picture."""

    def __init__(self, stride, **kwargs):
        super().__init__(**kwargs)
        self.stride = stride

    def call(self, image):
        first = image[:, :: self.stride, :: self.stride, :1] * 0 + self.stride
        rows = keras.ops.cumsum(first, axis=1) - self.stride / 2
        columns = keras.ops.cumsum(first, axis=2) - self.stride / 2
        return keras.ops.concatenate([rows, columns], axis=-1)

    def compute_output_shape(self, shape):
        return (shape[0], *(n and n // self.stride for n in shape[1:3]), 2)


def coordinates():
    image = keras.Input((None, None, 3))
    return keras.Model(image, {f"P{n}": Coordinates(2**n)(image) for n in range(1, 6)})


# --- input and output -------------------------------------------------------------------------


@pytest.mark.parametrize("build", [fcn8, fcn16, fcn32])
@pytest.mark.parametrize("size", [(64, 96), (97, 131), (33, 1)])
def test_logits_have_the_size_of_the_picture(build, size):
    model = randomize(build(21, **TINY))
    logits = to_numpy(model(pixels(*size, batch=1)))
    assert logits.shape == (1, *size, 21) and logits.dtype == "float32"
    assert np.isfinite(logits).all() and logits.std() > 0


@pytest.mark.parametrize("name", ["vgg16", "mobilenet_v2", "small"])
@pytest.mark.parametrize("build, stride", [(fcn8, 8), (fcn16, 16), (fcn32, 32)])
def test_any_backbone_works(name, build, stride):
    alpha = 1.0 if name == "vgg16" else 0.35
    model = build(3, backbone=name, weights=None, alpha=alpha, filters=8, kernel_size=3)
    assert isinstance(model, SegmentationModel) and model.name == f"fcn{stride}"
    assert tuple(model(keras.KerasTensor((2, 97, 131, 3))).shape) == (2, 97, 131, 3)
    assert stride_of(model.backbone, model.decoder) == stride


def test_a_backbone_of_ones_own():
    backbone = small_backbone(alpha=0.25)
    assert fcn8(3, backbone=backbone, weights=None).backbone is backbone


@pytest.mark.parametrize("build, levels", [(fcn8, "543"), (fcn16, "54"), (fcn32, "5")])
def test_which_levels_reach_the_scores(build, levels):
    decoder = randomize(build(3, **TINY)).decoder
    rng = np.random.default_rng(0)
    channels = {3: 16, 4: 24, 5: 32}  # of the small backbone, a quarter as wide
    features = {
        f"P{n}": rng.normal(size=(1, 64 >> n, 64 >> n, c)).astype("float32")
        for n, c in channels.items()
    }
    before = to_numpy(decoder(features))
    for n in channels:
        after = to_numpy(decoder(features | {f"P{n}": features[f"P{n}"] + 1}))
        assert (np.abs(after - before).max() > 0) == (str(n) in levels), n


def test_scores_may_be_negative():
    # A ReLU on the scores, a common slip, would leave none below zero.
    logits = to_numpy(randomize(fcn8(**TINY))(pixels()))
    assert (logits < 0).mean() > 0.2 < (logits > 0).mean()


def test_the_first_loss_is_that_of_a_guess():
    model = fcn8(5, **TINY)
    images = pixels()
    loss = CrossEntropy()(np.zeros((2, 64, 96), "uint8"), model(images))
    assert float(loss) == pytest.approx(np.log(5), rel=1e-5)


def test_logits_are_float32_under_mixed_precision():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = randomize(fcn8(3, upsampling="learned", **TINY))
    finally:
        keras.config.set_dtype_policy(before)
    assert model.decoder.get_layer("fc6").compute_dtype == "bfloat16"
    logits = to_numpy(model(pixels()))
    assert logits.dtype == "float32"
    rounded = to_numpy(keras.ops.cast(keras.ops.cast(logits, "bfloat16"), "float32"))
    assert (rounded != logits).mean() > 0.5  # never rounded to 16 bits on the way out


# --- the skips' scales ------------------------------------------------------------------------


def test_the_skips_of_a_pretrained_vgg16_are_scaled_as_the_authors_do(tmp_path):
    path = tmp_path / "vgg16.weights.h5"
    keras.applications.VGG16(include_top=False, weights=None).save_weights(path)
    options = {"backbone": "vgg16", "filters": 8, "kernel_size": 1}
    # voc-fcn8s-atonce/net.py: scale_pool4 0.01, scale_pool3 0.0001
    assert skip_scales(fcn8(3, weights=path, **options)) == (0.01, 0.0001)
    assert skip_scales(fcn8(3, weights=path, skip_scales=(1, 1), **options)) == (1, 1)
    assert skip_scales(fcn8(3, weights=None, **options)) == (1, 1)


def skip_scales(model):
    return tuple(model.decoder.get_layer(f"scale_{level}").scale for level in ("P4", "P3"))


def test_a_scale_multiplies_what_the_skip_sees():
    plain = randomize(fcn8(3, **TINY))
    scaled = fcn8(3, skip_scales=(0.5, 0.25), **TINY | {"backbone": plain.backbone})
    scaled.decoder.set_weights(plain.decoder.get_weights())
    for skip, factor in zip(score_layers(scaled)[1:], (2, 4), strict=True):
        kernel, bias = skip.get_weights()
        skip.set_weights([factor * kernel, bias])
    images = pixels()
    np.testing.assert_allclose(
        score_map(scaled, images), score_map(plain, images), rtol=1e-4, atol=1e-4
    )


# --- from coarse to fine ----------------------------------------------------------------------


@pytest.mark.parametrize("upsampling", ["fixed", "learned"])
@pytest.mark.parametrize("fine, coarse", [(fcn16, fcn32), (fcn8, fcn16), (fcn8, fcn32)])
def test_a_finer_model_starts_with_the_coarser_ones_scores(fine, coarse, upsampling):
    keras.utils.set_random_seed(0)
    coarser = randomize(coarse(upsampling=upsampling, **TINY))
    finer = randomize(fine(upsampling=upsampling, **TINY), seed=1)
    warm_start(finer, coarser)
    images = pixels(64, 96)
    expected = score_map(coarser, images)
    assert expected.std() > 0.1
    while expected.shape[1] < score_map(finer, images).shape[1]:
        expected = to_numpy(Upsample(2)(expected))
    np.testing.assert_allclose(score_map(finer, images), expected, atol=1e-4)


def test_a_finer_model_starts_with_the_coarser_ones_prediction():
    keras.utils.set_random_seed(0)
    thirtytwo = randomize(fcn32(**TINY))
    sixteen = fcn16(**TINY)
    warm_start(sixteen, thirtytwo)
    images = pixels(192, 256)
    scores = score_map(thirtytwo, images)
    coarse, fine = to_numpy(thirtytwo(images)), to_numpy(sixteen(images))
    # Equal where a pixel lies in the middle half between two centers, in both directions. The
    # centers of the cells are at 16, 48, …: that half is from 24 to 40, 56 to 72, …
    rows, columns = (np.flatnonzero(abs((np.arange(n) + 0.5) % 32 - 16) > 8) for n in (192, 256))
    assert len(rows) == 96 and len(columns) == 128
    np.testing.assert_allclose(
        fine[:, rows][:, :, columns], coarse[:, rows][:, :, columns], atol=1e-4
    )
    # Elsewhere off by an eighth of the scores' second differences, once a direction
    padded = np.pad(scores, [(0, 0), (1, 1), (1, 1), (0, 0)], mode="edge")
    bend = max(np.abs(np.diff(padded, 2, axis=axis)).max() for axis in (1, 2))
    assert 0 < np.abs(fine - coarse).max() <= 2 * bend / 8 + 1e-4
    assert (fine.argmax(-1) == coarse.argmax(-1)).mean() > 0.95


@pytest.mark.parametrize(
    "options, message",
    [
        ({"stride": 32}, "expected some, not all, of those of the finer one"),
        ({"filters": 4}, r"'fc\d' has weights of shapes .* in the coarser model and"),
        ({"num_classes": 4}, "'score' has weights of shapes .* in the coarser model and"),
        ({"upsampling": "learned"}, "has the layers .*upsample_P4.* expected some"),
    ],
    ids=str,
)
def test_starting_from_a_model_that_does_not_fit(options, message):
    finer = fcn(stride=32 if "stride" in options else 8, **TINY)
    before = finer.get_weights()
    with pytest.raises(ValueError, match=message):
        warm_start(finer, fcn(**{"stride": 32 if "stride" in options else 16} | TINY | options))
    for weight, old in zip(finer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)


def test_starting_from_another_kind_of_model():
    with pytest.raises(ValueError, match="Build both with fcn32, fcn16 or fcn8"):
        warm_start(fcn8(**TINY), unet(backbone="small", weights=None))


# --- training and saving ----------------------------------------------------------------------


def test_it_learns_an_easy_task():
    # Blocks of one color, twice as large as the cells of the finest scores
    rng = np.random.default_rng(0)
    keras.utils.set_random_seed(0)
    blocks = rng.integers(0, 3, (8, 4, 4)).repeat(16, 1).repeat(16, 2)
    images = np.where(np.eye(3, dtype=bool)[blocks], 220, 40).astype("uint8")
    options = {"upsampling": "learned", "dropout": 0.1, "input_shape": (64, 64, 3)}
    model = fcn8(**options, **TINY)
    before = [to_numpy(v).copy() for v in model.trainable_variables]
    # TensorFlow takes longer to trace a graph than these few steps take; JAX is the reverse.
    eager = keras.backend.backend() == "tensorflow"
    optimizer = keras.optimizers.Adam(0.02)
    model.compile(optimizer, CrossEntropy(), metrics=[MeanIoU(3)], run_eagerly=eager)
    history = model.fit(images, blocks, batch_size=4, epochs=8, verbose=0).history
    assert history["mean_iou"][-1] > 0.6 > history["mean_iou"][0]
    # Every gradient is finite and reaches its layer.
    for old, variable in zip(before, model.trainable_variables, strict=True):
        new = to_numpy(variable)
        assert np.isfinite(new).all() and not np.array_equal(old, new), variable.path


@pytest.mark.parametrize("upsampling", ["fixed", "learned"])
def test_a_saved_model_comes_back_whole(upsampling, tmp_path):
    model = randomize(fcn8(5, upsampling=upsampling, skip_scales=(0.5, 0.1), **TINY))
    model.save(tmp_path / "model.keras")
    copy = keras.saving.load_model(tmp_path / "model.keras")
    images = pixels(40, 70)
    np.testing.assert_array_equal(to_numpy(copy(images)), to_numpy(model(images)))


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"stride": 4}, "stride is 4, expected 8, 16 or 32"),
        ({"upsampling": "cubic"}, "upsampling is 'cubic', expected 'fixed' or 'learned'"),
        ({"num_classes": 1}, "num_classes is 1, expected at least 2"),
        ({"backbone": "vgg19"}, "backbone is 'vgg19', expected one of"),
    ],
    ids=str,
)
def test_arguments_that_make_no_sense(kwargs, message):
    with pytest.raises(ValueError, match=message):
        fcn(**TINY | kwargs)
