"""Data sets with annotations in COCO's JSON format: polygons and run lengths, to label maps.

One JSON file lists the pictures, the categories, and for each object its picture, its category and
its outline: polygons, or the lengths of alternating runs of pixels outside and inside (RLE). Most
labeling tools export it.

A picture with an annotation that cannot be drawn is refused, or left out, as a whole: drawn without
that object, its label map would be wrong where the object is.
"""

import collections
import dataclasses
import functools
import itertools
import json
import math
import os
import warnings
from pathlib import Path

import numpy as np

from seglib.core.constants import IGNORE_LABEL
from seglib.data import objects, pairs, pictures
from seglib.data.pairs import BadPairError

OVERLAPS = ("smallest", "last", "ignore")
CROWDS = ("ignore", "class", "background")

# How many times the picture's longer side an outline may lie outside of it. Less is cut off, as
# pycocotools does; more is no rounding, and pycocotools takes memory for all of it.
REACH = 4


def load(
    annotations,
    images_folder,
    *,
    image_size=128,
    batch_size=32,
    augment=None,
    shuffle=True,
    seed=0,
    keep_aspect=False,
    classes=None,
    background="background",
    overlap="smallest",
    crowd="ignore",
    on_error="raise",
):
    """Loads pictures and the label maps that a COCO JSON file describes, as batches.

    The arguments that are not described here are those of `seglib.data.pets.load` and
    `seglib.data.pairs.Pairs`.

    Args:
        annotations: path of the JSON file, or what it holds as a dict.
        images_folder: folder that the `file_name`s in the JSON start from.
        shuffle: whether each epoch has an order of its own; `False` keeps the file's order.
        classes: names of the categories to use, in the order of their class ids; by default all,
            in the order of their category ids, which need not be contiguous.
        background: name of class 0, to which all unlabeled pixels belong, as do the categories
            left out and one of this name; `None` if there is no such class: then they are ignored,
            and class 0 is the first category.
        overlap: which of two objects a pixel belongs to: to the `"smallest"` in area (a cup on a
            table; of equal ones, the last), to the `"last"` in the file, or to neither where
            their classes differ (`"ignore"`).
        crowd: what a region with `iscrowd: 1` becomes: `"ignore"`d pixels, its `"class"`, or
            `"background"`, that is, nothing. Single objects lie on top of it.

    Returns:
        `tf.data.Dataset` as from `pets.load`, with class ids as in `class_names` and 255 where
        ignored. Its attribute `skipped` has a message per picture left out. A warning tells what
        was mended: outlines cut off at the frame, parts that are no area.

    Raises:
        ValueError: if the JSON contradicts itself or its pictures, or cannot be drawn; the message
            names the file and the id of the annotation. Pictures that are missing or damaged raise
            `seglib.data.pairs.BadPairError`, which is a `ValueError`, too.
        FileNotFoundError: if there is no such JSON file.

    Example:
        >>> train = coco.load("train.json", "images", image_size=256)
        >>> model = deeplab_v3_plus(num_classes=len(coco.class_names("train.json")))
        >>> model.fit(train, epochs=20)

    Reference:
        Lin et al.: Microsoft COCO: Common Objects in Context, ECCV 2014.
    """
    index = Index.read(annotations, classes=classes, background=background, on_error=on_error)
    index.check_crowds(crowd)
    found = index.pairs(images_folder, overlap=overlap, crowd=crowd)
    dataset = pairs.build(
        pairs.Pairs(found, keep_aspect=keep_aspect, on_error=on_error),
        image_size=image_size,
        batch_size=batch_size,
        shuffle=shuffle,
        augment=augment,
        seed=seed,
    )
    dataset.skipped = (*index.skipped, *dataset.skipped)
    index.warn()
    return dataset


def class_names(annotations, *, classes=None, background="background"):
    """Returns a tuple of the classes' names, by class id; the arguments are those of `load`."""
    return Index.read(annotations, classes=classes, background=background).names


def examples(
    annotations,
    images_folder,
    *,
    classes=None,
    background="background",
    overlap="smallest",
    crowd="ignore",
    on_error="raise",
    limit=None,
):
    """Yields the pictures at full size, with every object's mask, box and class.

    Args:
        on_error: `"raise"`, or `"skip"` to leave out what cannot be used; `verify` says what.
        limit: how many, or `None` for all; the others are those of `load`.

    Yields:
        dicts with `image` uint8 `[H, W, 3]`, `mask` uint8 `[H, W]`, `file_name`, `image_id`, and
        with N rows each, in the file's order: `classes` int64 `[N]` (class ids); `masks` bool
        `[N, H, W]`, whole objects, which may overlap; `boxes` float32 `[N, 4]` around the masks
        (y1, x1, y2, x2 in pixels, a pixel being one wide); `iscrowd` int64 `[N]`;
        `annotation_ids`. This is the truth as `seglib.metrics.COCOAveragePrecision` takes it. An
        object too thin to cover a pixel has no row.
    """
    index = Index.read(annotations, classes=classes, background=background, on_error=on_error)
    found = pairs.Pairs(index.pairs(images_folder, overlap=overlap, crowd=crowd), on_error=on_error)
    index.check_crowds(crowd)
    records = {record["id"]: record for record in index.images}
    for image, mask, pair in itertools.islice(found.decoded(None), limit):
        record = records[pair.key]
        instances = index.instances(record, *mask.shape)
        yield {
            "image": image,
            "mask": mask,
            "file_name": pair.name,
            "image_id": pair.key,
            **as_arrays([i for i in instances if i.mask.any()], *mask.shape),
        }
    index.warn()


def verify(annotations, images_folder, *, classes=None):
    """Reads every picture, draws every annotation, and returns what is wrong with them.

    Returns:
        `(count, faults)`: the number of pictures that can be used, and a list with one message for
        each fault, those among them that `load` mends and warns of.
    """
    index = Index.read(annotations, classes=classes, on_error="skip")
    found = pairs.Pairs(index.pairs(images_folder), on_error="skip")
    count = sum(1 for _ in found.decoded(None))
    try:
        index.check_crowds("ignore")
    except ValueError as error:
        index.mended.append(str(error))
    return count, [*index.skipped, *found.skipped, *sorted(set(index.mended))]


@dataclasses.dataclass(frozen=True)
class Instance:
    """One object: its class id, its mask (bool `[H, W]`), and whether it is a crowd."""

    annotation_id: object
    class_id: int
    mask: np.ndarray
    iscrowd: bool


# --- the JSON file --------------------------------------------------------------------------------


class Index:
    """What a COCO JSON file says, checked as far as that needs no picture.

    Attributes:
        where: what errors call the file.
        names: names of the classes, by class id.
        images: the records of the pictures, in the file's order.
        skipped: one message for each annotation or picture left out.
        mended: one message for each thing that is not as it should be but can be used.
    """

    @classmethod
    def read(cls, annotations, **kwargs):
        if isinstance(annotations, dict):
            return cls(annotations, "the annotations", **kwargs)
        where = os.fspath(annotations)
        try:
            with open(where, encoding="utf-8-sig") as file:  # with or without a byte-order mark
                content = json.load(file)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{where} is no JSON file: {error}.") from error
        return cls(content, where, **kwargs)

    def __init__(self, content, where, *, classes=None, background="background", on_error="raise"):
        pairs.check_on_error(on_error)
        self.where, self.on_error, self.skipped, self.mended = where, on_error, [], []
        for key in ("images", "annotations", "categories"):
            if not isinstance(content, dict) or not isinstance(content.get(key), list):
                raise ValueError(
                    f"{where} has no list {key!r}, expected COCO's format: an object with the "
                    "lists 'images', 'annotations' and 'categories'."
                )
        self.names, self.class_ids = self._read_categories(
            content["categories"], classes, background
        )
        self.fill = IGNORE_LABEL if background is None else 0
        self.images = self._read_images(content["images"])
        self.rows, self.faults = self._read_annotations(content["annotations"])

    def _read_categories(self, categories, classes, background):
        """Returns the names by class id, and a dict from category id to class id."""
        named = {}
        for category in categories:
            number = _id(_get(category, "id"))
            where = f"{self.where}: category {_short(number)}"
            if number is None or not isinstance(category.get("name"), str):
                raise ValueError(f"{where} needs an 'id' and a 'name': {_short(category)}.")
            if number in named or category["name"] in named.values():
                raise ValueError(f"{where} ({category['name']!r}) is listed twice.")
            named[number] = category["name"]
        ids = {name: number for number, name in named.items()}
        if classes is None:
            classes = [named[number] for number in sorted(named, key=_by_type)]
        unknown = [name for name in classes if name not in ids]
        if unknown or len(set(classes)) < len(classes):
            raise ValueError(
                f"classes is {list(classes)}, expected different names out of {list(ids)}."
            )
        as_background = [name for name in classes if name == background]
        if as_background:
            self.mended.append(
                f"{self.where}: the category {background!r} is class 0, with all unlabeled pixels."
            )
            classes = [name for name in classes if name != background]
        names = (() if background is None else (background,)) + tuple(classes)
        if not 1 <= len(names) <= IGNORE_LABEL:
            raise ValueError(f"{self.where} gives {len(names)} classes, expected 1 to 255.")
        first = len(names) - len(classes)
        numbers = {ids[c]: first + i for i, c in enumerate(classes)}
        return names, dict.fromkeys(named) | numbers | {ids[c]: 0 for c in as_background}

    def _read_images(self, images):
        """Returns the records of the pictures; of two with one id or one file, neither is sure."""
        images = [self._normalized(record) for record in images]
        ids, files = (
            collections.Counter(r[key] for r in images if isinstance(_get(r, key), int | str))
            for key in ("id", "file_name")
        )
        kept = []
        for record in images:
            number, name = _get(record, "id"), _get(record, "file_name")
            if number is None or not isinstance(name, str) or not name:
                fault = f"needs an 'id' and a 'file_name': {_short(record)}"
            elif any(_bad_side(record.get(side)) for side in ("height", "width")):
                fault = (
                    f"has the size {_short(record.get('width'))} x {_short(record.get('height'))}, "
                    "expected whole numbers of at least 1"
                )
            elif ids[number] > 1:
                fault = "is listed twice"
            elif files[name] > 1:
                fault = f"names the file {name!r}, as another picture does"
            else:
                kept.append(record)
                continue
            self._fail(f"{self.where}: picture {_short(number)} {fault}.")
        return kept

    def _normalized(self, record):
        """Returns a picture's record with its id and size as whole numbers and "/" in its name."""
        if not isinstance(record, dict):
            return record
        sides = {s: _whole(record[s], record[s]) for s in ("height", "width") if s in record}
        name = record.get("file_name")
        if isinstance(name, str):  # Windows writes "\\" between folders
            name = name.replace("\\", "/")
        return record | sides | {"id": _id(record.get("id")), "file_name": name}

    def _read_annotations(self, annotations):
        """Sorts the annotations by picture; what is wrong with a row spoils its picture."""
        rows = {record["id"]: [] for record in self.images}
        by_text = {str(number): number for number in rows}
        faults, seen = {}, set()
        for row in annotations:
            number, picture, category = (
                _id(_get(row, key)) for key in ("id", "image_id", "category_id")
            )
            where = f"{self.where}: annotation {_short(number)}"
            if picture not in rows and str(picture) not in by_text:
                self._fail(
                    f"{where} belongs to the picture {_short(picture)}, which is not listed."
                )
                continue
            if picture not in rows:
                fault = f"has image_id {_short(picture)}, expected {by_text[str(picture)]!r}"
                picture = by_text[str(picture)]
            elif number is None:
                fault = "needs an 'id'"
            elif number in seen:
                fault = "is listed twice"
            elif category not in self.class_ids:
                fault = f"has the category {_short(category)}, which is not listed"
            elif _is_number(row.get("iscrowd", 0)) and row.get("iscrowd", 0) in (0, 1):
                seen.add(number)
                rows[picture].append(row | {"category_id": category})
                continue
            else:
                fault = f"has iscrowd {_short(row['iscrowd'])}, expected 0 or 1"
            faults.setdefault(picture, f"annotation {_short(number)} {fault}.")
        return rows, faults

    def _fail(self, message):
        if self.on_error == "raise":
            raise BadPairError(message)
        self.skipped.append(message)

    def check_crowds(self, crowd):
        """Raises a ValueError if every annotation is a crowd, and crowds are left out."""
        used = [
            row.get("iscrowd", 0) == 1
            for rows in self.rows.values()
            for row in rows
            if self.class_ids[row["category_id"]] is not None
        ]
        if used and all(used) and crowd != "class":
            raise ValueError(
                f"{self.where}: all {len(used)} annotations have iscrowd 1, which stands for a "
                "region of many objects and is left out. CVAT writes it for each object drawn with "
                "its brush: pass crowd='class' to take them as objects."
            )

    def warn(self):
        """Warns of what was mended, in one message."""
        mended = sorted(set(self.mended))
        if mended:
            more = f" (and {len(mended) - 1} more; coco.verify lists them)" if mended[1:] else ""
            warnings.warn(mended[0] + more, stacklevel=3)

    # --- label maps

    def pairs(self, images_folder, *, overlap="smallest", crowd="ignore"):
        """Yields a `seglib.data.pairs.Pair` for each picture."""
        _check_choice("overlap", overlap, OVERLAPS)
        _check_choice("crowd", crowd, CROWDS)
        folder = Path(images_folder)
        if not folder.is_dir():
            raise FileNotFoundError(f"There is no folder {os.fspath(folder)!r} with the pictures.")
        return (
            pairs.Pair(
                where=f"{self.where}: {record['file_name']}",
                read=functools.partial(self.read_pair, record, folder, overlap, crowd),
                name=record["file_name"],
                key=record["id"],
            )
            for record in self.images
        )

    def read_pair(self, record, folder, overlap, crowd):
        """Returns the encoded picture of one record and its label map."""
        if record["id"] in self.faults:
            raise ValueError(self.faults[record["id"]])
        name = Path(record["file_name"])
        if name.is_absolute() or ".." in name.parts:
            raise ValueError("the file's name leads out of the folder with the pictures.")
        data = (folder / name).read_bytes()
        height, width = pictures.size_of(data)
        # Before anything is drawn: a wrong size may be too large for the memory.
        stated = record.get("height") or height, record.get("width") or width
        if stated != (height, width):
            raise ValueError(
                f"the picture has {width} x {height} pixels (width x height), but its entry says "
                f"{stated[1]} x {stated[0]}.{pairs.hint_at_turn(data, stated)}"
            )
        instances = self.instances(record, height, width)
        return data, paint(instances, height, width, self.fill, overlap=overlap, crowd=crowd)

    def instances(self, record, height, width):
        """Returns the picture's `Instance`s of the classes in use, in the file's order."""
        found = []
        for row in self.rows[record["id"]]:
            class_id = self.class_ids[row["category_id"]]
            if class_id is None:  # a category left out
                continue
            where = f"annotation {_short(row['id'])}"
            try:
                mask, notes = draw(row.get("segmentation"), height, width)
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from error
            name = record["file_name"]
            self.mended += [f"{self.where}: {name}: {where}: {note}" for note in notes]
            found.append(Instance(row["id"], class_id, mask, row.get("iscrowd", 0) == 1))
        return found


def paint(instances, height, width, fill, *, overlap="smallest", crowd="ignore"):
    """Draws a picture's objects into one label map; see `load` for who wins a pixel.

    Args:
        instances: list of `Instance`.
        height: of the picture, and its `width`.
        fill: label of the pixels without an object.

    Returns:
        uint8 `[H, W]`.
    """
    mask = np.full((height, width), fill, "uint8")
    for instance in instances:
        if instance.iscrowd and crowd != "background":
            mask[instance.mask] = IGNORE_LABEL if crowd == "ignore" else instance.class_id
    singles = [instance for instance in instances if not instance.iscrowd]
    if overlap == "smallest":  # a stable sort: of equal ones the last stays on top
        singles.sort(key=lambda instance: -np.count_nonzero(instance.mask))
    taken = np.full((height, width), -1, "int16")
    for instance in singles:
        if overlap == "ignore":
            disputed = instance.mask & (taken >= 0) & (taken != instance.class_id)
            taken[instance.mask] = instance.class_id
            taken[disputed] = IGNORE_LABEL
        else:
            taken[instance.mask] = instance.class_id
    return np.where(taken >= 0, taken, mask).astype("uint8")


def as_arrays(instances, height, width):
    """Returns the arrays of `examples` for a list of `Instance`s, none of them empty."""
    masks = np.array([i.mask for i in instances], bool).reshape(-1, height, width)
    return {
        "classes": np.array([i.class_id for i in instances], "int64"),
        "masks": masks,
        "boxes": np.array([objects.box_of(mask) for mask in masks], "float32").reshape(-1, 4),
        "iscrowd": np.array([i.iscrowd for i in instances], "int64"),
        "annotation_ids": [i.annotation_id for i in instances],
    }


# --- one object -----------------------------------------------------------------------------------


def rasterize(segmentation, height, width):
    """Draws one annotation's `segmentation`.

    Args:
        segmentation: a list of polygons, each a flat list `[x1, y1, x2, y2, …]` in pixels, drawn by
            pycocotools; or run lengths `{"size": [H, W], "counts": …}` that go down the columns,
            as a list of numbers or in COCO's compressed text.
        height: of the picture, and its `width`.

    Returns:
        bool `[H, W]`.

    Raises:
        ValueError: if it cannot be drawn on a picture of this size. All is checked here, since
            pycocotools is written in C and trusts its input.

    Example:
        >>> rasterize([[1, 1, 3, 1, 3, 3, 1, 3]], 4, 4).sum()
        4
    """
    return draw(segmentation, height, width)[0]


def draw(segmentation, height, width):
    """Returns the mask as `rasterize` does, and a list of sentences on what was mended."""
    if isinstance(segmentation, dict):
        return decode_rle(segmentation, height, width), []
    if not isinstance(segmentation, list | tuple) or not segmentation:
        raise ValueError(
            f"its segmentation is {_short(segmentation)}, expected polygons or run lengths; a box "
            "alone gives no mask."
        )
    polygons, notes = [], []
    for polygon in segmentation:
        points, note = check_polygon(polygon, height, width)
        notes += [note] if note else []
        polygons += [points] if points else []
    if not polygons:
        raise ValueError(notes[0])
    from pycocotools import mask  # imports slowly, so only when something is drawn

    return decode_rle(mask.merge(mask.frPyObjects(polygons, height, width)), height, width), notes


def check_polygon(polygon, height, width):
    """Returns a polygon's coordinates as a list of floats, and a sentence if they are not right.

    They are `None` for a polygon of fewer than three points, which is left out.
    """
    if not isinstance(polygon, list | tuple):
        raise ValueError(
            f"its polygon is {_short(polygon)}, expected a list [x1, y1, x2, y2, …]; the "
            "segmentation is a list of such lists."
        )
    if not all(_is_number(value) and abs(value) < math.inf for value in polygon):
        raise ValueError(f"its polygon {_short(polygon)} holds what is no finite number.")
    points = set(zip(polygon[::2], polygon[1::2], strict=False))
    if len(polygon) % 2:
        raise ValueError(
            f"its polygon {_short(polygon)} has {len(polygon)} coordinates, expected pairs."
        )
    if len(points) < 3:
        found = f"{len(points)} different points"
        return None, f"its polygon {_short(polygon)} has {found}, expected at least 3."
    note, reach = None, REACH * max(height, width)
    for x, y in sorted(points):
        if 0 <= x <= width and 0 <= y <= height:
            continue
        note = (
            f"its polygon has a point at x={_short(x)}, y={_short(y)}, outside of the picture of "
            f"{width} x {height} pixels (width x height)."
        )
        if not (-reach <= x <= width + reach and -reach <= y <= height + reach):
            raise ValueError(note)
    return [float(value) for value in polygon], note


def decode_rle(rle, height, width):
    """Draws run lengths, compressed or not; see `rasterize`."""
    size, counts = rle.get("size"), rle.get("counts")
    if not isinstance(size, list | tuple) or [_whole(s) for s in size] != [height, width]:
        raise ValueError(
            f"its run lengths are for the size {_short(size)} (height, width), expected the "
            f"picture's {[height, width]}."
        )
    if isinstance(counts, str | bytes):
        counts = decompress(counts)
    whole = [_whole(n) for n in counts] if isinstance(counts, list | tuple) else [None]
    if any(n is None or n < 0 for n in whole):
        raise ValueError(
            f"its run lengths are {_short(counts)}, expected whole numbers of at least 0."
        )
    counts = whole
    if sum(counts) != height * width:
        raise ValueError(
            f"its run lengths cover {sum(counts)} pixels, expected {height} x {width} = "
            f"{height * width}."
        )
    inside = np.arange(len(counts)) % 2 == 1
    return np.repeat(inside, counts).reshape(width, height).T


def decompress(text):
    """Turns COCO's compressed run lengths into a list of numbers.

    Each number is written in groups of 5 bits, the lowest first, as the characters from "0" on; a
    sixth bit says that more follow, and the fifth bit of the last group is the sign. From the
    fourth on, the number is the difference to the run two before.
    """
    counts, value, shift = [], 0, 0
    for character in map(ord, text) if isinstance(text, str) else text:
        group = character - 48
        if not 0 <= group < 64 or shift > 60:
            raise ValueError(f"its run lengths {_short(text)} are no compressed run lengths.")
        value |= (group & 31) << shift
        shift += 5
        if group & 32:
            continue
        if group & 16:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError(f"its run lengths {_short(text)} are cut off.")
    return counts


# --- small questions ------------------------------------------------------------------------------


def _get(record, key):
    return record.get(key) if isinstance(record, dict) else None


def _whole(value, otherwise=None):
    """Returns a whole number as an int, as `1.0` for pycocotools is 1; else `otherwise`."""
    whole = _is_number(value) and abs(value) < math.inf and value == int(value)
    return int(value) if whole else otherwise


def _id(value):
    """Returns an id as an int or a str, or `None` if it can be none."""
    return value if isinstance(value, str) else _whole(value)


def _by_type(value):
    """Sorts numbers before text."""
    return isinstance(value, str), value


def _is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool)


def _bad_side(value):
    """A side may be left out; then the picture's own counts."""
    return value is not None and not (isinstance(value, int) and _is_number(value) and value >= 1)


def _short(value):
    """A value of unknown size and type, shortened for a message."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:56]} …"


def _check_choice(name, value, choices):
    if value not in choices:
        raise ValueError(f"{name} is {value!r}, expected one of {', '.join(map(repr, choices))}.")
