"""The 37 breeds of the Oxford-IIIT Pets and what sets each apart in a drawing."""

import dataclasses

SPECIES = ("Cat", "Dog")


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
