"""Puts outlines onto the picture, antialiased, rounded by light and covered with fur."""

import dataclasses
import functools
import math

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from seglib.data.drawing.outlines import rotation, tufted
from seglib.data.drawing.textures import fur_streaks, read_tile

_SUPERSAMPLING = 3


@dataclasses.dataclass(frozen=True)
class Placement:
    """Maps pet units to pixels."""

    origin: tuple
    scale: float
    flip: bool = False
    tilt: float = 0.0

    def __call__(self, points):
        points = np.asarray(points, float)
        if self.tilt:
            points = points @ rotation(self.tilt)
        return points * (-self.scale if self.flip else self.scale, self.scale) + self.origin


class _Grid:
    """Coordinates of the pixels in a part's box."""

    def __init__(self, box, start, end, scale, origin):
        x0, y0, x1, y1 = box
        self.xs = np.arange(x0, x1, dtype=np.float32) + 0.5
        self.ys = np.arange(y0, y1, dtype=np.float32) + 0.5
        self.start, self.scale, self.origin = start, scale, origin
        self.axis = np.asarray(end) - start
        self.length = max(float(np.hypot(*self.axis)), 1e-6)

    def _project(self, direction):
        dx, dy = (np.float32(v) for v in direction)
        x = (self.xs - np.float32(self.start[0])) * dx
        return x[None, :] + ((self.ys - np.float32(self.start[1])) * dy)[:, None]

    @functools.cached_property
    def along(self):
        """0 at the part's root, 1 at its tip."""
        return self._project(self.axis / self.length**2)

    def stripes(self, kind):
        """Distance in pet units along which stripes follow each other."""
        wide = len(self.xs) > 1.15 * len(self.ys)
        if kind == "body" and wide:
            return self._project((1 / self.scale, 0.25 / self.scale))
        return self._project(self.axis / self.length / self.scale)

    def tile(self, texture, offset, density):
        """Samples a texture that moves and grows with the pet, `density` texels to a unit."""
        step = density / self.scale
        ys = self.ys * step + (offset[0] - self.origin[1] * step)
        xs = self.xs * step + (offset[1] - self.origin[0] * step)
        return read_tile(texture, ys, xs)


_SHADE_TINT = np.array([1.05, 1.0, 0.88], np.float32)


def _shifted(shape, dx, dy):
    """Two windows of one size, `(dx, dy)` ahead of and behind their common middle."""
    height, width = shape
    ay, ax = abs(dy), abs(dx)
    near = np.s_[ay + dy : height - ay + dy, ax + dx : width - ax + dx]
    far = np.s_[ay - dy : height - ay - dy, ax - dx : width - ax - dx]
    return near, far


class Painter:
    """Paints parts onto the picture, in place, and keeps the pixels that they cover.

    The picture `rgb` is `[3, H, W]`: with the channels last, every sum would go over pixels one
    by one.
    """

    def __init__(self, rgb, light, rng):
        self.rgb, self.light, self.rng = rgb, light, rng
        self.alpha = np.zeros(rgb.shape[1:], np.float32)

    def outline(self, points):
        """Antialiased coverage of an outline in pixels: `(box, "L" image)`, or `None`."""
        height, width = self.alpha.shape
        (left, top), (right, bottom) = points.min(0).tolist(), points.max(0).tolist()
        x0, y0 = max(math.floor(left) - 1, 0), max(math.floor(top) - 1, 0)
        x1, y1 = min(math.ceil(right) + 1, width), min(math.ceil(bottom) + 1, height)
        if x1 - x0 < 1 or y1 - y0 < 1:
            return None
        n = _SUPERSAMPLING
        mask = Image.new("L", ((x1 - x0) * n, (y1 - y0) * n))
        local = (points - (x0, y0)) * n - 0.5
        ImageDraw.Draw(mask).polygon(local.ravel().tolist(), fill=255)
        return (x0, y0, x1, y1), mask.reduce(n)

    def part(self, part, place, color, *, amount=None, second=None, fur=0.3):
        """Paints one part; `amount(grid)` says where `second` replaces `color`."""
        points = place(part.outline)
        tuft = fur * part.tuft * place.scale * 0.095
        if tuft > 0.15:
            points = tufted(points, min(tuft, 4.0), self.rng)
        covered = self.outline(points)
        if covered is None:
            return
        (x0, y0, x1, y1), mask = covered
        grid = _Grid((x0, y0, x1, y1), *place(part.axis), place.scale, place.origin)
        share = np.asarray(mask, np.float32)
        rgb = np.asarray(color, np.float32)[:, None, None]
        much = amount(grid) if amount else None
        if much is not None:
            rgb = rgb + (second - color)[:, None, None] * much
        rgb = self.relief(mask, share, part, fur, grid) * rgb
        share *= np.float32(part.strength / 255)
        under = self.rgb[:, y0:y1, x0:x1]
        rgb -= under
        rgb *= share
        under += rgb
        if not part.detail:
            alpha = self.alpha[y0:y1, x0:x1]
            np.maximum(alpha, share, out=alpha)

    def relief(self, mask, share, part, fur, grid):
        """Brightness `[3, h, w]` as if the part were inflated, with the grain of its fur."""
        radius = min(max(0.17 * min(mask.size), 0.8), 9.0)
        if part.relief > 0:
            height = np.asarray(mask.filter(ImageFilter.GaussianBlur(0.65 * radius)), np.float32)
        else:
            height = share
        shade = height * np.float32(0.26 / 255 * part.relief)
        shade += np.float32(part.shade - 1 - 0.26 * part.relief)
        if part.relief > 0:
            dx, dy = (round(v * max(1.0, radius / 2)) for v in self.light)
            near, far = _shifted(height.shape, dx, dy)
            middle = shade[abs(dy) : height.shape[0] - abs(dy), abs(dx) : height.shape[1] - abs(dx)]
            middle += (height[far] - height[near]) * np.float32(0.32 / 255 * part.relief)
        if fur > 0 and part.relief > 0.2:
            direction = math.atan2(grid.axis[1], grid.axis[0])
            streaks = fur_streaks(round(direction * 8 / math.pi) % 8)
            shade += grid.tile(streaks, (0, 0), min(40.0, grid.scale * 2.2)) * np.float32(
                0.015 + 0.045 * min(fur, 1.0)
            )
        # Shadows are a little cooler and lights a little warmer than the coat itself.
        return 1 + np.multiply.outer(_SHADE_TINT, shade)

    def contact(self, item, place):
        """Darkens what this pet has painted so far, softly, around a point."""
        x, y = place(np.array([item.center]))[0]
        rx, ry = (r * place.scale for r in item.radius)
        height, width = self.alpha.shape
        x0, x1 = max(int(x - 2 * rx), 0), min(int(x + 2 * rx) + 1, width)
        y0, y1 = max(int(y - 2 * ry), 0), min(int(y + 2 * ry) + 1, height)
        if x1 <= x0 or y1 <= y0:
            return
        fx = np.exp(-(((np.arange(x0, x1) - x) / rx) ** 2)).astype(np.float32)
        fy = np.exp(-(((np.arange(y0, y1) - y) / ry) ** 2)).astype(np.float32)
        dark = np.float32(item.strength) * fy[:, None] * fx * self.alpha[y0:y1, x0:x1]
        self.rgb[:, y0:y1, x0:x1] *= 1 - dark

    def features(self, shapes, place, colors):
        """Draws small flat shapes, antialiased over what is there."""
        if not shapes:
            return
        stacked = place(np.concatenate([points for _, points, _, _ in shapes]))
        height, width = self.alpha.shape
        x0, y0 = np.maximum(np.floor(stacked.min(0)) - 2, 0).astype(int)
        x1, y1 = np.minimum(np.ceil(stacked.max(0)) + 2, (width, height)).astype(int)
        if x1 <= x0 or y1 <= y0:
            return
        n = 4
        under = self.rgb[:, y0:y1, x0:x1].clip(0, 255).astype(np.uint8)
        under = Image.fromarray(under.transpose(1, 2, 0))
        image = under.resize((under.width * n, under.height * n), Image.Resampling.NEAREST)
        draw = ImageDraw.Draw(image, "RGBA")
        local, at = ((stacked - (x0, y0)) * n - 0.5).ravel().tolist(), 0
        for shape, points, color, thick in shapes:
            flat = local[at : at + 2 * len(points)]
            at += 2 * len(points)
            if shape == "polygon":
                draw.polygon(flat, fill=colors[color])
            else:
                width = max(2, round(thick * place.scale * n))
                draw.line(flat, fill=colors[color], width=width, joint="curve")
        self.rgb[:, y0:y1, x0:x1] = np.asarray(image.reduce(n)).transpose(2, 0, 1)
