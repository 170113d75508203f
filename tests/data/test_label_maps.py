"""VOC's and Cityscapes' labels, against their development kits."""

import numpy as np
import pytest

from seglib.data import label_maps
from seglib.data.label_maps import CITYSCAPES, VOC


def test_voc_colors_are_the_development_kits():
    # The palette of the kit's PNG files, as its documentation shows it.
    expected = {
        0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 4: (0, 0, 128),
        5: (128, 0, 128), 6: (0, 128, 128), 7: (128, 128, 128), 8: (64, 0, 0), 9: (192, 0, 0),
        10: (64, 128, 0), 11: (192, 128, 0), 12: (64, 0, 128), 13: (192, 0, 128),
        14: (64, 128, 128), 15: (192, 128, 128), 16: (0, 64, 0), 17: (128, 64, 0),
        18: (0, 192, 0), 19: (128, 192, 0), 20: (0, 64, 128), 255: (224, 224, 192),
    }  # fmt: skip
    colors = label_maps.voc_colors()
    assert {i: tuple(colors[i].tolist()) for i in expected} == expected
    assert VOC.colors == tuple(expected[i] for i in range(21))
    assert VOC.ignored_colors == ((224, 224, 192),)


def test_all_256_voc_colors_differ():
    assert len({tuple(c) for c in label_maps.voc_colors().tolist()}) == 256


def test_voc_classes():
    assert len(VOC.names) == 21
    assert (VOC.names[0], VOC.names[8], VOC.names[12]) == ("background", "cat", "dog")
    assert (VOC.names[15], VOC.names[20]) == ("person", "tvmonitor")
    # alphabetical after background, as the kit lists them
    assert list(VOC.names[1:]) == sorted(VOC.names[1:])


def test_cityscapes_ids_become_train_ids():
    # cityscapesScripts, helpers/labels.py
    train_ids = {
        7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11,
        25: 12, 26: 13, 27: 14, 28: 15, 31: 16, 32: 17, 33: 18,
    }  # fmt: skip
    assert CITYSCAPES.file_ids == {i: train_ids.get(i, 255) for i in (*range(34), 255)}
    assert CITYSCAPES.names == (
        "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign",
        "vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus", "train",
        "motorcycle", "bicycle",
    )  # fmt: skip
    assert CITYSCAPES.colors[:3] == ((128, 64, 128), (244, 35, 232), (70, 70, 70))
    assert CITYSCAPES.colors[-2:] == ((0, 0, 230), (119, 11, 32))


@pytest.mark.parametrize("labels", [VOC, CITYSCAPES])
def test_colors_and_back(labels):
    count = len(labels.names)
    assert len(labels.colors) == count == len(set(labels.colors))
    assert not set(labels.colors) & set(labels.ignored_colors)
    mask = np.random.default_rng(0).choice([*range(count), 255], (20, 30)).astype("uint8")
    painted = labels.to_color(mask)
    assert painted.shape == (20, 30, 3) and painted.dtype == np.uint8
    np.testing.assert_array_equal(labels.from_color(painted), mask)
    assert (painted[mask == 1] == labels.colors[1]).all()


def test_void_colors_of_cityscapes_are_ignored():
    colors = [(0, 0, 0), (111, 74, 0), (81, 0, 81), (250, 170, 160), (0, 0, 110), (0, 0, 142)]
    found = CITYSCAPES.from_color(np.array([colors], "uint8"))
    assert found.tolist() == [[255] * 5 + [13]]


def test_ids_of_the_files():
    found = CITYSCAPES.to_ids(np.array([[7, 0, 33], [26, 29, 255]], "uint8"))
    assert found.tolist() == [[0, 255, 18], [13, 255, 255]] and found.dtype == np.uint8
    mask = np.arange(21, dtype="uint8")[None]
    np.testing.assert_array_equal(VOC.to_ids(mask), mask)
    assert VOC.to_ids(np.array([[255]])).tolist() == [[255]]


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: VOC.to_color([[21, 3]]), r"holds \[21\], expected 0 to 20 or 255"),
        (lambda: VOC.to_ids([[21, 3]]), r"labels \[21\], which the label map does not name"),
        (lambda: CITYSCAPES.to_ids([[34, -1]]), r"labels \[-1, 34\]"),
        (lambda: CITYSCAPES.to_ids([[300]]), r"labels \[300\]"),
        (lambda: label_maps.replace([[0]], {0: 256}), "takes 0 to 256"),
        (lambda: label_maps.replace([[0]], {-1: 0}), "takes -1 to 0"),
        (lambda: VOC.from_color(np.full((2, 2, 3), 7, "uint8")), r"1 colors .* \(7, 7, 7\)"),
        (lambda: VOC.from_color(np.zeros((2, 2), "uint8")), r"uint8 \[2, 2\], expected uint8"),
        (lambda: VOC.from_color(np.zeros((2, 2, 3))), "float64"),
    ],
)
def test_what_stands_for_nothing(call, message):
    with pytest.raises(ValueError, match=message):
        call()
