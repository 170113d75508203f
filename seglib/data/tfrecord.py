"""Pairs of a picture and a label map in TFRecord files: written once, sharded, read fast.

A TFRecord file is a row of records, each of them framed:

    length (8 bytes) | checksum of the length (4) | data (length bytes) | checksum of the data (4)

The checksum is CRC-32C, masked. The data is a `tf.train.Example` with the field names of the
TensorFlow Models library, so that its readers open these files and `load` opens theirs. Beside the
shards stands a small index with their numbers of records: a file that was cut between two records
is whole to every checksum.
"""

import functools
import io
import itertools
import json
import os
import re
import struct
from pathlib import Path

import google_crc32c
import numpy as np
import tensorflow as tf
from PIL import Image

from seglib.data import pairs, pictures
from seglib.data.pairs import BadPairError

IMAGE, MASK, NAME = "image/encoded", "image/segmentation/class/encoded", "image/filename"
HEIGHT, WIDTH = "image/height", "image/width"
JPEG_QUALITY = 95

# The largest record that is believed; a longer one is a damaged length with a matching checksum.
_LARGEST = 2**31


def write(pictures_and_masks, path, *, shards=1, image_format="jpeg", num_classes=None):
    """Writes pairs of pictures and label maps as TFRecord files with an index.

    The files appear under their names when all are complete; a failure leaves nothing behind.

    Args:
        pictures_and_masks: an iterable of `(image, mask)` or `(image, mask, file_name)`. The image
            is uint8 `[H, W, 3]` or an encoded JPEG or PNG file (bytes, kept as they are), the mask
            whole numbers `[H, W]` from 0 to 255 or an encoded PNG file.
        path: folder and start of the files' names: `"data/train"` gives
            `data/train-00000-of-00004.tfrecord` … and `data/train.index.json`.
        shards: number of files; the pairs go to them in turn.
        image_format: `"jpeg"` (smaller, quality 95) or `"png"` (exact), for pictures that come as
            arrays.
        num_classes: `None`, or the number of classes; a larger label but 255 is an error.

    Returns:
        The list of the files' paths.

    Raises:
        ValueError: for a picture or a mask that cannot be one, naming its number; for fewer pairs
            than shards.

    Example:
        >>> tfrecord.write(((e["image"], e["mask"]) for e in sample.examples("train")), "pets")
    """
    if shards < 1:
        raise ValueError(f"shards is {shards}, expected at least 1.")
    if image_format not in ("jpeg", "png"):
        raise ValueError(f"image_format is {image_format!r}, expected 'jpeg' or 'png'.")
    files = shard_files(path, shards)
    files[0].parent.mkdir(parents=True, exist_ok=True)
    fresh = [file.with_name(f".{file.name}.{os.getpid()}") for file in files]
    counts = [0] * shards
    writers = [tf.io.TFRecordWriter(os.fspath(file)) for file in fresh]
    try:
        for number, (pair, shard) in enumerate(
            zip(pictures_and_masks, itertools.cycle(range(shards)), strict=False)
        ):
            try:
                writers[shard].write(
                    serialize(*pair, image_format=image_format, classes=num_classes)
                )
            except (TypeError, ValueError) as error:
                raise BadPairError(f"Pair {number} cannot be written: {error}") from error
            counts[shard] += 1
        for writer in writers:
            writer.close()
        if not all(counts):
            raise ValueError(f"There are {sum(counts)} pairs for shards={shards} files.")
        index_file(path).unlink(missing_ok=True)  # an older one would not fit
        for new, file in zip(fresh, files, strict=True):
            os.replace(new, file)
        index_file(path).write_text(json.dumps({"records": counts}) + "\n")
    finally:
        for writer, new in zip(writers, fresh, strict=True):
            writer.close()
            new.unlink(missing_ok=True)
    return files


def load(
    path,
    *,
    image_size=128,
    batch_size=32,
    augment=None,
    shuffle=True,
    seed=0,
    keep_aspect=False,
    label_map=None,
    num_classes=None,
    on_error="raise",
):
    """Loads TFRecord files of pictures and label maps as batches.

    The arguments that are not described here are those of `seglib.data.pets.load` and
    `seglib.data.pairs.Pairs`.

    Args:
        path: what was given to `write`; or one file, or a list of files, of `write` or of others
            that use the same field names.
        shuffle: whether each epoch has an order of its own; `False` reads shard after shard.
        label_map: as in `seglib.data.folder.load`.

    Returns:
        `tf.data.Dataset` as from `pets.load`. Its attribute `skipped` has a message per record left
        out. Where the length of a record is damaged, nobody knows where the next one starts, and
        one message stands for the rest of that file.

    Raises:
        seglib.data.pairs.BadPairError: for the first record that is damaged, cut off, or no pair,
            with the file and the number of the record (from 0); a `ValueError`, too.
        FileNotFoundError: if a file is missing, a shard among them.
        ValueError: for arguments that make no sense.

    Example:
        >>> train = tfrecord.load("data/train", image_size=256, augment=augment.scale_and_crop())
    """
    found = pairs.Pairs(
        read_pairs(path, label_map),
        keep_aspect=keep_aspect,
        num_classes=num_classes,
        on_error=on_error,
    )
    return pairs.build(
        found,
        image_size=image_size,
        batch_size=batch_size,
        shuffle=shuffle,
        augment=augment,
        seed=seed,
    )


def examples(path, *, label_map=None, num_classes=None, on_error="raise", limit=None):
    """Yields the pairs at full size as dicts `image`, `mask` and `file_name`; see `load`."""
    found = pairs.Pairs(read_pairs(path, label_map), num_classes=num_classes, on_error=on_error)
    yield from pairs.examples(found, limit)


def verify(path, *, label_map=None, num_classes=None):
    """Reads and decodes every record and returns what is wrong with them.

    Returns:
        `(count, faults)`: the number of good pairs, and a list with one message for each fault.
    """
    found = read_pairs(path, label_map)
    return pairs.verify(pairs.Pairs(found, num_classes=num_classes, on_error="skip"))


# --- files ----------------------------------------------------------------------------------------


def shard_files(path, shards):
    """Returns the paths of the shards that `write` gives to this path."""
    path = Path(path)
    return [path.with_name(f"{path.name}-{i:05d}-of-{shards:05d}.tfrecord") for i in range(shards)]


def index_file(path):
    """Returns the path of the index: the numbers of records, as JSON."""
    path = Path(path)
    return path.with_name(f"{path.name}.index.json")


def find_files(path):
    """Returns the files of `load`'s path, each with its number of records, or `None` if unknown."""
    if isinstance(path, list | tuple):
        return [file for part in path for file in find_files(part)]
    path = Path(path)
    if path.is_file():
        return [(path, None)]
    pattern = re.compile(rf"{re.escape(path.name)}-(\d{{5}})-of-(\d{{5}})\.tfrecord")
    folder = path.parent
    names = [file.name for file in folder.iterdir()] if folder.is_dir() else []
    totals = {int(m[2]) for name in names if (m := pattern.fullmatch(name))}
    if not totals:
        raise FileNotFoundError(
            f"There is no file {os.fspath(path)!r} and no {path.name}-00000-of-….tfrecord beside "
            "it, expected what tfrecord.write was given."
        )
    if len(totals) > 1:
        raise ValueError(
            f"{os.fspath(path)} has files of {sorted(totals)} shards; delete the old ones."
        )
    files = shard_files(path, totals.pop())
    missing = [file.name for file in files if file.name not in names]
    if missing:
        raise FileNotFoundError(
            f"Of the {len(files)} shards of {os.fspath(path)}, {', '.join(missing[:5])} "
            f"{'is' if len(missing) == 1 else 'are'} missing."
        )
    return list(zip(files, read_index(path, len(files)), strict=True))


def read_index(path, shards):
    """Returns the shards' numbers of records, or `None` for each if there is no index."""
    file = index_file(path)
    if not file.is_file():
        return [None] * shards
    try:
        counts = json.loads(file.read_bytes())["records"]
        if len(counts) != shards or not all(type(n) is int and n > 0 for n in counts):
            raise ValueError(f"it counts {counts!r} for {shards} shards")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadPairError(
            f"The index {file} is damaged: {error}. Delete it to read the shards without their "
            "numbers of records."
        ) from error
    return counts


# --- records --------------------------------------------------------------------------------------


def read_pairs(path, label_map=None):
    """Yields a `seglib.data.pairs.Pair` for each record; one with a fault raises when read."""
    for file, expected in find_files(path):
        count, record = 0, None
        for count, record in enumerate(read_records(file), start=1):
            fields = read_fields(record)
            yield pairs.Pair(
                where=f"{file}: record {count - 1}",
                read=functools.partial(read_pair, fields, label_map),
                name=read_name(fields),
            )
        if expected not in (None, count) and not isinstance(record, LostError):
            fault = ValueError(
                f"there are {count} records, but the index counts {expected}. Was the file cut, or "
                "exchanged?"
            )
            yield pairs.Pair(where=os.fspath(file), read=functools.partial(read_pair, fault))


class LostError(ValueError):
    """A record whose length is damaged or which is cut off: the rest of the file is lost."""


def read_records(file):
    """Yields the data of each record, or a `ValueError` in its place."""
    with open(file, "rb") as stream:
        left = os.fstat(stream.fileno()).st_size
        while left:
            head = stream.read(12)
            if len(head) < 12:
                yield LostError("the file is cut off within the record's length.")
                return
            length, checksum = struct.unpack("<QI", head)
            if masked_crc32c(head[:8]) != checksum or length > _LARGEST:
                if head.startswith((b"\x1f\x8b", b"\x78\x01", b"\x78\x9c", b"\x78\xda")):
                    yield LostError(
                        "the file is compressed with gzip or zlib; decompress it first."
                    )
                    return
                yield LostError("its length is damaged; the rest of the file is lost.")
                return
            left -= 16 + length
            if left < 0:
                yield LostError("the file is cut off within the record.")
                return
            data = stream.read(length)
            good = masked_crc32c(data) == int.from_bytes(stream.read(4), "little")
            yield data if good else ValueError("its data is damaged: the checksum is wrong.")


def masked_crc32c(data):
    """The checksum of TFRecord files: CRC-32C, turned by 15 bits, plus a constant."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


# --- one record -----------------------------------------------------------------------------------


def read_fields(record):
    """Returns the fields of a record, or the fault that stands in its place."""
    if isinstance(record, Exception):
        return record
    try:
        return tf.train.Example.FromString(record).features.feature
    except Exception:  # the kind depends on protobuf's version
        return ValueError("it holds no tf.train.Example.")


def read_name(fields):
    """Returns the picture's file name, or nothing if the record has none."""
    if isinstance(fields, Exception) or NAME not in fields:
        return ""
    return b"".join(fields[NAME].bytes_list.value).decode(errors="replace")


def read_pair(fields, label_map=None):
    """Returns the encoded picture and the label map of a record; raises it if it is a fault."""
    if isinstance(fields, Exception):
        raise fields
    data, mask = (read_bytes(fields, key) for key in (IMAGE, MASK))
    mask = pairs.as_label_map(pairs.decode_png(mask), label_map)
    stated = read_int(fields, HEIGHT, mask.shape[0]), read_int(fields, WIDTH, mask.shape[1])
    if stated != mask.shape:
        raise ValueError(
            f"the record says {stated[1]} x {stated[0]} pixels (width x height), its mask has "
            f"{mask.shape[1]} x {mask.shape[0]}."
        )
    return data, mask


def read_bytes(fields, key):
    values = fields[key].bytes_list.value if key in fields else ()
    if len(values) != 1:
        raise ValueError(
            f"it has {len(values)} values {key!r}, expected 1; its fields are {sorted(fields)}."
        )
    return values[0]


def read_int(fields, key, default):
    """Returns a number, or `default` if there is none: other writers leave the sizes out."""
    values = fields[key].int64_list.value if key in fields else ()
    return values[0] if values else default


def serialize(image, mask, file_name="", *, image_format="jpeg", classes=None):
    """Checks one pair and returns it as a serialized `tf.train.Example`."""
    data = image if isinstance(image, bytes) else encode_image(image, image_format)
    mask_data = mask if isinstance(mask, bytes) else encode_mask(mask)
    mask = pairs.decode_mask(mask_data)
    try:
        if not data.startswith((pictures.PNG_START, pictures.JPEG_START)):
            raise ValueError("the picture is neither a JPEG nor a PNG file.")
        pictures.check_depth(data)
        pairs.check_sizes(data, mask)
    except tf.errors.OpError as error:
        raise ValueError("the picture is neither a JPEG nor a PNG file.") from error
    if classes is not None:
        pairs.check_labels(mask, classes)
    fields = {
        IMAGE: data,
        "image/format": b"png" if data.startswith(pictures.PNG_START) else b"jpeg",
        MASK: mask_data,
        "image/segmentation/class/format": b"png",
        NAME: file_name.encode(),
        HEIGHT: mask.shape[0],
        WIDTH: mask.shape[1],
    }
    example = tf.train.Example()
    for key, value in fields.items():
        if isinstance(value, bytes):
            example.features.feature[key].bytes_list.value.append(value)
        else:
            example.features.feature[key].int64_list.value.append(value)
    return example.SerializeToString(deterministic=True)


def encode_image(image, image_format):
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(
            f"the picture is {image.dtype} {list(image.shape)}, expected uint8 [H, W, 3] with "
            "values 0 to 255, or the bytes of a JPEG or PNG file."
        )
    buffer = io.BytesIO()
    options = {"quality": JPEG_QUALITY} if image_format == "jpeg" else {}
    Image.fromarray(image).save(buffer, image_format, **options)
    return buffer.getvalue()


def encode_mask(mask):
    mask = np.asarray(mask)
    if mask.dtype.kind not in "iub" or mask.ndim != 2 or 0 in mask.shape:
        raise ValueError(
            f"the mask is {mask.dtype} {list(mask.shape)}, expected whole numbers [H, W], or the "
            "bytes of a PNG file."
        )
    if mask.min() < 0 or mask.max() > 255:
        raise ValueError(
            f"the mask holds labels from {mask.min()} to {mask.max()}, expected 0 to 255."
        )
    buffer = io.BytesIO()
    Image.fromarray(mask.astype("uint8")).save(buffer, "png")
    return buffer.getvalue()
