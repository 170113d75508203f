"""Mask R-CNN learns four scenes by heart. It takes minutes, so the nightly run does it alone."""

import importlib
import os

import pytest

from seglib.data import scenes


@pytest.fixture(scope="module")
def script():
    return importlib.import_module("benchmarks.overfit_mask_rcnn")


@pytest.mark.rare
def test_the_grid_of_the_masks_is_no_limit(script):
    truth = list(scenes.examples("train", limit=script.SCENES))
    coarse, fine = (script.ceiling(truth, cells) for cells in (7, script.CONFIG.mask_size))
    assert coarse < 0.95 and fine == 1


@pytest.mark.rare
@pytest.mark.skipif(os.environ["KERAS_BACKEND"] != "tensorflow", reason="one backend will do")
def test_four_scenes_are_learned_by_heart(script):
    truth = list(scenes.examples("train", limit=script.SCENES))
    found = script.overfit().detect([scene["image"] for scene in truth])
    precision = {
        kind: script.average_precision(kind, truth, found)["AP"] for kind in ("masks", "boxes")
    }
    assert precision["masks"] >= 0.95 and precision["boxes"] >= 0.95
