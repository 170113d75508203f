"""Smooth closed outlines, as arrays `[K, 2]` of (x, y): what every drawn thing is built from."""

import math

import numpy as np


def _catmull_rom_basis(steps):
    t = np.arange(steps)[:, None] / steps
    return np.concatenate(
        [
            -0.5 * t + t**2 - 0.5 * t**3,
            1 - 2.5 * t**2 + 1.5 * t**3,
            0.5 * t + 2 * t**2 - 1.5 * t**3,
            -0.5 * t**2 + 0.5 * t**3,
        ],
        axis=1,
    )


_BASIS = _catmull_rom_basis(6)
_WINDOW = np.arange(4)

_CIRCLE = np.stack(
    [np.cos(np.linspace(0, 2 * np.pi, 28, False)), np.sin(np.linspace(0, 2 * np.pi, 28, False))], 1
)

_CAP = np.exp(-1j * np.linspace(0, np.pi, 8)[1:-1])  # from one side round the tip to the other


def closed_curve(points):
    """A smooth closed outline through `points` `[K, 2]`."""
    points = np.asarray(points, float)
    count = len(points)
    around = np.arange(count)[:, None] + (_WINDOW - 1)
    return np.matmul(_BASIS, points[around % count]).reshape(-1, 2)


def mirrored_curve(right):
    """A smooth closed outline from its right half, listed from top to bottom."""
    right = np.asarray(right, float)
    left = right[::-1] * (-1, 1)
    return closed_curve(np.concatenate([right, left[(left[:, 0] < -1e-6)]]))


def ellipse(x, y, rx, ry, angle=0.0):
    """An ellipse, turned by `angle` radians."""
    points = _CIRCLE * (rx, ry)
    if angle:
        points = points @ rotation(angle)
    return points + (x, y)


def rotation(angle):
    """Right-multiplied rotation that turns x towards y (clockwise on the screen)."""
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, s], [-s, c]])


def open_curve(points):
    """A smooth open curve through `points` `[K, D]`."""
    points = np.asarray(points, float)
    count = len(points)
    padded = np.empty((count + 2, points.shape[1]))
    padded[1:-1], padded[0], padded[-1] = (
        points, 2 * points[0] - points[1], 2 * points[-1] - points[-2],
    )  # fmt: skip
    around = np.arange(count - 1)[:, None] + _WINDOW
    curve = np.matmul(_BASIS, padded[around]).reshape(-1, points.shape[1])
    return np.concatenate([curve, points[-1:]])


def limb(points, widths):
    """A tapered tube with round ends around a smooth curve; `widths` are radii."""
    knots = np.empty((len(points), 3))
    knots[:, :2], knots[:, 2] = points, widths
    curve = open_curve(knots)
    spine = curve[:, 0] + 1j * curve[:, 1]
    tangent = np.empty_like(spine)
    tangent[1:-1], tangent[0], tangent[-1] = (
        spine[2:] - spine[:-2], spine[1] - spine[0], spine[-1] - spine[-2],
    )  # fmt: skip
    tangent /= np.abs(tangent) + 1e-9
    side = 1j * tangent * curve[:, 2]
    end = spine[-1] + side[-1] * _CAP
    start = spine[0] - side[0] * _CAP
    return _pairs(np.concatenate([spine + side, end, (spine - side)[::-1], start]))


def _pairs(z):
    """Complex numbers as `[K, 2]`."""
    return z.view(np.float64).reshape(-1, 2)


def tufted(outline, length, rng):
    """Adds tufts of hair to an outline in pixels; `length` is their length in pixels."""
    z = np.ascontiguousarray(outline).view(np.complex128)[:, 0]
    z = np.concatenate([z, z[:1]])
    travelled = np.zeros(len(z))
    np.cumsum(np.abs(z[1:] - z[:-1]), out=travelled[1:])
    count = max(12, int(travelled[-1] / 1.1))
    steps = np.arange(count)
    points = np.interp(steps * (travelled[-1] / count), travelled, z)
    around = np.concatenate([points[-2:], points, points[:2]])
    ahead = around[4:] - around[:-4]
    ahead /= np.abs(ahead) + 1e-9
    inside = 1.0 if (points.conj() * ahead).imag.sum() > 0 else -1.0
    tooth = (steps * 0.31 % 1.0) * (0.4 + 0.9 * rng.random(count)) - 0.35
    # Hair stands off the outline and hangs a little.
    return _pairs(points + length * tooth * (-1j * inside * ahead + 0.5j * np.abs(ahead.imag)))
