"""Loads the weights of matterport's Mask R-CNN, for Keras 2."""

import os

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
    """Builds a model that computes what matterport's Mask R-CNN does, with the weights of a file.

    Args:
        path: of the file, such as `mask_rcnn_coco.h5` of their releases.
        heads: see `load_matterport`.
        settings: fields of `MaskRCNNConfig` that differ from theirs for COCO, such as `num_classes`
            and `backbone`.

    Returns:
        `MatterportMaskRCNN`.

    Raises:
        FileNotFoundError, ValueError: as `load_matterport` does.

    Example:
        >>> model = matterport("mask_rcnn_coco.h5", num_classes=80, class_names=COCO_CLASSES)
        >>> found = model.detect(image)
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

    `MatterportMaskRCNN` places boxes and reads features as theirs does.

    This was not tested with the published file `mask_rcnn_coco.h5`. The tests write a file of
    random numbers with the layer names and layouts of matterport's source and evaluate that network
    in plain TensorFlow: features, proposals, classes, boxes and masks are the same here. Such a
    file for ResNet-101 and 81 classes has 257.3 million bytes, the published one 257.6 (issue 653
    of matterport's repository).

    Args:
        model: `MatterportMaskRCNN`. Heads that the file lacks, for mask scores and label maps,
            stay as they are.
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
    import h5py

    path = os.fspath(path)
    if not (os.path.isfile(path) and h5py.is_hdf5(path)):
        return False
    with h5py.File(path) as file:
        return MARK in file.get("model_weights", file)


def read(path):
    """Returns the arrays of a weights file of Keras 2, `{layer: {"kernel": array, …}}`."""
    import h5py

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
    try:
        changes = backbone(model, weights) + pyramid(model, weights)
        changes += region_proposals(model, weights)
        changes += hidden_layers(model, weights)
        if heads:
            changes += last_layers(model, weights)
    except KeyError as error:
        raise ValueError(
            f"{os.fspath(path)!r} has no layer {error}, expected it in a Mask R-CNN with the "
            f"backbone {model.config.backbone!r}. Pass the other one, 'resnet50' or 'resnet101'?"
        ) from error
    for layer, variable, value in changes:
        if tuple(variable.shape) != value.shape:
            hint = " Pass heads=False for other classes." if layer in HEADS else ""
            raise ValueError(
                f"Layer {layer!r} in {os.fspath(path)!r} gives weights of shape {value.shape}, "
                f"expected {tuple(variable.shape)}.{hint}"
            )
    for _, variable, value in changes:
        variable.assign(ops.cast(value, variable.dtype))


def backbone(model, weights):
    """Returns the changes of the ResNet, a list of (layer in the file, variable, value)."""
    changes = []
    numbers = {2: 3, 3: 4, 4: {"resnet50": 6, "resnet101": 23}[model.config.backbone], 5: 3}
    for stage, n in ((stage, n) for stage, number in numbers.items() for n in range(number)):
        branches = {"2a": 1, "2b": 2, "2c": 3} | ({"1": 0} if n == 0 else {})  # "1": shortcut
        for branch, k in branches.items():
            theirs = f"{stage}{chr(ord('a') + n)}_branch{branch}"
            ours = f"conv{stage}_block{n + 1}_{k}"
            conv, norm = (model.backbone.get_layer(f"{ours}_{kind}") for kind in ("conv", "bn"))
            changes += kernel_and_bias(f"res{theirs}", conv, weights[f"res{theirs}"])
            changes += statistics(f"bn{theirs}", norm, weights)
    first = weights["conv1"]
    lighter = np.subtract(MEAN_BGR[::-1], MEAN_RGB)
    bias = first["bias"] + np.einsum("hwcf,c->f", first["kernel"], lighter)
    values = {"kernel": first["kernel"][:, :, ::-1], "bias": bias}
    changes += kernel_and_bias("conv1", model.backbone.get_layer("conv1_conv"), values)
    return changes + statistics("bn_conv1", model.backbone.get_layer("conv1_bn"), weights)


def pyramid(model, weights):
    """Returns the changes of the feature pyramid."""
    changes = []
    for n in range(2, 6):
        names = {f"fpn_c{n}p{n}": f"fpn_lateral_P{n}", f"fpn_p{n}": f"fpn_smooth_P{n}"}
        for name, ours in names.items():
            changes += kernel_and_bias(name, model.fpn.get_layer(ours), weights[name])
    return changes


def region_proposals(model, weights):
    """Returns the changes of the region proposal network."""
    name = "rpn_conv_shared"
    changes = kernel_and_bias(name, model.rpn.get_layer("rpn_shared"), weights[name])
    order = [RATIOS.index(1 / ratio) for ratio in model.config.anchor_ratios]
    for name, layer, numbers in (
        ("rpn_class_raw", model.rpn.get_layer("rpn_objectness"), 2),
        ("rpn_bbox_pred", model.rpn.get_layer("rpn_deltas"), 4),
    ):
        values = {}
        for kind, value in weights[name].items():  # (…, anchors * numbers)
            value = value.reshape(*value.shape[:-1], -1, numbers)[..., order, :]
            if numbers == 2:
                value = value[..., 1:] - value[..., :1]  # object less background
            values[kind] = value.reshape(*value.shape[:-2], -1)
        changes += kernel_and_bias(name, layer, values)
    return changes


def hidden_layers(model, weights):
    """Returns the changes of the box and mask heads but for their last layers."""
    changes = []
    for head, theirs, layer, number in (
        (model.box_head, "class", "box_head_hidden", len(model.config.box_head_widths)),
        (model.mask_head, "mask", "mask_head_conv", len(model.config.mask_head_filters)),
    ):
        for n in range(number):
            name = f"mrcnn_{theirs}_conv{n + 1}"
            values = folded(weights[name], weights[f"mrcnn_{theirs}_bn{n + 1}"])
            if theirs == "class":  # a convolution as large as its map is a dense layer
                values["kernel"] = values["kernel"].reshape(-1, values["kernel"].shape[-1])
            changes += kernel_and_bias(name, head.get_layer(f"{layer}_{n}"), values)
    name, layer = "mrcnn_mask_deconv", model.mask_head.get_layer("mask_head_enlarge")
    return changes + kernel_and_bias(name, layer, weights[name])


def last_layers(model, weights):
    """Returns the changes of the layers that depend on the classes."""
    classes, refine, mask = (weights[name] for name in HEADS)
    objects_first = {kind: np.roll(value, -1, axis=-1) for kind, value in classes.items()}
    refine = {kind: value[..., 4:] for kind, value in refine.items()}
    mask = {kind: value[..., 1:] for kind, value in mask.items()}
    return [
        *kernel_and_bias(HEADS[0], model.box_head.get_layer("box_head_classify"), objects_first),
        *kernel_and_bias(HEADS[1], model.box_head.get_layer("box_head_refine"), refine),
        *kernel_and_bias(HEADS[2], model.mask_head.get_layer("mask_head_classify"), mask),
    ]


def kernel_and_bias(name, layer, values):
    """Returns the two changes of a layer."""
    return [(name, layer.kernel, values["kernel"]), (name, layer.bias, values["bias"])]


def statistics(name, layer, weights):
    """Returns the four changes of a BatchNorm layer."""
    values = weights[name]
    variance = values["moving_variance"] + (EPSILON - layer.epsilon)
    return [
        (name, layer.gamma, values["gamma"]),
        (name, layer.beta, values["beta"]),
        (name, layer.moving_mean, values["moving_mean"]),
        (name, layer.moving_variance, variance),
    ]


def folded(conv, norm):
    """Returns kernel and bias of a convolution that also does what its BatchNorm did."""
    factor = norm["gamma"] / np.sqrt(norm["moving_variance"] + EPSILON)
    return {
        "kernel": conv["kernel"] * factor,
        "bias": (conv["bias"] - norm["moving_mean"]) * factor + norm["beta"],
    }
