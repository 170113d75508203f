"""Weights of matterport's Mask R-CNN: the same numbers as that network gives; on any backend.

The file here has random numbers in the layout of matterport's source. That network is evaluated in
plain TensorFlow, as the source defines it: boxes as shares of the picture, `crop_and_resize`, and
so on. Its stages and ours get the same input, one by one.
"""

import types

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from seglib.models.rcnn import (
    COCO_CLASSES,
    MaskRCNN,
    MaskRCNNConfig,
    MatterportMaskRCNN,
    load_matterport,
    mask_rcnn,
)
from seglib.models.rcnn.matterport import region_proposals
from seglib.models.rcnn.rpn import rpn

SIDE, CLASSES, SCALES = 64, 3, (8, 16, 24, 32, 48)
CANONICAL = 16  # theirs is 224; so small that several levels are read
BLOCKS = {2: 3, 3: 4, 4: 6, 5: 3}  # ResNet-50
STRIDES = (4, 8, 16, 32, 64)
SMALL = {  # narrow, since the layout does not depend on it
    "backbone": "resnet50",
    "image_size": SIDE,
    "anchor_sizes": SCALES,
    "fpn_filters": 8,
    "rpn_filters": 12,
    "box_head_widths": (10, 9),
    "mask_head_filters": (6,) * 4,
    "post_nms_top_k_predict": 30,
    "detection_min_score": 0.5,
    "canonical_size": CANONICAL,
}
to_numpy = keras.ops.convert_to_numpy


# --- the file -------------------------------------------------------------------------------------


def conv(rng, size, inputs, outputs, gain=2.0):
    kernel = rng.normal(size=(size, size, inputs, outputs)) * np.sqrt(gain / (size**2 * inputs))
    return {"kernel": kernel, "bias": rng.normal(size=outputs) * 0.1}


def norm(rng, size, gain=1.0):
    return {
        "gamma": rng.uniform(0.5, 1.5, size) * gain,
        "beta": rng.normal(size=size) * 0.1,
        "moving_mean": rng.normal(size=size) * 0.1,
        "moving_variance": rng.uniform(0.3, 1, size),  # small enough that 1e-3 more is noticed
    }


def draw_weights(seed=0):
    """Random weights, `{layer: {kind: array}}`, named as in matterport's source."""
    rng = np.random.default_rng(seed)
    found = {"conv1": conv(rng, 7, 3, 64, gain=1e-3), "bn_conv1": norm(rng, 64)}
    inputs = 64
    for stage, number in BLOCKS.items():
        width = 32 * 2 ** (stage - 1)
        for n in range(number):
            name = f"{stage}{'abcdef'[n]}_branch"
            for branch, size, a, b in (
                ("2a", 1, inputs, width),
                ("2b", 3, width, width),
                ("2c", 1, width, 4 * width),
                ("1", 1, inputs, 4 * width),
            ):
                if branch != "1" or n == 0:
                    found[f"res{name}{branch}"] = conv(rng, size, a, b, gain=1.0)
                    found[f"bn{name}{branch}"] = norm(rng, b, 0.3 if branch == "2c" else 0.8)
            inputs = 4 * width
    for n, channels in zip(range(2, 6), (256, 512, 1024, 2048), strict=True):
        found[f"fpn_c{n}p{n}"] = conv(rng, 1, channels, 8, gain=0.3)
        found[f"fpn_p{n}"] = conv(rng, 3, 8, 8, gain=1.0)
    found["rpn_conv_shared"] = conv(rng, 3, 8, 12)
    found["rpn_class_raw"] = conv(rng, 1, 12, 2 * 3)
    found["rpn_bbox_pred"] = conv(rng, 1, 12, 4 * 3, gain=0.1)
    for k, (size, a, b) in enumerate(((7, 8, 10), (1, 10, 9)), start=1):
        found[f"mrcnn_class_conv{k}"] = conv(rng, size, a, b)
        found[f"mrcnn_class_bn{k}"] = norm(rng, b)
    for name, outputs in (("mrcnn_class_logits", CLASSES + 1), ("mrcnn_bbox_fc", 16)):
        kernel = 2 * rng.normal(size=(9, outputs))
        found[name] = {"kernel": kernel, "bias": rng.normal(size=outputs)}
    for k in range(1, 5):
        found[f"mrcnn_mask_conv{k}"] = conv(rng, 3, 8 if k == 1 else 6, 6)
        found[f"mrcnn_mask_bn{k}"] = norm(rng, 6)
    found["mrcnn_mask_deconv"] = conv(rng, 2, 6, 6)
    found["mrcnn_mask"] = conv(rng, 1, 6, CLASSES + 1, gain=8.0)
    return {
        layer: {kind: value.astype("float32") for kind, value in values.items()}
        for layer, values in found.items()
    }


def write(path, weights, root=""):
    """Writes a file as Keras 2 did: a group a layer of the outer model, `rpn_model` being one."""
    with h5py.File(path, "w") as file:
        top = file.create_group(root) if root else file
        top.create_group("roi_align_mask").attrs["weight_names"] = []  # a layer without any
        for layer, values in weights.items():
            group = top.require_group("rpn_model" if layer.startswith("rpn_") else layer)
            for kind, value in values.items():
                group[f"{layer}/{kind}:0"] = value
        for group in top.values():
            names = []
            group.visititems(lambda n, x, s=names: s.append(n) if hasattr(x, "shape") else None)
            group.attrs["weight_names"] = [n.encode() for n in names]
        top.attrs["layer_names"] = [n.encode() for n in top]
    return path


@pytest.fixture(scope="module")
def weights():
    return draw_weights()


@pytest.fixture(scope="module")
def path(weights, tmp_path_factory):
    return write(tmp_path_factory.mktemp("matterport") / "random.h5", weights)


@pytest.fixture(scope="module")
def model(path):
    model = mask_rcnn(class_names=("a", "b", "c"), weights=path, **SMALL)
    model.run_eagerly = True  # to compile it takes longer
    return model


@pytest.fixture(scope="module")
def images():
    # a coarse pattern: on noise all cells would say about the same
    rng = np.random.default_rng(1)
    coarse = rng.uniform(0, 255, (2, 8, 8, 3)).astype("float32")
    return tf.image.resize(coarse, (SIDE, SIDE)).numpy()


# --- their network --------------------------------------------------------------------------------


class Theirs:
    """matterport's network in TensorFlow, as its source defines it, for pictures of one size."""

    def __init__(self, weights):
        self.weights = weights

    def conv(self, x, name, stride=1, padding="SAME"):
        values = self.weights[name]
        return tf.nn.conv2d(x, values["kernel"], stride, padding) + values["bias"]

    def norm(self, x, name):
        v = self.weights[name]
        scale = v["gamma"] / np.sqrt(v["moving_variance"] + np.float32(1e-3))
        return (x - v["moving_mean"]) * scale + v["beta"]

    def block(self, x, name, first, stride):
        y = tf.nn.relu(self.norm(self.conv(x, f"res{name}2a", stride), f"bn{name}2a"))
        y = tf.nn.relu(self.norm(self.conv(y, f"res{name}2b"), f"bn{name}2b"))
        y = self.norm(self.conv(y, f"res{name}2c"), f"bn{name}2c")
        if first:
            x = self.norm(self.conv(x, f"res{name}1", stride), f"bn{name}1")
        return tf.nn.relu(x + y)

    def features(self, images):
        x = tf.constant(images) - np.float32([123.7, 116.8, 103.9])
        x = tf.pad(x, [(0, 0), (3, 3), (3, 3), (0, 0)])
        x = tf.nn.relu(self.norm(self.conv(x, "conv1", 2, "VALID"), "bn_conv1"))
        x = tf.nn.max_pool2d(x, 3, 2, "SAME")
        stages = {}
        for stage, number in BLOCKS.items():
            for n in range(number):
                stride = 2 if n == 0 and stage > 2 else 1
                x = self.block(x, f"{stage}{'abcdef'[n]}_branch", n == 0, stride)
            stages[stage] = x
        levels, above = {}, None
        for n in (5, 4, 3, 2):
            side = self.conv(stages[n], f"fpn_c{n}p{n}")
            if above is not None:
                side += tf.repeat(tf.repeat(above, 2, axis=1), 2, axis=2)
            above = side
            levels[f"P{n}"] = self.conv(side, f"fpn_p{n}")
        levels["P6"] = levels["P5"][:, ::2, ::2]
        return dict(sorted(levels.items()))

    def rpn(self, levels):
        """Probabilities of an object `[B, A]` and refinements `[B, A, 4]`."""
        scores, deltas = [], []
        for x in levels.values():
            x = tf.nn.relu(self.conv(x, "rpn_conv_shared"))
            two = tf.reshape(self.conv(x, "rpn_class_raw"), (len(x), -1, 2))
            scores.append(tf.nn.softmax(two)[..., 1])
            deltas.append(tf.reshape(self.conv(x, "rpn_bbox_pred"), (len(x), -1, 4)))
        return tf.concat(scores, axis=1).numpy(), tf.concat(deltas, axis=1).numpy()

    def crop(self, levels, boxes, size):
        """Features `[R, size, size, F]` in boxes `[R, 4]` of the first picture, as shares of it."""
        found = []
        for box in boxes:
            root = np.sqrt((box[2] - box[0]) * (box[3] - box[1]))
            level = 4 + np.round(np.log2(max(root, 1e-9) / (CANONICAL / SIDE)))
            x = levels[f"P{int(np.clip(level, 2, 5))}"][:1]
            found.append(tf.image.crop_and_resize(x, box[None], [0], (size, size)))
        return tf.concat(found, axis=0)

    def classify(self, levels, boxes):
        """Probabilities `[R, C + 1]`, background first, and refinements `[R, C + 1, 4]`."""
        x = self.crop(levels, boxes, 7)
        x = tf.nn.relu(self.norm(self.conv(x, "mrcnn_class_conv1", 1, "VALID"), "mrcnn_class_bn1"))
        x = tf.nn.relu(self.norm(self.conv(x, "mrcnn_class_conv2"), "mrcnn_class_bn2"))[:, 0, 0]
        classes, refine = self.weights["mrcnn_class_logits"], self.weights["mrcnn_bbox_fc"]
        probabilities = tf.nn.softmax(x @ classes["kernel"] + classes["bias"])
        deltas = tf.reshape(x @ refine["kernel"] + refine["bias"], (len(x), -1, 4))
        return probabilities.numpy(), deltas.numpy()

    def masks(self, levels, boxes):
        """Probabilities `[R, 28, 28, C + 1]`."""
        x = self.crop(levels, boxes, 14)
        for k in range(1, 5):
            x = self.norm(self.conv(x, f"mrcnn_mask_conv{k}"), f"mrcnn_mask_bn{k}")
            x = tf.nn.relu(x)
        values = self.weights["mrcnn_mask_deconv"]
        shape = (len(x), 28, 28, 6)
        x = tf.nn.conv2d_transpose(x, values["kernel"], shape, 2) + values["bias"]
        return tf.sigmoid(self.conv(tf.nn.relu(x), "mrcnn_mask")).numpy()


def to_shares(boxes):
    """Pixel edges to shares of the picture, whose last pixel is at 1."""
    return (boxes - np.float32([0, 0, 1, 1])) / (SIDE - 1)


def to_edges(boxes):
    return boxes * (SIDE - 1) + np.float32([0, 0, 1, 1])


def their_anchors():
    """Around every corner of a cell three shapes, width / height being 0.5, 1 and 2."""
    found = []
    for scale, stride in zip(SCALES, STRIDES, strict=True):
        for y in range(0, SIDE, stride):
            for x in range(0, SIDE, stride):
                for ratio in (0.5, 1, 2):
                    h, w = scale / np.sqrt(ratio), scale * np.sqrt(ratio)
                    found.append((y - h / 2, x - w / 2, y + h / 2, x + w / 2))
    return np.float32(found)


def refine(boxes, deltas):
    """Applies refinements to boxes, in whatever unit."""
    deltas = deltas * np.float32([0.1, 0.1, 0.2, 0.2])
    height, width = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    y = boxes[:, 0] + height / 2 + deltas[:, 0] * height
    x = boxes[:, 1] + width / 2 + deltas[:, 1] * width
    height, width = height * np.exp(deltas[:, 2]), width * np.exp(deltas[:, 3])
    found = np.stack([y - height / 2, x - width / 2, y + height / 2, x + width / 2], axis=1)
    return np.clip(found, 0, 1)


def their_proposals(scores, deltas):
    boxes = refine(to_shares(their_anchors()), deltas)
    kept = tf.image.non_max_suppression(boxes, scores, SMALL["post_nms_top_k_predict"], 0.7)
    return boxes[kept.numpy()]


@pytest.fixture(scope="module")
def theirs(weights):
    return Theirs(weights)


@pytest.fixture(scope="module")
def levels(theirs, images):
    return theirs.features(images)


@pytest.fixture(scope="module")
def regions():
    """Boxes `[30, 4]` of all sizes, as shares of the picture."""
    rng = np.random.default_rng(2)
    center, side = rng.random((30, 2)), np.exp(rng.uniform(np.log(0.05), 0, (30, 2)))
    boxes = np.concatenate([center - side / 2, center + side / 2], axis=1)
    return np.clip(boxes, 0, 1).astype("float32")


def as_ours(levels):
    return {name: keras.ops.convert_to_tensor(x[:1].numpy()) for name, x in levels.items()}


def close(found, expected, tolerance=1e-4):
    """Asserts that values differ by little, compared with how much they vary."""
    found = to_numpy(found)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=tolerance * np.std(expected), rtol=0)


# --- stage by stage -------------------------------------------------------------------------------


def test_features(model, images, levels):
    found = model.features(images)
    assert list(found) == ["P2", "P3", "P4", "P5", "P6"]
    for name, level in found.items():
        # The mean colors differ by 0.02, which at the picture's edges cannot be made up for.
        close(level, levels[name].numpy(), tolerance=2e-3)


def in_our_order(values):
    """From anchors whose width / height rises to those whose height / width does."""
    shape = values.shape
    return values.reshape(shape[0], -1, 3, *shape[2:])[:, :, ::-1].reshape(shape)


def test_anchors(model):
    expected = in_our_order(their_anchors()[None])[0]
    np.testing.assert_allclose(np.concatenate(model.anchors) + [0, 0, 1, 1], expected, atol=1e-4)


def test_region_proposal_network(model, theirs, levels):
    scores, deltas = theirs.rpn(levels)
    assert scores.std() > 0.1
    objectness, moves = model.rpn({n: keras.ops.convert_to_tensor(x) for n, x in levels.items()})
    close(keras.ops.sigmoid(objectness), in_our_order(scores))
    close(moves, in_our_order(deltas))


def test_proposals(model, theirs, levels):
    scores, deltas = theirs.rpn(levels)
    proposals = their_proposals(scores[0], deltas[0])
    scores, deltas = in_our_order(scores), in_our_order(deltas)
    logits = np.log(scores / (1 - scores))
    boxes, _ = model.propose(*(keras.ops.convert_to_tensor(x[:1]) for x in (logits, deltas)))
    # inside of the model, a box goes from center to center of its pixels
    np.testing.assert_allclose(to_numpy(boxes)[0] / (SIDE - 1), proposals, atol=1e-5)
    assert len(np.unique(proposals.round(3), axis=0)) == len(proposals)


@pytest.mark.parametrize("ratios", [(1.0, 2.0, 0.5), (2.0, 0.5, 1.0)])
def test_anchors_may_stand_in_any_order(theirs, levels, weights, ratios):
    maps = {name: keras.KerasTensor((None, *x.shape[1:])) for name, x in levels.items()}
    network = rpn(maps, 3, filters=12)
    parts = types.SimpleNamespace(config=MaskRCNNConfig(anchor_ratios=ratios), rpn=network)
    for _, variable, value in region_proposals(parts, weights):
        variable.assign(value)
    found, _ = network({n: keras.ops.convert_to_tensor(x) for n, x in levels.items()})
    scores = theirs.rpn(levels)[0].reshape(2, -1, 3)
    order = [(0.5, 1.0, 2.0).index(1 / ratio) for ratio in ratios]
    close(keras.ops.sigmoid(found), scores[..., order].reshape(2, -1))


def test_classes_and_boxes(model, theirs, levels, regions):
    probabilities, deltas = theirs.classify(levels, regions)
    inside = regions[None] * (SIDE - 1)
    assert len(np.unique(to_numpy(model.level_of(inside)))) == 4
    logits, moves = model.classify(as_ours(levels), inside)
    close(keras.ops.softmax(logits)[0], np.roll(probabilities, -1, axis=1))
    close(moves[0], deltas[:, 1:])


def test_masks(model, theirs, levels, regions):
    masks = theirs.masks(levels, regions)
    assert masks.std() > 0.1
    found = model.segment(as_ours(levels), regions[None] * (SIDE - 1))
    close(keras.ops.sigmoid(found)[0], masks[..., 1:])


def test_detections(model, theirs, levels, regions):
    probabilities, deltas = theirs.classify(levels, regions)
    best = probabilities.argmax(axis=1)
    score = probabilities.max(axis=1)
    boxes = refine(regions, deltas[np.arange(len(best)), best])
    kept = []
    for c in range(1, CLASSES + 1):
        of_class = np.flatnonzero((best == c) & (score > SMALL["detection_min_score"]))
        if len(of_class):
            chosen = tf.image.non_max_suppression(boxes[of_class], score[of_class], 100, 0.3)
            kept += of_class[chosen.numpy()].tolist()
    kept.sort(key=lambda k: -score[k])
    assert len(kept) > 3 and len(set(best[kept])) > 1
    found = {
        name: to_numpy(x)[0]
        for name, x in model.find(as_ours(levels), regions[None] * (SIDE - 1)).items()
    }
    assert (found["classes"] >= 0).sum() == len(kept)
    real = slice(len(kept))
    np.testing.assert_array_equal(found["classes"][real], best[kept] - 1)
    np.testing.assert_allclose(found["scores"][real], score[kept], atol=1e-4)
    np.testing.assert_allclose(found["boxes"][real], to_edges(boxes[kept]), atol=1e-2)
    masks = theirs.masks(levels, boxes[kept])[np.arange(len(kept)), ..., best[kept]]
    np.testing.assert_allclose(found["masks"][real], masks, atol=1e-3)


# --- use ------------------------------------------------------------------------------------------


def test_the_whole_model_detects_pictures_of_any_size(model):
    [found] = model.detect([np.zeros((30, 50, 3), "uint8")])
    assert found["masks"].shape[1:] == (30, 50)
    assert (found["boxes"] >= 0).all() and (found["boxes"] <= [30, 50, 30, 50]).all()


def test_beside_a_picture_is_black(model, monkeypatch):
    # Their resize_image pads with 0, before mold_image subtracts the mean color.
    seen = []
    nothing = {"boxes": np.zeros((1, 1, 4)), "classes": np.full((1, 1), -1)}
    nothing |= {"scores": np.zeros((1, 1)), "masks": np.zeros((1, 1, 28, 28))}
    monkeypatch.setattr(model, "predict_on_batch", lambda batch: seen.append(batch) or nothing)
    model.detect([np.full((SIDE // 2, SIDE, 3), 200, "uint8")])
    [[picture]] = seen
    assert (picture[: SIDE // 2] == 200).all() and (picture[SIDE // 2 :] == 0).all()


def test_backbone_and_its_statistics_are_kept(model):
    assert model.backbone.trainable is False and not model.train_statistics


def test_a_model_comes_back_from_its_config(model):
    again = MatterportMaskRCNN.from_config(model.get_config())
    assert again.config == model.config
    assert again.backbone.get_layer("pool1_pad").padding == ((0, 1), (0, 1))
    np.testing.assert_array_equal(np.concatenate(again.anchors), np.concatenate(model.anchors))


def test_training_data_is_in_edges(model, monkeypatch):
    # an object where an anchor stands is seen exactly there
    anchor = np.concatenate(model.anchors)[40]
    seen = {}
    monkeypatch.setattr(MaskRCNN, "compute_loss", lambda self, x, y, *rest: seen.update(y))
    boxes = np.float32([[anchor + [0, 0, 1, 1], np.zeros(4)]])
    model.compute_loss(None, {"boxes": boxes, "classes": np.int32([[0, -1]])})
    np.testing.assert_allclose(to_numpy(seen["boxes"]), [[anchor, np.zeros(4)]], atol=1e-5)


def test_weights_within_a_saved_model_and_other_classes(model, weights, tmp_path):
    # Keras 2 put them into a group `model_weights` when it saved a whole model.
    other = {name: dict(values) for name, values in weights.items()}
    other["mrcnn_class_logits"]["kernel"] = np.zeros((9, 6), "float32")
    other["fpn_p2"]["bias"] = weights["fpn_p2"]["bias"] + 1
    path = write(tmp_path / "model.h5", other, root="model_weights")
    before = [to_numpy(v) for v in model.variables]
    with pytest.raises(ValueError, match=r"'mrcnn_class_logits'.*\(9, 6\).*heads=False"):
        load_matterport(model, path)
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(to_numpy(variable), value)
    load_matterport(model, path, heads=False)
    bias = to_numpy(model.fpn.get_layer("fpn_smooth_P2").bias)
    np.testing.assert_array_equal(bias, other["fpn_p2"]["bias"])
    for variable, value in zip(model.variables, before, strict=True):
        variable.assign(value)


def test_files_that_do_not_fit(model, weights, path, tmp_path):
    with pytest.raises(FileNotFoundError, match="no weights file"):
        load_matterport(model, tmp_path / "nothing.h5")
    (tmp_path / "text.h5").write_text("no weights")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["conv1/conv1/kernel:0"] = np.zeros(3)
    for name in ("text.h5", "other.h5"):
        with pytest.raises(ValueError, match="expected the weights that matterport's"):
            load_matterport(model, tmp_path / name)
    with pytest.raises(ValueError, match="a Functional, expected a MatterportMaskRCNN"):
        load_matterport(model.rpn, path)
    few = {name: x for name, x in weights.items() if name != "res4f_branch2a"}
    with pytest.raises(ValueError, match="no layer 'res4f_branch2a'.*'resnet50' or 'resnet101'"):
        load_matterport(model, write(tmp_path / "few.h5", few))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backbone": "mobilenet_v2"}, "'mobilenet_v2', expected 'resnet50' or 'resnet101'"),
        ({"backbone": "resnet50", "anchor_ratios": (1, 2, 3)}, "expected 0.5, 1 and 2"),
    ],
)
def test_settings_that_theirs_never_had(settings, message):
    with pytest.raises(ValueError, match=message):
        MatterportMaskRCNN(MaskRCNNConfig(weights=None, **settings))


def test_names_of_coco():
    # category ids 17 and 18 of the files; 12, the street sign, is not used, nor are nine more
    assert len(set(COCO_CLASSES)) == len(COCO_CLASSES) == 80
    assert COCO_CLASSES[0] == "person" and COCO_CLASSES[-1] == "toothbrush"
    assert COCO_CLASSES[15:17] == ("cat", "dog")
