"""Scenes of several pets: exact masks, tight boxes, nothing that a seed does not decide."""

import shutil

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from pycocotools import mask as coco_mask
from scipy import ndimage

from seglib.core.letterbox import letterbox_with_masks, nearest
from seglib.data import (
    augment,
    drawing,
    objects,
    pairs,
    pasting,
    pets,
    pipeline,
    sample,
    scenes,
)

SMALL = {"train": 12, "test": 5, "size": 64, "seed": 3}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return scenes.prepare(**SMALL, cache_dir=tmp_path_factory.mktemp("scenes"))


@pytest.fixture(scope="module")
def single_pets(tmp_path_factory):
    """Drawn pets, usually one a picture, in place of the real ones."""
    return sample.prepare(
        train=12, test=6, size=64, seed=9, cache_dir=tmp_path_factory.mktemp("pets")
    )


def options(data_dir, **kwargs):
    return {"image_size": 64, "batch_size": 4, "data_dir": data_dir, **kwargs}


def as_numpy(dataset):
    """All batches of one epoch, joined."""
    images, targets = zip(*dataset.as_numpy_iterator(), strict=True)
    return np.concatenate(images), {
        key: np.concatenate([t[key] for t in targets]) for key in targets[0]
    }


def tight_box(mask):
    rows, columns = np.nonzero(mask)
    return [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]


def check_targets(images, targets, num_classes=2, *, disjoint=True):
    """What holds for the batches of every source."""
    boxes, classes, masks = targets["boxes"], targets["classes"], targets["masks"]
    count, rows = classes.shape
    assert images.dtype == masks.dtype == np.uint8
    assert boxes.dtype == np.float32 and classes.dtype == np.int32
    assert boxes.shape == (count, rows, 4)
    assert masks.shape == (count, rows, *images.shape[1:3])
    assert set(np.unique(masks)) <= {0, 1}
    assert not disjoint or masks.sum(axis=1).max() <= 1
    found = classes >= 0
    assert (np.diff(found.astype(int), axis=1) <= 0).all()  # rows without an object come last
    assert (classes[~found] == -1).all() and classes.max() < num_classes
    assert not boxes[~found].any() and not masks[~found].any()
    for mask, box in zip(masks[found], boxes[found], strict=True):
        assert box.tolist() == tight_box(mask)


# --- drawn crowds -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def crowds():
    return [drawing.draw(11, index, size=96, pets=(2, 4)) for index in range(60)]


def test_crowds_have_as_many_pets_as_asked_for(crowds):
    counts = [len(picture.species) for picture in crowds]
    assert set(counts) == {2, 3, 4}
    assert all(picture.image.shape == (96, 96, 3) for picture in crowds)
    assert len(drawing.draw(0, 0, size=64, pets=(5, 5)).species) == 5
    assert len(drawing.draw(0, 0, size=64, pets=(1, 1)).species) == 1


def test_cats_and_dogs_are_equally_likely(crowds):
    species = np.concatenate([picture.species for picture in crowds])
    # 4 standard deviations of a binomial count
    assert abs(species.sum() - len(species) / 2) < 4 * np.sqrt(len(species) / 4)
    assert len({int(b) for picture in crowds for b in picture.breeds}) > 25


def test_no_pet_of_a_crowd_is_hidden(crowds):
    for picture in crowds:
        assert picture.instances.sum(axis=0).max() == 1
        assert (picture.instances.mean(axis=(1, 2)) >= 0.012).all()
    # and yet they touch: some box lies partly inside another
    overlaps = 0
    for picture in crowds:
        y1, x1, y2, x2 = picture.boxes.T
        tall = np.minimum(y2[:, None], y2) - np.maximum(y1[:, None], y1)
        wide = np.minimum(x2[:, None], x2) - np.maximum(x1[:, None], x1)
        overlaps += (np.triu((tall > 0) & (wide > 0), 1)).any()
    assert overlaps > len(crowds) / 2


def test_a_crowd_depends_on_its_arguments_alone(crowds):
    again = drawing.draw(11, 7, size=96, pets=(2, 4))
    assert (again.image == crowds[7].image).all()
    assert (again.instances == crowds[7].instances).all()
    assert drawing.draw(12, 7, size=96, pets=(2, 4)).image.tobytes() != again.image.tobytes()


@pytest.mark.parametrize("number", [(0, 2), (3, 2), (2, 9)])
def test_crowds_that_cannot_be_are_named(number):
    with pytest.raises(ValueError, match=r"expected \(fewest, most\) of 1 to 8"):
        drawing.draw(0, 0, pets=number)


def test_several_processes_draw_the_same_crowds_as_one(monkeypatch):
    alone = [drawing.encode(drawing.draw(4, i, size=64, pets=(2, 3))) for i in range(3)]
    monkeypatch.setattr(sample, "_PARALLEL_FROM", 1)
    monkeypatch.setattr(sample.os, "cpu_count", lambda: 2)
    together = list(sample._encoded(4, range(3), 64, (2, 3)))
    assert [r["image"] for r in together] == [r["image"] for r in alone]
    assert [len(r["instances"]) for r in together] == [len(r["instances"]) for r in alone]


# --- drawn scenes -------------------------------------------------------------------------------


def test_examples_are_the_drawn_crowds(data_dir):
    found = list(scenes.examples("test", data_dir=data_dir, image_size=64))
    assert len(found) == 5
    for index, example in enumerate(found, start=12):
        picture = drawing.draw(3, index, size=64, pets=(2, 4))
        assert example["file_name"] == picture.file_name
        np.testing.assert_array_equal(example["masks"], picture.instances)
        np.testing.assert_array_equal(example["classes"], picture.species)
        np.testing.assert_allclose(example["boxes"], picture.boxes * 64, rtol=1e-6)
        assert abs(example["image"].astype(int) - picture.image).mean() < 6  # it was a JPEG
        assert example["boxes"].dtype == np.float32 and example["masks"].dtype == bool


def test_load_gives_what_examples_hold(data_dir):
    images, targets = as_numpy(scenes.load("test", max_objects=4, **options(data_dir)))
    check_targets(images, targets)
    assert targets["classes"].shape == (5, 4)
    for i, example in enumerate(scenes.examples("test", data_dir=data_dir, image_size=64)):
        np.testing.assert_array_equal(images[i], example["image"])
        found = targets["classes"][i] >= 0
        for key in ("boxes", "classes", "masks"):
            np.testing.assert_array_equal(targets[key][i][found], example[key])


def test_splits_share_no_scene(data_dir):
    names = {
        split: {e["file_name"] for e in scenes.examples(split, data_dir=data_dir)}
        for split in ("train", "validation", "trainval", "test")
    }
    assert names["train"] | names["validation"] == names["trainval"]
    assert not names["train"] & names["validation"] and not names["trainval"] & names["test"]


def test_shapes_are_fixed_in_the_graph(data_dir):
    images, targets = scenes.load("test", max_objects=6, **options(data_dir)).element_spec
    assert images.shape == (None, 64, 64, 3)
    assert targets["masks"].shape == (None, 6, 64, 64)
    assert targets["boxes"].shape == (None, 6, 4)
    assert targets["classes"].shape == (None, 6)


def test_examples_can_be_limited(data_dir):
    assert len(list(scenes.examples("train", data_dir=data_dir, limit=3))) == 3


def test_scenes_keep_their_proportions(data_dir):
    images, targets = as_numpy(scenes.load("test", **options(data_dir, image_size=(32, 48))))
    check_targets(images, targets)
    assert images.shape[1:3] == (32, 48)
    assert (images[:, :, 32:] == 127).all()  # a square of 32 fits
    assert not targets["masks"][..., 32:].any()


def test_small_remains_are_left_out(data_dir):
    _, everyone = as_numpy(scenes.load("test", min_area=1, **options(data_dir)))
    areas = everyone["masks"].sum(axis=(2, 3))
    limit = int(np.median(areas[areas > 0]))
    images, large = as_numpy(scenes.load("test", min_area=limit, **options(data_dir)))
    check_targets(images, large)
    kept = large["masks"].sum(axis=(2, 3))
    assert sorted(kept[kept > 0]) == sorted(areas[areas >= limit])


# --- randomness ---------------------------------------------------------------------------------

JITTER = augment.Augment(scale=(0.7, 1.4), brightness=0.2)


def loaders(data_dir, single_pets):
    return {
        "drawn": lambda seed: scenes.load("train", augment=JITTER, seed=seed, **options(data_dir)),
        "pasted": lambda seed: scenes.load(
            "train", source="pasted", augment=JITTER, seed=seed, pets=(2, 2), **options(single_pets)
        ),
    }


def assert_equal(first, second):
    np.testing.assert_array_equal(first[0], second[0])
    for key in first[1]:
        np.testing.assert_array_equal(first[1][key], second[1][key])


@pytest.mark.parametrize("source", ["drawn", "pasted"])
def test_an_epoch_is_a_function_of_seed_and_number(data_dir, single_pets, source):
    load = loaders(data_dir, single_pets)[source]
    dataset, twin = load(5), load(5)
    first, second = as_numpy(dataset), as_numpy(dataset)
    check_targets(*first)
    twin.epoch.assign(1)  # as after a resumed training
    assert_equal(as_numpy(twin), second)
    assert (first[0] != second[0]).any()
    assert (as_numpy(load(6))[0] != first[0]).any()


def test_pasted_test_scenes_stay_the_same(single_pets):
    kwargs = {"source": "pasted", "pets": (2, 2), "image_size": 64, "data_dir": single_pets}
    dataset = scenes.load("test", **kwargs)
    first = as_numpy(dataset)
    assert_equal(first, as_numpy(dataset))
    found = list(scenes.examples("test", **kwargs))
    np.testing.assert_array_equal([example["image"] for example in found], first[0])
    other = scenes.examples("test", seed=1, limit=1, **kwargs)
    assert (next(other)["image"] != first[0][0]).any()


# --- augmentation -------------------------------------------------------------------------------


def test_the_mirror_turns_image_masks_and_boxes_together(data_dir):
    plain = as_numpy(scenes.load("train", shuffle=False, **options(data_dir)))
    mirrored = as_numpy(
        scenes.load("train", shuffle=False, augment=augment.flip_only(), **options(data_dir))
    )
    turned = 0
    for i in range(len(plain[0])):
        same = (plain[0][i] == mirrored[0][i]).all()
        turned += not same
        step = 1 if same else -1
        np.testing.assert_array_equal(mirrored[0][i], plain[0][i][:, ::step])
        np.testing.assert_array_equal(mirrored[1]["masks"][i], plain[1]["masks"][i][..., ::step])
        found = plain[1]["classes"][i] >= 0
        y1, x1, y2, x2 = plain[1]["boxes"][i][found].T
        expected = [y1, x1, y2, x2] if same else [y1, 64 - x2, y2, 64 - x1]
        np.testing.assert_array_equal(mirrored[1]["boxes"][i][found], np.transpose(expected))
    assert 0 < turned < len(plain[0])


def test_masks_follow_the_picture_through_every_transform():
    """The picture shows its own masks, each in a gray of its own."""
    rng = np.random.default_rng(0)
    masks = np.zeros((6, 3, 48, 48), bool)
    for i, (top, left) in enumerate(rng.integers(0, 20, (6, 2))):
        masks[i, 0, top : top + 25, left : left + 9] = True
        masks[i, 1, top + 5 : top + 20, left + 9 : left + 28] = True
    levels = np.array([255, 130, 0], "uint8")[:, None, None]
    image = (masks * levels).sum(axis=1).astype("uint8")
    changed, moved = objects.transform(
        augment.Augment(scale=(0.6, 1.7), stretch=1.3, rotation=20.0),
        tf.constant(np.repeat(image[..., None], 3, axis=-1)),
        tf.constant(masks.astype("uint8")),
        tf.constant([1, 2]),
    )
    changed, moved = changed.numpy()[..., 0], moved.numpy()
    assert moved[:, :2].any(axis=(2, 3)).all() and not moved[:, 2].any()
    for i in range(6):
        for row, level in ((0, 255), (1, 130)):
            inside = ndimage.binary_erosion(moved[i, row])  # bilinear rims mix two grays
            assert (changed[i][inside] == level).all()


def test_jitter_changes_every_picture_and_keeps_the_objects_rules(data_dir):
    dataset = scenes.load("train", augment=JITTER, **options(data_dir))
    images, targets = as_numpy(dataset)
    check_targets(images, targets)
    plain, _ = as_numpy(scenes.load("train", shuffle=False, **options(data_dir)))
    known = {image.tobytes() for image in plain}
    assert not any(image.tobytes() in known for image in images)


def test_a_cropped_scene_is_as_large_as_the_window(data_dir):
    cropped = augment.Augment(scale=(0.8, 1.2), crop=40)
    images, targets = as_numpy(scenes.load("train", augment=cropped, **options(data_dir)))
    check_targets(images, targets)
    assert images.shape[1:3] == (40, 40)


# --- masks, boxes, sizes ------------------------------------------------------------------------


# Each shape is compiled anew; the widths are whole bytes, one more, and one less.
@given(masks=hnp.arrays(bool, st.sampled_from([(1, 1, 1), (2, 3, 8), (3, 9, 9), (1, 5, 15)])))
def test_packed_masks_come_back(masks):
    packed = tf.constant(np.packbits(masks, axis=-1))
    np.testing.assert_array_equal(objects.unpack(packed, masks.shape[-1]), masks)


@given(mask=hnp.arrays(bool, st.tuples(st.integers(1, 7), st.integers(1, 7))))
def test_boxes_are_tight(mask):
    expected = tight_box(mask) if mask.any() else [0, 0, 0, 0]
    assert objects.boxes_of(tf.constant(mask)).numpy().tolist() == expected
    assert objects.boxes_of(tf.constant(mask.astype("uint8"))).numpy().tolist() == expected


def test_a_wide_picture_gets_gray_below():
    image = np.full((2, 4, 3), 9, "uint8")
    masks = np.array([[[1, 1, 0, 0], [0, 0, 0, 0]]], bool)
    image, masks = letterbox_with_masks(image, masks, (8, 8))
    assert image[:, 0, 0].tolist() == [9, 9, 9, 9, 127, 127, 127, 127]
    expected = np.zeros((8, 8), bool)
    expected[:2, :4] = True
    np.testing.assert_array_equal(masks[0], expected)


@pytest.mark.parametrize("size", [(3, 5), (13, 7), (40, 40)])
def test_resized_masks_stay_disjoint_and_cover_the_same(size):
    owner = np.random.default_rng(1).integers(0, 4, (11, 9))
    masks = np.stack([owner == k for k in range(4)])
    resized = nearest(masks, size)
    assert resized.shape == (4, *size)
    assert (resized.sum(axis=0) == 1).all()  # every pixel has exactly one owner, as before


def test_rows_are_sorted_and_padded_by_hand():
    masks = np.zeros((1, 3, 4, 4), "uint8")
    masks[0, 1, 1:3, 2:4] = 1
    masks[0, 2, 0, 0] = 1  # one pixel, below min_area
    result = objects.targets(tf.constant(masks), tf.constant([[-1, 1, 0]]), 4, min_area=2)
    assert result["classes"].numpy().tolist() == [[1, -1, -1, -1]]
    assert result["boxes"].numpy().tolist() == [[[1, 2, 3, 4], [0] * 4, [0] * 4, [0] * 4]]
    assert result["masks"].numpy().sum(axis=(2, 3)).tolist() == [[4, 0, 0, 0]]


def test_of_too_many_objects_the_largest_stay_in_their_order():
    masks = np.zeros((4, 8, 8), bool)
    masks[0, 0, :2], masks[1, 1, :5], masks[2, 2, :1], masks[3, 3, :3] = True, True, True, True
    example = {"image": np.zeros((8, 8, 3), "uint8"), "masks": masks, "classes": [5, 6, 7, 8]}
    example["file_name"] = "four"
    cache = objects.read([example], (8, 8), max_objects=2)
    assert cache.classes.tolist() == [6, 8]
    assert cache.starts.tolist() == [0, 2]


def test_pictures_without_any_object():
    example = {
        "image": np.full((8, 8, 3), 7, "uint8"),
        "masks": np.zeros((0, 8, 8), bool),
        "classes": np.zeros(0, int),
        "file_name": "empty",
    }
    cache = objects.read([example, example], (8, 8), max_objects=2)
    dataset = objects.build(
        cache, batch_size=2, max_objects=2, shuffle=True, augment=JITTER, seed=0
    )
    images, targets = as_numpy(dataset)
    check_targets(images, targets)
    assert (targets["classes"] == -1).all()


# --- pasting ------------------------------------------------------------------------------------


def test_an_outline_runs_in_the_middle_of_the_border():
    """Of a disk: drawing.trimap is exact, and tested against SciPy."""
    y, x = np.mgrid[:90, :120]
    disk = np.hypot(y - 40, x - 60) < 27.3
    label_map = drawing.trimap(disk) - 1
    found = pasting.outline(label_map)
    away = np.minimum(ndimage.distance_transform_edt(disk), 1e9) + ndimage.distance_transform_edt(
        ~disk
    )
    assert away[found != disk].max(initial=0) <= 1  # none but pixels at the very outline
    assert (found != disk).mean() < 0.001


def test_an_outline_without_pet_or_background():
    border = np.full((4, 5), 2)
    assert not pasting.outline(border).any()
    assert not pasting.outline(np.where(np.eye(4, 5), 1, border)).any()
    assert pasting.outline(np.where(np.eye(4, 5), 0, border)).all()


def test_a_picture_is_cropped_around_its_pet():
    image = np.zeros((10, 30, 3), "uint8")
    image[..., 0] = np.arange(30) * 8
    pet = np.zeros((10, 30), bool)
    pet[4:6, 20:24] = True  # centered at column 22
    cropped, mask = pasting.crop(image, pet, (10, 10))
    assert (cropped[0, :, 0] // 8).tolist() == list(range(17, 27))
    assert tight_box(mask) == [4, 3, 6, 7]
    pet[:, 29] = True
    cropped, _ = pasting.crop(image, pet, (5, 5))  # no farther than to the picture's edge
    assert cropped.shape == (5, 5, 3) and cropped[0, -1, 0] == 28.5 * 8


def test_a_cut_out_fills_its_square_and_remembers_edges():
    image = np.full((20, 40, 3), 50, "uint8")
    pet = np.zeros((20, 40), bool)
    pet[10:20, 5:25] = True  # touches the bottom
    image[pet] = 200
    pixels, box, edges = pasting.cut_out(image, pet, 44)
    assert edges.tolist() == [False, False, True, False]
    assert box.tolist() == [2, 2, 22, 42]  # 40 wide, 20 tall, a margin of 2
    assert tight_box(pixels[..., 3]) == [2, 2, 22, 42]
    assert (pixels[2:22, 2:42, :3] == 200).all()


RED, GREEN, BLUE, GROUND = (255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0)


def colored_scenes(count=24, seed=3):
    """Black pictures with a red pet, into which green cats and blue dogs are pasted."""
    side, margin = 20, 2
    pixels = np.zeros((2, side, side, 4), "uint8")
    pixels[0, ..., :3], pixels[1, ..., :3] = GREEN, BLUE
    pixels[0, margin:-margin, margin:12, 3] = 255  # 16 tall, 10 wide
    pixels[1, margin:11, margin:-margin, 3] = 255  # 9 tall, 16 wide
    cut_outs = pasting.CutOuts(
        pixels=pixels,
        boxes=np.array([[2, 2, 18, 12], [2, 2, 11, 18]], "float32"),
        edges=np.array([[False] * 4, [False, False, True, False]]),  # dogs stand at the bottom
        classes=np.array([0, 1], "int32"),
    )
    image = np.zeros((count, 32, 32, 3), "uint8")
    image[:, 10:22, 8:24] = RED
    mask = np.zeros((count, 1, 32, 32), "uint8")
    mask[:, 0, 10:22, 8:24] = 1
    return pasting.Paste(cut_outs, (2, 4))(
        tf.constant(image), tf.constant(mask), tf.zeros([count, 1], "int32"), tf.constant([seed, 0])
    )


def test_each_pasted_pixel_belongs_to_whom_it_shows():
    images, masks, classes = (tensor.numpy() for tensor in colored_scenes())
    assert masks.sum(axis=1).max() == 1
    assert (classes[:, 0] == 0).all()
    # Which color a pixel is nearest to; at a rim, the one that covers at least half of it.
    colors = np.array([GROUND, RED, GREEN, BLUE])
    distance = np.abs(images[..., None, :].astype(int) - colors).sum(-1)
    for i in range(len(images)):
        by_class = [
            masks[i, :1],
            masks[i, 1:][classes[i, 1:] == 0],
            masks[i, 1:][classes[i, 1:] == 1],
        ]
        shown = np.stack([(m.sum(axis=0) > 0) for m in by_class])
        for number, owned in enumerate(shown, start=1):
            others = np.delete(distance[i], number, axis=-1).min(-1)
            assert (distance[i][..., number][owned] <= others[owned] + 2).all()
        assert (distance[i][..., 0][~shown.any(axis=0)] <= 3 * 128).all()


def test_pasted_pets_stay_inside_and_those_cut_off_at_their_edge():
    _, masks, classes = (tensor.numpy() for tensor in colored_scenes())
    found = masks[:, 1:].any(axis=(2, 3))
    assert (found == (classes[:, 1:] >= 0)).all()
    assert 1 + found.sum(axis=1).min() >= 2 and 1 + found.sum(axis=1).max() <= 4
    assert len(np.unique(found.sum(axis=1))) > 1
    dogs = (classes[:, 1:] == 1) & found
    assert dogs.any() and (masks[:, 1:][dogs][:, 31].any(axis=1)).all()


def test_pasted_pets_keep_their_proportions():
    _, masks, classes = (tensor.numpy() for tensor in colored_scenes(count=40))
    heights = []
    for i in range(40):
        last = np.flatnonzero(masks[i].any(axis=(1, 2)))[-1]  # on top, so nothing hides it
        if last == 0 or classes[i, last] == 1:
            continue
        y1, x1, y2, x2 = tight_box(masks[i, last])
        heights.append(y2 - y1)
        assert abs((x2 - x1) - (y2 - y1) * 10 / 16) <= 1.5  # each side is off by half a pixel
    assert 0.4 * 16 - 1 <= min(heights) <= 0.6 * 16  # the scale goes from 0.4 to 1
    assert 0.8 * 16 <= max(heights) <= 16


def test_a_pet_cut_off_at_the_left_goes_left_or_mirrored_to_the_right():
    pixels = np.zeros((1, 20, 20, 4), "uint8")
    pixels[0, :, :10, 0], pixels[0, :, 10:, 1] = 255, 255  # red on the left, green on the right
    pixels[0, 2:18, 2:18, 3] = 255
    cut_outs = pasting.CutOuts(
        pixels=pixels,
        boxes=np.array([[2, 2, 18, 18]], "float32"),
        edges=np.array([[False, True, False, False]]),
        classes=np.array([0], "int32"),
    )
    count = 16
    images, masks, _ = pasting.Paste(cut_outs, (1, 1), tries=1)(
        tf.zeros([count, 32, 32, 3], "uint8"),
        tf.zeros([count, 1, 32, 32], "uint8"),
        tf.fill([count, 1], -1),
        tf.constant([0, 1]),
    )
    sides = set()
    for image, mask in zip(images.numpy(), masks.numpy()[:, 1], strict=True):
        y1, x1, y2, x2 = tight_box(mask)
        left, right = image[(y1 + y2) // 2, x1], image[(y1 + y2) // 2, x2 - 1]
        mirrored = left[1] > left[0]
        assert (right[0] > right[1]) == mirrored
        assert (x2 == 32) if mirrored else (x1 == 0)
        sides.add(bool(mirrored))
    assert sides == {True, False}


def test_a_board_by_hand():
    board = pasting.Board(2, 6, 6)
    pet = np.zeros((2, 6, 6), bool)
    pet[0, 0:6, 0:4] = True  # 24 pixels, 12 of them in the upper half; none in the second scene
    board.add(tf.constant(pet))
    assert board.present().numpy().tolist() == [1, 0]
    assert board.counts().numpy().tolist() == [[[12, 12]], [[0, 0]]]

    def covering(rows):
        new = np.zeros((2, 6, 6), bool)
        new[:, rows] = True
        return tf.constant(new)

    # All of the lower half, half of the pet: allowed, and where there is no pet anyway.
    assert board.allows(covering(slice(3, 6))).numpy().tolist() == [True, True]
    # A row more: 8 of 24 are left.
    assert board.allows(covering(slice(2, 6))).numpy().tolist() == [False, True]
    # A third of the upper half alone.
    assert board.allows(covering(slice(0, 1))).numpy().tolist() == [False, True]
    # Nothing can be pasted where nothing is.
    assert board.allows(tf.zeros([2, 6, 6], bool)).numpy().tolist() == [False, False]

    board.add(covering(slice(3, 6)))
    masks = board.masks().numpy()
    assert masks.sum(axis=(2, 3)).tolist() == [[12, 18], [0, 18]]
    # What is hidden already counts: of 24 pixels 12 are seen, and one fewer is too few.
    one = np.zeros((2, 6, 6), bool)
    one[0, 1, 1] = True
    assert not board.allows(tf.constant(one)).numpy()[0]
    assert board.present().numpy().tolist() == [2, 1]


def test_full_pictures_are_no_scenes_but_give_cut_outs():
    full, empty = np.zeros((40, 40), "uint8"), np.ones((40, 40), "uint8")
    room = empty.copy()
    room[10:20, 10:20] = 0
    image = np.zeros((40, 40, 3), "uint8")
    examples = [
        {"image": image, "mask": mask, "species": species, "file_name": name}
        for mask, species, name in ((full, 1, "full"), (room, 0, "room"), (empty, 1, "empty"))
    ]
    cache, cut_outs = pasting.read(examples, (32, 32))
    assert cache.names == ["room", "empty"]
    assert cut_outs.classes.tolist() == [1, 0]
    assert cache.starts.tolist() == [0, 1, 1]
    with pytest.raises(ValueError, match="No label map holds a pet"):
        pasting.read(examples[2:], (32, 32))


def test_real_pets_become_scenes(real_pets):
    found = list(scenes.examples("validation", source="pasted", data_dir=real_pets, image_size=96))
    known = {e["file_name"]: e["species"] for e in pets.examples("validation", data_dir=real_pets)}
    assert len(found) > 20
    for example in found:
        assert example["masks"].sum(axis=0).max() <= 1
        assert 1 <= len(example["classes"]) <= 4
        assert example["classes"][0] == known[example["file_name"]]  # its own pet is the hindmost
    several = sum(len(example["classes"]) >= 2 for example in found)
    assert several > 0.9 * len(found)


# --- COCO ---------------------------------------------------------------------------------------


@pytest.fixture
def coco_set(tmp_path):
    """Two pictures of 40 x 60; polygons, run lengths and a crowd."""
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        Image.fromarray(rng.integers(0, 255, (40, 60, 3)).astype("uint8")).save(tmp_path / name)
    blob = np.asfortranarray(rng.random((40, 60)) < 0.3).astype("uint8")
    rle = coco_mask.encode(blob)
    polygon = [10.0, 5.0, 30.5, 8.0, 25.0, 33.0, 8.0, 20.0]
    annotations = {
        "images": [
            {"id": 7, "file_name": "a.png", "height": 40, "width": 60},
            {"id": 9, "file_name": "b.png", "height": 40, "width": 60},
        ],
        "categories": [{"id": 18, "name": "dog"}, {"id": 17, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 18, "iscrowd": 0, "segmentation": [polygon]},
            {
                "id": 2,
                "image_id": 7,
                "category_id": 17,
                "iscrowd": 0,
                "segmentation": {"size": [40, 60], "counts": rle["counts"].decode()},
            },
            {
                "id": 3,
                "image_id": 9,
                "category_id": 17,
                "iscrowd": 1,
                "segmentation": {"size": [40, 60], "counts": rle["counts"].decode()},
            },
        ],
    }
    drawn = coco_mask.decode(coco_mask.frPyObjects([polygon], 40, 60))[..., 0]
    return tmp_path, annotations, {1: drawn, 0: blob}


def test_coco_objects_come_back_as_pycocotools_draws_them(coco_set):
    folder, annotations, expected = coco_set
    dataset = scenes.from_coco(
        annotations, folder, image_size=(40, 60), max_objects=3, shuffle=False
    )
    images, targets = as_numpy(dataset)
    check_targets(images, targets, disjoint=False)
    assert scenes.class_names(annotations) == ("cat", "dog")
    assert targets["classes"].tolist() == [[1, 0, -1], [-1, -1, -1]]  # the crowd is left out
    for row, class_id in ((0, 1), (1, 0)):
        np.testing.assert_array_equal(targets["masks"][0, row], expected[class_id])
    with Image.open(folder / "a.png") as picture:
        np.testing.assert_array_equal(images[0], np.asarray(picture))
    # and through pycocotools' run lengths back again
    run_lengths = coco_mask.encode(np.asfortranarray(targets["masks"][0].transpose(1, 2, 0)))
    x, y, w, h = coco_mask.toBbox(run_lengths)[:2].T
    np.testing.assert_array_equal(targets["boxes"][0, :2], np.stack([y, x, y + h, x + w], axis=1))


def test_coco_pictures_are_resized_and_their_objects_chosen(coco_set):
    folder, annotations, expected = coco_set
    dataset = scenes.from_coco(annotations, folder, image_size=30, classes=["dog"], shuffle=False)
    images, targets = as_numpy(dataset)
    check_targets(images, targets, num_classes=1)
    assert targets["classes"][0, :2].tolist() == [0, -1]
    np.testing.assert_array_equal(  # 60 wide becomes 30: every second pixel
        targets["masks"][0, 0, :20], expected[1][1::2, 1::2]
    )
    assert (images[:, 20:] == 127).all()


def test_a_damaged_coco_picture_is_named_or_skipped(coco_set):
    folder, annotations, _ = coco_set
    (folder / "a.png").write_bytes((folder / "a.png").read_bytes()[:100])
    with pytest.raises(pairs.BadPairError, match=r"a\.png"):
        scenes.from_coco(annotations, folder)
    images, _ = as_numpy(scenes.from_coco(annotations, folder, on_error="skip"))
    assert len(images) == 1


# --- damage and arguments -----------------------------------------------------------------------


@pytest.mark.parametrize("source", ["drawn", "pasted"])
def test_a_damaged_record_is_named(data_dir, tmp_path, source):
    copy = tmp_path / "copy"
    shutil.copytree(data_dir, copy)
    (shard,) = copy.rglob("*-test.tfrecord*")
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    with pytest.raises(pipeline.CorruptDataError, match=r"^Record \d+ cannot be read: .* delete"):
        scenes.load("test", source=source, **options(copy))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"source": "real"}, "source is 'real', expected one of 'drawn', 'pasted'"),
        ({"pets": (3, 2)}, r"expected \(fewest, most\)"),
        ({"pets": (2, 9)}, "so that every pet finds a row"),
        ({"max_objects": 0}, "max_objects is 0, expected a whole number"),
        ({"max_objects": 2.5}, "max_objects is 2.5"),
        ({"augment": lambda *a: a}, "expected None or a seglib.data.augment.Augment"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"image_size": 0}, "image_size is 0"),
    ],
)
def test_arguments_that_make_no_sense_are_named(data_dir, arguments, message):
    with pytest.raises(ValueError, match=message):
        scenes.load("test", **{**options(data_dir), **arguments})


def test_an_unknown_split_and_a_missing_folder_are_named(data_dir, tmp_path):
    with pytest.raises(ValueError, match="split is 'dev'"):
        scenes.load("dev", data_dir=data_dir)
    with pytest.raises(FileNotFoundError, match="No drawn pets"):
        scenes.load("train", data_dir=tmp_path)
