"""What backbone, decoder and head promise as one model; runs on any backend."""

import functools

import keras
import numpy as np
import pytest

from seglib import models
from seglib.losses import CrossEntropy
from seglib.metrics import HausdorffDistance, MeanIoU
from seglib.models import SegmentationModel, segmentation_head, small_backbone, unet_decoder
from seglib.models.segmentation_model import CropTo, PadToMultiple

to_numpy = keras.ops.convert_to_numpy


def parts(backbone, dropout=0.0):
    options = {"filters": (8,) * 4, "skip_filters": (4,) * 4, "dropout": dropout}
    decoder = unet_decoder(backbone.output, **options)
    return backbone, decoder, segmentation_head(decoder.output, 3, upsampling=2)


def build(*, train_statistics=False, dropout=0.0, input_shape=None):
    """A model of a few thousand weights, whose BatchNorm statistics are not the initial ones."""
    keras.utils.set_random_seed(3)
    model = SegmentationModel(
        *parts(small_backbone(alpha=0.25), dropout),
        train_statistics=train_statistics,
        input_shape=input_shape,
        name="tiny",
    )
    rng = np.random.default_rng(0)
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    return model


def pixels(height=32, width=64, batch=2):
    return np.random.default_rng(1).integers(0, 256, (batch, height, width, 3)).astype("uint8")


def labels(images):
    """A task that can be learned: is a pixel mostly red, green or blue?"""
    return images.argmax(-1).astype("uint8")


def backbone_state(model):
    return {v.path: to_numpy(v).copy() for v in model.backbone.variables}


def train(model):
    images = pixels(batch=4)
    # Two steps are not worth the time that TensorFlow takes to trace a graph; JAX is the reverse.
    model.compile(
        keras.optimizers.SGD(0.1),
        CrossEntropy(),
        metrics=[MeanIoU(3)],
        run_eagerly=keras.backend.backend() == "tensorflow",
    )
    model.fit(images, labels(images), batch_size=4, epochs=2, verbose=0)


def changed(before, model):
    """Names of the backbone's variables that differ, as (statistics, the rest)."""
    after = backbone_state(model)
    names = {name for name in before if not np.array_equal(before[name], after[name])}
    statistics = {name for name in names if "moving" in name}
    return statistics, names - statistics


# --- input and output -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model():
    return build()


@pytest.mark.parametrize("height, width", [(32, 64), (33, 31), (97, 131), (30, 1)])
def test_logits_have_the_size_of_the_picture(model, height, width):
    images = pixels(height, width)
    logits = model.predict(images, verbose=0)
    assert logits.shape == (2, height, width, 3) and logits.dtype == "float32"
    assert np.isfinite(logits).all()


@pytest.mark.parametrize("input_shape", [(50, 70, 3), (None, 70, 3)])
def test_a_size_that_is_known_in_advance(model, input_shape):
    # The same weights give the same logits, whatever is known when the model is built.
    fixed = build(input_shape=input_shape)
    assert fixed.output_shape == (None, *input_shape[:2], 3)
    images = pixels(50, 70)
    np.testing.assert_allclose(
        fixed.predict(images, verbose=0), model.predict(images, verbose=0), atol=1e-4
    )


def test_a_backbone_that_was_built_for_an_odd_size():
    backbone = small_backbone(alpha=0.25, input_shape=(50, 64, 3))
    _, *others = parts(small_backbone(alpha=0.25))
    with pytest.raises(ValueError, match="pictures of 50 x 64 pixels, expected multiples of 32"):
        SegmentationModel(backbone, *others)


def test_a_picture_of_any_size_is_its_padded_picture_cut(model):
    images = pixels(50, 70)
    padded = np.pad(images, [(0, 0), (0, 14), (0, 26), (0, 0)], constant_values=127)
    np.testing.assert_allclose(
        model.predict(images, verbose=0),
        model.predict(padded, verbose=0)[:, :50, :70],
        atol=1e-4,
    )


def test_uint8_and_float_pixels_are_the_same(model):
    images = pixels()
    np.testing.assert_array_equal(
        model.predict(images, verbose=0), model.predict(images.astype("float32"), verbose=0)
    )


@pytest.mark.parametrize("train_statistics", [False, True])
def test_calling_the_model_predicts(train_statistics):
    # Some Keras layers turn training on for those after them when a model is called directly.
    model = build(train_statistics=train_statistics, dropout=0.5)
    images = pixels()
    expected = model.predict(images, verbose=0)
    np.testing.assert_allclose(to_numpy(model(images)), expected, atol=1e-4)
    np.testing.assert_allclose(to_numpy(model(images, training=False)), expected, atol=1e-4)
    # In training, dropout and the decoder's BatchNorm make a difference.
    assert np.abs(to_numpy(model(images, training=True)) - expected).max() > 0.1


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_logits_are_float32_under_mixed_precision(policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = build()
    finally:
        keras.config.set_dtype_policy(before)
    low = policy.removeprefix("mixed_")
    assert model.decoder.layers[-1].compute_dtype == model.backbone.layers[-1].compute_dtype == low
    logits = model.predict(pixels(40, 33), verbose=0)
    assert logits.shape == (2, 40, 33, 3) and logits.dtype == "float32"
    # They were never rounded to 16 bits on the way out.
    rounded = to_numpy(keras.ops.cast(keras.ops.cast(logits, low), "float32"))
    assert (rounded != logits).mean() > 0.5
    # And they are those of full precision, but for rounding inside.
    full = build().predict(pixels(40, 33), verbose=0)
    assert np.corrcoef(full.ravel(), logits.ravel())[0, 1] > 0.99


# --- what trains ------------------------------------------------------------------------------


def test_a_frozen_backbone_does_not_change_at_all():
    model = build()
    model.backbone.trainable = False
    before, head = backbone_state(model), to_numpy(model.head.get_layer("classify").kernel).copy()
    train(model)
    assert changed(before, model) == (set(), set())
    assert not np.array_equal(head, to_numpy(model.head.get_layer("classify").kernel))


def test_a_frozen_backbone_keeps_its_statistics_even_if_they_may_train():
    model = build(train_statistics=True)
    model.backbone.trainable = False
    before = backbone_state(model)
    train(model)
    assert changed(before, model) == (set(), set())


def test_a_backbone_that_was_never_frozen_trains_its_kernels_alone():
    model = build()
    before = backbone_state(model)
    train(model)
    assert changed(before, model) == (set(), {name for name in before if "kernel" in name})


def test_a_backbone_from_random_numbers_trains_its_statistics():
    model = build(train_statistics=True)
    before = backbone_state(model)
    train(model)
    assert changed(before, model) == (
        {name for name in before if "moving" in name},
        {name for name in before if "moving" not in name},
    )


def test_unfreezing_leaves_batch_norm_alone():
    model = build()
    model.backbone.trainable = False
    model.unfreeze_backbone()
    before = backbone_state(model)
    train(model)
    assert changed(before, model) == (set(), {name for name in before if "kernel" in name})


def test_unfreezing_from_a_layer_on():
    model = build()
    model.backbone.trainable = False
    model.unfreeze_backbone(first="level4_down_conv")
    before = backbone_state(model)
    train(model)
    _, rest = changed(before, model)
    assert {name.split("/")[-2] for name in rest} == {
        f"level{n}_{step}_conv" for n in (4, 5) for step in ("down", "keep")
    }


def test_unfreezing_a_model_that_trains_its_statistics_includes_batch_norm():
    model = build(train_statistics=True)
    model.backbone.trainable = False
    model.unfreeze_backbone()
    before = backbone_state(model)
    train(model)
    assert set().union(*changed(before, model)) == set(before)


def test_unfreezing_from_a_layer_that_is_not_there():
    with pytest.raises(ValueError, match="no layer 'conv9'. Its layers are image, "):
        build().unfreeze_backbone(first="conv9")


def test_it_learns_an_easy_task():
    # Blocks of one color: a model that cannot learn this is broken somewhere.
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 3, (8, 4, 4)).repeat(8, 1).repeat(8, 2)
    images = np.where(np.eye(3, dtype=bool)[blocks], 220, 40).astype("uint8")
    model = build(train_statistics=True)
    model.compile(keras.optimizers.Adam(0.02), CrossEntropy(), metrics=[MeanIoU(3)])
    history = model.fit(images, blocks, batch_size=4, epochs=10, verbose=0).history
    assert history["mean_iou"][-1] > 0.8 > history["mean_iou"][0]


# --- saving -----------------------------------------------------------------------------------


@pytest.mark.parametrize("train_statistics", [False, True])
def test_a_saved_model_comes_back_whole(tmp_path, train_statistics):
    model = build(train_statistics=train_statistics, dropout=0.3)
    model.backbone.trainable = False
    path = tmp_path / "model.keras"
    model.save(path)
    copy = keras.saving.load_model(path)
    assert type(copy) is SegmentationModel and copy is not model
    assert copy.input_shape == model.input_shape
    assert copy.name == "tiny" and copy.train_statistics is train_statistics
    assert copy.decoder.get_layer("dropout").rate == 0.3
    assert not copy.backbone.trainable and len(copy.trainable_variables) == len(
        model.trainable_variables
    )
    images = pixels(41, 37)
    np.testing.assert_array_equal(copy.predict(images, verbose=0), model.predict(images, verbose=0))


def test_partly_frozen_survives_saving(tmp_path):
    model = build()
    model.unfreeze_backbone(first="level4_down_conv")
    model.save(tmp_path / "model.keras")
    copy = keras.saving.load_model(tmp_path / "model.keras")
    trainable = [v.path for v in model.backbone.trainable_variables]
    assert [v.path for v in copy.backbone.trainable_variables] == trainable
    assert 0 < len(trainable) < len(model.backbone.variables)


def test_a_compiled_model_is_saved_with_loss_and_metrics(tmp_path):
    model = build()
    train(model)
    model.save(tmp_path / "model.keras")
    copy = keras.saving.load_model(tmp_path / "model.keras")
    images = pixels(batch=4)
    scores = [
        m.evaluate(images, labels(images), verbose=0, return_dict=True) for m in (model, copy)
    ]
    assert scores[0] == pytest.approx(scores[1]) and set(scores[0]) == {"loss", "mean_iou"}


# --- the parts --------------------------------------------------------------------------------


@pytest.mark.parametrize("height, width", [(64, 96), (33, 95), (1, 32)])
def test_padding_is_numpys(height, width):
    x = np.random.default_rng(0).normal(size=(1, height, width, 2)).astype("float32")
    rows, columns = -height % 32, -width % 32
    expected = np.pad(x, [(0, 0), (0, rows), (0, columns), (0, 0)], constant_values=127)
    np.testing.assert_array_equal(to_numpy(PadToMultiple(32)(x)), expected)


def test_padding_and_cropping_are_symbolic_too():
    x = keras.KerasTensor((None, None, 33, 3))
    padded = PadToMultiple(32)(x)
    assert tuple(padded.shape) == (None, None, 64, 3)
    assert tuple(CropTo()([padded, x]).shape) == (None, None, 33, 3)


def test_cropping_keeps_the_top_left():
    x = np.arange(2 * 4 * 5).reshape(1, 4, 5, 2).astype("float32")
    reference = np.zeros((1, 3, 2, 7), "float32")
    np.testing.assert_array_equal(to_numpy(CropTo()([x, reference])), x[:, :3, :2])


def test_the_head_is_a_linear_map_a_pixel_then_upsampling():
    features = keras.KerasTensor((2, 3, 5, 6))
    head = segmentation_head(features, 4)
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 6)).astype("float32")
    kernel, bias = head.get_weights()
    np.testing.assert_allclose(to_numpy(head(x)), x @ kernel[0, 0] + bias, atol=1e-5)
    assert segmentation_head(features, 4, upsampling=2)(x).shape == (2, 6, 10, 4)


@pytest.mark.parametrize("num_classes", [1, 0, -3])
def test_at_least_two_classes(num_classes):
    with pytest.raises(ValueError, match=f"num_classes is {num_classes}, expected at least 2"):
        segmentation_head(keras.KerasTensor((2, 3, 5, 6)), num_classes)


@pytest.mark.parametrize("builder", [models.unet, models.fcn8])
def test_a_dilated_backbone_is_refused_with_a_hint(builder):
    dilated = models.backbone("small", weights=None, output_stride=16)
    with pytest.raises(ValueError, match="P5 of the backbone has 4 x 4 .*expected a stride of 32"):
        builder(3, backbone=dilated, weights=None)


# --- what Keras offers ------------------------------------------------------------------------

BUILDERS = {
    "unet": models.unet,
    "tutorial": functools.partial(models.unet, decoder="tutorial"),
    "fcn8": functools.partial(models.fcn8, filters=8, upsampling="learned"),
    "deeplab": functools.partial(models.deeplab_v3_plus, filters=8),
    "jpu": functools.partial(
        models.deeplab_v3_plus,
        filters=8,
        output_stride=32,
        pyramid=functools.partial(models.jpu, filters=8),
    ),
}


def panoptic(num_classes, **options):
    backbone = models.backbone(options.pop("backbone"), **options)
    pyramid = functools.partial(models.fpn, filters=8)
    options = {"pyramid": pyramid, "level": "P2", "filters": 8}
    decoder = models.fusion_decoder(backbone.output, "panoptic_fpn_fusion", **options)
    head = segmentation_head(decoder.output, num_classes, upsampling=4)
    return SegmentationModel(backbone, decoder, head, train_statistics=True)


BUILDERS["panoptic"] = panoptic


def with_scores(model):
    """The model with weights that are not zero: an FCN's scores start there."""
    rng = np.random.default_rng(0)
    for weight in model.decoder.trainable_variables:
        weight.assign(to_numpy(weight) + rng.uniform(0.0, 0.1, weight.shape))
    return model


@pytest.mark.parametrize("name", BUILDERS)
def test_keras_clones_and_summarizes_each_model(name, capsys):
    model = with_scores(BUILDERS[name](3, backbone="small", weights=None, alpha=0.25))
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    images = pixels(64, 64)
    np.testing.assert_array_equal(to_numpy(clone(images)), to_numpy(model(images)))
    model.summary(expand_nested=True)
    printed = capsys.readouterr().out
    assert "level5_keep_conv" in printed and f"{model.count_params():,}" in printed


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the formats are TensorFlow's")
@pytest.mark.parametrize("name", BUILDERS)
def test_an_exported_model_says_the_same(name, tmp_path):
    import tensorflow as tf

    options = {"backbone": "small", "weights": None, "alpha": 0.25, "input_shape": (64, 64, 3)}
    model = with_scores(BUILDERS[name](3, **options))
    images = pixels(64, 64).astype("float32")
    expected = to_numpy(model(images))
    assert expected.std() > 0.01
    path = str(tmp_path / "exported")
    model.export(path, verbose=False)
    loaded = tf.saved_model.load(path)
    np.testing.assert_allclose(loaded.serve(images), expected, atol=1e-4 * np.abs(expected).max())
    lite = tf.lite.Interpreter(
        model_content=tf.lite.TFLiteConverter.from_saved_model(path).convert()
    )
    [given], [found] = lite.get_input_details(), lite.get_output_details()
    lite.resize_tensor_input(given["index"], images.shape)
    lite.allocate_tensors()
    lite.set_tensor(given["index"], images)
    lite.invoke()
    np.testing.assert_allclose(
        lite.get_tensor(found["index"]), expected, atol=1e-4 * np.abs(expected).max()
    )


# --- what is refused, or named, in fit -----------------------------------------------------------


@pytest.fixture
def compiled():
    model = models.unet(3, backbone="small", weights=None, alpha=0.25, filters=(4,) * 4)
    model.compile("sgd", CrossEntropy(), metrics=[MeanIoU(3)])
    return model


def batch(count=2, size=32, high=3):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, size, size, 3)), rng.integers(0, high, (count, size, size))


@pytest.mark.parametrize("as_dataset", [False, True])
def test_labels_that_are_no_class_are_named_at_the_first_batch(compiled, as_dataset):
    tf = pytest.importorskip("tensorflow")
    images, masks = batch()
    data = (images, masks + 1)
    if as_dataset:
        data = (tf.data.Dataset.from_tensor_slices(data).batch(1),)
    with pytest.raises(ValueError, match=r"holds \[3\], expected whole numbers 0 to 2"):
        compiled.fit(*data, verbose=0)


@pytest.mark.parametrize("method", ["fit", "evaluate"])
def test_a_channel_axis_is_named_after_a_good_call(compiled, method):
    images, masks = batch()
    call = getattr(compiled, method)
    call(images, masks, verbose=0)
    with pytest.raises(ValueError, match=r"shape \(2, 32, 32, 1\), expected \[B, H, W\]"):
        call(images, masks[..., None], verbose=0)


def test_weights_may_change_their_rank(compiled):
    """Keras traces the second call with weights of unknown rank."""
    images, masks = batch()
    compiled.evaluate(images, masks, sample_weight=np.ones(masks.shape), verbose=0)
    found = compiled.evaluate(images, masks, sample_weight=np.array([1.0, 0.0]), verbose=0)
    expected = compiled.evaluate(images[:1], masks[:1], verbose=0)
    assert found[0] == pytest.approx(expected[0], rel=1e-5)


def test_class_weight_of_keras_is_refused_with_a_hint(compiled):
    with pytest.raises(ValueError, match="class_weight is .* to the loss"):
        compiled.fit(*batch(), class_weight={0: 1.0, 1: 2.0, 2: 1.0})


def test_keras_callbacks_know_which_way_is_better(compiled):
    stop = keras.callbacks.EarlyStopping("val_mean_iou", patience=1)
    data = batch()
    compiled.fit(*data, validation_data=data, epochs=2, verbose=0, callbacks=[stop])
    assert stop.monitor_op is keras.ops.greater
    assert HausdorffDistance(3)._direction == "down"


@pytest.mark.parametrize("name", ["model.h5", "model.hdf5"])
def test_the_old_format_is_refused_when_saving(compiled, name, tmp_path):
    with pytest.raises(ValueError, match="expected the ending .keras"):
        compiled.save(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_pictures_of_four_channels_are_refused_where_the_model_is_built():
    with pytest.raises(ValueError, match=r"input_shape is \(32, 32, 4\), expected .*RGB"):
        models.unet(3, backbone="small", weights=None, input_shape=(32, 32, 4))
