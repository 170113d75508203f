"""Backgrounds in the open: meadows and parks, a beach, a wall of bricks, blurred lights."""

from seglib.data.drawing.choices import pick
from seglib.data.drawing.colors import as_byte, blend, color_near, shade_of


def draw_outdoors(s):
    """A meadow, an autumn park, a snowy field or dry savanna grass."""
    rng, w, h = s.rng, s.w, s.h
    s.horizon = int(h * rng.uniform(0.3, 0.58))
    sky, far, grass, leaf = pick(rng, (
        (("7fb9e6", "d9ecf5"), "8fb29a", "7fae4e", "4f8a45"),
        (("9fc7e8", "f3ead7"), "7d9f86", "6f9a45", "3f7a48"),
        (("f0b98a", "f8e2c0"), "b08f7a", "b59a55", "c9782f"),
        (("a9b9cc", "e6e4e4"), "b5986f", "a8884a", "b5552f"),
        (("b9cfe3", "f1f4f7"), "a9bccb", "e6edf3", "5f7f78"),
        (("8ec4e8", "e2eff4"), "a3a777", "c4b06a", "7f8f4a"),
    ))  # fmt: skip
    s.fill(*sky, sky[1])
    if rng.random() < 0.7:
        for _ in range(int(rng.integers(1, 4))):
            x, y = rng.uniform(0, w), rng.uniform(0.03, 0.6) * s.horizon
            for _ in range(3):
                s.blob(x + rng.uniform(-20, 20), y + rng.uniform(-5, 5), rng.uniform(14, 30),
                       rng.uniform(6, 12), (255, 255, 255, 150))  # fmt: skip
    for _ in range(int(rng.integers(1, 4))):
        s.blob(rng.uniform(0, w), s.horizon + 10, rng.uniform(0.3, 0.6) * w,
               rng.uniform(20, 0.5 * s.horizon), color_near(rng, far), 0.06)  # fmt: skip
    for _ in range(int(rng.integers(0, 5))):
        _tree(s, rng.uniform(0, w), color_near(rng, leaf, 12))
    ground = s.accent or color_near(rng, grass)
    s.floor(ground, 0.88)
    for _ in range(int(rng.integers(1, 6))):
        x, r = rng.uniform(0, w), rng.uniform(14, 36)
        for dx in (-0.6, 0.6, 0):
            s.blob(x + dx * r, s.horizon - r * 0.1, r * 0.7, r * (0.6 - 0.2 * abs(dx)),
                   color_near(rng, leaf, 7))  # fmt: skip
    _blades(s, ground)


def _tree(s, x, color):
    rng, y = s.rng, s.horizon
    tall = rng.uniform(0.4, 0.9) * y
    s.box(x - 5, y - tall * 0.6, x + 5, y + 6, (94, 70, 54))
    if rng.random() < 0.4:
        for k in range(3):
            half, top = 14 + 9 * k, y - tall + tall * 0.25 * k
            s.draw.polygon((x, top - 12, x - half, top + tall * 0.3, x + half, top + tall * 0.3),
                           fill=blend(color, (0, 0, 0), 0.1 * (k % 2)))  # fmt: skip
    else:
        for _ in range(4):
            s.blob(x + rng.uniform(-16, 16), y - tall * rng.uniform(0.6, 0.95),
                   rng.uniform(18, 30), rng.uniform(16, 26), shade_of(rng, color))  # fmt: skip


def _blades(s, ground):
    """Tufts of grass, and flowers among them."""
    rng, w, h = s.rng, s.w, s.h
    count = 90
    ys = s.horizon + (h - s.horizon) * rng.random(count) ** 0.8
    xs, lean, tones = rng.uniform(0, w, count), rng.normal(0, 3, count), rng.normal(0, 14, count)
    for x, y, dx, tone in sorted(zip(xs, ys, lean, tones, strict=True), key=lambda b: b[1]):
        size = 5 + 14 * (y - s.horizon) / (h - s.horizon)
        color = tuple(as_byte(v + tone) for v in ground)
        s.draw.line((x, y, x + dx, y - size), fill=color, width=2)
    if rng.random() < 0.45:
        petal = color_near(rng, pick(rng, ("f4f0e6", "f2c53d", "e58fb0", "b58fd8", "e8663c")))
        for _ in range(int(rng.integers(6, 26))):
            x, y = rng.uniform(0, w), s.horizon + (h - s.horizon) * rng.random()
            r = 1.5 + 3.5 * (y - s.horizon) / (h - s.horizon)
            s.draw.ellipse((x - r, y - r, x + r, y + r), fill=petal)
            s.draw.ellipse((x - r / 3, y - r / 3, x + r / 3, y + r / 3), fill=(230, 170, 50))


def draw_beach(s):
    """Sky, sea and sand."""
    rng, w, h = s.rng, s.w, s.h
    s.horizon = int(h * rng.uniform(0.3, 0.45))
    s.fill(*pick(rng, (("86c5ee", "d8effa", "d8effa"), ("f2a97f", "f9dcae", "f9dcae"))))
    sea = color_near(rng, "4f9fb5")
    shore = s.horizon + int(0.16 * h)
    s.box(0, s.horizon, w, shore + 10, sea)
    for _ in range(8):
        x, y = rng.uniform(0, w), rng.uniform(s.horizon + 4, shore - 4)
        s.draw.line((x, y, x + rng.uniform(15, 50), y), fill=(255, 255, 255, 90), width=2)
    s.blob(w * 0.5, h + 20, w * 1.1, h + 28 - shore, (255, 255, 255, 150), 0.02)
    s.blob(w * 0.5, h + 26, w * 1.1, h + 28 - shore, s.accent or color_near(rng, "e3c894"), 0.02)
    for _ in range(30):
        x, y = rng.uniform(0, w), rng.uniform(shore + 20, h)
        s.draw.ellipse((x, y, x + 4, y + 2), fill=(120, 90, 60, 60))
    s.horizon = shore


def draw_bricks(s):
    """A brick wall above a pavement."""
    rng, w = s.rng, s.w
    wall = s.accent or color_near(
        rng, pick(rng, ("a5644c", "b98a6a", "8f8a86", "c9beb0", "7a4f44"))
    )
    s.fill(blend(wall, (255, 255, 255), 0.2), blend(wall, (255, 255, 255), 0.3))
    tall, wide = 15, int(rng.integers(30, 44))
    for row, y in enumerate(range(0, s.horizon, tall)):
        for x in range(-(row % 2) * wide // 2, w, wide):
            s.box(x + 1, y + 1, x + wide - 2, y + tall - 2, shade_of(rng, wall, 9))
    s.floor(color_near(rng, pick(rng, ("9a948c", "7f7a78", "b5aa9a"))))
    for k in range(1, 4):
        y = s.horizon + (s.h - s.horizon) * (k / 4) ** 1.4
        s.draw.line((0, y, w, y), fill=(0, 0, 0, 50), width=2)
    if rng.random() < 0.6:
        for _ in range(int(rng.integers(2, 7))):
            s.blob(rng.uniform(0, w), s.horizon, rng.uniform(16, 36), rng.uniform(12, 26),
                   color_near(rng, "5f8a4f", 12))  # fmt: skip


_BOKEH = (("3f5a3c", "7d9a55"), ("2f3a52", "75688c"), ("6a4a34", "c99a5f"), ("9fb5a0", "dfe3c9"),
          ("7a8a99", "c9d3da"), ("54383f", "b5746a"))  # fmt: skip


def draw_bokeh(s):
    """Blurred lights, far out of focus."""
    rng = s.rng
    tones = pick(rng, _BOKEH)
    base = s.accent
    s.fill(*(tones if base is None else (base, blend(base, (255, 255, 255), 0.25))))
    s.blur = 3.5
    for _ in range(int(rng.integers(14, 30))):
        x, y, r = rng.uniform(0, s.w), rng.uniform(0, s.h), rng.uniform(8, 34)
        color = color_near(rng, pick(rng, tones + ("f4e3b5", "fff4dc")), 18)
        s.draw.ellipse((x - r, y - r, x + r, y + r), fill=color + (int(rng.integers(40, 130)),))
