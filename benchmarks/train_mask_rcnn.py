"""Measures Mask R-CNN of chapter 5 on real pets and writes results/mask_rcnn.json.

The pets are cut out and pasted into each other's pictures: each training scene is new, the test
scenes are made of the test pictures and always the same.
"""

import dataclasses
import functools

from benchmarks.training import AUGMENT, Experiment, Recipe, Stage, main, weights
from seglib.data import scenes
from seglib.metrics import COCOAveragePrecision
from seglib.models import mask_rcnn

SIZE = 256
CLASSES = scenes.CLASSES
# As for the drawn pets, twice as large; the layers of a pretrained backbone are wider.
SETTINGS = {
    "fpn_filters": 96,
    "rpn_levels": ("P4", "P5", "P6"),
    "roi_levels": ("P2", "P3", "P4", "P5"),
    "anchor_sizes": (80, 128, 200),
    "anchor_ratios": (0.6, 1.0, 1.7),
    "rpn_filters": 96,
    "rpn_samples": 64,
    "rpn_positive_iou": 0.6,
    "rpn_negative_iou": 0.4,
    "pre_nms_top_k_train": 100,
    "pre_nms_top_k_predict": 100,
    "post_nms_top_k_train": 64,
    "post_nms_top_k_predict": 50,
    "rois_per_image": 32,
    "box_head_widths": (256,),
    "mask_head_filters": (96, 96, 96),
    "semantic_classes": len(CLASSES) + 1,
    "semantic_filters": 48,
    "detection_candidates": 100,
    "max_detections": 20,
    "max_objects": scenes.MAX_OBJECTS,
}


@dataclasses.dataclass(frozen=True)
class DetectionRecipe(Recipe):
    """How one Mask R-CNN is built and trained.

    Args:
        mask_scoring: whether it guesses the IoU of its masks and multiplies the scores with it.
    """

    batch_size: int = 8
    mask_scoring: bool = False


STAGES = (
    Stage(epochs=4, learning_rate=1e-3, image_size=SIZE, warmup=1, share=0.25),
    Stage(epochs=24, learning_rate=5e-4, first="block_3_expand", image_size=SIZE, warmup=1),
)
RECIPES = {
    "plain_256": DetectionRecipe("Mask R-CNN", STAGES),
    "scoring_256": DetectionRecipe("with mask scoring", STAGES, mask_scoring=True),
}


def build(recipe, size):
    return mask_rcnn(
        class_names=CLASSES,
        backbone="mobilenet_v2",
        weights=weights(),
        image_size=size,
        mask_scoring=recipe.mask_scoring,
        **SETTINGS,
    )


def load(recipe, stage, seed):
    """Returns the training scenes, pasted anew in each epoch."""
    return scenes.load(
        "trainval",
        source="pasted",
        image_size=stage.image_size,
        batch_size=recipe.batch_size,
        augment=AUGMENT["flip"],
        seed=seed,
    )


@functools.cache
def test_scenes(size):
    return list(scenes.examples("test", source="pasted", image_size=size))


def score(model, recipe, size):
    """Returns the average precision of masks and boxes, and that without the mask scores."""
    truth = test_scenes(size)
    detections = model.detect([scene["image"] for scene in truth])
    found = precision(truth, detections)
    if recipe.mask_scoring:
        alone = [one | {"scores": one["class_scores"]} for one in detections]
        found["class_scores_alone"] = precision(truth, alone)
    return found | {"test_scenes": len(truth)}


def precision(truth, detections):
    found = {}
    for kind, iou_type in (("mask", "masks"), ("box", "boxes")):
        metric = COCOAveragePrecision(iou_type)
        metric.update_state(truth, detections)
        table = metric.table()
        found |= {
            f"{kind}_{key.lower()}": round(table[key], 5) for key in ("AP", "AP50", "AP75", "AR100")
        }
        found[f"{kind}_ap_by_class"] = {
            CLASSES[c]: round(table["per_class"][c]["AP"], 5) for c in sorted(table["per_class"])
        }
    return found


EXPERIMENT = Experiment(
    "mask_rcnn",
    RECIPES,
    build,
    loss=lambda recipe: None,  # the model has its own
    data=load,
    score=score,
    task="cats and dogs, each with its mask, real pets pasted into each other's pictures",
    kind="detections",
)

if __name__ == "__main__":
    main(EXPERIMENT, __doc__)
