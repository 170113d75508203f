"""A pet before it is painted: a list of parts, back to front, in pet units."""

import dataclasses

import numpy as np

from seglib.data.drawing.outlines import ellipse, limb


@dataclasses.dataclass
class Part:
    """One piece of a pet: an outline in pet units and how it is covered.

    `axis` runs from the part's root to its tip: coats grade along it. `shade` darkens the far
    side, `tuft` scales the hair at the rim, `detail` marks what lies inside the pet's outline
    (no contribution to the mask).
    """

    kind: str
    outline: np.ndarray
    axis: tuple = ((0.0, -1.0), (0.0, 1.0))
    shade: float = 1.0
    tuft: float = 1.0
    color: str = ""
    relief: float = 1.0
    detail: bool = False
    strength: float = 1.0


@dataclasses.dataclass
class Features:
    """Small face parts and toes: a list of (shape, points, color, width) drawn over the rest.

    They are left out where a pet unit has fewer than `visible_from` pixels.
    """

    shapes: list
    visible_from: float = 0.0


@dataclasses.dataclass
class Contact:
    """Soft darkening of what is already painted of this pet, where another part rests on it."""

    center: tuple
    radius: tuple
    strength: float = 0.3


class Body:
    """Collects a pet's parts, back to front."""

    def __init__(self, look, rng):
        self.look, self.rng, self.items = look, rng, []

    def add(self, kind, outline, axis=((0.0, -1.0), (0.0, 1.0)), **kwargs):
        self.items.append(Part(kind, outline, axis, **kwargs))

    def limb(self, kind, points, widths, **kwargs):
        self.add(kind, limb(points, widths), (points[0], points[-1]), **kwargs)

    def leg(self, points, width, *, paw=1.0, **kwargs):
        """A leg along `points` with a paw that points sideways by `paw` (0 to the viewer)."""
        count = len(points)
        widths = width * np.linspace(1.25, 0.82, count)
        self.limb("leg", points, widths, **kwargs)
        x, y = points[-1]
        reach = 0.13 * abs(paw)
        kwargs.pop("tuft", None)
        foot = ellipse(x + 0.13 * paw, y + width * 0.25, width * 1.02 + reach, width * 0.72)
        self.add("paw", foot, ((x, y - width), (x, y + width)), tuft=0.35, **kwargs)
        if kwargs.get("shade", 1.0) > 0.9:
            tip = x + 0.13 * paw + (reach + width * 0.3) * np.sign(paw)
            lines = [
                [(tip + dx * width, y + width * 0.25), (tip + dx * width, y + width * 0.8)]
                for dx in (-0.28, 0.28)
            ]
            toes = [("line", np.array(points), "toe", 0.045) for points in lines]
            self.items.append(Features(toes, visible_from=13.0))

    def tail(self, root, *, side=1.0, up=True):
        """A tail from `root`; `side` is the direction it leaves the body in."""
        x, y = root
        wag = self.rng.uniform(-0.25, 0.25)
        kind, fluff = self.look.tail, 0.06 + 0.1 * min(self.look.fur, 1.0)
        if kind == "short":
            end = (x + 0.45 * side, y - 0.35)
            self.limb("tail", [root, (x + 0.25 * side, y - 0.1), end], [0.2, 0.17, 0.12])
        elif kind == "curl":
            points = [root, (x + 0.45 * side, y - 0.5), (x + 0.15 * side, y - 1.05),
                      (x - 0.35 * side, y - 0.75)]  # fmt: skip
            self.limb("tail", points, [0.22, 0.26 + fluff, 0.28 + fluff, 0.14], tuft=1.4)
        else:
            rise = 1.0 if up else 0.15
            points = [root, (x + 0.75 * side, y - 0.1 * rise), (x + 1.15 * side, y - 0.7 * rise),
                      (x + (1.05 + wag) * side, y - 1.5 * rise)]  # fmt: skip
            if not up:
                points = [root, (x + 0.7 * side, y + 0.12), (x + 1.3 * side, y + 0.02),
                          (x + (1.8 + wag) * side, y - 0.22)]  # fmt: skip
            wide = 0.17 if kind == "long" else 0.17 + fluff
            widths = [0.2, wide, wide * (1.25 if kind == "plume" else 0.9), 0.1]
            self.limb("tail", points, widths, tuft=1.0 if kind == "long" else 1.8)
