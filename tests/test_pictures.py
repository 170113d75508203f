"""results/pictures.json and the script that writes it: against the leaderboard, and by hand."""

import numpy as np
import pytest
import tensorflow as tf

from measured import machine, store
from seglib.chapters import results


@pytest.fixture(scope="module")
def pictures(script):
    """The script benchmarks/pictures.py."""
    return script("pictures")


COUNTS = np.array(
    [
        [[4, 0, 0], [0, 4, 0], [0, 0, 0]],  # all right, no border
        [[3, 1, 0], [0, 2, 0], [0, 2, 0]],  # IoU 3/4, 2/5 and 0
    ]
)


def test_the_iou_of_each_picture_is_over_the_classes_in_it(pictures):
    np.testing.assert_allclose(pictures.iou_of_each(COUNTS), [1, (3 / 4 + 2 / 5) / 3])


def test_the_mean_iou_is_that_of_all_pictures_together(pictures):
    assert pictures.mean_iou(COUNTS) == pytest.approx((7 / 8 + 6 / 9 + 0) / 3)


def test_the_share_of_the_pet_is_that_of_the_truth(pictures):
    assert pictures.pet_share(COUNTS[1]) == 4 / 8


def test_shares_are_of_all_wrong_pixels(pictures):
    kinds = {"outline": np.array([3, 3]), "lost": np.array([0, 1]), "invented": np.array([1, 0])}
    assert pictures.shares(kinds) == {"outline": 0.75, "lost": 0.125, "invented": 0.125}


def test_each_pair_of_models_is_compared_once(pictures):
    found = pictures.pairs({("a", "x"): COUNTS, ("a", "y"): COUNTS, ("b", "x"): COUNTS[::-1]})
    assert [(p["before"], p["after"]) for p in found] == [
        (["a", "x"], ["a", "y"]),
        (["a", "x"], ["b", "x"]),
        (["a", "y"], ["b", "x"]),
    ]
    assert found[0]["low"] == found[0]["value"] == found[0]["high"] == 0
    assert found[1]["low"] <= found[1]["value"] <= found[1]["high"]


def test_label_maps_displaced_by_one_pixel_by_hand(pictures, monkeypatch):
    truth = tf.constant([[[0, 0, 1, 1, 2, 2]] * 2], "uint8")  # two equal rows
    monkeypatch.setattr(pictures.pets, "load", lambda split, image_size: [(None, truth)])
    # Down, nothing changes: 2 pixels a class. To the side, of 5 pixels in each row 0, 1, 1, 2, 2
    # come to lie over 0, 0, 1, 1, 2: 4 of each class are right in all, 2 are 0 for 1, 2 1 for 2.
    found = pictures.displaced(6, 1)
    assert list(found["iou"].values()) == [round(4 / 6, 5), 4 / 8, round(4 / 6, 5)]
    assert found["mean_iou"] == round((4 / 6 + 4 / 8 + 4 / 6) / 3, 5)


def test_what_was_trained_again_is_left_out(pictures, monkeypatch, tmp_path):
    """Without its weights it cannot be looked at again, and the old numbers are of another run."""

    def entry(recipe, mean_iou, seed=0):
        which = {"experiment": "unet", "recipe": recipe, "seed": seed, "title": recipe}
        return which | {"mean_iou": mean_iou}

    def file(*runs):
        data = {"name": "Pets", "train": 2, "test": 2, "note": "two", "fingerprint": "f"}
        return {"kind": "k", "task": "t", "data": data, **machine.stamp(), "runs": list(runs)}

    monkeypatch.setattr(results, "FOLDER", tmp_path)
    monkeypatch.setenv("DIRTY", "1")
    store.save("leaderboard", file(entry("a", 0.7), entry("b", 0.6), entry("a", 0.75, 1)))
    pairs = [{"before": ["unet", "a"], "after": ["unet", "b"], "seed": 0}]
    looked = file(entry("a", 0.70001), entry("b", 0.6), entry("a", 0.74, 1)) | {"pairs": pairs}
    store.save("pictures", looked)
    pictures.leave_out_replaced(looked["data"])
    left = results.load("pictures")
    assert [(run["recipe"], run["seed"]) for run in left["runs"]] == [("a", 0), ("b", 0)]
    assert left["pairs"] == pairs

    store.save("leaderboard", file(entry("a", 0.7), entry("b", 0.65)))
    pictures.leave_out_replaced(looked["data"])
    left = results.load("pictures")
    assert [run["recipe"] for run in left["runs"]] == ["a"]
    assert left["pairs"] == []
