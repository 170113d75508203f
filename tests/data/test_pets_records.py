"""The pets' records: trimaps become label maps, broken records are named."""

import hashlib
import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from seglib.data import pets, pipeline


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


def load(records, size=4, advice="", **kwargs):
    options = {"batch_size": 3, "shuffle": True, "augment": None, "seed": 0} | kwargs
    return pipeline.build(pets.Source(records, advice), image_size=size, **options)


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
    result = pets.decode_mask(encode(trimap), size).numpy()
    assert result.dtype == "uint8"
    np.testing.assert_array_equal(result, trimap[np.ix_(rows, columns)] - 1)


def test_a_mask_at_its_own_size():
    trimap = random_trimap(9, 14)
    np.testing.assert_array_equal(pets.decode_mask(encode(trimap), None), trimap - 1)


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
        load(records, 8, advice="Copy it anew.")
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
        load(records)


def test_an_empty_split():
    with pytest.raises(ValueError, match="holds no pictures"):
        load(dataset([GOOD]).take(0))


def test_pairs_stay_together():
    pairs = [(smooth_picture(6, 6) // (i + 1), random_trimap(6, 6, seed=i)) for i in range(8)]
    records = dataset([record(encode(p), encode(m)) for p, m in pairs])
    images, masks = (
        np.concatenate(part) for part in zip(*load(records, 6).as_numpy_iterator(), strict=True)
    )
    found = set()
    for image, mask in zip(images, masks, strict=True):
        (index,) = (i for i, (p, _) in enumerate(pairs) if np.array_equal(p, image))
        np.testing.assert_array_equal(mask, pairs[index][1] - 1)
        found.add(index)
    assert found == set(range(8))


# --- examples ---------------------------------------------------------------------------------


def test_examples_come_at_their_own_size():
    picture, trimap = smooth_picture(10, 14), random_trimap(10, 14)
    records = dataset([record(encode(picture), encode(trimap), f"pet_{i}") for i in range(3)])
    source = pets.Source(records)
    found = [pets.as_example(*parts) for parts in source.decoded(limit=2)]
    assert [e["file_name"] for e in found] == ["pet_0", "pet_1"]
    assert len(list(source.decoded())) == 3
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
    assert pets.fingerprint(dataset(one)) == expected
    assert pets.fingerprint(dataset(one[:1]), dataset(one[1:])) == expected
    assert pets.fingerprint(dataset(one[::-1])) != expected
    assert pets.fingerprint(dataset([one[0] | {"segmentation_mask": b"mast"}, one[1]])) != expected
