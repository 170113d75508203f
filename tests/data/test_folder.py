"""Folders of pictures and masks: which belong together, what PNG files store, what is wrong."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from seglib.data import folder, label_maps, pairs, sample

SIZE = (10, 14)
BLACK_AND_WHITE = label_maps.LabelMap(("background", "pet"), ((0, 0, 0), (255, 255, 255)))


def png(array, **options):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG", **options)
    return buffer.getvalue()


def picture(seed=0, size=SIZE):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype("uint8")


def labels(seed=0, size=SIZE, high=3):
    return np.random.default_rng(seed).integers(0, high, size).astype("uint8")


def put(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


@pytest.fixture
def folders(tmp_path):
    for i, name in enumerate("abc"):
        put(tmp_path / "images" / f"{name}.png", png(picture(i)))
        put(tmp_path / "masks" / f"{name}.png", png(labels(i)))
    return tmp_path / "images", tmp_path / "masks"


def load(folders, **kwargs):
    return folder.load(*folders, **{"image_size": SIZE, "shuffle": False} | kwargs)


def read(folders, **kwargs):
    parts = zip(*load(folders, **kwargs).as_numpy_iterator(), strict=True)
    return tuple(np.concatenate(part) for part in parts)


# --- what belongs together ------------------------------------------------------------------------


def test_pairs_of_one_name(folders):
    images, masks = read(folders)
    for i in range(3):
        np.testing.assert_array_equal(images[i], picture(i))
        np.testing.assert_array_equal(masks[i], labels(i))


def test_elements_are_those_of_the_pets(folders, tmp_path):
    path = sample.prepare(train=2, test=2, size=32, seed=1, cache_dir=tmp_path / "cache")
    pets = sample.load("train", image_size=SIZE, data_dir=path, validation_fraction=0.5)
    batches = load(folders, batch_size=2)
    assert batches.element_spec == pets.element_spec
    assert batches.cardinality() == 2 and batches.skipped == ()


def test_suffixes_and_folders_within_as_in_cityscapes(tmp_path):
    images, masks = tmp_path / "leftImg8bit", tmp_path / "gtFine"
    for city, ids in (("aachen", (7, 26)), ("bochum", (8, 0))):
        stem = f"{city}/{city}_000000_000019"
        put(images / f"{stem}_leftImg8bit.png", png(picture()))
        put(masks / f"{stem}_gtFine_labelIds.png", png(np.resize(np.uint8(ids), SIZE)))
        put(masks / f"{stem}_gtFine_instanceIds.png", png(np.resize(np.uint8([99]), SIZE)))
        put(masks / f"{stem}_gtFine_polygons.json", b"{}")
    _, found = read(
        (images, masks),
        image_suffix="_leftImg8bit",
        mask_suffix="_gtFine_labelIds",
        label_map=label_maps.CITYSCAPES,
    )
    assert [np.unique(mask).tolist() for mask in found] == [[0, 13], [1, 255]]


def test_palette_masks_and_a_list_of_names_as_in_voc(tmp_path):
    mask = Image.fromarray(np.resize(np.uint8([0, 15, 20, 255]), SIZE), "P")
    mask.putpalette(label_maps.voc_colors().ravel().tolist())
    buffer = io.BytesIO()
    mask.save(buffer, "PNG")
    for name in ("2007_1", "2007_2", "2007_3"):
        put(tmp_path / "JPEGImages" / f"{name}.jpg", jpeg(picture()))
    put(tmp_path / "SegmentationClass" / "2007_3.png", buffer.getvalue())
    (tmp_path / "train.txt").write_text("2007_3\n")
    where = tmp_path / "JPEGImages", tmp_path / "SegmentationClass"
    for names in (tmp_path / "train.txt", ["2007_3"]):
        _, found = read(where, names=names, label_map=label_maps.VOC)
        np.testing.assert_array_equal(found[0], np.resize([0, 15, 20, 255], SIZE))
    with pytest.raises(ValueError, match="2007_1.jpg: there is no mask"):
        load(where)


def jpeg(array):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "JPEG")
    return buffer.getvalue()


def test_one_folder_for_both(tmp_path):
    put(tmp_path / "a.png", png(picture()))
    put(tmp_path / "a_mask.png", png(labels()))
    images, masks = read((tmp_path, tmp_path), mask_suffix="_mask")
    np.testing.assert_array_equal(images[0], picture())
    np.testing.assert_array_equal(masks[0], labels())


def test_hidden_files_are_no_pictures(folders):
    put(folders[0] / "._a.png", b"what a Mac leaves behind")
    put(folders[0] / ".cache" / "d.png", b"")
    assert len(read(folders)[0]) == 3


# --- what PNG files store -------------------------------------------------------------------------


def gray_png(values, depth):
    """A gray PNG file of `depth` bits, written by hand."""
    rows = b""
    for row in values:
        bits = "".join(f"{value:0{depth}b}" for value in row)
        bits += "0" * (-len(bits) % 8)
        rows += b"\0" + int(bits, 2).to_bytes(len(bits) // 8, "big")

    def chunk(kind, data):
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], depth, 0, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_gray_levels_are_the_numbers_stored(folders, depth):
    mask = labels(7, high=min(2**depth, 256))
    put(folders[1] / "a.png", gray_png(mask, depth))
    np.testing.assert_array_equal(read(folders)[1][0], mask)


def test_colors_need_a_label_map(folders):
    mask = label_maps.VOC.to_color(labels())
    opaque = np.concatenate([mask, np.full((*SIZE, 1), 255, "uint8")], -1)
    for painted in (mask, opaque):
        put(folders[1] / "a.png", png(painted))
        with pytest.raises(ValueError, match="a.png: .*stores colors.*label_map="):
            load(folders)
        with pytest.raises(ValueError, match="a.png: .*stores colors"):
            load(folders, label_map={0: 0, 1: 1, 2: 2})
        found = read(folders, label_map=label_maps.VOC)[1]
        np.testing.assert_array_equal(found[0], labels())
    opaque[0, 0, 3] = 0
    put(folders[1] / "a.png", png(opaque))
    with pytest.raises(ValueError, match="transparent"):
        load(folders, label_map=label_maps.VOC)


def test_a_dict_replaces_numbers(folders):
    found = read(folders, label_map={0: 255, 1: 0, 2: 1})[1]
    np.testing.assert_array_equal(found[0], np.array([255, 0, 1])[labels()])
    with pytest.raises(ValueError, match=r"masks/a.png: The mask holds the labels \[2\]"):
        load(folders, label_map={0: 0, 1: 1})


@pytest.mark.parametrize("channels", ["gray", "RGB"])
def test_black_and_white_masks_need_numbers(folders, channels):
    for file in folders[1].iterdir():
        mask = 255 * labels(high=2)
        put(file, png(mask if channels == "gray" else np.stack([mask] * 3, axis=-1)))
    message = r"only the labels \[0, 255\], and 255 is ignored.*label_map=\{0: 0, 255: 1\}"
    with pytest.raises(ValueError, match=message):
        load(folders, num_classes=2)
    count, faults = folder.verify(*folders, num_classes=2)
    assert count == 3 and len(faults) == 1 and "label_map" in faults[0]
    for label_map in ({0: 0, 255: 1}, BLACK_AND_WHITE):
        if channels == "RGB" or label_map is not BLACK_AND_WHITE:
            found = read(folders, label_map=label_map, num_classes=2)[1]
            np.testing.assert_array_equal(found[0], labels(high=2))


def test_black_and_white_as_colors():
    painted = BLACK_AND_WHITE.to_color(labels(high=2))
    np.testing.assert_array_equal(painted, np.stack([255 * labels(high=2)] * 3, axis=-1))
    np.testing.assert_array_equal(BLACK_AND_WHITE.from_color(painted), labels(high=2))
    with pytest.raises(ValueError, match=r"holds \[255\], expected 0 to 1. to_ids"):
        BLACK_AND_WHITE.to_color(255 * labels(high=2))
    with pytest.raises(ValueError, match="no file_ids"):
        BLACK_AND_WHITE.to_ids(labels(high=2))


@pytest.mark.parametrize("kind", ["WEBP", "TIFF"])
def test_other_kinds_of_pictures(folders, kind):
    buffer = io.BytesIO()
    Image.fromarray(picture(0)).save(buffer, kind, lossless=True)
    put(folders[0] / f"a.{kind.lower()}", buffer.getvalue())
    (folders[0] / "a.png").unlink()
    np.testing.assert_array_equal(read(folders)[0][0], picture(0))


@pytest.mark.parametrize("number, size", [(3, SIZE), (6, SIZE[::-1])])
def test_a_mask_of_the_picture_as_it_is_shown(folders, number, size):
    exif = Image.Exif()
    exif[0x0112] = number
    put(folders[0] / "a.png", png(picture(0), exif=exif))
    put(folders[1] / "a.png", png(labels(0, size=size)))
    images, masks = read(folders, names=["a"], image_size=size)
    np.testing.assert_array_equal(images[0], np.rot90(picture(0), 2 if number == 3 else -1))
    np.testing.assert_array_equal(masks[0], labels(0, size=size))
    # A mask that was saved with the picture's EXIF is turned as well.
    put(folders[1] / "a.png", png(labels(0), exif=exif))
    turned = np.rot90(labels(0), 2 if number == 3 else -1)
    np.testing.assert_array_equal(read(folders, names=["a"], image_size=size)[1][0], turned)
    if number == 6:
        put(folders[1] / "a.png", png(labels(0)))
        with pytest.raises(ValueError, match="EXIF orientation turns the picture.*Turn the mask"):
            load(folders)


def test_pictures_of_sixteen_bits_are_refused(folders):
    put(folders[0] / "a.png", png(labels(0).astype("uint16") * 1000))
    with pytest.raises(ValueError, match="a.png: the picture has more than 8 bits"):
        load(folders)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("ending", ["", ".png", ".JPG"])
def test_a_file_of_names(folders, tmp_path, encoding, ending):
    for part in folders:
        (part / "a.png").rename(part / "my cat 1.png")
    lines = f"my cat 1{ending}\r\n\r\nb{ending}\n"
    (tmp_path / "names.txt").write_bytes(lines.encode(encoding))
    images, _ = read(folders, names=tmp_path / "names.txt")
    np.testing.assert_array_equal(images[0], picture(0))
    assert len(images) == 2


# --- what is wrong --------------------------------------------------------------------------------

LARGE = np.full(SIZE, 300, "uint16")
BROKEN = [
    ("masks/b.png", None, "images/b.png: there is no mask"),
    ("images/b.png", None, "masks/b.png: there is no picture"),
    ("images/b.jpg", b"", "images/b.jpg: there are 2 files of this name: .*b.png"),
    ("masks/b.png", png(labels(size=(10, 13))), "b.png: the picture has 14 x 10 .* mask 13 x 10"),
    ("masks/b.png", png(labels(size=(14, 10))), "EXIF"),
    ("masks/b.png", b"", "no PNG file"),
    ("masks/b.png", jpeg(picture()), "no PNG file"),
    ("masks/b.png", png(labels())[:-1], "cut off"),
    ("masks/b.png", png(labels())[:30], "cut off"),
    ("masks/b.png", png(LARGE), "label 300, expected at most 255"),
    ("masks/b.png", png(labels(high=9)), r"labels \[3, 4, 5, 6, 7, 8\], expected 0 to 2 or 255"),
    ("images/b.png", b"", "cannot be decoded"),
    ("images/b.png", png(picture())[:40], "cannot be decoded"),
    ("images/b.png", png(picture())[:16], "cut off"),
]


@pytest.mark.parametrize("file, data, message", BROKEN)
def test_a_broken_pair_is_named_or_counted(folders, file, data, message):
    path = folders[0].parent / file
    path.unlink() if data is None else put(path, data)
    with pytest.raises(pairs.BadPairError, match=message) as raised:
        load(folders, num_classes=3)
    assert isinstance(raised.value, ValueError) and "\n" not in str(raised.value)
    batches = load(folders, num_classes=3, on_error="skip")
    assert batches.skipped == (str(raised.value),)
    ((images, masks),) = batches.as_numpy_iterator()
    for i, (image, mask) in enumerate(zip(images, masks, strict=True)):
        np.testing.assert_array_equal(image, picture((0, 2)[i]))
        np.testing.assert_array_equal(mask, labels((0, 2)[i]))


def test_any_flipped_bit_of_a_mask_is_found(folders):
    """Decoding alone would miss most of them: it does not compare the checksum of the pixels."""
    good = png(labels(1))
    for position in range(len(good)):
        data = bytearray(good)
        data[position] ^= 1 << position % 8
        with pytest.raises(ValueError):
            pairs.decode_mask(bytes(data))


@pytest.mark.parametrize(
    "names, message",
    [(["a", "d"], "d: there is no picture"), (["a", "a"], r"names holds \['a'\] twice")],
)
def test_names_that_are_not_there(folders, names, message):
    with pytest.raises(ValueError, match=message):
        load(folders, names=names)


def test_folders_that_are_not_there_or_empty(folders, tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no folder '.*no'"):
        load((folders[0], tmp_path / "no"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no pictures to load"):
        load((tmp_path / "empty", tmp_path / "empty"))


def test_examples_come_at_their_own_size(folders):
    put(folders[0] / "b.png", png(picture(size=(5, 6))))
    put(folders[1] / "b.png", png(labels(size=(5, 6))))
    found = list(folder.examples(*folders, limit=2))
    assert [e["file_name"] for e in found] == ["a.png", "b.png"]
    np.testing.assert_array_equal(found[1]["image"], picture(size=(5, 6)))
    np.testing.assert_array_equal(found[1]["mask"], labels(size=(5, 6)))
