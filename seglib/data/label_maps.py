"""The labels of Pascal VOC and Cityscapes: names, colors, and which pixels count nowhere.

Both sets store label maps as PNG files whose numbers are not all classes. VOC's 255 ("void") lies
along every object's edge. Cityscapes stores 34 ids, of which 19 are evaluated; their class ids are
called train ids there.
"""

import dataclasses

import numpy as np

from seglib.core.constants import IGNORE_LABEL


@dataclasses.dataclass(frozen=True)
class LabelMap:
    """What the numbers and the colors in a data set's masks mean.

    Attributes:
        names: name of each class, by class id.
        colors: color (R, G, B) of each class, by class id.
        ignored_colors: colors of pixels that count nowhere, if there are any; the first is theirs
            in new pictures.
        file_ids: dict from each number in the set's files to a class id or 255 (ignored).

    Example:
        >>> black_and_white = LabelMap(("background", "pet"), ((0, 0, 0), (255, 255, 255)))
    """

    names: tuple
    colors: tuple
    ignored_colors: tuple = ()
    file_ids: dict = dataclasses.field(default_factory=dict, repr=False)

    def to_color(self, mask):
        """Paints a label map.

        Args:
            mask: `[..., H, W]` of class ids and 255.

        Returns:
            uint8 `[..., H, W, 3]`.

        Raises:
            ValueError: for a label without a color.
        """
        mask = np.asarray(mask)
        colors = dict(enumerate(self.colors))
        if self.ignored_colors:
            colors[IGNORE_LABEL] = self.ignored_colors[0]
        known = np.isin(mask, list(colors))
        if not known.all():
            raise ValueError(
                f"The label map holds {np.unique(mask[~known])[:8].tolist()}, expected 0 to "
                f"{len(self.colors) - 1}"
                f"{f' or {IGNORE_LABEL} (ignored)' if self.ignored_colors else ''}. to_ids turns "
                "the numbers of the files into class ids."
            )
        table = np.zeros((256, 3), "uint8")
        table[list(colors)] = list(colors.values())
        return table[mask]

    def from_color(self, image):
        """Reads a painted label map; the inverse of `to_color`.

        Args:
            image: uint8 `[H, W, 3]`.

        Returns:
            uint8 `[H, W]` of class ids and 255.

        Raises:
            ValueError: for a color that means nothing, as a mask saved as JPEG has many.
        """
        image = np.asarray(image)
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(
                f"The picture is {image.dtype} {list(image.shape)}, expected uint8 [H, W, 3]."
            )
        table = np.full(1 << 24, -1, "int16")
        table[_packed(np.array(self.ignored_colors).reshape(-1, 3))] = IGNORE_LABEL
        table[_packed(np.array(self.colors))] = np.arange(len(self.colors))
        ids = table[_packed(image)]
        if (ids < 0).any():
            unknown = np.unique(image[ids < 0], axis=0)
            raise ValueError(
                f"The picture holds {len(unknown)} colors that stand for no class, such as "
                f"{tuple(unknown[0].tolist())}. Was it resized, or saved as JPEG?"
            )
        return ids.astype("uint8")

    def to_ids(self, mask):
        """Turns the numbers in the set's files into class ids; see `replace`."""
        if not self.file_ids:
            raise ValueError("The label map has no file_ids, expected masks of colors.")
        return replace(mask, self.file_ids)


def replace(mask, ids):
    """Replaces each number of a mask by its class id.

    Args:
        mask: whole numbers from 0 to 255, of any shape.
        ids: dict from number to class id, or to 255 for pixels that count nowhere.

    Returns:
        uint8 of the same shape.

    Raises:
        ValueError: for a number that the dict does not name, or one outside of 0 to 255.
    """
    table = np.full(256, -1, "int16")
    for number, class_id in dict(ids).items():
        if not (0 <= number <= 255 and 0 <= class_id <= 255):
            raise ValueError(
                f"The label map takes {number} to {class_id}, expected whole numbers from 0 to "
                f"255; {IGNORE_LABEL} is ignored."
            )
        table[number] = class_id
    mask = np.asarray(mask)
    outside = (mask < 0) | (mask > 255)
    found = table[np.where(outside, 0, mask)]
    bad = outside | (found < 0)
    if bad.any():
        raise ValueError(
            f"The mask holds the labels {np.unique(mask[bad])[:8].tolist()}, which the label map "
            "does not name."
        )
    return found.astype("uint8")


def voc_colors(count=256):
    """Returns VOC's color of each label, uint8 `[count, 3]`.

    The bits of a label go in turn to red, green and blue, the lowest three to their highest bits,
    the next three to the second highest, and so on: 1 is dark red, 2 dark green, 4 dark blue.

    Reference:
        Everingham et al.: The Pascal Visual Object Classes (VOC) Challenge, IJCV 2010; the rule
        is in the development kit (VOCcode/VOClabelcolormap.m).
    """
    labels = np.arange(count)
    colors = np.zeros((count, 3), "uint8")
    for place in range(8):
        for channel in range(3):
            bit = labels >> (3 * place + channel) & 1
            colors[:, channel] |= (bit << (7 - place)).astype("uint8")
    return colors


def _packed(colors):
    """Colors `[..., 3]` as one number each."""
    red, green, blue = np.moveaxis(colors.astype("int32"), -1, 0)
    return red << 16 | green << 8 | blue


def _voc():
    names = (
        *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat"),
        *("chair", "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant"),
        *("sheep", "sofa", "train", "tvmonitor"),
    )
    colors = [tuple(color) for color in voc_colors().tolist()]
    same = {i: i for i in (*range(len(names)), IGNORE_LABEL)}
    return LabelMap(names, tuple(colors[: len(names)]), (colors[IGNORE_LABEL],), same)


# id in the files, name, color, and whether it is evaluated
_CITYSCAPES = (
    (0, "unlabeled", (0, 0, 0), False),
    (1, "ego vehicle", (0, 0, 0), False),
    (2, "rectification border", (0, 0, 0), False),
    (3, "out of roi", (0, 0, 0), False),
    (4, "static", (0, 0, 0), False),
    (5, "dynamic", (111, 74, 0), False),
    (6, "ground", (81, 0, 81), False),
    (7, "road", (128, 64, 128), True),
    (8, "sidewalk", (244, 35, 232), True),
    (9, "parking", (250, 170, 160), False),
    (10, "rail track", (230, 150, 140), False),
    (11, "building", (70, 70, 70), True),
    (12, "wall", (102, 102, 156), True),
    (13, "fence", (190, 153, 153), True),
    (14, "guard rail", (180, 165, 180), False),
    (15, "bridge", (150, 100, 100), False),
    (16, "tunnel", (150, 120, 90), False),
    (17, "pole", (153, 153, 153), True),
    (18, "polegroup", (153, 153, 153), False),
    (19, "traffic light", (250, 170, 30), True),
    (20, "traffic sign", (220, 220, 0), True),
    (21, "vegetation", (107, 142, 35), True),
    (22, "terrain", (152, 251, 152), True),
    (23, "sky", (70, 130, 180), True),
    (24, "person", (220, 20, 60), True),
    (25, "rider", (255, 0, 0), True),
    (26, "car", (0, 0, 142), True),
    (27, "truck", (0, 0, 70), True),
    (28, "bus", (0, 60, 100), True),
    (29, "caravan", (0, 0, 90), False),
    (30, "trailer", (0, 0, 110), False),
    (31, "train", (0, 80, 100), True),
    (32, "motorcycle", (0, 0, 230), True),
    (33, "bicycle", (119, 11, 32), True),
)


def _cityscapes():
    """Train ids count the evaluated labels in the order of their ids.

    Two that are not evaluated share a color with a class: a group of poles is painted as a pole,
    a license plate as a car. Read from colors, their pixels count; read from ids, they do not.
    """
    evaluated = [row for row in _CITYSCAPES if row[3]]
    names, colors = tuple(row[1] for row in evaluated), tuple(row[2] for row in evaluated)
    ignored = dict.fromkeys(row[2] for row in _CITYSCAPES if row[2] not in colors)
    ids = {row[0]: names.index(row[1]) if row[3] else IGNORE_LABEL for row in _CITYSCAPES}
    return LabelMap(names, colors, tuple(ignored), ids | {IGNORE_LABEL: IGNORE_LABEL})


VOC = _voc()
"""Pascal VOC 2012: 20 classes and background; 255 is void.

Everingham et al.: The Pascal Visual Object Classes (VOC) Challenge, IJCV 2010.
"""

CITYSCAPES = _cityscapes()
"""Cityscapes: the 19 classes of its evaluation; `file_ids` starts from the files `…_labelIds.png`.

Cordts et al.: The Cityscapes Dataset for Semantic Urban Scene Understanding, CVPR 2016.
"""
