"""Every setting of Mask R-CNN, each with its meaning."""

import dataclasses
import itertools
import textwrap

import keras

from seglib.models.rcnn.rate import Rate

LOSSES = (
    "rpn_class_loss",
    "rpn_box_loss",
    "class_loss",
    "box_loss",
    "mask_loss",
    "mask_score_loss",
    "semantic_loss",
)
LEVELS = ("P2", "P3", "P4", "P5", "P6")


def setting(default, meaning):
    """A field of the configuration, whose meaning `table` prints."""
    return dataclasses.field(default=default, metadata={"meaning": meaning})


@dataclasses.dataclass(frozen=True)
class MaskRCNNConfig:
    """The settings of a Mask R-CNN and of its training; `print(config)` explains each number.

    The defaults are those of the papers for COCO: a ResNet-50 with a feature pyramid. Tuples may be
    given as lists, as JSON has them. Change a configuration with `dataclasses.replace`.

    Raises:
        ValueError: for an impossible value, naming it and what was expected.

    Reference:
        He, Gkioxari, Dollár, Girshick: Mask R-CNN, ICCV 2017, section 3.1; Lin et al.: Feature
        Pyramid Networks for Object Detection, CVPR 2017; Ren et al.: Faster R-CNN, NIPS 2015.
    """

    # --- the task
    num_classes: int = setting(80, "classes of objects; the background is not one of them")
    class_names: tuple[str, ...] | None = setting(None, "what the classes are called")
    image_size: tuple[int, int] = setting(
        (1024, 1024), "height and width in pixels that pictures are fitted into, multiples of 32"
    )
    max_objects: int = setting(100, "rows of truth per training picture, most of them empty")

    # --- backbone and pyramid
    backbone: str = setting("resnet50", "network that makes the features; seglib.models.backbone")
    weights: str | None = setting("imagenet", "its weights: 'imagenet', a file, or None for random")
    alpha: float = setting(1.0, "its width, as a factor; for 'mobilenet_v2' and 'small'")
    freeze_backbone: bool | None = setting(None, "do not train it; None: if it is pretrained")
    fpn_filters: int = setting(256, "channels of each level of the pyramid")
    rpn_levels: tuple[str, ...] = setting(LEVELS, "levels that have anchors, fine to coarse")
    roi_levels: tuple[str, ...] = setting(LEVELS[:4], "levels that RoIs are read from")

    # --- anchors and the region proposal network
    anchor_sizes: tuple[float, ...] = setting(
        (32, 64, 128, 256, 512), "side of a square anchor in pixels, one per level"
    )
    anchor_ratios: tuple[float, ...] = setting((0.5, 1.0, 2.0), "height / width of the anchors")
    rpn_filters: int = setting(256, "channels of the region proposal network (RPN)")
    rpn_positive_iou: float = setting(0.7, "IoU with an object from which anchors are positive")
    rpn_negative_iou: float = setting(0.3, "IoU with all objects below which they are background")
    rpn_samples: int = setting(256, "anchors per picture that the RPN learns from")
    rpn_positive_share: float = setting(0.5, "largest share of positive ones among them")

    # --- proposals
    pre_nms_top_k_train: int = setting(2000, "best anchors per level that become boxes, training")
    pre_nms_top_k_predict: int = setting(1000, "the same, predicting")
    post_nms_top_k_train: int = setting(2000, "proposals per picture that remain, training")
    post_nms_top_k_predict: int = setting(1000, "the same, predicting")
    rpn_nms_iou: float = setting(0.7, "drop a proposal whose IoU with a better one exceeds this")

    # --- regions of interest (RoIs)
    rois_per_image: int = setting(512, "proposals per picture that the heads learn from")
    roi_positive_share: float = setting(0.25, "largest share of positive ones among them")
    roi_positive_iou: float = setting(0.5, "IoU with an object from which they are positive")
    box_pool_size: int = setting(7, "side of the grid that the box head sees of a RoI, in cells")
    mask_pool_size: int = setting(14, "the same, of the mask head")
    pool_samples: int = setting(2, "points per direction that RoIAlign reads in a cell")
    canonical_size: float = setting(224, "side in pixels of a RoI that is read from level P4")

    # --- heads
    box_head_widths: tuple[int, ...] = setting((1024, 1024), "widths of its hidden layers")
    mask_head_filters: tuple[int, ...] = setting((256,) * 4, "channels of its 3x3 convolutions")
    mask_size: int = setting(28, "side of a predicted mask: twice mask_pool_size")
    mask_scoring: bool = setting(False, "predict each mask's IoU and multiply the score with it")
    semantic_classes: int = setting(0, "classes of an additional semantic head; 0: no such head")
    semantic_filters: int = setting(128, "channels of the semantic head")
    box_deviations: tuple[float, ...] = setting(
        (0.1, 0.1, 0.2, 0.2), "what dy, dx, log dh, log dw are divided by"
    )

    # --- detection
    detection_candidates: int = setting(1000, "best pairs of RoI and class that become boxes")
    detection_min_score: float = setting(0.05, "detections have higher scores than this")
    detection_nms_iou: float = setting(
        0.5, "drop a detection whose IoU with a better one exceeds this"
    )
    max_detections: int = setting(100, "most detections per picture")

    # --- training
    loss_weights: dict[str, float] | None = setting(None, "factor of each loss")  # 1 if not given
    optimizer: str = setting("sgd", "'sgd', or 'adamw' on a cosine")
    learning_rate: float = setting(0.02, "the highest rate; 0.02 is for 16 pictures per step")
    momentum: float = setting(0.9, "of 'sgd'")
    weight_decay: float = setting(1e-4, "each step shrinks the weights by this times the rate")
    gradient_clip: float | None = setting(None, "longest gradient of all weights; None: no limit")
    steps: int = setting(90_000, "length of the training")
    warmup_steps: int = setting(500, "steps over which the rate rises")
    seed: int = setting(0, "of the samples that the losses are computed on")

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, list):
                object.__setattr__(self, field.name, tuple(value))
        weights = dict.fromkeys(LOSSES, 1.0) | dict(self.loss_weights or {})
        object.__setattr__(self, "loss_weights", weights)
        check_numbers(self)
        check_together(self)

    @classmethod
    def small(cls, **changes):
        """Returns a configuration that learns the drawn pets on a CPU in minutes, with changes."""
        values = {
            "num_classes": 2,
            "class_names": ("cat", "dog"),
            "image_size": (128, 128),
            "max_objects": 8,
            "backbone": "efficientnet_lite0",
            "fpn_filters": 64,
            "rpn_levels": ("P3", "P4", "P5"),
            "roi_levels": ("P3", "P4", "P5"),
            "anchor_sizes": (44, 64, 96),
            "anchor_ratios": (0.6, 1.0, 1.7),
            "rpn_filters": 64,
            "rpn_positive_iou": 0.6,
            "rpn_negative_iou": 0.4,
            "rpn_samples": 64,
            "pre_nms_top_k_train": 64,
            "pre_nms_top_k_predict": 64,
            "post_nms_top_k_train": 64,
            "post_nms_top_k_predict": 32,
            "rois_per_image": 24,
            "canonical_size": 112,
            "box_head_widths": (128,),
            "mask_pool_size": 8,
            "mask_head_filters": (48, 48, 48, 48),
            "mask_size": 16,
            "semantic_classes": 3,
            "semantic_filters": 32,
            "detection_candidates": 64,
            "max_detections": 20,
            "optimizer": "adamw",
            "learning_rate": 1e-3,
            "weight_decay": 0.01,
            "gradient_clip": 5.0,
            "steps": 2000,
            "warmup_steps": 60,
        }
        return cls(**(values | changes))

    @property
    def levels(self):
        """The levels of the pyramid that are used, from fine to coarse."""
        return tuple(level for level in LEVELS if level in self.rpn_levels + self.roi_levels)

    @property
    def strides(self):
        """Pixels per cell of each level, `{"P2": 4, …}`."""
        return {level: 2 ** int(level[1:]) for level in self.levels}

    @property
    def positive_rois(self):
        """The most RoIs of a picture that are objects, in training."""
        return max(round(self.rois_per_image * self.roi_positive_share), 1)

    def make_optimizer(self):
        """Returns the optimizer that the configuration describes, for `compile`.

        It is SGD whose rate falls to a tenth after three quarters of the steps, as published
        (there: 120,000 of 160,000), or AdamW on a cosine. Both start with a rising rate.
        """
        shape = "cosine" if self.optimizer == "adamw" else "cut"
        warmup = min(self.warmup_steps, self.steps // 2)
        rate = Rate(self.learning_rate, self.steps, warmup, shape)
        options = {"weight_decay": self.weight_decay, "global_clipnorm": self.gradient_clip}
        if self.optimizer == "adamw":
            return keras.optimizers.AdamW(rate, **options)
        return keras.optimizers.SGD(rate, momentum=self.momentum, **options)

    def table(self):
        """Returns `(name, value, meaning)` of each field, in order."""
        return [
            (field.name, getattr(self, field.name), field.metadata["meaning"])
            for field in dataclasses.fields(self)
        ]

    def __str__(self):
        rows = []
        for name, value, meaning in self.table():
            if name == "loss_weights":
                value = ", ".join(f"{key} {number:g}" for key, number in value.items())
            cells = [name], textwrap.wrap(str(value), 25), textwrap.wrap(meaning, 50)
            lines = itertools.zip_longest(*cells, fillvalue="")
            rows += ["{:<23}{:<27}{}".format(*line).rstrip() for line in lines]
        return "\n".join(rows)


def check_numbers(config):
    """Raises for numbers out of range."""

    def expect(names, good, what):
        for name in names:
            value = getattr(config, name)
            values = value if isinstance(value, tuple) else (value,)
            if not all(
                isinstance(v, int | float) and not isinstance(v, bool) and good(v) for v in values
            ):
                raise ValueError(f"{name} is {value!r}, expected {what}.")

    fields = dataclasses.fields(config)
    from_0 = ("semantic_classes", "warmup_steps", "seed")
    whole = [f.name for f in fields if f.type in (int, tuple[int, int], tuple[int, ...])]
    whole = [name for name in whole if name not in from_0]
    shares = [f.name for f in fields if f.name.endswith(("_iou", "_share", "_score"))]
    above_0 = "alpha anchor_sizes anchor_ratios canonical_size box_deviations learning_rate"
    expect(whole, lambda v: v >= 1 and v == int(v), "whole numbers of at least 1")
    expect(from_0, lambda v: v >= 0 and v == int(v), "a whole number of at least 0")
    expect(above_0.split(), lambda v: 0 < v < float("inf"), "numbers above 0")
    expect(["weight_decay"], lambda v: v >= 0, "a number of at least 0")
    expect(["momentum"], lambda v: 0 <= v < 1, "a number from 0 to below 1")
    expect(shares, lambda v: 0 <= v <= 1, "a number from 0 to 1")
    if config.gradient_clip is not None:
        expect(["gradient_clip"], lambda v: v > 0, "a number above 0, or None for no limit")
    if config.rpn_negative_iou > config.rpn_positive_iou:
        raise ValueError(
            f"rpn_negative_iou is {config.rpn_negative_iou} and rpn_positive_iou "
            f"{config.rpn_positive_iou}, expected the first to be no larger: an anchor cannot be "
            "both object and background."
        )


def check_together(config):
    """Raises for settings that contradict each other, and for unknown names."""
    if len(config.image_size) != 2 or any(size % 32 for size in config.image_size):
        raise ValueError(
            f"image_size is {config.image_size}, expected (height, width), multiples of 32: the "
            "backbone halves the picture five times."
        )
    runs = [LEVELS[a:b] for a in range(5) for b in range(a + 1, 6)]
    for name in ("rpn_levels", "roi_levels"):
        levels = getattr(config, name)
        if levels not in runs:
            raise ValueError(
                f"{name} is {levels!r}, expected neighbors out of {', '.join(LEVELS)}, from fine "
                "to coarse."
            )
    if config.levels not in runs or config.levels[-1] not in ("P5", "P6"):
        raise ValueError(
            f"rpn_levels and roi_levels are together {', '.join(config.levels)}, expected levels "
            "without a gap up to P5 or P6: each level of the pyramid has weights that must learn."
        )
    if len(config.anchor_sizes) != len(config.rpn_levels):
        raise ValueError(
            f"anchor_sizes has {len(config.anchor_sizes)} entries, expected one for each of the "
            f"{len(config.rpn_levels)} rpn_levels, {', '.join(config.rpn_levels)}."
        )
    if not config.anchor_ratios:
        raise ValueError("anchor_ratios is empty, expected at least one height / width.")
    if len(config.box_deviations) != 4:
        raise ValueError(
            f"box_deviations has {len(config.box_deviations)} entries, expected 4: of dy, dx, "
            "log dh and log dw."
        )
    if config.mask_size != 2 * config.mask_pool_size:
        raise ValueError(
            f"mask_size is {config.mask_size} and mask_pool_size {config.mask_pool_size}, expected "
            f"mask_size={2 * config.mask_pool_size}: the mask head doubles the resolution once."
        )
    if config.mask_scoring and config.mask_pool_size % 2:
        raise ValueError(
            f"mask_pool_size is {config.mask_pool_size}, expected an even number with "
            "mask_scoring: its last convolution halves it."
        )
    if config.class_names is not None and len(config.class_names) != config.num_classes:
        raise ValueError(
            f"class_names has {len(config.class_names)} entries, expected num_classes, "
            f"{config.num_classes}. The background has no name here."
        )
    if config.semantic_classes == 1:
        raise ValueError(
            "semantic_classes is 1, expected 0 for no semantic head, or at least 2: num_classes + "
            "1 for the objects' classes and the background."
        )
    if config.optimizer not in ("sgd", "adamw"):
        raise ValueError(f"optimizer is {config.optimizer!r}, expected 'sgd' or 'adamw'.")
    unknown = set(config.loss_weights) - set(LOSSES)
    if unknown:
        raise ValueError(
            f"loss_weights has {', '.join(sorted(unknown))}, expected out of {', '.join(LOSSES)}."
        )
    if any(not 0 <= weight < float("inf") for weight in config.loss_weights.values()):
        raise ValueError(f"loss_weights is {config.loss_weights}, expected numbers of at least 0.")
