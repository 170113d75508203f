"""From encoded records to batches: decoding, broken records, and epochs that can be repeated."""

import hashlib
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


def random_trimap(height, width, seed=0):
    """A trimap as the files store it: 1, 2 and 3."""
    return np.random.default_rng(seed).integers(1, 4, (height, width)).astype("uint8")


def record(image, mask, name="pet"):
    return {
        "image": image,
        "segmentation_mask": mask,
        "file_name": name,
        "label": 4,
        "species": 1,
        "head_bbox": np.array([0.1, 0.2, 0.3, 0.4], "float32"),
    }


def dataset(records):
    columns = {key: [r[key] for r in records] for key in records[0]}
    return tf.data.Dataset.from_tensor_slices(columns)


def numbered(count):
    """Records of 4 x 4 pixels whose red channel is the number of the picture."""
    picture = np.zeros((4, 4, 3), "uint8")
    trimap = encode(random_trimap(4, 4))
    return dataset([record(encode(picture + np.uint8([i, 0, 0])), trimap) for i in range(count)])


def build(records, **kwargs):
    defaults = {"image_size": 4, "batch_size": 3, "shuffle": True, "augment": None, "seed": 0}
    return pipeline.build(records, **defaults | kwargs)


def numbers(batches):
    """The numbers of the pictures in one pass, batch by batch."""
    return [images[:, 0, 0, 0].tolist() for images, _ in batches.as_numpy_iterator()]


# --- pictures ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source, size",
    # ratios of 1 to 1.5, 2.5, 4.4, 8, 20, and two that differ in height and width
    [
        ((60, 90), (50, 60)),
        ((160, 160), (64, 64)),
        ((280, 300), (64, 64)),
        ((256, 256), (32, 32)),
        ((640, 640), (32, 32)),
        ((240, 320), (100, 40)),
        ((96, 300), (90, 32)),
    ],
)
def test_a_jpeg_decoded_at_reduced_scale_looks_like_one_decoded_in_full(source, size):
    picture = smooth_picture(*source)
    data = encode(picture, "JPEG", quality=95)
    full = Image.open(io.BytesIO(data)).resize(size[::-1], Image.Resampling.BOX)
    result = pipeline.decode_image(data, size).numpy()
    assert result.shape == (*size, 3) and result.dtype == "uint8"
    difference = np.abs(result.astype(float) - np.asarray(full))
    assert difference.mean() < 2 and difference.max() < 12


def test_detail_that_the_result_cannot_show_is_averaged_and_not_sampled():
    # White stripes of 2 in 8 pixels; each pixel of the result covers 8 and is a quarter white.
    # Bilinear resizing of the full picture would look at the two in the middle, which are black.
    picture = np.zeros((128, 128, 3), "uint8")
    picture[:, np.arange(128) % 8 < 2] = 255
    result = pipeline.decode_image(encode(picture, "JPEG", quality=100), (16, 16)).numpy()
    np.testing.assert_allclose(result, 255 / 4, atol=4)


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
    large = Image.open(io.BytesIO(data)).resize((48, 32), Image.Resampling.BILINEAR)
    result = pipeline.decode_image(data, (32, 48)).numpy().astype(float)
    assert np.abs(result - np.asarray(large)).max() <= 2


# --- masks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [(16, 16), (37, 53), (90, 61), (5, 200)])
@pytest.mark.parametrize("size", [(16, 16), (32, 24), (7, 64)])
def test_masks_are_resized_to_the_nearest_pixel(source, size):
    trimap = random_trimap(*source)
    # The center of output pixel i lies at (i + 1/2) * source / size in the input.
    rows, columns = (
        np.floor((np.arange(n) + 0.5) * m / n).astype(int)
        for n, m in zip(size, source, strict=True)
    )
    result = pipeline.decode_mask(encode(trimap), size).numpy()
    assert result.dtype == "uint8"
    np.testing.assert_array_equal(result, trimap[np.ix_(rows, columns)] - 1)


def test_a_mask_at_its_own_size():
    trimap = random_trimap(9, 14)
    np.testing.assert_array_equal(pipeline.decode_mask(encode(trimap), None), trimap - 1)


# --- broken records ---------------------------------------------------------------------------

GOOD = record(encode(smooth_picture(16, 16), "JPEG"), encode(random_trimap(16, 16)), "good_1")
JPEG, PNG = GOOD["image"], GOOD["segmentation_mask"]


@pytest.mark.parametrize(
    "image, mask, message",
    [
        (JPEG[:200], PNG, "cannot be decoded"),
        (JPEG[:-150], PNG, "cannot be decoded"),
        (b"no picture", PNG, "cannot be decoded"),
        (b"", PNG, "cannot be decoded"),
        (JPEG, PNG[:40], "cannot be decoded"),
        (JPEG, encode(random_trimap(16, 16) - 1), "label below 1"),
        (JPEG, encode(random_trimap(16, 16) + 1), "label above 3"),
        (JPEG, encode(np.full((16, 16), 255, "uint8")), "label above 3"),
        (JPEG, encode(random_trimap(20, 16)), "Picture and mask differ in size"),
        (JPEG, encode(random_trimap(16, 8)), "Picture and mask differ in size"),
    ],
    ids=[
        "jpeg-header-only", "jpeg-cut", "no-picture", "empty", "png-cut",
        "label-0", "label-4", "label-255", "mask-larger", "mask-narrower",
    ],
)  # fmt: skip
def test_a_broken_record_is_named_with_its_fault_and_the_remedy(image, mask, message):
    records = dataset([GOOD, GOOD, record(image, mask, "broken_7"), GOOD])
    with pytest.raises(pipeline.CorruptDataError) as raised:
        build(records, image_size=8, advice="Copy it anew.")
    text = str(raised.value)
    assert text.startswith("Record 2 (broken_7) cannot be decoded: ") and message in text
    assert text.endswith(". Copy it anew.") and "\n" not in text


def test_a_truncated_file_names_the_record_that_cannot_be_read(tmp_path):
    path = str(tmp_path / "pets.tfrecord")
    with tf.io.TFRecordWriter(path) as writer:
        for _ in range(3):
            feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[JPEG]))
            features = tf.train.Features(feature={"image": feature})
            writer.write(tf.train.Example(features=features).SerializeToString())
    whole = (tmp_path / "pets.tfrecord").read_bytes()
    (tmp_path / "pets.tfrecord").write_bytes(whole[:-20])
    spec = {"image": tf.io.FixedLenFeature([], tf.string)}
    records = tf.data.TFRecordDataset(path).map(
        lambda data: GOOD | tf.io.parse_single_example(data, spec)
    )
    with pytest.raises(pipeline.CorruptDataError, match=r"^Record 2 cannot be read: .*truncated"):
        build(records)


def test_an_empty_split():
    with pytest.raises(ValueError, match="holds no pictures"):
        build(numbered(1).take(0))


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
        build(numbered(2), **kwargs)


# --- batches and epochs -----------------------------------------------------------------------


def test_elements_and_the_last_partial_batch():
    batches = build(numbered(7), image_size=(4, 6), shuffle=False)
    assert batches.cardinality() == 3 == len(list(batches))
    image_spec, mask_spec = batches.element_spec
    assert tuple(image_spec.shape[1:]) == (4, 6, 3) and image_spec.dtype == tf.uint8
    assert tuple(mask_spec.shape[1:]) == (4, 6) and mask_spec.dtype == tf.uint8
    assert [len(images) for images, _ in batches] == [3, 3, 1]


def test_pairs_stay_together():
    pairs = [(smooth_picture(6, 6) // (i + 1), random_trimap(6, 6, seed=i)) for i in range(8)]
    records = dataset([record(encode(p), encode(m)) for p, m in pairs])
    images, masks = (
        np.concatenate(part)
        for part in zip(*build(records, image_size=6).as_numpy_iterator(), strict=True)
    )
    found = set()
    for image, mask in zip(images, masks, strict=True):
        (index,) = (i for i, (p, _) in enumerate(pairs) if np.array_equal(p, image))
        np.testing.assert_array_equal(mask, pairs[index][1] - 1)
        found.add(index)
    assert found == set(range(8))


def test_every_epoch_shows_each_picture_once_in_an_order_of_its_own():
    batches = build(numbered(20))
    epochs = [sum(numbers(batches), []) for _ in range(4)]
    assert all(sorted(epoch) == list(range(20)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert list(range(20)) not in epochs


def test_without_shuffling_the_order_is_the_files():
    batches = build(numbered(7), shuffle=False)
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
    first, second = (build(numbered(20), augment=with_seed, seed=5) for _ in range(2))
    epochs = passes(first, 3)
    assert passes(second, 3) == epochs
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    # Setting the number brings any epoch back, forward or backward.
    for number in (2, 0, 1):
        first.epoch.assign(number)
        assert passes(first, 1) == [epochs[number]]
    assert passes(build(numbered(20), augment=with_seed, seed=6), 1) != epochs[:1]


def test_a_pass_that_was_stopped_counts():
    batches = build(numbered(20))
    assert int(batches.epoch) == 0
    next(iter(batches))
    numbers(batches)
    assert int(batches.epoch) == 2


def test_every_batch_of_every_epoch_is_augmented_with_another_seed():
    batches = build(numbered(9), augment=with_seed)
    seeds = [
        tuple(images[0, 0, 0, 1:]) for _ in range(4) for images, _ in batches.as_numpy_iterator()
    ]
    assert len(seeds) == 12 == len(set(seeds))


# --- examples ---------------------------------------------------------------------------------


def test_examples_come_at_their_own_size():
    picture, trimap = smooth_picture(10, 14), random_trimap(10, 14)
    records = dataset([record(encode(picture), encode(trimap), f"pet_{i}") for i in range(3)])
    found = list(pipeline.examples(records, limit=2))
    assert [e["file_name"] for e in found] == ["pet_0", "pet_1"]
    assert len(list(pipeline.examples(records))) == 3
    example = found[0]
    np.testing.assert_array_equal(example["image"], picture)
    np.testing.assert_array_equal(example["mask"], trimap - 1)
    assert (example["label"], example["species"]) == (4, 1)
    np.testing.assert_allclose(example["head_bbox"], [0.1, 0.2, 0.3, 0.4])


def test_the_fingerprint_is_a_hash_of_every_byte_in_order():
    one = [record(b"image", b"mask", "a"), record(b"other", b"mask", "b")]
    data = b"".join(
        len(r[k]).to_bytes(8, "little") + (r[k].encode() if k == "file_name" else r[k])
        for r in one
        for k in ("file_name", "image", "segmentation_mask")
    )
    expected = hashlib.sha256(data).hexdigest()[:16]
    assert pipeline.fingerprint(dataset(one)) == expected
    assert pipeline.fingerprint(dataset(one[:1]), dataset(one[1:])) == expected
    assert pipeline.fingerprint(dataset(one[::-1])) != expected
    assert (
        pipeline.fingerprint(dataset([one[0] | {"segmentation_mask": b"mast"}, one[1]])) != expected
    )
