"""Measures what labels are worth on the real pets and writes results/labels.json.

The U-Net of chapter 2 at 128 px, with fewer labeled pictures, and with pictures that have no label
or only the box around the head. All recipes take as many steps.
"""

import dataclasses
import functools

import keras
import numpy as np

from benchmarks.train_unet import BORDER_WEIGHTS, UNetRecipe, build
from benchmarks.training import AUGMENT, Experiment, Stage, main
from seglib.core.constants import IGNORE_LABEL
from seglib.data import pets, pipeline

PET, IGNORE = 0, IGNORE_LABEL
PICTURES = 653  # all of the subset; of a larger set the first so many, or recipes would differ


@dataclasses.dataclass(frozen=True)
class LabelRecipe(UNetRecipe):
    """How a U-Net is trained on a part of the labels.

    Args:
        labeled: the first so many training pictures have their label map.
        others: what the remaining ones have: `None` leaves them out; `"pseudo"` gives them the
            label map that a model predicts which learned from the labeled ones (the recipe in
            `teacher`); `"boxes"` calls the ellipse in the head's box pet and ignores the rest;
            `"both"` gives them the predicted label map with that ellipse in it.
        teacher: the recipe whose weights of the same seed predict.
    """

    class_weights: tuple[float, ...] | None = BORDER_WEIGHTS
    labeled: int = PICTURES
    others: str | None = None
    teacher: str | None = None

    @property
    def needs(self):
        """The teacher, too."""
        return (*super().needs, *([self.teacher] if self.teacher else []))


def stages(pictures):
    """The schedule of chapter 2 with as many steps, for so many pictures an epoch."""
    batches = [-(-count // LabelRecipe.batch_size) for count in (PICTURES, pictures)]
    factor = batches[0] / batches[1]  # a shorter epoch is repeated more often
    return (
        Stage(epochs=round(3 * factor), learning_rate=2e-3, share=0.25),
        Stage(
            epochs=round(20 * factor),
            learning_rate=6e-4,
            first="block_3_expand",
            warmup=round(factor),
        ),
    )


ALL = stages(PICTURES)
RECIPES = {
    "labels_100": LabelRecipe("100 labeled pictures", stages(100), labeled=100),
    "labels_300": LabelRecipe("300 labeled pictures", stages(300), labeled=300),
    "labels_653": LabelRecipe("653 labeled pictures", ALL),
    "pseudo_100": LabelRecipe(
        "100 labeled, 553 with predicted labels",
        ALL,
        labeled=100,
        others="pseudo",
        teacher="labels_100",
    ),
    "boxes_100": LabelRecipe(
        "100 labeled, 553 with the head's box", ALL, labeled=100, others="boxes"
    ),
    "both_100": LabelRecipe(
        "100 labeled, 553 with predicted labels and the head's box",
        ALL,
        labeled=100,
        others="both",
        teacher="labels_100",
    ),
}


@dataclasses.dataclass(frozen=True)
class Labeled:
    """The training pictures with the labels of a recipe, in the form that `pipeline.build` reads.

    Args:
        recipe: the `LabelRecipe`.
        seed: of its teacher.
    """

    recipe: LabelRecipe
    seed: int

    def read(self, size):
        """Returns uint8 `[N, H, W, 3]` and `[N, H, W]`."""
        records, count = pets.records("trainval").take(PICTURES), self.recipe.labeled
        if self.recipe.others is None:
            return pets.Source(records.take(count)).read(size)
        images, masks = pets.Source(records).read(size)
        if self.recipe.others in ("pseudo", "both"):
            masks[count:] = predict(teacher(self.recipe.teacher, self.seed, size), images[count:])
        else:
            masks[count:] = IGNORE
        if self.recipe.others in ("boxes", "both"):
            boxes = [record["head_bbox"].numpy() for record in records.skip(count)]
            for mask, box in zip(masks[count:], boxes, strict=True):
                mask[ellipse(box, *size)] = PET
        return images, masks


def teacher(name, seed, size):
    """Returns the trained model of a recipe."""
    model = build(RECIPES[name], size[0])
    model.load_weights(EXPERIMENT.weights_path(name, seed))
    return model


def predict(model, images):
    """Returns label maps: of the mean of two predictions, one of them of the mirror image."""
    found = []
    for batch in np.array_split(images, -(-len(images) // 32)):
        logits = model.predict_on_batch(batch)
        mirrored = model.predict_on_batch(batch[:, :, ::-1])[:, :, ::-1]
        found.append(np.argmax(logits + mirrored, axis=-1).astype("uint8"))
    return np.concatenate(found)


@functools.cache
def centers(height, width):
    """The relative position of each pixel's center."""
    return np.meshgrid(
        (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width, indexing="ij"
    )


def ellipse(box, height, width):
    """Returns bool `[H, W]`: the ellipse that fills a relative box (ymin, xmin, ymax, xmax).

    Nothing for a box of no area, which TFDS gives to a picture without one.
    """
    ymin, xmin, ymax, xmax = box
    if ymax <= ymin or xmax <= xmin:
        return np.zeros((height, width), bool)
    y, x = centers(height, width)
    dy = (2 * y - ymin - ymax) / (ymax - ymin)
    dx = (2 * x - xmin - xmax) / (xmax - xmin)
    return dy**2 + dx**2 <= 1


def load(recipe, stage, seed):
    """Returns the training data of a recipe."""
    keras.utils.set_random_seed(seed)  # a teacher that was built must not change what follows
    return pipeline.build(
        Labeled(recipe, seed),
        image_size=stage.image_size,
        batch_size=recipe.batch_size,
        shuffle=True,
        augment=AUGMENT[recipe.augment],
        seed=seed,
    )


EXPERIMENT = Experiment("labels", RECIPES, build, data=load)

if __name__ == "__main__":
    main(EXPERIMENT, __doc__)
