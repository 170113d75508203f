"""Trains recipes on the real pets and writes what they score to results/*.json.

The scripts `train_*.py` each describe one experiment in these terms and hand it to `main`. A run
that the file already holds is not run again, so a killed measurement goes on where it was (after
the last finished epoch). A run of another recipe does not count; one of other code stays, and its
commit says which: take it out of the file to train it again. Runs on other data or
on a GPU stand beside those that the file holds and get rows of their own in the same tables.

It needs the Oxford-IIIT Pets (downloaded by TFDS, or TFDS_DATA_DIR) and ImageNet weights
(downloaded by Keras, or SEGLIB_WEIGHTS).
"""

import argparse
import dataclasses
import json
import os
import pathlib
import resource
import shutil
import time
from collections.abc import Callable, Mapping

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

from measured import machine, store
from seglib.callbacks import Resume
from seglib.core.precision import dtype_policy
from seglib.data import augment, pets
from seglib.losses import CrossEntropy, LovaszSoftmax
from seglib.metrics import MeanIoU

ROOT = pathlib.Path(__file__).parents[1]


@dataclasses.dataclass(frozen=True)
class Stage:
    """One call of `fit`.

    Args:
        epochs: how many.
        learning_rate: the highest rate; it falls to 1% on a cosine.
        first: the first trainable layer of the backbone, or `None` for a frozen one.
        image_size: in pixels.
        warmup: epochs over which the rate rises.
        share: share of the cosine that is run through, below 1 for a stage that others follow.
    """

    epochs: int
    learning_rate: float
    first: str | None = None
    image_size: int = 128
    warmup: int = 0
    share: float = 1.0


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How one model is built and trained.

    Args:
        title: what the tables call it.
        stages: what is done in turn.
        decoder: see `seglib.models.unet`.
        augment: a name in `AUGMENT`.
        batch_size: pictures per step.
        class_weights: for `CrossEntropy`.
        plain_adam: Adam at a constant rate, as in the tutorial, in place of AdamW on a cosine.
        weight_decay: of AdamW.
        start: a recipe of the same seed whose weights this one starts from; its epochs and its
            time are added.
        lovasz: weight of Lovász-softmax, which is an IoU, beside the cross-entropy.
        copies: how often the stages run, each time from the same start, with the pictures in
            another order and changed in other ways; the weights are averaged (Wortsman et al.:
            Model soups, ICML 2022).
        policy: Keras's dtype policy: `"mixed_bfloat16"` computes in 16 bits, which is quicker on
            processors with instructions for it (AVX-512 BF16, AMX) and many times slower on others.
    """

    title: str
    stages: tuple[Stage, ...]
    decoder: str = "light"
    augment: str = "standard"
    batch_size: int = 16
    class_weights: tuple[float, ...] | None = None
    plain_adam: bool = False
    weight_decay: float = 0.01
    start: str | None = None
    lovasz: float = 0.0
    copies: int = 1
    policy: str = "float32"

    @property
    def needs(self):
        """The recipes whose weights of the same seed this one reads."""
        return (self.start,) if self.start else ()


def essential(settings, recipes):
    """Returns settings without the fields, at any depth, that stand at their defaults.

    A run that was made before there was such a field is taken to have its default.

    Args:
        settings: of a run, plain JSON.
        recipes: of its experiment, by name; their class has the defaults.
    """
    kinds = {Stage, *map(type, recipes.values())}
    fields = [field for kind in kinds for field in dataclasses.fields(kind)]
    return without({f.name: f.default for f in fields}, settings)


def without(defaults, settings):
    """Returns settings without the fields, at any depth, whose values are these."""
    if isinstance(settings, list):
        return [without(defaults, each) for each in settings]
    if not isinstance(settings, dict):
        return settings
    kept = {k: v for k, v in settings.items() if k not in defaults or v != defaults[k]}
    return {k: without(defaults, v) for k, v in kept.items()}


AUGMENT = {
    "none": None,
    "flip": augment.flip_only(),
    "standard": augment.standard(),
    # The models are tested on pictures that nothing resampled, zoomed or turned.
    "flip and color": dataclasses.replace(
        augment.standard(), scale=(1.0, 1.0), stretch=1.0, rotation=0.0
    ),
}


def all_pictures(recipe, stage, seed):
    """Returns the training pictures of a stage with their labels."""
    return pets.load(
        "trainval",
        image_size=stage.image_size,
        batch_size=recipe.batch_size,
        augment=AUGMENT[recipe.augment],
        seed=seed,
    )


def cross_entropy(recipe):
    """Returns the loss of a recipe."""
    entropy = CrossEntropy(recipe.class_weights)
    return entropy + recipe.lovasz * LovaszSoftmax() if recipe.lovasz else entropy


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Recipes that are measured together and share a file of results.

    Args:
        name: of the file, without `.json`.
        recipes: what is trained, by name; a recipe stands after the one that it starts from.
        build: makes the model of a recipe for pictures of a size.
        loss: makes the loss of a recipe.
        data: makes the training data of a recipe, a stage and a seed.
        metrics: further metrics, made anew for each run; their results stand under their names.
        sharpened: makes, of a trained model, its recipe and the pictures' size, further models by
            name. The mean IoU, border IoU and `metrics` of each stand under `sharpened`.
        score: scores a trained model of a recipe and a size in another way than by its mean IoU,
            `metrics` and `sharpened`; the first number is printed.
        task: what the file says was to be done.
        kind: which table renders its results; see `measured.tables`.
        keep_weights: whether the weights of a finished run are kept in `runs/`.
    """

    name: str
    recipes: Mapping[str, Recipe]
    build: Callable[[Recipe, int], keras.Model]
    loss: Callable[[Recipe], keras.losses.Loss] = cross_entropy
    data: Callable[[Recipe, Stage, int], tf.data.Dataset] = all_pictures
    metrics: Callable[[], list[keras.metrics.Metric]] = list
    sharpened: Callable[[keras.Model, Recipe, int], Mapping[str, keras.Model]] | None = None
    score: Callable[[keras.Model, Recipe, int], dict] | None = None
    kind: str = "scores"
    task: str = "three classes of pixels on the Oxford-IIIT Pets"
    keep_weights: bool = True

    def weights_path(self, name, seed):
        """Returns where the weights of a finished run lie."""
        return self.folder / f"{name}-{seed}.weights.h5"

    @property
    def folder(self):
        """States and weights, not committed."""
        return ROOT / "runs" / self.name

    def settings(self, name):
        """Returns a recipe, and those it starts from, as plain JSON; `None` if it is unknown."""
        if name not in self.recipes:
            return None
        recipe = dataclasses.asdict(self.recipes[name])
        if recipe["start"]:
            recipe["start_settings"] = self.settings(recipe["start"])
        return json.loads(json.dumps(recipe))


def weights():
    """Returns the pretrained weights that the environment names, or ImageNet's from Keras."""
    return os.environ.get("SEGLIB_WEIGHTS", "imagenet")


def main(experiment, description):
    """Runs what is missing of an experiment, as the command line asks."""
    parser = argparse.ArgumentParser(description=description)
    recipes = list(experiment.recipes)
    parser.add_argument("--recipes", nargs="+", default=recipes, choices=recipes)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    arguments = parser.parse_args()
    store.check_clean(machine.commit())
    data = describe_data()
    for seed in arguments.seeds:  # all recipes of a seed in turn, so that a busy hour hits all
        for name in arguments.recipes:
            runs = finished(experiment, data)
            if not any((r["recipe"], r["seed"]) == (name, seed) for r in runs):
                train(experiment, name, seed, data)


def train(experiment, name, seed, data):
    """Runs one recipe with one seed, after those that it needs, and writes it down.

    The repository holds results, but no weights: in a fresh clone what it needs is trained again.
    """
    for needed in experiment.recipes[name].needs:
        known = [(r["recipe"], r["seed"]) for r in finished(experiment, data)]
        weights_are_here = experiment.weights_path(needed, seed).exists()
        if (needed, seed) not in known or not weights_are_here:
            train(experiment, needed, seed, data)
    runs = [r for r in finished(experiment, data) if (r["recipe"], r["seed"]) != (name, seed)]
    save(experiment, data, [*runs, run(experiment, name, seed, runs, data)])


def describe_data():
    """Returns what the results file says of the data; the fingerprint covers every byte."""
    splits = {split: pets.records(split) for split in ("trainval", "test")}
    sizes = {split: int(records.cardinality()) for split, records in splits.items()}
    subset = (sizes["trainval"], sizes["test"]) != (3680, 3669)
    return {
        "name": "Oxford-IIIT Pets",
        "train": sizes["trainval"],
        "test": sizes["test"],
        "fingerprint": pets.fingerprint(*splits.values()),
        "note": f"{sizes['trainval']}/{sizes['test']} subset" if subset else "the full set",
    }


def finished(experiment, data):
    """Returns the file's runs with these data, this kind of machine and today's recipes."""
    measurement = store.measured_here(experiment.name, data)
    return [
        run for run in (measurement["runs"] if measurement else []) if same_recipe(experiment, run)
    ]


def same_recipe(experiment, run):
    """Says whether a run was made with the recipe that the experiment has today."""
    today = experiment.settings(run["recipe"])
    made, wanted = (essential(each, experiment.recipes) for each in (run["settings"], today))
    return made == wanted


def save(experiment, data, runs):
    """Writes the results file; runs stay in the order of the recipes."""
    order = list(experiment.recipes)
    measurement = {
        "kind": experiment.kind,
        "task": getattr(experiment, "task", Experiment.task),
        "data": data,
        **machine.stamp(),
        "runs": sorted(runs, key=lambda r: (order.index(r["recipe"]), r["seed"])),
    }
    store.add(experiment.name, measurement)


def run(experiment, name, seed, runs, data):
    """Trains one recipe with one seed and returns its entry of the results file.

    Args:
        experiment: the `Experiment`.
        name: of the recipe.
        seed: of the weights, the order of the pictures and their augmentation.
        runs: the finished runs, among them the one that this one starts from.
        data: what `describe_data` returns; a state of other data is not resumed.
    """
    recipe = experiment.recipes[name]
    keras.utils.set_random_seed(seed)
    size = recipe.stages[0].image_size
    with dtype_policy(recipe.policy):
        model = experiment.build(recipe, size)
    wall, cpu, losses = 0.0, 0.0, []
    if recipe.start:
        model.load_weights(experiment.weights_path(recipe.start, seed))
        [before] = [r for r in runs if (r["recipe"], r["seed"]) == (recipe.start, seed)]
        wall, cpu = before["train_seconds"], before["cpu_seconds"]
        losses = before["curves"]["loss"]
    states, trained, start = [], [], model.get_weights()
    for copy in range(recipe.copies):
        model.set_weights(start)
        for stage in recipe.stages:
            state = f"{name}-{seed}-{data['fingerprint'][:8]}-{len(states)}"
            states.append(experiment.folder / state)
            loss = experiment.loss(recipe)
            batches = experiment.data(recipe, stage, seed + 1000 * copy)
            found = fit(model, loss, recipe, stage, batches, states[-1])
            stage_losses, stage_wall, stage_cpu = found
            wall, cpu = wall + stage_wall, cpu + stage_cpu
            losses = losses + [round(v, 5) for v in stage_losses]
        trained.append(model.get_weights())
    model.set_weights([np.mean(same, axis=0) for same in zip(*trained, strict=True)])
    if experiment.keep_weights:
        model.save_weights(experiment.weights_path(name, seed))
    if experiment.score is None:
        found = score(model, size, experiment.metrics())
        found |= score_sharpened(experiment, model, recipe, size)
    else:
        found = experiment.score(model, recipe, size)
    for folder in states:  # not before: a run that is killed while it is scored goes on from them
        shutil.rmtree(folder)
    entry = {
        "recipe": name,
        "title": recipe.title,
        "image_size": size,
        "epochs": len(losses),
        "seed": seed,
        "train_seconds": round(wall, 1),
        "cpu_seconds": round(cpu, 1),
        "parameters": model.count_params(),
        **found,
        "curves": {"loss": losses},
        "settings": experiment.settings(name),
        **machine.stamp(),
    }
    headline = "mean_iou" if experiment.score is None else next(iter(found))
    what = headline.replace("_", " ")
    print(f"{name}, seed {seed}: {what} {found[headline]:.4f} after {wall:.0f} s", flush=True)
    return entry


def fit(model, loss, recipe, stage, train, folder):
    """Runs one stage; returns its losses and what it took in wall and processor seconds."""
    if stage.first is not None:
        model.unfreeze_backbone(stage.first)
    model.compile(optimizer(recipe, stage, len(train)), loss)
    clock = Clock(folder / "seconds.json")
    history = model.fit(
        train,
        epochs=stage.epochs,
        shuffle=False,
        verbose=0,
        callbacks=[Resume(folder, train), clock],
    )
    return history.history["loss"], *clock.seconds


class Clock(keras.callbacks.Callback):
    """Measures a stage in wall and processor seconds, those before a resumption included.

    Args:
        path: the file that holds them after each finished epoch.
    """

    def __init__(self, path):
        super().__init__()
        self.path = path
        self.seconds = json.loads(path.read_text()) if path.exists() else [0.0, 0.0]

    def on_train_begin(self, logs=None):
        self.last = time.perf_counter(), processor_seconds()

    def on_epoch_end(self, epoch, logs=None):
        now = time.perf_counter(), processor_seconds()
        self.seconds = [
            total + new - old for total, new, old in zip(self.seconds, now, self.last, strict=True)
        ]
        self.last = now
        partial = self.path.with_suffix(".partial")  # a kill leaves the old file or the new one
        partial.write_text(json.dumps(self.seconds))
        os.replace(partial, self.path)


def optimizer(recipe, stage, steps):
    """Returns Adam as in the tutorial, or AdamW on a cosine."""
    if recipe.plain_adam:
        return keras.optimizers.Adam(stage.learning_rate)
    warmup = stage.warmup * steps
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup else stage.learning_rate,
        decay_steps=int((stage.epochs * steps - warmup) / stage.share),
        alpha=0.01,
        warmup_target=stage.learning_rate if warmup else None,
        warmup_steps=warmup,
    )
    return keras.optimizers.AdamW(schedule, weight_decay=recipe.weight_decay)


def score(model, image_size, more=()):
    """Returns the scores on the test pictures, from one confusion matrix over all of them.

    `mean_iou_mirrored` is that of the mean of two predictions: the picture's, and its mirror
    image's, mirrored back. The other metrics see the picture's alone.
    """
    metric, mirrored = MeanIoU(len(pets.CLASSES)), MeanIoU(len(pets.CLASSES))
    for images, masks in pets.load("test", image_size=image_size):
        logits = model.predict_on_batch(images)
        for one in (metric, *more):
            one.update_state(masks, logits)
        turned = model.predict_on_batch(images[:, :, ::-1])[:, :, ::-1]
        mirrored.update_state(masks, (logits + turned) / 2)
    counts = metric.counts()
    iou = metric.per_class()
    return {
        "pixel_accuracy": round(float(counts.trace() / counts.sum()), 5),
        "iou": {c: round(float(v), 5) for c, v in zip(pets.CLASSES, iou, strict=True)},
        "mean_iou": round(float(metric.result()), 5),
        "mean_iou_mirrored": round(float(mirrored.result()), 5),
        **{one.name: round(float(one.result()), 5) for one in more},
        "confusion": counts.tolist(),
    }


def score_sharpened(experiment, model, recipe, size):
    """Returns what the further models of an experiment score, by name, under `sharpened`."""
    if experiment.sharpened is None:
        return {}
    found = {}
    for name, sharper in experiment.sharpened(model, recipe, size).items():
        metrics = [MeanIoU(len(pets.CLASSES)), *experiment.metrics()]
        cpu = processor_seconds()
        for images, masks in pets.load("test", image_size=size, batch_size=8):
            logits = sharper.predict_on_batch(images)
            for metric in metrics:
                metric.update_state(masks, logits)
        iou = metrics[0].per_class()
        found[name] = {
            "iou": {c: round(float(v), 5) for c, v in zip(pets.CLASSES, iou, strict=True)},
            **{metric.name: round(float(metric.result()), 5) for metric in metrics},
            "cpu_seconds": round(processor_seconds() - cpu, 1),
        }
    return {"sharpened": found}


def processor_seconds():
    """Returns the processor time that this process has used, on all cores."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
