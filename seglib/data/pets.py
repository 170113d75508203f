"""The Oxford-IIIT Pets (Parkhi et al., 2012) through TensorFlow Datasets."""

import dataclasses
import hashlib
import itertools
import os
import socket
import urllib.request

import numpy as np
import tensorflow as tf

from seglib.data import pipeline
from seglib.data.pipeline import CorruptDataError, without_tuner

CLASSES = ("pet", "background", "border")

NAME = "oxford_iiit_pet:4.*.*"
SERVER = "thor.robots.ox.ac.uk"
SPLITS = ("train", "validation", "trainval", "test")

ADVICE = (
    "The copy on disk is damaged: delete its folder 'oxford_iiit_pet' and load again with a "
    "network, or copy it anew."
)


def load(
    split,
    *,
    image_size=128,
    batch_size=32,
    augment=None,
    shuffle=None,
    seed=0,
    data_dir=None,
    validation_fraction=0.1,
):
    """Loads a split of the Oxford-IIIT Pets as batches of pictures and label maps.

    The validation pictures are the last `validation_fraction` of the official trainval list
    (TFDS calls it "train" and stores it in random order), never a part of the test list.

    Args:
        split: `"train"`, `"validation"`, `"trainval"` (both together) or `"test"`.
        image_size: `int` or `(H, W)` in pixels; pictures are squeezed to it.
        batch_size: pictures per batch; the last batch may be smaller.
        augment: `None` or a callable `(images, masks, seed) -> (images, masks)` such as
            `seglib.data.augment.standard()`; it runs after the cache, anew in each epoch.
        shuffle: `None` shuffles `"train"` and `"trainval"` only.
        seed: order and augmentation of epoch *e* are pure functions of `(seed, e)`.
        data_dir: TFDS directory; by default `TFDS_DATA_DIR`, then `~/tensorflow_datasets`.
        validation_fraction: share of trainval that is kept for validation, in whole percents.

    Returns:
        `tf.data.Dataset` of `(image, label map)`: uint8 `[B, H, W, 3]` with values 0 to 255 and
        uint8 `[B, H, W]` with class ids 0 pet, 1 background, 2 border. One iteration is one epoch.

    Raises:
        ValueError: for an unknown split or a size that makes no sense.
        FileNotFoundError: if the set is not on disk and cannot be downloaded.
        seglib.data.pipeline.CorruptDataError: if a record cannot be read or decoded.

    Example:
        >>> train = pets.load("train", image_size=128, augment=augment.standard())
        >>> model.fit(train, epochs=20)

    Reference:
        Parkhi, Vedaldi, Zisserman, Jawahar: Cats and Dogs, CVPR 2012.
    """
    shuffle = split in ("train", "trainval") if shuffle is None else shuffle
    found = records(split, data_dir=data_dir, validation_fraction=validation_fraction)
    return pipeline.build(
        Source(found, ADVICE),
        image_size=image_size,
        batch_size=batch_size,
        shuffle=shuffle,
        augment=augment,
        seed=seed,
    )


def examples(split, *, data_dir=None, validation_fraction=0.1, limit=None):
    """Returns an iterator over the records of a split, decoded at full size.

    Args:
        limit: how many, or `None` for all; the others are those of `load`.

    Yields:
        dicts with `image` uint8 `[H, W, 3]`, `mask` uint8 `[H, W]` (ids 0, 1, 2), `label` and
        `species` (int), `head_bbox` float32 `[4]` (relative ymin, xmin, ymax, xmax; zeros if
        there is none) and `file_name` (str).

    Raises:
        seglib.data.pipeline.CorruptDataError: if a record cannot be read or decoded.
    """
    found = records(split, data_dir=data_dir, validation_fraction=validation_fraction)
    return itertools.starmap(as_example, Source(found, ADVICE).decoded(limit=limit))


def tfds_split(split, validation_fraction=0.1):
    """Returns the TFDS expression of a split, such as `"train[:90%]"`.

    Raises:
        ValueError: for an unknown split or a fraction outside 0.01 to 0.99.
    """
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}, expected one of {', '.join(map(repr, SPLITS))}.")
    percent = round(100 * (1 - validation_fraction))
    if not 0 < percent < 100:
        raise ValueError(
            f"validation_fraction is {validation_fraction}, expected 0.01 to 0.99; it is rounded "
            "to whole percents."
        )
    return {
        "train": f"train[:{percent}%]",
        "validation": f"train[{percent}%:]",
        "trainval": "train",
        "test": "test",
    }[split]


def records(split, *, data_dir=None, validation_fraction=0.1):
    """Returns a `tf.data.Dataset` of undecoded records: pictures and masks as encoded bytes."""
    expression = tfds_split(split, validation_fraction)
    import tensorflow_datasets as tfds  # imports slowly, so only when data is read

    # TFDS itself looks at the variable only once, when it is imported.
    data_dir = data_dir or os.environ.get("TFDS_DATA_DIR")
    skip = tfds.decode.SkipDecoding()
    try:
        if not tfds.builder(NAME, data_dir=data_dir).is_prepared():
            _find_server()
        data = tfds.load(
            NAME,
            split=expression,
            data_dir=data_dir,
            decoders={"image": skip, "segmentation_mask": skip},
        )
        return without_tuner(data)
    except (OSError, tf.errors.OpError, tfds.download.DownloadError) as error:
        raise FileNotFoundError(
            "The Oxford-IIIT Pets are not on this disk and could not be downloaded "
            f"({type(error).__name__}). Connect to a network and try again, point TFDS_DATA_DIR "
            "(or data_dir=) at a folder that holds oxford_iiit_pet/4.0.0, or use the drawn pets: "
            "seglib.data.sample.load."
        ) from error


def _find_server():
    """Raises at once if there is no network; TFDS would try again for minutes."""
    if not urllib.request.getproxies():  # a proxy finds the server itself
        socket.getaddrinfo(SERVER, 443)


@dataclasses.dataclass(frozen=True)
class Source:
    """Encoded pictures and trimaps, as `pipeline.build` reads them.

    Args:
        records: `tf.data.Dataset` of TFDS examples, such as `records` returns.
        advice: how to mend the data, the end of the error message for a corrupt record.
    """

    records: tf.data.Dataset
    advice: str = ""

    def read(self, size):
        """Decodes all to `size` and returns NumPy uint8 `[N, H, W, 3]` and `[N, H, W]`.

        Raises:
            CorruptDataError: if a record cannot be read or decoded.
            ValueError: if there are no records.
        """
        decoded = self.records.map(
            lambda example: decode_example(example, size), num_parallel_calls=tf.data.AUTOTUNE
        )
        try:
            batches = list(decoded.batch(64).as_numpy_iterator())
        except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
            for _ in self.decoded(size):  # raises at the corrupt record, with its name
                pass
            raise CorruptDataError(f"A record is corrupt. {self.advice}".strip()) from error
        if not batches:
            raise ValueError("The split holds no pictures. Choose a larger split or set.")
        images, masks = zip(*batches, strict=True)
        return np.concatenate(images), np.concatenate(masks)

    def decoded(self, size=None, limit=None):
        """Yields `(record, image, mask)` one by one, at their own size if there is no `size`."""
        iterator = iter(self.records)
        for index in itertools.count() if limit is None else range(limit):
            fault = f"Record {index} cannot be read"
            try:
                record = next(iterator, None)
                if record is None:
                    return
                name = record["file_name"].numpy().decode()
                fault = f"Record {index} ({name}) cannot be decoded"
                image, mask = decode_example(record, size)
            except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
                message = f"{fault}: {pipeline.first_line(error)}. {self.advice}"
                raise CorruptDataError(message.strip()) from error
            yield record, image.numpy(), mask.numpy()


def as_example(record, image, mask):
    """Returns the dict of `examples`."""
    return {
        "image": image,
        "mask": mask,
        "label": int(record["label"]),
        "species": int(record["species"]),
        "head_bbox": record["head_bbox"].numpy(),
        "file_name": record["file_name"].numpy().decode(),
    }


def decode_example(example, size):
    """Turns one undecoded TFDS record into `(image, label map)`, both uint8."""
    image = pipeline.decode_image(example["image"], size)
    mask = decode_mask(example["segmentation_mask"], size, example["image"])
    if size is not None:
        image = tf.ensure_shape(image, [*size, 3])
        mask = tf.ensure_shape(mask, size)
    return image, mask


def decode_mask(data, size, image_data=None):
    """Decodes a trimap into a label map.

    Nearest neighbor, because the mean of "pet" and "border" is not "background".

    Args:
        data: scalar string tensor, a PNG file that holds 1, 2 and 3.
        size: `(H, W)`, or `None` to keep the mask's own size.
        image_data: the picture's encoded file; when given and a JPEG, its size must be the mask's.

    Returns:
        uint8 tensor `[H, W]` of class ids 0, 1, 2.
    """
    mask = tf.io.decode_png(data, channels=1)
    tf.debugging.assert_greater_equal(
        tf.reduce_min(mask), tf.constant(1, tf.uint8), "The mask holds a label below 1."
    )
    tf.debugging.assert_less_equal(
        tf.reduce_max(mask),
        tf.constant(len(CLASSES), tf.uint8),
        "The mask holds a label above 3, expected 1 (pet), 2 (background), 3 (border).",
    )
    if image_data is not None:

        def same_size():
            image_shape = tf.image.extract_jpeg_shape(image_data)[:2]
            return tf.debugging.assert_equal(
                image_shape, tf.shape(mask)[:2], "Picture and mask differ in size."
            )

        tf.cond(tf.io.is_jpeg(image_data), same_size, tf.no_op)
    if size is not None:
        mask = tf.image.resize(mask, size, method="nearest")
    return mask[..., 0] - tf.constant(1, tf.uint8)


def fingerprint(*splits):
    """Returns a hash of every byte of the pictures and masks, in their order.

    Args:
        splits: `tf.data.Dataset`s of undecoded TFDS examples.

    Returns:
        The first 16 hexadecimal digits of a SHA-256.
    """
    digest = hashlib.sha256()
    for records in splits:
        for example in records:
            for key in ("file_name", "image", "segmentation_mask"):
                data = example[key].numpy()
                digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()[:16]
