"""TFRecord files of pairs: written and read again, by TensorFlow too, and damaged in every way."""

import io
import json
import struct

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from seglib.data import augment, pairs, sample, tfrecord

SIZE = (10, 14)
MASK = "image/segmentation/class/encoded"


def picture(seed=0, size=SIZE):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype("uint8")


def labels(seed=0, size=SIZE):
    return np.random.default_rng(seed).choice([0, 1, 2, 255], size).astype("uint8")


def encode(array, kind="PNG"):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind)
    return buffer.getvalue()


def write(path, count=5, **kwargs):
    numbered = ((picture(i), labels(i), f"{i}.png") for i in range(count))
    return tfrecord.write(numbered, path, **{"image_format": "png"} | kwargs)


def load(path, **kwargs):
    return tfrecord.load(path, **{"image_size": SIZE, "shuffle": False} | kwargs)


def numbers(batches):
    """Which pairs of `write` these are, each compared pixel by pixel."""
    found = []
    for images, masks in batches.as_numpy_iterator():
        for image, mask in zip(images, masks, strict=True):
            (i,) = (i for i in range(9) if np.array_equal(image, picture(i)))
            np.testing.assert_array_equal(mask, labels(i))
            found.append(i)
    return found


def frames(data):
    """The records of a file as (start, end of the length, end of the data, end)."""
    position, found = 0, []
    while position < len(data):
        (length,) = struct.unpack_from("<Q", data, position)
        found.append((position, position + 12, position + 12 + length, position + 16 + length))
        position += 16 + length
    return found


# --- writing and reading --------------------------------------------------------------------------


@pytest.mark.parametrize("shards", [1, 3])
def test_what_is_written_is_read(tmp_path, shards):
    files = write(tmp_path / "new" / "train", shards=shards)
    assert [f.name for f in files] == [
        f"train-{i:05d}-of-{shards:05d}.tfrecord" for i in range(shards)
    ]
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == sorted(
        [*(f.name for f in files), "train.index.json"]
    )
    order = {1: [0, 1, 2, 3, 4], 3: [0, 3, 1, 4, 2]}[shards]  # in turn
    assert numbers(load(tmp_path / "new" / "train")) == order
    assert numbers(load(str(tmp_path / "new" / "train"))) == order
    assert numbers(load(files)) == order
    assert numbers(load(files[0])) == order[: len(order) // shards + 1 if shards > 1 else 5]
    assert tfrecord.verify(tmp_path / "new" / "train") == (5, [])


def test_tensorflow_reads_the_fields_that_its_models_library_names(tmp_path):
    (file,) = write(tmp_path / "train", count=2)
    spec = {
        "image/encoded": tf.io.FixedLenFeature([], tf.string),
        "image/format": tf.io.FixedLenFeature([], tf.string),
        "image/filename": tf.io.FixedLenFeature([], tf.string),
        "image/height": tf.io.FixedLenFeature([], tf.int64),
        "image/width": tf.io.FixedLenFeature([], tf.int64),
        "image/segmentation/class/encoded": tf.io.FixedLenFeature([], tf.string),
        "image/segmentation/class/format": tf.io.FixedLenFeature([], tf.string),
    }
    for i, record in enumerate(tf.data.TFRecordDataset(str(file))):
        found = tf.io.parse_single_example(record, spec)
        np.testing.assert_array_equal(tf.io.decode_png(found["image/encoded"]), picture(i))
        mask = tf.io.decode_png(found["image/segmentation/class/encoded"])
        np.testing.assert_array_equal(mask[..., 0], labels(i))
        assert (int(found["image/height"]), int(found["image/width"])) == SIZE
        assert found["image/filename"] == f"{i}.png" and found["image/format"] == "png"
        assert found["image/segmentation/class/format"] == "png"


def test_files_of_other_writers(tmp_path):
    example = tf.train.Example()
    example.features.feature["image/encoded"].bytes_list.value.append(encode(picture(3)))
    example.features.feature["image/segmentation/class/encoded"].bytes_list.value.append(
        encode(labels(3))
    )
    path = tmp_path / "other.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(example.SerializeToString())
    assert numbers(load(path)) == [3]


def test_elements_are_those_of_the_pets(tmp_path):
    write(tmp_path / "train")
    path = sample.prepare(train=2, test=2, size=32, seed=1, cache_dir=tmp_path / "cache")
    pets = sample.load("train", image_size=SIZE, data_dir=path, validation_fraction=0.5)
    batches = load(tmp_path / "train", batch_size=2)
    assert batches.element_spec == pets.element_spec
    assert batches.cardinality() == 3 and batches.skipped == ()


def test_drawn_pets_through_a_file_are_the_drawn_pets(tmp_path):
    path = sample.prepare(train=4, test=2, size=32, seed=1, cache_dir=tmp_path / "cache")
    pets = list(sample.examples("trainval", data_dir=path))
    tfrecord.write(((e["image"], e["mask"], e["file_name"]) for e in pets), tmp_path / "pets",
                   image_format="png", num_classes=3)  # fmt: skip
    for ours, theirs in zip(tfrecord.examples(tmp_path / "pets"), pets, strict=True):
        for key in ("image", "mask", "file_name"):
            np.testing.assert_array_equal(ours[key], theirs[key])


def test_pictures_that_are_jpeg_already_are_kept_byte_by_byte(tmp_path):
    data = encode(picture(1), "JPEG")
    (file,) = tfrecord.write([(data, encode(labels(1)))], tmp_path / "train")
    assert data in file.read_bytes()
    (example,) = tfrecord.examples(file)
    np.testing.assert_array_equal(example["image"], tf.io.decode_jpeg(data))
    np.testing.assert_array_equal(example["mask"], labels(1))


def test_arrays_become_jpeg_unless_asked_otherwise(tmp_path):
    smooth = np.add.outer(np.arange(32), np.arange(48)).astype("uint8")[..., None].repeat(3, -1)
    tfrecord.write([(smooth, np.zeros((32, 48), int))], tmp_path / "train")
    (example,) = tfrecord.examples(tmp_path / "train")
    difference = np.abs(example["image"].astype(int) - smooth)
    assert 0 < difference.max() < 8
    assert not example["mask"].any() and example["file_name"] == ""


def test_scale_and_crop_with_ignored_padding(tmp_path):
    write(tmp_path / "train", count=8)
    change = augment.scale_and_crop((6, 8))
    batches = load(tmp_path / "train", shuffle=True, augment=change)
    epochs = [next(batches.as_numpy_iterator()) for _ in range(2)]
    for images, masks in epochs:
        assert images.shape == (8, 6, 8, 3) and masks.shape == (8, 6, 8)
        assert set(np.unique(masks)) <= {0, 1, 2, 255}
    assert not np.array_equal(epochs[0][0], epochs[1][0])


# --- writing what cannot be a pair ----------------------------------------------------------------


@pytest.mark.parametrize(
    "pair, message",
    [
        ((picture(), labels(size=(10, 13))), "picture has 14 x 10 pixels and the mask 13 x 10"),
        ((picture().astype("float32"), labels()), "picture is float32"),
        ((picture()[..., 0], labels()), r"picture is uint8 \[10, 14\]"),
        ((picture()[:0], labels()[:0]), r"picture is uint8 \[0, 14, 3\]"),
        ((picture(), labels()[..., None]), r"mask is uint8 \[10, 14, 1\]"),
        ((picture(), labels() / 255), "mask is float64"),
        ((picture(), labels().astype(int) + 1), "labels from 1 to 256"),
        ((picture(), labels().astype(int) - 1), "labels from -1 to 254"),
        ((picture(), labels() // 2), r"labels \[127\], expected 0 to 2 or 255"),
        ((b"no picture", labels()), "neither a JPEG nor a PNG"),
        ((picture(), b"no mask"), "no PNG file"),
        ((picture(), encode(picture())), "stores colors"),
        ((picture(),), "missing 1 required positional argument"),
    ],
)
def test_pairs_that_cannot_be_written(tmp_path, pair, message):
    with pytest.raises(ValueError, match=f"Pair 1 cannot be written: .*{message}"):
        tfrecord.write([(picture(), labels()), pair], tmp_path / "train", num_classes=3)
    assert list(tmp_path.iterdir()) == []  # nothing half-written


def test_a_failure_leaves_the_older_files_as_they_are(tmp_path):
    write(tmp_path / "train", shards=2)

    def pairs_that_end():
        yield picture(7), labels(7)
        raise RuntimeError("the disk is gone")

    with pytest.raises(RuntimeError, match="the disk is gone"):
        tfrecord.write(pairs_that_end(), tmp_path / "train", shards=2)
    assert sorted(numbers(load(tmp_path / "train"))) == [0, 1, 2, 3, 4]
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"shards": 0}, "shards is 0"),
        ({"shards": 6}, "5 pairs for shards=6"),
        ({"image_format": "gif"}, "image_format is 'gif'"),
        ({"count": 0}, "0 pairs for shards=1"),
    ],
)
def test_arguments_that_make_no_sense(tmp_path, kwargs, message):
    with pytest.raises(ValueError, match=message):
        write(tmp_path / "train", **kwargs)
    assert list(tmp_path.iterdir()) == []


# --- damaged files --------------------------------------------------------------------------------


def test_the_checksum_is_the_published_one():
    # RFC 3720, appendix B.4: CRC-32C of 32 bytes of zeros, ones, and 0 to 31.
    for data, crc in (
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
    ):
        masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32
        assert tfrecord.masked_crc32c(data) == masked


def test_the_frames_are_tensorflows(tmp_path):
    (file,) = write(tmp_path / "train")
    assert list(tfrecord.read_records(file)) == list(
        tf.data.TFRecordDataset(str(file)).as_numpy_iterator()
    )


def damage(file, position, value=0xFF):
    data = bytearray(file.read_bytes())
    data[position] ^= value
    file.write_bytes(data)


@pytest.mark.parametrize(
    "part, message, left",
    [
        (0, "its length is damaged; the rest of the file is lost", [0, 1]),
        (1, "its data is damaged: the checksum is wrong", [0, 1, 3, 4]),
        (2, "its data is damaged: the checksum is wrong", [0, 1, 3, 4]),
    ],
    ids=["length", "data", "checksum"],
)
def test_a_damaged_record_is_named_or_counted(tmp_path, part, message, left):
    (file,) = write(tmp_path / "train")
    damage(file, frames(file.read_bytes())[2][part] + 2)
    with pytest.raises(pairs.BadPairError, match=rf"train-.*tfrecord: record 2: {message}"):
        load(tmp_path / "train")
    batches = load(tmp_path / "train", on_error="skip")
    assert numbers(batches) == left and len(batches.skipped) == 1
    assert batches.skipped[0].startswith(f"{file}: record 2: {message}")
    count, faults = tfrecord.verify(tmp_path / "train")
    assert count == len(left) and faults == list(batches.skipped)


@pytest.mark.parametrize("number, cut, message", [
    (4, -1, "record 4: the file is cut off within the record."),
    (4, -200, "record 4: the file is cut off within the record."),
    (3, 15, "record 3: the file is cut off within the record."),
    (3, 5, "record 3: the file is cut off within the record's length"),
    (3, 0, "there are 3 records, but the index counts 5"),
])  # fmt: skip
def test_a_truncated_file_is_named_or_counted(tmp_path, number, cut, message):
    (file,) = write(tmp_path / "train")
    start, *_, end = frames(file.read_bytes())[number]
    file.write_bytes(file.read_bytes()[: end + cut if cut < 0 else start + cut])
    with pytest.raises(pairs.BadPairError, match=f"train-.*tfrecord: {message}"):
        load(tmp_path / "train")
    batches = load(tmp_path / "train", on_error="skip")
    assert numbers(batches) == list(range(number))
    assert len(batches.skipped) == 1 and message in batches.skipped[0]


@pytest.mark.parametrize("compression", ["GZIP", "ZLIB"])
def test_a_compressed_file_is_named(tmp_path, compression):
    path = tmp_path / "some.tfrecord"
    with tf.io.TFRecordWriter(str(path), options=compression) as writer:
        writer.write(record())
    with pytest.raises(pairs.BadPairError, match="compressed with gzip or zlib; decompress"):
        load(path)


def test_black_and_white_masks_need_numbers(tmp_path):
    path = tmp_path / "some.tfrecord"
    mask = labels() % 2
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(record(**{MASK: [encode(255 * mask)]}))
    with pytest.raises(ValueError, match=r"label_map=\{0: 0, 255: 1\}"):
        load(path, num_classes=2)
    batches = load(path, num_classes=2, label_map={0: 0, 255: 1}, image_size=SIZE)
    ((_, found),) = batches.as_numpy_iterator()
    np.testing.assert_array_equal(found[0], mask)


def test_several_faults_are_all_counted(tmp_path):
    files = write(tmp_path / "train", count=6, shards=2)
    damage(files[0], frames(files[0].read_bytes())[0][1] + 5)
    damage(files[0], frames(files[0].read_bytes())[2][1] + 5)
    files[1].write_bytes(b"")
    batches = load(tmp_path / "train", on_error="skip")
    assert numbers(batches) == [2]
    assert [m.partition("tfrecord: ")[2].split()[:2] for m in batches.skipped] == [
        ["record", "0:"], ["record", "2:"], ["there", "are"],
    ]  # fmt: skip


def record(**changes):
    fields = {
        "image/encoded": [encode(picture())],
        "image/segmentation/class/encoded": [encode(labels())],
        "image/height": [SIZE[0]],
        "image/width": [SIZE[1]],
    }
    example = tf.train.Example()
    for key, values in (fields | changes).items():
        for value in values:
            feature = example.features.feature[key]
            (feature.bytes_list if isinstance(value, bytes) else feature.int64_list).value.append(
                value
            )
    return example.SerializeToString()


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", r"0 values 'image/encoded'"),
        (b"\xff\xff\xff", "holds no tf.train.Example"),
        (record(**{"image/encoded": []}), r"0 values 'image/encoded', .* fields are \['image/h"),
        (record(**{MASK: [b"a", b"b"]}), f"2 values '{MASK}'"),
        (record(**{MASK: [7]}), f"0 values '{MASK}'"),
        (record(**{"image/height": [11]}), "record says 14 x 11 pixels .* mask has 14 x 10"),
        (record(**{MASK: [encode(labels(size=(14, 10)))]}), "the record says 14 x 10"),
        (
            record(**{"image/encoded": [encode(picture(size=(9, 14)))]}),
            "the picture has 14 x 9 pixels and the mask 14 x 10",
        ),
        (record(**{"image/encoded": [b"GIF89a"]}), "the picture cannot be decoded"),
        (record(**{"image/encoded": [encode(picture(), "JPEG")[:-40]]}), "cannot be decoded"),
        (record(**{MASK: [encode(labels())[:-40]]}), "the mask's PNG file is cut off"),
        (record(**{MASK: [encode(picture())]}), "stores colors"),
        (record(**{MASK: [encode(labels() % 9)]}), r"labels \[3\], expected 0 to 2"),
    ],
)
def test_a_record_that_is_no_pair_is_named_or_counted(tmp_path, data, message):
    path = tmp_path / "other.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for part in (record(), data, record()):
            writer.write(part)
    with pytest.raises(pairs.BadPairError, match=f"other.tfrecord: record 1: .*{message}"):
        load(path, num_classes=3)
    batches = load(path, num_classes=3, on_error="skip")
    assert numbers(batches) == [0, 0] and len(batches.skipped) == 1


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", '{"records": 5}', '{"records": [5, 5]}', '{"records": [-1]}',
     '{"records": ["5"]}', "[" * 9999],
)  # fmt: skip
def test_a_damaged_index(tmp_path, text):
    write(tmp_path / "train")
    tfrecord.index_file(tmp_path / "train").write_text(text)
    for on_error in ("raise", "skip"):
        with pytest.raises(pairs.BadPairError, match="train.index.json is damaged"):
            load(tmp_path / "train", on_error=on_error)
    tfrecord.index_file(tmp_path / "train").unlink()
    assert numbers(load(tmp_path / "train")) == [0, 1, 2, 3, 4]


def test_an_index_that_counts_otherwise(tmp_path):
    write(tmp_path / "train")
    tfrecord.index_file(tmp_path / "train").write_text(json.dumps({"records": [4]}))
    with pytest.raises(ValueError, match="there are 5 records, but the index counts 4"):
        load(tmp_path / "train")


def test_missing_and_mixed_shards(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file .*train' and no train-00000-of-"):
        load(tmp_path / "train")
    with pytest.raises(FileNotFoundError, match="no file .*train' and no train-00000-of-"):
        load(tmp_path / "no" / "train")
    files = write(tmp_path / "train", shards=3)
    files[1].unlink()
    with pytest.raises(FileNotFoundError, match="3 shards of .*, train-00001-of-00003.tfrecord is"):
        load(tmp_path / "train")
    write(tmp_path / "train", shards=2)
    with pytest.raises(ValueError, match=r"files of \[2, 3\] shards"):
        load(tmp_path / "train")
