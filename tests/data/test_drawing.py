"""The drawn pets: exact masks, and the variety and proportions of the real set."""

import dataclasses
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from scipy import ndimage

from seglib.data import drawing

SEED = 5


@pytest.fixture(scope="module")
def pictures():
    return [drawing.draw(SEED, index) for index in range(111)]


def distance_to_outline(foreground):
    """SciPy's distance to the nearest pixel on the other side, less the half pixel to the edge."""
    inside = ndimage.distance_transform_edt(foreground)
    outside = ndimage.distance_transform_edt(~foreground)
    return np.where(foreground, inside, outside) - 0.5


# ------------------------------------------------------------------------------------ trimaps


def test_trimap_of_a_half_plane_by_hand():
    foreground = np.zeros((100, 100), bool)
    foreground[:, :50] = True
    # 0.0191 * 100 = 1.91 pixels on each side: the columns at distance 0.5 and 1.5, not 2.5.
    expected = [drawing.PET] * 48 + [drawing.BORDER] * 4 + [drawing.BACKGROUND] * 48
    assert drawing.trimap(foreground).tolist() == [expected] * 100


@pytest.mark.parametrize("value, name", [(True, "PET"), (False, "BACKGROUND")])
def test_trimap_without_an_outline_has_no_border(value, name):
    assert (drawing.trimap(np.full((40, 60), value)) == getattr(drawing, name)).all()


def test_values_shapes_and_types(pictures):
    for picture in pictures:
        height, width, _ = picture.image.shape
        count = len(picture.breeds)
        assert picture.image.dtype == picture.trimap.dtype == np.uint8
        assert picture.trimap.shape == (height, width)
        assert picture.instances.shape == (count, height, width)
        assert picture.instances.dtype == bool
        assert picture.boxes.shape == picture.head_boxes.shape == (count, 4)
        assert len(picture.species) == len(picture.poses) == count
        assert set(np.unique(picture.trimap)) <= {1, 2, 3}
        assert abs(height * width / 128**2 - 1) < 0.02


def test_border_is_the_band_around_the_visible_outline(pictures):
    for picture in pictures:
        foreground = picture.instances.any(0)
        reach = drawing.BORDER_HALF_WIDTH * np.sqrt(foreground.size)
        band = distance_to_outline(foreground) <= reach
        expected = np.where(band, 3, np.where(foreground, 1, 2))
        np.testing.assert_array_equal(picture.trimap, expected)


def test_border_width_follows_the_real_set():
    """The measurement of the constant's comment, on drawn trimaps of the real set's size.

    The real set's quartiles are 0.0169 and 0.0224 of sqrt(area).
    """
    widths = []
    for index in range(8):
        border = drawing.draw(SEED, index, size=290).trimap == drawing.BORDER
        depth = ndimage.distance_transform_edt(np.pad(border, 1, mode="edge"))[1:-1, 1:-1]
        ridge = border & (depth >= ndimage.maximum_filter(depth, 3))
        widths.append(np.median(depth[ridge]) / np.sqrt(border.size))
    assert 0.0169 < np.median(widths) < 0.0224


# ---------------------------------------------------------------------------- masks and boxes


def test_instances_are_disjoint_and_cover_what_the_trimap_calls_pet(pictures):
    for picture in pictures:
        covered = picture.instances.sum(0)
        assert covered.max() == 1
        assert picture.instances.any((1, 2)).all()
        assert (covered[picture.trimap == drawing.PET] == 1).all()
        assert (covered[picture.trimap == drawing.BACKGROUND] == 0).all()


def test_boxes_are_tight(pictures):
    for picture in pictures:
        height, width = picture.trimap.shape
        for mask, box in zip(picture.instances, picture.boxes, strict=True):
            rows, columns = np.nonzero(mask)
            ymin, xmin, ymax, xmax = box * (height, width, height, width)
            assert (round(ymin), round(ymax)) == (rows.min(), rows.max() + 1)
            assert (round(xmin), round(xmax)) == (columns.min(), columns.max() + 1)


def test_head_boxes_lie_inside_the_image_and_are_heads(pictures):
    sides = []
    for picture in pictures:
        for ymin, xmin, ymax, xmax in picture.head_boxes:
            assert 0 <= ymin < ymax <= 1
            assert 0 <= xmin < xmax <= 1
            sides.append([ymax - ymin, xmax - xmin])
    # 90% of the real set's head boxes measure 0.17 to 0.87 of the image's side.
    assert (np.median(sides, 0) > 0.2).all()
    assert (np.median(sides, 0) < 0.6).all()


# -------------------------------------------------------------------------------- proportions


def test_class_shares_are_near_the_real_ones(pictures):
    shares = np.mean([[(p.trimap == v).mean() for v in (1, 2, 3)] for p in pictures], 0)
    # The 961 real pairs: 0.281, 0.601, 0.118.
    np.testing.assert_allclose(shares, [0.281, 0.601, 0.118], atol=0.05)


def test_most_pictures_hold_one_pet_and_some_several(pictures):
    counts = np.bincount([len(picture.breeds) for picture in pictures], minlength=4)
    assert 0.65 < counts[1] / len(pictures) < 0.92
    assert counts[2] >= 8
    assert counts[3] >= 1
    assert counts[4:].sum() == 0


def test_every_breed_species_pose_and_orientation_occurs(pictures):
    assert {picture.label for picture in pictures[:37]} == set(range(37))
    assert {pose for picture in pictures for pose in picture.poses} == set(drawing.POSES)
    assert {int(s) for picture in pictures for s in picture.species} == {0, 1}
    wide = [picture.image.shape[1] > picture.image.shape[0] for picture in pictures]
    assert 0.4 < np.mean(wide) < 0.8


def test_pictures_differ(pictures):
    thumbnails = [p.image[::4, ::4].tobytes() for p in pictures]
    assert len(set(thumbnails)) == len(thumbnails)
    assert drawing.draw(SEED + 1, 0).image.tobytes() != pictures[0].image.tobytes()


def test_color_alone_does_not_tell_pets_from_their_background(pictures):
    """The best threshold on any one color channel is far from segmenting the pictures."""
    pixels = np.concatenate([p.image[p.trimap != drawing.BORDER] for p in pictures])
    is_pet = np.concatenate([p.trimap[p.trimap != drawing.BORDER] for p in pictures]) == drawing.PET
    for channel in pixels.T:
        pet = np.bincount(channel[is_pet], minlength=256).cumsum()
        rest = np.bincount(channel[~is_pet], minlength=256).cumsum()
        below = pet / (is_pet.sum() + rest)
        above = (pet[-1] - pet) / (is_pet.sum() + rest[-1] - rest)
        assert max(below.max(), above.max()) < 0.5  # IoU of "pet"


# ------------------------------------------------------------------------------------- breeds


def test_breeds_are_those_of_tfds(tmp_path):
    import tensorflow_datasets as tfds

    features = tfds.builder("oxford_iiit_pet", data_dir=tmp_path).info.features
    assert list(drawing.BREEDS) == features["label"].names
    assert list(drawing.SPECIES) == features["species"].names


def test_species_follow_the_breed(pictures):
    """In the real set's file names, cats have a capital letter and dogs do not."""
    for picture in pictures:
        assert picture.file_name.startswith(drawing.BREEDS[picture.label])
        assert picture.label == picture.breeds[picture.main]
        for breed, species in zip(picture.breeds, picture.species, strict=True):
            assert drawing.BREEDS[breed][0].isupper() == (species == 0)


def test_every_breed_has_a_look_of_its_own():
    looks = [dataclasses.astuple(look) for look in drawing.LOOKS.values()]
    assert len(set(looks)) == 37


# ------------------------------------------------------------------------------- determinism


def test_a_picture_depends_on_its_arguments_alone(pictures):
    """Drawn by another process, last one first."""
    command = [sys.executable, "-m", "seglib.data.drawing", str(SEED), "128", "40", "0", "-13"]
    environment = dict(os.environ, PYTHONHASHSEED="7")
    output = subprocess.run(command, capture_output=True, check=True, env=environment).stdout
    for index in range(40, 0, -13):
        size = len(pickle.dumps(drawing.encode(pictures[index])))
        record, output = pickle.loads(output[:size]), output[size:]
        assert record["file_name"] == pictures[index].file_name
        assert record["image"] == drawing.encode(pictures[index])["image"]
        assert record["segmentation_mask"] == drawing.encode(pictures[index])["segmentation_mask"]
    assert output == b""


def test_drawing_does_not_import_tensorflow():
    """Else each process that draws would take seconds to start."""
    code = "import sys, seglib.data.drawing as d; d.draw(0, 0); print(*sys.modules)"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    assert not {"tensorflow", "keras", "tensorflow_datasets"} & set(output.decode().split())


@pytest.mark.parametrize(
    "arguments, size",
    [((-1, 0), 128), ((0, -1), 128), ((0, 0), 16)],
    ids=["seed", "index", "size"],
)
def test_bad_arguments_are_named(arguments, size):
    with pytest.raises(ValueError, match="expected seed and index of at least 0"):
        drawing.draw(*arguments, size=size)
