"""Measures the U-Nets of chapter 2 on the real pets and writes results/unet.json."""

from training import Experiment, Recipe, Stage, main, weights

from seglib.data import pets
from seglib.models import unet

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
    "unet_256_long": Recipe(
        "the same, longer and with Lovász-softmax",
        (Stage(epochs=18, learning_rate=6e-4, first="block_1_expand", warmup=1, image_size=256),),
        lovasz=1.0,
        start="unet_128",
    ),
    "unet_256_last": Recipe(
        "the same, last without zoom, two copies averaged",
        (Stage(epochs=3, learning_rate=2.5e-4, first="block_1_expand", image_size=256),),
        augment="flip and color",
        class_weights=BORDER_WEIGHTS,
        start="unet_256_long",
        lovasz=1.0,
        copies=2,
    ),
}


def build(recipe, size):
    return unet(
        len(pets.CLASSES),
        decoder=recipe.decoder,
        weights=weights(),
        input_shape=(size, size, 3),  # TensorFlow plans known shapes better
    )


EXPERIMENT = Experiment("unet", RECIPES, build)

if __name__ == "__main__":
    main(EXPERIMENT, __doc__)
