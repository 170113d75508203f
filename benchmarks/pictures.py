"""What the models of the leaderboard do picture by picture: results/pictures.json.

For each finished run: which kinds of wrong pixels it has, over all test pictures and in its ten
worst. For each pair of models, trained with the same seed: the difference of their mean IoU with
its interval, which needs both models' counts of each picture. The weights are those that the
scripts `train_*.py` leave in runs/; nothing is trained here. Where some are missing, entries stay
unless their model was trained again. And for the true label maps: what they score against
themselves displaced by one or two pixels, as two people's outlines may lie.
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from benchmarks import leaderboard
from benchmarks.training import describe_data
from measured import machine, store
from seglib.core.constants import IGNORE_LABEL
from seglib.data import pets
from seglib.metrics import MeanIoU, error_kinds
from seglib.metrics.comparison import differences
from seglib.metrics.reports import PictureCounter, weighted_scores

SEED = 0  # of the pairs: the one that every model has
WORST = 10
NEAR = 0.03  # of the picture's height: what counts as near the border
BOOTSTRAP = 1000
DISPLACED = ((128, 1), (128, 2), (256, 1), (256, 2))  # size of the pictures, pixels


def main():
    store.check_clean(machine.commit())
    data = describe_data()
    finished = list(leaderboard.finished_runs(data))
    wanted = [leaderboard.key_of(experiment.name, run) for experiment, run, _ in finished]
    if is_current(wanted, data):
        return
    models = [leaderboard.trained_model(experiment, run) for experiment, run, _ in finished]
    if None in models:
        print("Without the weights of all runs, none is looked at again.", flush=True)
        leave_out_replaced(data)
        return
    runs, counted = [], {}
    for (experiment, trained, title), model in zip(finished, models, strict=True):
        counts, kinds = look_at(model, trained["image_size"])
        runs.append(describe(experiment, trained, title, counts, kinds))
        if trained["seed"] == SEED:
            counted[experiment.name, trained["recipe"]] = counts
        print(f"{title}, seed {trained['seed']}: {runs[-1]['kinds']}", flush=True)
    measurement = {
        "kind": "pictures",
        "task": "three classes of pixels on the Oxford-IIIT Pets",
        "data": data,
        **machine.stamp(),
        "runs": runs,
        "pairs": pairs(counted),
        "displaced": [displaced(size, pixels) for size, pixels in DISPLACED],
    }
    store.add("pictures", measurement)


def is_current(wanted, data):
    """Returns whether the file holds exactly these runs, of these pictures."""
    result = store.measured_here("pictures", data)
    if result is None:
        return False
    held = [leaderboard.key_of(run["experiment"], run) for run in result["runs"]]
    return held == wanted and "--again" not in sys.argv


def leave_out_replaced(data):
    """Removes from the file what says nothing about the leaderboard's runs: those trained again."""
    board = store.measured_here("leaderboard", data)
    before = store.measured_here("pictures", data)
    if board is None or before is None:
        return
    scores = {leaderboard.key_of(run["experiment"], run): run["mean_iou"] for run in board["runs"]}
    looked = {leaderboard.key_of(run["experiment"], run): run for run in before["runs"]}
    kept = {
        key: run
        for key, run in looked.items()
        if key in scores and abs(scores[key] - run["mean_iou"]) <= leaderboard.SAME
    }
    pairs_left = [
        pair
        for pair in before["pairs"]
        if all((*pair[side], pair["seed"]) in kept for side in ("before", "after"))
    ]
    if kept and len(kept) < len(looked):
        print(f"{len(looked) - len(kept)} were trained again and are left out", flush=True)
        left = {"runs": list(kept.values()), "pairs": pairs_left}
        store.add("pictures", before | left)


def look_at(model, size):
    """Returns a model's confusion matrix and its number of wrong pixels by kind, of each picture.

    On the label maps that the leaderboard scores all models on.
    """
    model = leaderboard.enlarged(model)
    counter = PictureCounter(len(pets.CLASSES), IGNORE_LABEL, False, 0.0075, 0.02)
    counts, kinds = [], []
    for images, masks in leaderboard.scored_batches(size):
        logits = model.predict_on_batch(images)
        counts.append(counter(masks, logits)["matrices"])
        found = error_kinds(masks, logits.argmax(axis=-1), near=NEAR * leaderboard.SIZE)
        kinds.append({name: where.sum(axis=(1, 2)) for name, where in found.items()})
    joined = {name: np.concatenate([part[name] for part in kinds]) for name in kinds[0]}
    return np.concatenate(counts), joined


def describe(experiment, trained, title, counts, kinds):
    """Returns the entry of a run: shares of its wrong pixels by kind, and its worst pictures."""
    each = iou_of_each(counts)
    worst = np.argsort(each)[:WORST]
    return {
        "experiment": experiment.name,
        **{key: trained[key] for key in ("recipe", "image_size", "seed")},
        "title": title,
        "mean_iou": round(mean_iou(counts), 5),
        "kinds": shares(kinds),
        "kinds_of_worst": shares({name: number[worst] for name, number in kinds.items()}),
        "median_iou": round(float(np.median(each)), 4),
        "worst": [
            {
                "picture": int(i),
                "iou": round(float(each[i]), 4),
                "pet": round(pet_share(counts[i]), 4),
            }
            for i in worst
        ],
    }


def pet_share(matrix):
    """Returns how much of a picture the pet fills, from its confusion matrix."""
    return float(matrix[pets.CLASSES.index("pet")].sum() / matrix.sum())


def mean_iou(counts):
    """Returns the mean IoU from one confusion matrix over all pictures."""
    return float(weighted_scores({"matrices": counts}, np.ones((1, len(counts))))["iou"][0, -1])


def iou_of_each(counts):
    """Returns the mean IoU of each picture, over the classes in it."""
    one_by_one = weighted_scores({"matrices": counts}, np.eye(len(counts)))
    return one_by_one["iou"][:, -1]


def shares(kinds):
    total = sum(number.sum() for number in kinds.values())
    return {name: round(float(number.sum() / total), 4) for name, number in kinds.items()}


def pairs(counted):
    """Returns the difference of mean IoU of each pair of models, with its interval."""
    found = []
    for number, before in enumerate(counted):
        for after in list(counted)[number + 1 :]:
            sides = ({"matrices": counted[key]} for key in (before, after))
            scores = differences(*sides, pets.CLASSES, BOOTSTRAP, 0.95, 0)
            value, low, high = (round(v, 5) for v in scores["iou"]["mean"])
            names = {"before": list(before), "after": list(after)}
            found.append({**names, "seed": SEED, "value": value, "low": low, "high": high})
    return found


def displaced(size, pixels):
    """Returns what the true label maps score against themselves displaced by so many pixels."""
    metric = MeanIoU(len(pets.CLASSES), from_logits=False)
    for _, masks in pets.load("test", image_size=size):
        truth = masks.numpy()
        for axis in (1, 2):
            kept = truth.shape[axis] - pixels
            shifted, still = (np.take(truth, np.arange(kept) + n, axis) for n in (pixels, 0))
            metric.update_state(still, shifted)
    iou = metric.per_class()
    return {
        "image_size": size,
        "pixels": pixels,
        "mean_iou": round(float(np.mean(iou)), 5),
        "iou": {name: round(float(v), 5) for name, v in zip(pets.CLASSES, iou, strict=True)},
    }


if __name__ == "__main__":
    main()
