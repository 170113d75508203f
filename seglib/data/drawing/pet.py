"""Builds and paints one pet."""

import dataclasses

import numpy as np

from seglib.data.drawing.body import Body, Contact, Features, Part
from seglib.data.drawing.breeds import BREEDS, LOOKS
from seglib.data.drawing.coat import Coat, feature_colors
from seglib.data.drawing.painter import Painter
from seglib.data.drawing.poses import POSES

HEAD_KINDS = ("head", "ear", "muzzle")


@dataclasses.dataclass
class Pet:
    """A pet before it is painted."""

    breed: int
    pose: str
    body: Body
    low: np.ndarray
    high: np.ndarray
    head: np.ndarray

    @property
    def look(self):
        return self.body.look


def build_pet(breed, pose, rng):
    """Puts a pet of a breed together in a pose."""
    look = LOOKS[BREEDS[breed]]
    body = Body(look, rng)
    POSES[pose][0](body)
    parts = [item for item in body.items if isinstance(item, Part)]
    everything = np.concatenate([part.outline for part in parts])
    head = np.concatenate([part.outline for part in parts if part.kind in HEAD_KINDS])
    return Pet(breed, pose, body, everything.min(0), everything.max(0), head)


def paint_pet(pet, place, rgb, light, rng):
    """Paints a pet; returns its coverage and its head's coverage, both `[H, W]` in 0 ... 1."""
    coat, painter = Coat(pet.look, rng), Painter(rgb, light, rng)
    head = Painter(rgb, light, rng)
    colors, fur = feature_colors(coat), pet.look.fur
    for item in pet.body.items:
        if isinstance(item, Features):
            if place.scale >= item.visible_from:
                painter.features(item.shapes, place, colors)
        elif isinstance(item, Contact):
            painter.contact(item, place)
        elif coat.has(item.kind):
            (head if item.kind in HEAD_KINDS else painter).part(
                item, place, coat.color(item.kind), second=coat.second, fur=fur,
                amount=lambda grid, item=item: coat.amount(item, grid),
            )  # fmt: skip
    return np.maximum(painter.alpha, head.alpha), head.alpha
