"""Draws cats and dogs with exact trimaps, head boxes and instance masks.

A picture is a pure function of `(seed, index, size)`: a background, one to three pets built from
smooth closed outlines, sometimes something in front of them, and the light over it all. `draw` in
`picture.py` is the place to start reading; the other files, in the order in which it needs them:

- `breeds.py`, `poses.py`, `heads.py` and `body.py` say what a pet consists of, in *pet units*,
  where the head's radius is 1 and y points down; `outlines.py` holds their curves;
- `background.py` chooses among `indoors.py` and `outdoors.py`, which draw on a `scene.py`;
- `arrangement.py` says who stands where, `crowd.py` does so for several pets that hide each other,
  and `things.py` says what stands before or behind the pets;
- `pet.py` paints a pet: `painter.py` its outlines, `coat.py` their colors, `textures.py` the fur;
- `trimaps.py` and `encoding.py` make the record of the data set.

Nothing here imports TensorFlow, so that processes that only draw start quickly.
"""

from seglib.data.drawing.breeds import BREEDS, LOOKS, SPECIES, Look
from seglib.data.drawing.encoding import encode
from seglib.data.drawing.picture import Picture, draw, frame_size
from seglib.data.drawing.poses import POSES
from seglib.data.drawing.trimaps import BACKGROUND, BORDER, BORDER_HALF_WIDTH, PET, trimap

# Part of the cache's fingerprint: raise it whenever a drawn pixel changes.
VERSION = 1

__all__ = [
    "BACKGROUND",
    "BORDER",
    "BORDER_HALF_WIDTH",
    "BREEDS",
    "LOOKS",
    "PET",
    "POSES",
    "SPECIES",
    "VERSION",
    "Look",
    "Picture",
    "draw",
    "encode",
    "frame_size",
    "trimap",
]
