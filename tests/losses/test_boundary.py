"""The boundary losses against hand-computed pictures and NumPy with SciPy's distances."""

import math

import keras
import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt
from scipy.special import softmax

from seglib.core.distance import pack_distances
from seglib.losses import Boundary, CrossEntropy, Hausdorff, ShapeAware

# Three columns; the boundary runs between the second and the third.
TRUTH = np.array([[[0, 0, 1]] * 3])
# softmax (1/4, 3/4) everywhere: class 1 is predicted for the whole picture
ALL_ONE = np.log([[[[1, 3]] * 3] * 3]).astype("float32")
# softmax (3/4, 1/4) in the first column: the predicted boundary runs one pixel too far left
SHIFTED = np.log([[[[3, 1], [1, 3], [1, 3]]] * 3]).astype("float32")


def by_hand():
    log = math.log
    return [
        # distances to class 1: 2, 1, -1 in each row; mean 2/3; to class 0: mean -2/3
        (Boundary(), ALL_ONE, (-2 / 3 * 1 / 4 + 2 / 3 * 3 / 4) / 2),
        (Boundary([1, 3]), ALL_ONE, (-2 / 3 * 1 / 4 + 3 * 2 / 3 * 3 / 4) / 4),
        # class 1: (2/4 + 3/4 - 3/4) / 3, wherein 2 * 1/4 + 1 * 3/4 - 1 * 3/4; class 0 likewise
        (Boundary(), SHIFTED, ((2 / 4) / 3 + (-2 * 3 / 4 - 1 / 4 + 1 / 4) / 3) / 2),
        # one predicted class has no boundary: only 4, 1, 1 from the truth; errors 3/4, 3/4, 1/4
        (Hausdorff(), ALL_ONE, (4 * 9 + 9 + 1) / 16 / 3),
        (Hausdorff(alpha=1), ALL_ONE, (2 * 9 + 9 + 1) / 16 / 3),
        # 4, 1, 1 from the truth and 1, 1, 4 from the prediction; errors 1/4, 3/4, 1/4
        (Hausdorff(), SHIFTED, (5 * 1 + 2 * 9 + 5 * 1) / 16 / 3),
        (Hausdorff(one_sided=True), SHIFTED, (4 * 1 + 9 + 1) / 16 / 3),
        (Hausdorff(alpha=1), SHIFTED, (3 * 1 + 2 * 9 + 3 * 1) / 16 / 3),
        # no predicted contour: plain cross-entropy
        (ShapeAware(), ALL_ONE, (2 * log(4) + log(4 / 3)) / 3),
        # predicted contour in columns 0 and 1, of which the first is 1 pixel off the true one
        (ShapeAware(), SHIFTED, (2 * log(4 / 3) + log(4) + log(4 / 3)) / 3),
    ]


@pytest.mark.parametrize("loss, logits, expected", by_hand())
def test_a_picture_of_nine_pixels_by_hand(loss, logits, expected, value):
    assert value(loss, TRUTH, logits) == pytest.approx(expected, rel=1e-6)


# --- NumPy ------------------------------------------------------------------------------------


def edt(targets):
    """Distance of each pixel to the nearest target; 0 where there is none."""
    return distance_transform_edt(~targets) if targets.any() else np.zeros(targets.shape)


def numpy_signed(labels, num_classes, valid):
    """`[B, H, W, C]`: negative inside; 0 for a class without a boundary."""
    signed = np.zeros((*labels.shape, num_classes))
    for b, c in np.ndindex(labels.shape[0], num_classes):
        own = valid[b] & (labels[b] == c)
        other = valid[b] & ~own
        if own.any() and other.any():
            signed[b, ..., c] = np.where(own, -edt(other), edt(own))
        elif own.any() or other.any():
            signed[b, ..., c] = 0.0
    return signed


def numpy_contour(labels, valid):
    """Pixels with a valid neighbor of another class, pixel by pixel."""
    contour = np.zeros(labels.shape, bool)
    batch, height, width = labels.shape
    for b, y, x in np.ndindex(batch, height, width):
        for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            if 0 <= v < height and 0 <= u < width and valid[b, y, x] and valid[b, v, u]:
                contour[b, y, x] |= labels[b, y, x] != labels[b, v, u]
    return contour


def reference(loss, labels, predicted_from):
    """The loss's docstring in NumPy and float64, as a function of the logits.

    The prediction's own distances are constants, taken from `predicted_from`.
    """
    valid = labels != loss.ignore_label
    num_classes = predicted_from.shape[-1]
    truth = np.where(valid, labels, 0)
    predicted = predicted_from.argmax(-1)
    signed = numpy_signed(labels, num_classes, valid)
    class_weights = np.array(loss.class_weights or [1.0] * num_classes)
    one_hot = np.eye(num_classes)[truth]

    def shape_aware(p):
        apart = -np.take_along_axis(signed, truth[..., None], -1)[..., 0] - 1
        extra = np.where(numpy_contour(predicted, valid), np.maximum(apart, 0), 0)
        weights = valid * class_weights[truth]
        return (weights * (1 + extra) * -np.log((p * one_hot).sum(-1))).sum() / weights.sum()

    def region(costs):
        pictures = []
        for b in range(len(labels)):
            present = np.array([(valid[b] & (labels[b] == c)).any() for c in range(num_classes)])
            counts = class_weights * (present if loss.classes == "present" else 1)
            if valid[b].any() and counts.sum():
                means = costs[b][valid[b]].mean(axis=0)
                pictures.append((counts * means).sum() / counts.sum())
        return np.mean(pictures)

    def formula(logits):
        p = softmax(logits.astype("float64"), axis=-1)
        if isinstance(loss, ShapeAware):
            return shape_aware(p)
        if isinstance(loss, Boundary):
            return region(signed * p)
        distance = np.abs(signed) ** loss.alpha
        if not loss.one_sided:
            distance = distance + np.abs(numpy_signed(predicted, num_classes, valid)) ** loss.alpha
        return region((p - one_hot) ** 2 * distance)

    return formula


LOSSES = [
    Boundary(),
    Boundary([1, 2, 5], classes="all"),
    Hausdorff(),
    Hausdorff([1, 2, 5], one_sided=True),
    Hausdorff(alpha=1.5, classes="all"),
    ShapeAware(),
    ShapeAware([1, 2, 5]),
]
IDS = [f"{type(loss).__name__}-{i}" for i, loss in enumerate(LOSSES)]


def picture_pair(seed=0, ignored=0.15):
    """Three pictures of 6 x 7 pixels; class 2 is absent from the second one."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, (3, 2, 4)).repeat(3, axis=1).repeat(2, axis=2)[:, :, :7]
    labels[1] = np.where(labels[1] == 2, 0, labels[1])
    labels = np.where(rng.random(labels.shape) < ignored, 255, labels)
    return labels, rng.normal(scale=2, size=(*labels.shape, 3)).astype("float32")


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("loss", LOSSES, ids=IDS)
def test_the_formula_of_the_docstring(loss, packed, value):
    for seed in range(3):
        labels, logits = picture_pair(seed)
        expected = reference(loss, labels, logits)(logits)
        y_true = pack_distances(labels, 3) if packed else labels
        assert value(loss, y_true, logits) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss", LOSSES, ids=IDS)
def test_the_gradient_is_the_slope_of_the_formula(loss, value_and_gradient, slope):
    labels, logits = picture_pair(3)
    labels, logits = labels[1:], logits[1:]
    _, gradient = value_and_gradient(loss, labels, logits)
    expected = slope(reference(loss, labels, logits), logits)
    np.testing.assert_allclose(gradient, expected, atol=1e-5)


def test_packed_distances_are_used_and_not_computed_again(value):
    labels, logits = picture_pair(4)
    packed = np.array(keras.ops.convert_to_numpy(pack_distances(labels, 3)))
    packed[..., 1:, :] *= 2
    assert value(Boundary(), packed, logits) == pytest.approx(
        2 * value(Boundary(), labels, logits), rel=1e-5
    )
    assert value(Hausdorff(one_sided=True), packed, logits) == pytest.approx(
        4 * value(Hausdorff(one_sided=True), labels, logits), rel=1e-5
    )


# --- what each loss is for --------------------------------------------------------------------


def test_the_least_boundary_loss_is_minus_the_mean_depth(value):
    # a perfect prediction of TRUTH: depths 2, 1 of class 0 and 1 of class 1, over three columns
    perfect = 50 * np.eye(2, dtype="float32")[TRUTH]
    assert value(Boundary(), TRUTH, perfect) == pytest.approx((-(2 + 1) / 3 - 1 / 3) / 2)


def test_a_far_island_costs_more_than_a_near_one(value):
    labels = np.zeros((1, 12, 12), int)
    labels[:, :3] = 1

    def island(row):
        predicted = labels.copy()
        predicted[:, row, 5] = 1
        return 20 * np.eye(2, dtype="float32")[predicted]

    for loss in (Boundary(), Hausdorff(), Hausdorff(one_sided=True), ShapeAware()):
        near, far = value(loss, labels, island(4)), value(loss, labels, island(10))
        assert far > near, loss.name
    cross_entropies = [value(CrossEntropy(), labels, island(row)) for row in (4, 10)]
    assert cross_entropies[0] == pytest.approx(cross_entropies[1], rel=1e-6)


def test_with_the_contour_in_place_shape_aware_is_cross_entropy(value):
    labels, logits = picture_pair(5, ignored=0.0)
    logits = logits + 40 * np.eye(3, dtype="float32")[labels]
    assert value(ShapeAware(), labels, logits) == value(CrossEntropy(), labels, logits)


def test_a_distance_is_measured_past_ignored_pixels(value):
    # 0 0 ? ? 1: the first pixel is 4 from class 1, the second 3; class 1 is 3 from class 0.
    labels = np.array([[[0, 0, 255, 255, 1]]])
    logits = np.zeros((1, 1, 5, 2), "float32")
    expected = ((-4 - 3 + 3) / 3 / 2 + (4 + 3 - 3) / 3 / 2) / 2
    assert value(Boundary(), labels, logits) == pytest.approx(expected)
    # squares 16, 9, 9, and errors of 1/4
    assert value(Hausdorff(one_sided=True), labels, logits) == pytest.approx((16 + 9 + 9) / 4 / 3)


def test_pixel_weights_enter_the_means_and_not_the_distances(value):
    weights = np.array([[[1, 0, 3]] * 3], "float32")
    # class 1: (2 * 3/4 - 3 * 3/4) / 4; class 0: (-2 * 1/4 + 3 * 1/4) / 4
    expected = ((2 - 3) * 3 / 4 / 4 + (-2 + 3) * 1 / 4 / 4) / 2
    assert value(Boundary(), TRUTH, ALL_ONE, weights) == pytest.approx(expected)


@pytest.mark.parametrize("alpha", [0, -1, float("nan")])
def test_alpha_must_be_positive(alpha):
    with pytest.raises(ValueError, match="alpha is"):
        Hausdorff(alpha=alpha)


def test_arguments_survive_serialization(value):
    loss = Hausdorff([1, 2, 3], alpha=1.5, one_sided=True, classes="all", ignore_label=7, name="h")
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert type(copy) is Hausdorff and copy.get_config() == loss.get_config()
    labels, logits = picture_pair(6, ignored=0.0)
    assert value(copy, labels, logits) == value(loss, labels, logits)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="a tf.data pipeline")
def test_training_with_distances_from_the_pipeline():
    import tensorflow as tf

    from seglib.losses import Dice
    from seglib.metrics import MeanIoU

    rng = np.random.default_rng(0)
    images = rng.normal(size=(8, 6, 6, 3)).astype("float32")
    masks = images.argmax(-1).astype("uint8")
    data = tf.data.Dataset.from_tensor_slices((images, masks)).batch(4)
    data = data.map(lambda x, y: (x, pack_distances(y, 3)))
    keras.utils.set_random_seed(0)
    image = keras.Input((6, 6, 3))
    model = keras.Model(image, keras.layers.Conv2D(3, 1)(image))
    loss = Dice() + 0.1 * Boundary() + 0.01 * Hausdorff()
    model.compile(keras.optimizers.Adam(0.3), loss, metrics=[MeanIoU(3)], jit_compile=False)
    history = model.fit(data, epochs=8, shuffle=False, verbose=0).history
    assert history["mean_iou"][-1] > 0.9 and history["loss"][-1] < history["loss"][0]
