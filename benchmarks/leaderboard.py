"""Puts the finished models of all experiments into one table: results/leaderboard.json.

The scripts `train_*.py` leave the weights of each run in runs/. This one scores them picture by
picture, so that the scores have intervals, and measures what each model costs: multiply-adds, the
time of a prediction, the memory it takes. A score that differs from the one in the experiment's own
file stops it. An entry that is there already and of today's code and settings is not scored again.
The times of all models are measured anew whenever one is: interleaved, or a busy minute of the
machine would count for some of them only. `--costs` measures them again in any case.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
import train_deeplab
import train_fcn
import train_unet
from timing import medians
from training import describe_data, fingerprint_of_code

from seglib import results
from seglib.data import pets
from seglib.metrics import report
from seglib.models import cost

# Of each experiment, the recipes that a reader would choose between, and what the table calls them.
MODELS = {
    train_unet: {
        "tutorial": "U-Net, recipe of the TensorFlow tutorial",
        "unet_128": "U-Net",
        "unet_256": "U-Net, then at 256 px",
        "unet_256_long": "U-Net, longer at 256 px, Lovász",
        "unet_256_last": "U-Net, last without zoom",
    },
    train_fcn: {
        "fcn32_128": "FCN-32",
        "fcn8_128": "FCN-8",
        "fcn8_224": "FCN-8, then at 224 px",
    },
    train_deeplab: {
        "deeplab_128": "DeepLabV3+",
        "deeplab_256": "DeepLabV3+, then at 256 px",
    },
}
BATCHES = (1, 8)
ROUNDS = 15
SAME = 2e-4  # of the mean IoU: both are rounded, and sums of floats depend on the batches
# What the scores of a trained model depend on besides its settings.
CODE = ("seglib/models", "seglib/metrics", "seglib/data/pets.py", "seglib/data/pipeline.py")


def main():
    tf.get_logger().setLevel("ERROR")  # each model is a function of its own, so each is traced
    data, code = describe_data(), fingerprint_of_code(*CODE)
    known = load(data, code)
    runs = []
    for module, titles in MODELS.items():
        for trained in results.load(module.EXPERIMENT.name)["runs"]:
            if trained["recipe"] in titles:
                key = (module.EXPERIMENT.name, trained["recipe"], trained["seed"])
                same = key in known and known[key]["settings"] == trained["settings"]
                run = known[key] if same else score(module.EXPERIMENT, trained, code)
                runs.append({**run, "title": titles[trained["recipe"]]})
    if "--costs" in sys.argv or any("milliseconds" not in run for run in runs):
        measure_costs(runs)
    result = {
        "task": "three classes of pixels on the Oxford-IIIT Pets",
        "data": data,
        "device": results.device(),
        "versions": results.versions(),
        "commit": results.commit(),
        "runs": runs,
    }
    results.save("leaderboard", result)


def load(data, code):
    """Returns the entries of the file that hold still, by experiment, recipe and seed."""
    if not results.path("leaderboard").exists():
        return {}
    result = results.load("leaderboard")
    if result["data"]["fingerprint"] != data["fingerprint"]:
        raise SystemExit(
            "results/leaderboard.json was measured on other data. Move it away to measure on yours."
        )
    return {
        (run["experiment"], run["recipe"], run["seed"]): run
        for run in result["runs"]
        if run["code"] == code
    }


def score(experiment, trained, code):
    """Returns the entry of one finished run; its weights must be those that were scored then."""
    name, seed, size = trained["recipe"], trained["seed"], trained["image_size"]
    model = experiment.build(experiment.recipes[name], size)
    path = experiment.weights_path(name, seed)
    if not path.exists():
        raise SystemExit(
            f"{path} is missing. The leaderboard scores the weights that `make results` leaves in "
            f"runs/; move results/{experiment.name}.json away to have them trained again."
        )
    model.load_weights(path)
    test = pets.load("test", image_size=size)
    found = report(model, test, classes=pets.CLASSES)
    mean = found.scores["iou"]["mean"].value
    if abs(mean - trained["mean_iou"]) > SAME:
        raise SystemExit(
            f"{path} scores a mean IoU of {mean:.4f}, but results/{experiment.name}.json says "
            f"{trained['mean_iou']:.4f}: they are not of the same training."
        )
    print(f"{name}, seed {seed}: {found.scores['iou']['mean']}", flush=True)
    kept = ("recipe", "image_size", "seed", "epochs", "train_seconds", "cpu_seconds")
    return {
        "experiment": experiment.name,
        **{key: trained[key] for key in (*kept, "parameters", "pixel_accuracy")},
        "mean_iou": round(mean, 5),
        "iou": {c: round(found.scores["iou"][c].value, 5) for c in pets.CLASSES},
        "boundary_f1": round(found.scores["boundary_f1"]["mean"].value, 5),
        "boundary_iou": round(found.scores["boundary_iou"]["mean"].value, 5),
        "intervals": {
            title: [
                round(found.scores["iou"][title].low, 4),
                round(found.scores["iou"][title].high, 4),
            ]
            for title in ("mean", *pets.CLASSES)
        },
        "settings": trained["settings"],
        "code": code,
    }


def measure_costs(runs):
    """Adds to each entry what its model costs; entries that differ in the seed alone share it."""
    experiments = {module.EXPERIMENT.name: module.EXPERIMENT for module in MODELS}
    models = {}
    for run in runs:
        key = (run["experiment"], run["recipe"])
        if key not in models:
            experiment = experiments[key[0]]
            model = experiment.build(experiment.recipes[key[1]], run["image_size"])
            models[key] = (model, run["image_size"])
    times = {key: {} for key in models}
    for batch in BATCHES:
        calls = {key: prediction(model, size, batch) for key, (model, size) in models.items()}
        for key, value in medians(calls, ROUNDS).items():
            times[key][str(batch)] = round(value, 2)
    counted = {key: sum(part.multiply_adds for part in cost(m)) for key, (m, _) in models.items()}
    memory = {key: peak_memory(*key) for key in models}
    for run in runs:
        key = (run["experiment"], run["recipe"])
        run |= {
            "milliseconds": times[key],
            "multiply_adds": counted[key],
            "peak_memory_mib": memory[key],
        }


def prediction(model, size, batch):
    """Returns a function that predicts a batch; compiled, without the overhead of `predict`."""
    images = tf.constant(
        np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), dtype="uint8")
    )
    call = tf.function(lambda x: model(x, training=False))
    return lambda: call(images).numpy()


def peak_memory(experiment, recipe):
    """Returns the MiB that a model and its prediction of a batch take."""
    command = [sys.executable, __file__, "--memory", experiment, recipe]
    values = [
        json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
        for _ in range(3)
    ]
    return round(statistics.median(values))


def print_memory(name, recipe):
    """What the child process of `peak_memory` does."""
    [experiment] = [m.EXPERIMENT for m in MODELS if m.EXPERIMENT.name == name]
    size = experiment.recipes[recipe].stages[0].image_size
    # TensorFlow itself, with its threads and its first graph, is not the model's.
    prediction(keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(1, 1)]), 8, 1)()
    model = experiment.build(experiment.recipes[recipe], size)
    before = memory("VmRSS")
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    prediction(model, size, max(BATCHES))()
    print(json.dumps(memory("VmHWM") - before + weights_in_memory(model)))


def memory(kind):
    """Returns the memory that this process holds (VmRSS) or held at most (VmHWM), in MiB.

    Linux only. The peak that `resource.getrusage` tells would be that of the parent process.
    """
    status = pathlib.Path("/proc/self/status").read_text(encoding="ascii")
    [line] = [line for line in status.splitlines() if line.startswith(kind)]
    return int(line.split()[1]) / 2**10


def weights_in_memory(model):
    """Returns the MiB of a model's weights, four bytes each."""
    return 4 * model.count_params() / 2**20


if __name__ == "__main__":
    if sys.argv[1:2] == ["--memory"]:
        print_memory(*sys.argv[2:])
    else:
        main()
