"""Measures the FCNs of chapter 3 on the real pets and writes results/fcn8.json."""

import dataclasses

from benchmarks.training import Experiment, Recipe, Stage, main, weights
from seglib.data import pets
from seglib.models import fcn

# As for the U-Net: the odds at which a pixel counts as border.
BORDER_WEIGHTS = (1.0, 1.0, 1.6)


@dataclasses.dataclass(frozen=True)
class FCNRecipe(Recipe):
    """How one FCN is built and trained.

    Args:
        stride: of the scores; see `seglib.models.fcn`.
        backbone: see `seglib.models.backbone`.
        head_kernel: size of the head's first convolution. MobileNetV2's last blocks already see
            the whole picture: a kernel of 3 will do, with a fifth of the weights of one of 7.
        head_width: channels of the head.
        dropout: share of them dropped in training.
    """

    decoder: str = "fcn"
    class_weights: tuple[float, ...] | None = BORDER_WEIGHTS
    stride: int = 8
    backbone: str = "mobilenet_v2"
    head_kernel: int = 3
    head_width: int = 256
    dropout: float = 0.2


STAGES = (
    Stage(epochs=3, learning_rate=2e-3, share=0.25),
    Stage(epochs=20, learning_rate=6e-4, first="block_3_expand", warmup=1),
)
RECIPES = {
    "fcn32_128": FCNRecipe("FCN-32, no skip", STAGES, stride=32),
    "fcn16_128": FCNRecipe("FCN-16, one skip", STAGES, stride=16),
    "fcn8_128": FCNRecipe("FCN-8, two skips", STAGES),
    "fcn8_224": FCNRecipe(
        "the same, then at 224 px",
        (Stage(epochs=8, learning_rate=4e-4, first="block_3_expand", warmup=1, image_size=224),),
        start="fcn8_128",
    ),
    "fcn8_wide_128": FCNRecipe(
        "FCN-8, head as published (7x7, 4096)", STAGES, head_kernel=7, head_width=4096
    ),
    "fcn8_bfloat16": FCNRecipe("FCN-8, computed in bfloat16", STAGES, policy="mixed_bfloat16"),
}


def build(recipe, size):
    return fcn(
        len(pets.CLASSES),
        stride=recipe.stride,
        backbone=recipe.backbone,
        weights=weights(),
        filters=recipe.head_width,
        kernel_size=recipe.head_kernel,
        dropout=recipe.dropout,
        input_shape=(size, size, 3),  # TensorFlow plans known shapes better
    )


EXPERIMENT = Experiment("fcn8", RECIPES, build)

if __name__ == "__main__":
    main(EXPERIMENT, __doc__)
