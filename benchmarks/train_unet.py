"""Measures the U-Nets of chapter 2 on the real pets and writes results/unet.json."""

import dataclasses

from benchmarks.training import Experiment, Recipe, Stage, main, weights
from seglib.data import pets
from seglib.models import unet

# A pixel counts as border best for the border's IoU J from a probability of J / (1 + J) on (half
# the Dice score: Lipton et al., Optimal Thresholding of Classifiers to Maximize F1 Measure, ECML
# 2014), about a third here and not a half. The odds 1.6 to 1 come near that.
BORDER_WEIGHTS = (1.0, 1.0, 1.6)


@dataclasses.dataclass(frozen=True)
class UNetRecipe(Recipe):
    """How one U-Net is built and trained.

    Args:
        alpha: width multiplier of MobileNetV2; its weights are those that SEGLIB_WEIGHTS names.
    """

    alpha: float = 1.0


TUTORIAL = UNetRecipe(
    # Batches of 64 in the tutorial, for five times as many pictures: 16 give it as many steps as
    # the recipe below takes.
    "recipe of the TensorFlow tutorial",
    (Stage(epochs=20, learning_rate=1e-3),),
    decoder="tutorial",
    augment="flip",
    plain_adam=True,
)
HEAD_ALONE = Stage(epochs=3, learning_rate=2e-3, share=0.25)
FINE_TUNING = Stage(epochs=20, learning_rate=6e-4, first="block_3_expand", warmup=1)
UNET = UNetRecipe(
    "U-Net, light decoder, fine-tuned",
    (HEAD_ALONE, FINE_TUNING),
    class_weights=BORDER_WEIGHTS,
)
# What one change does to the U-Net or to the tutorial's recipe.
CHANGED = {
    "tutorial_light": dataclasses.replace(
        TUTORIAL, title="recipe of the tutorial, light decoder", decoder="light"
    ),
    "unet_frozen": dataclasses.replace(
        UNET,
        title="U-Net, backbone frozen throughout",
        stages=(HEAD_ALONE, dataclasses.replace(FINE_TUNING, first=None)),
    ),
    "unet_flip": dataclasses.replace(UNET, title="U-Net, pictures flipped only", augment="flip"),
    "unet_plain": dataclasses.replace(UNET, title="U-Net, no augmentation", augment="none"),
    "unet_bfloat16": dataclasses.replace(
        UNET, title="U-Net, computed in bfloat16", policy="mixed_bfloat16"
    ),
    "unet_narrow": dataclasses.replace(
        UNET, title="U-Net, a third of the backbone's width", alpha=0.35
    ),
}
RECIPES = {
    "tutorial": TUTORIAL,
    "unet_128": UNET,
    "unet_256": UNetRecipe(
        "the same, then at 256 px",
        (Stage(epochs=6, learning_rate=4e-4, first="block_3_expand", warmup=1, image_size=256),),
        class_weights=BORDER_WEIGHTS,
        start="unet_128",
    ),
    "unet_256_long": UNetRecipe(
        "the same, longer and with Lovász-softmax",
        (Stage(epochs=18, learning_rate=6e-4, first="block_1_expand", warmup=1, image_size=256),),
        lovasz=1.0,
        start="unet_128",
    ),
    "unet_256_last": UNetRecipe(
        "the same, last without zoom, two copies averaged",
        (Stage(epochs=3, learning_rate=2.5e-4, first="block_1_expand", image_size=256),),
        augment="flip and color",
        class_weights=BORDER_WEIGHTS,
        start="unet_256_long",
        lovasz=1.0,
        copies=2,
    ),
    **CHANGED,
}


def build(recipe, size):
    return unet(
        len(pets.CLASSES),
        backbone="mobilenet_v2",
        decoder=recipe.decoder,
        alpha=recipe.alpha,
        weights=weights(),
        input_shape=(size, size, 3),  # TensorFlow plans known shapes better
    )


EXPERIMENT = Experiment("unet", RECIPES, build)

if __name__ == "__main__":
    main(EXPERIMENT, __doc__)
