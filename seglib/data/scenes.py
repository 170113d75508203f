"""Scenes: pictures of several pets, each with a box, a class and a mask of its own.

The data of instance segmentation, from three sources that give the same batches:

- drawn scenes, which need no network: cats and dogs that hide parts of each other;
- real pets, cut out by their trimaps and pasted into each other's pictures (`pasting`);
- `from_coco`: your own pictures, with annotations in COCO's format.

`seglib.data.objects` builds the batches.
"""

from seglib.data import coco, objects, pasting, pipeline, sample
from seglib.data import pets as real_pets

CLASSES = ("cat", "dog")
SOURCES = ("drawn", "pasted")

TRAIN = 800
TEST = 160
PICTURE_SIZE = 128
PETS = (2, 4)
MAX_OBJECTS = 8
MIN_AREA = 16


def load(
    split,
    *,
    source="drawn",
    image_size=PICTURE_SIZE,
    batch_size=8,
    max_objects=MAX_OBJECTS,
    augment=None,
    shuffle=None,
    seed=0,
    pets=PETS,
    data_dir=None,
    validation_fraction=0.1,
    min_area=MIN_AREA,
):
    """Loads a split of the scenes as batches of pictures and objects.

    Drawn scenes are drawn on first use, which takes seconds, and kept on disk. Pasted ones are
    composed anew in each epoch of training, from the pets of the split alone. The arguments that
    are not described here are those of `seglib.data.pets.load`.

    Args:
        source: `"drawn"`, or `"pasted"` for the real pets in each other's pictures.
        image_size: `int` or `(H, W)` in pixels. Drawn scenes are squares of the longer side.
        max_objects: rows `N` of the targets.
        augment: `None` or a `seglib.data.augment.Augment`, such as `augment.flip_only()`; the boxes
            are computed afterwards, from the masks.
        seed: order, pasting and augmentation of epoch *e* are pure functions of `(seed, e)`; of
            `"validation"` and `"test"`, each epoch is the same.
        pets: `(fewest, most)` pets in a scene. A pasted scene may have fewer, where no more fit,
            and only pictures with room for more pets become scenes.
        data_dir: for drawn scenes what `prepare` returned, by default the standard set, drawn if
            need be; for pasted ones TFDS's directory, as in `seglib.data.pets.load`.
        min_area: pets of fewer visible pixels than that are left out of the targets.

    Returns:
        `tf.data.Dataset` of `(images, targets)`: uint8 `[B, H, W, 3]` with values 0 to 255, and a
        dict of

        - `"boxes"`: float32 `[B, N, 4]`, (y1, x1, y2, x2) in pixels, a pixel being one wide,
          tight around what is seen of each pet;
        - `"classes"`: int32 `[B, N]`, 0 cat, 1 dog, -1 in rows without an object;
        - `"masks"`: uint8 `[B, N, H, W]`, 1 where the pet is seen; no two share a pixel.

        Rows without an object come last, their boxes and masks are 0. One iteration is one epoch;
        the attribute `epoch` is that of `seglib.data.pipeline.build`.

    Raises:
        ValueError: for an unknown split or source, or sizes and numbers that make no sense.
        FileNotFoundError: if `data_dir` holds no pets.
        seglib.data.pipeline.CorruptDataError: if a record cannot be read or decoded.

    Example:
        >>> train = scenes.load("train", image_size=128, augment=augment.flip_only())
        >>> model.fit(train, epochs=20)
    """
    size = pipeline.as_size(image_size)
    training = split in ("train", "trainval")
    cache, paste = _read(split, source, size, max_objects, pets, data_dir, validation_fraction)
    return objects.build(
        cache,
        batch_size=batch_size,
        max_objects=max_objects,
        shuffle=training if shuffle is None else shuffle,
        augment=augment,
        seed=seed,
        min_area=min_area,
        paste=paste,
        fresh=training,
    )


def examples(
    split,
    *,
    source="drawn",
    image_size=PICTURE_SIZE,
    seed=0,
    pets=PETS,
    data_dir=None,
    validation_fraction=0.1,
    min_area=MIN_AREA,
    limit=None,
):
    """Yields the scenes of a split one by one, in a fixed order, for evaluation.

    Args:
        seed: decides what is pasted where; the scenes are those of `load`'s first epoch.
        limit: how many, or `None` for all; the others are those of `load`.

    Yields:
        dicts with `image` uint8 `[H, W, 3]`, `boxes` float32 `[n, 4]`, `classes` int64 `[n]`,
        `masks` bool `[n, H, W]`, back to front, and `file_name`: the truth as
        `seglib.metrics.COCOAveragePrecision` takes it.

    Example:
        >>> for truth in scenes.examples("test"):
        ...     (detection,) = model.detect([truth["image"]])
        ...     metric.update_state(truth, detection)
    """
    rows = max(MAX_OBJECTS, pets[1])
    cache, paste = _read(
        split,
        source,
        pipeline.as_size(image_size),
        rows,
        pets,
        data_dir,
        validation_fraction,
        limit,
    )
    batches = objects.build(
        cache,
        batch_size=8,
        max_objects=rows,
        shuffle=False,
        augment=None,
        seed=seed,
        min_area=min_area,
        paste=paste,
    )
    rows = batches.unbatch().take(-1 if limit is None else limit).as_numpy_iterator()
    for (image, targets), name in zip(rows, cache.names, strict=False):
        yield {**objects.as_example(image, targets), "file_name": name}


def from_coco(
    annotations,
    images_folder,
    *,
    image_size=128,
    batch_size=8,
    max_objects=20,
    augment=None,
    shuffle=True,
    seed=0,
    classes=None,
    crowd="ignore",
    on_error="raise",
    min_area=MIN_AREA,
):
    """Loads pictures and objects that a COCO JSON file describes, as the batches of `load`.

    Pictures keep their proportions; what that leaves free is gray. The categories not in use are
    left out: their pixels are background.

    The arguments that are not described here are those of `seglib.data.coco.load` and of `load`.

    Args:
        max_objects: rows `N` of the targets; of more objects in a picture, the largest stay.
        classes: as in `coco.load`, but class ids count from 0: there is no background.
        crowd: `"ignore"` leaves regions with `iscrowd: 1` out, `"class"` takes each as an object.
        on_error: `"raise"`, or `"skip"` to leave out the pictures that cannot be used;
            `seglib.data.coco.verify` says which those are.

    Returns:
        `tf.data.Dataset` of `(images, targets)` as in `load`, with `num_classes` as an attribute,
        which `MaskRCNN.fit` compares with its own. Masks may overlap where the annotations do.

    Raises:
        ValueError, FileNotFoundError: as `coco.load` does.

    Example:
        >>> train = scenes.from_coco("train.json", "images", image_size=256)
        >>> names = scenes.class_names("train.json")
    """
    size = pipeline.as_size(image_size)
    objects.check_rows(max_objects)
    if crowd not in ("ignore", "class"):
        raise ValueError(f"crowd is {crowd!r}, expected 'ignore' or 'class'.")
    options = {"classes": classes, "background": None, "crowd": crowd, "on_error": on_error}
    found = coco.examples(annotations, images_folder, **options)
    dataset = objects.build(
        objects.read(found if crowd == "class" else map(_without_crowds, found), size, max_objects),
        batch_size=batch_size,
        max_objects=max_objects,
        shuffle=shuffle,
        augment=augment,
        seed=seed,
        min_area=min_area,
    )
    dataset.num_classes = len(class_names(annotations, classes=classes))
    return dataset


def class_names(annotations, *, classes=None):
    """Returns the names of the classes that `from_coco` gives, as a tuple by class id."""
    return coco.class_names(annotations, classes=classes, background=None)


def prepare(
    *, train=TRAIN, test=TEST, size=PICTURE_SIZE, pets=PETS, seed=sample.SEED, cache_dir=None
):
    """Draws the scenes unless they are on disk already; see `seglib.data.sample.prepare`.

    Args:
        pets: `(fewest, most)` pets in a scene; the others are those of `sample.prepare`.

    Returns:
        `pathlib.Path`, for `load(data_dir=…)`.
    """
    return sample.prepare(
        train=train, test=test, size=size, crowd=pets, seed=seed, cache_dir=cache_dir
    )


def _read(split, source, size, max_objects, pets, data_dir, validation_fraction, limit=None):
    """Returns the pictures as a `Cache`, and a `Paste` or `None`."""
    _check(source, pets, max_objects)
    if source == "pasted":
        found = real_pets.examples(
            split, data_dir=data_dir, validation_fraction=validation_fraction
        )
        cache, cut_outs = pasting.read(found, size)
        return cache, pasting.Paste(cut_outs, pets)
    found = sample.examples(
        split,
        data_dir=prepare(size=max(size), pets=pets) if data_dir is None else data_dir,
        validation_fraction=validation_fraction,
        limit=limit,
    )
    return objects.read(map(_as_objects, found), size, max_objects), None


def _as_objects(example):
    return {**example, "masks": example["instances"], "classes": example["instance_species"]}


def _without_crowds(example):
    single = example["iscrowd"] == 0
    return {**example, "masks": example["masks"][single], "classes": example["classes"][single]}


def _check(source, pets, max_objects):
    if source not in SOURCES:
        raise ValueError(
            f"source is {source!r}, expected one of {', '.join(map(repr, SOURCES))}. Sets in "
            "COCO's format are loaded by from_coco."
        )
    objects.check_rows(max_objects)
    fewest, most = pets
    if not 1 <= fewest <= most <= max_objects:
        raise ValueError(
            f"pets is {pets} and max_objects {max_objects}, expected (fewest, most) with "
            "1 <= fewest <= most <= max_objects, so that every pet finds a row."
        )
