"""The drawn pets: the book's sample data set, in the schema of TFDS `oxford_iiit_pet` 4.0.0.

`seglib.data.drawing` draws the pictures. This module writes them to disk once, through TFDS's own
features, and reads them with the code that reads the real set. Each record also holds the mask,
box and species of every pet in the picture (feature `instances`), which the real set lacks.
"""

import hashlib
import io
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import platformdirs

from seglib.data import drawing, pets, pipeline
from seglib.data.pipeline import without_tuner

TRAIN = 640
TEST = 160
PICTURE_SIZE = 128
SEED = 2012

ADVICE = (
    "The drawn pets on disk are damaged: delete the folder 'drawn_pets-...' in the cache "
    "directory (SEGLIB_CACHE_DIR) and load again; they are redrawn in seconds."
)

# Part of the cache's fingerprint: raise it whenever the records change while the drawing does not.
_FORMAT = 1
_PARALLEL_FROM = 128  # pictures; for fewer, starting processes takes longer than drawing
_STALE_SECONDS = 3600.0


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
    """Loads a split of the drawn pets as batches of pictures and label maps.

    All is as in `seglib.data.pets.load`, but for what stands here. The pictures are drawn on first
    use, which takes seconds, and kept on disk.

    Args:
        data_dir: what `prepare` returned; by default the standard set, drawn if need be.

    Raises:
        FileNotFoundError: if `data_dir` holds no drawn pets.

    Example:
        >>> train = sample.load("train", image_size=128)
        >>> model.fit(train, epochs=10)
    """
    shuffle = split in ("train", "trainval") if shuffle is None else shuffle
    found = records(split, data_dir=data_dir, validation_fraction=validation_fraction)
    return pipeline.build(
        pets.Source(found, ADVICE),
        image_size=image_size,
        batch_size=batch_size,
        shuffle=shuffle,
        augment=augment,
        seed=seed,
    )


def examples(split, *, data_dir=None, validation_fraction=0.1, limit=None):
    """Yields the pictures of a split at full size, with every pet's mask, box and species.

    Args:
        limit: how many, or `None` for all; the others are those of `load`.

    Yields:
        the dicts of `seglib.data.pets.examples` with three more keys: `instances` bool
        `[N, H, W]`, the visible and disjoint pixels of each pet, back to front; `boxes` float32
        `[N, 4]` around them (relative ymin, xmin, ymax, xmax); `instance_species` int64 `[N]`.
    """
    found = records(
        split, data_dir=data_dir, validation_fraction=validation_fraction, instances=True
    )
    for record, image, mask in pets.Source(found, ADVICE).decoded(limit=limit):
        instances = record["instances"]
        yield {
            **pets.as_example(record, image, mask),
            "instances": instances["mask"].numpy()[..., 0] > 0,
            "boxes": instances["bbox"].numpy(),
            "instance_species": instances["species"].numpy(),
        }


def records(split, *, data_dir=None, validation_fraction=0.1, instances=False):
    """Returns a `tf.data.Dataset` of records with encoded pictures and trimaps.

    Args:
        instances: whether to decode the instance masks as well; the others are those of `load`.
    """
    expression = pets.tfds_split(split, validation_fraction)
    import tensorflow_datasets as tfds  # imports slowly, so only when data is read

    folder = _version_folder(prepare() if data_dir is None else Path(data_dir))
    if not (folder / "dataset_info.json").is_file():
        raise FileNotFoundError(
            f"No drawn pets in {str(data_dir)!r}, expected what sample.prepare() returns. "
            "Leave data_dir out to have them drawn."
        )
    skip = tfds.decode.SkipDecoding()
    wanted = set(features()) if instances else set(features()) - {"instances"}
    data = tfds.builder_from_directory(folder).as_dataset(
        split=expression,
        decoders=tfds.decode.PartialDecoding(
            dict.fromkeys(wanted, True), decoders={"image": skip, "segmentation_mask": skip}
        ),
    )
    return without_tuner(data)


def features():
    """Returns the real set's `tfds.features.FeaturesDict` with `instances` added."""
    import tensorflow_datasets as tfds

    def mask():
        return tfds.features.Image(shape=(None, None, 1), use_colormap=True)

    def species():
        return tfds.features.ClassLabel(names=drawing.SPECIES)

    return tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(encoding_format="jpeg"),
            "label": tfds.features.ClassLabel(names=drawing.BREEDS),
            "species": species(),
            "file_name": tfds.features.Text(),
            "segmentation_mask": mask(),
            "head_bbox": tfds.features.BBoxFeature(),
            "instances": tfds.features.Sequence(
                {"mask": mask(), "bbox": tfds.features.BBoxFeature(), "species": species()}
            ),
        }
    )


def prepare(*, train=TRAIN, test=TEST, size=PICTURE_SIZE, seed=SEED, cache_dir=None, crowd=None):
    """Draws the set unless it is on disk already.

    The set is written to a temporary folder and renamed when complete, so an interrupted or a
    second simultaneous preparation never leaves half a set.

    Args:
        train: pictures in the official "train" split, which includes validation.
        test: pictures in the test split.
        size: `drawing.draw`'s size; a picture has about `size * size` pixels.
        seed: `drawing.draw`'s seed.
        cache_dir: where drawn sets are kept; by default `default_cache_dir()`.
        crowd: `None` for pictures as in the real set, or `(fewest, most)` pets in a picture.

    Returns:
        `pathlib.Path` of the TFDS data directory; it holds `oxford_iiit_pet/4.0.0`.

    Raises:
        ValueError: if a split would be empty, or for what `drawing.draw` refuses.
    """
    if train < 1 or test < 1:
        raise ValueError(f"train={train} and test={test}: expected at least 1 picture in each.")
    root = Path(cache_dir) if cache_dir is not None else default_cache_dir()
    key = f"{drawing.VERSION}/{_FORMAT}/{train}/{test}/{size}/{seed}"
    if crowd is not None:
        key += f"/{crowd[0]}-{crowd[1]}"
    final = root / f"drawn_pets-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    if (_version_folder(final) / "dataset_info.json").is_file():
        return final
    root.mkdir(parents=True, exist_ok=True)
    _remove_stale(root)
    what = "pets" if crowd is None else "scenes"
    print(f"Drawing {train + test} {what} (once, takes seconds).", flush=True)
    with tempfile.TemporaryDirectory(prefix=".drawing-", dir=root) as scratch:
        fresh = Path(scratch) / final.name
        _write(_version_folder(fresh), train, test, size, seed, crowd)
        _publish(fresh, final)
    return final


def default_cache_dir():
    """Returns `SEGLIB_CACHE_DIR`, or the folder `seglib` in the user's cache directory."""
    chosen = os.environ.get("SEGLIB_CACHE_DIR")
    if chosen:
        return Path(chosen).expanduser()
    return platformdirs.user_cache_path("seglib", appauthor=False)


def _version_folder(data_dir):
    return data_dir / "oxford_iiit_pet" / "4.0.0"


def _publish(fresh, final):
    """Renames a complete set into place; if another process was faster, keeps that one's."""
    try:
        os.replace(fresh, final)
    except OSError:
        if not (_version_folder(final) / "dataset_info.json").is_file():
            # What stands there is no complete set, and this code never writes such a thing.
            shutil.rmtree(final)
            os.replace(fresh, final)


def _remove_stale(root):
    """Deletes what preparations that were killed left behind."""
    for folder in root.glob(".drawing-*"):
        try:
            if time.time() - folder.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)
        except FileNotFoundError:  # its owner finished in this moment
            continue


def _write(folder, train, test, size, seed, crowd):
    import tensorflow as tf
    import tensorflow_datasets as tfds

    folder.mkdir(parents=True)
    schema = features()
    template = tfds.core.ShardedFileTemplate(
        data_dir=folder,
        dataset_name="oxford_iiit_pet",
        filetype_suffix="tfrecord",
        template="{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
    )
    splits = []
    for name, first, count in (("train", 0, train), ("test", train, test)):
        shard = template.replace(split=name).sharded_filepath(shard_index=0, num_shards=1)
        size_in_bytes = 0
        with tf.io.TFRecordWriter(os.fspath(shard)) as writer:
            for record in _encoded(seed, range(first, first + count), size, crowd):
                if name == "test":  # as in the real set
                    record["head_bbox"] = np.zeros(4, np.float32)
                data = schema.serialize_example(_as_tfds(record))
                size_in_bytes += len(data)
                writer.write(data)
        splits.append(
            tfds.core.SplitInfo(
                name=name,
                shard_lengths=[count],
                num_bytes=size_in_bytes,
                filename_template=template.replace(split=name),
            )
        )
    tfds.folder_dataset.write_metadata(
        data_dir=folder,
        features=schema,
        split_infos=splits,
        version="4.0.0",
        filename_template=template,
        check_data=False,
        description="Drawn cats and dogs in the schema of the Oxford-IIIT Pets.",
        supervised_keys=("image", "label"),
    )


def _as_tfds(record):
    """Wraps encoded files as TFDS's features expect them, so that it does not encode again."""
    import tensorflow_datasets as tfds

    return {
        **record,
        "image": io.BytesIO(record["image"]),
        "segmentation_mask": io.BytesIO(record["segmentation_mask"]),
        "head_bbox": tfds.features.BBox(*map(float, record["head_bbox"])),
        "instances": [
            {
                "mask": io.BytesIO(mask),
                "bbox": tfds.features.BBox(*map(float, box)),
                "species": int(species),
            }
            for mask, box, species in record["instances"]
        ],
    }


def _encoded(seed, numbers, size, crowd=None):
    """Yields `drawing.encode(drawing.draw(...))` for each number, in order.

    Long ranges are drawn by several processes. They run `python -m seglib.data.drawing`, because
    they must neither fork a process that holds TensorFlow nor import the caller's `__main__` again.
    """
    workers = min(os.cpu_count() or 1, 4)
    if len(numbers) < _PARALLEL_FROM or workers < 2 or not sys.executable:
        for number in numbers:
            yield drawing.encode(drawing.draw(seed, number, size=size, pets=crowd))
        return
    command = [sys.executable, "-P", "-m", drawing.__name__, str(seed), str(size)]
    # The caller's path, so that they import this very seglib.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    children = [
        subprocess.Popen(
            [*command, *map(str, (numbers.start + k, numbers.stop, workers, *(crowd or ())))],
            stdout=subprocess.PIPE,
            env=environment,
        )
        for k in range(workers)
    ]
    try:
        for i in range(len(numbers)):
            yield pickle.load(children[i % workers].stdout)
    except EOFError as error:
        raise RuntimeError(
            "A process that draws pets stopped early; its error is above. Is the memory full?"
        ) from error
    finally:
        for child in children:
            child.kill()
            child.wait()
            child.stdout.close()
