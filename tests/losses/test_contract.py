"""What every loss of `seglib.losses` promises; a new loss is tested as soon as it is exported."""

import inspect
import math

import keras
import numpy as np
import pytest

from seglib import losses
from seglib.core.distance import pack_distances
from seglib.losses import CrossEntropy, Dice, WeightedSum

pytestmark = pytest.mark.no_cover  # the same lines as in other tests, again and again
BACKEND = keras.backend.backend()
to_numpy = keras.ops.convert_to_numpy

# Losses that need arguments.
MAKE = {
    "WeightedSum": lambda name="weighted_sum", **kwargs: WeightedSum(
        [CrossEntropy(**kwargs), Dice(**kwargs)], [1, 0.5], name=name
    )
}


def make(kind, **kwargs):
    return MAKE.get(kind, getattr(losses, kind))(**kwargs)


def blobs(seed=0, shape=(2, 8, 8), num_classes=3, ignored=0.0):
    """Label maps of patches of 4 x 4 pixels, so that regions have an inside, and logits."""
    rng = np.random.default_rng(seed)
    batch, height, width = shape
    labels = rng.integers(0, num_classes, (batch, height // 4, width // 4))
    labels[:, 0, 0], labels[:, 0, 1] = 0, num_classes - 1
    labels = labels.repeat(4, axis=1).repeat(4, axis=2)
    labels = np.where(rng.random(shape) < ignored, 255, labels).astype("int32")
    return labels, rng.normal(scale=2, size=(*shape, num_classes)).astype("float32")


def takes(name, argument):
    return (
        name in MAKE
        or argument in inspect.signature(getattr(losses, name)).parameters
        or any(
            argument in inspect.signature(parent).parameters
            for parent in getattr(losses, name).__mro__
            if issubclass(parent, losses.SegmentationLoss)
        )
    )


# The hinge is for two classes alone: test_lovasz.py has its tests. The other is the base class.
NAMES = [n for n in losses.__all__ if n not in ("LovaszHinge", "SegmentationLoss")]
every_loss = pytest.mark.parametrize("name", NAMES)
# XLA compiles these from the same operations as others, so the nightly run alone has them.
LIKE_OTHERS = (
    *("BalancedCrossEntropy", "Focal", "Jaccard", "Tversky", "FocalTversky", "LogCoshDice"),
    *("SensitivitySpecificity", "IoUBalanced", "Combo", "WeightedSum", "DistancePenalized"),
    *("Boundary", "ShapeAware"),
)


@every_loss
def test_a_finite_float32_scalar_with_a_gradient(name, value_and_gradient):
    labels, logits = blobs(ignored=0.1)
    result = make(name)(labels, logits)
    assert tuple(result.shape) == () and keras.backend.standardize_dtype(result.dtype) == "float32"
    result, gradient = value_and_gradient(make(name), labels, logits)
    assert math.isfinite(result) and np.isfinite(gradient).all() and np.abs(gradient).max() > 0


@every_loss
def test_the_gradient_of_each_pixel_sums_to_zero(name, value_and_gradient):
    # A constant added to all logits of a pixel changes no probability.
    labels, logits = blobs(1, ignored=0.1)
    _, gradient = value_and_gradient(make(name), labels, logits)
    np.testing.assert_allclose(gradient.sum(-1), 0, atol=1e-6 * max(1, np.abs(gradient).max()))


@every_loss
def test_a_perfect_prediction_is_the_minimum(name, value):
    labels, logits = blobs(2)
    perfect = value(make(name), labels, 40.0 * np.eye(3, dtype="float32")[labels])
    for seed in range(3):
        rng = np.random.default_rng(seed)
        other = rng.normal(scale=3, size=logits.shape).astype("float32")
        assert perfect < value(make(name), labels, other)
    wrong = value(make(name), labels, 40.0 * np.eye(3, dtype="float32")[(labels + 1) % 3])
    assert perfect < wrong


@every_loss
def test_the_order_of_the_classes_does_not_matter(name, value):
    labels, logits = blobs(3, num_classes=4)
    order = np.array([2, 0, 3, 1])  # class c becomes order[c]
    permuted = np.empty_like(logits)
    permuted[..., order] = logits
    assert value(make(name), order[labels], permuted) == pytest.approx(
        value(make(name), labels, logits), rel=1e-5
    )


@every_loss
@pytest.mark.parametrize("garbage", [1000.0, float("nan"), float("inf")])
def test_logits_of_ignored_pixels_do_not_matter(name, garbage, value_and_gradient):
    labels, logits = blobs(4, ignored=0.3)
    before, gradient = value_and_gradient(make(name), labels, logits)
    changed = np.where((labels == 255)[..., None], np.float32(garbage), logits)
    after, gradient_after = value_and_gradient(make(name), labels, changed)
    assert after == before
    np.testing.assert_array_equal(gradient_after, gradient)
    assert not gradient[labels == 255].any()


@every_loss
def test_another_ignore_label(name, value):
    labels, logits = blobs(5, ignored=0.2)
    renamed = np.where(labels == 255, -1, labels)
    assert value(make(name, ignore_label=-1), renamed, logits) == value(make(name), labels, logits)


@every_loss
@pytest.mark.parametrize("num_classes", [2, 3])
def test_a_batch_of_ignored_pixels_costs_nothing(name, num_classes, value_and_gradient):
    _, logits = blobs(num_classes=num_classes)
    result, gradient = value_and_gradient(make(name), np.full((2, 8, 8), 255), logits)
    assert result == 0.0
    np.testing.assert_array_equal(gradient, np.zeros_like(logits))


@every_loss
def test_an_ignored_picture_does_not_dilute_the_mean(name, value):
    labels, logits = blobs(6, ignored=0.1)
    alone = value(make(name), labels, logits)
    labels = np.concatenate([labels, np.full((1, 8, 8), 255)])
    logits = np.concatenate([logits, logits[:1]])
    assert value(make(name), labels, logits) == pytest.approx(alone, rel=1e-6)


@every_loss
@pytest.mark.parametrize("present", [(0,), (1, 2), (2,)])
def test_classes_that_are_absent(name, present, value_and_gradient):
    _, logits = blobs(7)
    labels = np.resize(np.repeat(present, 4), (2, 8, 8))
    result, gradient = value_and_gradient(make(name), labels, logits)
    assert math.isfinite(result) and np.isfinite(gradient).all()


@every_loss
def test_extreme_logits(name, value_and_gradient):
    rng = np.random.default_rng(0)
    labels, _ = blobs(8)
    logits = rng.choice([-1e4, 0, 1e4], (2, 8, 8, 3)).astype("float32")
    for given in (logits, 1e4 * np.eye(3, dtype="float32")[labels], np.zeros_like(logits)):
        result, gradient = value_and_gradient(make(name), labels, given)
        assert math.isfinite(result) and np.isfinite(gradient).all()


@every_loss
def test_one_channel_is_the_second_of_two(name, value, value_and_gradient):
    labels, logits = blobs(9, num_classes=2, ignored=0.1)
    one = logits[..., 1:]
    two = np.concatenate([np.zeros_like(one), one], axis=-1)
    result, gradient = value_and_gradient(make(name), labels, one)
    expected, gradient_of_two = value_and_gradient(make(name), labels, two)
    assert result == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(gradient, gradient_of_two[..., 1:], rtol=1e-4, atol=1e-7)
    if takes(name, "class_weights"):
        loss = make(name, class_weights=(1, 3))
        assert value(loss, labels, one) == pytest.approx(value(loss, labels, two), rel=1e-6)
        with pytest.raises(ValueError, match="class weights for 2 classes"):
            make(name, class_weights=(1, 2, 3))(labels, one)


@every_loss
@pytest.mark.parametrize("num_classes", [2, 3])
def test_packed_truth(name, num_classes, value):
    labels, logits = blobs(10, num_classes=num_classes, ignored=0.1)
    packed = pack_distances(labels, num_classes)
    expected = value(make(name), labels, logits)
    assert value(make(name), packed, logits) == pytest.approx(expected, rel=1e-5)
    if num_classes == 2:
        one = logits[..., 1:] - logits[..., :1]
        assert value(make(name), packed, one) == pytest.approx(expected, rel=1e-5)


@every_loss
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_masks_with_a_channel_axis_are_refused(name, channels):
    """Colors, and one-hot masks with a class too many: no loss takes them for packed distances."""
    labels, logits = blobs(10, num_classes=2)
    hint = r"masks\[..., 0\]" if channels == 1 else r"take masks\[..., 0\].*argmax.*from_color"
    with pytest.raises(ValueError, match=rf"expected \[B, H, W\].*{hint}"):
        make(name)(np.stack([labels] * channels, axis=-1), logits)
    with pytest.raises(ValueError, match="packed with distances for 2 classes"):
        make(name)(pack_distances(labels, 3), logits)


@every_loss
def test_without_an_ignore_label(name, value):
    labels, logits = blobs(10)
    loss = make(name, ignore_label=None)
    assert value(loss, labels, logits) == value(make(name), labels, logits)
    labels[0, 0, 0] = 255
    assert math.isnan(value(loss, labels, logits))


@every_loss
@pytest.mark.skipif(BACKEND != "tensorflow", reason="traces TensorFlow's graphs")
@pytest.mark.parametrize("shape", [(2,), (2, 1, 1), (2, 8, 8)])
def test_weights_whose_rank_is_unknown(name, shape, value):
    """As at a second trace, after weights of another rank."""
    import tensorflow as tf

    labels, logits = blobs(16, ignored=0.1)
    weights = np.random.default_rng(0).uniform(0.5, 2, shape).astype("float32")
    step = tf.function(make(name), input_signature=[
        tf.TensorSpec(labels.shape, "int32"),
        tf.TensorSpec(logits.shape, "float32"),
        tf.TensorSpec(None, "float32"),
    ])  # fmt: skip
    expected = value(make(name), labels, logits, weights)
    assert float(step(labels, logits, weights)) == pytest.approx(expected, rel=1e-5)


@every_loss
@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32"])
def test_labels_of_any_dtype(name, dtype, value):
    labels, logits = blobs(11, ignored=0.1)
    assert value(make(name), labels.astype(dtype), logits) == value(make(name), labels, logits)


@every_loss
@pytest.mark.parametrize("label", [3, 200, -1, 0.5, float("nan")])
def test_a_label_that_is_no_class_makes_the_loss_nan(name, label, value):
    labels, logits = blobs(12)
    labels = labels.astype("float32")
    labels[1, 2, 3] = label
    assert math.isnan(value(make(name), labels, logits))
    assert math.isnan(value(make(name), np.full((2, 8, 8), label, "float32"), logits))


@every_loss
def test_nan_logits_make_the_loss_nan(name, value):
    labels, logits = blobs(13)
    logits[0, 0, 0, 0] = np.nan
    assert math.isnan(value(make(name), labels, logits))


@every_loss
def test_weights_of_one_change_nothing(name, value):
    labels, logits = blobs(14, ignored=0.1)
    expected = value(make(name), labels, logits)
    for shape in [(2,), (2, 1, 1), (2, 8, 8)]:
        weighted = value(make(name), labels, logits, np.ones(shape, "float32"))
        assert weighted == pytest.approx(expected, rel=1e-6)


@every_loss
def test_a_picture_of_weight_zero_is_left_out(name, value):
    labels, logits = blobs(15, shape=(3, 8, 8), ignored=0.1)
    expected = value(make(name), labels[:2], logits[:2])
    weighted = value(make(name), labels, logits, np.array([1, 1, 0], "float32"))
    assert weighted == pytest.approx(expected, rel=1e-5)


@every_loss
@pytest.mark.parametrize("scale", [1 / 64, 100])
def test_the_scale_of_weights_does_not_matter(name, scale, value):
    labels, logits = blobs(16, ignored=0.1)
    weights = np.array([0.5, 2], "float32")
    one = value(make(name), labels, logits, weights)
    assert value(make(name), labels, logits, scale * weights) == pytest.approx(one, rel=1e-5)
    if takes(name, "class_weights"):
        weights = np.array([1, 2, 5])
        one = value(make(name, class_weights=weights), labels, logits)
        other = value(make(name, class_weights=scale * weights), labels, logits)
        assert other == pytest.approx(one, rel=1e-5)


@every_loss
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_logits_of_low_precision_are_computed_in_float32(name, dtype, value, value_and_gradient):
    labels, logits = blobs(17, ignored=0.1)
    low = keras.ops.cast(logits, dtype)
    result = make(name)(labels, low)
    assert keras.backend.standardize_dtype(result.dtype) == "float32"
    exact = value(make(name), labels, keras.ops.cast(low, "float32"))
    assert float(to_numpy(result)) == pytest.approx(exact, rel=1e-6)
    assert np.isfinite(value_and_gradient(make(name), labels, low)[1]).all()


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.rare) if n in LIKE_OTHERS else n for n in NAMES],
)
def test_compiled_it_is_the_same(name, value):
    labels, logits = blobs(18, ignored=0.1)
    loss = make(name)
    expected = value(loss, labels, logits)
    if BACKEND == "tensorflow":
        import tensorflow as tf

        # sizes unknown, and through XLA
        specs = [tf.TensorSpec([None] * 3, "int32"), tf.TensorSpec([None] * 3 + [3], "float32")]
        dynamic = tf.function(lambda y, z: loss(y, z), input_signature=specs)
        assert float(dynamic(labels, logits)) == pytest.approx(expected, rel=1e-5)

        @tf.function(jit_compile=True)
        def compiled(y, z):
            with tf.GradientTape() as tape:
                tape.watch(z)
                result = loss(y, z)
            return result, tape.gradient(result, z)

        result, gradient = compiled(tf.constant(labels), tf.constant(logits))
    elif BACKEND == "jax":
        import jax

        result, gradient = jax.jit(jax.value_and_grad(lambda z: loss(labels, z)))(logits)
    else:
        pytest.skip("nothing to compile with")
    assert float(result) == pytest.approx(expected, rel=1e-5)
    assert np.isfinite(np.asarray(gradient)).all()


def test_a_saved_model_has_the_same_losses(tmp_path):
    rng = np.random.default_rng(0)
    images, (labels, _) = rng.normal(size=(2, 8, 8, 3)).astype("float32"), blobs(19, ignored=0.1)
    image = keras.Input((8, 8, 3))
    logits = keras.layers.Conv2D(3, 1)(image)
    outputs = {name: keras.layers.Identity(name=name)(logits) for name in NAMES}
    truth = dict.fromkeys(NAMES, labels)
    model = keras.Model(image, outputs)
    model.compile("sgd", {name: make(name, name="renamed") for name in NAMES}, run_eagerly=True)
    model.fit(images, truth, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for name in NAMES:
        loss, copy = model.loss[name], loaded.loss[name]
        assert type(copy) is type(loss) and copy.name == "renamed"
        assert copy.get_config() == loss.get_config()
    values = [one.evaluate(images, truth, verbose=0, return_dict=True) for one in (model, loaded)]
    assert values[0] == values[1] and set(values[0]) == {"loss", *(f"{n}_loss" for n in NAMES)}


@every_loss
@pytest.mark.parametrize(
    "true_shape, pred_shape, weight_shape, message",
    [
        ((2, 4, 4, 1), (2, 4, 4, 3), None, r"masks\[\.\.\., 0\]"),
        ((2, 4, 4, 3), (2, 4, 4, 3), None, "argmax"),
        ((4, 4), (2, 4, 4, 3), None, r"expected \[B, H, W\]"),
        ((2, 4, 4), (2, 4, 4), None, r"expected logits \[B, H, W, C\]"),
        ((2, 8, 8), (2, 4, 8, 3), None, "differ in height.*resize the logits"),
        ((1, 4, 4), (2, 4, 4, 3), None, "differ in batch size"),
        ((2, 4, 4), (2, 4, 4, 3), (3,), r"sample_weight has shape \(3,"),
        ((2, 4, 4), (2, 4, 4, 3), (2, 4), "one weight per row"),
        ((2, 4, 4), (2, 4, 4, 3), (2, 4, 4, 1), r"weights\[\.\.\., 0\]"),
    ],
)
def test_shapes_that_do_not_belong_together(name, true_shape, pred_shape, weight_shape, message):
    weight = None if weight_shape is None else np.ones(weight_shape, "float32")
    with pytest.raises(ValueError, match=message):
        make(name)(np.zeros(true_shape), np.zeros(pred_shape), weight)


@every_loss
def test_class_weights_that_make_no_sense(name):
    if not takes(name, "class_weights"):
        pytest.skip("takes no class weights")
    for bad in [(1, -1, 1), (0, 0, 0), (1, float("nan"), 1)]:
        with pytest.raises(ValueError, match="expected numbers of at least 0"):
            make(name, class_weights=bad)
    with pytest.raises(ValueError, match="2 class weights for 3 classes"):
        make(name, class_weights=(1, 2))(np.zeros((1, 4, 4)), np.zeros((1, 4, 4, 3)))


@every_loss
def test_its_docstring_says_what_one_needs(name):
    text = getattr(losses, name).__doc__
    for section in ("Args:", "Shape:", "Raises:", "When to use:", "What breaks:"):
        assert section in text, section
    assert "$$" in text
