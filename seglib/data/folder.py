"""Folders of pictures and masks: each picture has a PNG file of the same name with its labels."""

import collections
import functools
import os
from pathlib import Path

from seglib.data import pairs, pictures
from seglib.data.pairs import BadPairError


def load(
    images_folder,
    masks_folder,
    *,
    image_size=128,
    batch_size=32,
    augment=None,
    shuffle=True,
    seed=0,
    keep_aspect=False,
    names=None,
    image_suffix="",
    mask_suffix="",
    label_map=None,
    num_classes=None,
    on_error="raise",
):
    """Loads two folders of pictures and masks as batches.

    Picture and mask belong together if they have the same name up to its ending:
    `images/a/cat.jpg` and `masks/a/cat.png`. Folders inside the two are searched as well, hidden
    files left out. The arguments that are not described here are those of `seglib.data.pets.load`
    and `seglib.data.pairs.Pairs`.

    Args:
        images_folder: folder of JPEG, PNG, BMP, GIF, WebP or TIFF files.
        masks_folder: folder of PNG files with one number per pixel, gray or with a palette. May be
            the same folder, if a suffix tells the masks apart.
        shuffle: whether each epoch has an order of its own; `False` keeps that of the names.
        names: the names to load, in this order, without suffix, with or without ending; or a text
            file with one per line, as VOC's `ImageSets/Segmentation/train.txt`. By default all.
        image_suffix: what the names of the pictures end in before the dot, such as
            `"_leftImg8bit"`; it is not part of the name.
        mask_suffix: the same for the masks, such as `"_gtFine_labelIds"`.
        label_map: `None` if the numbers are class ids; else a dict from each number to a class id,
            or a `seglib.data.label_maps.LabelMap`, with which masks may store colors, too.

    Returns:
        `tf.data.Dataset` as from `pets.load`, with the numbers of the masks or their class ids. Its
        attribute `skipped` has a message per pair left out.

    Raises:
        seglib.data.pairs.BadPairError: for a picture without a mask, a mask without a picture, two
            files for one name, sizes that differ, a file that cannot be decoded, or a label that
            cannot be; the message names the file. It is a `ValueError`, too.
        FileNotFoundError: if there is no such folder.

    Example:
        >>> voc = "VOCdevkit/VOC2012"
        >>> folder.load(
        ...     f"{voc}/JPEGImages", f"{voc}/SegmentationClass", label_map=label_maps.VOC,
        ...     names=f"{voc}/ImageSets/Segmentation/train.txt",
        ... )
        >>> folder.load(
        ...     "leftImg8bit/train", "gtFine/train", image_suffix="_leftImg8bit",
        ...     mask_suffix="_gtFine_labelIds", label_map=label_maps.CITYSCAPES,
        ... )
    """
    found = pairs.Pairs(
        read_pairs(images_folder, masks_folder, names, image_suffix, mask_suffix, label_map),
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


def examples(
    images_folder,
    masks_folder,
    *,
    names=None,
    image_suffix="",
    mask_suffix="",
    label_map=None,
    num_classes=None,
    on_error="raise",
    limit=None,
):
    """Yields the pairs at full size as dicts `image`, `mask` and `file_name`; see `load`."""
    found = pairs.Pairs(
        read_pairs(images_folder, masks_folder, names, image_suffix, mask_suffix, label_map),
        num_classes=num_classes,
        on_error=on_error,
    )
    yield from pairs.examples(found, limit)


def verify(
    images_folder,
    masks_folder,
    *,
    names=None,
    image_suffix="",
    mask_suffix="",
    label_map=None,
    num_classes=None,
):
    """Reads and decodes every pair and returns what is wrong with them.

    Returns:
        `(count, faults)`: the number of good pairs, and a list with one message for each fault.
    """
    found = read_pairs(images_folder, masks_folder, names, image_suffix, mask_suffix, label_map)
    return pairs.verify(pairs.Pairs(found, num_classes=num_classes, on_error="skip"))


def read_pairs(images_folder, masks_folder, names, image_suffix, mask_suffix, label_map):
    """Yields a `seglib.data.pairs.Pair` for each name; one with a fault raises when it is read."""
    images = find_files(images_folder, image_suffix, pictures.ENDINGS)
    masks = find_files(masks_folder, mask_suffix, (".png",))
    if Path(images_folder) == Path(masks_folder):  # told apart by their suffixes alone
        images = {name: files for name, files in images.items() if not set(files) & _all(masks)}
    known = images.keys() | masks.keys()
    for name in sorted(known) if names is None else read_names(names, known):
        found = images.get(name, []), masks.get(name, [])
        where = found[0] or found[1] or [Path(images_folder) / name]
        yield pairs.Pair(
            where=os.fspath(where[0]),
            read=functools.partial(read_pair, *found, label_map),
            name=where[0].name,
        )


def find_files(folder, suffix, endings):
    """Returns a dict from name to the list of its files; more than one is a fault."""
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {os.fspath(folder)!r}.")
    found = {}
    for file in sorted(folder.rglob("*")):
        relative = file.relative_to(folder)
        hidden = any(part.startswith(".") for part in relative.parts)
        if not hidden and file.suffix.lower() in endings and file.stem.endswith(suffix):
            name = relative.with_suffix("").as_posix().removesuffix(suffix)
            found.setdefault(name, []).append(file)
    return found


def read_names(names, known=()):
    """Returns a list of names, from a text file if need be, as they are among the known ones."""
    if isinstance(names, str | Path):
        lines = Path(names).read_text(encoding="utf-8-sig").splitlines()
        names = [line.strip() for line in lines if line.strip()]
    names = [without_ending(name.replace("\\", "/"), known) for name in names]
    twice = [name for name, count in collections.Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"names holds {twice[:5]} twice, expected each name once.")
    return names


def without_ending(name, known):
    """Returns a name without the ending of a file, unless it is known as it is."""
    stem, dot, ending = name.rpartition(".")
    is_file = f"{dot}{ending}".lower() in (*pictures.ENDINGS, ".txt", ".xml")
    return stem if is_file and name not in known else name


def read_pair(images, masks, label_map):
    """Returns the encoded picture and the label map; raises unless there is one file of each."""
    for files, what in ((images, "picture"), (masks, "mask (a PNG file of the same name)")):
        if not files:
            raise ValueError(f"there is no {what} for it.")
        if len(files) > 1:
            raise ValueError(f"there are {len(files)} files of this name: {files[1]} is another.")
    data, mask = images[0].read_bytes(), pairs.decode_png(masks[0].read_bytes())
    try:
        return data, pairs.as_label_map(mask, label_map)
    except ValueError as error:
        raise BadPairError(f"its mask {masks[0]}: {error}") from error


def _all(files):
    return {file for several in files.values() for file in several}
