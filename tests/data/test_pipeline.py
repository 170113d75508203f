"""From pictures to batches: decoding, and epochs that can be repeated."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from seglib.data import pipeline


def encode(array, kind="PNG", **options):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind, **options)
    return buffer.getvalue()


def smooth_picture(height, width):
    y, x = np.mgrid[:height, :width] / (height, width)[0]
    waves = [np.sin(5 * y + 3 * x), np.cos(4 * x - y), np.sin(6 * x)]
    return (127 + 100 * np.stack(waves, -1)).astype("uint8")


class Numbered:
    """A source of pictures whose red channel and whose labels are their number."""

    def __init__(self, count):
        self.count = count

    def read(self, size):
        images = np.zeros((self.count, *size, 3), "uint8")
        images[..., 0] += np.arange(self.count, dtype="uint8")[:, None, None]
        return images, images[..., 0]


def build(count, **kwargs):
    defaults = {"image_size": 4, "batch_size": 3, "shuffle": True, "augment": None, "seed": 0}
    return pipeline.build(Numbered(count), **defaults | kwargs)


def numbers(batches):
    """The numbers of the pictures in one pass, batch by batch."""
    found = []
    for images, masks in batches.as_numpy_iterator():
        np.testing.assert_array_equal(images[..., 0], masks)  # pairs stay together
        found.append(images[:, 0, 0, 0].tolist())
    return found


# --- pictures ---------------------------------------------------------------------------------


@pytest.mark.parametrize("source, size", [((60, 90), (50, 60)), ((240, 320), (100, 40))])
def test_a_jpeg_is_decoded_and_resized_as_pillow_does(source, size):
    # A pixel of a smaller picture is a weighted mean of all pixels that it covers.
    data = encode(smooth_picture(*source), "JPEG", quality=95)
    whole = Image.fromarray(pipeline.decode_image(data).numpy())
    small = whole.resize(size[::-1], Image.Resampling.BILINEAR)
    result = pipeline.decode_image(data, size).numpy()
    assert result.shape == (*size, 3) and result.dtype == "uint8"
    assert np.abs(result.astype(int) - np.asarray(small)).max() <= 1  # Pillow rounds each axis


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP"])
@pytest.mark.parametrize("in_graph", [False, True])
def test_other_formats_that_are_named_jpg(kind, in_graph):
    # A few pictures of the Oxford-IIIT Pets are PNG or GIF files whose name ends in .jpg.
    picture = smooth_picture(12, 18)
    data = encode(picture, kind)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    decode = tf.function(pipeline.decode_image) if in_graph else pipeline.decode_image
    np.testing.assert_array_equal(decode(data, (12, 18)), expected)
    np.testing.assert_array_equal(decode(data, None), expected)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_gray_picture_gets_three_equal_channels(kind):
    data = encode(smooth_picture(16, 16)[..., 0], kind)
    result = pipeline.decode_image(data, (8, 8)).numpy()
    assert result.shape == (8, 8, 3)
    np.testing.assert_array_equal(result[..., 0], result[..., 2])


def test_enlarging_a_small_jpeg():
    data = encode(smooth_picture(16, 16), "JPEG", quality=95)
    whole = Image.fromarray(pipeline.decode_image(data).numpy())
    large = whole.resize((48, 32), Image.Resampling.BILINEAR)
    result = pipeline.decode_image(data, (32, 48)).numpy().astype(float)
    assert np.abs(result - np.asarray(large)).max() <= 2


# --- batches and epochs -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"image_size": 0}, "image_size is 0, expected one whole number"),
        ({"image_size": -8}, "image_size is -8"),
        ({"image_size": 12.5}, "image_size is 12.5"),
        ({"image_size": (4, 4, 3)}, r"image_size is \(4, 4, 3\)"),
        ({"batch_size": 0}, "batch_size is 0, expected at least 1"),
    ],
)
def test_arguments_that_make_no_sense(kwargs, message):
    with pytest.raises(ValueError, match=message):
        build(2, **kwargs)


def test_elements_and_the_last_partial_batch():
    batches = build(7, image_size=(4, 6), shuffle=False)
    assert batches.cardinality() == 3 == len(list(batches))
    image_spec, mask_spec = batches.element_spec
    assert tuple(image_spec.shape[1:]) == (4, 6, 3) and image_spec.dtype == tf.uint8
    assert tuple(mask_spec.shape[1:]) == (4, 6) and mask_spec.dtype == tf.uint8
    assert [len(images) for images, _ in batches] == [3, 3, 1]


def test_every_epoch_shows_each_picture_once_in_an_order_of_its_own():
    batches = build(20)
    epochs = [sum(numbers(batches), []) for _ in range(4)]
    assert all(sorted(epoch) == list(range(20)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert list(range(20)) not in epochs


def test_without_shuffling_the_order_is_the_files():
    batches = build(7, shuffle=False)
    assert [numbers(batches) for _ in range(2)] == [[[0, 1, 2], [3, 4, 5], [6]]] * 2


def with_seed(images, masks, seed):
    """An augmentation that writes its seed into the pixels, modulo 251."""
    values = tf.cast(seed % 251, tf.uint8)
    return tf.stack(
        [images[..., 0], *(tf.zeros_like(images[..., 0]) + v for v in (values[0], values[1]))], -1
    ), masks


def passes(batches, count):
    return [
        [(i.tobytes(), m.tobytes()) for i, m in batches.as_numpy_iterator()] for _ in range(count)
    ]


def test_no_epoch_waits_for_the_tuner():
    # The thread that tunes the pipeline can sleep for seconds before it lets an epoch end.
    data = pipeline.epochs(lambda index, seed: index, 4, batch_size=2, shuffle=True, seed=0)
    assert data.options().autotune.enabled is False


def test_epochs_are_a_pure_function_of_seed_and_number():
    first, second = (build(20, augment=with_seed, seed=5) for _ in range(2))
    epochs = passes(first, 3)
    assert passes(second, 3) == epochs
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    # Setting the number brings any epoch back, forward or backward.
    for number in (2, 0, 1):
        first.epoch.assign(number)
        assert passes(first, 1) == [epochs[number]]
    assert passes(build(20, augment=with_seed, seed=6), 1) != epochs[:1]


def test_a_pass_that_was_stopped_counts():
    batches = build(20)
    assert int(batches.epoch) == 0
    next(iter(batches))
    numbers(batches)
    assert int(batches.epoch) == 2


def test_every_batch_of_every_epoch_is_augmented_with_another_seed():
    batches = build(9, augment=with_seed)
    seeds = [
        tuple(images[0, 0, 0, 1:]) for _ in range(4) for images, _ in batches.as_numpy_iterator()
    ]
    assert len(seeds) == 12 == len(set(seeds))
