"""Chooses and paints the background of a picture."""

import math

import numpy as np
from PIL import Image, ImageFilter

from seglib.data.drawing.choices import choose
from seglib.data.drawing.indoors import draw_blanket, draw_room, draw_studio, draw_tiles
from seglib.data.drawing.outdoors import draw_beach, draw_bokeh, draw_bricks, draw_outdoors
from seglib.data.drawing.scene import Scene

SCENES = {
    "room": (draw_room, 0.3),
    "outdoors": (draw_outdoors, 0.27),
    "beach": (draw_beach, 0.06),
    "bokeh": (draw_bokeh, 0.09),
    "tiles": (draw_tiles, 0.08),
    "studio": (draw_studio, 0.07),
    "blanket": (draw_blanket, 0.08),
    "bricks": (draw_bricks, 0.05),
}


def paint_background(width, height, rng, accent):
    """Returns the background `[3, H, W]` float32 and the horizon's row."""
    size = math.sqrt(width * height)
    scene = Scene(round(width * 256 / size), round(height * 256 / size), rng, accent)
    SCENES[choose(rng, SCENES, 1)][0](scene)
    image = scene.image.resize((width, height), Image.Resampling.BOX)
    # Backgrounds are a little out of focus, more or less as in photographs.
    radius = max(scene.blur, rng.uniform(0, 1.3)) * size / 128
    if radius > 0.35:
        image = image.filter(ImageFilter.BoxBlur(radius))
    rgb = np.array(np.asarray(image).transpose(2, 0, 1), np.float32, order="C")
    return rgb, scene.horizon * height / scene.h
