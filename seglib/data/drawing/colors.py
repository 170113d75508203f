"""Colors: from hex codes, near another color, between two; and the palettes."""

import functools

import numpy as np

# What rooms and things are made of.
WALLS = ("e9dcc9", "cfdcd6", "d9c7c0", "b9c9d6", "e6c9a8", "c4b6a6", "9fb3a4", "e8e3da", "a9a3b5",
         "d7a98c", "7f8f93", "c9a35f")  # fmt: skip
FLOORS = ("b58a5c", "8f6846", "c9ab82", "7a6a5e", "a39a90", "d3c3ab", "5f544d", "b9795a")
CLOTHS = ("b5564c", "4f7a8c", "6f8a5a", "d8a13f", "7d6a94", "c98b7a", "3f5a73", "e0c9a6", "8c8f96",
          "a8744d")  # fmt: skip


@functools.cache
def from_hex(code):
    """`"c08040"` as a float array, which must not be written to."""
    rgb = np.array([int(code[i : i + 2], 16) for i in (0, 2, 4)], np.float32)
    rgb.flags.writeable = False
    return rgb


def as_byte(value):
    """One number as an `int` from 0 to 255, without the overhead of `np.clip`."""
    return int(min(max(value, 0.0), 255.0))


def color_near(rng, code, spread=10):
    """A color near `code` as an int tuple."""
    rgb = from_hex(code) + rng.normal(0, spread, 3) + rng.normal(0, spread)
    return tuple(as_byte(v) for v in rgb.tolist())


def shade_of(rng, color, spread=8):
    """`color`, a little lighter or darker."""
    step = rng.normal(0, spread)
    return tuple(as_byte(v + step) for v in color)


def blend(a, b, share):
    """The color at `share` of the way from `a` to `b`."""
    return tuple(int(x + (y - x) * share) for x, y in zip(a, b, strict=True))
