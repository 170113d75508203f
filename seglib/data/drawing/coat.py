"""The colors and markings of one pet's coat."""

import math

import numpy as np

from seglib.data.drawing.colors import from_hex
from seglib.data.drawing.textures import TILE, blotches, fur_streaks, round_dots


class Coat:
    """Colors one pet: its breed's look with a little variation of its own."""

    def __init__(self, look, rng):
        self.look = look
        self.tint = np.float32(rng.normal(1.0, 0.045)) * (
            1 + rng.normal(0, 0.015, 3).astype(np.float32)
        )
        self.parts = {kind: from_hex(code) * self.tint for kind, code in look.parts}
        self.base = from_hex(look.base) * self.tint
        self.second = from_hex(look.second) * self.tint
        self.offset = rng.integers(0, TILE, 2)
        self.strength = rng.uniform(0.75, 1.0)
        self.dark = float(self.base.mean()) < 95
        self.iris = from_hex(look.eyes) * np.float32(rng.uniform(0.92, 1.08))

    def has(self, kind):
        """Whether a detail that only some breeds have is drawn."""
        return kind not in ("chest", "blaze", "brow") or kind in self.parts

    def color(self, kind):
        """The main color of a kind of part."""
        if kind in self.parts:
            return self.parts[kind]
        if kind == "paw":
            return self.color("leg")
        if kind == "muzzle":
            return self.base * 0.8 + 0.2 * np.float32(245)
        if kind == "inner":
            return self.color("ear") * 0.45 + from_hex("e8a79c") * (0.3 if self.dark else 0.55)
        if kind == "mask":
            return self.second
        return self.base

    def amount(self, part, grid):
        """How much of the second color shows at each pixel, or `None` for none."""
        pattern, kind = self.look.pattern, part.kind
        if pattern == "plain" or kind in ("muzzle", "chest", "inner", "mask", "blaze", "brow"):
            return None
        if pattern == "points":
            return self._points(kind, grid)
        if kind in self.parts and pattern not in ("speckle", "saddle"):
            return None
        return getattr(self, f"_{pattern}")(kind, grid)

    def _points(self, kind, grid):
        if kind in ("ear", "tail"):
            return np.float32(0.95)
        if kind == "paw":
            return None if "paw" in self.parts else np.float32(0.95)
        return _smooth(grid.along, 0.15, 1.0) * 0.9 if kind == "leg" else None

    def _tabby(self, kind, grid, pitch=0.42, thick=0.15):
        if kind == "ear":
            return None
        wobble = 1.5 * grid.tile(blotches(24), self.offset, 22)
        band = np.sin(grid.stripes(kind) * (2 * math.pi / pitch) + wobble)
        share = {"head": 0.25, "paw": 0.3}.get(kind, 0.75)
        return _smooth(band, thick, 0.75) * (share * self.strength)

    def _brindle(self, kind, grid):
        if kind == "ear":
            return np.float32(0.6)
        streaks = grid.tile(fur_streaks(3), self.offset, 26)
        return _smooth(streaks, -0.4, 1.0) * (0.7 * self.strength)

    def _spots(self, kind, grid):
        if kind in ("ear", "head"):
            return None
        spots = grid.tile(round_dots(), self.offset, 48 if kind == "body" else 60)
        return spots * self.strength * (0.5 if kind == "paw" else 0.85)

    def _patches(self, kind, grid):
        level = {"ear": -0.6, "head": 0.45, "leg": 0.9, "paw": 3.0, "tail": 0.0}.get(kind, 0.35)
        patches = grid.tile(blotches(64), self.offset, 34)
        return _smooth(patches, level, level + 0.3) * 0.95

    def _saddle(self, kind, grid):
        if kind == "tail":
            return 1 - _smooth(grid.along, 0.55, 0.8)
        if kind != "body":
            return None
        edge = grid.along + 0.1 * grid.tile(blotches(24), self.offset, 22)
        return (1 - _smooth(edge, 0.42, 0.62)) * 0.95

    def _speckle(self, kind, grid):
        share = {"muzzle": 0.2, "ear": 0.2, "head": 0.3, "paw": 0.4}.get(kind, 0.65)
        speckle = grid.tile(blotches(6), self.offset, 44)
        big = grid.tile(blotches(64), self.offset, 34)
        return _smooth(speckle + 0.8 * big, 0.5, 1.5) * share


def _smooth(x, low, high):
    """The smooth step from 0 at `low` to 1 at `high`."""
    t = np.clip((x - low) * np.float32(1 / (high - low)), 0, 1)
    return t * t * (3 - 2 * t)


def feature_colors(coat):
    """The colors of the small face parts, RGBA."""
    ink = (38, 28, 28) if not coat.dark else (16, 14, 17)
    iris = coat.iris if coat.look.species == 0 or not coat.dark else coat.iris * 1.5
    iris = tuple(int(v) for v in np.clip(iris, 0, 255))
    glow = tuple(min(255, int(v * 1.25) + 22) for v in iris)
    dark_nose = coat.dark or coat.look.pattern == "points"
    pale = float(coat.base.mean()) > 190
    second = tuple(int(v) for v in np.clip(coat.second, 0, 255))
    return {
        "ink": ink + (255,),
        "iris": iris + (255,),
        "glow": glow + (170,),
        "pupil": (20, 17, 20, 255),
        "gleam": (255, 255, 255, 245),
        "catnose": ((88, 62, 60) if dark_nose else (219, 128, 126)) + (255,),
        "dognose": (40, 33, 35, 255),
        "shine": (255, 255, 255, 120),
        "tongue": (234, 120, 132, 255),
        "mouth": ink + (190,),
        "whisker": (110, 92, 84, 150) if pale else (250, 248, 244, 190),
        "mark": second + (150,),
        "toe": ink + (110,),
    }
