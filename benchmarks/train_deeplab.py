"""Measures DeepLabV3+ of chapter 4 on the real pets and writes results/deeplabv3plus.json."""

import dataclasses
import functools

import keras

from benchmarks.training import Experiment, Recipe, Stage, main, weights
from seglib.data import pets
from seglib.inference import WindowedCRF, test_time_average
from seglib.metrics import BoundaryF1, BoundaryIoU
from seglib.models import deeplab_v3_plus, jpu

# As for the U-Net: the odds at which a pixel counts as border.
BORDER_WEIGHTS = (1.0, 1.0, 1.6)


@dataclasses.dataclass(frozen=True)
class DeepLabRecipe(Recipe):
    """How one DeepLabV3+ is built and trained.

    Args:
        output_stride: of the backbone; see `seglib.models.deeplab_v3_plus`.
        rates: of the pyramid pooling. The published (6, 12, 18) at stride 16 are for pictures of
            513 px. A third of them leaves no tap without data on the 8 x 8 cells of 128 px, where
            the training starts.
        filters: channels of pyramid pooling and decoder.
        low_level: the level with the detail.
        jpu: channels of a joint pyramid upsampling to stride 8, or 0 for none.
        dropout: share of the values dropped after the pyramid pooling.
        separable: whether the convolutions of pyramid pooling and decoder are separable.
    """

    decoder: str = "deeplabv3plus"
    class_weights: tuple[float, ...] | None = BORDER_WEIGHTS
    output_stride: int = 16
    rates: tuple[int, ...] = (2, 4, 6)
    filters: int = 128
    low_level: str | None = "P2"
    jpu: int = 0
    dropout: float = 0.1
    separable: bool = True


STAGES = (
    Stage(epochs=3, learning_rate=2e-3, share=0.25),
    Stage(epochs=20, learning_rate=6e-4, first="block_3_expand", warmup=1),
)
LARGER = (Stage(epochs=6, learning_rate=4e-4, first="block_3_expand", warmup=1, image_size=256),)
RECIPES = {
    "deeplab_128": DeepLabRecipe("DeepLabV3+, output stride 16", STAGES),
    "deeplab_256": DeepLabRecipe("the same, then at 256 px", LARGER, start="deeplab_128"),
    "fine_128": DeepLabRecipe("detail from P1", STAGES, low_level="P1"),
    "fine_256": DeepLabRecipe(
        "detail from P1, then at 256 px", LARGER, low_level="P1", start="fine_128"
    ),
    "no_low_level_128": DeepLabRecipe("no detail (DeepLabV3)", STAGES, low_level=None),
    "stride_32_128": DeepLabRecipe("output stride 32", STAGES, output_stride=32, rates=(1, 2, 3)),
    "stride_8_128": DeepLabRecipe("output stride 8", STAGES, output_stride=8, rates=(4, 8, 12)),
    "jpu_128": DeepLabRecipe(
        "output stride 8 by joint pyramid upsampling",
        STAGES,
        output_stride=32,
        rates=(4, 8, 12),
        jpu=96,
    ),
    "whole_128": DeepLabRecipe("whole convolutions, not separable", STAGES, separable=False),
    "bfloat16_128": DeepLabRecipe("computed in bfloat16", STAGES, policy="mixed_bfloat16"),
}


def build(recipe, size):
    return deeplab_v3_plus(
        len(pets.CLASSES),
        backbone="mobilenet_v2",
        weights=weights(),
        output_stride=recipe.output_stride,
        pyramid=functools.partial(jpu, filters=recipe.jpu) if recipe.jpu else None,
        rates=recipe.rates,
        filters=recipe.filters,
        low_level=recipe.low_level,
        dropout=recipe.dropout,
        separable=recipe.separable,
        input_shape=(size, size, 3),  # TensorFlow plans known shapes better
    )


def more_metrics():
    return [BoundaryF1(len(pets.CLASSES)), BoundaryIoU(len(pets.CLASSES))]


def sharpened(model, recipe, size):
    """Several scales, the CRF, and the CRF after several scales."""
    any_size = build(recipe, None)
    any_size.set_weights(model.get_weights())
    scales = test_time_average(any_size, (0.75, 1, 1.25), input_shape=(size, size, 3))
    return {
        "several scales and mirror image": scales,
        "CRF": keras.Model(model.input, WindowedCRF()([model.input, model.output])),
        "several scales, mirror image and CRF": keras.Model(
            scales.input, WindowedCRF()([scales.input, scales.output])
        ),
    }


EXPERIMENT = Experiment("deeplabv3plus", RECIPES, build, metrics=more_metrics, sharpened=sharpened)

if __name__ == "__main__":
    main(EXPERIMENT, __doc__)
