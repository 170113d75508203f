"""Crowds: several pets of both species that hide parts of each other, each still to be seen."""

import math

import numpy as np
from PIL import Image, ImageDraw

from seglib.data.drawing.arrangement import place_pet, scale_of
from seglib.data.drawing.body import Part
from seglib.data.drawing.breeds import BREEDS, LOOKS
from seglib.data.drawing.choices import choose, pick
from seglib.data.drawing.pet import HEAD_KINDS, build_pet
from seglib.data.drawing.poses import POSES

# What must be seen: of a pet and of its head, as shares of all of it, and of the picture.
_SEEN, _HEAD_SEEN, _OF_PICTURE = 0.45, 0.7, 0.012

_BREEDS_OF = tuple(
    tuple(i for i, breed in enumerate(BREEDS) if LOOKS[breed].species == species)
    for species in (0, 1)
)


def cast_crowd(rng, count):
    """Who is in the picture: cats and dogs alike, back to front."""
    pets = []
    while len(pets) < count:
        # The real set has 12 breeds of cats and 25 of dogs.
        breed = pick(rng, _BREEDS_OF[int(rng.random() < 0.5)])
        pose = choose(rng, POSES, 1)
        if count == 1 or pose != "close_up":
            pets.append(build_pet(breed, pose, rng))
    return pets


def arrange_crowd(pets, width, height, horizon, rng, *, shrink=1.0):
    """One placement per pet, back to front, such that every pet will be seen."""
    while True:
        places = _line_up(pets, width, height, horizon, rng, shrink)
        pictures = [
            _silhouettes(pet, place, width, height) for pet, place in zip(pets, places, strict=True)
        ]
        whole, heads = zip(*pictures, strict=True)
        covers = []
        for silhouette in whole:
            covers = [cover & ~silhouette for cover in covers] + [silhouette]
        if all_seen(covers, heads, whole):
            return places
        shrink *= 0.98  # so that there is an end


def _line_up(pets, width, height, horizon, rng, shrink):
    count = len(pets)
    total = float(np.clip(np.exp(rng.normal(math.log(0.5), 0.3)), 0.2, 0.75))
    slots = np.linspace(-0.5, 0.5, count) if count > 1 else np.zeros(1)
    rng.shuffle(slots)
    ground = horizon + 0.2 * (height - horizon)
    nearest = rng.uniform(max(ground, 0.8 * height), 0.99 * height)
    places = []
    for i, (pet, slot) in enumerate(zip(pets, slots, strict=True)):
        share = total / count**0.8 * math.exp(rng.normal(0, 0.35))
        scale = shrink * scale_of(pet, share, count, width, height, rng)
        # Who stands further back stands higher in the picture.
        bottom = max(nearest - 0.09 * height * (count - 1 - i), ground)
        places.append(place_pet(pet, scale, slot, bottom, width, height, rng))
    return places


def _silhouettes(pet, place, width, height):
    """The pixels of a pet and of its head, without fur: much quicker than painting it."""
    both = []
    for kinds in (None, HEAD_KINDS):
        image = Image.new("1", (width, height))
        draw = ImageDraw.Draw(image)
        for part in pet.body.items:
            if isinstance(part, Part) and not part.detail and (not kinds or part.kind in kinds):
                draw.polygon((place(part.outline) - 0.5).ravel().tolist(), fill=1)
        both.append(np.asarray(image))
    return both


def all_seen(covers, heads, whole):
    """Whether enough is seen of every pet to tell what it is.

    Args:
        covers: What is seen of each pet, `[H, W]` bool or in 0 ... 1, back to front.
        heads: Each pet's head, regardless of what hides it.
        whole: All of each pet, regardless of what hides it.
    """
    for cover, head, pet in zip(covers, heads, whole, strict=True):
        seen = cover >= 0.5
        kept = seen.sum() / max((pet >= 0.5).sum(), 1)
        kept_head = (seen & (head >= 0.5)).sum() / max((head >= 0.5).sum(), 1)
        if kept < _SEEN or kept_head < _HEAD_SEEN or seen.mean() < _OF_PICTURE:
            return False
    return True
