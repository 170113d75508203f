"""The U-Nets on MobileNetV2, one against the TensorFlow tutorial's; runs on any backend."""

import keras
import numpy as np
import pytest

from seglib.models import SegmentationModel, small_backbone, tutorial_decoder, unet, unet_decoder

to_numpy = keras.ops.convert_to_numpy


def tutorial_by_hand():
    """The model of tensorflow.org/tutorials/images/segmentation, from Keras's own layers."""
    base = keras.applications.MobileNetV2(
        input_shape=(128, 128, 3), include_top=False, weights=None
    )
    names = [
        "block_1_expand_relu",  # 64x64
        "block_3_expand_relu",  # 32x32
        "block_6_expand_relu",  # 16x16
        "block_13_expand_relu",  # 8x8
        "block_16_project",  # 4x4
    ]
    down = keras.Model(base.input, [base.get_layer(name).output for name in names])
    down.trainable = False
    up = [
        keras.Sequential(
            [
                keras.layers.Conv2DTranspose(n, 3, strides=2, padding="same", use_bias=False),
                keras.layers.BatchNormalization(),
                keras.layers.ReLU(),
            ]
        )
        for n in (512, 256, 128, 64)
    ]
    last = keras.layers.Conv2DTranspose(3, 3, strides=2, padding="same")
    image = keras.Input((128, 128, 3))
    *skips, x = down(image)
    for step, skip in zip(up, reversed(skips), strict=True):
        x = keras.layers.Concatenate()([step(x), skip])
    return keras.Model(image, last(x)), base, up, last


def test_the_tutorials_configuration_is_the_tutorials_model():
    keras.utils.set_random_seed(0)
    theirs, base, up, last = tutorial_by_hand()
    # The summary that the tutorial's model prints.
    assert theirs.count_params() == 6_504_227
    assert sum(int(np.prod(v.shape)) for v in theirs.trainable_variables) == 4_660_323

    ours = unet(
        3,
        backbone="mobilenet_v2",
        decoder="tutorial",
        weights=None,
        freeze_backbone=True,
        input_shape=(128, 128, 3),
    )
    # One difference: the BatchNorm after the last projection (320 channels), which it leaves out.
    assert ours.count_params() == 6_504_227 + 4 * 320
    assert sum(int(np.prod(v.shape)) for v in ours.trainable_variables) == 4_660_323

    # With the same weights, and that BatchNorm set to do nothing, it computes the same.
    for layer in ours.backbone.layers:
        if layer.weights:
            layer.set_weights(base.get_layer(layer.name).get_weights())
    norm = ours.backbone.get_layer("block_16_project_BN")
    one, zero = np.ones(320), np.zeros(320)
    norm.set_weights([one, zero, zero, one - norm.epsilon])
    for level, step in zip(("P4", "P3", "P2", "P1"), up, strict=True):
        ours.decoder.get_layer(f"{level}_upsample").set_weights(step.layers[0].get_weights())
        ours.decoder.get_layer(f"{level}_norm").set_weights(step.layers[1].get_weights())
    ours.head.get_layer("classify").set_weights(last.get_weights())
    images = np.random.default_rng(0).integers(0, 256, (1, 128, 128, 3)).astype("float32")
    expected = theirs.predict(images / 127.5 - 1, verbose=0)
    assert expected.std() > 1e-3
    np.testing.assert_allclose(
        ours.predict(images, verbose=0), expected, rtol=1e-3, atol=1e-3 * expected.std()
    )


def test_the_light_decoder_is_the_default_and_smaller():
    light = unet(3, backbone="mobilenet_v2", weights=None, input_shape=(128, 128, 3))
    assert light.output_shape == (None, 128, 128, 3)
    assert light.count_params() < 6_504_227 / 2


@pytest.mark.parametrize("decoder", ["light", "tutorial"])
@pytest.mark.parametrize("num_classes, size", [(2, (64, 32)), (21, (50, 33))])
def test_logits_have_the_size_of_the_picture(decoder, num_classes, size):
    keras.utils.set_random_seed(0)
    model = unet(
        num_classes, backbone="small", alpha=0.25, weights=None, decoder=decoder,
        input_shape=(*size, 3),
    )  # fmt: skip
    images = np.random.default_rng(0).integers(0, 256, (1, *size, 3)).astype("uint8")
    logits = model.predict(images, verbose=0)
    assert logits.shape == (1, *size, num_classes) and logits.dtype == "float32"


def parameter_count_of_the_light_decoder(filters, skip_filters, channels):
    """Counts by hand: a 1x1 convolution and BatchNorm a skip, a 3x3 one and BatchNorm a step."""
    count, x = 0, channels[0]
    for n, s, c in zip(filters, skip_filters, channels[1:], strict=True):
        count += c * s + 4 * s
        count += 9 * (x + s) * n + 4 * n
        x = n
    return count


def test_the_light_decoder_has_the_parameters_it_describes():
    features = {f"P{n}": keras.KerasTensor((1, 64 >> n, 64 >> n, 5 * n)) for n in range(1, 6)}
    decoder = unet_decoder(features, filters=(10, 8, 6, 4), skip_filters=(7, 5, 3, 2))
    assert decoder.output_shape == (None, 32, 32, 4)
    assert decoder.count_params() == parameter_count_of_the_light_decoder(
        (10, 8, 6, 4), (7, 5, 3, 2), (25, 20, 15, 10, 5)
    )
    model = unet(3, backbone="small", weights=None)
    assert model.decoder.count_params() == parameter_count_of_the_light_decoder(
        (160, 96, 64, 32), (96, 64, 48, 24), (128, 96, 64, 32, 24)
    )


@pytest.mark.parametrize(
    "build, options", [(unet_decoder, {"skip_filters": (4, 4, 4, 4)}), (tutorial_decoder, {})]
)
def test_every_level_reaches_the_output(build, options):
    # A skip connection that is left out would leave the output as it is.
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    features = {
        f"P{n}": rng.normal(size=(1, 64 >> n, 64 >> n, 4)).astype("float32") for n in range(1, 6)
    }
    maps = {level: keras.KerasTensor(x.shape) for level, x in features.items()}
    decoder = build(maps, filters=(8, 8, 8, 8), **options)
    before = to_numpy(decoder(features))
    for level in features:
        after = to_numpy(decoder(features | {level: features[level] + 1}))
        assert np.abs(after - before).max() > 0, level


@pytest.mark.parametrize(
    "kwargs, frozen, statistics",
    [
        ({"weights": None}, False, True),
        ({"weights": None, "freeze_backbone": True}, True, True),
        ({"weights": "file"}, True, False),
        ({"weights": "file", "freeze_backbone": False}, False, False),
    ],
    ids=str,
)
def test_pretrained_backbones_are_frozen_and_random_ones_are_not(
    kwargs, frozen, statistics, weights_file
):
    if kwargs["weights"] == "file":
        kwargs = kwargs | {"weights": weights_file}
    model = unet(3, backbone="mobilenet_v2", alpha=0.35, **kwargs)
    assert model.backbone.trainable is not frozen
    assert bool(model.backbone.trainable_variables) is not frozen
    assert model.train_statistics is statistics
    assert model.decoder.trainable_variables and model.head.trainable_variables


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "random.weights.h5"
    keras.applications.MobileNetV2(
        input_shape=(32, 32, 3), alpha=0.35, include_top=False, weights=None
    ).save_weights(path)
    return path


def test_a_backbone_and_widths_of_ones_own():
    backbone, narrow = small_backbone(alpha=0.25), {"filters": (4,) * 4, "skip_filters": (2,) * 4}
    model = unet(5, backbone=backbone, weights=None, dropout=0.25, **narrow)
    assert isinstance(model, SegmentationModel) and model.backbone is backbone
    assert model.decoder.get_layer("dropout").rate == 0.25
    assert model.decoder.count_params() == parameter_count_of_the_light_decoder(
        (4,) * 4, (2,) * 4, (32, 24, 16, 8, 6)
    )


@pytest.mark.parametrize("decoder", ["light", "tutorial"])
def test_a_saved_model_comes_back_whole(decoder, tmp_path):
    keras.utils.set_random_seed(0)
    model = unet(3, backbone="small", alpha=0.25, weights=None, decoder=decoder)
    model.save(tmp_path / "model.keras")
    copy = keras.saving.load_model(tmp_path / "model.keras")
    images = np.random.default_rng(0).integers(0, 256, (1, 40, 64, 3)).astype("uint8")
    np.testing.assert_array_equal(copy.predict(images, verbose=0), model.predict(images, verbose=0))


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"decoder": "heavy"}, "decoder is 'heavy', expected 'light' or 'tutorial'"),
        ({"backbone": "vgg19"}, "backbone is 'vgg19', expected one of"),
        ({"num_classes": 1}, "num_classes is 1, expected at least 2"),
        ({"num_classes": 1, "decoder": "tutorial"}, "num_classes is 1, expected at least 2"),
    ],
    ids=str,
)
def test_arguments_that_make_no_sense(kwargs, message):
    with pytest.raises(ValueError, match=message):
        unet(**{"backbone": "small", "weights": None} | kwargs)
