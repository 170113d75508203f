"""The canvas that backgrounds are drawn on."""

import functools

import numpy as np
from PIL import Image, ImageDraw

from seglib.data.drawing.colors import blend, color_near
from seglib.data.drawing.outlines import closed_curve


def _gradient(width, height, stops):
    """A vertical gradient through evenly spaced colors."""
    stops = np.array(stops, np.float32)
    at = np.linspace(0, len(stops) - 1, height)
    column = np.stack([np.interp(at, np.arange(len(stops)), band) for band in stops.T], 1)
    column = Image.fromarray(column.astype(np.uint8)[:, None])
    return column.resize((width, height), Image.Resampling.NEAREST)


@functools.cache
def _directions(count):
    """Points on a circle, `[count, 2]`."""
    angle = np.linspace(0, 2 * np.pi, count, False)
    return np.stack([np.cos(angle), np.sin(angle)], 1)


class Scene:
    """A background under construction, of about 256 x 256 pixels whatever the picture's size."""

    def __init__(self, width, height, rng, accent):
        self.w, self.h, self.rng, self.accent = width, height, rng, accent
        self.horizon = int(self.h * rng.uniform(0.45, 0.72))
        self.blur = 0.0
        self.fill("808080")

    def fill(self, *stops):
        """Fills everything with a vertical gradient of color tuples or hex codes."""
        stops = [color_near(self.rng, s) if isinstance(s, str) else s for s in stops]
        self.image = _gradient(self.w, self.h, stops)
        self.draw = ImageDraw.Draw(self.image, "RGBA")

    def floor(self, color, far=0.82):
        """The ground below the horizon, darker towards it."""
        ground = _gradient(self.w, self.h - self.horizon, [blend((0, 0, 0), color, far), color])
        self.image.paste(ground, (0, self.horizon))

    def blob(self, x, y, rx, ry, color, wobble=0.12, count=11):
        """A soft-cornered irregular shape."""
        radius = 1 + self.rng.uniform(-wobble, wobble, count)
        points = (x, y) + (rx, ry) * radius[:, None] * _directions(count)
        self.draw.polygon(closed_curve(points).ravel().tolist(), fill=color)

    def box(self, x0, y0, x1, y1, color, radius=0):
        """A rectangle, with round corners if need be."""
        box = (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))
        self.draw.rounded_rectangle(box, radius=radius, fill=color)
