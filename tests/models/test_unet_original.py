"""The original U-Net against figure 1 of Ronneberger et al. (2015); runs on any backend."""

import keras
import numpy as np
import pytest

from seglib.models import unet_original
from seglib.models.layers import CropTo

to_numpy = keras.ops.convert_to_numpy

# Figure 1: the size of the map after each 3x3 convolution, for 572 x 572 pixels.
FIGURE_1 = {
    "down0": (570, 568),
    "down1": (282, 280),
    "down2": (138, 136),
    "down3": (66, 64),
    "bottom": (30, 28),
    "up3": (54, 52),
    "up2": (102, 100),
    "up1": (198, 196),
    "up0": (390, 388),
}
CHANNELS = {
    "down0": 64, "down1": 128, "down2": 256, "down3": 512, "bottom": 1024,
    "up3": 512, "up2": 256, "up1": 128, "up0": 64,
}  # fmt: skip


def parameters(kernel, channels_in, channels_out):
    return kernel * kernel * channels_in * channels_out + channels_out


@pytest.fixture(scope="module")
def published():
    return unet_original(2, padding="valid", input_shape=(572, 572, 1))


def test_572_pixels_become_388_labels(published):
    assert published.output_shape == (None, 388, 388, 2)


@pytest.mark.parametrize("level", FIGURE_1)
def test_sizes_and_channels_of_figure_1(published, level):
    for i, size in enumerate(FIGURE_1[level], start=1):
        output = published.get_layer(f"{level}_conv{i}").output
        assert tuple(output.shape) == (None, size, size, CHANNELS[level])


def test_the_number_of_parameters(published):
    p = parameters
    expected = (
        p(3, 1, 64) + p(3, 64, 64)
        + p(3, 64, 128) + p(3, 128, 128)
        + p(3, 128, 256) + p(3, 256, 256)
        + p(3, 256, 512) + p(3, 512, 512)
        + p(3, 512, 1024) + p(3, 1024, 1024)
        # each step up: "up-conv 2x2", then two convolutions on the concatenation
        + p(2, 1024, 512) + p(3, 1024, 512) + p(3, 512, 512)
        + p(2, 512, 256) + p(3, 512, 256) + p(3, 256, 256)
        + p(2, 256, 128) + p(3, 256, 128) + p(3, 128, 128)
        + p(2, 128, 64) + p(3, 128, 64) + p(3, 64, 64)
        + p(1, 64, 2)
    )  # fmt: skip
    assert published.count_params() == expected == 31_030_658


def test_it_has_23_convolutions_and_no_batch_norm(published):
    # "In total the network has 23 convolutional layers" (section 2).
    kinds = [type(layer) for layer in published.layers]
    assert kinds.count(keras.layers.Conv2D) + kinds.count(keras.layers.Conv2DTranspose) == 23
    assert keras.layers.BatchNormalization not in kinds


@pytest.mark.parametrize("depth, size", [(1, 32), (2, 48), (4, 32)])
def test_same_padding_keeps_the_size(depth, size):
    keras.utils.set_random_seed(0)
    model = unet_original(3, filters=4, depth=depth)
    images = np.random.default_rng(0).integers(0, 256, (2, size, 2 * size, 3))
    logits = model.predict(images.astype("uint8"), verbose=0)
    assert logits.shape == (2, size, 2 * size, 3) and logits.dtype == "float32"
    assert logits.std() > 0


def test_valid_padding_trims_at_any_depth():
    # Each of two convolutions trims 2 pixels: 44 -> 40 -> 20 -> 16 -> 32 -> 28.
    keras.utils.set_random_seed(0)
    model = unet_original(2, filters=4, depth=1, padding="valid", input_shape=(None, None, 1))
    assert model.predict(np.zeros((1, 44, 44, 1), "uint8"), verbose=0).shape == (1, 28, 28, 2)


def test_a_saved_model_comes_back_whole(tmp_path):
    model = unet_original(3, filters=4, depth=2, padding="valid", input_shape=(None, None, 3))
    model.save(tmp_path / "model.keras")
    copy = keras.saving.load_model(tmp_path / "model.keras")
    images = np.random.default_rng(0).integers(0, 256, (1, 60, 68, 3)).astype("uint8")
    np.testing.assert_array_equal(copy.predict(images, verbose=0), model.predict(images, verbose=0))


@pytest.mark.parametrize("size, target, start", [(8, 4, 2), (64, 56, 4), (9, 4, 2), (5, 5, 0)])
def test_the_crop_is_the_middle(size, target, start):
    x = np.arange(size * size).reshape(1, size, size, 1)
    cropped = to_numpy(CropTo(center=True)([x, np.zeros((1, target, target, 3))]))
    end = start + target
    np.testing.assert_array_equal(cropped, x[:, start:end, start:end])


def test_arguments_that_make_no_sense():
    with pytest.raises(ValueError, match="padding is 'reflect', expected 'same' or 'valid'"):
        unet_original(padding="reflect")
    with pytest.raises(ValueError, match="num_classes is 1, expected at least 2"):
        unet_original(1)
