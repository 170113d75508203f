"""Windows against the whole picture, on networks that see no farther than the margin."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from seglib.inference import predict_windows
from seglib.inference.sliding_window import plan_axis
from seglib.models import small_backbone, unet
from seglib.models.layers import Upsample
from seglib.models.segmentation_model import CropTo, PadToMultiple

# Sizes that are no multiple of anything, smaller than a window in one or both directions, and even.
SIZES = [(37, 53), (70, 41), (5, 90), (9, 11), (1, 1), (16, 16), (64, 64)]


def picture(size, seed=0, channels=3):
    return np.random.default_rng(seed).integers(0, 256, (*size, channels), dtype="uint8")


def whole(model, image):
    """The probabilities for the whole picture at once, in NumPy."""
    logits = model.predict(image[None].astype("float32"), verbose=0)[0]
    if logits.shape[-1] == 1:
        logits = np.concatenate([0 * logits, logits], axis=-1)
    return softmax(logits, axis=-1)


def plain_network(channels=3, shape=(None, None, 3)):
    """Three 3 x 3 convolutions, zeros around: a pixel depends on 3 pixels to each side."""
    keras.utils.set_random_seed(0)
    image = keras.Input(shape)
    x = keras.layers.Rescaling(1 / 127.5, -1)(image)
    for filters in (6, 6):
        x = keras.layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
    return keras.Model(image, keras.layers.Conv2D(channels, 3, padding="same")(x))


def strided_network():
    """Sees a grid of 4 pixels and pads as `SegmentationModel`; depends on under 16 pixels."""
    keras.utils.set_random_seed(0)
    image = keras.Input((None, None, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1)(PadToMultiple(4)(image))
    x = keras.layers.Conv2D(6, 4, strides=4, activation="relu")(x)
    x = keras.layers.Conv2D(3, 3, padding="same")(x)
    return keras.Model(image, CropTo()([Upsample(4)(x), image]))


@pytest.fixture(scope="module")
def network():
    return plain_network()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("overlap", "margin"), [(8, 3), (6, 3), (12, 4)])
def test_equals_the_whole_picture(network, size, overlap, margin):
    image = picture(size)
    options = {"window": 16, "overlap": overlap, "margin": margin, "multiple": 1, "batch_size": 3}
    expected = whole(network, image)
    result = predict_windows(network, image, output="probabilities", **options)
    np.testing.assert_allclose(result, expected, atol=1e-5)
    labels = predict_windows(network, image, **options)
    assert labels.dtype == np.uint8
    first, second = np.sort(expected, axis=-1)[..., -1], np.sort(expected, axis=-1)[..., -2]
    clear = first - second > 1e-4
    np.testing.assert_array_equal(labels[clear], expected.argmax(-1)[clear])


@pytest.mark.parametrize("size", [(61, 87), (40, 120), (7, 50), (33, 33)])
def test_a_network_with_strides_sees_the_same_grid(size):
    model = strided_network()
    image = picture(size)
    options = {"window": 48, "overlap": 32, "margin": 16, "multiple": 4}
    result = predict_windows(model, image, output="probabilities", **options)
    np.testing.assert_allclose(result, whole(model, image), atol=1e-5)


def test_windows_off_the_grid_would_differ():
    # The check above has teeth: the same network, windows that begin anywhere.
    model, image = strided_network(), picture((61, 87))
    result = predict_windows(
        model, image, window=46, overlap=34, margin=16, multiple=1, output="probabilities"
    )
    assert np.abs(result - whole(model, image)).max() > 1e-3


def test_no_overlap_shows_seams(network):
    # And so does this one: without context the windows' edges differ from the whole picture.
    image = picture((64, 64))
    result = predict_windows(
        network, image, window=16, overlap=0, multiple=1, output="probabilities"
    )
    difference = np.abs(result - whole(network, image)).max(axis=-1)
    assert difference[:, 15:17].max() > 1e-2
    assert difference[4:12, 4:12].max() < 1e-5


def test_a_model_built_for_one_size_pads_smaller_pictures():
    model = plain_network(shape=(16, 16, 3))
    image = picture((10, 40))
    padded = np.full((16, 40, 3), 127, "uint8")
    padded[:10] = image
    result = predict_windows(model, image, overlap=8, margin=3, multiple=1, output="probabilities")
    expected = whole(plain_network(), padded)[:10]
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_a_memmap_in_and_a_memmap_out(network, tmp_path):
    image = picture((50, 70))
    np.save(tmp_path / "picture.npy", image)
    mapped = np.load(tmp_path / "picture.npy", mmap_mode="r")
    out = np.lib.format.open_memmap(tmp_path / "out.npy", "w+", dtype="float32", shape=(50, 70, 3))
    options = {"window": 16, "overlap": 8, "margin": 3, "multiple": 1}
    result = predict_windows(network, mapped, output="probabilities", out=out, **options)
    assert result is out
    out.flush()
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), whole(network, image), atol=1e-5)


def test_one_channel_means_two_classes():
    model, image = plain_network(channels=1), picture((30, 40))
    options = {"window": 16, "overlap": 8, "margin": 3, "multiple": 1}
    result = predict_windows(model, image, output="probabilities", **options)
    np.testing.assert_allclose(result, whole(model, image), atol=1e-5)
    assert set(np.unique(predict_windows(model, image, **options))) <= {0, 1}


def test_more_classes_than_a_byte_holds():
    image = keras.Input((None, None, 1))
    labels = keras.layers.Lambda(lambda x: keras.ops.one_hot(x[..., 0], 300) * 9.0)(image)
    values = np.arange(30 * 30).reshape(30, 30, 1) % 300
    result = predict_windows(keras.Model(image, labels), values, window=16, overlap=4, multiple=1)
    assert result.dtype == np.uint16
    np.testing.assert_array_equal(result, values[..., 0])


def test_all_batches_have_one_size(network):
    seen = []

    class Spy:
        input_shape, output_shape = network.input_shape, network.output_shape

        def predict_on_batch(self, batch):
            seen.append(batch.shape)
            return network.predict_on_batch(batch)

    predict_windows(Spy(), picture((40, 90)), window=16, overlap=8, multiple=1, batch_size=4)
    assert set(seen) == {(4, 16, 16, 3)}


def test_a_unet_with_one_window_is_the_unet():
    model = unet(3, backbone=small_backbone(alpha=0.2), weights=None)
    image = picture((40, 70))
    result = predict_windows(model, image, output="probabilities")
    np.testing.assert_allclose(result, whole(model, image), atol=1e-5)


@given(
    size=st.integers(1, 400),
    window=st.integers(2, 12),
    overlap=st.integers(0, 11),
    share=st.floats(0, 0.5),
    multiple=st.sampled_from([1, 4, 8]),
)
def test_weights_sum_to_one_and_edges_do_not_count(size, window, overlap, share, multiple):
    window, overlap = window * multiple, min(overlap, window - 1) * multiple
    margin = int(share * overlap)
    axis = plan_axis(size, None, window, overlap, margin, multiple)
    total = np.zeros(axis.padded)
    for start, weights in zip(axis.starts, axis.weights, strict=True):
        assert start % multiple == 0
        total[start : start + axis.window] += weights
        if start > 0:
            assert (weights[:margin] == 0).all()
        if start + axis.window < axis.padded and margin:
            assert (weights[-margin:] == 0).all()
    np.testing.assert_allclose(total, 1, atol=1e-6)
    assert axis.padded >= size and axis.padded - size < max(multiple, 1)
    steps = np.diff(axis.starts)
    assert (steps <= window - overlap).all() and (steps > 0).all()
    # No window more than needed.
    assert len(axis.starts) == max(1, int(np.ceil((axis.padded - overlap) / (window - overlap))))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 100}, "expected multiples of 32"),
        ({"overlap": 100}, "expected multiples of 32"),
        ({"window": 64, "overlap": 64}, "an overlap smaller than the window"),
        ({"margin": 65}, "at most half the overlap"),
        ({"output": "logits"}, "expected 'labels' or 'probabilities'"),
        ({"out": np.zeros((9, 9), "uint8")}, r"expected uint8 of shape \(40, 50\)"),
        ({"out": np.zeros((40, 50), "float32"), "output": "probabilities"}, "of 3 classes"),
    ],
)
def test_arguments_that_make_no_sense(network, options, message):
    with pytest.raises(ValueError, match=message):
        predict_windows(network, picture((40, 50)), **options)


def test_a_window_that_the_model_was_not_built_for():
    with pytest.raises(ValueError, match="the model was built for 16 pixels"):
        predict_windows(plain_network(shape=(16, 16, 3)), picture((40, 50)), window=32)


@pytest.mark.parametrize("shape", [(2, 8, 8, 3), (8, 8), (0, 8, 3)])
def test_pictures_that_are_none(network, shape):
    with pytest.raises(ValueError, match=r"expected one picture \[H, W, 3\]"):
        predict_windows(network, np.zeros(shape, "uint8"))


def test_channels_that_the_model_does_not_take(network):
    with pytest.raises(ValueError, match=r"has 4 channels, expected the model's 3. .*\[..., :3\]"):
        predict_windows(network, np.zeros((64, 64, 4), "uint8"), window=32)
