"""Draws a picture: the scene, the pets, the light over it all, and what is known about it."""

import dataclasses
import functools
import itertools
import math

import numpy as np

from seglib.data.drawing.arrangement import (
    arrange,
    cast,
    hide,
    occlude,
    paint_backdrop_thing,
    paint_ground_shadow,
)
from seglib.data.drawing.background import paint_background
from seglib.data.drawing.breeds import BREEDS
from seglib.data.drawing.choices import pick
from seglib.data.drawing.colors import from_hex
from seglib.data.drawing.crowd import all_seen, arrange_crowd, cast_crowd
from seglib.data.drawing.pet import paint_pet
from seglib.data.drawing.textures import TILE, film_grain, read_tile
from seglib.data.drawing.trimaps import trimap


@dataclasses.dataclass(frozen=True)
class Picture:
    """One drawn picture with everything that is known about it.

    Attributes:
        image: `[H, W, 3]` uint8, RGB.
        trimap: `[H, W]` uint8 with the values of the real files: 1 pet, 2 background, 3 border.
        instances: `[N, H, W]` bool, the visible pixels of each pet, disjoint, back to front.
        boxes: `[N, 4]` float32, relative (ymin, xmin, ymax, xmax) around the visible pixels.
        head_boxes: `[N, 4]` float32, the same around the part of each head inside the frame.
        species: `[N]` int64, 0 cat, 1 dog.
        breeds: `[N]` int64, position in `BREEDS`.
        poses: The name of each pet's pose.
        main: Position of the main pet, the one that `label` and the head box of TFDS describe.
        file_name: As in the real set, such as `"shiba_inu_12.jpg"`.
    """

    image: np.ndarray
    trimap: np.ndarray
    instances: np.ndarray
    boxes: np.ndarray
    head_boxes: np.ndarray
    species: np.ndarray
    breeds: np.ndarray
    poses: tuple
    main: int
    file_name: str

    @property
    def label(self):
        """The main pet's breed, an int in 0 ... 36, in the order of TFDS."""
        return int(self.breeds[self.main])


def frame_size(size, aspect):
    """`(height, width)` of about `size * size` pixels with `width / height` near `aspect`."""
    return round(size / math.sqrt(aspect)), round(size * math.sqrt(aspect))


def draw(seed, index, *, size=128, pets=None):
    """Draws one picture.

    Args:
        seed: Non-negative int; one seed is one data set.
        index: Non-negative int, the picture's number in it.
        size: Side in pixels of the square whose area the picture has: pictures are landscape,
            portrait or square, as in the real set, of `height * width` about `size * size`.
        pets: `None` for as many as in the real set, that is usually one; or `(fewest, most)` for
            a crowd: a square picture of so many pets, of either species alike, that hide parts
            of each other, but no one's head and no one as a whole.

    Returns:
        A `Picture`; always the same one for the same arguments.

    Raises:
        ValueError: If `seed` or `index` is negative, `size` is below 32, or `pets` are not 1 to 8.

    Example:
        >>> picture = draw(seed=0, index=3)
        >>> sorted(np.unique(picture.trimap))
        [1, 2, 3]
        >>> len(draw(seed=0, index=3, pets=(4, 4)).boxes)
        4
    """
    if seed < 0 or index < 0 or size < 32:
        raise ValueError(
            f"draw got seed={seed}, index={index}, size={size}; expected seed and index of at "
            "least 0 and size of at least 32. Number the pictures from 0."
        )
    if pets is not None:
        return _draw_crowd(seed, index, size, pets)
    rng = np.random.default_rng([seed, index])
    # The real set: two thirds landscape, a quarter portrait, the rest about square.
    aspect = pick(rng, (1.5, 1.5, 1.33, 1.33, 1.33, 1.2, 1.0, 0.8, 0.75, 0.67))
    height, width = frame_size(size, aspect)
    pets = cast(rng, index)
    image, covers, heads, _ = _paint(pets, arrange, width, height, rng)
    return _picture(image, covers, heads, pets, index)


def _draw_crowd(seed, index, size, pets):
    """Draws crowds until there is one in which every pet can be seen."""
    fewest, most = pets
    if not 1 <= fewest <= most <= 8:
        raise ValueError(f"pets is {pets}, expected (fewest, most) of 1 to 8, such as (2, 4).")
    # Chosen before the attempts, or crowds of many, which fail more often, would be rarer.
    count = int(np.random.default_rng([seed, index, 1]).integers(fewest, most + 1))
    for attempt in itertools.count():
        rng = np.random.default_rng([seed, index, 2 + attempt])
        members = cast_crowd(rng, count)
        # Smaller at each attempt, so that there is an end.
        place = functools.partial(arrange_crowd, shrink=0.98**attempt)
        image, covers, heads, whole = _paint(members, place, size, size, rng)
        if all_seen(covers, heads, whole):
            return _picture(image, covers, heads, members, index)


def _paint(pets, arrange, width, height, rng):
    """Paints the scene and the pets.

    Returns:
        the picture `[H, W, 3]`, and one a pet, back to front: what is seen of it, its head, and
        all of it, each `[H, W]` in 0 ... 1; the latter two regardless of what hides them.
    """
    light = _light(rng)
    coat = from_hex(pick(rng, pets).look.base) + rng.normal(0, 12, 3)
    # Now and then the background has the color of the coat, or color alone would tell them apart.
    accent = tuple(int(v) for v in np.clip(coat, 0, 255)) if rng.random() < 0.22 else None
    rgb, horizon = paint_background(width, height, rng, accent)
    places = arrange(pets, width, height, horizon, rng)
    if rng.random() < 0.25:
        paint_backdrop_thing(rgb, places, light, rng)
    covers, heads, whole = [], [], []
    for pet, place in zip(pets, places, strict=True):
        paint_ground_shadow(rgb, pet, place, light)
        cover, head = paint_pet(pet, place, rgb, light, rng)
        covers = [hide(c, cover) for c in covers] + [cover]
        heads.append(head)
        whole.append(cover)
    if rng.random() < 0.22:
        rgb, covers = occlude(rgb, covers, heads, pets, places, light, rng)
    return _develop(rgb, light, rng), covers, heads, whole


def _light(rng):
    """The direction towards the light."""
    angle = rng.uniform(-2.6, -0.54)
    return math.cos(angle), math.sin(angle)


def _develop(rgb, light, rng):
    """Light, lens and sensor: uint8 `[H, W, 3]`."""
    height, width = rgb.shape[1:]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    slope = np.float32(rng.uniform(0.0, 0.13))
    level = np.float32(np.clip(rng.normal(1.03, 0.09), 0.76, 1.14)) + slope * (
        x * np.float32(light[0]) + y * np.float32(light[1])
    )
    level -= np.float32(rng.uniform(0.0, 0.12)) * (x * x + y * y)
    warmth = np.float32(rng.normal(0.0, 0.045))
    tint = np.array([1 + warmth, 1, 1 - warmth], np.float32)[:, None, None]
    offset = rng.integers(0, TILE, 2)
    grain = read_tile(film_grain(), np.arange(height) + offset[0], np.arange(width) + offset[1])
    out = rgb * (level * tint) + grain * np.float32(rng.uniform(0.5, 4.0))
    out = np.clip(out + 0.5, 0, 255).astype(np.uint8)
    return np.ascontiguousarray(out.transpose(1, 2, 0))


def _picture(image, covers, heads, pets, index):
    visible = [cover >= 0.5 for cover in covers]
    shown = [i for i, mask in enumerate(visible) if mask.any()]
    masks = np.stack([visible[i] for i in shown])
    breeds = np.array([pets[i].breed for i in shown])
    main = len(shown) - 1
    return Picture(
        image=image,
        trimap=trimap(masks.any(0)),
        instances=masks,
        boxes=np.stack([_box(mask) for mask in masks]),
        head_boxes=np.stack([_box(heads[i] >= 0.5) for i in shown]),
        species=np.array([pets[i].look.species for i in shown]),
        breeds=breeds,
        poses=tuple(pets[i].pose for i in shown),
        main=main,
        file_name=f"{BREEDS[breeds[main]]}_{index}.jpg",
    )


def _box(mask):
    """Relative (ymin, xmin, ymax, xmax) around the true pixels."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return np.zeros(4, np.float32)
    height, width = mask.shape
    return np.array(
        [rows[0] / height, columns[0] / width, (rows[-1] + 1) / height, (columns[-1] + 1) / width],
        np.float32,
    )
