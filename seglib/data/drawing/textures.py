"""Periodic textures that coats and pictures are covered with: blotches, fur, dots, grain."""

import functools
import math

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

TILE = 256  # side of the periodic texture tiles


def _filtered_noise(rng, response):
    """Periodic Gaussian noise with the given amplitude response, mean 0, deviation 1."""
    white = rng.standard_normal((TILE, TILE))
    tile = np.fft.irfft2(np.fft.rfft2(white) * response, s=(TILE, TILE))
    return ((tile - tile.mean()) / tile.std()).astype(np.float32)


@functools.cache
def _frequencies():
    fy = np.fft.fftfreq(TILE)[:, None]
    fx = np.fft.rfftfreq(TILE)[None, :]
    return fy, fx


@functools.cache
def blotches(period):
    """Smooth blotches of about `period` pixels."""
    fy, fx = _frequencies()
    rng = np.random.default_rng([7, period])
    return _filtered_noise(rng, np.exp(-(fy**2 + fx**2) * (period * 1.4) ** 2))


@functools.cache
def fur_streaks(direction):
    """Fur: streaks along `direction`, an eighth of a half turn each."""
    fy, fx = _frequencies()
    angle = math.pi * direction / 8
    along = fx * math.cos(angle) + fy * math.sin(angle)
    across = fy * math.cos(angle) - fx * math.sin(angle)
    band = np.exp(-((along * 22) ** 2) - (across * 4.5) ** 2) * (np.abs(across) + 0.02)
    return _filtered_noise(np.random.default_rng([11, direction]), band)


@functools.cache
def film_grain():
    """The fine noise of a sensor."""
    fy, fx = _frequencies()
    return _filtered_noise(np.random.default_rng(13), np.exp(-(fy**2 + fx**2) * 4))


@functools.cache
def round_dots():
    """Periodic rounded spots on a jittered grid, in [0, 1]; 16 pixels apart."""
    rng = np.random.default_rng(17)
    image = Image.new("L", (TILE * 2, TILE * 2))
    draw = ImageDraw.Draw(image)
    for row in range(17):
        for column in range(17):
            x = (column + 0.5 * (row % 2)) * 32 + rng.uniform(-7, 7)
            y = row * 32 + rng.uniform(-7, 7)
            rx, ry = rng.uniform(6, 11, 2)
            draw.ellipse((x - rx, y - ry, x + rx, y + ry), fill=255)
    image = image.filter(ImageFilter.GaussianBlur(2)).reduce(2)
    return np.asarray(image, np.float32) / 255


def read_tile(texture, ys, xs):
    """Reads a periodic texture at the rows `ys` and columns `xs`, which may be negative."""
    rows = np.asarray(ys + 16 * TILE).astype(np.int64) & (TILE - 1)
    columns = np.asarray(xs + 16 * TILE).astype(np.int64) & (TILE - 1)
    return texture.take(rows, 0).take(columns, 1)
