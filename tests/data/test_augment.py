"""Augmentation: one transform for picture and mask, against SciPy, NumPy and Keras's layers."""

import colorsys
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage
from scipy.spatial.transform import Rotation

from seglib.data import augment
from seglib.data.augment import Augment

SEED = tf.constant([1, 2], tf.int64)


def pictures(count=4, height=24, width=40, seed=0):
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 255, (count, 6, 10, 3))
    smooth = ndimage.zoom(coarse, (1, height / 6, width / 10, 1), order=1)
    return smooth.round().astype("uint8")


def blobs(count=4, height=24, width=40, seed=1):
    """Label maps with regions of several pixels, of classes 0, 1 and 2."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 3, (count, height // 4, width // 4))
    return coarse.repeat(4, axis=1).repeat(4, axis=2).astype("uint8")


def apply(transform, images, masks, seed=SEED):
    images, masks = transform(tf.constant(images), tf.constant(masks), seed)
    return images.numpy(), masks.numpy()


def matrices(transform, count=64, height=24, width=40, seed=SEED):
    """The affine maps as (2x2 matrices, offsets), in (x, y) order, from output to input."""
    rows = transform.matrices(count, height, width, seed).numpy().astype("float64")
    assert not rows[:, 6:].any()  # affine, not projective
    return rows[:, :6].reshape(-1, 2, 3)[..., :2], rows[:, :6].reshape(-1, 2, 3)[..., 2]


def source_coordinates(linear, offset, height, width):
    """Where each output pixel comes from: (y, x), each [H, W]."""
    y, x = np.mgrid[:height, :width]
    moved = np.einsum("ij,jhw->ihw", linear, np.stack([x, y])) + offset[:, None, None]
    return moved[1], moved[0]


EVERYTHING = Augment(
    stretch=1.3,
    rotation=25.0,
    brightness=0.2,
    contrast=(0.6, 1.5),
    saturation=(0.5, 1.6),
    hue=0.1,
    scale=(0.6, 1.8),
)
GEOMETRY = Augment(stretch=1.3, rotation=25.0, scale=(0.6, 1.8))


# --- geometry ---------------------------------------------------------------------------------


def test_with_everything_off_nothing_changes():
    images, masks = pictures(), blobs()
    result = apply(Augment(flip=False, scale=(1, 1)), images, masks)
    np.testing.assert_array_equal(result[0], images)
    np.testing.assert_array_equal(result[1], masks)


@pytest.mark.parametrize("width", [40, 39])
def test_a_flip_is_an_exact_mirror_of_both_in_half_of_the_cases(width):
    images = np.random.default_rng(0).integers(0, 256, (200, 5, width, 3)).astype("uint8")
    masks = np.random.default_rng(1).integers(0, 3, (200, 5, width)).astype("uint8")
    new_images, new_masks = apply(augment.flip_only(), images, masks)
    mirrored = [np.array_equal(n, i[:, ::-1]) for n, i in zip(new_images, images, strict=True)]
    for i, flipped in enumerate(mirrored):
        step = -1 if flipped else 1
        np.testing.assert_array_equal(new_images[i], images[i][:, ::step])
        np.testing.assert_array_equal(new_masks[i], masks[i][:, ::step])
    assert 70 < sum(mirrored) < 130  # 200 coins: more than 4 standard deviations


@pytest.mark.parametrize("seed", range(4))
def test_both_are_resampled_at_the_same_places(seed):
    # SciPy for the picture, NumPy indexing for the mask, at coordinates computed here.
    images, masks = pictures(8), blobs(8)
    height, width = masks.shape[1:]
    seed = tf.constant([seed, 7], tf.int64)
    new_images, new_masks = apply(GEOMETRY, images, masks, seed)
    geometry_seed = tf.random.split(seed, 2)[0]
    maps = zip(*matrices(GEOMETRY, 8, height, width, geometry_seed), strict=True)
    for i, (linear, offset) in enumerate(maps):
        y, x = source_coordinates(linear, offset, height, width)
        nearest_y, nearest_x = np.floor(y + 0.5).astype(int), np.floor(x + 0.5).astype(int)
        inside = (nearest_y >= 0) & (nearest_y < height) & (nearest_x >= 0) & (nearest_x < width)
        expected = np.full((height, width), 255)
        expected[inside] = masks[i][nearest_y[inside], nearest_x[inside]]
        # Halfway between two pixels rounding decides, and rounding errors with it.
        clear = np.minimum(abs(y % 1 - 0.5), abs(x % 1 - 0.5)) > 1e-3
        assert clear.mean() > 0.95
        np.testing.assert_array_equal(new_masks[i][clear], expected[clear])
        for channel in range(3):
            bilinear = ndimage.map_coordinates(
                images[i, ..., channel].astype("float64"),
                [y, x], order=1, mode="grid-constant", cval=127.0,
            )  # fmt: skip
            assert np.abs(new_images[i, ..., channel] - bilinear).max() < 0.51 + 0.1


@pytest.mark.parametrize("seed", range(4))
def test_a_mask_painted_into_the_picture_moves_with_the_mask(seed):
    masks = blobs(8, seed=seed)
    images = (masks[..., None] * np.uint8(100)).repeat(3, -1)
    new_images, new_masks = apply(GEOMETRY, images, masks, tf.constant([seed, 0], tf.int64))
    # Where the picture is not blended from two labels, it shows the mask's.
    labels = new_images[..., 0] / 100
    pure = np.isin(new_images[..., 0], (0, 100, 200)) & (new_masks != 255)
    assert pure.mean() > 0.2 and set(np.unique(new_masks[pure])) == {0, 1, 2}
    # A pixel on an edge may be blended to 100 from 0 and 200, hence not all.
    assert (labels[pure] == new_masks[pure]).mean() > 0.995


@pytest.mark.parametrize("seed", range(4))
def test_the_mask_holds_the_old_labels_and_255_and_nothing_else(seed):
    masks = blobs(16, seed=seed)
    masks[:, :4] = 255  # some pixels had no label before
    _, new_masks = apply(EVERYTHING, pictures(16), masks, tf.constant([seed, 3], tf.int64))
    assert set(np.unique(new_masks)) == {0, 1, 2, 255}


def test_outside_the_picture_there_is_no_label():
    # Shrunk to half in both directions, a quarter of the window holds the picture, all of it.
    transform = Augment(flip=False, scale=(0.5, 0.5))
    masks = np.ones((200, 40, 60), "uint8")
    images = np.zeros((200, 40, 60, 3), "uint8")
    new_images, new_masks = apply(transform, images, masks)
    share = (new_masks == 1).mean(axis=(1, 2))
    np.testing.assert_allclose(share, 0.25, atol=0.03)
    assert set(np.unique(new_masks)) == {1, 255}
    far = ndimage.binary_erosion(new_masks == 255, np.ones((1, 3, 3)), border_value=1)
    assert (new_images[far] == 127).all()
    # The place differs, and the picture touches every border of the window at times.
    for side in (new_masks[:, 1], new_masks[:, -2], new_masks[:, :, 1], new_masks[:, :, -2]):
        assert 0 < (side == 1).any(axis=1).mean() < 1


@pytest.mark.parametrize("scale", [1.0, 1.3, 2.0, 4.0])
def test_a_crop_stays_inside_the_picture(scale):
    transform = Augment(scale=(scale, scale))
    _, new_masks = apply(transform, pictures(32), blobs(32))
    assert (new_masks != 255).all()
    linear, offset = matrices(transform, 32)
    corners = np.array([[x, y] for x in (0, 39) for y in (0, 23)])
    moved = np.einsum("bij,kj->bki", linear, corners) + offset[:, None]
    assert moved.min() > -1e-3
    assert (moved.max(axis=(0, 1)) < np.array([39, 23]) + 1e-3).all()
    if scale > 1.2:  # and uses all the room there is
        assert moved[..., 0].min() < 2 and moved[..., 0].max() > 37


@pytest.mark.parametrize("crop", [(12, 16), (30, 20), (40, 60), 24])
def test_a_window_of_another_size_is_cut_at_the_same_places_in_both(crop):
    transform = Augment(stretch=1.3, rotation=25.0, scale=(0.6, 1.8), crop=crop)
    images, masks = pictures(8), blobs(8)
    new_images, new_masks = apply(transform, images, masks)
    window = (crop, crop) if isinstance(crop, int) else crop
    assert new_images.shape == (8, *window, 3) and new_masks.shape == (8, *window)
    maps = zip(*matrices(transform, 8, seed=tf.random.split(SEED, 2)[0]), strict=True)
    for i, (linear, offset) in enumerate(maps):
        y, x = source_coordinates(linear, offset, *window)
        for found, of, fill, order in (
            (new_images[i, ..., 0], images[i, ..., 0], 127.0, 1),
            (new_masks[i], masks[i], 255.0, 0),
        ):
            expected = ndimage.map_coordinates(
                of.astype("float64"), [y, x], order=order, mode="grid-constant", cval=fill
            )
            # Halfway between two pixels rounding decides, and rounding errors with it.
            clear = np.minimum(abs(y % 1 - 0.5), abs(x % 1 - 0.5)) > 1e-3
            assert np.abs(found[clear] - expected[clear]).max() < 0.51 + 0.1


def test_a_window_of_the_pictures_own_size_changes_nothing():
    for new, old in zip(
        apply(Augment(crop=(24, 40)), pictures(), blobs()),
        apply(Augment(), pictures(), blobs()),
        strict=True,
    ):
        np.testing.assert_array_equal(new, old)


@pytest.mark.parametrize("scale, crop", [(1.0, (12, 20)), (2.0, (24, 40)), (0.5, (12, 20))])
def test_a_window_stays_inside_of_a_larger_picture(scale, crop):
    transform = Augment(scale=(scale, scale), crop=crop)
    _, new_masks = apply(transform, pictures(32), blobs(32))
    assert (new_masks != 255).all()
    linear, offset = matrices(transform, 32)
    corners = np.array([[x, y] for x in (0, crop[1] - 1) for y in (0, crop[0] - 1)])
    moved = np.einsum("bij,kj->bki", linear, corners) + offset[:, None]
    assert moved.min() > -1e-3
    assert (moved.max(axis=(0, 1)) < np.array([39, 23]) + 1e-3).all()


def test_a_window_larger_than_the_picture_shows_all_of_it():
    transform = Augment(flip=False, scale=(1, 1), crop=(48, 60))
    new_images, new_masks = apply(transform, pictures(100), np.ones((100, 24, 40), "uint8"))
    np.testing.assert_allclose((new_masks == 1).sum(axis=(1, 2)), 24 * 40, rtol=0.08)
    far = ndimage.binary_erosion(new_masks == 255, np.ones((1, 3, 3)), border_value=1)
    assert (new_images[far] == 127).all()
    for side in (new_masks[:, 1], new_masks[:, -2], new_masks[:, :, 1], new_masks[:, :, -2]):
        assert 0 < (side == 1).any(axis=1).mean() < 1  # at another place each time


def test_deeplabs_augmentation():
    change = augment.scale_and_crop(16)
    assert change == Augment(flip=True, scale=(0.5, 2.0), crop=16)
    new_images, new_masks = apply(change, pictures(64), blobs(64))
    assert new_images.shape == (64, 16, 16, 3)
    assert set(np.unique(new_masks)) == {0, 1, 2, 255}


@pytest.mark.parametrize("crop", [0, -3, 2.5, (4, 4, 4), (0, 4)])
def test_a_window_that_makes_no_sense(crop):
    with pytest.raises(ValueError, match="crop is"):
        Augment(crop=crop)


def test_the_zoom_is_even_on_a_log_scale():
    linear, _ = matrices(Augment(flip=False, scale=(0.5, 2.0)), 4000)
    zoom = 1 / linear[:, 0, 0]
    np.testing.assert_allclose(linear[:, 0, 0], linear[:, 1, 1], rtol=1e-5)
    assert 0.5 <= zoom.min() < 0.51 and 1.96 < zoom.max() <= 2.0001
    # As many shrink as grow, and a quarter lies below 1 / sqrt(2).
    assert abs((zoom < 1).mean() - 0.5) < 0.03
    assert abs((zoom < math.sqrt(0.5)).mean() - 0.25) < 0.03


def test_rotations_keep_center_and_size_and_stay_within_the_angle():
    linear, offset = matrices(Augment(flip=False, scale=(1, 1), rotation=30.0), 2000)
    np.testing.assert_allclose(np.linalg.det(linear), 1, atol=1e-5)
    np.testing.assert_allclose(linear @ linear.transpose(0, 2, 1), [np.eye(2)] * 2000, atol=1e-5)
    angles = np.degrees(np.arctan2(linear[:, 1, 0], linear[:, 0, 0]))
    assert -30 < angles.min() < -29 and 29 < angles.max() < 30
    center = np.array([39 / 2, 23 / 2])
    np.testing.assert_allclose(linear @ center + offset, [center] * 2000, atol=1e-4)


def test_a_stretch_is_a_zoom_of_one_axis_against_the_other():
    linear, _ = matrices(Augment(flip=False, scale=(1, 1), stretch=1.5), 2000)
    ratio = linear[:, 0, 0] / linear[:, 1, 1]  # how much wider, before
    assert 1 / 1.5 <= ratio.min() < 0.68 and 1.47 < ratio.max() <= 1.5001
    np.testing.assert_allclose(np.linalg.det(linear), 1, rtol=1e-5)


@pytest.mark.parametrize("transform, share", [(Augment(flip=False), 0.0), (Augment(), 0.5)])
def test_only_flips_mirror(transform, share):
    linear, _ = matrices(transform, 2000)
    assert abs((np.linalg.det(linear) < 0).mean() - share) < 0.05


# --- color ------------------------------------------------------------------------------------


def color(**kwargs):
    """Only color changes: neither flip nor zoom."""
    return Augment(flip=False, scale=(1, 1), **kwargs)


def luma(images):
    return images.astype("float64") @ [0.2989, 0.587, 0.114]  # ITU-R BT.601


@pytest.mark.parametrize(
    "kwargs",
    [
        {"brightness": 0.3},
        {"contrast": (0.5, 2.0)},
        {"saturation": (0.2, 2.0)},
        {"hue": 0.4},
    ],
    ids=str,
)
def test_color_never_touches_the_mask(kwargs):
    images, masks = pictures(8), blobs(8)
    new_images, new_masks = apply(color(**kwargs), images, masks)
    np.testing.assert_array_equal(new_masks, masks)
    assert (np.abs(new_images.astype(int) - images).max(axis=(1, 2, 3)) > 0).all()


def test_brightness_shifts_by_up_to_its_share_of_255():
    images = np.full((500, 2, 2, 3), 128, "uint8")
    new_images, _ = apply(color(brightness=0.1), images, blobs(500, 4, 4)[:, :2, :2])
    shift = new_images.astype(int) - 128
    assert (np.ptp(shift.reshape(500, -1), axis=1) == 0).all()  # one shift a picture
    assert -26 <= shift.min() <= -24 and 24 <= shift.max() <= 26
    assert abs(shift.mean()) < 3


def test_brightness_saturates_and_does_not_wrap():
    images = np.stack([np.zeros((4, 4, 3)), np.full((4, 4, 3), 255)]).astype("uint8")
    images = images.repeat(20, axis=0)
    new_images, _ = apply(color(brightness=0.5), images, np.zeros((40, 4, 4), "uint8"))
    assert new_images[:20].max() < 130 and new_images[20:].min() > 125
    assert (new_images[:20] == 0).any() and (new_images[20:] == 255).any()


def test_contrast_scales_distances_to_the_mean():
    rng = np.random.default_rng(0)
    images = rng.integers(100, 156, (300, 8, 8, 3)).astype("uint8")  # cannot saturate
    new_images, _ = apply(color(contrast=(0.5, 1.5)), images, np.zeros((300, 8, 8), "uint8"))
    old, new = images.reshape(300, -1).astype(float), new_images.reshape(300, -1).astype(float)
    np.testing.assert_allclose(new.mean(1), old.mean(1), atol=0.3)
    factor = new.std(1) / old.std(1)
    assert 0.49 < factor.min() < 0.53 and 1.47 < factor.max() < 1.51


def test_saturation_keeps_the_gray_value_and_gray_pictures():
    rng = np.random.default_rng(0)
    images = rng.integers(90, 166, (200, 4, 4, 3)).astype("uint8")
    images[100:] = images[100:, ..., :1]  # the second half is gray
    new_images, _ = apply(color(saturation=(0.0001, 1.6)), images, np.zeros((200, 4, 4), "uint8"))
    np.testing.assert_allclose(luma(new_images), luma(images), atol=0.8)
    np.testing.assert_array_equal(new_images[100:], images[100:])
    spread = np.ptp(new_images[:100].astype(float), axis=-1).mean((1, 2))
    factor = spread / np.ptp(images[:100].astype(float), axis=-1).mean((1, 2))
    assert factor.min() < 0.1 and 1.5 < factor.max() < 1.62


@pytest.mark.parametrize("turns", [0.0, 0.1, -0.25, 1 / 3, 0.5, 1.0])
def test_hue_is_a_rotation_about_the_gray_axis(turns):
    images = np.random.default_rng(0).uniform(0, 255, (1, 3, 5, 3)).astype("float32")
    axis = np.ones(3) / math.sqrt(3)
    expected = Rotation.from_rotvec(2 * np.pi * turns * axis).apply(images.reshape(-1, 3))
    result = augment.turn_hue(tf.constant(images), tf.fill([1, 1, 1, 1], turns)).numpy()
    np.testing.assert_allclose(result.reshape(-1, 3), expected, atol=1e-2)


def test_a_third_of_a_turn_makes_red_green():
    red = np.array([[[[200.0, 0, 0]]]], "float32")
    result = augment.turn_hue(tf.constant(red), tf.fill([1, 1, 1, 1], 1 / 3)).numpy()
    np.testing.assert_allclose(result[0, 0, 0], [0, 200, 0], atol=1e-3)


def test_hue_turns_both_ways_and_keeps_gray():
    muted = np.broadcast_to(np.array([150, 120, 120], "uint8"), (200, 2, 2, 3))
    gray = np.full((200, 2, 2, 3), 120, "uint8")
    new_images, _ = apply(
        color(hue=0.1), np.concatenate([muted, gray]), np.zeros((400, 2, 2), "uint8")
    )
    np.testing.assert_array_equal(new_images[200:], gray)
    hues = np.array([colorsys.rgb_to_hsv(*(p / 255))[0] for p in new_images[:200, 0, 0]])
    hues = (hues + 0.5) % 1 - 0.5  # around red
    assert -0.12 < hues.min() < -0.08 and 0.08 < hues.max() < 0.12


# --- randomness -------------------------------------------------------------------------------


def test_it_is_a_pure_function_of_its_inputs():
    images, masks = pictures(8), blobs(8)
    first = apply(EVERYTHING, images, masks)
    tf.random.set_seed(99)
    second = apply(EVERYTHING, images, masks)
    traced = [x.numpy() for x in tf.function(EVERYTHING)(images, masks, SEED)]
    for a, b, c in zip(first, second, traced, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)


@pytest.mark.parametrize("other", [[1, 3], [2, 2], [2, 1]])
def test_another_seed_gives_another_result(other):
    images, masks = pictures(4), blobs(4)
    first = apply(EVERYTHING, images, masks)
    second = apply(EVERYTHING, images, masks, tf.constant(other, tf.int64))
    for a, b in zip(first, second, strict=True):
        assert all(not np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_each_picture_of_a_batch_gets_a_transform_of_its_own():
    images = pictures(1).repeat(16, axis=0)
    masks = blobs(1).repeat(16, axis=0)
    for result in apply(EVERYTHING, images, masks):
        assert len({x.tobytes() for x in result}) == 16
    new_images, _ = apply(color(brightness=0.3), images, masks)
    assert len({x.tobytes() for x in new_images}) > 10


def test_it_works_in_a_data_set():
    images, masks = pictures(10), blobs(10)
    batches = tf.data.Dataset.from_tensor_slices((images, masks)).batch(4).enumerate()
    batches = batches.map(lambda i, pair: augment.standard()(*pair, tf.stack([i, i])))
    assert batches.element_spec[0].dtype == batches.element_spec[1].dtype == tf.uint8
    assert batches.element_spec[0].shape.as_list() == [None, 24, 40, 3]
    assert batches.element_spec[1].shape.as_list() == [None, 24, 40]
    sizes = [(len(i), len(m)) for i, m in batches]
    assert sizes == [(4, 4), (4, 4), (2, 2)]


# --- Keras's own layers -----------------------------------------------------------------------

FILL = {"fill_mode": "constant", "fill_value": 255.0}
KERAS_LAYERS = [
    keras.layers.RandomFlip("horizontal", seed=1),
    keras.layers.RandomRotation(0.1, interpolation="nearest", seed=1, **FILL),
    keras.layers.RandomZoom((-0.4, 0.4), interpolation="nearest", seed=1, **FILL),
    keras.layers.RandomTranslation(0.2, 0.2, interpolation="nearest", seed=1, **FILL),
    keras.layers.RandomCrop(16, 24, seed=1),
]


@pytest.mark.parametrize("layer", KERAS_LAYERS, ids=lambda x: type(x).__name__)
def test_kerass_layers_transform_masks_too_when_they_are_told_apart(layer):
    # What the docstring of seglib.data.augment says: their masks are right.
    masks = blobs(8)
    images = (masks[..., None] * 100).repeat(3, -1).astype("float32")
    data = {"images": images, "segmentation_masks": masks[..., None]}
    result = {k: np.asarray(v) for k, v in layer(data, training=True).items()}
    new_masks = result["segmentation_masks"][..., 0]
    assert set(np.unique(new_masks)) <= {0, 1, 2, 255}
    assert result["images"].shape != images.shape or not np.array_equal(result["images"], images)
    inside = new_masks != 255
    # One transform for both: the painted picture still shows the mask.
    np.testing.assert_array_equal(result["images"][..., 0][inside], 100.0 * new_masks[inside])


def test_kerass_layers_blend_a_mask_that_is_given_as_a_picture():
    masks = blobs(8)[..., None].astype("float32")
    layer = keras.layers.RandomRotation(0.1, seed=1, **FILL)
    blended = np.asarray(layer(masks, training=True))
    assert len(np.unique(blended)) > 20


# --- arguments --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"scale": (2.0, 1.0)}, r"scale is \(2.0, 1.0\), expected \(low, high\)"),
        ({"scale": (0, 1)}, "scale is .*0 < low <= high"),
        ({"contrast": (-1, 1)}, "contrast is"),
        ({"saturation": (0, 1)}, "saturation is"),
        ({"stretch": 0.9}, "stretch is 0.9, expected a factor of at least 1"),
    ],
    ids=str,
)
def test_arguments_that_make_no_sense(kwargs, message):
    with pytest.raises(ValueError, match=message):
        Augment(**kwargs)
