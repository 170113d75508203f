"""COCO's JSON format: what is drawn, against pycocotools and by hand, and what is refused."""

import io
import json
import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps
from pycocotools import mask as pycoco
from pycocotools.coco import COCO

from seglib.data import coco, pairs, sample, scenes
from seglib.metrics import COCOAveragePrecision

# pycocotools 2.0.11 hands NumPy 2 an array in a way that is going away.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

HEIGHT, WIDTH = 12, 16
SQUARE = [[2, 2, 6, 2, 6, 6, 2, 6]]  # rows and columns 2 to 5
WIDE = [[0, 3, 16, 3, 16, 9, 0, 9]]  # rows 3 to 8, all columns


def picture(seed=0, height=HEIGHT, width=WIDTH, kind="PNG"):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype("uint8")
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return pixels, buffer.getvalue()


def rectangle(top, left, bottom, right, height=HEIGHT, width=WIDTH):
    mask = np.zeros((height, width), bool)
    mask[top:bottom, left:right] = True
    return mask


def runs(mask):
    """Uncompressed run lengths, counted pixel by pixel down the columns."""
    counts, value = [0], False
    for pixel in mask.T.ravel():
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    return {"size": list(mask.shape), "counts": counts}


def compressed(mask):
    rle = pycoco.encode(np.asfortranarray(mask.astype("uint8")))
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def annotation(number, segmentation, category=7, picture=1, **more):
    return {
        "id": number,
        "image_id": picture,
        "category_id": category,
        "segmentation": segmentation,
        **more,
    }


def content(annotations, count=1):
    """Ids are neither contiguous nor in order, as in COCO itself."""
    return {
        "images": [
            {"id": i, "file_name": f"{i}.png", "height": HEIGHT, "width": WIDTH}
            for i in range(1, count + 1)
        ],
        "categories": [
            {"id": 90, "name": "dog", "supercategory": "animal"},
            {"id": 7, "name": "cat"},
            {"id": 13, "name": "cup"},
        ],
        "annotations": annotations,
    }


@pytest.fixture
def folder(tmp_path):
    for i in (1, 2, 3):
        (tmp_path / f"{i}.png").write_bytes(picture(i)[1])
    return tmp_path


def masks(annotations, folder, **kwargs):
    """The label maps at full size."""
    defaults = {"image_size": (HEIGHT, WIDTH), "shuffle": False}
    batches = coco.load(annotations, folder, **defaults | kwargs)
    return np.concatenate([m for _, m in batches.as_numpy_iterator()])


# --- drawing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [runs, compressed])
@pytest.mark.parametrize(
    "mask",
    [
        rectangle(2, 3, 7, 11),
        rectangle(0, 0, 12, 16),
        rectangle(0, 0, 0, 0),
        rectangle(0, 0, 1, 1),
        rectangle(11, 15, 12, 16),
        np.indices((12, 16)).sum(0) % 2 == 0,
        np.indices((40, 30)).sum(0) % 7 < 3,
    ],
)
def test_run_lengths_are_the_mask_they_were_made_from(mask, write):
    np.testing.assert_array_equal(coco.rasterize(write(mask), *mask.shape), mask)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_compressed_run_lengths_of_any_mask(height, width, seed, share):
    mask = np.random.default_rng(seed).random((height, width)) < share
    np.testing.assert_array_equal(coco.rasterize(compressed(mask), height, width), mask)


def test_long_runs_and_large_differences():
    # Runs of a few, then of thousands, then of a few: differences of both signs, many groups.
    mask = np.zeros((300, 300), bool)
    mask[3:5, 0] = mask[7:, 0] = mask[:, 1:200] = True
    mask[4, 250] = mask[100:, 299] = True
    np.testing.assert_array_equal(coco.rasterize(compressed(mask), 300, 300), mask)
    assert coco.decompress(compressed(mask)["counts"]) == runs(mask)["counts"]


def test_a_polygon_along_pixel_borders_covers_the_pixels_inside():
    np.testing.assert_array_equal(coco.rasterize(SQUARE, HEIGHT, WIDTH), rectangle(2, 2, 6, 6))


def test_the_polygons_of_one_object_are_one_mask():
    two = [SQUARE[0], [4, 4, 10, 4, 10, 10, 4, 10]]
    np.testing.assert_array_equal(
        coco.rasterize(two, HEIGHT, WIDTH), rectangle(2, 2, 6, 6) | rectangle(4, 4, 10, 10)
    )


@given(st.integers(0, 2**32 - 1))
def test_polygons_are_drawn_as_pycocotools_draws_them(seed):
    rng = np.random.default_rng(seed)
    polygons = [
        (rng.random((rng.integers(3, 9), 2)) * (WIDTH, HEIGHT)).ravel().tolist()
        for _ in range(rng.integers(1, 4))
    ]
    image = {"id": 1, "height": HEIGHT, "width": WIDTH}
    theirs = COCO()
    theirs.imgs = {1: image}
    expected = theirs.annToMask({"image_id": 1, "segmentation": polygons})
    np.testing.assert_array_equal(coco.rasterize(polygons, HEIGHT, WIDTH), expected)


@pytest.mark.parametrize(
    "segmentation, message",
    [
        (None, "its segmentation is None"),
        ([], r"its segmentation is \[\]"),
        (5, "its segmentation is 5"),
        ("polygon", "its segmentation is 'polygon'"),
        ([1, 1, 3, 1, 3, 3], r"its polygon is 1, expected a list \[x1, y1"),
        ([[1, 1, 3, 1]], "has 2 different points, expected at least 3"),
        ([[1, 1, 3, 1, 3]], "5 coordinates"),
        ([[1, 1, 3, 1, 3, 3, 4]], "7 coordinates"),
        ([[1, 1, 3, 3, 1, 1, 3, 3]], "has 2 different points"),
        ([[]], "has 0 different points"),
        ([[1, 1, 3, 1, 3, math.nan]], "no finite number"),
        ([[1, 1, 3, 1, math.inf, 3]], "no finite number"),
        ([[1, 1, 3, 1, "3", 3]], "no finite number"),
        ([[1, 1, 3, 1, None, 3]], "no finite number"),
        ([[1, 1, 3, 1, True, 3]], "no finite number"),
        ([[1, 1, 118, 1, 3, 3]], "x=118, y=1, outside of the picture of 16 x 12 pixels"),
        ([[1, 1, 3, 114, 3, 3]], "x=3, y=114, outside"),
        ([[-105, 1, 3, 1, 3, 3]], "x=-105, y=1, outside"),
        ([[1, 1, 3, -102, 3, 3]], "x=3, y=-102, outside"),
        ([[1, 1, 1e12, 1, 3, 3]], "x=1000000000000.0, y=1, outside"),
        ([[1, 1, 10**400, 1, 3, 3]], "x=1000.*, y=1, outside"),
        ({}, "for the size None"),
        ({"size": [12, 16]}, "run lengths are None"),
        ({"size": [16, 12], "counts": [192]}, r"for the size \[16, 12\] .* picture's \[12, 16\]"),
        ({"size": 12, "counts": [192]}, "for the size 12"),
        ({"size": [12, 16], "counts": [10, 20]}, "cover 30 pixels, expected 12 x 16 = 192"),
        ({"size": [12, 16], "counts": [10, -20, 202]}, "of at least 0"),
        ({"size": [12, 16], "counts": [10.5, 181.5]}, "of at least 0"),
        ({"size": [12, 16], "counts": [True, 191]}, "of at least 0"),
        ({"size": [12, 16], "counts": [10**30, 5]}, "cover 1000"),
        ({"size": [12, 16], "counts": 192}, "run lengths are 192"),
        ({"size": [12, 16], "counts": "äöü"}, "no compressed run lengths"),
        ({"size": [12, 16], "counts": "P"}, "cut off"),
        ({"size": [12, 16], "counts": "o" * 40}, "no compressed run lengths"),
        ({"size": [12, 16], "counts": ""}, "cover 0 pixels"),
        ({"size": [12, 16], "counts": "1O"}, "of at least 0"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn(segmentation, message):
    with pytest.raises(ValueError, match=message):
        coco.rasterize(segmentation, HEIGHT, WIDTH)


@pytest.mark.parametrize(
    "polygon",
    [
        [-1, 0, 17, 0, 17, 13, -1, 13],
        [0, 0, 16, 0, 16, 12, 0, 12],
        [-20, 5, 8, -9, 30, 7, 8, 40],
        [1, 1, 18, 1, 3, 3],
        [20, 20, 30, 20, 30, 30],
    ],
)
def test_outlines_are_cut_off_at_the_frame_as_pycocotools_does(polygon):
    expected = pycoco.decode(pycoco.merge(pycoco.frPyObjects([polygon], HEIGHT, WIDTH)))
    mask, notes = coco.draw([polygon], HEIGHT, WIDTH)
    np.testing.assert_array_equal(mask, expected)
    assert len(notes) == (0 if polygon[0] == 0 else 1)


def test_parts_without_an_area_are_left_out_and_told(folder):
    rows = [annotation(1, [SQUARE[0], [1, 2], [8, 8, 9, 9]]), annotation(2, WIDE, picture=2)]
    with pytest.warns(UserWarning, match="annotation 1: its polygon .*and 1 more; coco.verify"):
        found = masks(content(rows, count=2), folder)
    np.testing.assert_array_equal(found[0], rectangle(2, 2, 6, 6))
    count, faults = coco.verify(content(rows, count=2), folder)
    assert count == 2 and len(faults) == 2 and all("at least 3" in fault for fault in faults)


def test_whole_numbers_may_be_written_as_floats(folder):
    """As pycocotools takes them: 1.0 is 1."""
    data = content([annotation(1.0, SQUARE, category=7.0, picture=1.0, iscrowd=0.0)])
    data["images"][0] |= {"id": 1.0, "height": 12.0, "width": 16.0}
    data["categories"][1]["id"] = 7.0
    np.testing.assert_array_equal(masks(data, folder)[0], rectangle(2, 2, 6, 6))
    rle = {"size": [12.0, 16.0], "counts": [10.0, 182.0]}
    assert coco.rasterize(rle, HEIGHT, WIDTH).sum() == 182


def test_a_picture_named_by_text_is_left_out_with_its_annotation(folder):
    data = content([annotation(1, SQUARE), annotation(2, SQUARE, picture="2")], count=2)
    with pytest.raises(ValueError, match="annotation 2 has image_id '2', expected 2"):
        coco.load(data, folder)
    batches = coco.load(data, folder, on_error="skip")
    assert len(batches.skipped) == 1
    assert sum(len(images) for images, _ in batches) == 1


def test_crowds_alone_are_no_objects(folder):
    """CVAT writes what is drawn with its brush as run lengths with iscrowd 1."""
    data = content([annotation(1, runs(rectangle(2, 2, 6, 6)), iscrowd=1)])
    message = "all 1 annotations have iscrowd 1.*crowd='class'"
    with pytest.raises(ValueError, match=message):
        coco.load(data, folder)
    with pytest.raises(ValueError, match=message):
        scenes.from_coco(data, folder)
    _, (fault,) = coco.verify(data, folder)
    assert "crowd='class'" in fault
    np.testing.assert_array_equal(masks(data, folder, crowd="class")[0], rectangle(2, 2, 6, 6))
    batches = scenes.from_coco(data, folder, crowd="class", image_size=16)
    ((_, targets),) = batches.as_numpy_iterator()
    assert targets["classes"].tolist()[0][:2] == [0, -1] and targets["masks"][0, 0].sum() == 16
    assert batches.num_classes == 3
    with pytest.raises(ValueError, match="crowd is 'background', expected"):
        scenes.from_coco(data, folder, crowd="background")


def test_a_category_called_background_is_class_0(folder):
    data = content([annotation(1, SQUARE), annotation(2, WIDE, category=13)])
    data["categories"][2]["name"] = "background"
    with pytest.warns(UserWarning, match="the category 'background' is class 0"):
        found = masks(data, folder, overlap="last")
    assert coco.class_names(data) == ("background", "cat", "dog")
    expected = rectangle(2, 2, 6, 6) & ~rectangle(3, 0, 9, 16)
    np.testing.assert_array_equal(found[0], expected)
    assert "cat" in scenes.class_names(data)


def test_files_as_windows_writes_them(folder):
    data = content([annotation(1, SQUARE)])
    data["images"][0]["file_name"] = r"deep\1.png"
    (folder / "deep").mkdir()
    (folder / "1.png").rename(folder / "deep" / "1.png")
    path = folder / "annotations.json"
    path.write_text(json.dumps(data), encoding="utf-8-sig")
    np.testing.assert_array_equal(masks(path, folder)[0], rectangle(2, 2, 6, 6))
    data["images"][0]["file_name"] = r"..\1.png"
    with pytest.raises(ValueError, match="leads out of the folder"):
        masks(data, folder)


@pytest.mark.parametrize("number", range(1, 9))
def test_masks_lie_on_the_picture_as_its_exif_orientation_turns_it(tmp_path, number):
    pixels = np.zeros((16, 16, 3), "uint8")
    pixels[2:6, 2:6] = 255
    exif = Image.Exif()
    exif[0x0112] = number
    stored = Image.fromarray(pixels)
    stored.save(tmp_path / "1.png", exif=exif)
    shown = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "1.png")))[..., 0] > 0
    data = content([annotation(1, runs(shown))])
    data["images"][0] |= {"height": 16, "width": 16}
    ((images, found),) = coco.load(data, tmp_path, image_size=16).as_numpy_iterator()
    np.testing.assert_array_equal(images[0, ..., 0] > 0, found[0] == 1)


# --- label maps -----------------------------------------------------------------------------------


def test_classes_are_counted_in_the_order_of_the_category_ids(folder):
    rows = [annotation(10 + k, runs(rectangle(4 * i, 0, 4 * i + 4, 16)), category=c)
            for k, (i, c) in enumerate([(0, 90), (1, 7), (2, 13)])]  # fmt: skip
    found = content(rows)
    assert coco.class_names(found) == ("background", "cat", "cup", "dog")
    expected = np.repeat([3, 1, 2], 4)[:, None] * np.ones((1, WIDTH), int)
    np.testing.assert_array_equal(masks(found, folder)[0], expected)
    assert coco.class_names(found, background=None) == ("cat", "cup", "dog")
    np.testing.assert_array_equal(masks(found, folder, background=None)[0], expected - 1)


def test_classes_can_be_chosen_and_ordered(folder):
    rows = [
        annotation(1, runs(rectangle(0, 0, 4, 16)), category=90),
        annotation(2, runs(rectangle(4, 0, 8, 16)), category=7),
        annotation(3, "of a class not asked for", category=13),
    ]
    chosen = {"classes": ["dog", "cat"]}
    assert coco.class_names(content(rows), **chosen) == ("background", "dog", "cat")
    found = masks(content(rows), folder, **chosen)[0]
    np.testing.assert_array_equal(found[:, 0], [1] * 4 + [2] * 4 + [0] * 4)
    found = masks(content(rows), folder, **chosen, background=None)[0]
    np.testing.assert_array_equal(found[:, 0], [0] * 4 + [1] * 4 + [255] * 4)


@pytest.mark.parametrize(
    "overlap, expected", [("smallest", "small"), ("last", "wide"), ("ignore", "neither")]
)
def test_who_wins_where_two_objects_overlap(folder, overlap, expected):
    rows = [annotation(1, SQUARE, category=7), annotation(2, WIDE, category=13)]
    found = masks(content(rows), folder, overlap=overlap)[0]
    square, wide = rectangle(2, 2, 6, 6), rectangle(3, 0, 9, 16)
    assert (found[square & ~wide] == 1).all() and (found[wide & ~square] == 2).all()
    assert (found[~square & ~wide] == 0).all()
    assert set(found[square & wide]) == {{"small": 1, "wide": 2, "neither": 255}[expected]}


def test_of_equally_large_objects_the_last_wins(folder):
    rows = [annotation(i, SQUARE, category=c) for i, c in enumerate((7, 90, 13))]
    assert masks(content(rows), folder)[0][3, 3] == 2  # the cup


def test_objects_of_one_class_do_not_dispute_a_pixel(folder):
    rows = [annotation(1, SQUARE), annotation(2, WIDE), annotation(3, SQUARE, category=13)]
    found = masks(content(rows), folder, overlap="ignore")[0]
    square, wide = rectangle(2, 2, 6, 6), rectangle(3, 0, 9, 16)
    assert (found[square] == 255).all() and (found[wide & ~square] == 1).all()
    found = masks(content(rows[:2]), folder, overlap="ignore")[0]
    np.testing.assert_array_equal(found, (square | wide).astype(int))


@pytest.mark.parametrize("crowd, label", [("ignore", 255), ("class", 3), ("background", 0)])
@pytest.mark.parametrize("order", [1, -1])
def test_crowds_lie_below_single_objects(folder, crowd, label, order):
    rows = [annotation(1, WIDE, category=7), annotation(2, runs(rectangle(0, 0, 12, 16)),
            category=90, iscrowd=1)][::order]  # fmt: skip
    found = masks(content(rows), folder, crowd=crowd)[0]
    wide = rectangle(3, 0, 9, 16)
    assert (found[wide] == 1).all() and (found[~wide] == label).all()


def test_a_picture_without_annotations_is_background(folder):
    found = masks(content([annotation(1, SQUARE, picture=2)], count=2), folder)
    assert not found[0].any() and found[1].sum() == 16


def test_label_maps_agree_with_pycocotools_on_drawn_pets(tmp_path):
    """Start to end: pets written as a COCO data set, loaded again, and looked at by pycocotools."""
    found = {"images": [], "annotations": [], "categories": [{"id": 3, "name": "cat"},
             {"id": 11, "name": "dog"}]}  # fmt: skip
    truth = []
    data_dir = sample.prepare(train=4, test=4, size=64, seed=5, cache_dir=tmp_path / "cache")
    for i, pet in enumerate(sample.examples("test", data_dir=data_dir)):
        Image.fromarray(pet["image"]).save(tmp_path / f"{i}.jpg", quality=95)
        height, width = pet["mask"].shape
        found["images"].append(
            {"id": 100 + i, "file_name": f"{i}.jpg", "height": height, "width": width}
        )
        labels = np.zeros((height, width), int)
        for mask, species in zip(pet["instances"], pet["instance_species"], strict=True):
            labels[mask] = 1 + species
            found["annotations"].append(
                annotation(len(found["annotations"]) + 1, compressed(mask),
                           category=(3, 11)[species], picture=100 + i)
            )  # fmt: skip
        truth.append(labels)
    (tmp_path / "pets.json").write_text(json.dumps(found))
    theirs = COCO(tmp_path / "pets.json")
    for labels, example in zip(truth, coco.examples(tmp_path / "pets.json", tmp_path), strict=True):
        np.testing.assert_array_equal(example["mask"], labels)
        rows = theirs.loadAnns(theirs.getAnnIds(example["image_id"]))
        assert example["annotation_ids"] == [row["id"] for row in rows]
        for mask, row in zip(example["masks"], rows, strict=True):
            np.testing.assert_array_equal(mask, theirs.annToMask(row))


# --- batches --------------------------------------------------------------------------------------


def test_elements_are_those_of_the_pets(folder, tmp_path):
    batches = coco.load(content([annotation(1, SQUARE)], count=3), folder, image_size=(24, 32),
                        batch_size=2)  # fmt: skip
    path = sample.prepare(train=2, test=2, size=32, seed=1, cache_dir=tmp_path / "cache")
    pets = sample.load("train", image_size=(24, 32), data_dir=path, validation_fraction=0.5)
    assert batches.element_spec == pets.element_spec
    assert [image.shape for image, _ in batches] == [(2, 24, 32, 3), (1, 24, 32, 3)]
    assert batches.cardinality() == 2 and int(batches.epoch) == 1 and batches.skipped == ()


def test_pictures_and_masks_stay_together(folder):
    rows = [annotation(i, runs(rectangle(i, 0, i + 1, 16)), picture=i) for i in (1, 2, 3)]
    batches = coco.load(content(rows, count=3), folder, image_size=(HEIGHT, WIDTH), batch_size=1)
    seen = set()
    for image, mask in batches.as_numpy_iterator():
        (row,) = np.flatnonzero(mask[0].any(axis=1))
        np.testing.assert_array_equal(image[0], picture(row)[0])
        seen.add(int(row))
    assert seen == {1, 2, 3}


def test_kept_proportions_are_filled_with_ignored_gray(tmp_path):
    # 40 x 20 pixels into 16 x 16: scaled by 0.4 to 16 x 8, with 4 columns on each side.
    Image.new("RGB", (20, 40), (10, 20, 30)).save(tmp_path / "1.png")
    found = content([annotation(1, [[0, 0, 20, 0, 20, 20, 0, 20]])])
    found["images"][0] |= {"height": 40, "width": 20}
    ((image, mask),) = coco.load(
        found, tmp_path, image_size=16, keep_aspect=True
    ).as_numpy_iterator()
    expected = np.full((16, 16), 255)
    expected[:8, 4:12], expected[8:, 4:12] = 1, 0
    np.testing.assert_array_equal(mask[0], expected)
    assert (image[0, :, 4:12] == (10, 20, 30)).all()
    assert (image[0, :, :4] == 127).all() and (image[0, :, 12:] == 127).all()


def test_augmentation_comes_with_another_seed_in_each_epoch(folder):
    seeds = []

    def change(images, masks, seed):
        return tf.zeros_like(images) + tf.cast(seed[0] % 251, tf.uint8), masks

    batches = coco.load(content([]), folder, augment=change, seed=3)
    for _ in range(3):
        seeds += [int(images[0, 0, 0, 0]) for images, _ in batches]
    assert len(set(seeds)) == 3


# --- instances ------------------------------------------------------------------------------------


def test_instances_have_masks_boxes_and_classes(folder):
    rows = [
        annotation(5, WIDE, category=13),
        annotation(9, SQUARE, category=7),
        annotation(4, runs(rectangle(0, 0, 12, 16)), category=90, iscrowd=1),
        annotation(6, [[1, 1, 1.1, 1, 1.1, 1.1]], category=90),  # between the pixels' centers
    ]
    (example,) = coco.examples(content(rows), folder)
    assert example["annotation_ids"] == [5, 9, 4]
    assert example["classes"].tolist() == [2, 1, 3] and example["iscrowd"].tolist() == [0, 0, 1]
    assert example["boxes"].tolist() == [[3, 0, 9, 16], [2, 2, 6, 6], [0, 0, 12, 16]]
    np.testing.assert_array_equal(example["masks"][1], rectangle(2, 2, 6, 6))
    np.testing.assert_array_equal(example["image"], picture(1)[0])
    assert example["file_name"] == "1.png" and example["image_id"] == 1


def test_instances_are_truth_for_average_precision(folder):
    rows = [annotation(1, WIDE, category=13), annotation(2, SQUARE, category=7)]
    for example in coco.examples(content(rows), folder):
        for kind in ("boxes", "masks"):
            metric = COCOAveragePrecision(kind)
            found = {key: example[key] for key in ("classes", "boxes", "masks")}
            metric.update_state(example, found | {"scores": [0.9, 0.8]})
            assert metric.result() == pytest.approx(1.0)


def test_a_picture_without_objects_has_arrays_of_length_0(folder):
    (example,) = coco.examples(content([]), folder, limit=1)
    assert example["masks"].shape == (0, HEIGHT, WIDTH) and example["boxes"].shape == (0, 4)
    assert example["classes"].shape == (0,) and not example["mask"].any()


# --- files that contradict themselves -------------------------------------------------------------


def changed(**changes):
    """A good file with some values replaced: `images__0__id=5` sets content["images"][0]["id"]."""
    found = json.loads(json.dumps(content(
        [annotation(i, SQUARE, picture=i) for i in (1, 2, 3)], count=3)))  # fmt: skip
    for path, value in changes.items():
        *steps, last = (int(s) if s.isdigit() else s for s in path.split("__"))
        inner = found
        for step in steps:
            inner = inner[step]
        inner[last] = value
    return found


BROKEN = [
    ({"images__1__id": None}, "picture None needs an 'id'"),
    ({"images__1__id": 2.5}, "picture None needs an 'id'"),
    ({"images__1__id": 1}, "picture 1 is listed twice"),
    ({"images__1__file_name": ""}, "picture 2 needs an 'id' and a 'file_name'"),
    ({"images__1__file_name": 5}, "picture 2 needs an 'id' and a 'file_name'"),
    ({"images__1__file_name": "3.png"}, "picture 2 names the file '3.png', as another"),
    ({"images__1": 7}, "picture None needs an 'id'"),
    ({"images__1__file_name": "no.png"}, "no.png: the file .*no.png is missing"),
    ({"images__1__file_name": "../1.png"}, "leads out of the folder"),
    ({"images__1__file_name": "/dev/zero"}, "leads out of the folder"),
    ({"images__1__file_name": "\0"}, "null"),
    ({"images__1__height": 13}, r"2.png: the picture has 16 x 12 pixels .* says 16 x 13"),
    ({"images__1__height": 10**9, "images__1__width": 10**9}, "2.png: the picture has 16 x 12"),
    ({"images__1__height": 16, "images__1__width": 12}, "EXIF"),
    ({"images__1__height": 0}, "picture 2 has the size 16 x 0"),
    ({"images__1__height": -12}, "picture 2 has the size 16 x -12"),
    ({"images__1__width": "16"}, "picture 2 has the size '16' x 12"),
    ({"images__1__width": 16.5}, "picture 2 has the size 16.5 x 12"),
    ({"annotations__1__image_id": 99}, "annotation 2 belongs to the picture 99"),
    ({"annotations__1__image_id": [2]}, "annotation 2 belongs to the picture None"),
    ({"annotations__1__id": 1}, "annotation 1 is listed twice"),
    ({"annotations__1__id": None}, "annotation None needs an 'id'"),
    ({"annotations__1": "x"}, "annotation None belongs to the picture None"),
    ({"annotations__1__category_id": 8}, "annotation 2 has the category 8, which is not listed"),
    ({"annotations__1__category_id": {}}, "annotation 2 has the category None"),
    ({"annotations__1__iscrowd": 2}, "annotation 2 has iscrowd 2"),
    ({"annotations__1__iscrowd": None}, "annotation 2 has iscrowd None"),
    ({"annotations__1__segmentation": []}, r"annotation 2: its segmentation is \[\]"),
    ({"annotations__1__segmentation": [[1, 2, 3, 4]]}, "annotation 2: its polygon"),
    ({"annotations__1__segmentation__0__3": math.nan}, "annotation 2: its polygon"),
    ({"annotations__1__segmentation__0__3": 500}, "annotation 2: its polygon has a point at"),
]


@pytest.mark.parametrize("changes, message", BROKEN)
def test_a_contradiction_is_one_error_or_counted(folder, changes, message):
    path = folder / "annotations.json"
    path.write_text(json.dumps(changed(**changes)))
    with pytest.raises(ValueError, match=message) as raised:
        coco.load(path, folder)
    assert isinstance(raised.value, pairs.BadPairError)
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)
    # What is left is right: a picture is left out with whatever belongs to it.
    batches = coco.load(path, folder, image_size=(HEIGHT, WIDTH), on_error="skip", shuffle=False)
    assert any(message.partition(" ")[0] in m for m in batches.skipped)
    ((images, found),) = batches.as_numpy_iterator()
    good = {picture(i)[0].tobytes() for i in (1, 2, 3)}
    assert {image.tobytes() for image in images} <= good
    for mask in found[[0, -1]]:
        np.testing.assert_array_equal(mask, rectangle(2, 2, 6, 6))


@pytest.mark.parametrize("data, message", [
    (b"", "cannot be decoded"), (b"GIF89a", "cannot be decoded"),
    (picture(2)[1][:20], "cut off"), (picture(2)[1][:-30], "cannot be decoded"),
    (picture(2, kind="JPEG")[1][:-30], "cannot be decoded"),
    (picture(2, kind="JPEG")[1][:30], "cannot be decoded"),
])  # fmt: skip
def test_a_damaged_picture_is_named_or_counted(folder, data, message):
    (folder / "2.png").write_bytes(data)
    with pytest.raises(ValueError, match=f"2.png: the picture .*{message}"):
        coco.load(changed(), folder)
    batches = coco.load(changed(), folder, on_error="skip")
    assert len(batches.skipped) == 1 and "2.png" in batches.skipped[0]
    assert sum(len(images) for images, _ in batches) == 2


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "is no JSON file"),
        ('{"images": [', "is no JSON file"),
        ("[" * 100_000, "is no JSON file"),
        ("[]", "has no list 'images'"),
        ('{"images": []}', "has no list 'annotations'"),
        ('{"images": {}, "annotations": [], "categories": []}', "has no list 'images'"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1}]}', "category 1 needs"),
        ('{"images": [], "annotations": [], "categories": [7]}', "category None needs"),
    ],
)
def test_a_file_of_another_kind(tmp_path, text, message):
    path = tmp_path / "annotations.json"
    path.write_text(text)
    for on_error in ("raise", "skip"):
        with pytest.raises(ValueError, match=message) as raised:
            coco.load(path, tmp_path, on_error=on_error)
        assert str(path) in str(raised.value)


def test_bytes_that_are_no_text(tmp_path):
    (tmp_path / "annotations.json").write_bytes(b"\xff\xfe\x00{")
    with pytest.raises(ValueError, match="is no JSON file"):
        coco.load(tmp_path / "annotations.json", tmp_path)


@pytest.mark.parametrize(
    "categories, message",
    [
        ([(1, "cat"), (1, "dog")], "category 1 .* twice"),
        ([(1, "cat"), (2, "cat")], "category 2 .* twice"),
        ([], "0 classes"),
        ([(i, str(i)) for i in range(256)], "256 classes"),
    ],
)
def test_categories_that_make_no_classes(tmp_path, categories, message):
    found = content([]) | {"categories": [{"id": i, "name": n} for i, n in categories]}
    with pytest.raises(ValueError, match=message):
        coco.load(found, tmp_path, background=None)


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"classes": ["cat", "cow"]}, "expected different names out of"),
        ({"classes": ["cat", "cat"]}, "expected different names out of"),
        ({"overlap": "first"}, "overlap is 'first', expected one of 'smallest'"),
        ({"crowd": "yes"}, "crowd is 'yes', expected one of 'ignore'"),
        ({"on_error": "warn"}, "on_error is 'warn', expected 'raise' or 'skip'"),
        ({"image_size": 0}, "image_size is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
    ],
)
def test_arguments_that_make_no_sense(folder, kwargs, message):
    with pytest.raises(ValueError, match=message):
        coco.load(content([]), folder, **kwargs)


def test_files_and_folders_that_are_not_there(folder):
    with pytest.raises(FileNotFoundError, match="no.json"):
        coco.load(folder / "no.json", folder)
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        coco.load(content([]), folder / "no")


def test_nothing_left_to_load(folder):
    with pytest.raises(ValueError, match="no pictures to load"):
        coco.load(content([], count=0), folder)
    (folder / "1.png").unlink()
    with pytest.raises(ValueError, match="no pictures to load. 1 were left out: .*1.png"):
        coco.load(content([]), folder, on_error="skip")
