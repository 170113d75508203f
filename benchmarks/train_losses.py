"""Trains one small U-Net with each loss under the same budget and writes results/losses.json."""

import dataclasses

from benchmarks.training import Experiment, Recipe, Stage, main, weights
from seglib import losses, metrics
from seglib.data import pets
from seglib.models import unet

# By the name of the row. What a loss cannot do alone stands in a sum, as in its paper.
LOSSES = {
    "cross-entropy": losses.CrossEntropy(),
    "cross-entropy, border 3 times": losses.CrossEntropy((1.0, 1.0, 3.0)),
    "balanced cross-entropy": losses.BalancedCrossEntropy(),
    "focal": losses.Focal(),
    "top k": losses.TopK(),
    "IoU-balanced": losses.IoUBalanced(),
    "distance-penalized": losses.DistancePenalized(),
    "Dice": losses.Dice(),
    "Jaccard": losses.Jaccard(),
    "Tversky 0.3, 0.7": losses.Tversky(alpha=0.3, beta=0.7),
    "focal Tversky 0.3, 0.7": losses.FocalTversky(alpha=0.3, beta=0.7),
    "sensitivity-specificity": losses.SensitivitySpecificity(),
    "log-cosh Dice": losses.LogCoshDice(),
    "Lovász-softmax": losses.LovaszSoftmax(),
    "Combo": losses.Combo(),
    "exp-log": losses.ExpLog(),
    "shape-aware": losses.ShapeAware(),
    "cross-entropy + Dice": losses.CrossEntropy() + losses.Dice(),
    "cross-entropy + Lovász": losses.CrossEntropy() + losses.LovaszSoftmax(),
    "cross-entropy + 0.1 boundary": losses.CrossEntropy() + 0.1 * losses.Boundary(),
    "Dice + 0.1 boundary": losses.Dice() + 0.1 * losses.Boundary(),
    "cross-entropy + 0.01 Hausdorff": losses.CrossEntropy() + 0.01 * losses.Hausdorff(),
}


@dataclasses.dataclass(frozen=True)
class LossRecipe(Recipe):
    """A recipe whose loss is one of `LOSSES`; its settings are kept with the results."""

    loss: dict = dataclasses.field(default_factory=dict)


RECIPES = {
    name: LossRecipe(
        name,
        (Stage(epochs=8, learning_rate=2e-3, image_size=96, warmup=1),),
        augment="flip",
        loss=loss.get_config(),
    )
    for name, loss in LOSSES.items()
}


def build(recipe, size):
    """A frozen encoder, so that what differs is what the decoder makes of the loss."""
    options = {"weights": weights(), "input_shape": (size, size, 3)}
    return unet(len(pets.CLASSES), backbone="mobilenet_v2", **options)


def more_metrics():
    return [metrics.BoundaryF1(len(pets.CLASSES)), metrics.BoundaryIoU(len(pets.CLASSES))]


EXPERIMENT = Experiment(
    "losses",
    RECIPES,
    build,
    loss=lambda recipe: LOSSES[recipe.title],
    metrics=more_metrics,
    keep_weights=False,
)

if __name__ == "__main__":
    main(EXPERIMENT, __doc__)
