"""The whole model: what it learns from, what it finds, saving, resuming; runs on any backend."""

import dataclasses
import importlib.util
import json
import os
import signal
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest

from seglib.models import mask_rcnn
from seglib.models.rcnn import MaskRCNN, MaskRCNNConfig
from seglib.models.rcnn.model import each_region

BACKEND = keras.backend.backend()
# A few steps are not worth the time that TensorFlow takes to trace a graph; JAX is the reverse.
EAGERLY = BACKEND == "tensorflow"
to_numpy = keras.ops.convert_to_numpy

TINY = {
    "image_size": (64, 64),
    "backbone": "small",
    "weights": None,
    "alpha": 0.25,
    "fpn_filters": 8,
    "rpn_filters": 8,
    "anchor_sizes": (16, 32, 64),
    "rpn_samples": 32,
    "pre_nms_top_k_train": 16,
    "pre_nms_top_k_predict": 16,
    "post_nms_top_k_train": 12,
    "post_nms_top_k_predict": 12,
    "rois_per_image": 8,
    "box_pool_size": 3,
    "mask_pool_size": 4,
    "mask_size": 8,
    "box_head_widths": (12,),
    "mask_head_filters": (8, 8),
    "semantic_filters": 8,
    "detection_candidates": 16,
    "max_detections": 6,
    "mask_scoring": True,
}


def tiny(**changes):
    keras.utils.set_random_seed(0)
    return MaskRCNN(MaskRCNNConfig.small(**(TINY | changes)))


def rectangles(batch=2, rows=4, size=64, seed=0):
    """Pictures of up to two rectangles, red ones (class 0) and blue ones (class 1)."""
    rng = np.random.default_rng(seed)
    images = rng.integers(90, 110, (batch, size, size, 3))
    boxes, classes = np.zeros((batch, rows, 4), "float32"), np.full((batch, rows), -1, "int32")
    masks = np.zeros((batch, rows, size, size), "uint8")
    for i in range(batch):
        for n, left in enumerate((0, size // 2)):
            height, width = rng.integers(16, 30, 2)
            y, x = rng.integers(0, size - height), left + rng.integers(0, size // 2 - width + 1)
            boxes[i, n] = y, x, y + height, x + width
            classes[i, n] = rng.integers(2)
            masks[i, n, y : y + height, x : x + width] = 1
            images[i, y : y + height, x : x + width] = ((220, 30, 30), (30, 30, 220))[classes[i, n]]
    return images.astype("uint8"), {"boxes": boxes, "classes": classes, "masks": masks}


def of_boxes(boxes, size=64):
    """One picture's targets with a mask that fills each box."""
    masks = np.zeros((1, len(boxes), size, size), "uint8")
    for mask, (y1, x1, y2, x2) in zip(masks[0], np.asarray(boxes, int), strict=True):
        mask[y1:y2, x1:x2] = 1
    classes = np.arange(len(boxes), dtype="int32")[None] % 2
    return {"boxes": np.asarray(boxes, "float32")[None], "classes": classes, "masks": masks}


def step(model, images, targets, optimizer=None):
    """One step of training; returns the logs."""
    model.compile(optimizer or keras.optimizers.SGD(0.1), run_eagerly=EAGERLY)
    return {k: float(v) for k, v in model.train_on_batch(images, targets, return_dict=True).items()}


@pytest.fixture(scope="module")
def trained():
    """A model with settled statistics, whose detections are many and far apart in score."""
    model = tiny()
    for _ in range(30):
        model.features(rectangles(batch=4)[0], training=True)
    rng = np.random.default_rng(3)
    for layer, bias in (
        (model.box_head.get_layer("box_head_classify"), [0, 0, -2]),
        (model.rpn.get_layer("rpn_objectness"), 0),
        (model.mask_score_head.get_layer("mask_score_head_score"), 0.6),
    ):
        kernel, old = layer.get_weights()
        layer.set_weights([rng.normal(0, 0.3, kernel.shape), 0 * old + bias])
    return model


# --- building -------------------------------------------------------------------------------------


def test_it_comes_built():
    # Else Keras calls the model step by step before it compiles it.
    assert all(layer.built for layer in tiny()._flatten_layers())


# --- learning -------------------------------------------------------------------------------------


def test_every_weight_learns():
    model = tiny()
    before = {v.path: to_numpy(v).copy() for v in model.trainable_variables}
    step(model, *rectangles(batch=4))
    stuck = [v.path for v in model.trainable_variables if (to_numpy(v) == before[v.path]).all()]
    assert not stuck


def test_every_loss_is_in_the_logs():
    model = tiny(loss_weights={"mask_loss": 3.0, "rpn_box_loss": 0.5})
    logs = step(model, *rectangles())
    expected = [
        *("rpn_class_loss", "rpn_box_loss", "class_loss", "box_loss", "mask_loss"),
        *("mask_score_loss", "semantic_loss"),
    ]
    assert set(logs) == {"loss", *expected} and set(model.loss_names()) == set(expected)
    weights = model.config.loss_weights
    np.testing.assert_allclose(
        logs["loss"], sum(weights[name] * logs[name] for name in expected), rtol=1e-5
    )
    assert all(logs[name] > 0 for name in expected)


def test_losses_of_heads_that_are_not_there_are_not_in_the_logs():
    logs = step(tiny(mask_scoring=False, semantic_classes=0), *rectangles())
    assert not {"mask_score_loss", "semantic_loss"} & set(logs) and len(logs) == 6


def test_losses_before_training_are_those_of_guessing():
    # log 2 for yes or no, log 3 for three classes; the last layers start near zero.
    logs = step(tiny(), *rectangles(batch=4), keras.optimizers.SGD(0.0))
    np.testing.assert_allclose(logs["rpn_class_loss"], np.log(2), atol=0.02)
    np.testing.assert_allclose(logs["class_loss"], np.log(3), atol=0.1)


def test_evaluation_is_the_same_each_time_and_changes_nothing():
    model = tiny()
    model.compile(run_eagerly=EAGERLY)
    before = [to_numpy(v).copy() for v in model.variables]
    first, second = (model.evaluate(*rectangles(), verbose=0, return_dict=True) for _ in range(2))
    assert first == second and set(first) == {"loss", *model.loss_names()}
    metrics = {v.path for v in model.metrics_variables}
    for variable, value in zip(model.variables, before, strict=True):
        if variable.path not in metrics:
            np.testing.assert_array_equal(to_numpy(variable), value)


@pytest.mark.rare
def test_it_learns_rectangles():
    images, targets = rectangles(batch=8)
    model = tiny(
        alpha=1.0,
        fpn_filters=32,
        rpn_filters=32,
        mask_head_filters=(16, 16),
        box_head_widths=(32,),
        mask_scoring=False,
        learning_rate=3e-3,
        steps=60,
    )
    model.compile(model.config.make_optimizer())
    history = model.fit(
        images.repeat(5, 0),
        {name: x.repeat(5, 0) for name, x in targets.items()},
        batch_size=8,
        epochs=12,
        shuffle=False,
        verbose=0,
    ).history
    assert history["loss"][-1] < 0.3 * history["loss"][0]
    found = model.detect(images, min_score=0.5)
    hits = 0
    for i, picture in enumerate(found):
        for n in range(2):
            same = picture["classes"] == targets["classes"][i, n]
            true = targets["masks"][i, n].astype(bool)
            overlaps = [(m & true).sum() / (m | true).sum() for m in picture["masks"][same]]
            hits += max(overlaps, default=0) > 0.5
    assert hits == 16


# --- pictures and objects of every kind -----------------------------------------------------------

MANY = np.array([[y, x, y + 3, x + 3] for y in range(0, 60, 4) for x in range(0, 40, 2)])
KINDS = {
    "no object": np.zeros((0, 4)),
    "one pixel": [[10, 10, 11, 11], [63, 63, 64, 64], [0, 0, 1, 1]],
    "at the border": [[0, 0, 64, 64], [0, 20, 30, 64], [40, 0, 64, 12]],
    "300 objects": MANY,
    "a line": [[0, 5, 64, 6], [31, 0, 32, 64]],
    "the same twice": [[8, 8, 40, 40], [8, 8, 40, 40]],
}


@pytest.mark.parametrize("kind", KINDS)
def test_objects_of_every_kind_give_finite_steps(kind):
    boxes = np.asarray(KINDS[kind], "float32")
    targets = of_boxes(boxes)
    if kind == "no object":
        targets = {name: x[:1] for name, x in rectangles(batch=1)[1].items()}
        targets = {k: np.full_like(x, -1) if k == "classes" else 0 * x for k, x in targets.items()}
    assert kind != "300 objects" or len(boxes) == 300
    model = tiny()
    logs = step(model, rectangles(batch=1)[0], targets)
    assert all(np.isfinite(value) for value in logs.values())
    assert all(np.isfinite(to_numpy(v)).all() for v in model.variables)
    if kind == "no object":
        assert logs["rpn_box_loss"] == logs["box_loss"] == logs["mask_loss"] == 0
        assert logs["rpn_class_loss"] > 0 and logs["class_loss"] > 0


@pytest.mark.parametrize("shape", [(1, 1), (64, 64), (4000, 3000), (7, 500)])
def test_pictures_of_every_size(trained, shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype("uint8")
    found = trained.detect(image)
    count = len(found["scores"])
    assert found["boxes"].shape == (count, 4) and found["classes"].shape == (count,)
    assert found["masks"].shape == (count, *shape) and found["masks"].dtype == bool
    assert (np.diff(found["scores"]) <= 0).all()
    y1, x1, y2, x2 = found["boxes"].T
    assert (y1 >= 0).all() and (y1 < y2).all() and (y2 <= shape[0]).all()
    assert (x1 >= 0).all() and (x1 < x2).all() and (x2 <= shape[1]).all()
    assert count > 0 or min(shape) < 64  # in a strip of one row everything is beside it


def test_lists_arrays_and_batches_are_the_same(trained):
    images, _ = rectangles(batch=3)
    one = [trained.detect(image) for image in images]
    for several in (trained.detect(list(images)), trained.detect(images, batch_size=2)):
        assert len(several) == 3
        for a, b in zip(one, several, strict=True):
            assert a["classes"].tolist() == b["classes"].tolist()
            np.testing.assert_allclose(a["boxes"], b["boxes"], atol=1e-2)
    assert trained.detect([]) == []


def test_min_score(trained):
    image = rectangles(batch=1)[0][0]
    every = trained.detect(image)
    limit = float(np.median(every["scores"]))
    some = trained.detect(image, min_score=limit)
    assert some["scores"].tolist() == [s for s in every["scores"].tolist() if s >= limit]
    assert len(some["masks"]) == len(some["scores"]) < len(every["scores"])


def test_a_picture_that_is_none(trained):
    with pytest.raises(ValueError, match="shape .64, 64., expected .height, width, 3."):
        trained.detect([np.zeros((64, 64))])


def test_the_scores_hold_the_guessed_quality_of_the_mask(trained):
    images = rectangles()[0]
    found = trained(images)
    classes = to_numpy(found["classes"])
    regions = trained.align(trained.features(images), found["boxes"], 4)
    quality = each_region(trained.mask_score_head, [regions, found["masks"]])
    quality = np.clip(to_numpy(quality), 0, 1)
    quality = np.take_along_axis(quality, np.maximum(classes, 0)[..., None], 2)[..., 0]
    scores = to_numpy(found["scores"])
    np.testing.assert_allclose(scores, to_numpy(found["class_scores"]) * quality, atol=1e-5)
    assert (np.diff(scores) <= 0).all() and (scores[classes < 0] == 0).all()
    detected = trained.detect(images[0])
    np.testing.assert_allclose(
        detected["class_scores"], found["class_scores"][0][: len(detected["scores"])], atol=1e-5
    )


# --- what is no data ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t: {"boxes": t["boxes"]}, "targets are .'boxes'., expected a dict of boxes, cl"),
        (lambda t: t["boxes"], "expected a dict of boxes, classes and masks"),
        (lambda t: t | {"boxes": t["boxes"][..., :3]}, "boxes have shape .* expected .B, N, 4."),
        (lambda t: t | {"masks": t["masks"][..., :32]}, "masks have shape .*image_size"),
        (lambda t: t | {"classes": t["classes"][..., None]}, "classes have shape"),
    ],
)
def test_targets_that_are_none(change, message):
    model = tiny()
    images, targets = rectangles()
    with pytest.raises(ValueError, match=message):
        model.compute_loss(images, change(targets), {})


def test_sample_weights_are_refused():
    images, targets = rectangles()
    with pytest.raises(ValueError, match="sample_weight was given"):
        tiny().compute_loss(images, targets, {}, sample_weight=np.ones(2))


# --- saving ---------------------------------------------------------------------------------------


def same(a, b, tolerance=1e-4):
    assert a["classes"].tolist() == b["classes"].tolist()
    np.testing.assert_allclose(a["scores"], b["scores"], atol=tolerance)
    np.testing.assert_allclose(a["boxes"], b["boxes"], atol=100 * tolerance)
    assert (a["masks"] != b["masks"]).mean() < 0.01


def test_saving_and_loading(trained, tmp_path):
    image = rectangles(batch=1)[0][0]
    expected = trained.detect(image)
    trained.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    assert again.config == trained.config
    same(again.detect(image), expected)
    trained.save_weights(tmp_path / "model.weights.h5")
    other = tiny()
    other.load_weights(tmp_path / "model.weights.h5")
    for a, b in zip(other.variables, trained.variables, strict=True):
        np.testing.assert_array_equal(to_numpy(a), to_numpy(b))


OTHER = {"tensorflow": "jax", "jax": "tensorflow"}
# JAX compiles in half the time and computes the same, more slowly.
QUICK = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


@pytest.mark.skipif(
    BACKEND not in OTHER or importlib.util.find_spec(OTHER[BACKEND]) is None,
    reason="the other backend of TensorFlow and JAX is not installed",
)
def test_the_other_backend_finds_the_same(trained, tmp_path, root):
    images = rectangles()[0]
    trained.save(tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", images)
    script = """
        import sys, keras, numpy as np
        import seglib.models.rcnn
        folder = sys.argv[1]
        model = keras.saving.load_model(f"{folder}/model.keras", compile=False)
        for i, found in enumerate(model.detect(np.load(f"{folder}/images.npy"))):
            np.savez(f"{folder}/{keras.backend.backend()}-{i}.npz", **found)
        """
    other = OTHER[BACKEND]
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(root), "KERAS_BACKEND": other, "XLA_FLAGS": QUICK},
        check=True,
    )
    for i, expected in enumerate(trained.detect(images)):
        assert len(expected["classes"]) > 2
        with np.load(tmp_path / f"{other}-{i}.npz") as found:
            same(found, expected)


# --- precision, pretrained backbones --------------------------------------------------------------


@pytest.fixture
def bfloat16():
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy("float32")


def test_mixed_precision(bfloat16, tmp_path):
    model = tiny()
    images, targets = rectangles()
    logs = step(model, images, targets)
    assert all(np.isfinite(value) for value in logs.values())
    assert all(v.dtype == "float32" for v in model.trainable_variables)
    assert "bfloat16" in str(model.features(images)["P3"].dtype)
    output = model(images)
    assert all("float32" in str(output[name].dtype) for name in ("boxes", "scores"))
    model.save(tmp_path / "model.keras")
    keras.config.set_dtype_policy("float32")
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    assert "bfloat16" in str(again.features(images)["P3"].dtype)
    assert keras.config.dtype_policy().name == "float32"


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A file of weights, as of a backbone that was trained before."""
    path = tmp_path_factory.mktemp("weights") / "mobilenet.weights.h5"
    network = keras.applications.MobileNetV2(alpha=0.35, weights=None, include_top=False)
    network.save_weights(path)
    return path


def changed(before, model):
    return {v.path for v in model.backbone.variables if (to_numpy(v) != before[v.path]).any()}


def test_a_pretrained_backbone_is_frozen_until_asked(pretrained, tmp_path):
    changes = {"backbone": "mobilenet_v2", "weights": str(pretrained), "alpha": 0.35}
    model = tiny(**changes, mask_scoring=False)
    before = {v.path: to_numpy(v).copy() for v in model.backbone.variables}
    step(model, *rectangles())
    assert not model.backbone.trainable_variables and not changed(before, model)
    model.unfreeze_backbone("block_13_expand")
    step(model, *rectangles())
    found = changed(before, model)
    assert found and not any("moving" in name or "gamma" in name for name in found)
    names = [layer.name for layer in model.backbone.layers]
    late = set(names[names.index("block_13_expand") :])
    assert all(any(part in late for part in name.split("/")) for name in found)
    pretrained.rename(pretrained.with_suffix(".away"))  # a saved model does not need the file
    try:
        model.save(tmp_path / "model.keras")
        again = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    finally:
        pretrained.with_suffix(".away").rename(pretrained)
    assert [v.shape for v in again.trainable_variables] == [
        v.shape for v in model.trainable_variables
    ]
    with pytest.raises(ValueError, match="no layer 'block_99'"):
        model.unfreeze_backbone("block_99")


# --- the builder ----------------------------------------------------------------------------------


def test_the_builder():
    model = mask_rcnn(
        class_names=("cat", "dog", "bird"), backbone="small", weights=None, image_size=64
    )
    assert model.config.num_classes == 3 and model.config.class_names == ("cat", "dog", "bird")
    assert model.config.image_size == (64, 64) and model.config.fpn_filters == 256


# --- a killed training ----------------------------------------------------------------------------

SCRIPT = textwrap.dedent(
    """
    import json, os, signal, sys
    import keras, numpy as np, tensorflow as tf
    from seglib.callbacks import Resume
    from seglib.models import MaskRCNN, MaskRCNNConfig

    data, kill_at, *runs = sys.argv[1:]
    tf.config.experimental.enable_op_determinism()
    arrays = dict(np.load(data))
    config = MaskRCNNConfig(**json.loads(str(arrays.pop("config"))))
    images = arrays.pop("images")
    scenes = tf.data.Dataset.from_tensor_slices((images, arrays)).batch(2)
    scenes.epoch = tf.Variable(0)  # each epoch is the same


    class Kill(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.epoch = epoch

        def on_train_batch_end(self, batch, logs=None):
            if f"{self.epoch}:{batch}" == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)


    for folder in runs:
        keras.utils.set_random_seed(1)
        model = MaskRCNN(config)
        model.compile(config.make_optimizer(), run_eagerly=True)
        callbacks = [Resume(folder, scenes), Kill()]
        history = model.fit(scenes, epochs=2, shuffle=False, verbose=0, callbacks=callbacks)
        values = [keras.ops.convert_to_numpy(v) for v in model.variables]
        np.savez(folder + ".npz", json.dumps(history.history), *values)
    """
)


@pytest.mark.rare
@pytest.mark.skipif(BACKEND != "tensorflow", reason="one backend will do for processes of minutes")
def test_a_killed_training_ends_like_one_that_was_never_killed(tmp_path, root):
    images, targets = rectangles(batch=4)
    config = json.dumps(dataclasses.asdict(MaskRCNNConfig.small(**TINY, steps=4)))
    np.savez(tmp_path / "data.npz", images=images, config=config, **targets)

    def train(*folders, kill_at="never"):
        arguments = [tmp_path / "data.npz", kill_at, *(tmp_path / folder for folder in folders)]
        return subprocess.run(
            [sys.executable, "-c", SCRIPT, *map(str, arguments)],
            env=os.environ | {"PYTHONPATH": str(root), "KERAS_BACKEND": "tensorflow"},
            capture_output=True,
            text=True,
        )

    killed = train("resumed", kill_at="1:1")
    assert killed.returncode == -signal.SIGKILL and not (tmp_path / "resumed.npz").exists()
    done = train("resumed", "whole")
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "whole.npz") as a, np.load(tmp_path / "resumed.npz") as b:
        assert a.files == b.files and len(a.files) > 50
        for name in a.files:
            np.testing.assert_array_equal(a[name], b[name])


# --- classes that the configuration lacks ---------------------------------------------------------


def test_a_class_that_the_heads_lack_is_named():
    model = tiny()
    model.compile("sgd", run_eagerly=EAGERLY)
    images, targets = rectangles()
    targets["classes"] = np.where(targets["classes"] >= 0, targets["classes"] + 1, -1)
    targets["classes"][0, 0] = 2
    with pytest.raises(ValueError, match=r"classes \[2\], expected 0 to 1.*from 0"):
        model.fit(images, targets, verbose=0)
    # Where only the loss can see it, it does not train as background.
    assert np.isnan(step(model, images, targets)["loss"])


def test_data_of_more_classes_than_the_configuration_are_refused():
    class Data:
        num_classes = 3

    with pytest.raises(ValueError, match="data have 3 classes, the configuration 2"):
        tiny().fit(Data())
