"""The Oxford-IIIT Pets (Parkhi et al., 2012) through TensorFlow Datasets."""

import os
import socket
import urllib.request

import tensorflow as tf

from seglib.data import pipeline
from seglib.data.pipeline import without_tuner

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
    return pipeline.build(
        records(split, data_dir=data_dir, validation_fraction=validation_fraction),
        image_size=image_size,
        batch_size=batch_size,
        shuffle=shuffle,
        augment=augment,
        seed=seed,
        advice=ADVICE,
    )


def examples(split, *, data_dir=None, validation_fraction=0.1, limit=None):
    """Yields the records of a split at full size; see `seglib.data.pipeline.examples`."""
    return pipeline.examples(
        records(split, data_dir=data_dir, validation_fraction=validation_fraction),
        limit=limit,
        advice=ADVICE,
    )


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
