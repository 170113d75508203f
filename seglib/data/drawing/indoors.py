"""Backgrounds in the house: a room, a kitchen, a studio, a blanket."""

import numpy as np

from seglib.data.drawing.choices import pick
from seglib.data.drawing.colors import CLOTHS, FLOORS, WALLS, blend, color_near
from seglib.data.drawing.outlines import open_curve


def draw_room(s):
    """A living room: wallpaper, floor and furniture."""
    rng, w, y = s.rng, s.w, s.horizon
    wall = s.accent or color_near(rng, pick(rng, WALLS))
    s.fill(blend(wall, (255, 255, 255), 0.12), wall)
    darker = blend(wall, (60, 50, 50), 0.12)
    style = rng.integers(4)
    if style == 0:
        step = int(rng.integers(14, 30))
        for x in range(int(rng.integers(step)), w, step):
            s.box(x, 0, x + step // 2, y, darker)
    elif style == 1:
        step = int(rng.integers(22, 36))
        for i, py in enumerate(range(6, y, step)):
            for x in range(6 + (i % 2) * step // 2, w, step):
                s.draw.ellipse((x - 3, py - 3, x + 3, py + 3), fill=darker)
    s.floor(color_near(rng, pick(rng, FLOORS)))
    if rng.random() < 0.6:
        _planks(s)
    s.box(0, y - 7, w, y, blend(wall, (255, 255, 255), 0.55))
    if rng.random() < 0.55:
        _window(s)
    else:
        (_picture_frames if rng.random() < 0.6 else _shelf)(s)
    if rng.random() < 0.45:
        _sofa(s)
    if rng.random() < 0.6:
        _rug(s)


def _planks(s):
    for i in range(1, 6):
        py = s.horizon + (s.h - s.horizon) * (i / 5.5) ** 1.6
        s.draw.line((0, py, s.w, py), fill=(40, 25, 15, 55), width=2)
        for _ in range(2):
            x = s.rng.uniform(0, s.w)
            s.draw.line((x, py, x + s.rng.uniform(-8, 8), py + 14 * i**0.5), fill=(40, 25, 15, 45),
                        width=2)  # fmt: skip


def _window(s):
    rng = s.rng
    x, width = rng.uniform(-0.1, 0.75) * s.w, rng.uniform(0.25, 0.42) * s.w
    y0, y1 = -0.05 * s.h, s.horizon * rng.uniform(0.6, 0.78)
    s.box(x - 8, y0, x + width + 8, y1 + 8, (244, 240, 232))
    sky = color_near(rng, pick(rng, ("a8d0ea", "f4d7b0", "cfe3ee", "8fb2d8")))
    s.box(x, y0, x + width, y1, sky)
    s.blob(x + width * 0.5, y1 + 4, width * 0.48, y1 * 0.2, color_near(rng, "86a877"))
    s.box(x - 8, y1, x + width + 8, y1 + 8, (250, 246, 238))
    s.box(x + width / 2 - 3, y0, x + width / 2 + 3, y1, (244, 240, 232))
    s.box(x, y1 * 0.45, x + width, y1 * 0.45 + 5, (244, 240, 232))
    if rng.random() < 0.6:
        cloth = color_near(rng, pick(rng, CLOTHS))
        for left in (x - 22, x + width - 8):
            s.box(left, -4, left + 30, y1 + 22, cloth, 6)
            for k in (8, 18):
                s.draw.line((left + k, 0, left + k, y1 + 18), fill=(0, 0, 0, 40), width=3)


def _picture_frames(s):
    rng = s.rng
    for _ in range(int(rng.integers(0, 4))):
        x, y = rng.uniform(0, 0.85) * s.w, rng.uniform(0.02, 0.5) * s.horizon
        width, height = rng.uniform(28, 60), rng.uniform(28, 56)
        s.box(
            x, y, x + width, y + height, color_near(rng, pick(rng, ("5a4636", "f2ede2", "2f2f35")))
        )
        s.box(x + 4, y + 4, x + width - 4, y + height - 4, (243, 239, 230))
        s.blob(x + width / 2, y + height / 2, width * 0.25, height * 0.25,
               color_near(rng, pick(rng, CLOTHS)))  # fmt: skip


def _sofa(s):
    rng = s.rng
    color = color_near(rng, pick(rng, CLOTHS))
    x, width, top = rng.uniform(-0.3, 0.4) * s.w, rng.uniform(0.7, 1.0) * s.w, s.horizon * 0.55
    low = s.horizon + 0.1 * s.h
    dark = blend(color, (30, 20, 30), 0.22)
    s.box(x, top, x + width, low, dark, 18)
    for k in range(2):
        left = x + 16 + k * (width - 32) / 2
        s.box(left, top + 6, left + (width - 36) / 2, low - 34, color, 12)
    s.box(x + 10, low - 46, x + width - 10, low - 8, blend(color, (255, 255, 255), 0.1), 12)
    for left in (x - 12, x + width - 20):
        s.box(left, top + 34, left + 32, low, dark, 14)
    if rng.random() < 0.6:
        cx = x + width * rng.uniform(0.2, 0.8)
        s.blob(cx, low - 58, 30, 28, color_near(rng, pick(rng, CLOTHS)), 0.06, 8)


def _shelf(s):
    rng = s.rng
    x, width, y = rng.uniform(0, 0.6) * s.w, rng.uniform(0.3, 0.5) * s.w, s.horizon * 0.35
    wood = color_near(rng, pick(rng, FLOORS))
    at = x + 4
    while at < x + width - 14:
        thick, tall = rng.uniform(7, 15), rng.uniform(24, 42)
        if rng.random() < 0.8:
            s.box(at, y - tall, at + thick, y, color_near(rng, pick(rng, CLOTHS)), 2)
        at += thick + 1
    s.box(x, y, x + width, y + 7, wood)


def _rug(s):
    rng = s.rng
    color = color_near(rng, pick(rng, CLOTHS))
    x, y = rng.uniform(0.3, 0.7) * s.w, s.horizon + (s.h - s.horizon) * rng.uniform(0.5, 0.8)
    rx, ry = rng.uniform(0.35, 0.6) * s.w, (s.h - s.horizon) * rng.uniform(0.25, 0.45)
    for k, share in enumerate((1.0, 0.88, 0.8, 0.4)):
        tone = color if k % 2 == 0 else blend(color, (250, 240, 225), 0.6)
        s.draw.ellipse((x - rx * share, y - ry * share, x + rx * share, y + ry * share), fill=tone)


def draw_tiles(s):
    """A checked kitchen floor in perspective below a tiled wall."""
    rng, w = s.rng, s.w
    wall = color_near(rng, pick(rng, WALLS))
    s.fill(wall, blend(wall, (0, 0, 0), 0.05))
    step = int(rng.integers(22, 34))
    for y in range(0, s.horizon, step):
        s.draw.line((0, y, w, y), fill=(255, 255, 255, 110), width=2)
    for x in range(0, w, step):
        s.draw.line((x, 0, x, s.horizon), fill=(255, 255, 255, 110), width=2)
    light = s.accent or color_near(rng, pick(rng, ("efe6d8", "d9d4cc", "e3c9a8")))
    dark = color_near(rng, pick(rng, ("6f7f86", "8a5a48", "54575c", "7f8f6f", "b59a80")))
    s.floor(light, 0.9)
    rows = (s.h - s.horizon) * (np.arange(7) / 6) ** 1.7 + s.horizon
    middle = w * rng.uniform(0.3, 0.7)
    for i in range(6):
        for j in range(-7, 7):
            if (i + j) % 2:
                near, far = 30 + 70 * (i + 1) / 6, 30 + 70 * i / 6
                s.draw.polygon((middle + j * far, rows[i], middle + (j + 1) * far, rows[i],
                                middle + (j + 1) * near, rows[i + 1], middle + j * near,
                                rows[i + 1]), fill=dark)  # fmt: skip
    s.box(0, s.horizon - 9, w, s.horizon, blend(wall, (40, 30, 30), 0.3))


def draw_studio(s):
    """A photographer's backdrop with a soft light on it."""
    tone = s.accent or color_near(s.rng, pick(s.rng, WALLS + CLOTHS))
    pale = blend(tone, (255, 255, 255), 0.3)
    s.fill(blend(tone, (0, 0, 0), 0.12), tone, pale, blend(tone, (255, 255, 255), 0.1))
    s.blur = 2.0
    x, y = s.w * s.rng.uniform(0.3, 0.7), s.h * s.rng.uniform(0.3, 0.6)
    for k in range(6, 0, -1):
        r = k * 0.09 * (s.w + s.h) / 2
        s.draw.ellipse((x - r, y - r, x + r, y + r), fill=pale + (30,))


def draw_blanket(s):
    """A bed or a plaid, seen from above."""
    rng, w, h = s.rng, s.w, s.h
    base = s.accent or color_near(rng, pick(rng, CLOTHS))
    s.fill(blend(base, (255, 255, 255), 0.15), base)
    s.horizon = int(h * 0.25)
    other = color_near(rng, pick(rng, CLOTHS + WALLS))
    style, step = rng.integers(3), int(rng.integers(30, 56))
    if style == 0:
        for k in range(-h, w + h, step):
            s.draw.line((k, 0, k + h * 0.35, h), fill=other + (150,), width=step // 3)
            s.draw.line((0, k, w, k - w * 0.2), fill=other + (110,), width=step // 3)
    elif style == 1:
        for y in range(0, h + step, step):
            for x in range((y // step % 2) * step // 2, w + step, step):
                r = step * 0.2
                s.draw.ellipse((x - r, y - r, x + r, y + r), fill=other + (200,))
    else:
        for k in range(0, h, step):
            s.box(0, k, w, k + step // 2, other + (130,))
    for y in rng.uniform(-0.2, 1.2, 5) * h:
        _fold(s, y)
    s.blur = 1.0


def _fold(s, y):
    """A soft crease across the whole cloth: a dark side and a light one."""
    heights = y + s.rng.normal(0, 0.12 * s.h, 5)
    across = np.linspace(-0.1, 1.1, 5) * s.w
    for k, tone in enumerate(((0, 0, 0, 16), (0, 0, 0, 16), (255, 255, 255, 22))):
        curve = open_curve(np.stack([across, heights + 11 * k], 1))
        s.draw.line(curve.ravel().tolist(), fill=tone, width=24 - 7 * k, joint="curve")
