"""RoIAlign against its definition, written as loops, and SciPy; runs on any backend."""

import keras
import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from seglib.models.rcnn import roi_align as module
from seglib.models.rcnn.roi_align import crop_masks, level_of, roi_align, roi_pool

to_numpy = keras.ops.convert_to_numpy
STRIDES = {f"P{n}": 2**n for n in range(2, 6)}


@pytest.fixture(params=["products", "lookup"])
def way(request, monkeypatch):
    """Each of the two ways to compute it, whatever the size of the map."""
    monkeypatch.setattr(module, "FEW_CELLS", 1e9 if request.param == "products" else 0)


def read(image, y, x):
    """One bilinear sample, in cells from the first one's center, with the border's rule."""
    height, width = image.shape[:2]
    if not (-1 <= y <= height and -1 <= x <= width):
        return np.zeros(image.shape[2:])
    y, x = np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)
    i, j = int(y), int(x)
    below, right = min(i + 1, height - 1), min(j + 1, width - 1)
    top = (1 - (x - j)) * image[i, j] + (x - j) * image[i, right]
    bottom = (1 - (x - j)) * image[below, j] + (x - j) * image[below, right]
    return (1 - (y - i)) * top + (y - i) * bottom


def align_one(image, box, stride, size, samples):
    """RoIAlign of one box on one map, point by point, in double precision."""
    y1, x1, y2, x2 = np.asarray(box, "float64") / stride
    found = np.zeros((size, size, *image.shape[2:]))
    for i, j, k, m in np.ndindex(size, size, samples, samples):
        y = y1 + (y2 - y1) * (i + (k + 0.5) / samples) / size
        x = x1 + (x2 - x1) * (j + (m + 0.5) / samples) / size
        found[i, j] += read(image.astype("float64"), y - 0.5, x - 0.5) / samples**2
    return found


def align(levels, boxes, size, samples=2, canonical_size=224):
    """RoIAlign of a batch; the level by the paper's logarithm."""
    found, last = [], int(max(levels)[1:])
    for b, picture in enumerate(boxes):
        for y1, x1, y2, x2 in picture:
            root = np.sqrt(max(y2 - y1, 0) * max(x2 - x1, 0))
            n = int(np.clip(np.floor(4 + np.log2(root / canonical_size + 1e-12)), 2, last))
            image = levels[f"P{n}"][b]
            found.append(align_one(image, (y1, x1, y2, x2), 2**n, size, samples))
    return np.stack(found).reshape(*boxes.shape[:2], size, size, -1)


def draw_levels(rng, side=64, batch=2, channels=3):
    return {
        f"P{n}": rng.normal(size=(batch, -(-side // 2**n), -(-side // 2**n), channels)).astype(
            "float32"
        )
        for n in range(2, 6)
    }


def draw_boxes(rng, batch, number, side, largest):
    center = rng.uniform(0, side, (batch, number, 2))
    half = np.exp(rng.uniform(0, np.log(largest), (batch, number, 2))) / 2
    return np.concatenate([center - half, center + half], axis=-1).astype("float32")


def level(height, width, **options):
    box = np.float32([[10, 20, 10 + height, 20 + width]])
    return int(to_numpy(level_of(box, finest=2, coarsest=5, **options))[0])


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (224, 224, 4),  # the paper's examples: 224 x 224 belongs to P4, half of that to P3
        (112, 112, 3),
        (111, 112, 2),  # finer levels than P3: below 112 x 112
        (223, 224, 3),
        (448, 448, 5),
        (447, 448, 4),
        (100, 501.76, 4),  # as large as 224 x 224
        (2000, 2000, 5),  # no coarser one
        (1, 1, 2),
        (0, 50, 2),
    ],
)
def test_level_of_a_box(height, width, expected):
    assert level(height, width) == expected


def test_level_of_a_box_in_small_pictures():
    assert [level(s, s, canonical_size=56) for s in (27, 28, 56, 111, 112)] == [2, 3, 4, 4, 5]


@pytest.mark.parametrize(("size", "samples"), [(1, 1), (2, 3), (3, 2), (7, 1)])
def test_equals_the_definition(way, size, samples):
    rng = np.random.default_rng(size)
    levels, boxes = draw_levels(rng), draw_boxes(rng, 2, 8, 64, 90)
    boxes[0, 0] = -5, 3, 60, 90  # one at least is that large
    options = {"size": size, "samples": samples, "canonical_size": 24}
    used = to_numpy(level_of(boxes, finest=2, coarsest=5, canonical_size=24))
    assert set(used.ravel().tolist()) == {2, 3, 4, 5}
    found = roi_align(levels, boxes, strides=STRIDES, **options)
    assert found.shape == (2, 8, size, size, 3)
    np.testing.assert_allclose(to_numpy(found), align(levels, boxes, **options), atol=1e-5)


def test_equals_scipy_within_the_map(way):
    rng = np.random.default_rng(0)
    levels = {"P2": rng.normal(size=(1, 16, 16, 1)).astype("float32")}
    box = np.float32([[[7.3, 11.9, 40.2, 51.7]]])
    found = roi_align(levels, box, strides=STRIDES, size=14, samples=2)
    share = (np.arange(28) + 0.5) / 28
    rows, columns = (a + (b - a) * share for a, b in ((7.3, 40.2), (11.9, 51.7)))
    points = np.meshgrid(rows / 4 - 0.5, columns / 4 - 0.5, indexing="ij")
    values = map_coordinates(levels["P2"][0, ..., 0].astype("float64"), points, order=1)
    expected = values.reshape(14, 2, 14, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(to_numpy(found)[0, 0, ..., 0], expected, atol=1e-5)


def test_a_ramp_comes_out_as_it_is(way):
    # 2 + 3 y - x in pixels, on every level: a bin has the value of its center, to the fraction
    def ramp(y, x):
        return 2 + 3 * y - x

    levels = {}
    for name, stride in STRIDES.items():
        at = (np.arange(128 // stride) + 0.5) * stride
        levels[name] = ramp(at[:, None], at)[None, :, :, None].astype("float32")
    rng = np.random.default_rng(0)
    boxes = np.sort(rng.uniform(16, 112, (1, 50, 2, 2)), axis=2).reshape(1, 50, 4)
    found = roi_align(levels, np.float32(boxes), strides=STRIDES, size=5, canonical_size=40)
    share = (np.arange(5) + 0.5) / 5
    y1, x1, y2, x2 = boxes[0].T[..., None]
    y, x = y1 + (y2 - y1) * share, x1 + (x2 - x1) * share  # (50, 5)
    expected = ramp(y[:, :, None], x[:, None, :])
    np.testing.assert_allclose(to_numpy(found)[0, ..., 0], expected, atol=1e-3)


def test_levels_may_be_given(way):
    rng = np.random.default_rng(0)
    levels, boxes = draw_levels(rng), draw_boxes(rng, 2, 4, 64, 90)
    level = np.int32([[2, 3, 4, 5], [5, 5, 2, 3]])
    found = to_numpy(roi_align(levels, boxes, strides=STRIDES, size=3, level=level))
    for (b, r), n in np.ndenumerate(level):
        expected = align_one(levels[f"P{n}"][b], boxes[b, r], 2**n, 3, 2)
        np.testing.assert_allclose(found[b, r], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("x1", "x2", "expected"),
    [
        (0, 4, 1),  # the whole map
        (-1, 1, 1),  # points at -0.5 and 0.5: the map goes on for half a cell beyond its edge
        (-2, 0, 0.5),  # points at -1.5, which is 0, and -0.5
        (-4, 0, 0),
        (3, 5, 1),
        (4, 6, 0.5),
        (np.nan, 3, 0),
        (-np.inf, np.inf, 0),
    ],
)
def test_beyond_the_border(way, x1, x2, expected):
    levels = {"P2": np.ones((1, 4, 4, 1), "float32")}
    box = np.float32([[[0, x1, 4, x2]]])
    found = roi_align(levels, box, strides={"P2": 1}, size=1, samples=2)
    assert to_numpy(found).item() == expected


def gradient_of(levels, boxes, weights, **options):
    """The gradient of a weighted sum of what comes out, with respect to every level."""

    def total(levels):
        return keras.ops.sum(roi_align(levels, boxes, strides=STRIDES, **options) * weights)

    levels = {name: keras.ops.convert_to_tensor(x) for name, x in levels.items()}
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(levels)
            result = total(levels)
        gradient = tape.gradient(result, levels)
    else:
        import jax

        gradient = jax.grad(total)(levels)
    return {name: to_numpy(keras.ops.convert_to_tensor(x)) for name, x in gradient.items()}


def test_gradient(way):
    rng = np.random.default_rng(0)
    levels = {name: x for name, x in draw_levels(rng, 32, 1, 1).items() if name < "P4"}
    boxes = draw_boxes(rng, 1, 6, 20, 30)
    weights = rng.normal(size=(1, 6, 2, 2, 1)).astype("float32")
    options = {"size": 2, "canonical_size": 16}
    assert len(np.unique(to_numpy(level_of(boxes, finest=2, coarsest=3, canonical_size=16)))) == 2
    found = gradient_of(levels, boxes, weights, **options)
    for name, x in levels.items():
        for at in np.ndindex(x.shape):
            # what comes out is linear in the maps: a difference with a step of 1 is exact
            step = {n: np.zeros(m.shape) for n, m in levels.items()}
            step[name][at] = 1
            expected = (align(step, boxes, **options) * weights).sum()
            np.testing.assert_allclose(found[name][at], expected, atol=1e-5)


class Align(keras.layers.Layer):
    def call(self, image, boxes):
        levels = {"P2": image, "P3": image[:, ::2, ::2]}
        return roi_align(levels, boxes, strides=STRIDES, size=3, canonical_size=60)


def test_in_a_compiled_model_of_any_batch_size(way):
    rng = np.random.default_rng(0)
    image = rng.normal(size=(2, 8, 8, 2)).astype("float32")
    boxes = draw_boxes(rng, 2, 5, 32, 30)
    inputs = keras.Input((8, 8, 2)), keras.Input((5, 4))
    found = keras.Model(inputs, Align()(*inputs)).predict([image, boxes], verbose=0)
    for b in range(2):
        for r, box in enumerate(boxes[b]):
            small = (box[2] - box[0]) * (box[3] - box[1]) < 30**2
            source, stride = (image[b], 4) if small else (image[b, ::2, ::2], 8)
            np.testing.assert_allclose(found[b, r], align_one(source, box, stride, 3, 2), atol=1e-5)


def test_half_precision_stays(way):
    levels = {"P2": keras.ops.ones((1, 8, 8, 2), "bfloat16")}
    found = roi_align(levels, np.float32([[[3, 3, 20, 20]]]), strides=STRIDES, size=3)
    assert keras.backend.standardize_dtype(found.dtype) == "bfloat16"
    # Both ways add up in float32 weights whose sum is 1 to a few roundings of 2^-24, and round once
    # to bfloat16, whose neighbors of 1 are 2^-8 and 2^-7 away.
    np.testing.assert_array_equal(to_numpy(keras.ops.cast(found, "float32")), 1)


@pytest.mark.parametrize("names", [("P2", "P4"), ("P3", "P5", "P6")])
def test_levels_with_a_gap(names):
    levels = {name: np.ones((1, 4, 4, 1), "float32") for name in names}
    with pytest.raises(ValueError, match="levels that follow each other"):
        roi_align(levels, np.zeros((1, 1, 4), "float32"), strides=STRIDES, size=2)


def test_levels_of_unknown_size():
    image = keras.Input((None, None, 3))
    with pytest.raises(ValueError, match="known when the graph is built"):
        roi_align({"P2": image}, np.zeros((1, 1, 4), "float32"), strides=STRIDES, size=2)


@pytest.mark.parametrize(("size", "samples"), [(4, 1), (7, 2)])
def test_cropped_masks_equal_the_definition(size, samples):
    rng = np.random.default_rng(0)
    masks = rng.integers(0, 2, (2, 3, 20, 30)).astype("uint8")
    boxes, match = draw_boxes(rng, 2, 9, 25, 30), rng.integers(0, 3, (2, 9))
    found = to_numpy(crop_masks(masks, boxes, match, size, samples))
    assert found.shape == (2, 9, size, size) and found.dtype == np.float32
    for b, r in np.ndindex(match.shape):
        mask = masks[b, match[b, r]]
        expected = align_one(mask, boxes[b, r], 1, size, samples)
        np.testing.assert_allclose(found[b, r], expected, atol=1e-5)


def crop(mask, box, size, samples=2):
    masks, boxes = np.uint8(mask)[None, None], np.float32(box)[None, None]
    return to_numpy(crop_masks(masks, boxes, np.zeros((1, 1), int), size, samples))[0, 0]


def test_cropped_mask_of_half_a_box():
    mask = np.zeros((16, 16))
    mask[4:12, 4:8] = 1
    # bins of two pixels, read at the pixels' centers: nothing is blurred
    np.testing.assert_array_equal(crop(mask, [4, 4, 12, 12], 4), [[1, 1, 0, 0]] * 4)


def test_cropped_mask_of_one_pixel():
    mask = np.zeros((16, 16))
    mask[5, 9] = 1
    # read a quarter of a pixel off the center: 3/4 along each axis
    np.testing.assert_allclose(crop(mask, [5, 9, 6, 10], 2, samples=1), np.full((2, 2), 9 / 16))


def test_cropped_mask_at_the_border_and_of_a_whole_picture():
    ones = np.ones((16, 12))
    np.testing.assert_array_equal(crop(ones, [0, 0, 16, 12], 7), np.ones((7, 7)))
    np.testing.assert_array_equal(crop(ones, [12, 8, 16, 12], 7), np.ones((7, 7)))
    np.testing.assert_array_equal(crop(np.ones((1, 1)), [0, 0, 1, 1], 3), np.ones((3, 3)))


def test_cropped_masks_without_a_match_are_finite():
    masks = np.zeros((1, 2, 8, 8), "uint8")
    found = crop_masks(masks, np.zeros((1, 3, 4), "float32"), np.full((1, 3), -1), 4)
    np.testing.assert_array_equal(to_numpy(found), 0)


def test_pooling_by_hand():
    features = np.arange(16.0).reshape(4, 4, 1)
    found = roi_pool(features, [[0, 0, 16, 16]], stride=4, size=2)
    np.testing.assert_array_equal(found[0, ..., 0], [[5, 7], [13, 15]])
    # three cells in two bins: both take the one in the middle
    found = roi_pool(features, [[0, 0, 12, 4]], stride=4, size=2)
    np.testing.assert_array_equal(found[0, ..., 0], [[4, 4], [8, 8]])


def test_pooling_does_not_notice_a_third_of_a_cell_and_align_does():
    features = np.arange(64.0).reshape(8, 8, 1)
    box = np.array([[8.0, 8, 24, 24]])
    moved = box + 4 / 3  # a third of a cell of 4 px
    one, two = (roi_pool(features, x, stride=4, size=2) for x in (box, moved))
    np.testing.assert_array_equal(one, two)
    levels = {"P2": features[None].astype("float32")}
    one, two = (
        to_numpy(roi_align(levels, x[None].astype("float32"), strides=STRIDES, size=2))
        for x in (box, moved)
    )
    # the map grows by 8 a row and by 1 a column
    np.testing.assert_allclose(two - one, np.full_like(one, 9 / 3), atol=1e-4)


def test_pooling_beyond_the_map_and_of_small_boxes():
    features = np.ones((4, 4, 1))
    boxes = [[100, 100, 120, 120], [-50, -50, -20, -20], [5, 5, 5.5, 5.5]]
    found = roi_pool(features, boxes, stride=4, size=2)
    np.testing.assert_array_equal(found[:2], 0)
    np.testing.assert_array_equal(found[2], 1)  # at least one cell
