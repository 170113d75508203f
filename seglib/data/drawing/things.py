"""Things beside, behind and in front of the pets: balls, cushions, plants, fences."""

import math

import numpy as np

from seglib.data.drawing.body import Part
from seglib.data.drawing.choices import pick
from seglib.data.drawing.colors import CLOTHS, WALLS, from_hex
from seglib.data.drawing.outlines import closed_curve, ellipse, limb
from seglib.data.drawing.painter import Painter


def _thing(color, outline, axis=((0.0, -1.0), (0.0, 1.0)), **kwargs):
    return Part("thing", outline, axis, color=color, **kwargs)


def _ball(rng):
    color, other = (pick(rng, CLOTHS) for _ in range(2))
    parts = [_thing(color, ellipse(0, 0, 0.8, 0.8))]
    parts.append(_thing(other, limb([(-0.62, -0.3), (0, -0.05), (0.62, -0.3)], [0.16] * 3),
                        detail=True, relief=0.0))  # fmt: skip
    parts.append(_thing("ffffff", ellipse(-0.3, -0.42, 0.14, 0.1), detail=True, strength=0.6))
    return parts


def _cushion(rng):
    color = pick(rng, CLOTHS)
    shape = [(-1.3, -0.75), (0, -0.68), (1.3, -0.75), (1.22, 0), (1.3, 0.8), (0, 0.72), (-1.3, 0.8),
             (-1.22, 0)]  # fmt: skip
    parts = [_thing(color, closed_curve(shape))]
    if rng.random() < 0.6:
        other = pick(rng, CLOTHS + WALLS)
        for x in (-0.6, 0.0, 0.6):
            parts.append(_thing(other, limb([(x, -0.62), (x, 0.66)], [0.12, 0.12]), detail=True,
                                relief=0.0))  # fmt: skip
    return parts


def _plant(rng):
    leaf, parts = pick(rng, ("5f8f4f", "3f7a55", "7a9a4a", "4f8f7a")), []
    for angle in rng.uniform(-1.2, 1.2, 7):
        tall = rng.uniform(1.0, 1.9)
        tip = (math.sin(angle) * tall, -math.cos(angle) * tall)
        middle = (tip[0] * 0.45, tip[1] * 0.6)
        parts.append(_thing(leaf, limb([(0, 0), middle, tip], [0.05, 0.22, 0.03]),
                            ((0, 0), tip), shade=rng.uniform(0.85, 1.12)))  # fmt: skip
    pot = [(-0.6, -0.1), (0.6, -0.1), (0.45, 0.95), (-0.45, 0.95)]
    parts.append(_thing(pick(rng, ("b5653f", "e0d6c6", "5f6f7a")), np.array(pot)))
    return parts


def _fence(rng):
    color, parts = pick(rng, ("f2ede2", "a5784f", "7f6a5a")), []
    for y in (-0.35, 0.6):
        rail = [(-9, y), (9, y), (9, y + 0.2), (-9, y + 0.2)]
        parts.append(_thing(color, np.array(rail), shade=0.86, relief=0.4))
    for x in np.arange(-9, 9, 0.95):
        picket = [(x, -0.75), (x + 0.21, -1.0), (x + 0.42, -0.75), (x + 0.42, 1.6), (x, 1.6)]
        parts.append(_thing(color, np.array(picket), relief=0.6))
    return parts


def _grass(rng):
    color, parts = pick(rng, ("6f9a45", "7fae4e", "5f8a3f", "a8984a")), []
    for x in rng.uniform(-3.2, 3.2, 26):
        tall, lean = rng.uniform(0.7, 1.5), rng.normal(0, 0.3)
        blade = limb([(x, 1.4), (x + lean * 0.3, 0.6), (x + lean, 1.4 - tall * 1.25)],
                      [0.13, 0.1, 0.02])  # fmt: skip
        parts.append(_thing(color, blade, shade=rng.uniform(0.85, 1.15), relief=0.5))
    return parts


def _carton(rng):
    front = [(-1.8, -0.5), (1.8, -0.5), (1.75, 1.4), (-1.75, 1.4)]
    flap = [(-1.8, -0.5), (1.8, -0.5), (2.0, -0.15), (-2.0, -0.15)]
    return [_thing("c49a6a", np.array(front), relief=0.5),
            _thing("d8b385", np.array(flap), relief=0.4)]  # fmt: skip


# Name -> (builder, chance in front of a pet, how high above the pet's feet its center stands).
THINGS = {
    "ball": (_ball, 0.22, 0.55),
    "cushion": (_cushion, 0.22, 0.55),
    "plant": (_plant, 0.2, 0.7),
    "fence": (_fence, 0.08, 0.4),
    "grass": (_grass, 0.18, 1.0),
    "carton": (_carton, 0.1, 0.7),
}


def paint_thing(name, place, rgb, light, rng):
    """Paints a thing and returns its coverage `[H, W]`."""
    painter = Painter(rgb, light, rng)
    tint = np.float32(rng.normal(1, 0.05))
    for part in THINGS[name][0](rng):
        painter.part(part, place, from_hex(part.color) * tint, fur=0.0)
    return painter.alpha
