"""Real pets, cut out of their pictures and pasted into each other's.

The real set has one pet per picture, which teaches no model to tell two apart. Cutting the pets out
along their trimaps and pasting them into other pictures makes scenes with exact masks, as many as
one likes: a cut-out covers what lies behind it, in the picture and in the other masks.
"""

import dataclasses
import math

import numpy as np
import tensorflow as tf
from PIL import Image

from seglib.data import augment, objects

PET, BACKGROUND = 0, 1  # ids of the label maps that `seglib.data.pets.examples` yields

_MARGIN = 2  # clear pixels around a cut-out, so that its rim is not mixed with what lies outside
_LARGEST = 0.75  # of the scene's shorter side: the longer side of the largest pasted pet
_SMALLEST = 0.3
_ROOM = 0.45  # a picture of which its own pet covers more than that has no room for others
# What later pets must leave visible of each pet, and of its upper half, where the head mostly is:
# the test pictures have no head boxes.
_SEEN, _HEAD_SEEN = 0.5, 0.75


@dataclasses.dataclass(frozen=True)
class CutOuts:
    """Pets without their pictures, each as large as it fits into a square.

    Attributes:
        pixels: uint8 `[M, D, D, 4]`, red, green, blue and coverage.
        boxes: float32 `[M, 4]`, what the pet takes up of its square: (y1, x1, y2, x2) in pixels.
        edges: bool `[M, 4]`, whether its own picture cuts the pet off at top, left, bottom, right.
        classes: int32 `[M]`.
    """

    pixels: np.ndarray
    boxes: np.ndarray
    edges: np.ndarray
    classes: np.ndarray


def read(examples, size):
    """Cuts out the pets and crops their pictures.

    Args:
        examples: what `seglib.data.pets.examples` yields.
        size: `(H, W)` of the scenes.

    Returns:
        a `seglib.data.objects.Cache` of the pictures with room, each with its own pet, and
        `CutOuts` of all pets.

    Raises:
        ValueError: if there is no example, or no pet.
    """
    hosts, cut_outs = [], []
    for example in examples:
        pet = outline(example["mask"])
        image, mask = crop(example["image"], pet, size)
        if mask.mean() <= _ROOM:
            host = {"image": image, "masks": mask[None], "classes": [example["species"]]}
            hosts.append({**host, "file_name": example["file_name"]})
        if pet.any():
            side = round(_LARGEST * min(size)) + 2 * _MARGIN
            cut_outs.append((*cut_out(example["image"], pet, side), example["species"]))
    cache = objects.read(hosts, size, max_objects=1)
    if not cut_outs:
        raise ValueError("No label map holds a pet, so there is nothing to paste.")
    pixels, boxes, edges, classes = map(np.stack, zip(*cut_outs, strict=True))
    return cache, CutOuts(pixels, boxes.astype("float32"), edges, classes.astype("int32"))


def outline(label_map):
    """Draws the pet's outline in the middle of its trimap's border.

    Pet and background grow into the border, a pixel at a time, until they meet.

    Args:
        label_map: `[H, W]` of 0 pet, 1 background, 2 border.

    Returns:
        bool `[H, W]`, the pet.

    Example:
        >>> outline(np.array([[1, 2, 2, 2, 2, 0]])).astype(int)
        array([[0, 0, 0, 1, 1, 1]])
    """
    pet, ground = label_map == PET, label_map == BACKGROUND
    square = False
    while True:
        free = ~(pet | ground)
        # Crosses and squares by turns: an octagon is nearly a circle.
        more_pet, more_ground = (grown(mask, square) & free for mask in (pet, ground))
        if not (more_pet.any() or more_ground.any()):
            return pet
        pet, ground = pet | more_pet, ground | (more_ground & ~more_pet)
        square = not square


def grown(mask, square):
    """Adds the four neighbors of each pixel, or all eight."""
    out = mask.copy()
    out[1:] |= mask[:-1]
    out[:-1] |= mask[1:]
    wide = out.copy() if square else mask
    out[:, 1:] |= wide[:, :-1]
    out[:, :-1] |= wide[:, 1:]
    return out


def crop(image, pet, size):
    """Cuts the largest window of the scene's proportions, with the pet as central as it gets.

    Args:
        image: uint8 `[h, w, 3]`.
        pet: bool `[h, w]`.
        size: `(H, W)`.

    Returns:
        uint8 `[H, W, 3]` and bool `[H, W]`.
    """
    height, width = pet.shape
    factor = min(height / size[0], width / size[1])
    tall, wide = min(height, round(size[0] * factor)), min(width, round(size[1] * factor))
    y1, x1, y2, x2 = objects.box_of(pet) if pet.any() else (0, 0, height, width)
    top = min(max((y1 + y2 - tall) // 2, 0), height - tall)
    left = min(max((x1 + x2 - wide) // 2, 0), width - wide)
    place = np.s_[top : top + tall, left : left + wide]
    return resize(image[place], size), resize(coverage(pet[place]), size) > 127


def cut_out(image, pet, side):
    """Cuts out one pet and brings it to a square.

    Args:
        image: uint8 `[h, w, 3]`.
        pet: bool `[h, w]`, not empty.
        side: of the square, in pixels.

    Returns:
        its row of `CutOuts.pixels`, of `boxes` and of `edges`.
    """
    y1, x1, y2, x2 = objects.box_of(pet)
    edges = np.array([y1, x1, pet.shape[0] - y2, pet.shape[1] - x2]) <= 1
    pixels = np.dstack([image, coverage(pet)])[y1:y2, x1:x2]
    factor = (side - 2 * _MARGIN) / max(y2 - y1, x2 - x1)
    inner = max(1, round((y2 - y1) * factor)), max(1, round((x2 - x1) * factor))
    small = np.dstack([resize(pixels[..., :3], inner), resize(pixels[..., 3], inner)])
    free = [(_MARGIN, side - _MARGIN - length) for length in inner]
    out = np.pad(small, [*free, (0, 0)], mode="edge")
    inside = np.zeros((side, side), bool)
    inside[_MARGIN : _MARGIN + inner[0], _MARGIN : _MARGIN + inner[1]] = True
    out[~inside, 3] = 0
    box = np.array([_MARGIN, _MARGIN, _MARGIN + inner[0], _MARGIN + inner[1]])
    return out, box, edges


def coverage(mask):
    return mask.astype("uint8") * 255


def resize(array, size):
    """Resizes uint8 `[h, w]` or `[h, w, 3]`; every pixel becomes the mean of what it shows."""
    picture = Image.fromarray(np.ascontiguousarray(array))
    return np.asarray(picture.resize((size[1], size[0]), Image.Resampling.BOX))


class Paste:
    """Pastes cut-outs into batches, until each picture has as many pets as was drawn for it.

    A cut-out takes a random scale, place and mirror image. One that its own picture cuts off at an
    edge goes to that edge. It is left away if it would hide more than half of another pet, or a
    quarter of its upper half; after a few failures a picture stays with the pets that it has.

    Args:
        cut_outs: `CutOuts`.
        pets: `(fewest, most)` pets in a picture, its own included.
        tries: cut-outs that are tried for each picture.

    Calling it:
        Args: `images` uint8 `[B, H, W, 3]`, `masks` uint8 `[B, N, H, W]`, `classes` int32
        `[B, N]`, `seed` int tensor `[2]`.
        Returns the three with `tries` more rows of masks and classes, back to front; a pure
        function of its inputs.

    Reference:
        Ghiasi et al.: Simple Copy-Paste is a Strong Data Augmentation Method for Instance
        Segmentation, CVPR 2021.
    """

    def __init__(self, cut_outs, pets, tries=None):
        self.fewest, self.most = pets
        self.tries = self.most + 2 if tries is None else tries
        # Kept outside the graph, which would copy them.
        self.pixels = tf.Variable(cut_outs.pixels, trainable=False)
        self.boxes = tf.constant(cut_outs.boxes)
        self.edges = tf.constant(cut_outs.edges)
        self.classes = tf.constant(cut_outs.classes)
        # Cats and dogs take turns by chance, though the set has twice as many dogs.
        self.members = [
            tf.constant(np.flatnonzero(cut_outs.classes == c)) for c in np.unique(cut_outs.classes)
        ]

    def __call__(self, images, masks, classes, seed):
        count, (height, width) = tf.shape(images)[0], images.shape[1:3]
        seeds = tf.unstack(tf.random.split(seed, self.tries + 1))
        wanted = tf.random.stateless_uniform(
            [count], seeds[0], self.fewest, self.most + 1, dtype="int32"
        )
        scene = tf.cast(images, "float32")
        classes = tf.unstack(classes, axis=1)
        board = Board(count, height, width)
        for mask in tf.unstack(tf.cast(masks, "bool"), axis=1):
            board.add(mask)
        for try_seed in seeds[1:]:
            chosen, transforms = self.draw(count, height, width, try_seed)
            layer = augment.warp(
                tf.cast(tf.gather(self.pixels, chosen), "float32"),
                transforms,
                (height, width),
                fill=0,
            )
            alpha = layer[..., 3:] / 255.0
            pet = alpha[..., 0] >= 0.5
            fits = (board.present() < wanted) & board.allows(pet)
            board.add(pet & fits[:, None, None])
            alpha *= tf.cast(fits, "float32")[:, None, None, None]
            scene += alpha * (layer[..., :3] - scene)
            classes.append(tf.where(fits, tf.gather(self.classes, chosen), objects.NO_OBJECT))
        images = tf.cast(tf.round(scene), images.dtype)
        return images, board.masks(), tf.stack(classes, axis=1)

    def draw(self, count, height, width, seed):
        """Chooses cut-outs `[B]` and where they go: maps from scene to cut-out, 8 numbers each."""
        u = tf.unstack(tf.random.stateless_uniform([6, count], seed))
        kind = tf.cast(u[0] * len(self.members), "int32")
        within = [tf.gather(found, tf.cast(u[1] * len(found), "int32")) for found in self.members]
        chosen = tf.gather(tf.stack(within, axis=1), kind, batch_dims=1)
        y1, x1, y2, x2 = tf.unstack(tf.gather(self.boxes, chosen), axis=1)
        top, left, bottom, right = tf.unstack(tf.gather(self.edges, chosen), axis=1)
        scale = tf.exp(math.log(_SMALLEST / _LARGEST) * u[2])
        mirror = u[3] < 0.5
        left, right = tf.where(mirror, right, left), tf.where(mirror, left, right)
        y = at_edge(top, bottom, u[4]) * (height - scale * (y2 - y1))
        x = at_edge(left, right, u[5]) * (width - scale * (x2 - x1))
        # Pixel centers lie at i + 0.5, and TensorFlow's maps count from the first center.
        a = tf.where(mirror, -1.0, 1.0) / scale
        c = tf.where(mirror, x2, x1) + a * (0.5 - x) - 0.5
        e = 1.0 / scale
        f = y1 + e * (0.5 - y) - 0.5
        zero = tf.zeros_like(a)
        return chosen, tf.stack([a, zero, c, zero, e, f, zero, zero], axis=1)


def at_edge(first, last, share):
    """0 at the first edge, 1 at the last, and anywhere between for what no edge cuts off."""
    return tf.where(first & ~last, 0.0, tf.where(last & ~first, 1.0, share))


class Board:
    """Who is seen where in a batch of scenes, and how much of everyone.

    `owner` numbers, for each pixel, whose it is: 0 nobody's, `2 k + 1` the lower and `2 k + 2` the
    upper half of pet `k`.
    """

    def __init__(self, count, height, width):
        self.count, self.pets = count, 0
        self.owner = tf.zeros([count, height, width], "int32")
        self.whole = tf.zeros([count, 0, 2], "int32")  # (B, pets, halves), as if none were hidden

    def add(self, pet):
        """Puts a pet `[B, H, W]` on top; an empty one takes a number, too."""
        rows = tf.reduce_any(pet, axis=2)
        number = tf.range(pet.shape[1])
        first = tf.reduce_min(tf.where(rows, number, pet.shape[1]), axis=1)
        last = tf.reduce_max(tf.where(rows, number, -1), axis=1)
        upper = number < ((first + last + 1) // 2)[:, None]  # (B, H)
        half = 2 * self.pets + 1 + tf.cast(upper, "int32")[..., None]
        self.owner = tf.where(pet, half, self.owner)
        self.pets += 1
        self.whole = tf.concat([self.whole, self.counts()[:, -1:]], axis=1)

    def counts(self, within=None):
        """Pixels of each half of each pet, int32 `[B, pets, 2]`: lower, upper."""
        cells = 2 * self.pets + 1
        cell = self.owner + cells * tf.range(self.count)[:, None, None]
        if within is not None:
            cell = tf.where(within, cell, cells * self.count)
        # The last cell is for what lies outside `within`.
        found = tf.math.bincount(
            tf.reshape(cell, [-1]), minlength=cells * self.count, maxlength=cells * self.count
        )
        return tf.reshape(tf.reshape(found, [self.count, cells])[:, 1:], [self.count, -1, 2])

    def present(self):
        """How many pets each scene has, int32 `[B]`."""
        return tf.reduce_sum(tf.cast(tf.reduce_any(self.whole > 0, axis=2), "int32"), axis=1)

    def allows(self, pet):
        """Whether the pet `[B, H, W]` is not empty and would leave enough of the others."""
        seen = tf.cast(self.counts(~pet), "float32")
        whole = tf.cast(self.whole, "float32")
        enough = tf.reduce_sum(seen, axis=2) >= _SEEN * tf.reduce_sum(whole, axis=2)
        enough &= seen[..., 1] >= _HEAD_SEEN * whole[..., 1]
        return tf.reduce_all(enough, axis=1) & tf.reduce_any(pet, axis=[1, 2])

    def masks(self):
        """What is seen of each pet, uint8 `[B, pets, H, W]`."""
        number = (self.owner - 1) // 2
        pets = tf.range(self.pets)[:, None, None]
        return tf.cast(number[:, None] == pets, "uint8")
