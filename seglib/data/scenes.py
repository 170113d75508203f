"""Scenes: pictures of several pets, each with a box, a class and a mask of its own.

The data of instance segmentation. Drawn scenes need no network: two to four cats and dogs that hide
parts of each other, with exact masks. All sources give the same batches; `seglib.data.objects`
builds them.
"""

from seglib.data import objects, pipeline, sample

CLASSES = ("cat", "dog")

TRAIN = 800
TEST = 160
PICTURE_SIZE = 128
PETS = (2, 4)
MAX_OBJECTS = 8


def load(
    split,
    *,
    image_size=PICTURE_SIZE,
    batch_size=8,
    max_objects=MAX_OBJECTS,
    augment=None,
    shuffle=None,
    seed=0,
    pets=PETS,
    data_dir=None,
    validation_fraction=0.1,
):
    """Loads a split of the scenes as batches of pictures and objects.

    The scenes are drawn on first use, which takes seconds, and kept on disk.

    Args:
        split: `"train"`, `"validation"`, `"trainval"` (both together) or `"test"`.
        image_size: `int` or `(H, W)` in pixels. Scenes are drawn as squares of the longer side.
        batch_size: pictures per batch; the last batch may be smaller.
        max_objects: rows `N` of the targets.
        augment: `None` or a `seglib.data.augment.Augment`, such as `augment.flip_only()`; it runs
            after the cache, anew in each epoch, on picture and masks; boxes follow the masks.
        shuffle: `None` shuffles `"train"` and `"trainval"` only.
        seed: order and augmentation of epoch *e* are pure functions of `(seed, e)`.
        pets: `(fewest, most)` pets in a scene.
        data_dir: what `prepare` returned; by default the standard set, drawn if need be.
        validation_fraction: share of trainval that is kept for validation.

    Returns:
        `tf.data.Dataset` of `(images, targets)`: uint8 `[B, H, W, 3]` with values 0 to 255, and a
        dict of

        - `"boxes"`: float32 `[B, N, 4]`, (y1, x1, y2, x2) in pixels, a pixel being one wide,
          tight around what is seen of each pet;
        - `"classes"`: int32 `[B, N]`, 0 cat, 1 dog, -1 in rows without an object;
        - `"masks"`: uint8 `[B, N, H, W]`, 1 where the pet is seen; no two share a pixel.

        Rows without an object come last and are zero. One iteration is one epoch.

    Raises:
        ValueError: for an unknown split, or sizes and numbers that make no sense.
        FileNotFoundError: if `data_dir` holds no drawn pets.
        seglib.data.pipeline.CorruptDataError: if a record cannot be read or decoded.

    Example:
        >>> train = scenes.load("train", image_size=128, augment=augment.flip_only())
        >>> model.fit(train, epochs=20)
    """
    size = pipeline.as_size(image_size)
    check_pets(pets, max_objects)
    found = examples(
        split,
        image_size=size,
        pets=pets,
        data_dir=data_dir,
        validation_fraction=validation_fraction,
    )
    return objects.build(
        objects.read(found, size, max_objects, "Choose a larger split or set."),
        batch_size=batch_size,
        max_objects=max_objects,
        shuffle=split in ("train", "trainval") if shuffle is None else shuffle,
        augment=augment,
        seed=seed,
    )


def examples(
    split,
    *,
    image_size=PICTURE_SIZE,
    pets=PETS,
    data_dir=None,
    validation_fraction=0.1,
    limit=None,
):
    """Yields the scenes of a split one by one, for evaluation.

    Args:
        split: as in `load`; so are the others.
        limit: how many, or `None` for all.

    Yields:
        dicts with `image` uint8 `[H, W, 3]`, `boxes` float32 `[n, 4]`, `classes` int64 `[n]`,
        `masks` bool `[n, H, W]` and `file_name`: the truth as
        `seglib.metrics.COCOAveragePrecision` takes it.
    """
    size = pipeline.as_size(image_size)
    if data_dir is None:
        data_dir = prepare(size=max(size), pets=pets)
    found = sample.examples(
        split, data_dir=data_dir, validation_fraction=validation_fraction, limit=limit
    )
    for example in found:
        image, masks = objects.letterbox(example["image"], example["instances"], size)
        yield {
            "image": image,
            "boxes": objects.boxes_of(masks).numpy(),
            "classes": example["instance_species"],
            "masks": masks,
            "file_name": example["file_name"],
        }


def prepare(
    *, train=TRAIN, test=TEST, size=PICTURE_SIZE, pets=PETS, seed=sample.SEED, cache_dir=None
):
    """Draws the scenes unless they are on disk already; see `seglib.data.sample.prepare`.

    Args:
        train: scenes in trainval.
        test: scenes in the test split.
        size: side of a scene in pixels.
        pets: `(fewest, most)` pets in a scene.
        seed: one seed is one set.
        cache_dir: where drawn sets are kept.

    Returns:
        `pathlib.Path`, for `load(data_dir=…)`.
    """
    return sample.prepare(
        train=train, test=test, size=size, pets=pets, seed=seed, cache_dir=cache_dir
    )


def check_pets(pets, max_objects):
    """Raises unless every pet of a scene finds a row."""
    fewest, most = pets
    if not 1 <= fewest <= most <= max_objects:
        raise ValueError(
            f"pets is {pets} and max_objects {max_objects}, expected (fewest, most) with "
            "1 <= fewest <= most <= max_objects."
        )
