"""Loads the weights of matterport's Mask R-CNN, for Keras 2."""

import os

import h5py
import numpy as np
from keras import ops

from seglib.models.backbones import MEAN_BGR
from seglib.models.rcnn.config import MaskRCNNConfig
from seglib.models.rcnn.matterport_model import MatterportMaskRCNN

# Their settings for COCO that differ from ours.
SETTINGS = {
    "backbone": "resnet101",
    "rpn_filters": 512,
    "pre_nms_top_k_train": 6000,
    "pre_nms_top_k_predict": 6000,
    "rois_per_image": 200,
    "roi_positive_share": 0.33,
    "detection_min_score": 0.7,
    "detection_nms_iou": 0.3,
    "learning_rate": 0.001,
    "gradient_clip": 5.0,
}
# Width / height, where ours is height / width, in their order.
RATIOS = (0.5, 1.0, 2.0)
MEAN_RGB = (123.7, 116.8, 103.9)
# What they add to each variance before the root.
EPSILON = 1e-3
# One of the layers that only such a file has.
MARK = "mrcnn_class_logits"
HEADS = (MARK, "mrcnn_bbox_fc", "mrcnn_mask")


def matterport(path, *, heads=True, **settings):
    """Builds a `MatterportMaskRCNN` with the weights of a file.

    Args:
        path, heads: as in `load_matterport`, as are the errors.
        settings: fields of `MaskRCNNConfig` that differ from theirs for COCO, such as `num_classes`
            and `backbone`.
    """
    weights = read(path)
    # The path stands for "not random": the backbone and its statistics stay as they are.
    config = MaskRCNNConfig(**SETTINGS | settings | {"weights": os.fspath(path)})
    model = MatterportMaskRCNN(config, load_backbone=False)
    assign(model, weights, path, heads)
    return model


def load_matterport(model, path, *, heads=True):
    """Loads weights that matterport's Mask R-CNN saved; a failed load leaves the model unchanged.

    The numbers are converted so that the network stays the same function:

    - Their pictures are RGB less a mean color, ours BGR less almost the same: the first kernel is
      reversed, and its bias takes the difference.
    - Their BatchNorm adds 1e-3 to each variance, ours 1.001e-5: the variances make up for it. That
      of the heads, which ours lack, goes into the kernel and bias before it.
    - Their region proposal network has two logits per anchor, background and object: ours is the
      difference. Its anchors are ordered by width / height instead of height / width.
    - Their class 0 is the background, ours the last. Ours refines and outlines no background.

    This was not tested with the published file `mask_rcnn_coco.h5`. The tests write a file of
    random numbers with the layer names and layouts of matterport's source and evaluate that network
    in plain TensorFlow: features, proposals, classes, boxes and masks are the same here.

    Args:
        model: `MatterportMaskRCNN`. Its heads for mask scores and label maps stay as they are.
        path: of the file.
        heads: `False` leaves the last layers, which depend on the classes, as they are.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for a file of another network or of other sizes, or a plain `MaskRCNN`.

    Reference:
        Abdulla: Mask R-CNN for object detection and instance segmentation on Keras and TensorFlow,
        2017, https://github.com/matterport/Mask_RCNN.
    """
    if not isinstance(model, MatterportMaskRCNN):
        raise ValueError(
            f"The model is a {type(model).__name__}, expected a MatterportMaskRCNN: these weights "
            "are of use only where features are read as they learned it. "
            "mask_rcnn(weights=path) builds one."
        )
    assign(model, read(path), path, heads)


def is_matterport(path):
    """Tells whether a file has weights of matterport's Mask R-CNN."""
    path = os.fspath(path)
    if not (os.path.isfile(path) and h5py.is_hdf5(path)):
        return False
    with h5py.File(path) as file:
        return MARK in file.get("model_weights", file)


def read(path):
    """Returns the arrays of a weights file of Keras 2, `{layer: {"kernel": array, …}}`."""
    if not os.path.exists(path):
        raise FileNotFoundError(f"There is no weights file {os.fspath(path)!r}.")
    if not is_matterport(path):
        raise ValueError(
            f"{os.fspath(path)!r} has no layer {MARK!r}, expected the weights that matterport's "
            "Mask R-CNN saves, such as mask_rcnn_coco.h5."
        )
    found = {}

    def collect(name, item):
        # …/layer/kernel:0; the names before are those of models around the layer
        parts = name.split("/")
        if isinstance(item, h5py.Dataset) and len(parts) > 1:
            found.setdefault(parts[-2], {})[parts[-1].split(":")[0]] = item[()]

    with h5py.File(path) as file:
        file.get("model_weights", file).visititems(collect)
    return found


def assign(model, weights, path, heads):
    """Puts converted weights into a model if all of them fit."""
    parts = [backbone, pyramid, region_proposals, hidden_layers, *([last_layers] if heads else [])]
    try:
        found = [change for part in parts for change in part(model, weights)]
    except KeyError as error:
        raise ValueError(
            f"{os.fspath(path)!r} has no layer {error}, expected it in a Mask R-CNN with the "
            f"backbone {model.config.backbone!r}. Pass the other one, 'resnet50' or 'resnet101'?"
        ) from error
    for layer, variable, value in found:
        if tuple(variable.shape) != value.shape:
            hint = " Pass heads=False for other classes." if layer in HEADS else ""
            raise ValueError(
                f"Layer {layer!r} in {os.fspath(path)!r} gives weights of shape {value.shape}, "
                f"expected {tuple(variable.shape)}.{hint}"
            )
    for _, variable, value in found:
        variable.assign(ops.cast(value, variable.dtype))


# The parts of the network: each function yields its changes, (layer in the file, variable, value).


def backbone(model, weights):
    layer = model.backbone.get_layer
    numbers = {2: 3, 3: 4, 4: {"resnet50": 6, "resnet101": 23}[model.config.backbone], 5: 3}
    for stage, n in ((stage, n) for stage, number in numbers.items() for n in range(number)):
        branches = {"2a": 1, "2b": 2, "2c": 3} | ({"1": 0} if n == 0 else {})  # "1": shortcut
        for branch, k in branches.items():
            theirs = f"{stage}{chr(ord('a') + n)}_branch{branch}"
            ours = f"conv{stage}_block{n + 1}_{k}"
            yield from changes(f"res{theirs}", layer(f"{ours}_conv"), weights[f"res{theirs}"])
            yield from statistics(f"bn{theirs}", layer(f"{ours}_bn"), weights)
    first = weights["conv1"]
    lighter = np.subtract(MEAN_BGR[::-1], MEAN_RGB)
    bias = first["bias"] + np.einsum("hwcf,c->f", first["kernel"], lighter)
    values = {"kernel": first["kernel"][:, :, ::-1], "bias": bias}
    yield from changes("conv1", layer("conv1_conv"), values)
    yield from statistics("bn_conv1", layer("conv1_bn"), weights)


def pyramid(model, weights):
    for n in range(2, 6):
        names = {f"fpn_c{n}p{n}": f"fpn_lateral_P{n}", f"fpn_p{n}": f"fpn_smooth_P{n}"}
        for name, ours in names.items():
            yield from changes(name, model.fpn.get_layer(ours), weights[name])


def region_proposals(model, weights):
    name = "rpn_conv_shared"
    yield from changes(name, model.rpn.get_layer("rpn_shared"), weights[name])
    order = [RATIOS.index(1 / ratio) for ratio in model.config.anchor_ratios]
    for name, ours, numbers in (
        ("rpn_class_raw", "rpn_objectness", 2),
        ("rpn_bbox_pred", "rpn_deltas", 4),
    ):
        values = {}
        for kind, value in weights[name].items():  # (…, anchors * numbers)
            value = value.reshape(*value.shape[:-1], -1, numbers)[..., order, :]
            if numbers == 2:
                value = value[..., 1:] - value[..., :1]  # object less background
            values[kind] = value.reshape(*value.shape[:-2], -1)
        yield from changes(name, model.rpn.get_layer(ours), values)


def hidden_layers(model, weights):
    for head, theirs, ours, number in (
        (model.box_head, "class", "box_head_hidden", len(model.config.box_head_widths)),
        (model.mask_head, "mask", "mask_head_conv", len(model.config.mask_head_filters)),
    ):
        for n in range(number):
            name = f"mrcnn_{theirs}_conv{n + 1}"
            values = folded(weights[name], weights[f"mrcnn_{theirs}_bn{n + 1}"])
            if theirs == "class":  # a convolution as large as its map is a dense layer
                values["kernel"] = values["kernel"].reshape(-1, values["kernel"].shape[-1])
            yield from changes(name, head.get_layer(f"{ours}_{n}"), values)
    name = "mrcnn_mask_deconv"
    yield from changes(name, model.mask_head.get_layer("mask_head_enlarge"), weights[name])


def last_layers(model, weights):
    """The layers that depend on the classes."""
    for name, head, ours, convert in (
        (HEADS[0], model.box_head, "box_head_classify", lambda x: np.roll(x, -1, axis=-1)),
        (HEADS[1], model.box_head, "box_head_refine", lambda x: x[..., 4:]),
        (HEADS[2], model.mask_head, "mask_head_classify", lambda x: x[..., 1:]),
    ):
        values = {kind: convert(value) for kind, value in weights[name].items()}
        yield from changes(name, head.get_layer(ours), values)


def changes(name, layer, values):
    """Returns the changes of one layer; `values` are named as its variables."""
    return [(name, getattr(layer, kind), value) for kind, value in values.items()]


def statistics(name, layer, weights):
    """Returns the four changes of a BatchNorm layer."""
    variance = weights[name]["moving_variance"] + (EPSILON - layer.epsilon)
    return changes(name, layer, weights[name] | {"moving_variance": variance})


def folded(conv, norm):
    """Returns kernel and bias of a convolution that also does what its BatchNorm did."""
    factor = norm["gamma"] / np.sqrt(norm["moving_variance"] + EPSILON)
    return {
        "kernel": conv["kernel"] * factor,
        "bias": (conv["bias"] - norm["moving_mean"]) * factor + norm["beta"],
    }
