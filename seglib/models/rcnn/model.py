"""Mask R-CNN: finds, classifies and outlines each object."""

import dataclasses

import keras
import numpy as np
from keras import ops

from seglib.core.checks import check_object_classes
from seglib.core.constants import GRAY
from seglib.core.kernels import share_of_replica
from seglib.core.letterbox import letterbox
from seglib.core.precision import dtype_policy
from seglib.models.backbones import backbone as build_backbone
from seglib.models.backbones import freeze_statistics, unfreeze
from seglib.models.guarded import Guarded
from seglib.models.levels import level_inputs, level_strides
from seglib.models.pyramids import fpn
from seglib.models.rcnn import losses
from seglib.models.rcnn.anchors import anchors_per_level
from seglib.models.rcnn.boxes import area
from seglib.models.rcnn.config import LOSSES, MaskRCNNConfig
from seglib.models.rcnn.detection import at_full_size, select, sort
from seglib.models.rcnn.heads import box_head, mask_head, mask_score_head, semantic_head
from seglib.models.rcnn.proposals import propose
from seglib.models.rcnn.roi_align import crop_masks, roi_align
from seglib.models.rcnn.rpn import rpn
from seglib.models.rcnn.targets import anchor_targets, roi_targets, semantic_target


@keras.saving.register_keras_serializable("seglib")
class MaskRCNN(Guarded, keras.Model):
    """A Mask R-CNN that trains with plain `compile` and `fit` and detects with `detect`.

    In two stages: the region proposal network finds boxes that may hold an object; from the
    features of each box, the heads then predict its class, its exact edges and its mask. The logs
    of training hold each loss by name, and `loss`, their weighted sum.

    Args:
        config: `MaskRCNNConfig`.
        load_backbone: load the weights that `config.weights` names; `False` leaves the backbone
            random, for a model that gets all its weights from a file.

    Shape:
        Images `[B, H, W, 3]`, values 0 to 255, H and W being `config.image_size`, to a dict of
        `boxes` `[B, D, 4]`, `classes` `[B, D]`, `scores` `[B, D]` and `masks` `[B, D, m, m]`
        (probabilities), D being `max_detections`; rows without a detection have class -1. With
        mask scoring, `scores` is the product of `class_scores` and the predicted IoU of the mask;
        with a semantic head there is `semantic`, logits `[B, H/4, W/4, S]`.

        Training data: `(images, targets)`, targets a dict of `boxes` `[B, N, 4]`, `classes`
        `[B, N]` (-1 in rows without an object) and `masks` `[B, N, H, W]`.

    Example:
        >>> model = MaskRCNN(MaskRCNNConfig.small())
        >>> model.compile(model.config.make_optimizer())
        >>> model.fit(scenes.load("train"), epochs=20)
        >>> found = model.detect(image)  # boxes, classes, scores, masks

    Reference:
        He, Gkioxari, Dollár, Girshick: Mask R-CNN, ICCV 2017.
    """

    padding = GRAY  # what `detect` puts beside a picture of another shape
    anchor_offset = 0.5  # where in its cell an anchor's center is
    ranks_levels_apart = True  # whether the best anchors of each level become proposals

    def __init__(self, config, *, load_backbone=True, **kwargs):
        kwargs.setdefault("name", "mask_rcnn")
        super().__init__(**kwargs)
        self.config = config
        height, width = config.image_size
        self.backbone = build_backbone(
            config.backbone,
            weights=config.weights if load_backbone else None,
            alpha=config.alpha,
            input_shape=(height, width, 3),
        )
        # A few small batches must not replace statistics learned from a million pictures; those of
        # random weights mean nothing yet.
        self.train_statistics = config.weights is None
        frozen = config.freeze_backbone
        self.backbone.trainable = not (config.weights is not None if frozen is None else frozen)
        if not self.train_statistics:
            freeze_statistics(self.backbone)
        self.unfrozen_from = None if self.backbone.trainable is False else ""
        features = level_inputs(self.backbone.output)
        levels, _ = fpn(
            features,
            level_strides(32),
            filters=config.fpn_filters,
            min_level=int(config.levels[0][1:]),
            max_level=max(int(config.levels[-1][1:]), 5),
        )
        levels = {level: levels[level] for level in config.levels}
        self.fpn = keras.Model(features, levels, name="fpn")
        rpn_levels = {level: levels[level] for level in config.rpn_levels}
        self.rpn = rpn(rpn_levels, len(config.anchor_ratios), filters=config.rpn_filters)
        sizes = (config.box_pool_size, config.mask_pool_size)
        box, mask = ((size, size, config.fpn_filters) for size in sizes)
        widths, filters = config.box_head_widths, config.mask_head_filters
        self.box_head = box_head(box, config.num_classes, widths=widths)
        self.mask_head = mask_head(mask, config.num_classes, filters=filters)
        self.mask_score_head = self.semantic_head = None
        if config.mask_scoring:
            sizes = {"filters": filters, "widths": widths}
            self.mask_score_head = mask_score_head(mask, config.num_classes, **sizes)
        if config.semantic_classes:
            self.semantic_head = semantic_head(
                levels,
                config.semantic_classes,
                strides={level: config.strides[level] for level in config.roi_levels},
                filters=config.semantic_filters,
            )
        self.anchors = anchors_per_level(
            height,
            width,
            strides=tuple(config.strides[level] for level in config.rpn_levels),
            sizes=config.anchor_sizes,
            ratios=config.anchor_ratios,
            offset=self.anchor_offset,
        )
        self.random = keras.random.SeedGenerator(config.seed)
        self.trackers = {name: keras.metrics.Mean(name=name) for name in self.loss_names()}
        self.built = True  # all the parts are

    def loss_names(self):
        optional = {"mask_score_loss": self.mask_score_head, "semantic_loss": self.semantic_head}
        return [name for name in LOSSES if optional.get(name, True)]

    @property
    def frame(self):
        """Where the picture ends, (y, x): boxes are cut there."""
        return self.config.image_size

    def features(self, images, training=False):
        """Returns the feature pyramid of pictures `[B, H, W, 3]`, `{"P2": [B, H/4, W/4, F], …}`."""
        images = ops.cast(images, self.compute_dtype)
        return self.fpn(self.backbone(images, training=training))

    def propose(self, objectness, deltas, training=False):
        """Returns boxes `[B, P, 4]` and scores `[B, P]` from the outputs of `model.rpn`."""
        anchors = self.anchors if self.ranks_levels_apart else [np.concatenate(self.anchors)]
        return propose(objectness, deltas, anchors, self.frame, self.config, training)

    def align(self, features, boxes, size):
        """Returns the features in each box, `[B, R, size, size, F]`."""
        return roi_align(
            {level: features[level] for level in self.config.roi_levels},
            boxes,
            strides=self.config.strides,
            size=size,
            samples=self.config.pool_samples,
            canonical_size=self.config.canonical_size,
        )

    def classify(self, features, boxes):
        """Returns class logits `[B, R, C + 1]` and refinements `[B, R, C, 4]` of boxes."""
        return each_region(self.box_head, self.align(features, boxes, self.config.box_pool_size))

    def segment(self, features, boxes):
        """Returns mask logits `[B, R, m, m, C]` of boxes."""
        return each_region(self.mask_head, self.align(features, boxes, self.config.mask_pool_size))

    def find(self, features, proposals):
        """Returns the detections among proposals `[B, P, 4]`, as `model(images)` does."""
        found = select(proposals, *self.classify(features, proposals), self.config)
        regions = self.align(features, found["boxes"], self.config.mask_pool_size)
        logits = losses.of_class(each_region(self.mask_head, regions), found["classes"], axis=4)
        found["masks"] = ops.sigmoid(logits)  # (B, D, m, m)
        if self.mask_score_head is None:
            return found
        quality = each_region(self.mask_score_head, [regions, found["masks"]])
        quality = losses.of_class(quality, found["classes"], axis=2)
        found["class_scores"] = found["scores"]
        found["scores"] = found["scores"] * ops.clip(quality, 0.0, 1.0)
        return sort(found)

    def first_stage(self, images, training=False):
        """Returns a dict of `features`, `objectness` and `deltas`."""
        features = self.features(images, training=training)
        objectness, deltas = self.rpn({level: features[level] for level in self.config.rpn_levels})
        return {"features": features, "objectness": objectness, "deltas": deltas}

    def call(self, images, training=False):
        first = self.first_stage(images, training=training)
        if training:
            return first  # compute_loss chooses the heads' boxes, which takes the targets
        proposals, _ = self.propose(first["objectness"], first["deltas"])
        found = self.find(first["features"], proposals)
        if self.semantic_head:
            found["semantic"] = self.semantic_head(first["features"], training=False)
        return found

    def check_data(self, x, y):
        """Raises a ValueError if the data have classes that the configuration lacks."""
        if isinstance(y, dict) and "classes" in y:
            check_object_classes(y["classes"], self.config.num_classes)
        found = getattr(x, "num_classes", 0)  # of seglib.data.scenes.from_coco
        if found > self.config.num_classes:
            raise ValueError(
                f"The data have {found} classes, the configuration {self.config.num_classes}. "
                f"Pass num_classes={found} to MaskRCNNConfig."
            )

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Returns the weighted sum; raises for targets of other shapes, or a `sample_weight`."""
        check_targets(y, self.config)
        if sample_weight is not None:
            raise ValueError("sample_weight was given, expected none: a picture has many losses.")
        # In `evaluate`, y_pred holds detections, from which no loss can be computed.
        first = y_pred if training else self.first_stage(x)
        found = self.rpn_losses(first, y, training) | self.head_losses(first, y, training)
        batch = ops.shape(y["classes"])[0]
        for name, value in found.items():
            self.trackers[name].update_state(value, sample_weight=batch)
        # A class that the heads lack would train as background.
        known = ops.all(y["classes"] < self.config.num_classes)
        weights = self.config.loss_weights
        total = sum(weights[name] * value for name, value in found.items())
        total = ops.where(known, total, float("nan"))
        return share_of_replica(total + sum(self.losses))  # the latter from regularizers

    def rpn_losses(self, first, targets, training):
        objectness, deltas = first["objectness"], first["deltas"]
        boxes, classes = ops.cast(targets["boxes"], "float32"), targets["classes"]
        noise = self.noise(targets, objectness.shape[1], training)
        anchors = np.concatenate(self.anchors)
        chosen = anchor_targets(anchors, boxes, classes, noise, self.config)
        asked = ops.take_along_axis(objectness, chosen["indices"], axis=1)
        moves = ops.take_along_axis(deltas, chosen["indices"][..., None], axis=1)
        return {
            "rpn_class_loss": losses.rpn_class_loss(chosen["labels"], asked),
            "rpn_box_loss": losses.rpn_box_loss(chosen["labels"], chosen["deltas"], moves),
        }

    def head_losses(self, first, targets, training):
        """Returns the losses of the heads, on boxes sampled from proposals and truth."""
        features, config = first["features"], self.config
        proposals, _ = self.propose(first["objectness"], first["deltas"], training=True)
        number = proposals.shape[1] + targets["classes"].shape[1]
        noise = self.noise(targets, number, training)
        chosen = roi_targets(proposals, targets["boxes"], targets["classes"], noise, config)
        logits, deltas = self.classify(features, chosen["boxes"])
        found = {
            "class_loss": losses.class_loss(chosen["classes"], logits),
            "box_loss": losses.box_loss(chosen["classes"], chosen["deltas"], deltas),
        }
        # Objects come first; the mask head needs no others.
        objects = {name: x[:, : config.positive_rois] for name, x in chosen.items()}
        found |= self.mask_losses(features, targets, objects)
        if self.semantic_head:
            found["semantic_loss"] = self.semantic_loss(features, targets, training)
        return found

    def mask_losses(self, features, targets, objects):
        boxes, classes, config = objects["boxes"], objects["classes"], self.config
        regions = self.align(features, boxes, config.mask_pool_size)
        logits = each_region(self.mask_head, regions)  # (B, R, m, m, C)
        true = crop_masks(targets["masks"], boxes, objects["match"], config.mask_size)
        found = {"mask_loss": losses.mask_loss(classes, true, logits)}
        if self.mask_score_head is None:
            return found
        # The score must judge the mask, not change it.
        masks = ops.stop_gradient(ops.sigmoid(losses.of_class(logits, classes, axis=4)))
        scores = each_region(self.mask_score_head, [regions, masks])
        areas = ops.sum(ops.cast(targets["masks"], "float32"), axis=(2, 3))  # (B, N), in pixels
        cell = ops.maximum(area(boxes), 1e-6) / config.mask_size**2  # pixels per cell
        whole = ops.take_along_axis(areas, objects["match"], axis=1) / cell
        iou = losses.mask_iou(masks, true, whole)
        return found | {"mask_score_loss": losses.mask_score_loss(classes, iou, scores)}

    def semantic_loss(self, features, targets, training):
        logits = self.semantic_head(features, training=training)
        stride = self.config.strides[self.config.roi_levels[0]]
        masks = targets["masks"][:, :, stride // 2 :: stride, stride // 2 :: stride]
        label_map = semantic_target(masks, targets["classes"], self.config.num_classes)
        return losses.semantic_loss(ops.cast(label_map, "int32"), logits)

    def noise(self, targets, number, training):
        """Returns random numbers `[B, number]`, new in training, else the same each time."""
        shape = (ops.shape(targets["classes"])[0], number)
        return keras.random.uniform(shape, seed=self.random if training else self.config.seed)

    def detect(self, images, *, batch_size=8, min_score=0.0):
        """Finds the objects in pictures of any size.

        Args:
            images: one picture `[H, W, 3]`, or several: a list, or an array `[B, H, W, 3]`; values
                0 to 255.
            batch_size: pictures per step.
            min_score: drop detections that score less. `config.detection_min_score` applies before
                mask scoring, this one after it.

        Returns:
            A dict of NumPy arrays, sorted by score: `boxes` `[n, 4]`, (y1, x1, y2, x2) in the
            picture's own pixels, `classes` `[n]`, `scores` `[n]` and `masks` `[n, H, W]`, bool;
            with mask scoring also `class_scores`. For several pictures a list of them.

        Raises:
            ValueError: for an array that is not a picture.
        """
        single = not isinstance(images, list | tuple) and np.ndim(images) == 3
        found, pictures = [], [images] if single else list(images)
        for start in range(0, len(pictures), batch_size):
            fitted = [
                letterbox(ops.convert_to_numpy(image), self.config.image_size, fill=self.padding)
                for image in pictures[start : start + batch_size]
            ]
            batch = np.stack([picture for picture, _ in fitted]).astype("float32")
            # Always the same number of pictures: another number would be compiled anew.
            count = min(batch_size, len(pictures))
            batch = np.pad(batch, ((0, count - len(batch)), (0, 0), (0, 0), (0, 0)))
            output = self.predict_on_batch(batch)
            for row, (_, fit) in enumerate(fitted):
                parts = {name: x[row] for name, x in output.items() if name != "semantic"}
                found.append(at_full_size(parts, fit, min_score))
        return found[0] if single else found

    def unfreeze_backbone(self, first=None):
        """Makes the backbone trainable, as `SegmentationModel` does; compile again afterwards."""
        unfreeze(self.backbone, first or None, train_statistics=self.train_statistics)
        self.unfrozen_from = first or ""

    def get_config(self):
        return {
            "name": self.name,
            "trainable": self.trainable,
            "dtype": keras.saving.serialize_keras_object(self.dtype_policy),
            "config": dataclasses.asdict(self.config),
            "unfrozen_from": self.unfrozen_from,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        unfrozen_from = config.pop("unfrozen_from", None)
        policy = keras.saving.deserialize_keras_object(config.pop("dtype"))
        settings = MaskRCNNConfig(**config.pop("config"))
        with dtype_policy(policy):
            model = cls(settings, load_backbone=False, **config)
        if unfrozen_from is not None and settings.weights is not None:
            model.unfreeze_backbone(unfrozen_from)
        return model


def each_region(head, maps):
    """Applies a head to regions `[B, R, …]` of a batch, and returns `[B, R, …]`."""
    count = keras.tree.flatten(maps)[0].shape[1]
    regions = keras.tree.map_structure(lambda x: ops.reshape(x, (-1, *x.shape[2:])), maps)
    found = head(regions)  # (B R, …)
    return keras.tree.map_structure(lambda x: ops.reshape(x, (-1, count, *x.shape[1:])), found)


def check_targets(targets, config):
    """Raises unless the targets of a batch have the structure and shapes that `MaskRCNN` states."""
    wanted = {"boxes": (4,), "classes": (), "masks": config.image_size}
    if not isinstance(targets, dict) or not set(wanted) <= set(targets):
        came = sorted(targets) if isinstance(targets, dict) else type(targets).__name__
        raise ValueError(
            f"The targets are {came}, expected a dict of boxes, classes and masks. "
            "seglib.data.scenes.load gives such batches."
        )
    for name, rest in wanted.items():
        shape = tuple(targets[name].shape)
        fits = len(shape) == 2 + len(rest) and all(
            n in (None, e) for n, e in zip(shape[2:], rest, strict=True)
        )
        if not fits:
            text = ", ".join(["B", "N", *map(str, rest)])
            hint = " Is image_size of the data that of the model?" if name == "masks" else ""
            raise ValueError(f"The targets' {name} have shape {shape}, expected [{text}].{hint}")
