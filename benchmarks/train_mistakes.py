"""Makes each mistake of chapter 8 under the same budget and writes results/mistakes.json.

The recipe and its switches stand in the notebook, in the cells tagged `recipe`; this script runs
those very cells in the `full` profile. What the file already holds is not run again. A mistake that
only harms the report needs no training of its own: it comes with the right recipe.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import time

os.environ["SEGLIB_PROFILE"] = "full"

import nbformat

from benchmarks.training import ROOT, describe_data, finished, processor_seconds, save
from measured import machine, store
from seglib.data import pets

NOTEBOOK = ROOT / "notebooks" / "08_mistakes.ipynb"


def recipe_cells():
    """Runs the notebook's cells tagged `recipe` and returns the names that they define."""
    names = {"__name__": "recipe"}
    for number, cell in enumerate(nbformat.read(NOTEBOOK, as_version=4).cells):
        if "recipe" in cell.metadata.get("tags", []):
            exec(compile(cell.source, f"{NOTEBOOK.name}, cell {number}", "exec"), names)
    return names


class Experiment:
    """What `training.finished` and `training.save` ask of an experiment."""

    name = "mistakes"
    kind = "differences"

    def __init__(self, chapter):
        self.chapter = chapter
        self.recipes = chapter["REFERENCES"] | chapter["MISTAKES"]

    def settings(self, name):
        """Returns the recipe behind a row as plain JSON; `None` if it is unknown."""
        if name not in self.recipes:
            return None
        return json.loads(json.dumps(dataclasses.asdict(self.chapter["recipe_of"](name))))

    def trains(self, name):
        """Returns whether a row has a model of its own."""
        return name == "right" or self.recipes[name].switches != {}

    def weights_path(self, seed) -> pathlib.Path:
        """Returns where the right model of a seed lies, not committed."""
        return ROOT / "runs" / self.name / f"right-{seed}.weights.h5"

    def right_model(self, seed):
        """Returns the right model of a seed, from its file."""
        model = self.chapter["build"](self.chapter["recipe_of"]("right"))
        if not self.weights_path(seed).exists():
            raise SystemExit(
                f"{self.weights_path(seed)} is missing: `old_decoder` starts from it. Take the "
                f"runs of seed {seed} out of results/mistakes.json to train the right model again."
            )
        model.load_weights(self.weights_path(seed))
        return model


def measured(experiment, name, seed):
    """Trains one row with one seed; returns its entry, and those of the reports with `right`."""
    mistake = experiment.recipes[name]
    trained = experiment.right_model(seed) if name == "old_decoder" else None
    wall, cpu = time.perf_counter(), processor_seconds()
    model, found = experiment.chapter["measure"](name, seed, trained)
    wall, cpu = time.perf_counter() - wall, processor_seconds() - cpu
    matrix = found["counts"].sum(axis=0)
    ious = experiment.chapter["iou"](matrix)
    entry = common(experiment, name, seed) | {
        **machine.stamp(),
        "epochs": len(found["loss"]),
        "seconds": round(wall, 1),  # of training and scoring together
        "cpu_seconds": round(cpu, 1),
        "parameters": model.count_params(),
        "pixel_accuracy": round(float(matrix.trace() / matrix.sum()), 5),
        "iou": {c: round(float(v), 5) for c, v in zip(pets.CLASSES, ious, strict=True)},
        "mean_iou": round(found["mean_iou"], 5),
        "confusion": matrix.tolist(),
        "curves": {"loss": [round(v, 5) for v in found["loss"]]},
    }
    print(f"{mistake.title}, seed {seed}: {entry['mean_iou']:.4f} after {wall:.0f} s", flush=True)
    if name != "right":
        return [entry]
    path = experiment.weights_path(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    model.save_weights(path)
    reported = {
        row: common(experiment, row, seed)
        | {"mean_iou": entry["mean_iou"], "reported": round(value, 5), **machine.stamp()}
        for row, value in found["reports"].items()
    }
    return [entry, *reported.values()]


def common(experiment, name, seed):
    """Returns what the entries of all rows have."""
    mistake, settings = experiment.recipes[name], experiment.settings(name)
    return {
        "recipe": name,
        "title": mistake.title,
        "harms": mistake.harms,
        "against": mistake.against,
        "image_size": settings["image_size"],
        "seed": seed,
        "settings": settings,
    }


def main():
    """Runs what is missing, as the command line asks."""
    experiment = Experiment(recipe_cells())
    trained = [name for name in experiment.recipes if experiment.trains(name)]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mistakes", nargs="+", default=trained, choices=trained)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    arguments = parser.parse_args()
    store.check_clean(machine.commit())
    data = describe_data()
    for seed in arguments.seeds:  # all rows of a seed in turn, so that a busy hour hits all
        for name in arguments.mistakes:
            runs = [
                r | common(experiment, r["recipe"], r["seed"]) for r in finished(experiment, data)
            ]
            if any((r["recipe"], r["seed"]) == (name, seed) for r in runs):
                continue
            new = measured(experiment, name, seed)
            replaced = {r["recipe"] for r in new}
            kept = [r for r in runs if r["seed"] != seed or r["recipe"] not in replaced]
            save(experiment, data, kept + new)


if __name__ == "__main__":
    main()
