"""Overfits Mask R-CNN: `make bench BENCHMARK=overfit_mask_rcnn`.

A detector whose parts fit each other learns four drawn scenes by heart, every outline included. If
it cannot, a part is wrong: no amount of data would mend it. Half a cell lost between training and
pasting, say, leaves AP50 as it is and keeps AP far below 1.

First it prints what the grid of the masks allows: the AP of the true masks, cut out with the true
boxes and pasted back. The model has a grid fine enough to be no limit, and its backbone is trained,
too; all else is that of `MaskRCNNConfig.small()`.
"""

import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from seglib.data import scenes
from seglib.metrics import COCOAveragePrecision
from seglib.models import MaskRCNN, MaskRCNNConfig
from seglib.models.rcnn.paste import paste
from seglib.models.rcnn.roi_align import crop_masks

SCENES = 4
STEPS = 400
CONFIG = MaskRCNNConfig.small(
    freeze_backbone=False, mask_pool_size=20, mask_size=40, steps=STEPS, warmup_steps=50
)


def main():
    truth = list(scenes.examples("train", limit=SCENES))
    for cells in (14, MaskRCNNConfig.small().mask_size, 28, CONFIG.mask_size):
        print(f"masks of {cells} x {cells} allow a mask AP of {ceiling(truth, cells):.3f}")
    start = time.perf_counter()
    model = overfit()
    seconds = time.perf_counter() - start
    detections = model.detect([scene["image"] for scene in truth])
    print(f"after {STEPS} steps with the same {SCENES} scenes, {seconds:.0f} s:")
    for kind in ("masks", "boxes"):
        table = average_precision(kind, truth, detections)
        print(f"  {kind:<6}", *(f"{name} {table[name]:.3f}" for name in ("AP", "AP50", "AP75")))


def overfit():
    """Returns a model that was trained on the same few scenes again and again."""
    keras.utils.set_random_seed(0)
    batch = scenes.load("train", batch_size=SCENES, shuffle=False).take(1).cache()
    model = MaskRCNN(CONFIG)
    model.compile(CONFIG.make_optimizer())
    model.fit(batch.repeat(STEPS), shuffle=False, verbose=0)
    return model


def ceiling(truth, cells):
    """Returns the AP of the true masks after they went through grids of so many cells a side."""
    found = []
    for scene in truth:
        order = np.arange(len(scene["boxes"]))[None]
        masks = scene["masks"][None].astype("uint8")
        small = crop_masks(masks, scene["boxes"][None], order, cells)[0]
        back = paste(keras.ops.convert_to_numpy(small), scene["boxes"], *masks.shape[2:])
        sure = np.ones(len(back), "float32")
        found.append({**scene, "masks": back, "scores": sure})
    return average_precision("masks", truth, found)["AP"]


def average_precision(kind, truth, detections):
    metric = COCOAveragePrecision(kind)
    metric.update_state(truth, detections)
    return metric.table()


if __name__ == "__main__":
    main()
