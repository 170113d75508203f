"""What the loaders of your own data share: pairs read one by one, and broken ones named.

`coco`, `folder` and `tfrecord` say where each picture and its label map lie; this module reads,
checks and resizes them, and hands them to the pipeline that the pets go through.
"""

import concurrent.futures
import dataclasses
import io
import itertools
from collections.abc import Callable

import numpy as np
import tensorflow as tf
from PIL import Image, UnidentifiedImageError

from seglib.core.constants import IGNORE_LABEL
from seglib.core.letterbox import letterbox_with_masks, nearest
from seglib.data import label_maps, pictures, pipeline
from seglib.data.pictures import PNG_START

ON_ERROR = ("raise", "skip")
PNG_END = b"\0\0\0\0IEND\xaeB`\x82"

_CHUNK = 64  # pairs that are held undecoded at a time


class BadPairError(pipeline.CorruptDataError, ValueError):
    """A picture or a label map that cannot be used; the message names the file and the fault."""


@dataclasses.dataclass(frozen=True)
class Pair:
    """A picture and its label map, not read yet.

    Args:
        where: what an error calls it, such as a file and the number of a record.
        read: a function without arguments that returns the picture's encoded file (bytes) and the
            label map (uint8 `[H, W]`), or raises `ValueError` or `OSError`.
        name: the picture's file name.
        key: what the loader knows the pair by.
    """

    where: str
    read: Callable
    name: str = ""
    key: object = None


class Pairs:
    """Pairs as `pipeline.build` reads them: decoded, checked and resized, several at a time.

    Args:
        pairs: an iterable of `Pair`s.
        keep_aspect: `False` squeezes pictures to the size asked for; `True` keeps their proportions
            and fills the rest with gray, which the label map ignores.
        num_classes: `None`, or the number of classes; a larger label but 255 is an error.
        on_error: `"raise"`, or `"skip"` to leave out a pair that cannot be used.

    Attributes:
        skipped: one message for each pair left out, known once the pairs have been read.

    Raises:
        ValueError: for an unknown `on_error`.
    """

    def __init__(self, pairs, *, keep_aspect=False, num_classes=None, on_error="raise"):
        check_on_error(on_error)
        self.pairs = pairs
        self.keep_aspect = keep_aspect
        self.num_classes = num_classes
        self.on_error = on_error
        self.skipped = []
        self.labels = []  # those in each mask that was read

    def read(self, size):
        """Returns NumPy uint8 `[N, H, W, 3]` and `[N, H, W]`.

        Raises:
            BadPairError: for the first pair that cannot be used, unless such pairs are skipped.
            ValueError: if there are no pairs at all, or all masks hold is 0 and 255.
        """
        decoded = list(self.decoded(size))
        if not decoded:
            number = len(self.skipped)
            left_out = f" {number} were left out: {self.skipped[0]}" if number else ""
            raise ValueError(f"There are no pictures to load.{left_out}")
        self.check_classes()
        images, masks, _ = zip(*decoded, strict=True)
        return np.stack(images), np.stack(masks)

    def check_classes(self):
        """Raises a ValueError if nothing but class 0 and ignored pixels is in the masks."""
        found = set(itertools.chain.from_iterable(self.labels))
        if IGNORE_LABEL in found and found <= {0, IGNORE_LABEL}:
            raise ValueError(
                f"All masks together hold only the labels {sorted(found)}, and {IGNORE_LABEL} is "
                "ignored. If the masks are black and white, pass label_map={0: 0, 255: 1}."
            )

    def decoded(self, size):
        """Yields `(image, label map, Pair)` in order; `size=None` keeps each picture's own size."""

        def attempt(pair):
            try:
                return *self.decode(pair, size), pair
            except BadPairError as error:
                return error

        pairs = iter(self.pairs)
        with concurrent.futures.ThreadPoolExecutor() as pool:
            while chunk := list(itertools.islice(pairs, _CHUNK)):
                for result in pool.map(attempt, chunk):
                    if not isinstance(result, BadPairError):
                        yield result
                    elif self.on_error == "raise":
                        raise result
                    else:
                        self.skipped.append(str(result))

    def decode(self, pair, size):
        """Reads one pair and returns `(uint8 [H, W, 3], uint8 [H, W])`."""
        try:
            data, mask = pair.read()
            check_sizes(data, mask)
            if self.num_classes is not None:
                check_labels(mask, self.num_classes)
            self.labels.append(np.flatnonzero(np.bincount(mask.ravel())).tolist())
            return resize(data, mask, size, self.keep_aspect)
        except FileNotFoundError as error:
            raise BadPairError(f"{pair.where}: the file {error.filename} is missing.") from error
        except tf.errors.OpError as error:
            fault = f"the picture cannot be decoded: {pipeline.first_line(error)}."
            raise BadPairError(f"{pair.where}: {fault}") from error
        except (ValueError, OSError) as error:
            raise BadPairError(f"{pair.where}: {error}") from error


def build(pairs, **options):
    """Returns `pipeline.build(pairs, **options)` with `skipped`, the messages, as an attribute."""
    dataset = pipeline.build(pairs, **options)
    dataset.skipped = tuple(pairs.skipped)
    return dataset


def examples(pairs, limit=None):
    """Yields the pairs at their own size as dicts `image`, `mask` and `file_name`."""
    for image, mask, pair in itertools.islice(pairs.decoded(None), limit):
        yield {"image": image, "mask": mask, "file_name": pair.name}


def verify(pairs):
    """Reads and decodes every pair and returns `(count, faults)`: how many are good, and messages.

    Args:
        pairs: `Pairs` with `on_error="skip"`.
    """
    count = sum(1 for _ in pairs.decoded(None))
    try:
        pairs.check_classes()
    except ValueError as error:
        return count, [*pairs.skipped, str(error)]
    return count, pairs.skipped


# --- one pair -----------------------------------------------------------------------------------


def check_sizes(data, mask):
    """Raises unless picture and label map have one size; nothing is decoded before that is sure."""
    height, width = pictures.size_of(data)
    if (height, width) != mask.shape:
        hint = hint_at_turn(data, mask.shape)
        raise ValueError(
            f"the picture has {width} x {height} pixels and the mask {mask.shape[1]} x "
            f"{mask.shape[0]} (width x height), expected the same.{hint}"
        )


def hint_at_turn(data, size):
    """Returns what may have happened if a picture has a size but for a quarter turn."""
    if pictures.size_of(data) != size[::-1]:
        return ""
    if pictures.orientation(data) < 5:
        return " Was the picture turned, or its EXIF orientation removed, after the labeling?"
    return (
        " The EXIF orientation turns the picture, as viewers and labeling tools do; the mask fits "
        "it unturned. Turn the mask, or remove the orientation from the picture's file."
    )


def check_labels(mask, num_classes):
    """Raises if the label map holds anything but 0 … C-1 and 255."""
    bad = np.unique(mask[(mask >= num_classes) & (mask != IGNORE_LABEL)])
    if bad.size:
        raise ValueError(
            f"the mask holds the labels {bad[:8].tolist()}, expected 0 to {num_classes - 1} or "
            f"{IGNORE_LABEL} (ignored)."
        )


def resize(data, mask, size, keep_aspect):
    """Decodes the picture and brings both to `size`: bilinear, and to the nearest pixel."""
    if size is None or not keep_aspect:
        image = pictures.decode(data, size)
        return image, mask if size is None else nearest(mask, size)
    image = pictures.decode(data)
    return letterbox_with_masks(image, mask, size, fill=IGNORE_LABEL, centered=True)


def decode_mask(data):
    """Decodes a PNG file of one number per pixel into uint8 `[H, W]`; see `decode_png`."""
    return as_uint8(decode_png(data))


def as_label_map(mask, label_map):
    """Turns what a PNG file stores into class ids."""
    has_colors = isinstance(label_map, label_maps.LabelMap)
    if mask.ndim == 3 and not has_colors and (mask == mask[..., :1]).all():
        mask = mask[..., 0]  # gray stored as RGB
    if mask.ndim == 3:
        if not has_colors:
            raise ValueError(
                "it stores colors, expected one number per pixel. Pass label_map= with a "
                "label_maps.LabelMap that names the color of each class."
            )
        return label_map.from_color(mask)
    mask = as_uint8(mask)
    if label_map is None:
        return mask
    return label_map.to_ids(mask) if has_colors else label_maps.replace(mask, label_map)


def as_uint8(mask):
    """Returns the numbers of a mask as uint8 `[H, W]`, or raises `ValueError`."""
    if mask.ndim != 2:
        raise ValueError("the mask stores colors, expected one number per pixel.")
    if mask.max(initial=0) > 255:
        raise ValueError(f"the mask holds the label {mask.max()}, expected at most 255.")
    return mask.astype("uint8")


def decode_png(data):
    """Decodes a mask's PNG file into what it stores: numbers `[H, W]`, or colors `[H, W, 3]`.

    A palette PNG gives its indices (TensorFlow's decoder gives the colors), and a gray PNG of 1, 2
    or 4 bits its numbers as they are. It is turned by its EXIF orientation, as pictures are. Every
    chunk's checksum is compared.

    Raises:
        ValueError: if it is no PNG, is damaged, or is transparent somewhere.
    """
    if not data.startswith(PNG_START):
        raise ValueError(f"the mask is no PNG file: it starts with {data[:8]!r}.")
    if PNG_END not in data:
        raise ValueError("the mask's PNG file is cut off.")
    try:
        # Decoding does not compare the checksum of the pixels; `verify` does, and uses a file up.
        Image.open(io.BytesIO(data), formats=["PNG"]).verify()
        with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
            mode, mask = picture.mode, np.asarray(picture)
    except UnidentifiedImageError as error:  # its message is an address in memory
        raise ValueError("the mask's PNG file is damaged at its start.") from error
    except Exception as error:  # Pillow raises half a dozen kinds for a broken file
        raise ValueError(f"the mask cannot be decoded: {error}.") from error
    depth, kind = data[24], data[25]
    if kind == 0 and depth in (2, 4):  # Pillow spreads gray levels to 0 … 255
        mask = mask // (255 // (2**depth - 1))
    if mode in ("LA", "RGBA"):
        if (mask[..., -1] < 255).any():
            raise ValueError("the mask is transparent in places, expected a label everywhere.")
        mask = mask[..., :-1]
    mask = mask[..., 0] if mode == "LA" else mask
    return pictures.turn(mask, pictures.orientation(data))


def check_on_error(on_error):
    if on_error not in ON_ERROR:
        raise ValueError(f"on_error is {on_error!r}, expected 'raise' or 'skip'.")
