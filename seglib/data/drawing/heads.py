"""Heads of cats and dogs: ears, eyes, muzzle, whiskers, turned to any side."""

import math

import numpy as np

from seglib.data.drawing.body import Features
from seglib.data.drawing.outlines import (
    closed_curve,
    ellipse,
    limb,
    mirrored_curve,
    open_curve,
    rotation,
)


class _Globe:
    """Places face parts on a ball that turns sideways (`yaw`) and up or down (`pitch`)."""

    def __init__(self, center, yaw, pitch, roll):
        self.center, self.yaw, self.pitch = np.asarray(center, float), yaw, pitch
        self.rotation = rotation(roll)

    def out(self, points):
        """From head units to pet units."""
        return np.asarray(points, float) @ self.rotation + self.center

    def at(self, longitude, latitude, radius=1.0):
        """Position and foreshortening of a point; angles in radians, latitude up."""
        lat, lon = latitude - self.pitch, longitude + self.yaw
        x = radius * math.cos(lat) * math.sin(lon)
        return x, -radius * math.sin(lat), math.cos(lon)


def add_head(body, center, *, yaw=0.0, roll=None, sleepy=0.0):
    rng = body.rng
    roll = rng.normal(0, 0.1) if roll is None else roll
    yaw *= 1.0 if body.look.species else 0.75  # a cat's face is flat: no profile
    globe = _Globe(center, yaw, rng.uniform(-0.1, 0.12), float(np.clip(roll, -0.4, 0.4)))
    (_dog_head if body.look.species else _cat_head)(body, globe, rng.random() < sleepy)


def _ears(body, globe, longitude, latitude, layer):
    """Both ears; `layer` is "behind" or "front" of the head."""
    look = body.look
    order = sorted((-1, 1), key=lambda s: globe.at(s * longitude, 0)[2])
    for s in order:
        x, y, depth = globe.at(s * longitude, latitude, 0.98)
        narrow = 0.72 + 0.28 * max(0.0, min(1.0, 0.6 + depth))
        shade = 0.9 if depth < -0.35 else 1.0
        build = _pointed_ear if look.ears == "pointed" else _hanging_ear
        build(body, globe, (x, y), s, narrow, shade, layer)


def _pointed_ear(body, globe, root, s, narrow, shade, layer):
    if layer == "front":
        return
    size = body.look.ear * (1.0 if body.look.species == 0 else 0.95)
    wide, tall = 0.43 * narrow * (0.55 + 0.45 * size), 0.92 * size
    x, y = root
    tip = (x + s * 0.2 * size, y - tall)
    shape = [
        (x - s * wide, y - 0.12),
        (x - s * wide * 0.45 + s * 0.02, y - tall * 0.62),
        tip,
        (x + s * wide * 0.95, y - tall * 0.4),
        (x + s * wide, y + 0.3),
        (x, y + 0.4),
    ]
    axis = (globe.out((x, y + 0.3)), globe.out(tip))
    body.add("ear", globe.out(closed_curve(shape)), axis, shade=shade, tuft=0.5)
    if shade == 1.0:
        middle = np.array([(x, y + 0.1)])
        inner = middle + (np.array(shape) - middle) * (0.6, 0.72)
        body.add("inner", globe.out(closed_curve(inner)), axis, tuft=0.2, detail=True, relief=0.4)


def _hanging_ear(body, globe, root, s, narrow, shade, layer):
    if layer != "front":
        return
    look = body.look
    x, y = root
    flap = 0.12 * body.rng.uniform(-1, 1)
    if look.ears == "folded":
        size = 0.9 * look.ear
        shape = [(x - s * 0.34 * narrow, y - 0.06), (x + s * 0.05, y - 0.22),
                 (x + s * 0.38 * size, y - 0.02), (x + s * (0.5 + flap) * size, y + 0.5 * size),
                 (x + s * 0.12, y + 0.32 * size)]  # fmt: skip
        tip = shape[3]
    else:
        size = look.ear
        shape = [(x - s * 0.22 * narrow, y - 0.1), (x + s * 0.16, y - 0.12),
                 (x + s * (0.42 + flap), y + 0.4 * size), (x + s * (0.44 + flap), y + 0.95 * size),
                 (x + s * (0.16 + flap), y + 1.2 * size),
                 (x - s * (0.12 - flap), y + 0.85 * size),
                 (x - s * 0.14, y + 0.35 * size)]  # fmt: skip
        tip = shape[4]
    axis = (globe.out((x, y)), globe.out(tip))
    body.add("ear", globe.out(closed_curve(shape)), axis, shade=shade * 0.97, tuft=0.9, relief=1.1)


def _blaze(body, globe):
    """The light stripe from forehead to muzzle."""
    points = [globe.at(0, lat)[:2] for lat in (0.95, 0.5, 0.1, -0.3)]
    body.add("blaze", globe.out(limb(points, [0.08, 0.13, 0.16, 0.3])), detail=True, relief=0.1,
             tuft=0.4)  # fmt: skip


def _eyes(body, globe, shapes, longitude, latitude, draw):
    for s in (-1, 1):
        x, y, depth = globe.at(s * longitude, latitude)
        if depth > 0.25:
            draw(shapes, globe, x, y, s, min(1.0, 0.45 + 0.6 * depth))


def _closed_eye(shapes, globe, x, y, s, narrow):
    line = [(x - 0.2 * narrow, y), (x, y + 0.11), (x + 0.2 * narrow, y)]
    shapes.append(("line", globe.out(open_curve(line)), "ink", 0.075))


def _cat_eye(shapes, globe, x, y, s, narrow):
    tilt = -0.2 * s
    shapes += [
        ("polygon", globe.out(ellipse(x, y, 0.275 * narrow, 0.25, tilt)), "ink", 0),
        ("polygon", globe.out(ellipse(x, y, 0.225 * narrow, 0.21, tilt)), "iris", 0),
        ("polygon", globe.out(ellipse(x, y + 0.07, 0.15 * narrow, 0.11)), "glow", 0),
        ("polygon", globe.out(ellipse(x, y, 0.095 * narrow, 0.19)), "pupil", 0),
        ("polygon", globe.out(ellipse(x - 0.07, y - 0.09, 0.065, 0.065)), "gleam", 0),
    ]


def _dog_eye(shapes, globe, x, y, s, narrow):
    shapes += [
        ("polygon", globe.out(ellipse(x, y, 0.2 * narrow, 0.19)), "ink", 0),
        ("polygon", globe.out(ellipse(x, y + 0.01, 0.155 * narrow, 0.15)), "iris", 0),
        ("polygon", globe.out(ellipse(x, y + 0.01, 0.09 * narrow, 0.1)), "pupil", 0),
        ("polygon", globe.out(ellipse(x - 0.055, y - 0.065, 0.058, 0.058)), "gleam", 0),
    ]


def _cat_head(body, globe, asleep):
    look, rng = body.look, body.rng
    _ears(body, globe, 1.0, 0.72, "behind")
    cheek = 1.0 + 0.1 * look.fur + 0.06 * (look.girth - 1)
    skull = mirrored_curve([(0, -0.84), (0.55, -0.76), (0.97 * cheek, -0.15), (0.94 * cheek, 0.35),
                       (0.55, 0.76), (0.0, 0.86)])  # fmt: skip
    body.add("head", globe.out(skull), (globe.out((0, -0.8)), globe.out((0, 0.85))))
    if "blaze" in dict(look.parts):
        _blaze(body, globe)
    x, y, _ = globe.at(0, -0.42, 1.0)
    if look.pattern == "points":
        body.add("mask", globe.out(ellipse(x * 0.9, y - 0.12, 0.62, 0.6)), detail=True, relief=0,
                 tuft=2.0, strength=0.85)  # fmt: skip
    else:
        for s in (-1, 1):
            puff = ellipse(x + 0.19 * s, y + 0.04, 0.29, 0.24)
            body.add("muzzle", globe.out(puff), detail=True, relief=0.35, tuft=0.4)
    shapes = []
    if look.pattern in ("tabby", "spots"):
        for dx in (-0.28, 0.0, 0.28):
            top, end = globe.at(dx * 1.2, 1.0)[:2], globe.at(dx * 0.9, 0.48)[:2]
            shapes.append(("line", globe.out([top, end]), "mark", 0.09))
        for s in (-1, 1):
            for lat in (-0.1, -0.4):
                a, b = globe.at(s * 0.85, lat), globe.at(s * 1.25, lat + 0.1)
                if b[2] > 0.1:
                    shapes.append(("line", globe.out([a[:2], b[:2]]), "mark", 0.07))
    eye = _closed_eye if asleep else _cat_eye
    _eyes(body, globe, shapes, 0.47, 0.06, eye)
    nose = y - 0.12
    shapes.append(("polygon", globe.out([(x - 0.13, nose - 0.06), (x, nose - 0.09),
                   (x + 0.13, nose - 0.06), (x, nose + 0.08)]), "catnose", 0))  # fmt: skip
    for s in (-1, 1):
        mouth = [(x, nose + 0.07), (x + 0.02 * s, nose + 0.2), (x + 0.2 * s, nose + 0.25),
                 (x + 0.3 * s, nose + 0.14)]  # fmt: skip
        shapes.append(("line", globe.out(open_curve(mouth)), "mouth", 0.045))
        for k in range(3):
            droop = (k - 1) * 0.17 + rng.uniform(-0.04, 0.04)
            start = (x + 0.3 * s, nose + 0.14 + 0.05 * (k - 1))
            hair = [start, (x + 0.8 * s, nose + 0.06 + droop * 0.8),
                    (x + 1.3 * s, nose + 0.16 + droop * 1.6)]  # fmt: skip
            shapes.append(("line", globe.out(open_curve(hair)), "whisker", 0.03))
    body.items.append(Features(shapes))


def _dog_head(body, globe, asleep):
    look, rng = body.look, body.rng
    parts = dict(look.parts)
    _ears(body, globe, 0.95 if look.ears == "pointed" else 1.15, 0.66, "behind")
    wide = 0.9 + 0.12 * look.fur + 0.1 * (look.girth - 1)
    jowl = 0.62 + 0.22 * look.fur * (look.muzzle < 1.1)
    skull = mirrored_curve([(0, -0.86), (0.5, -0.78), (0.87 * wide, -0.2), (0.82 * wide, 0.25),
                       (jowl, 0.68), (0.0, 0.86)])  # fmt: skip
    body.add("head", globe.out(skull), (globe.out((0, -0.8)), globe.out((0, 0.85))))
    if look.pattern == "points" or "brow" in parts:
        for s in (-1, 1):
            x, y, depth = globe.at(0.36 * s, 0.47)
            if depth > 0.3:
                body.add("brow", globe.out(ellipse(x, y, 0.12, 0.09)), detail=True, relief=0,
                         tuft=0.3)  # fmt: skip
    if "blaze" in parts:
        _blaze(body, globe)
    reach = 0.38 * look.muzzle
    sx = math.sin(globe.yaw)
    root = (0.35 * sx, 0.3 + 0.2 * globe.pitch)
    tip = ((0.55 + 1.25 * reach) * sx, 0.42 + 0.5 * globe.pitch)
    size = 0.43 + 0.05 * (look.girth - 1)
    body.add("muzzle", globe.out(limb([root, ((root[0] + tip[0]) / 2, 0.36), tip],
             [size, size * 0.97, size * 0.84])), (globe.out(root), globe.out(tip)),
             relief=0.75, tuft=0.6)  # fmt: skip
    if look.beard:
        beard = ellipse(tip[0], tip[1] + 0.3, 0.45, 0.32)
        body.add("muzzle", globe.out(beard), relief=0.3, tuft=2.2)
    shapes = []
    nose_x, nose_y = tip[0] + 0.12 * sx, tip[1] - 0.2
    happy = not asleep and rng.random() < 0.4
    if happy:
        jaw = np.array([(-0.26, 0.31), (0, 0.36), (0.26, 0.31), (0.17, 0.53), (-0.17, 0.53)])
        jaw += (nose_x, nose_y)
        shapes.append(("polygon", globe.out(closed_curve(jaw)), "ink", 0))
        tongue = ellipse(nose_x + 0.02, nose_y + 0.5, 0.13, 0.14)
        shapes.append(("polygon", globe.out(tongue), "tongue", 0))
    shapes.append(("line", globe.out([(nose_x, nose_y + 0.1), (nose_x, nose_y + 0.3)]), "mouth",
                   0.05))  # fmt: skip
    for s in (-1, 1):
        lip = [(nose_x, nose_y + 0.3), (nose_x + 0.16 * s, nose_y + 0.37),
               (nose_x + 0.33 * s, nose_y + 0.26)]  # fmt: skip
        shapes.append(("line", globe.out(open_curve(lip)), "mouth", 0.05))
    eye = _closed_eye if asleep else _dog_eye
    _eyes(body, globe, shapes, 0.42, 0.16, eye)
    _ears(body, globe, 0.95 if look.ears == "pointed" else 1.15, 0.66, "front")
    shapes += [
        ("polygon", globe.out(ellipse(nose_x, nose_y, 0.2, 0.145)), "dognose", 0),
        ("polygon", globe.out(ellipse(nose_x - 0.05, nose_y - 0.06, 0.08, 0.035)), "shine", 0),
    ]
    body.items.append(Features(shapes))
