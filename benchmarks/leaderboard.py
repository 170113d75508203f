"""Puts the finished models of all experiments into one table: results/leaderboard.json.

The scripts `train_*.py` leave the weights of each run in runs/. This one scores them picture by
picture, so that the scores have intervals, and measures what each model costs: multiply-adds, the
time of a prediction, the memory it takes. All are scored on label maps of one size, without which
their outlines would not compare: the logits of a smaller model are enlarged. A model whose
score at its own size differs from the one in the experiment's own file is left out, and said so. An
entry that is there already and of today's settings is not scored again, but with `--again`; it
stays, too, if the weights are not in runs/, where a fresh clone has none. The times of all
models are measured anew whenever one is: interleaved, or a busy minute of the machine would count
for some of them only. `--costs` measures them again in any case.
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

from benchmarks import train_deeplab, train_fcn, train_unet
from benchmarks.timing import medians
from benchmarks.training import ROOT, describe_data, finished
from measured import machine, store
from seglib.data import pets
from seglib.metrics import MeanIoU, report
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
SIZE = 256  # of the label maps that all models are scored on
BATCHES = (1, 8)
ROUNDS = 15
SAME = 2e-4  # of the mean IoU: both are rounded, and sums of floats depend on the batches


def main():
    tf.get_logger().setLevel("ERROR")  # each model is a function of its own, so each is traced
    store.check_clean(machine.commit())
    data = describe_data()
    before = store.measured_here("leaderboard", data)
    known = {key_of(run["experiment"], run): run for run in before["runs"]} if before else {}
    runs = []
    for experiment, trained, title in finished_runs(data):
        run = known.get(key_of(experiment.name, trained))
        if "--again" in sys.argv or run is None or run["settings"] != trained["settings"]:
            model = trained_model(experiment, trained)
            run = score(experiment, trained, model) if model else run
        if run is not None:
            runs.append({**run, "title": title})
    if runs and ("--costs" in sys.argv or any("milliseconds" not in run for run in runs)):
        measure_costs(runs)
    if runs and (before is None or before["runs"] != runs):
        what = {"kind": "leaderboard", "task": "three classes of pixels on the Oxford-IIIT Pets"}
        store.add("leaderboard", {**what, "data": data, **machine.stamp(), "runs": runs})


def key_of(experiment, run):
    return experiment, run["recipe"], run["seed"]


def finished_runs(data):
    """Yields the experiment, the entry and the title of each run of the table's models."""
    for module, titles in MODELS.items():
        for run in finished(module.EXPERIMENT, data):
            if run["recipe"] in titles:
                yield module.EXPERIMENT, run, titles[run["recipe"]]


def trained_model(experiment, trained):
    """Returns the model of a finished run; `None`, and says why, if its weights are not here."""
    path = experiment.weights_path(trained["recipe"], trained["seed"])
    if not path.exists():
        print(f"{path.relative_to(ROOT)} is missing: it is not scored anew", flush=True)
        return None
    model = experiment.build(experiment.recipes[trained["recipe"]], trained["image_size"])
    model.load_weights(path)
    mean = own_mean_iou(model, trained["image_size"])
    if abs(mean - trained["mean_iou"]) > SAME:
        print(
            f"{path.relative_to(ROOT)} scores a mean IoU of {mean:.4f}, but "
            f"results/{experiment.name}.json says {trained['mean_iou']:.4f}: they are not of the "
            "same training, and it is not scored",
            flush=True,
        )
        return None
    return model


def own_mean_iou(model, size):
    """Returns the mean IoU on label maps of the model's own size."""
    metric = MeanIoU(len(pets.CLASSES))
    for images, masks in pets.load("test", image_size=size):
        metric.update_state(masks, model.predict_on_batch(images))
    return float(metric.result())


def enlarged(model):
    """Returns a model whose logits have the size of the label maps that all are scored on."""
    if model.output_shape[1:3] == (SIZE, SIZE):
        return model
    image = keras.Input(model.input_shape[1:])
    resized = keras.layers.Resizing(SIZE, SIZE, interpolation="bilinear")(model(image))
    return keras.Model(image, resized)


def scored_batches(size):
    """Returns the test pictures at a model's size, with the label maps that all are scored on."""
    pictures = pets.load("test", image_size=size).map(lambda image, mask: image)
    masks = pets.load("test", image_size=SIZE).map(lambda image, mask: mask)
    return tf.data.Dataset.zip(pictures, masks)


def score(experiment, trained, model):
    """Returns the entry of one finished run."""
    name, seed, size = trained["recipe"], trained["seed"], trained["image_size"]
    found = report(enlarged(model), scored_batches(size), classes=pets.CLASSES)
    mean = found.scores["iou"]["mean"].value
    print(f"{name}, seed {seed}: {found.scores['iou']['mean']}", flush=True)
    kept = ("recipe", "image_size", "seed", "epochs", "train_seconds", "cpu_seconds")
    return {
        "experiment": experiment.name,
        **{key: trained[key] for key in (*kept, "parameters")},
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
    command = [sys.executable, "-m", "benchmarks.leaderboard", "--memory", experiment, recipe]
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
