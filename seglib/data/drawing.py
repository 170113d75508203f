"""Draws cats and dogs with exact trimaps, head boxes and instance masks.

A picture is a pure function of `(seed, index, size)`: a scene, one to three pets built from
smooth closed outlines, sometimes something in front of them, and the light over it all. Outlines
are in *pet units*, where the head's radius is 1 and y points down; a `_Placement` maps them to
pixels. Nothing here imports TensorFlow.
"""

import dataclasses
import functools
import io
import math
import pickle
import sys

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

# Part of the cache's fingerprint: raise it whenever a drawn pixel changes.
VERSION = 1

# The border's half-width as a share of sqrt(height * width). Measured on the 961 real pairs of
# the 653/308 subset (shorter side 256): SciPy's Euclidean distance transform of the border, read
# on its ridge (the pixels that are their 3 x 3 neighborhood's maximum), median per trimap and
# then over the trimaps: 5.0 pixels, 0.0191 of sqrt(area) (quartiles 0.0169 and 0.0224).
BORDER_HALF_WIDTH = 0.0191

PET, BACKGROUND, BORDER = 1, 2, 3
SPECIES = ("Cat", "Dog")

_SUPERSAMPLING = 3
_TILE = 256  # side of the periodic texture tiles


@dataclasses.dataclass(frozen=True)
class Picture:
    """One drawn picture with everything that is known about it.

    Attributes:
        image: `[H, W, 3]` uint8, RGB.
        trimap: `[H, W]` uint8 with the values of the real files: 1 pet, 2 background, 3 border.
        instances: `[N, H, W]` bool, the visible pixels of each pet, disjoint, back to front.
        boxes: `[N, 4]` float32, relative (ymin, xmin, ymax, xmax) around the visible pixels.
        head_boxes: `[N, 4]` float32, the same around the part of each head inside the frame.
        species: `[N]` int64, 0 cat, 1 dog.
        breeds: `[N]` int64, position in `BREEDS`.
        poses: The name of each pet's pose.
        main: Position of the main pet, the one that `label` and the head box of TFDS describe.
        file_name: As in the real set, such as `"shiba_inu_12.jpg"`.
    """

    image: np.ndarray
    trimap: np.ndarray
    instances: np.ndarray
    boxes: np.ndarray
    head_boxes: np.ndarray
    species: np.ndarray
    breeds: np.ndarray
    poses: tuple
    main: int
    file_name: str

    @property
    def label(self):
        """The main pet's breed, an int in 0 ... 36, in the order of TFDS."""
        return int(self.breeds[self.main])


# ------------------------------------------------------------------------------------ breeds


def _rgb(code):
    """`"c08040"` as a float array."""
    return np.array([int(code[i : i + 2], 16) for i in (0, 2, 4)], np.float32)


@dataclasses.dataclass(frozen=True)
class Look:
    """What sets a breed apart. Lengths are relative to the species' usual one.

    Attributes:
        species: 0 cat, 1 dog.
        base: Coat color.
        pattern: One of plain, tabby, spots, patches, points, saddle, brindle, speckle.
        second: The pattern's color.
        parts: Colors of single parts: head, ear, muzzle, leg, paw, chest, tail, blaze, brow.
        eyes: Iris color.
        ears: pointed, floppy or folded; `ear` is their size.
        fur: 0 naked, 0.3 short, 1 long.
        muzzle: How far it protrudes.
        legs: Leg length.
        girth: Stoutness.
        tail: long, short, plume or curl.
        beard: Whether long hair hangs from the muzzle.
    """

    species: int
    base: str
    pattern: str = "plain"
    second: str = "40302a"
    parts: tuple = ()
    eyes: str = "c9a83c"
    ears: str = "pointed"
    ear: float = 1.0
    fur: float = 0.3
    muzzle: float = 1.0
    legs: float = 1.0
    girth: float = 1.0
    tail: str = "long"
    beard: bool = False


def _cat(base, pattern="plain", second="40302a", *, parts=None, **kwargs):
    return Look(0, base, pattern, second, tuple((parts or {}).items()), **kwargs)


def _dog(base, pattern="plain", second="40302a", *, parts=None, ears="floppy", **kwargs):
    kwargs.setdefault("eyes", "5a3a22")
    return Look(1, base, pattern, second, tuple((parts or {}).items()), ears=ears, **kwargs)


_WHITE = "efe8dc"
_SOCKS = {"muzzle": _WHITE, "chest": _WHITE, "paw": _WHITE}

# In the order of TFDS's labels, so that a label means the same in the drawn and the real set.
LOOKS = {
    "Abyssinian": _cat(
        "b9773f", "speckle", "7d4a26", parts={"muzzle": "e6bf93", "chest": "dba775"},
        eyes="a8b24c", ear=1.25, fur=0.2, girth=0.9,
    ),
    "american_bulldog": _dog(
        "ece4d8", "patches", "b9834f", parts={"muzzle": _WHITE}, ears="folded",
        muzzle=0.8, girth=1.2, tail="short",
    ),
    "american_pit_bull_terrier": _dog(
        "91593a", parts={"chest": _WHITE, "paw": _WHITE, "blaze": _WHITE}, ears="folded", girth=1.1,
    ),
    "basset_hound": _dog(
        "f1e7d8", "saddle", "7a4524", parts={"head": "b06a33", "ear": "9a5628", "muzzle": _WHITE,
        "blaze": _WHITE, "leg": "f1e7d8"}, ear=1.5, muzzle=1.15, legs=0.55, girth=1.1,
    ),
    "beagle": _dog(
        "f4ecdf", "saddle", "332a28", parts={"head": "be7a38", "ear": "a8642b", "muzzle": _WHITE,
        "blaze": _WHITE, "leg": _WHITE}, ear=1.05,
    ),
    "Bengal": _cat(
        "d79b50", "spots", "5e3820", parts={"muzzle": "f3dfbd", "chest": "f0d6a8"}, eyes="86ac52",
        fur=0.2,
    ),
    "Birman": _cat(
        "efe3d0", "points", "5c473a", parts={"paw": _WHITE}, eyes="4f8acb", fur=0.8, tail="plume",
    ),
    "Bombay": _cat("302d34", parts={"muzzle": "3a373f"}, eyes="e2a530", fur=0.25),
    "boxer": _dog(
        "c68b4f", parts={"muzzle": "3a2b26", "chest": _WHITE, "paw": _WHITE}, ears="folded",
        muzzle=0.8, girth=1.05, tail="short",
    ),
    "British_Shorthair": _cat(
        "848d99", parts={"muzzle": "99a1ab"}, eyes="e3952f", ear=0.8, fur=0.5, girth=1.2,
    ),
    "chihuahua": _dog(
        "dcae72", parts={"muzzle": "f1ddbb", "chest": "f3e2c4"}, ears="pointed", ear=1.4,
        muzzle=0.65, girth=0.8,
    ),
    "Egyptian_Mau": _cat(
        "bdb6a9", "spots", "4d4946", parts={"muzzle": "e4ded2"}, eyes="a3c95f", fur=0.2,
    ),
    "english_cocker_spaniel": _dog(
        "96512a", parts={"ear": "7f4120"}, ear=1.45, fur=0.75, tail="short",
    ),
    "english_setter": _dog(
        "f1ece3", "speckle", "4a4444", parts={"ear": "5a5250"}, ear=1.15, fur=0.65, muzzle=1.15,
        tail="plume",
    ),
    "german_shorthaired": _dog(
        "a3968b", "speckle", "4e3024", parts={"head": "553527", "ear": "4a2c20",
        "muzzle": "64402f"}, muzzle=1.15, tail="short",
    ),
    "great_pyrenees": _dog(
        "ece5d6", parts={"ear": "dccaa9", "muzzle": "f5f0e4"}, ear=0.85, fur=1.0, girth=1.2,
        tail="plume",
    ),
    "havanese": _dog(
        "ead9bc", "patches", "7b5539", parts={"muzzle": "f6ecd9"}, fur=1.0, legs=0.75,
        muzzle=0.75, tail="plume",
    ),
    "japanese_chin": _dog(
        "ede7dd", "patches", "302d30", parts={"ear": "2f2c2f", "head": "38353a", "blaze": "efe9df",
        "muzzle": "efe9df"}, fur=0.9, muzzle=0.5, legs=0.75, tail="plume",
    ),
    "keeshond": _dog(
        "938d85", "saddle", "3a3738", parts={"head": "a09a91", "ear": "353234", "muzzle": "544f4e",
        "leg": "d9d2c4", "chest": "d9d2c4"}, ears="pointed", ear=0.8, fur=1.1, tail="curl",
    ),
    "leonberger": _dog(
        "c38b4a", parts={"muzzle": "33251f", "ear": "5d3a22", "chest": "d8a867"}, fur=0.95,
        girth=1.15, tail="plume",
    ),
    "Maine_Coon": _cat(
        "94714f", "tabby", "432f22", parts={"muzzle": "e2cfb4", "chest": "d9c1a0"}, eyes="c9ad3f",
        ear=1.15, fur=1.0, girth=1.1, tail="plume",
    ),
    "miniature_pinscher": _dog(
        "2e2726", parts={"muzzle": "b96d34", "paw": "b96d34", "chest": "a9602c", "brow": "b96d34"},
        ears="pointed", ear=1.1, fur=0.15, girth=0.8, tail="short",
    ),
    "newfoundland": _dog("2b2930", parts={"muzzle": "36333a"}, fur=0.95, girth=1.2, tail="plume"),
    "Persian": _cat(
        "e3bf93", parts={"muzzle": "f4e2c8", "chest": "f4e2c8"}, eyes="d98a2e", ear=0.65, fur=1.15,
        muzzle=0.4, legs=0.75, girth=1.2, tail="plume",
    ),
    "pomeranian": _dog(
        "df9346", parts={"muzzle": "f4d6a8", "chest": "f6dcb0"}, ears="pointed", ear=0.65, fur=1.3,
        muzzle=0.6, legs=0.75, tail="curl",
    ),
    "pug": _dog(
        "dfc093", parts={"muzzle": "39302d", "ear": "3b322f"}, ears="folded", ear=0.8, muzzle=0.45,
        legs=0.75, girth=1.2, tail="curl",
    ),
    "Ragdoll": _cat(
        "efe6da", "points", "85746a", parts={"muzzle": _WHITE, "chest": _WHITE, "paw": _WHITE,
        "blaze": _WHITE}, eyes="5d9fdb", fur=0.85, girth=1.1, tail="plume",
    ),
    "Russian_Blue": _cat(
        "8f9db0", parts={"muzzle": "a3b0c0"}, eyes="86bd6c", ear=1.15, fur=0.25, girth=0.9,
    ),
    "saint_bernard": _dog(
        "ece4d7", "patches", "a85d2c", parts={"head": "a2582a", "ear": "7a3f20", "blaze": _WHITE,
        "muzzle": _WHITE, "leg": _WHITE}, fur=0.7, girth=1.25, tail="plume",
    ),
    "samoyed": _dog(
        "eee9e0", parts={"muzzle": "f7f3ec"}, ears="pointed", ear=0.75, fur=1.2, tail="curl",
    ),
    "scottish_terrier": _dog(
        "35343a", parts={"muzzle": "45434a"}, ears="pointed", ear=0.9, fur=0.8, muzzle=1.2,
        legs=0.6, tail="short", beard=True,
    ),
    "shiba_inu": _dog(
        "d38b45", parts={"muzzle": "f7e8d0", "chest": "f7e8d0", "paw": "f7e8d0", "brow": "f7e8d0"},
        ears="pointed", ear=0.85, fur=0.5, muzzle=0.85, tail="curl",
    ),
    "Siamese": _cat("ebdcc3", "points", "3f2e27", eyes="3f86d6", ear=1.25, fur=0.2, girth=0.85),
    "Sphynx": _cat(
        "e2b5a2", "patches", "cf9686", parts={"ear": "dba392"}, eyes="8fc4b4", ear=1.55, fur=0.0,
        girth=0.9,
    ),
    "staffordshire_bull_terrier": _dog(
        "6a5140", "brindle", "36281f", parts={"chest": _WHITE}, ears="folded", girth=1.15,
        muzzle=0.85,
    ),
    "wheaten_terrier": _dog(
        "dbb77c", parts={"muzzle": "c89a5e", "ear": "b98a50"}, ears="folded", fur=0.9,
        beard=True,
    ),
    "yorkshire_terrier": _dog(
        "5c6472", parts={"head": "cf9350", "ear": "bd7d3b", "muzzle": "dcaa6c", "leg": "cf9350",
        "chest": "c98c49"}, ears="pointed", ear=0.8, fur=1.05, muzzle=0.7, legs=0.7, tail="short",
        beard=True,
    ),
}  # fmt: skip
BREEDS = tuple(LOOKS)


# ---------------------------------------------------------------------------------- textures


def _filtered_noise(rng, response):
    """Periodic Gaussian noise with the given amplitude response, mean 0, deviation 1."""
    white = rng.standard_normal((_TILE, _TILE))
    tile = np.fft.irfft2(np.fft.rfft2(white) * response, s=(_TILE, _TILE))
    return ((tile - tile.mean()) / tile.std()).astype(np.float32)


@functools.cache
def _frequencies():
    fy = np.fft.fftfreq(_TILE)[:, None]
    fx = np.fft.rfftfreq(_TILE)[None, :]
    return fy, fx


@functools.cache
def _blotches(period):
    """Smooth blotches of about `period` pixels."""
    fy, fx = _frequencies()
    rng = np.random.default_rng([7, period])
    return _filtered_noise(rng, np.exp(-(fy**2 + fx**2) * (period * 1.4) ** 2))


@functools.cache
def _streaks(direction):
    """Fur: streaks along `direction`, an eighth of a half turn each."""
    fy, fx = _frequencies()
    angle = math.pi * direction / 8
    along = fx * math.cos(angle) + fy * math.sin(angle)
    across = fy * math.cos(angle) - fx * math.sin(angle)
    band = np.exp(-((along * 22) ** 2) - (across * 4.5) ** 2) * (np.abs(across) + 0.02)
    return _filtered_noise(np.random.default_rng([11, direction]), band)


@functools.cache
def _grain():
    fy, fx = _frequencies()
    return _filtered_noise(np.random.default_rng(13), np.exp(-(fy**2 + fx**2) * 4))


@functools.cache
def _dots():
    """Periodic rounded spots on a jittered grid, in [0, 1]; 16 pixels apart."""
    rng = np.random.default_rng(17)
    image = Image.new("L", (_TILE * 2, _TILE * 2))
    draw = ImageDraw.Draw(image)
    for row in range(17):
        for column in range(17):
            x = (column + 0.5 * (row % 2)) * 32 + rng.uniform(-7, 7)
            y = row * 32 + rng.uniform(-7, 7)
            rx, ry = rng.uniform(6, 11, 2)
            draw.ellipse((x - rx, y - ry, x + rx, y + ry), fill=255)
    image = image.filter(ImageFilter.GaussianBlur(2)).reduce(2)
    return np.asarray(image, np.float32) / 255


def _tile(texture, ys, xs):
    """Reads a periodic texture at the rows `ys` and columns `xs`, which may be negative."""
    rows = np.asarray(ys + 16 * _TILE).astype(np.int64) & (_TILE - 1)
    columns = np.asarray(xs + 16 * _TILE).astype(np.int64) & (_TILE - 1)
    return texture[rows[:, None], columns]


# ---------------------------------------------------------------------------------- outlines


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


def _closed(points):
    """A smooth closed outline through `points` `[K, 2]`."""
    points = np.asarray(points, float)
    count = len(points)
    around = np.arange(count)[:, None] + (_WINDOW - 1)
    return np.matmul(_BASIS, points[around % count]).reshape(-1, 2)


def _mirrored(right):
    """A smooth closed outline from its right half, listed from top to bottom."""
    right = np.asarray(right, float)
    left = right[::-1] * (-1, 1)
    return _closed(np.concatenate([right, left[(left[:, 0] < -1e-6)]]))


def _ellipse(x, y, rx, ry, angle=0.0):
    """An ellipse, turned by `angle` radians."""
    points = _CIRCLE * (rx, ry)
    if angle:
        points = points @ _rotation(angle)
    return points + (x, y)


def _rotation(angle):
    """Right-multiplied rotation that turns x towards y (clockwise on the screen)."""
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, s], [-s, c]])


def _open_curve(points):
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


def _limb(points, widths):
    """A tapered tube with round ends around a smooth curve; `widths` are radii."""
    knots = np.empty((len(points), 3))
    knots[:, :2], knots[:, 2] = points, widths
    curve = _open_curve(knots)
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


def _tufted(outline, length, rng):
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


# -------------------------------------------------------------------------------- pet anatomy


@dataclasses.dataclass
class _Part:
    """One piece of a pet: an outline in pet units and how it is covered.

    `axis` runs from the part's root to its tip: coats grade along it. `shade` darkens the far
    side, `tuft` scales the hair at the rim, `detail` marks what lies inside the pet's outline
    (no contribution to the mask).
    """

    kind: str
    outline: np.ndarray
    axis: tuple = ((0.0, -1.0), (0.0, 1.0))
    shade: float = 1.0
    tuft: float = 1.0
    color: str = ""
    relief: float = 1.0
    detail: bool = False
    strength: float = 1.0


@dataclasses.dataclass
class _Features:
    """Small face parts and toes: a list of (shape, points, color, width) drawn over the rest.

    They are left out where a pet unit has fewer than `visible_from` pixels.
    """

    shapes: list
    visible_from: float = 0.0


@dataclasses.dataclass
class _Contact:
    """Soft darkening of what is already painted of this pet, where another part rests on it."""

    center: tuple
    radius: tuple
    strength: float = 0.3


class _Body:
    """Collects a pet's parts, back to front."""

    def __init__(self, look, rng):
        self.look, self.rng, self.items = look, rng, []

    def add(self, kind, outline, axis=((0.0, -1.0), (0.0, 1.0)), **kwargs):
        self.items.append(_Part(kind, outline, axis, **kwargs))

    def limb(self, kind, points, widths, **kwargs):
        self.add(kind, _limb(points, widths), (points[0], points[-1]), **kwargs)

    def leg(self, points, width, *, paw=1.0, **kwargs):
        """A leg along `points` with a paw that points sideways by `paw` (0 to the viewer)."""
        count = len(points)
        widths = width * np.linspace(1.25, 0.82, count)
        self.limb("leg", points, widths, **kwargs)
        x, y = points[-1]
        reach = 0.13 * abs(paw)
        kwargs.pop("tuft", None)
        foot = _ellipse(x + 0.13 * paw, y + width * 0.25, width * 1.02 + reach, width * 0.72)
        self.add("paw", foot, ((x, y - width), (x, y + width)), tuft=0.35, **kwargs)
        if kwargs.get("shade", 1.0) > 0.9:
            tip = x + 0.13 * paw + (reach + width * 0.3) * np.sign(paw)
            lines = [
                [(tip + dx * width, y + width * 0.25), (tip + dx * width, y + width * 0.8)]
                for dx in (-0.28, 0.28)
            ]
            toes = [("line", np.array(points), "toe", 0.045) for points in lines]
            self.items.append(_Features(toes, visible_from=13.0))

    def tail(self, root, *, side=1.0, up=True):
        """A tail from `root`; `side` is the direction it leaves the body in."""
        x, y = root
        wag = self.rng.uniform(-0.25, 0.25)
        kind, fluff = self.look.tail, 0.06 + 0.1 * min(self.look.fur, 1.0)
        if kind == "short":
            end = (x + 0.45 * side, y - 0.35)
            self.limb("tail", [root, (x + 0.25 * side, y - 0.1), end], [0.2, 0.17, 0.12])
        elif kind == "curl":
            points = [root, (x + 0.45 * side, y - 0.5), (x + 0.15 * side, y - 1.05),
                      (x - 0.35 * side, y - 0.75)]  # fmt: skip
            self.limb("tail", points, [0.22, 0.26 + fluff, 0.28 + fluff, 0.14], tuft=1.4)
        else:
            rise = 1.0 if up else 0.15
            points = [root, (x + 0.75 * side, y - 0.1 * rise), (x + 1.15 * side, y - 0.7 * rise),
                      (x + (1.05 + wag) * side, y - 1.5 * rise)]  # fmt: skip
            if not up:
                points = [root, (x + 0.7 * side, y + 0.12), (x + 1.3 * side, y + 0.02),
                          (x + (1.8 + wag) * side, y - 0.22)]  # fmt: skip
            wide = 0.17 if kind == "long" else 0.17 + fluff
            widths = [0.2, wide, wide * (1.25 if kind == "plume" else 0.9), 0.1]
            self.limb("tail", points, widths, tuft=1.0 if kind == "long" else 1.8)


def _sit_front(body):
    look, rng = body.look, body.rng
    g, tall = 0.9 * look.girth, 1.0 + 0.7 * (look.legs - 1)
    low = 3.0 * tall
    side = 1.0 if rng.random() < 0.5 else -1.0
    body.tail((0.75 * g * side, low - 0.15), side=side, up=rng.random() < 0.35)
    for s in (-1, 1):
        body.add("body", _ellipse(0.82 * g * s, low - 0.55, 0.56 * g, 0.66 * tall), shade=0.94)
        body.leg([(0.95 * g * s, low - 0.3), (1.02 * g * s, low - 0.02)], 0.27, paw=0.6 * s)
    trunk = _mirrored(
        [(0, 0.1), (0.62 * g, 0.4), (0.8 * g, 1.2 * tall), (0.92 * g, 2.1 * tall),
         (0.78 * g, low - 0.2), (0.3, low)]
    )  # fmt: skip
    body.add("body", trunk, ((0, 0.3), (0, low)))
    chest = _ellipse(0, 1.35 * tall, 0.5 * g, 0.85 * tall)
    body.add("chest", chest, detail=True, tuft=1.6, relief=0.4)
    spread = rng.uniform(0.3, 0.42) * g
    for s in (-1, 1):
        top = (0.42 * g * s, 1.55 * tall)
        body.leg([top, (spread * s * 1.05, 2.3 * tall), (spread * s, low)], 0.26, paw=0.15 * s)
    body.items.append(_Contact((0, 0.85), (0.95, 0.5)))
    _head(body, (rng.uniform(-0.1, 0.1), 0), yaw=rng.uniform(-0.5, 0.5))


def _sit_side(body):
    look, rng = body.look, body.rng
    g, tall = 0.95 * look.girth, 1.0 + 0.7 * (look.legs - 1)
    low = 3.05 * tall
    body.tail((-1.45 * g, low - 0.25), side=-1.0, up=rng.random() < 0.4)
    body.leg([(0.75, 1.5 * tall), (0.85, 2.3 * tall), (0.84, low - 0.12)], 0.24, paw=1.0,
             shade=0.78)  # fmt: skip
    trunk = _closed(
        [(0.25, 0.0), (0.85, 0.7), (0.85 + 0.1 * g, 1.5 * tall), (0.55, 2.3 * tall),
         (-0.1, low - 0.1), (-1.2 * g, low), (-1.62 * g, low - 0.55 * tall),
         (-1.3 * g, 1.75 * tall), (-0.55 * g, 0.9 * tall), (-0.4, 0.2)]
    )  # fmt: skip
    body.add("body", trunk, ((-0.2, 0.2), (-0.6, low)))
    body.add("chest", _ellipse(0.62, 1.3 * tall, 0.32, 0.75 * tall, 0.1), detail=True, tuft=1.6,
             relief=0.4)  # fmt: skip
    body.add("body", _ellipse(-0.75 * g, low - 0.72 * tall, 0.78 * g, 0.72 * tall), shade=1.03)
    body.leg([(-0.45, low - 0.2), (0.0, low - 0.02)], 0.26, paw=1.1)
    body.leg([(0.5, 1.55 * tall), (0.52, 2.3 * tall), (0.48, low)], 0.27, paw=1.0)
    body.items.append(_Contact((0.25, 0.85), (0.9, 0.5)))
    _head(body, (0.35, 0), yaw=rng.uniform(-0.2, 0.95))


def _stand(body):
    look, rng = body.look, body.rng
    g, leg = look.girth, 1.55 * look.legs
    top, bottom = 0.75, 1.75 + 0.15 * g
    low = bottom + leg - 0.1
    stride = rng.uniform(-0.12, 0.4) if rng.random() < 0.6 else rng.uniform(0.4, 0.85)
    lift = rng.random() < 0.4
    body.tail((-1.75, top + 0.2), side=-1.0, up=rng.random() < 0.75)
    knee = (bottom + low) / 2
    body.leg([(-1.15, bottom - 0.5), (-1.0 + stride * 0.3, knee), (-1.2 + stride, low - 0.15)],
             0.26, paw=0.9, shade=0.76)  # fmt: skip
    body.leg([(1.0, bottom - 0.5), (1.05 - stride * 0.3, knee),
              (1.0 - stride, low - 0.15 - 0.35 * lift)], 0.24, paw=0.9, shade=0.76)  # fmt: skip
    trunk = _closed(
        [(1.1, 0.15), (1.5, 0.9), (1.35, bottom - 0.25), (0.7, bottom + 0.05 * g),
         (-0.5, bottom - 0.18), (-1.3, bottom - 0.05), (-1.85, bottom - 0.5), (-1.85, top + 0.2),
         (-1.2, top - 0.08), (-0.2, top), (0.55, top - 0.12), (0.8, 0.3)]
    )  # fmt: skip
    body.add("body", trunk, ((0, top), (0, bottom)))
    body.add("chest", _ellipse(1.22, 1.15, 0.28, 0.55, -0.25), detail=True, tuft=1.6, relief=0.4)
    body.add("body", _ellipse(-1.38, bottom - 0.55, 0.58, 0.68), shade=1.02, relief=0.7)
    body.leg([(-1.45, bottom - 0.3), (-1.7 - stride * 0.2, knee), (-1.5 - stride * 0.6, low)],
             0.29, paw=0.9)  # fmt: skip
    body.leg([(0.8, bottom - 0.4), (0.85 + stride * 0.4, knee), (0.75 + stride, low)], 0.28,
             paw=0.9)  # fmt: skip
    body.items.append(_Contact((1.3, 0.75), (0.85, 0.55)))
    _head(body, (1.45, -0.1 + rng.uniform(-0.1, 0.35)), yaw=rng.uniform(0.1, 1.05))


def _lie_side(body):
    look, rng = body.look, body.rng
    g = look.girth
    low = 2.05
    body.tail((-2.1, low - 0.3), side=-1.0, up=False)
    trunk = _closed(
        [(0.55, 0.2), (1.15, 0.9), (1.15, low - 0.15), (0, low), (-1.6, low), (-2.25, low - 0.35),
         (-2.2, 1.3 - 0.25 * g), (-1.4, 1.05 - 0.35 * g), (-0.3, 1.05 - 0.2 * g), (0.1, 0.5)]
    )  # fmt: skip
    body.leg([(0.8, low - 0.35), (1.7, low - 0.12)], 0.24, paw=1.0, shade=0.8)
    body.add("body", trunk, ((-0.5, 0.7), (-0.5, low)))
    body.add("chest", _ellipse(0.85, 1.15, 0.32, 0.6, -0.2), detail=True, tuft=1.6, relief=0.4)
    body.add("body", _ellipse(-1.45, low - 0.6, 0.78, 0.62 * g), shade=1.03)
    body.leg([(-1.1, low - 0.15), (-0.6, low - 0.05)], 0.25, paw=1.0)
    body.leg([(0.45, low - 0.4), (1.0, low - 0.1), (1.55, low + 0.03)], 0.27, paw=1.0)
    body.items.append(_Contact((0.75, 0.85), (0.9, 0.5)))
    _head(body, (0.8, rng.uniform(-0.1, 0.35)), yaw=rng.uniform(-0.3, 0.9), sleepy=0.12)


def _loaf(body):
    g, rng = body.look.girth, body.rng
    side = 1.0 if rng.random() < 0.5 else -1.0
    body.tail((1.15 * g * side, 1.75), side=side, up=False)
    body.add("body", _ellipse(0.45 * side, 0.95, 1.35 * g, 0.98), ((0, 0), (0, 1.9)))
    trunk = _mirrored([(0, 0.1), (0.9 * g, 0.55), (1.2 * g, 1.3), (0.95 * g, 1.9), (0.3, 1.98)])
    body.add("body", trunk, ((0, 0.2), (0, 2.0)))
    body.add("chest", _ellipse(0, 1.2, 0.62 * g, 0.6), detail=True, tuft=1.6, relief=0.4)
    for s in (-1, 1):
        body.leg([(0.6 * g * s, 1.35), (0.5 * s, 1.92)], 0.29, paw=0.1 * s)
    body.items.append(_Contact((0, 0.8), (0.95, 0.5)))
    _head(body, (0, rng.uniform(-0.05, 0.3)), yaw=rng.uniform(-0.6, 0.6), sleepy=0.2)


def _curl(body):
    g, rng = body.look.girth, body.rng
    body.add("body", _ellipse(-0.25, 0.2, 1.75 * g, 1.1), ((-0.3, -0.9), (-0.3, 1.3)))
    body.add("body", _ellipse(-1.05 * g, 0.55, 0.82, 0.72), shade=1.03)
    body.leg([(-0.2, 1.05), (0.35, 1.15)], 0.24, paw=1.0)
    body.items.append(_Contact((0.75, 0.6), (1.05, 0.9)))
    _head(body, (0.85, 0.3), yaw=rng.uniform(-0.3, 0.5), roll=rng.uniform(0.15, 0.4), sleepy=1.0)
    wide = 0.2 if body.look.tail == "long" else 0.3
    points = [(-1.75 * g, 0.75), (-1.0, 1.28), (0.0, 1.38), (0.75, 1.3)]
    body.limb("tail", points, [wide, wide, wide * 0.9, 0.12], tuft=1.2)


def _close_up(body):
    g, rng = body.look.girth, body.rng
    trunk = _mirrored([(0, 0.1), (0.8 * g, 0.45), (1.25 * g, 1.3), (1.5 * g, 2.6), (0.6, 2.9)])
    body.add("body", trunk, ((0, 0.2), (0, 2.8)))
    body.add("chest", _ellipse(0, 1.7, 0.68 * g, 1.0), detail=True, tuft=1.6, relief=0.4)
    body.items.append(_Contact((0, 0.8), (1.0, 0.55)))
    _head(body, (0, 0), yaw=rng.uniform(-0.75, 0.75))


# Name -> (builder, chance, share of the parts' bounding box that the pet fills).
POSES = {
    "sit_front": (_sit_front, 0.22, 0.55),
    "sit_side": (_sit_side, 0.16, 0.55),
    "stand": (_stand, 0.19, 0.45),
    "lie_side": (_lie_side, 0.15, 0.5),
    "loaf": (_loaf, 0.1, 0.62),
    "curl": (_curl, 0.06, 0.75),
    "close_up": (_close_up, 0.12, 0.65),
}


# -------------------------------------------------------------------------------------- heads


class _Globe:
    """Places face parts on a ball that turns sideways (`yaw`) and up or down (`pitch`)."""

    def __init__(self, center, yaw, pitch, roll):
        self.center, self.yaw, self.pitch = np.asarray(center, float), yaw, pitch
        self.rotation = _rotation(roll)

    def out(self, points):
        """From head units to pet units."""
        return np.asarray(points, float) @ self.rotation + self.center

    def at(self, longitude, latitude, radius=1.0):
        """Position and foreshortening of a point; angles in radians, latitude up."""
        lat, lon = latitude - self.pitch, longitude + self.yaw
        x = radius * math.cos(lat) * math.sin(lon)
        return x, -radius * math.sin(lat), math.cos(lon)


def _head(body, center, *, yaw=0.0, roll=None, sleepy=0.0):
    rng = body.rng
    roll = rng.normal(0, 0.1) if roll is None else roll
    yaw *= 1.0 if body.look.species else 0.75  # a cat's face is flat: no profile
    globe = _Globe(center, yaw, rng.uniform(-0.1, 0.12), float(np.clip(roll, -0.4, 0.4)))
    (_dog_head if body.look.species else _cat_head)(body, globe, rng.random() < sleepy)


def _ears(body, globe, longitude, latitude, layer):
    """Both ears; `layer` is "behind" or "front" of the head."""
    look = body.look
    order = sorted((-1, 1), key=lambda s: globe.at(s * longitude, 0)[2])
    for s in order:
        x, y, depth = globe.at(s * longitude, latitude, 0.98)
        narrow = 0.72 + 0.28 * max(0.0, min(1.0, 0.6 + depth))
        shade = 0.9 if depth < -0.35 else 1.0
        build = _pointed_ear if look.ears == "pointed" else _hanging_ear
        build(body, globe, (x, y), s, narrow, shade, layer)


def _pointed_ear(body, globe, root, s, narrow, shade, layer):
    if layer == "front":
        return
    size = body.look.ear * (1.0 if body.look.species == 0 else 0.95)
    wide, tall = 0.43 * narrow * (0.55 + 0.45 * size), 0.92 * size
    x, y = root
    tip = (x + s * 0.2 * size, y - tall)
    shape = [
        (x - s * wide, y - 0.12),
        (x - s * wide * 0.45 + s * 0.02, y - tall * 0.62),
        tip,
        (x + s * wide * 0.95, y - tall * 0.4),
        (x + s * wide, y + 0.3),
        (x, y + 0.4),
    ]
    axis = (globe.out((x, y + 0.3)), globe.out(tip))
    body.add("ear", globe.out(_closed(shape)), axis, shade=shade, tuft=0.5)
    if shade == 1.0:
        middle = np.array([(x, y + 0.1)])
        inner = middle + (np.array(shape) - middle) * (0.6, 0.72)
        body.add("inner", globe.out(_closed(inner)), axis, tuft=0.2, detail=True, relief=0.4)


def _hanging_ear(body, globe, root, s, narrow, shade, layer):
    if layer != "front":
        return
    look = body.look
    x, y = root
    flap = 0.12 * body.rng.uniform(-1, 1)
    if look.ears == "folded":
        size = 0.9 * look.ear
        shape = [(x - s * 0.34 * narrow, y - 0.06), (x + s * 0.05, y - 0.22),
                 (x + s * 0.38 * size, y - 0.02), (x + s * (0.5 + flap) * size, y + 0.5 * size),
                 (x + s * 0.12, y + 0.32 * size)]  # fmt: skip
        tip = shape[3]
    else:
        size = look.ear
        shape = [(x - s * 0.22 * narrow, y - 0.1), (x + s * 0.16, y - 0.12),
                 (x + s * (0.42 + flap), y + 0.4 * size), (x + s * (0.44 + flap), y + 0.95 * size),
                 (x + s * (0.16 + flap), y + 1.2 * size),
                 (x - s * (0.12 - flap), y + 0.85 * size),
                 (x - s * 0.14, y + 0.35 * size)]  # fmt: skip
        tip = shape[4]
    axis = (globe.out((x, y)), globe.out(tip))
    body.add("ear", globe.out(_closed(shape)), axis, shade=shade * 0.97, tuft=0.9, relief=1.1)


def _blaze(body, globe):
    """The light stripe from forehead to muzzle."""
    points = [globe.at(0, lat)[:2] for lat in (0.95, 0.5, 0.1, -0.3)]
    body.add("blaze", globe.out(_limb(points, [0.08, 0.13, 0.16, 0.3])), detail=True, relief=0.1,
             tuft=0.4)  # fmt: skip


def _eyes(body, globe, shapes, longitude, latitude, draw):
    for s in (-1, 1):
        x, y, depth = globe.at(s * longitude, latitude)
        if depth > 0.25:
            draw(shapes, globe, x, y, s, min(1.0, 0.45 + 0.6 * depth))


def _closed_eye(shapes, globe, x, y, s, narrow):
    line = [(x - 0.2 * narrow, y), (x, y + 0.11), (x + 0.2 * narrow, y)]
    shapes.append(("line", globe.out(_open_curve(line)), "ink", 0.075))


def _cat_eye(shapes, globe, x, y, s, narrow):
    tilt = -0.2 * s
    shapes += [
        ("polygon", globe.out(_ellipse(x, y, 0.275 * narrow, 0.25, tilt)), "ink", 0),
        ("polygon", globe.out(_ellipse(x, y, 0.225 * narrow, 0.21, tilt)), "iris", 0),
        ("polygon", globe.out(_ellipse(x, y + 0.07, 0.15 * narrow, 0.11)), "glow", 0),
        ("polygon", globe.out(_ellipse(x, y, 0.095 * narrow, 0.19)), "pupil", 0),
        ("polygon", globe.out(_ellipse(x - 0.07, y - 0.09, 0.065, 0.065)), "gleam", 0),
    ]


def _dog_eye(shapes, globe, x, y, s, narrow):
    shapes += [
        ("polygon", globe.out(_ellipse(x, y, 0.2 * narrow, 0.19)), "ink", 0),
        ("polygon", globe.out(_ellipse(x, y + 0.01, 0.155 * narrow, 0.15)), "iris", 0),
        ("polygon", globe.out(_ellipse(x, y + 0.01, 0.09 * narrow, 0.1)), "pupil", 0),
        ("polygon", globe.out(_ellipse(x - 0.055, y - 0.065, 0.058, 0.058)), "gleam", 0),
    ]


def _cat_head(body, globe, asleep):
    look, rng = body.look, body.rng
    _ears(body, globe, 1.0, 0.72, "behind")
    cheek = 1.0 + 0.1 * look.fur + 0.06 * (look.girth - 1)
    skull = _mirrored([(0, -0.84), (0.55, -0.76), (0.97 * cheek, -0.15), (0.94 * cheek, 0.35),
                       (0.55, 0.76), (0.0, 0.86)])  # fmt: skip
    body.add("head", globe.out(skull), (globe.out((0, -0.8)), globe.out((0, 0.85))))
    if "blaze" in dict(look.parts):
        _blaze(body, globe)
    x, y, _ = globe.at(0, -0.42, 1.0)
    if look.pattern == "points":
        body.add("mask", globe.out(_ellipse(x * 0.9, y - 0.12, 0.62, 0.6)), detail=True, relief=0,
                 tuft=2.0, strength=0.85)  # fmt: skip
    else:
        for s in (-1, 1):
            puff = _ellipse(x + 0.19 * s, y + 0.04, 0.29, 0.24)
            body.add("muzzle", globe.out(puff), detail=True, relief=0.35, tuft=0.4)
    shapes = []
    if look.pattern in ("tabby", "spots"):
        for dx in (-0.28, 0.0, 0.28):
            top, end = globe.at(dx * 1.2, 1.0)[:2], globe.at(dx * 0.9, 0.48)[:2]
            shapes.append(("line", globe.out([top, end]), "mark", 0.09))
        for s in (-1, 1):
            for lat in (-0.1, -0.4):
                a, b = globe.at(s * 0.85, lat), globe.at(s * 1.25, lat + 0.1)
                if b[2] > 0.1:
                    shapes.append(("line", globe.out([a[:2], b[:2]]), "mark", 0.07))
    eye = _closed_eye if asleep else _cat_eye
    _eyes(body, globe, shapes, 0.47, 0.06, eye)
    nose = y - 0.12
    shapes.append(("polygon", globe.out([(x - 0.13, nose - 0.06), (x, nose - 0.09),
                   (x + 0.13, nose - 0.06), (x, nose + 0.08)]), "catnose", 0))  # fmt: skip
    for s in (-1, 1):
        mouth = [(x, nose + 0.07), (x + 0.02 * s, nose + 0.2), (x + 0.2 * s, nose + 0.25),
                 (x + 0.3 * s, nose + 0.14)]  # fmt: skip
        shapes.append(("line", globe.out(_open_curve(mouth)), "mouth", 0.045))
        for k in range(3):
            droop = (k - 1) * 0.17 + rng.uniform(-0.04, 0.04)
            start = (x + 0.3 * s, nose + 0.14 + 0.05 * (k - 1))
            hair = [start, (x + 0.8 * s, nose + 0.06 + droop * 0.8),
                    (x + 1.3 * s, nose + 0.16 + droop * 1.6)]  # fmt: skip
            shapes.append(("line", globe.out(_open_curve(hair)), "whisker", 0.03))
    body.items.append(_Features(shapes))


def _dog_head(body, globe, asleep):
    look, rng = body.look, body.rng
    parts = dict(look.parts)
    _ears(body, globe, 0.95 if look.ears == "pointed" else 1.15, 0.66, "behind")
    wide = 0.9 + 0.12 * look.fur + 0.1 * (look.girth - 1)
    jowl = 0.62 + 0.22 * look.fur * (look.muzzle < 1.1)
    skull = _mirrored([(0, -0.86), (0.5, -0.78), (0.87 * wide, -0.2), (0.82 * wide, 0.25),
                       (jowl, 0.68), (0.0, 0.86)])  # fmt: skip
    body.add("head", globe.out(skull), (globe.out((0, -0.8)), globe.out((0, 0.85))))
    if look.pattern == "points" or "brow" in parts:
        for s in (-1, 1):
            x, y, depth = globe.at(0.36 * s, 0.47)
            if depth > 0.3:
                body.add("brow", globe.out(_ellipse(x, y, 0.12, 0.09)), detail=True, relief=0,
                         tuft=0.3)  # fmt: skip
    if "blaze" in parts:
        _blaze(body, globe)
    reach = 0.38 * look.muzzle
    sx = math.sin(globe.yaw)
    root = (0.35 * sx, 0.3 + 0.2 * globe.pitch)
    tip = ((0.55 + 1.25 * reach) * sx, 0.42 + 0.5 * globe.pitch)
    size = 0.43 + 0.05 * (look.girth - 1)
    body.add("muzzle", globe.out(_limb([root, ((root[0] + tip[0]) / 2, 0.36), tip],
             [size, size * 0.97, size * 0.84])), (globe.out(root), globe.out(tip)),
             relief=0.75, tuft=0.6)  # fmt: skip
    if look.beard:
        beard = _ellipse(tip[0], tip[1] + 0.3, 0.45, 0.32)
        body.add("muzzle", globe.out(beard), relief=0.3, tuft=2.2)
    shapes = []
    nose_x, nose_y = tip[0] + 0.12 * sx, tip[1] - 0.2
    happy = not asleep and rng.random() < 0.4
    if happy:
        jaw = np.array([(-0.26, 0.31), (0, 0.36), (0.26, 0.31), (0.17, 0.53), (-0.17, 0.53)])
        jaw += (nose_x, nose_y)
        shapes.append(("polygon", globe.out(_closed(jaw)), "ink", 0))
        tongue = _ellipse(nose_x + 0.02, nose_y + 0.5, 0.13, 0.14)
        shapes.append(("polygon", globe.out(tongue), "tongue", 0))
    shapes.append(("line", globe.out([(nose_x, nose_y + 0.1), (nose_x, nose_y + 0.3)]), "mouth",
                   0.05))  # fmt: skip
    for s in (-1, 1):
        lip = [(nose_x, nose_y + 0.3), (nose_x + 0.16 * s, nose_y + 0.37),
               (nose_x + 0.33 * s, nose_y + 0.26)]  # fmt: skip
        shapes.append(("line", globe.out(_open_curve(lip)), "mouth", 0.05))
    eye = _closed_eye if asleep else _dog_eye
    _eyes(body, globe, shapes, 0.42, 0.16, eye)
    _ears(body, globe, 0.95 if look.ears == "pointed" else 1.15, 0.66, "front")
    shapes += [
        ("polygon", globe.out(_ellipse(nose_x, nose_y, 0.2, 0.145)), "dognose", 0),
        ("polygon", globe.out(_ellipse(nose_x - 0.05, nose_y - 0.06, 0.08, 0.035)), "shine", 0),
    ]
    body.items.append(_Features(shapes))


# ------------------------------------------------------------------------------------ painting


@dataclasses.dataclass(frozen=True)
class _Placement:
    """Maps pet units to pixels."""

    origin: tuple
    scale: float
    flip: bool = False
    tilt: float = 0.0

    def __call__(self, points):
        points = np.asarray(points, float)
        if self.tilt:
            points = points @ _rotation(self.tilt)
        return points * (-self.scale if self.flip else self.scale, self.scale) + self.origin


class _Coat:
    """Colors one pet: its breed's look with a little variation of its own."""

    def __init__(self, look, rng):
        self.look = look
        self.tint = np.float32(rng.normal(1.0, 0.045)) * (
            1 + rng.normal(0, 0.015, 3).astype(np.float32)
        )
        self.parts = {kind: _rgb(code) * self.tint for kind, code in look.parts}
        self.base = _rgb(look.base) * self.tint
        self.second = _rgb(look.second) * self.tint
        self.offset = rng.integers(0, _TILE, 2)
        self.strength = rng.uniform(0.75, 1.0)
        self.dark = float(self.base.mean()) < 95
        self.iris = _rgb(look.eyes) * np.float32(rng.uniform(0.92, 1.08))

    def has(self, kind):
        """Whether a detail that only some breeds have is drawn."""
        return kind not in ("chest", "blaze", "brow") or kind in self.parts

    def color(self, kind):
        if kind in self.parts:
            return self.parts[kind]
        if kind == "paw":
            return self.color("leg")
        if kind == "muzzle":
            return self.base * 0.8 + 0.2 * np.float32(245)
        if kind == "inner":
            return self.color("ear") * 0.45 + _rgb("e8a79c") * (0.3 if self.dark else 0.55)
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
        wobble = 1.5 * grid.tile(_blotches(24), self.offset, 22)
        band = np.sin(grid.stripes(kind) * (2 * math.pi / pitch) + wobble)
        share = {"head": 0.25, "paw": 0.3}.get(kind, 0.75)
        return _smooth(band, thick, 0.75) * (share * self.strength)

    def _brindle(self, kind, grid):
        if kind == "ear":
            return np.float32(0.6)
        streaks = grid.tile(_streaks(3), self.offset, 26)
        return _smooth(streaks, -0.4, 1.0) * (0.7 * self.strength)

    def _spots(self, kind, grid):
        if kind in ("ear", "head"):
            return None
        spots = grid.tile(_dots(), self.offset, 48 if kind == "body" else 60)
        return spots * self.strength * (0.5 if kind == "paw" else 0.85)

    def _patches(self, kind, grid):
        level = {"ear": -0.6, "head": 0.45, "leg": 0.9, "paw": 3.0, "tail": 0.0}.get(kind, 0.35)
        patches = grid.tile(_blotches(64), self.offset, 34)
        return _smooth(patches, level, level + 0.3) * 0.95

    def _saddle(self, kind, grid):
        if kind == "tail":
            return 1 - _smooth(grid.along, 0.55, 0.8)
        if kind != "body":
            return None
        edge = grid.along + 0.1 * grid.tile(_blotches(24), self.offset, 22)
        return (1 - _smooth(edge, 0.42, 0.62)) * 0.95

    def _speckle(self, kind, grid):
        share = {"muzzle": 0.2, "ear": 0.2, "head": 0.3, "paw": 0.4}.get(kind, 0.65)
        speckle = grid.tile(_blotches(6), self.offset, 44)
        big = grid.tile(_blotches(64), self.offset, 34)
        return _smooth(speckle + 0.8 * big, 0.5, 1.5) * share


def _smooth(x, low, high):
    """The smooth step from 0 at `low` to 1 at `high`."""
    t = np.clip((x - low) * np.float32(1 / (high - low)), 0, 1)
    return t * t * (3 - 2 * t)


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
        return _tile(texture, ys, xs)


_SHADE_TINT = np.array([1.05, 1.0, 0.88], np.float32)


def _shifted(shape, dx, dy):
    """Two windows of one size, `(dx, dy)` ahead of and behind their common middle."""
    height, width = shape
    ay, ax = abs(dy), abs(dx)
    near = np.s_[ay + dy : height - ay + dy, ax + dx : width - ax + dx]
    far = np.s_[ay - dy : height - ay - dy, ax - dx : width - ax - dx]
    return near, far


class _Painter:
    """Paints parts onto the picture, in place, and keeps the pixels that they cover."""

    def __init__(self, rgb, light, rng):
        self.rgb, self.light, self.rng = rgb, light, rng
        self.alpha = np.zeros(rgb.shape[:2], np.float32)

    def outline(self, points):
        """Antialiased coverage of an outline in pixels: `(box, "L" image)`, or `None`."""
        height, width = self.alpha.shape
        x0, y0 = np.maximum(np.floor(points.min(0)) - 1, 0).astype(int)
        x1, y1 = np.minimum(np.ceil(points.max(0)) + 1, (width, height)).astype(int)
        if x1 - x0 < 1 or y1 - y0 < 1:
            return None
        n = _SUPERSAMPLING
        mask = Image.new("L", (int(x1 - x0) * n, int(y1 - y0) * n))
        local = (points - (x0, y0)) * n - 0.5
        ImageDraw.Draw(mask).polygon(local.ravel().tolist(), fill=255)
        return (x0, y0, x1, y1), mask.reduce(n)

    def part(self, part, place, color, *, amount=None, second=None, fur=0.3):
        """Paints one part; `amount(grid)` says where `second` replaces `color`."""
        points = place(part.outline)
        tuft = fur * part.tuft * place.scale * 0.095
        if tuft > 0.15:
            points = _tufted(points, min(tuft, 4.0), self.rng)
        covered = self.outline(points)
        if covered is None:
            return
        (x0, y0, x1, y1), mask = covered
        grid = _Grid((x0, y0, x1, y1), *place(part.axis), place.scale, place.origin)
        share = np.asarray(mask, np.float32)
        rgb = np.asarray(color, np.float32)
        much = amount(grid) if amount else None
        if much is not None:
            rgb = rgb + np.multiply.outer(much, second - color)
        rgb = self.relief(mask, share, part, fur, grid) * rgb
        share *= np.float32(part.strength / 255)
        under = self.rgb[y0:y1, x0:x1]
        rgb -= under
        rgb *= share[..., None]
        under += rgb
        if not part.detail:
            alpha = self.alpha[y0:y1, x0:x1]
            np.maximum(alpha, share, out=alpha)

    def relief(self, mask, share, part, fur, grid):
        """Brightness `[h, w, 3]` as if the part were inflated, with the grain of its fur."""
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
            streaks = _streaks(round(direction * 8 / math.pi) % 8)
            shade += grid.tile(streaks, (0, 0), min(40.0, grid.scale * 2.2)) * np.float32(
                0.015 + 0.045 * min(fur, 1.0)
            )
        # Shadows are a little cooler and lights a little warmer than the coat itself.
        return 1 + np.multiply.outer(shade, _SHADE_TINT)

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
        self.rgb[y0:y1, x0:x1] *= 1 - dark[..., None]

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
        under = Image.fromarray(self.rgb[y0:y1, x0:x1].clip(0, 255).astype(np.uint8))
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
        self.rgb[y0:y1, x0:x1] = np.asarray(image.reduce(n), np.float32)


def _feature_colors(coat):
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


_HEAD_KINDS = ("head", "ear", "muzzle")


@dataclasses.dataclass
class _Pet:
    """A pet before it is painted."""

    breed: int
    pose: str
    body: _Body
    low: np.ndarray
    high: np.ndarray
    head: np.ndarray

    @property
    def look(self):
        return self.body.look


def _build_pet(breed, pose, rng):
    look = LOOKS[BREEDS[breed]]
    body = _Body(look, rng)
    POSES[pose][0](body)
    parts = [item for item in body.items if isinstance(item, _Part)]
    everything = np.concatenate([part.outline for part in parts])
    head = np.concatenate([part.outline for part in parts if part.kind in _HEAD_KINDS])
    return _Pet(breed, pose, body, everything.min(0), everything.max(0), head)


def _paint_pet(pet, place, rgb, light, rng):
    """Paints a pet; returns its coverage and its head's coverage, both `[H, W]` in 0 ... 1."""
    coat, painter = _Coat(pet.look, rng), _Painter(rgb, light, rng)
    head = _Painter(rgb, light, rng)
    colors, fur = _feature_colors(coat), pet.look.fur
    for item in pet.body.items:
        if isinstance(item, _Features):
            if place.scale >= item.visible_from:
                painter.features(item.shapes, place, colors)
        elif isinstance(item, _Contact):
            painter.contact(item, place)
        elif coat.has(item.kind):
            (head if item.kind in _HEAD_KINDS else painter).part(
                item, place, coat.color(item.kind), second=coat.second, fur=fur,
                amount=lambda grid, item=item: coat.amount(item, grid),
            )  # fmt: skip
    return np.maximum(painter.alpha, head.alpha), head.alpha


# ------------------------------------------------------------------------------------- scenes


def _pick(rng, options):
    return options[int(rng.integers(len(options)))]


def _jitter(rng, code, spread=10):
    """A color near `code` as an int tuple."""
    rgb = _rgb(code) + rng.normal(0, spread, 3) + rng.normal(0, spread)
    return tuple(int(v) for v in np.clip(rgb, 0, 255))


def _blend(a, b, share):
    return tuple(int(x + (y - x) * share) for x, y in zip(a, b, strict=True))


def _gradient(width, height, stops):
    """A vertical gradient through evenly spaced colors."""
    stops = np.array(stops, np.float32)
    at = np.linspace(0, len(stops) - 1, height)
    column = np.stack([np.interp(at, np.arange(len(stops)), band) for band in stops.T], 1)
    column = Image.fromarray(column.astype(np.uint8)[:, None])
    return column.resize((width, height), Image.Resampling.NEAREST)


class _Scene:
    """A background under construction, of about 256 x 256 pixels whatever the picture's size."""

    def __init__(self, width, height, rng, accent):
        self.w, self.h, self.rng, self.accent = width, height, rng, accent
        self.horizon = int(self.h * rng.uniform(0.45, 0.72))
        self.blur = 0.0
        self.fill("808080")

    def fill(self, *stops):
        """Fills everything with a vertical gradient of color tuples or hex codes."""
        stops = [_jitter(self.rng, s) if isinstance(s, str) else s for s in stops]
        self.image = _gradient(self.w, self.h, stops)
        self.draw = ImageDraw.Draw(self.image, "RGBA")

    def floor(self, color, far=0.82):
        """The ground below the horizon, darker towards it."""
        ground = _gradient(self.w, self.h - self.horizon, [_blend((0, 0, 0), color, far), color])
        self.image.paste(ground, (0, self.horizon))

    def blob(self, x, y, rx, ry, color, wobble=0.12, count=11):
        """A soft-cornered irregular shape."""
        angle = np.linspace(0, 2 * np.pi, count, False)
        radius = 1 + self.rng.uniform(-wobble, wobble, count)
        points = np.stack([x + rx * radius * np.cos(angle), y + ry * radius * np.sin(angle)], 1)
        self.draw.polygon(_closed(points).ravel().tolist(), fill=color)

    def box(self, x0, y0, x1, y1, color, radius=0):
        box = (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))
        self.draw.rounded_rectangle(box, radius=radius, fill=color)


_WALLS = ("e9dcc9", "cfdcd6", "d9c7c0", "b9c9d6", "e6c9a8", "c4b6a6", "9fb3a4", "e8e3da", "a9a3b5",
          "d7a98c", "7f8f93", "c9a35f")  # fmt: skip
_FLOORS = ("b58a5c", "8f6846", "c9ab82", "7a6a5e", "a39a90", "d3c3ab", "5f544d", "b9795a")
_CLOTHS = ("b5564c", "4f7a8c", "6f8a5a", "d8a13f", "7d6a94", "c98b7a", "3f5a73", "e0c9a6", "8c8f96",
           "a8744d")  # fmt: skip


def _room(s):
    rng, w, y = s.rng, s.w, s.horizon
    wall = s.accent or _jitter(rng, _pick(rng, _WALLS))
    s.fill(_blend(wall, (255, 255, 255), 0.12), wall)
    darker = _blend(wall, (60, 50, 50), 0.12)
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
    s.floor(_jitter(rng, _pick(rng, _FLOORS)))
    if rng.random() < 0.6:
        _planks(s)
    s.box(0, y - 7, w, y, _blend(wall, (255, 255, 255), 0.55))
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
    sky = _jitter(rng, _pick(rng, ("a8d0ea", "f4d7b0", "cfe3ee", "8fb2d8")))
    s.box(x, y0, x + width, y1, sky)
    s.blob(x + width * 0.5, y1 + 4, width * 0.48, y1 * 0.2, _jitter(rng, "86a877"))
    s.box(x - 8, y1, x + width + 8, y1 + 8, (250, 246, 238))
    s.box(x + width / 2 - 3, y0, x + width / 2 + 3, y1, (244, 240, 232))
    s.box(x, y1 * 0.45, x + width, y1 * 0.45 + 5, (244, 240, 232))
    if rng.random() < 0.6:
        cloth = _jitter(rng, _pick(rng, _CLOTHS))
        for left in (x - 22, x + width - 8):
            s.box(left, -4, left + 30, y1 + 22, cloth, 6)
            for k in (8, 18):
                s.draw.line((left + k, 0, left + k, y1 + 18), fill=(0, 0, 0, 40), width=3)


def _picture_frames(s):
    rng = s.rng
    for _ in range(int(rng.integers(0, 4))):
        x, y = rng.uniform(0, 0.85) * s.w, rng.uniform(0.02, 0.5) * s.horizon
        width, height = rng.uniform(28, 60), rng.uniform(28, 56)
        s.box(x, y, x + width, y + height, _jitter(rng, _pick(rng, ("5a4636", "f2ede2", "2f2f35"))))
        s.box(x + 4, y + 4, x + width - 4, y + height - 4, (243, 239, 230))
        s.blob(x + width / 2, y + height / 2, width * 0.25, height * 0.25,
               _jitter(rng, _pick(rng, _CLOTHS)))  # fmt: skip


def _sofa(s):
    rng = s.rng
    color = _jitter(rng, _pick(rng, _CLOTHS))
    x, width, top = rng.uniform(-0.3, 0.4) * s.w, rng.uniform(0.7, 1.0) * s.w, s.horizon * 0.55
    low = s.horizon + 0.1 * s.h
    dark = _blend(color, (30, 20, 30), 0.22)
    s.box(x, top, x + width, low, dark, 18)
    for k in range(2):
        left = x + 16 + k * (width - 32) / 2
        s.box(left, top + 6, left + (width - 36) / 2, low - 34, color, 12)
    s.box(x + 10, low - 46, x + width - 10, low - 8, _blend(color, (255, 255, 255), 0.1), 12)
    for left in (x - 12, x + width - 20):
        s.box(left, top + 34, left + 32, low, dark, 14)
    if rng.random() < 0.6:
        cx = x + width * rng.uniform(0.2, 0.8)
        s.blob(cx, low - 58, 30, 28, _jitter(rng, _pick(rng, _CLOTHS)), 0.06, 8)


def _shelf(s):
    rng = s.rng
    x, width, y = rng.uniform(0, 0.6) * s.w, rng.uniform(0.3, 0.5) * s.w, s.horizon * 0.35
    wood = _jitter(rng, _pick(rng, _FLOORS))
    at = x + 4
    while at < x + width - 14:
        thick, tall = rng.uniform(7, 15), rng.uniform(24, 42)
        if rng.random() < 0.8:
            s.box(at, y - tall, at + thick, y, _jitter(rng, _pick(rng, _CLOTHS)), 2)
        at += thick + 1
    s.box(x, y, x + width, y + 7, wood)


def _rug(s):
    rng = s.rng
    color = _jitter(rng, _pick(rng, _CLOTHS))
    x, y = rng.uniform(0.3, 0.7) * s.w, s.horizon + (s.h - s.horizon) * rng.uniform(0.5, 0.8)
    rx, ry = rng.uniform(0.35, 0.6) * s.w, (s.h - s.horizon) * rng.uniform(0.25, 0.45)
    for k, share in enumerate((1.0, 0.88, 0.8, 0.4)):
        tone = color if k % 2 == 0 else _blend(color, (250, 240, 225), 0.6)
        s.draw.ellipse((x - rx * share, y - ry * share, x + rx * share, y + ry * share), fill=tone)


def _outdoors(s):
    """A meadow, an autumn park, a snowy field or dry savanna grass."""
    rng, w, h = s.rng, s.w, s.h
    s.horizon = int(h * rng.uniform(0.3, 0.58))
    sky, far, grass, leaf = _pick(rng, (
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
               rng.uniform(20, 0.5 * s.horizon), _jitter(rng, far), 0.06)  # fmt: skip
    for _ in range(int(rng.integers(0, 5))):
        _tree(s, rng.uniform(0, w), _jitter(rng, leaf, 12))
    ground = s.accent or _jitter(rng, grass)
    s.floor(ground, 0.88)
    for _ in range(int(rng.integers(1, 6))):
        x, r = rng.uniform(0, w), rng.uniform(14, 36)
        for dx in (-0.6, 0.6, 0):
            s.blob(x + dx * r, s.horizon - r * 0.1, r * 0.7, r * (0.6 - 0.2 * abs(dx)),
                   _jitter(rng, leaf, 7))  # fmt: skip
    _blades(s, ground)


def _tree(s, x, color):
    rng, y = s.rng, s.horizon
    tall = rng.uniform(0.4, 0.9) * y
    s.box(x - 5, y - tall * 0.6, x + 5, y + 6, (94, 70, 54))
    if rng.random() < 0.4:
        for k in range(3):
            half, top = 14 + 9 * k, y - tall + tall * 0.25 * k
            s.draw.polygon((x, top - 12, x - half, top + tall * 0.3, x + half, top + tall * 0.3),
                           fill=_blend(color, (0, 0, 0), 0.1 * (k % 2)))  # fmt: skip
    else:
        for _ in range(4):
            s.blob(x + rng.uniform(-16, 16), y - tall * rng.uniform(0.6, 0.95),
                   rng.uniform(18, 30), rng.uniform(16, 26), _jitter_tuple(rng, color))  # fmt: skip


def _jitter_tuple(rng, color, spread=8):
    step = rng.normal(0, spread)
    return tuple(int(np.clip(v + step, 0, 255)) for v in color)


def _blades(s, ground):
    """Tufts of grass, and flowers among them."""
    rng, w, h = s.rng, s.w, s.h
    count = 90
    ys = s.horizon + (h - s.horizon) * rng.random(count) ** 0.8
    xs, lean, tones = rng.uniform(0, w, count), rng.normal(0, 3, count), rng.normal(0, 14, count)
    for x, y, dx, tone in sorted(zip(xs, ys, lean, tones, strict=True), key=lambda b: b[1]):
        size = 5 + 14 * (y - s.horizon) / (h - s.horizon)
        color = tuple(int(np.clip(v + tone, 0, 255)) for v in ground)
        s.draw.line((x, y, x + dx, y - size), fill=color, width=2)
    if rng.random() < 0.45:
        petal = _jitter(rng, _pick(rng, ("f4f0e6", "f2c53d", "e58fb0", "b58fd8", "e8663c")))
        for _ in range(int(rng.integers(6, 26))):
            x, y = rng.uniform(0, w), s.horizon + (h - s.horizon) * rng.random()
            r = 1.5 + 3.5 * (y - s.horizon) / (h - s.horizon)
            s.draw.ellipse((x - r, y - r, x + r, y + r), fill=petal)
            s.draw.ellipse((x - r / 3, y - r / 3, x + r / 3, y + r / 3), fill=(230, 170, 50))


def _beach(s):
    rng, w, h = s.rng, s.w, s.h
    s.horizon = int(h * rng.uniform(0.3, 0.45))
    s.fill(*_pick(rng, (("86c5ee", "d8effa", "d8effa"), ("f2a97f", "f9dcae", "f9dcae"))))
    sea = _jitter(rng, "4f9fb5")
    shore = s.horizon + int(0.16 * h)
    s.box(0, s.horizon, w, shore + 10, sea)
    for _ in range(8):
        x, y = rng.uniform(0, w), rng.uniform(s.horizon + 4, shore - 4)
        s.draw.line((x, y, x + rng.uniform(15, 50), y), fill=(255, 255, 255, 90), width=2)
    s.blob(w * 0.5, h + 20, w * 1.1, h + 28 - shore, (255, 255, 255, 150), 0.02)
    s.blob(w * 0.5, h + 26, w * 1.1, h + 28 - shore, s.accent or _jitter(rng, "e3c894"), 0.02)
    for _ in range(30):
        x, y = rng.uniform(0, w), rng.uniform(shore + 20, h)
        s.draw.ellipse((x, y, x + 4, y + 2), fill=(120, 90, 60, 60))
    s.horizon = shore


_BOKEH = (("3f5a3c", "7d9a55"), ("2f3a52", "75688c"), ("6a4a34", "c99a5f"), ("9fb5a0", "dfe3c9"),
          ("7a8a99", "c9d3da"), ("54383f", "b5746a"))  # fmt: skip


def _bokeh(s):
    rng = s.rng
    tones = _pick(rng, _BOKEH)
    base = s.accent
    s.fill(*(tones if base is None else (base, _blend(base, (255, 255, 255), 0.25))))
    s.blur = 3.5
    for _ in range(int(rng.integers(14, 30))):
        x, y, r = rng.uniform(0, s.w), rng.uniform(0, s.h), rng.uniform(8, 34)
        color = _jitter(rng, _pick(rng, tones + ("f4e3b5", "fff4dc")), 18)
        s.draw.ellipse((x - r, y - r, x + r, y + r), fill=color + (int(rng.integers(40, 130)),))


def _tiles(s):
    """A checked kitchen floor in perspective below a tiled wall."""
    rng, w = s.rng, s.w
    wall = _jitter(rng, _pick(rng, _WALLS))
    s.fill(wall, _blend(wall, (0, 0, 0), 0.05))
    step = int(rng.integers(22, 34))
    for y in range(0, s.horizon, step):
        s.draw.line((0, y, w, y), fill=(255, 255, 255, 110), width=2)
    for x in range(0, w, step):
        s.draw.line((x, 0, x, s.horizon), fill=(255, 255, 255, 110), width=2)
    light = s.accent or _jitter(rng, _pick(rng, ("efe6d8", "d9d4cc", "e3c9a8")))
    dark = _jitter(rng, _pick(rng, ("6f7f86", "8a5a48", "54575c", "7f8f6f", "b59a80")))
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
    s.box(0, s.horizon - 9, w, s.horizon, _blend(wall, (40, 30, 30), 0.3))


def _studio(s):
    tone = s.accent or _jitter(s.rng, _pick(s.rng, _WALLS + _CLOTHS))
    pale = _blend(tone, (255, 255, 255), 0.3)
    s.fill(_blend(tone, (0, 0, 0), 0.12), tone, pale, _blend(tone, (255, 255, 255), 0.1))
    s.blur = 2.0
    x, y = s.w * s.rng.uniform(0.3, 0.7), s.h * s.rng.uniform(0.3, 0.6)
    for k in range(6, 0, -1):
        r = k * 0.09 * (s.w + s.h) / 2
        s.draw.ellipse((x - r, y - r, x + r, y + r), fill=pale + (30,))


def _blanket(s):
    """A bed or a plaid, seen from above."""
    rng, w, h = s.rng, s.w, s.h
    base = s.accent or _jitter(rng, _pick(rng, _CLOTHS))
    s.fill(_blend(base, (255, 255, 255), 0.15), base)
    s.horizon = int(h * 0.25)
    other = _jitter(rng, _pick(rng, _CLOTHS + _WALLS))
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
        curve = _open_curve(np.stack([across, heights + 11 * k], 1))
        s.draw.line(curve.ravel().tolist(), fill=tone, width=24 - 7 * k, joint="curve")


def _bricks(s):
    rng, w = s.rng, s.w
    wall = s.accent or _jitter(rng, _pick(rng, ("a5644c", "b98a6a", "8f8a86", "c9beb0", "7a4f44")))
    s.fill(_blend(wall, (255, 255, 255), 0.2), _blend(wall, (255, 255, 255), 0.3))
    tall, wide = 15, int(rng.integers(30, 44))
    for row, y in enumerate(range(0, s.horizon, tall)):
        for x in range(-(row % 2) * wide // 2, w, wide):
            s.box(x + 1, y + 1, x + wide - 2, y + tall - 2, _jitter_tuple(rng, wall, 9))
    s.floor(_jitter(rng, _pick(rng, ("9a948c", "7f7a78", "b5aa9a"))))
    for k in range(1, 4):
        y = s.horizon + (s.h - s.horizon) * (k / 4) ** 1.4
        s.draw.line((0, y, w, y), fill=(0, 0, 0, 50), width=2)
    if rng.random() < 0.6:
        for _ in range(int(rng.integers(2, 7))):
            s.blob(rng.uniform(0, w), s.horizon, rng.uniform(16, 36), rng.uniform(12, 26),
                   _jitter(rng, "5f8a4f", 12))  # fmt: skip


SCENES = {
    "room": (_room, 0.3),
    "outdoors": (_outdoors, 0.27),
    "beach": (_beach, 0.06),
    "bokeh": (_bokeh, 0.09),
    "tiles": (_tiles, 0.08),
    "studio": (_studio, 0.07),
    "blanket": (_blanket, 0.08),
    "bricks": (_bricks, 0.05),
}


def _choose(rng, table, column):
    """A key of `table`, drawn with the chances in a column of its values."""
    point = rng.random() * sum(row[column] for row in table.values())
    for key, row in table.items():
        point -= row[column]
        if point < 0:
            return key
    return key


def _paint_scene(width, height, rng, accent):
    """Returns the background `[H, W, 3]` float32 and the horizon's row."""
    size = math.sqrt(width * height)
    scene = _Scene(round(width * 256 / size), round(height * 256 / size), rng, accent)
    SCENES[_choose(rng, SCENES, 1)][0](scene)
    image = scene.image.resize((width, height), Image.Resampling.BOX)
    # Backgrounds are a little out of focus, more or less as in photographs.
    radius = max(scene.blur, rng.uniform(0, 1.3)) * size / 128
    if radius > 0.35:
        image = image.filter(ImageFilter.BoxBlur(radius))
    return np.array(image, np.float32), scene.horizon * height / scene.h


# ------------------------------------------------------------------------ things around the pet


def _thing(color, outline, axis=((0.0, -1.0), (0.0, 1.0)), **kwargs):
    return _Part("thing", outline, axis, color=color, **kwargs)


def _ball(rng):
    color, other = (_pick(rng, _CLOTHS) for _ in range(2))
    parts = [_thing(color, _ellipse(0, 0, 0.8, 0.8))]
    parts.append(_thing(other, _limb([(-0.62, -0.3), (0, -0.05), (0.62, -0.3)], [0.16] * 3),
                        detail=True, relief=0.0))  # fmt: skip
    parts.append(_thing("ffffff", _ellipse(-0.3, -0.42, 0.14, 0.1), detail=True, strength=0.6))
    return parts


def _cushion(rng):
    color = _pick(rng, _CLOTHS)
    shape = [(-1.3, -0.75), (0, -0.68), (1.3, -0.75), (1.22, 0), (1.3, 0.8), (0, 0.72), (-1.3, 0.8),
             (-1.22, 0)]  # fmt: skip
    parts = [_thing(color, _closed(shape))]
    if rng.random() < 0.6:
        other = _pick(rng, _CLOTHS + _WALLS)
        for x in (-0.6, 0.0, 0.6):
            parts.append(_thing(other, _limb([(x, -0.62), (x, 0.66)], [0.12, 0.12]), detail=True,
                                relief=0.0))  # fmt: skip
    return parts


def _plant(rng):
    leaf, parts = _pick(rng, ("5f8f4f", "3f7a55", "7a9a4a", "4f8f7a")), []
    for angle in rng.uniform(-1.2, 1.2, 7):
        tall = rng.uniform(1.0, 1.9)
        tip = (math.sin(angle) * tall, -math.cos(angle) * tall)
        middle = (tip[0] * 0.45, tip[1] * 0.6)
        parts.append(_thing(leaf, _limb([(0, 0), middle, tip], [0.05, 0.22, 0.03]),
                            ((0, 0), tip), shade=rng.uniform(0.85, 1.12)))  # fmt: skip
    pot = [(-0.6, -0.1), (0.6, -0.1), (0.45, 0.95), (-0.45, 0.95)]
    parts.append(_thing(_pick(rng, ("b5653f", "e0d6c6", "5f6f7a")), np.array(pot)))
    return parts


def _fence(rng):
    color, parts = _pick(rng, ("f2ede2", "a5784f", "7f6a5a")), []
    for y in (-0.35, 0.6):
        rail = [(-9, y), (9, y), (9, y + 0.2), (-9, y + 0.2)]
        parts.append(_thing(color, np.array(rail), shade=0.86, relief=0.4))
    for x in np.arange(-9, 9, 0.95):
        picket = [(x, -0.75), (x + 0.21, -1.0), (x + 0.42, -0.75), (x + 0.42, 1.6), (x, 1.6)]
        parts.append(_thing(color, np.array(picket), relief=0.6))
    return parts


def _grass(rng):
    color, parts = _pick(rng, ("6f9a45", "7fae4e", "5f8a3f", "a8984a")), []
    for x in rng.uniform(-3.2, 3.2, 26):
        tall, lean = rng.uniform(0.7, 1.5), rng.normal(0, 0.3)
        blade = _limb([(x, 1.4), (x + lean * 0.3, 0.6), (x + lean, 1.4 - tall * 1.25)],
                      [0.13, 0.1, 0.02])  # fmt: skip
        parts.append(_thing(color, blade, shade=rng.uniform(0.85, 1.15), relief=0.5))
    return parts


def _carton(rng):
    front = [(-1.8, -0.5), (1.8, -0.5), (1.75, 1.4), (-1.75, 1.4)]
    flap = [(-1.8, -0.5), (1.8, -0.5), (2.0, -0.15), (-2.0, -0.15)]
    return [_thing("c49a6a", np.array(front), relief=0.5),
            _thing("d8b385", np.array(flap), relief=0.4)]  # fmt: skip


# Name -> (builder, chance in front of a pet, how high above the pet's feet its center stands).
THINGS = {
    "ball": (_ball, 0.22, 0.55),
    "cushion": (_cushion, 0.22, 0.55),
    "plant": (_plant, 0.2, 0.7),
    "fence": (_fence, 0.08, 0.4),
    "grass": (_grass, 0.18, 1.0),
    "carton": (_carton, 0.1, 0.7),
}


def _paint_thing(name, place, rgb, light, rng):
    """Paints a thing and returns its coverage `[H, W]`."""
    painter = _Painter(rgb, light, rng)
    tint = np.float32(rng.normal(1, 0.05))
    for part in THINGS[name][0](rng):
        painter.part(part, place, _rgb(part.color) * tint, fur=0.0)
    return painter.alpha


# ------------------------------------------------------------------------------------- picture


def frame_size(size, aspect):
    """`(height, width)` of about `size * size` pixels with `width / height` near `aspect`."""
    return round(size / math.sqrt(aspect)), round(size * math.sqrt(aspect))


def draw(seed, index, *, size=128):
    """Draws one picture.

    Args:
        seed: Non-negative int; one seed is one data set.
        index: Non-negative int, the picture's number in it.
        size: Side in pixels of the square whose area the picture has: pictures are landscape,
            portrait or square, as in the real set, of `height * width` about `size * size`.

    Returns:
        A `Picture`; always the same one for the same arguments.

    Raises:
        ValueError: If `seed` or `index` is negative or `size` is below 32.

    Example:
        >>> picture = draw(seed=0, index=3)
        >>> sorted(np.unique(picture.trimap))
        [1, 2, 3]
    """
    if seed < 0 or index < 0 or size < 32:
        raise ValueError(
            f"draw got seed={seed}, index={index}, size={size}; expected seed and index of at "
            "least 0 and size of at least 32. Number the pictures from 0."
        )
    rng = np.random.default_rng([seed, index])
    # The real set: two thirds landscape, a quarter portrait, the rest about square.
    aspect = _pick(rng, (1.5, 1.5, 1.33, 1.33, 1.33, 1.2, 1.0, 0.8, 0.75, 0.67))
    height, width = frame_size(size, aspect)
    pets = _cast(rng, index)
    light = _light(rng)
    coat = _rgb(_pick(rng, pets).look.base) + rng.normal(0, 12, 3)
    # Now and then the background has the color of the coat, or color alone would tell them apart.
    accent = tuple(int(v) for v in np.clip(coat, 0, 255)) if rng.random() < 0.22 else None
    rgb, horizon = _paint_scene(width, height, rng, accent)
    places = _arrange(pets, width, height, horizon, rng)
    if rng.random() < 0.25:
        _paint_backdrop_thing(rgb, places, light, rng)
    covers, heads = [], []
    for pet, place in zip(pets, places, strict=True):
        _ground_shadow(rgb, pet, place, light)
        cover, head = _paint_pet(pet, place, rgb, light, rng)
        covers = [_hide(c, cover) for c in covers] + [cover]
        heads.append(head)
    if rng.random() < 0.22:
        rgb, covers = _occlude(rgb, covers, heads, pets, places, light, rng)
    image = _develop(rgb, light, rng)
    return _picture(image, covers, heads, pets, index)


def _light(rng):
    """The direction towards the light."""
    angle = rng.uniform(-2.6, -0.54)
    return math.cos(angle), math.sin(angle)


def _cast(rng, index):
    """Who is in the picture: usually one pet, now and then two or three."""
    crowd = rng.random()
    count = 1 + int(crowd < 0.2) + int(crowd < 0.04)
    pets = []
    for i in range(count):
        # Breeds take turns, so that every set of 37 pictures or more shows them all.
        breed = index * 10 % 37 if i == count - 1 else int(rng.integers(37))
        pose = _choose(rng, POSES, 1)
        while count > 1 and pose == "close_up":
            pose = _choose(rng, POSES, 1)
        pets.append(_build_pet(breed, pose, rng))
    return pets


def _arrange(pets, width, height, horizon, rng):
    """One placement per pet, back to front."""
    # In the real set pet and border together have median 0.38 and reach from 0.14 to 0.7.
    total = float(np.clip(np.exp(rng.normal(math.log(0.405), 0.42)), 0.14, 0.8))
    count = len(pets)
    slots = np.linspace(-0.5, 0.5, count) if count > 1 else np.zeros(1)
    rng.shuffle(slots)
    share = total / count**0.6
    scales = [_scale(pet, share, count, width, height, rng) for pet in pets]
    ground = horizon + 0.2 * (height - horizon)
    nearest = rng.uniform(max(ground, 0.72 * height), 0.99 * height)
    places = []
    for i, (pet, scale, slot) in enumerate(zip(pets, scales, slots, strict=True)):
        # Who stands further back stands higher in the picture.
        bottom = max(nearest - 0.07 * height * (count - 1 - i), ground)
        places.append(_place(pet, scale, slot if count > 1 else None, bottom, width, height, rng))
    return places


def _scale(pet, share, count, width, height, rng):
    """Pixels per pet unit for a pet that covers about `share` of the picture."""
    extent = pet.high - pet.low
    close = pet.pose == "close_up"
    scale = math.sqrt(share * width * height / (POSES[pet.pose][2] * extent[0] * extent[1]))
    if count > 1:
        return min(scale, 0.95 * height / extent[1], 1.35 * width / count / extent[0] ** 0.75)
    room = rng.choice((0.94, 1.25)) if not close else 1.3
    return min(scale * (1.3 if close else 1.0), room * width / extent[0], room * height / extent[1])


def _place(pet, scale, slot, bottom, width, height, rng):
    """Puts a pet into the frame; its head always stays inside."""
    wide, tall = (pet.high - pet.low) * scale
    slack = width - wide
    if slot is not None:
        left = slack * float(np.clip(0.5 + slot + rng.normal(0, 0.06), 0.0, 1.0))
    elif slack > 0:
        left = slack * rng.uniform(0.03, 0.97) + wide * _pick(rng, (0, 0, 0, 0, -0.22, 0.22))
    else:
        left = slack * rng.random()
    if pet.pose == "close_up":
        bottom = height + rng.uniform(0.03, 0.25) * tall
    elif slot is None and rng.random() < 0.22:
        bottom += rng.uniform(0.1, 0.3) * tall
    bottom = max(bottom, min(0.98 * tall, 1.3 * height) + 0.02 * height)
    flip = bool(rng.random() < 0.5)
    tilt = float(rng.normal(0, 0.08 if pet.pose == "close_up" else 0.035))
    turn = _Placement((0.0, 0.0), scale, flip, tilt)
    origin = np.array([left + wide / 2, bottom - tall / 2]) - turn([(pet.low + pet.high) / 2])[0]
    head = turn(pet.head) + origin
    inside = np.array([width, height]) - 1.0
    # Shifts that bring the head's box into the frame, or its middle where it does not fit.
    too_low, too_high = np.minimum(head.min(0) - 1, 0), np.maximum(head.max(0) - inside, 0)
    fits = head.max(0) - head.min(0) < inside
    origin -= np.where(fits, too_low + too_high, head.mean(0) - inside / 2)
    return _Placement(tuple(origin), scale, flip, tilt)


def _ground_shadow(rgb, pet, place, light):
    """A soft shadow below the pet, on the side away from the light."""
    if pet.pose == "close_up":
        return
    corners = place([pet.low, pet.high])
    x, y = corners[:, 0].mean() - 0.4 * place.scale * light[0], corners[1, 1] - 0.12 * place.scale
    rx = 0.52 * abs(corners[1, 0] - corners[0, 0])
    ry = max(0.3 * place.scale, 2.0)
    height, width = rgb.shape[:2]
    fx = np.exp(-((np.abs(np.arange(width) - x) / rx) ** 4)).astype(np.float32)
    fy = np.exp(-(((np.arange(height) - y) / ry) ** 2)).astype(np.float32)
    rgb *= 1 - np.float32(0.42) * (fy[:, None] * fx)[..., None]


def _hide(cover, front):
    """What is left of `cover` behind `front`."""
    return cover * (front < 0.5)


def _paint_backdrop_thing(rgb, places, light, rng):
    """A thing beside and behind the pets."""
    name = _pick(rng, ("ball", "cushion", "plant", "carton"))
    height, width = rgb.shape[:2]
    scale = float(rng.uniform(0.6, 1.0) * places[0].scale)
    spot = (width * rng.uniform(0.02, 0.98), height * rng.uniform(0.62, 0.9))
    _paint_thing(name, _Placement(spot, scale), rgb, light, rng)


def _occlude(rgb, covers, heads, pets, places, light, rng):
    """Puts a thing in front of the main pet, unless it would hide too much of any pet."""
    pet, place = pets[-1], places[-1]
    name = _choose(rng, THINGS, 1)
    corners = place([pet.low, pet.high])
    bottom = min(corners[1, 1], rgb.shape[0] - 2.0)
    span = corners[1, 0] - corners[0, 0]
    x = corners[0, 0] + span * rng.uniform(0.05, 0.95)
    scale = place.scale * rng.uniform(0.75, 1.15)
    y = bottom - THINGS[name][2] * scale
    painted = rgb.copy()
    thing = _paint_thing(name, _Placement((x, y), scale), painted, light, rng)
    hidden = [_hide(cover, thing) for cover in covers]
    head = heads[-1]
    kept = [
        (h >= 0.5).sum() / max((c >= 0.5).sum(), 1) for h, c in zip(hidden, covers, strict=True)
    ]
    kept_head = _hide(head, thing).sum() / head.sum()
    return (painted, hidden) if min(kept) > 0.45 and kept_head > 0.6 else (rgb, covers)


def _develop(rgb, light, rng):
    """Light, lens and sensor: uint8 `[H, W, 3]`."""
    height, width = rgb.shape[:2]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    slope = np.float32(rng.uniform(0.0, 0.13))
    level = np.float32(np.clip(rng.normal(1.03, 0.09), 0.76, 1.14)) + slope * (
        x * np.float32(light[0]) + y * np.float32(light[1])
    )
    level -= np.float32(rng.uniform(0.0, 0.12)) * (x * x + y * y)
    warmth = np.float32(rng.normal(0.0, 0.045))
    tint = np.array([1 + warmth, 1, 1 - warmth], np.float32)
    offset = rng.integers(0, _TILE, 2)
    grain = _tile(_grain(), np.arange(height) + offset[0], np.arange(width) + offset[1])
    out = rgb * (level[..., None] * tint) + (grain * np.float32(rng.uniform(0.5, 4.0)))[..., None]
    return np.clip(out + 0.5, 0, 255).astype(np.uint8)


def _picture(image, covers, heads, pets, index):
    visible = [cover >= 0.5 for cover in covers]
    shown = [i for i, mask in enumerate(visible) if mask.any()]
    masks = np.stack([visible[i] for i in shown])
    breeds = np.array([pets[i].breed for i in shown])
    main = len(shown) - 1
    return Picture(
        image=image,
        trimap=trimap(masks.any(0)),
        instances=masks,
        boxes=np.stack([_box(mask) for mask in masks]),
        head_boxes=np.stack([_box(heads[i] >= 0.5) for i in shown]),
        species=np.array([pets[i].look.species for i in shown]),
        breeds=breeds,
        poses=tuple(pets[i].pose for i in shown),
        main=main,
        file_name=f"{BREEDS[breeds[main]]}_{index}.jpg",
    )


def _box(mask):
    """Relative (ymin, xmin, ymax, xmax) around the true pixels."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return np.zeros(4, np.float32)
    height, width = mask.shape
    return np.array(
        [rows[0] / height, columns[0] / width, (rows[-1] + 1) / height, (columns[-1] + 1) / width],
        np.float32,
    )


def trimap(foreground):
    """Marks the band around the outline of a mask, with the values of the real files.

    A pixel is border if its center lies within `BORDER_HALF_WIDTH * sqrt(H * W)` pixels of the
    outline, which runs half a pixel from the centers on either side of it. The distance is
    Euclidean and exact: a band is where the mask and its complement, each grown by a disk, meet.

    Args:
        foreground: bool `[H, W]`.

    Returns:
        uint8 `[H, W]` of 1 pet, 2 background, 3 border.
    """
    reach = BORDER_HALF_WIDTH * math.sqrt(foreground.size) + 0.5
    border = _grown(foreground, reach) & _grown(~foreground, reach)
    return np.where(border, BORDER, np.where(foreground, PET, BACKGROUND)).astype(np.uint8)


def _grown(mask, reach):
    """The pixels within `reach` (Euclidean, center to center) of a true one."""
    n = int(reach)
    height, width = mask.shape
    padded = np.zeros((height + 2 * n, width + 2 * n), bool)
    padded[n:-n, n:-n] = mask
    out = np.zeros_like(mask)
    halves = [int(math.sqrt(reach * reach - dy * dy)) for dy in range(n + 1)]
    for half in sorted(set(halves)):
        wide = functools.reduce(
            np.logical_or, (padded[:, n + dx : n + dx + width] for dx in range(-half, half + 1))
        )
        for dy in range(-n, n + 1):
            if halves[abs(dy)] == half:
                out |= wide[n + dy : n + dy + height]
    return out


# ------------------------------------------------------------------------------------ encoding


def encode(picture):
    """Encodes a `Picture` into the files and numbers of one record of the data set.

    Args:
        picture: What `draw` returned.

    Returns:
        dict with `image` (JPEG bytes), `segmentation_mask` (PNG bytes), `label`, `species`,
        `file_name`, `head_bbox` float32 `[4]` and `instances`, a list of (PNG bytes, box, species).
    """
    return {
        "image": _file(picture.image, "JPEG", quality=92),
        "label": picture.label,
        "species": int(picture.species[picture.main]),
        "file_name": picture.file_name,
        "segmentation_mask": _file(picture.trimap, "PNG", compress_level=3),
        "head_bbox": picture.head_boxes[picture.main],
        "instances": [
            (_file(mask, "PNG", compress_level=3), box, int(species))
            for mask, box, species in zip(
                picture.instances, picture.boxes, picture.species, strict=True
            )
        ],
    }


def _file(array, kind, **options):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind, **options)
    return buffer.getvalue()


def _main(seed, size, start, stop, step):
    """Writes pickled records to the standard output, for `seglib.data.sample`."""
    for index in range(start, stop, step):
        pickle.dump(encode(draw(seed, index, size=size)), sys.stdout.buffer)
    sys.stdout.flush()


if __name__ == "__main__":
    _main(*map(int, sys.argv[1:]))
