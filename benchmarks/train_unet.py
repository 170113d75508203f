"""Measures the U-Nets of chapter 2 on the real pets and writes results/unet.json.

`make results` runs it. A run that the file already holds is not run again, so a killed
measurement goes on where it was (after the last finished epoch). It needs the Oxford-IIIT Pets
(downloaded by TFDS, or TFDS_DATA_DIR) and ImageNet weights (downloaded by Keras, or
SEGLIB_WEIGHTS).
"""

import argparse
import dataclasses
import json
import os
import pathlib
import resource
import shutil
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras

from seglib import results
from seglib.callbacks import Resume
from seglib.data import augment, pets, pipeline
from seglib.losses import CrossEntropy
from seglib.metrics import MeanIoU
from seglib.metrics.confusion import iou_per_class
from seglib.models import unet

ROOT = pathlib.Path(__file__).parents[1]
NAME = "unet"
RUNS = ROOT / "runs" / NAME  # states and weights, not committed


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


AUGMENT = {"flip": augment.flip_only(), "standard": augment.standard()}

# A pixel counts as border best for the border's IoU J from a probability of J / (1 + J) on (half
# the Dice score: Lipton et al., Optimal Thresholding of Classifiers to Maximize F1 Measure, ECML
# 2014), about a third here and not a half. The odds 1.6 to 1 come near that.
BORDER_WEIGHTS = (1.0, 1.0, 1.6)

RECIPES = {
    "tutorial": Recipe(
        # Batches of 64 in the tutorial, for five times as many pictures: 16 give it as many steps
        # as the recipe below takes.
        "recipe of the TensorFlow tutorial",
        (Stage(epochs=20, learning_rate=1e-3),),
        decoder="tutorial",
        augment="flip",
        plain_adam=True,
    ),
    "unet_128": Recipe(
        "U-Net, light decoder, fine-tuned",
        (
            Stage(epochs=3, learning_rate=2e-3, share=0.25),
            Stage(epochs=20, learning_rate=6e-4, first="block_3_expand", warmup=1),
        ),
        class_weights=BORDER_WEIGHTS,
    ),
    "unet_256": Recipe(
        "the same, then at 256 px",
        (Stage(epochs=6, learning_rate=4e-4, first="block_3_expand", warmup=1, image_size=256),),
        class_weights=BORDER_WEIGHTS,
        start="unet_128",
    ),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES), choices=RECIPES)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    arguments = parser.parse_args()
    data = describe_data()
    for seed in arguments.seeds:  # all recipes of a seed in turn, so that a busy hour hits all
        for name in arguments.recipes:
            runs = finished(data)
            if not any((r["recipe"], r["seed"]) == (name, seed) for r in runs):
                runs.append(run(name, seed, runs))
                save(data, runs)


def describe_data():
    """Returns what the results file says of the data; the fingerprint covers every byte."""
    splits = {split: pets.records(split) for split in ("trainval", "test")}
    sizes = {split: int(records.cardinality()) for split, records in splits.items()}
    subset = (sizes["trainval"], sizes["test"]) != (3680, 3669)
    return {
        "name": "Oxford-IIIT Pets",
        "train": sizes["trainval"],
        "test": sizes["test"],
        "fingerprint": pipeline.fingerprint(*splits.values()),
        "note": f"{sizes['trainval']}/{sizes['test']} subset" if subset else "the full set",
    }


def finished(data):
    """Returns the runs of the results file that were made with this data and today's recipes."""
    if not results.path(NAME).exists():
        return []
    result = results.load(NAME)
    if result["data"]["fingerprint"] != data["fingerprint"]:
        raise SystemExit(
            f"results/{NAME}.json was measured on other data. Move it away to measure on yours."
        )
    return [r for r in result["runs"] if r["settings"] == settings(r["recipe"])]


def save(data, runs):
    """Writes the results file; runs stay in the order of `RECIPES`."""
    order = list(RECIPES)
    result = {
        "task": "three classes of pixels on the Oxford-IIIT Pets",
        "data": data,
        "device": results.device(),
        "versions": results.versions(),
        "commit": results.commit(),
        "runs": sorted(runs, key=lambda r: (order.index(r["recipe"]), r["seed"])),
    }
    results.save(NAME, result)


def settings(name):
    """Returns a recipe, and those it starts from, as plain JSON; `None` for an unknown name."""
    if name not in RECIPES:
        return None
    recipe = dataclasses.asdict(RECIPES[name])
    if recipe["start"]:
        recipe["start_settings"] = settings(recipe["start"])
    return json.loads(json.dumps(recipe))


def run(name, seed, runs):
    """Trains one recipe with one seed and returns its entry of the results file."""
    recipe = RECIPES[name]
    keras.utils.set_random_seed(seed)
    size = recipe.stages[0].image_size
    model = unet(
        len(pets.CLASSES),
        decoder=recipe.decoder,
        weights=os.environ.get("SEGLIB_WEIGHTS", "imagenet"),
        input_shape=(size, size, 3),  # TensorFlow plans known shapes better
    )
    wall, cpu, losses = 0.0, 0.0, []
    if recipe.start:
        model.load_weights(weights_path(recipe.start, seed))
        [before] = [r for r in runs if (r["recipe"], r["seed"]) == (recipe.start, seed)]
        wall, cpu = before["train_seconds"], before["cpu_seconds"]
        losses = before["curves"]["loss"]
    for number, stage in enumerate(recipe.stages):
        stage_losses, stage_wall, stage_cpu = fit(
            model, recipe, stage, seed, RUNS / f"{name}-{seed}-{number}"
        )
        wall, cpu = wall + stage_wall, cpu + stage_cpu
        losses = losses + [round(v, 5) for v in stage_losses]
    model.save_weights(weights_path(name, seed))
    for number in range(len(recipe.stages)):
        shutil.rmtree(RUNS / f"{name}-{seed}-{number}")
    entry = {
        "recipe": name,
        "title": recipe.title,
        "image_size": size,
        "epochs": len(losses),
        "seed": seed,
        "train_seconds": round(wall, 1),
        "cpu_seconds": round(cpu, 1),
        "parameters": model.count_params(),
        **score(model, size),
        "curves": {"loss": losses},
        "settings": settings(name),
    }
    print(f"{name}, seed {seed}: mean IoU {entry['mean_iou']:.4f} after {wall:.0f} s", flush=True)
    return entry


def weights_path(name, seed):
    """Returns where the weights of a finished run lie."""
    return RUNS / f"{name}-{seed}.weights.h5"


def fit(model, recipe, stage, seed, folder):
    """Runs one stage; returns its losses and what it took in wall and processor seconds.

    The times of a stage that was killed and resumed count from the resumption only.
    """
    train = pets.load(
        "trainval",
        image_size=stage.image_size,
        batch_size=recipe.batch_size,
        augment=AUGMENT[recipe.augment],
        seed=seed,
    )
    if stage.first is not None:
        model.unfreeze_backbone(stage.first)
    model.compile(optimizer(recipe, stage, len(train)), CrossEntropy(recipe.class_weights))
    wall, cpu = time.perf_counter(), processor_seconds()
    history = model.fit(
        train, epochs=stage.epochs, shuffle=False, verbose=0, callbacks=[Resume(folder, train)]
    )
    wall, cpu = time.perf_counter() - wall, processor_seconds() - cpu
    return history.history["loss"], wall, cpu


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


def score(model, image_size):
    """Returns the scores on the test pictures, from one confusion matrix over all of them.

    `mean_iou_mirrored` is that of the mean of two predictions: the picture's, and its mirror
    image's, mirrored back.
    """
    metric, mirrored = MeanIoU(len(pets.CLASSES)), MeanIoU(len(pets.CLASSES))
    for images, masks in pets.load("test", image_size=image_size):
        logits = model.predict_on_batch(images)
        metric.update_state(masks, logits)
        turned = model.predict_on_batch(images[:, :, ::-1])[:, :, ::-1]
        mirrored.update_state(masks, (logits + turned) / 2)
    counts = metric.counts()
    iou = iou_per_class(metric.matrix())
    return {
        "pixel_accuracy": round(float(counts.trace() / counts.sum()), 5),
        "iou": {c: round(float(v), 5) for c, v in zip(pets.CLASSES, iou, strict=True)},
        "mean_iou": round(float(metric.result()), 5),
        "mean_iou_mirrored": round(float(mirrored.result()), 5),
        "confusion": counts.tolist(),
    }


def processor_seconds():
    """Returns the processor time that this process has used, on all cores."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
