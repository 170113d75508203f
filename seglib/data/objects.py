"""Batches of pictures and the objects in them: masks, boxes and classes.

What `seglib.data.pipeline` is to label maps, this is to instances, with the same order of steps:

    read -> resize -> cache -> shuffle -> augment -> batch -> prefetch

Boxes are never transformed: they are computed from the masks, last of all.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from seglib.core.constants import GRAY
from seglib.core.letterbox import letterbox_with_masks
from seglib.data import augment as augmentation
from seglib.data import pipeline

NO_OBJECT = -1  # the class of a row that holds no object


@dataclasses.dataclass(frozen=True)
class Cache:
    """Resized pictures and their objects, in memory.

    The objects of all pictures stand in one list, and their masks take a bit per pixel: 5,000
    pictures of 512 x 512 with 7 objects each take 5 GB, of which the masks are 1.1.

    Attributes:
        images: uint8 `[N, H, W, 3]`.
        masks: uint8 `[M, H, ceil(W / 8)]`, the rows of the masks packed by `np.packbits`.
        classes: int32 `[M]`.
        starts: int32 `[N + 1]`; picture `i` has the objects `starts[i]` to `starts[i + 1]`.
        names: names of the pictures' files.
    """

    images: np.ndarray
    masks: np.ndarray
    classes: np.ndarray
    starts: np.ndarray
    names: list


def read(examples, size, max_objects):
    """Resizes pictures and their objects and keeps them.

    Args:
        examples: dicts of `image` uint8 `[h, w, 3]`, `masks` bool `[n, h, w]`, `classes` `[n]` and
            `file_name`.
        size: `(H, W)`.
        max_objects: of more objects than that in a picture, the largest stay.

    Returns:
        a `Cache`.

    Raises:
        ValueError: if there are no examples.
    """
    images, packed, classes, counts, names = [], [], [], [], []
    for example in examples:
        image, masks = letterbox_with_masks(example["image"], example["masks"], size)
        areas = masks.sum(axis=(1, 2))
        largest = np.argsort(-areas, kind="stable")[:max_objects]
        kept = np.sort(largest[areas[largest] > 0])
        images.append(image)
        packed.append(np.packbits(masks[kept], axis=-1))
        classes.append(np.asarray(example["classes"], "int32")[kept])
        counts.append(len(kept))
        names.append(example["file_name"])
    if not images:
        raise ValueError("There are no pictures to load. Choose a larger split or set.")
    return Cache(
        images=np.stack(images),
        masks=np.concatenate(packed),
        classes=np.concatenate(classes),
        starts=np.concatenate([[0], np.cumsum(counts)]).astype("int32"),
        names=names,
    )


def build(
    cache,
    *,
    batch_size,
    max_objects,
    shuffle,
    augment,
    seed,
    min_area=1,
    paste=None,
    fresh=True,
):
    """Builds batches from a `Cache`.

    Args:
        cache: what `read` returned.
        max_objects: rows of the targets.
        augment: `None`, or a `seglib.data.augment.Augment`.
        min_area: objects of fewer pixels than that are left out.
        paste: `None`, or a `seglib.data.pasting.Paste`; it comes before the augmentation. The other
            arguments are those of `pipeline.epochs`.

    Returns:
        `tf.data.Dataset` of `(images, targets)`; see `seglib.data.scenes.load`. Its attribute
        `epoch` is that of `pipeline.build`.
    """
    check_augment(augment)
    width = cache.images.shape[2]
    rows = max(1, int(np.diff(cache.starts).max()))
    # Kept outside the graph, which would copy them.
    images, masks, classes, starts = (
        tf.Variable(array, trainable=False)
        for array in (cache.images, *_at_least_one(cache.masks, cache.classes), cache.starts)
    )

    def batch(index, batch_seed):
        slots = tf.gather(starts, index)[:, None] + tf.range(rows)  # (B, rows)
        exists = slots < tf.gather(starts, index + 1)[:, None]
        slots = tf.where(exists, slots, 0)
        shapes = unpack(masks.sparse_read(slots), width) * tf.cast(exists, "uint8")[..., None, None]
        labels = tf.where(exists, classes.sparse_read(slots), NO_OBJECT)
        pictures = images.sparse_read(index)
        paste_seed, augment_seed = tf.unstack(tf.random.split(batch_seed, 2))
        if paste is not None:
            pictures, shapes, labels = paste(pictures, shapes, labels, paste_seed)
        if augment is not None:
            pictures, shapes = transform(augment, pictures, shapes, augment_seed)
        return pictures, targets(shapes, labels, max_objects, min_area)

    return pipeline.epochs(
        batch,
        len(cache.images),
        batch_size=batch_size,
        shuffle=shuffle,
        seed=seed,
        fresh=fresh,
    )


def _at_least_one(masks, classes):
    """A row to read where no picture has any object."""
    if len(masks):
        return masks, classes
    return np.zeros((1, *masks.shape[1:]), masks.dtype), np.full(1, NO_OBJECT, classes.dtype)


def unpack(packed, width):
    """Turns bits back into pixels: uint8 `[..., ceil(W / 8)]` to 0 and 1, `[..., W]`."""
    bits = tf.bitwise.right_shift(packed[..., None], tf.constant([7, 6, 5, 4, 3, 2, 1, 0], "uint8"))
    bits = tf.bitwise.bitwise_and(bits, tf.constant(1, "uint8"))
    shape = [*packed.shape[:-1], packed.shape[-1] * 8]
    return tf.reshape(bits, [-1 if side is None else side for side in shape])[..., :width]


def transform(augment, images, masks, seed):
    """Applies an `Augment` to pictures and all their masks.

    Args:
        augment: a `seglib.data.augment.Augment`.
        images: uint8 `[B, H, W, 3]`.
        masks: uint8 `[B, N, H, W]`.
        seed: int tensor `[2]`.

    Returns:
        two of the same dtypes and, without a crop, the same shapes.
    """
    geometry_seed, color_seed = tf.unstack(tf.random.split(seed, 2))
    shape = tf.shape(images)
    transforms = augment.matrices(shape[0], shape[1], shape[2], geometry_seed)
    size = None if augment.crop is None else pipeline.as_size(augment.crop)
    images = augmentation.warp(images, transforms, size, fill=GRAY)
    masks = tf.transpose(masks, [0, 2, 3, 1])
    masks = augmentation.warp(masks, transforms, size, fill=0, nearest=True)
    return augment.change_color(images, color_seed), tf.transpose(masks, [0, 3, 1, 2])


def targets(masks, classes, rows, min_area=1):
    """Computes the boxes, and puts what has no object last.

    Args:
        masks: uint8 `[B, n, H, W]`, 0 or 1.
        classes: int32 `[B, n]`, -1 where there is no object.
        rows: number of rows `N` of the result; of more objects than that, the first stay.
        min_area: objects of fewer pixels than that are left out.

    Returns:
        dict of `boxes` float32 `[B, N, 4]`, `classes` int32 `[B, N]` and `masks` uint8
        `[B, N, H, W]`.
    """
    more = max(0, rows - masks.shape[1])
    masks = tf.pad(masks, [[0, 0], [0, more], [0, 0], [0, 0]])
    classes = tf.pad(classes, [[0, 0], [0, more]], constant_values=NO_OBJECT)
    areas = tf.reduce_sum(tf.cast(masks, "int32"), axis=[2, 3])
    kept = (areas >= max(1, min_area)) & (classes >= 0)
    order = tf.argsort(tf.cast(kept, "int32"), axis=1, direction="DESCENDING", stable=True)
    order = order[:, :rows]
    kept = tf.gather(kept, order, batch_dims=1)
    masks = tf.gather(masks, order, batch_dims=1) * tf.cast(kept, "uint8")[..., None, None]
    classes = tf.where(kept, tf.gather(classes, order, batch_dims=1), NO_OBJECT)
    return {"boxes": boxes_of(masks), "classes": classes, "masks": masks}


def boxes_of(masks):
    """Returns the tight boxes (y1, x1, y2, x2) of masks `[..., H, W]`; all zeros for an empty one.

    Args:
        masks: numbers or bool, non-zero inside.

    Returns:
        float32 `[..., 4]` in pixels, a pixel being one wide.

    Example:
        >>> boxes_of(tf.constant([[[0, 0, 0], [0, 1, 1]]])).numpy()
        array([[1., 1., 2., 3.]], dtype=float32)
    """
    inside = tf.cast(masks, "bool")
    bounds = []
    for axis in (-1, -2):  # which rows, which columns
        line = tf.reduce_any(inside, axis=axis)
        length = tf.shape(line)[-1]
        number = tf.range(length)
        first = tf.reduce_min(tf.where(line, number, length), axis=-1)
        last = tf.reduce_max(tf.where(line, number + 1, 0), axis=-1)
        bounds.append((tf.where(last > 0, first, 0), last))
    (y1, y2), (x1, x2) = bounds
    return tf.cast(tf.stack([y1, x1, y2, x2], axis=-1), "float32")


def box_of(mask):
    """Returns the box (y1, x1, y2, x2) around a NumPy mask `[H, W]` that is not empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return rows[0], columns[0], rows[-1] + 1, columns[-1] + 1


def as_example(image, targets):
    """Turns one row of a batch into what the metrics take: NumPy, without padding."""
    found = targets["classes"] >= 0
    return {
        "image": image,
        "boxes": targets["boxes"][found],
        "classes": targets["classes"][found].astype("int64"),
        "masks": targets["masks"][found].astype(bool),
    }


def check_augment(augment):
    """Raises unless it is `None` or an `Augment`."""
    if augment is not None and not isinstance(augment, augmentation.Augment):
        raise ValueError(
            f"augment is {augment!r}, expected None or a seglib.data.augment.Augment, such as "
            "augment.flip_only(): its matrix moves every object's mask with the picture."
        )


def check_rows(max_objects):
    """Raises unless the targets can have so many rows."""
    if isinstance(max_objects, bool) or max_objects != int(max_objects) or max_objects < 1:
        raise ValueError(f"max_objects is {max_objects!r}, expected a whole number of at least 1.")
