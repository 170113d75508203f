"""Distances against SciPy, hand-drawn pictures and properties; runs on any backend."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from seglib.core.distance import (
    boundary_distance,
    distance_transform,
    pack_distances,
    signed_distance,
    unpack,
)

to_numpy = keras.ops.convert_to_numpy
BACKEND = keras.backend.backend()


def scipys(mask):
    """SciPy's transform of `[..., H, W]`; infinity where the mask is 0 nowhere."""
    flat = mask.reshape(-1, *mask.shape[-2:])
    found = [np.full(m.shape, np.inf) if m.all() else distance_transform_edt(m) for m in flat]
    return np.stack(found).reshape(mask.shape)


def scipys_signed(labels, num_classes, ignore_label=255):
    """The docstring of `signed_distance` by SciPy, class by class."""
    valid = labels != ignore_label
    classes = []
    for c in range(num_classes):
        own = valid & (labels == c)
        signed = np.where(own, -scipys(~(valid & ~own)), scipys(~own))
        classes.append(np.where(np.isinf(signed), 0.0, signed))
    return np.stack(classes, axis=-1)


def random_labels(seed=0, shape=(2, 9, 13), num_classes=3, ignored=0.2):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, num_classes, shape)
    return np.where(rng.random(shape) < ignored, 255, labels).astype("int32")


# --- the transform ----------------------------------------------------------------------------


def test_a_picture_by_hand():
    mask = [[1, 1, 1], [1, 0, 1], [1, 1, 1]]
    root = 2**0.5
    expected = [[root, 1, root], [1, 0, 1], [root, 1, root]]
    np.testing.assert_allclose(to_numpy(distance_transform(mask)), expected, rtol=1e-6)


def adversarial_masks():
    one = np.ones((17, 23))
    one[3, 20] = 0
    corner = np.ones((31, 9))
    corner[30, 8] = 0
    column = np.ones((12, 12))
    column[:, 5] = 0
    frame = np.pad(np.ones((14, 7)), 1)
    stripes = np.ones((16, 16))
    stripes[::5, ::7] = 0
    diagonal = 1 - np.eye(19)
    # the nearest row is not the row with the nearest pixel
    far = np.ones((40, 40))
    far[0, 0] = far[20, 39] = far[39, 10] = 0
    shapes = {"empty": np.zeros((5, 6)), "row": np.array([[1, 1, 0, 1, 1, 1]])}
    shapes |= {"one zero": one, "corner": corner, "column": column, "frame": frame, "far": far}
    shapes |= {"stripes": stripes, "diagonal": diagonal, "pixel": np.zeros((1, 1))}
    return shapes | {"line": np.array([[1, 1, 0, 1, 1, 1, 1]]).T}


@pytest.mark.parametrize("name", adversarial_masks())
def test_adversarial_masks_equal_scipys(name):
    mask = adversarial_masks()[name]
    np.testing.assert_allclose(to_numpy(distance_transform(mask)), scipys(mask), atol=1e-4)


@given(data=st.data(), shape=st.sampled_from([(1, 6), (7, 1), (5, 8), (2, 3, 11, 4)]))
def test_random_masks_equal_scipys(data, shape):
    number = int(np.prod(shape))
    bits = data.draw(st.lists(st.booleans(), min_size=number, max_size=number))
    mask = np.array(bits).reshape(shape)
    np.testing.assert_allclose(to_numpy(distance_transform(mask)), scipys(mask), atol=1e-4)


@pytest.mark.parametrize("zeros", [0.001, 0.02, 0.5])
def test_larger_pictures_equal_scipys(zeros):
    mask = np.random.default_rng(0).random((3, 67, 130)) > zeros
    mask[1, 40, 70] = False
    np.testing.assert_allclose(to_numpy(distance_transform(mask)), scipys(mask), atol=1e-4)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "float32"])
def test_masks_of_any_dtype(dtype):
    mask = (np.random.default_rng(1).random((5, 8)) > 0.3).astype(dtype)
    distance = distance_transform(mask)
    assert keras.backend.standardize_dtype(distance.dtype) == "float32"
    np.testing.assert_allclose(to_numpy(distance), scipys(mask), atol=1e-4)


def test_a_mask_without_a_zero_is_infinitely_far_and_its_neighbors_do_not_notice():
    masks = np.ones((3, 5, 8))
    masks[1, 2, 2] = 0
    distance = to_numpy(distance_transform(masks))
    assert np.isinf(distance[[0, 2]]).all()
    np.testing.assert_allclose(distance[1], scipys(masks[1]), atol=1e-4)


def test_squares_of_long_distances_are_exact():
    mask = np.ones((3, 2500))
    mask[0, 0] = 0
    expected = np.hypot(np.arange(3)[:, None], np.arange(2500))
    np.testing.assert_allclose(to_numpy(distance_transform(mask)), expected, rtol=2e-7)


def test_turning_the_picture_turns_the_distances():
    mask = np.random.default_rng(2).random((8, 8)) > 0.1
    turned = to_numpy(distance_transform(np.rot90(mask).copy()))
    np.testing.assert_array_equal(turned, np.rot90(to_numpy(distance_transform(mask))))


# --- labels -----------------------------------------------------------------------------------


def test_signed_distances_by_hand():
    labels = [[0, 1, 1], [0, 255, 2]]
    root = 2**0.5
    expected = [
        [[-1, 1, 2], [-root, 1, 2]],
        [[1, -1, -1], [root, 1, 1]],
        [[5**0.5, root, 1], [2, 1, -1]],
        [[0, 0, 0], [0, 0, 0]],
    ]
    signed = np.moveaxis(to_numpy(signed_distance(labels, 4)), -1, 0)
    np.testing.assert_allclose(signed, expected, rtol=1e-6)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("ignore_label", [255, 0])
def test_signed_distances_equal_scipys(seed, ignore_label):
    labels = random_labels(seed)
    labels[1] = np.where(labels[1] == 2, 1, labels[1])  # class 2 is absent from this picture
    expected = scipys_signed(np.where(labels == ignore_label, 255, labels), 3)
    # 255 as a label that is neither a class nor ignored counts nowhere either
    signed = to_numpy(signed_distance(labels, 3, ignore_label))
    np.testing.assert_allclose(signed, expected, atol=1e-4)


@pytest.mark.parametrize("num_classes", [3, 21, 256])
def test_the_boundary_distance_is_the_inner_distance_of_the_own_class(num_classes):
    labels = random_labels(3, num_classes=min(num_classes, 21))
    expected = np.zeros(labels.shape)
    for c in range(21):
        inner = scipys(~((labels != c) & (labels != 255)))
        expected = np.where(labels == c, inner, expected)
    found = to_numpy(boundary_distance(labels, num_classes=num_classes))
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("label", [0, 2, 255])
def test_a_picture_of_one_class_has_no_boundary(label):
    labels = np.full((1, 5, 8), label)
    np.testing.assert_array_equal(to_numpy(signed_distance(labels, 3)), np.zeros((1, 5, 8, 3)))
    np.testing.assert_array_equal(to_numpy(boundary_distance(labels)), np.zeros((1, 5, 8)))


# --- packing ----------------------------------------------------------------------------------


@pytest.mark.parametrize("num_classes", [2, 3])
def test_packing_and_unpacking(num_classes):
    labels = random_labels(4, num_classes=num_classes)
    packed = pack_distances(labels, num_classes)
    assert tuple(packed.shape) == (*labels.shape, 1 + num_classes, 1)
    assert keras.backend.standardize_dtype(packed.dtype) == "float32"
    for channels in {num_classes, 1} if num_classes == 2 else {num_classes}:
        plain, distances = unpack(packed, channels)
        np.testing.assert_array_equal(to_numpy(plain), labels)
        np.testing.assert_allclose(
            to_numpy(distances), scipys_signed(labels, num_classes), atol=1e-4
        )


@pytest.mark.parametrize("shape", [(2, 5, 8), (2, 5, 8, 1), (2, 5, 8, 3), (2, 5, 8, 4)])
def test_what_is_not_packed_is_passed_through(shape):
    labels = np.zeros(shape)
    plain, distances = unpack(labels, 3)
    assert distances is None and tuple(plain.shape) == shape


def test_packed_for_other_classes():
    with pytest.raises(ValueError, match=r"packed with distances for 3 classes, \[B, H, W, 4, 1\]"):
        unpack(pack_distances(random_labels(5), 2), 3)


def test_one_picture_without_a_batch():
    labels = random_labels(5)
    batch = to_numpy(pack_distances(labels, 3))
    np.testing.assert_array_equal(to_numpy(pack_distances(labels[0], 3)), batch[0])


@pytest.mark.parametrize("function", [distance_transform, boundary_distance])
def test_too_few_axes(function):
    with pytest.raises(ValueError, match=r"shape \(3,\), expected \[..., H, W\]"):
        function(np.zeros(3))


# --- in a graph -------------------------------------------------------------------------------


@pytest.mark.skipif(BACKEND != "tensorflow", reason="traces TensorFlow's graphs")
@pytest.mark.parametrize("jit_compile", [False, True])
def test_sizes_unknown_while_tracing(jit_compile):
    import tensorflow as tf

    spec = tf.TensorSpec([None, None, None], "int32")
    pack = tf.function(
        lambda y: pack_distances(y, 3), input_signature=[spec], jit_compile=jit_compile
    )
    for shape in [(2, 9, 13), (1, 4, 7)]:
        labels = random_labels(6, shape)
        found = pack(tf.constant(labels)).numpy()[..., 0]
        np.testing.assert_allclose(found[..., 1:], scipys_signed(labels, 3), atol=1e-4)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.data runs TensorFlow's graphs")
def test_in_a_pipeline():
    import tensorflow as tf

    labels = random_labels(7)
    data = tf.data.Dataset.from_tensor_slices(labels).batch(2).map(lambda y: pack_distances(y, 3))
    found = next(iter(data)).numpy()[..., 0]
    np.testing.assert_array_equal(found[..., 0], labels)
    np.testing.assert_allclose(found[..., 1:], scipys_signed(labels, 3), atol=1e-4)


def test_there_is_no_gradient():
    mask = np.random.default_rng(8).random((5, 8)).astype("float32")
    if BACKEND == "tensorflow":
        import tensorflow as tf

        mask = tf.constant(mask)
        with tf.GradientTape() as tape:
            tape.watch(mask)
            total = tf.reduce_sum(distance_transform(mask > 0.5) * mask)
        gradient = tape.gradient(total, mask)
    elif BACKEND == "jax":
        import jax

        gradient = jax.grad(lambda m: (distance_transform(m > 0.5) * m).sum())(mask)
    else:
        pytest.skip("not tested on this backend")
    mask = np.asarray(mask)
    np.testing.assert_allclose(np.asarray(gradient), scipys(mask > 0.5), atol=1e-4)
