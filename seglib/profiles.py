"""The one place that reads `SEGLIB_PROFILE` and `SEGLIB_WEIGHTS`."""

import dataclasses
import os

VARIABLE = "SEGLIB_PROFILE"
WEIGHTS_VARIABLE = "SEGLIB_WEIGHTS"


@dataclasses.dataclass(frozen=True)
class Profile:
    """How much work a notebook does, and on which pictures.

    Args:
        name: `"sample"` or `"full"`.
        real_data: whether the notebooks read the Oxford-IIIT Pets through TFDS
            (`True`) or the drawn pets of `seglib.data.sample` (`False`).
        backbone: the name of the models' backbone, see `seglib.models.backbone`.
        weights: what `seglib.models.backbone` starts from: `"imagenet"`, the path of a weights
            file, or `None`.
        alpha: width multiplier of the backbone.
        decoder_filters: channels after each step of the U-Net's decoder, from coarse to fine.
        skip_filters: channels that each of its skip connections is narrowed to.
        image_size: height and width of the pictures that a model sees, in pixels.
        epochs: length of the main training run.
        fine_tune_epochs: length of the run with the backbone unfrozen.
        batch_size: pictures per step.
    """

    name: str
    real_data: bool
    backbone: str
    weights: str | None
    alpha: float
    decoder_filters: tuple[int, ...]
    skip_filters: tuple[int, ...]
    image_size: int
    epochs: int
    fine_tune_epochs: int
    batch_size: int

    @property
    def data(self):
        """The data module of this profile: `seglib.data.pets` or `seglib.data.sample`."""
        from seglib.data import pets, sample

        return pets if self.real_data else sample

    def decoder(self):
        """Returns a new `seglib.models.UNetDecoder` of this profile's width, for one U-Net."""
        from seglib.models import UNetDecoder

        return UNetDecoder(self.decoder_filters, skip_filters=self.skip_filters)


PROFILES = {
    "sample": Profile(
        name="sample",
        real_data=False,
        backbone="small",
        weights=None,
        alpha=1.0,
        decoder_filters=(80, 48, 32, 16),  # half of `UNetDecoder`'s: drawings are simpler
        skip_filters=(48, 32, 24, 12),
        image_size=128,
        epochs=14,
        fine_tune_epochs=4,
        batch_size=8,
    ),
    "full": Profile(
        name="full",
        real_data=True,
        backbone="mobilenet_v2",
        weights="imagenet",
        alpha=1.0,
        decoder_filters=(160, 96, 64, 32),  # as `UNetDecoder` itself
        skip_filters=(96, 64, 48, 24),
        image_size=128,
        epochs=12,
        fine_tune_epochs=18,
        batch_size=16,
    ),
}


def active() -> Profile:
    """Returns the profile that the environment variable `SEGLIB_PROFILE` names.

    In the `full` profile `SEGLIB_WEIGHTS` may name a local weights file, for machines that cannot
    download the ImageNet weights.

    Returns:
        The `Profile`; `"sample"` when the variable is unset or empty.

    Raises:
        ValueError: if the variable names no profile.
    """
    name = os.environ.get(VARIABLE) or "sample"
    if name not in PROFILES:
        raise ValueError(
            f"{VARIABLE} is {name!r}, expected one of {', '.join(map(repr, PROFILES))}. "
            "Unset it for the drawn pets, or set it to 'full' for the real ones."
        )
    profile = PROFILES[name]
    weights = os.environ.get(WEIGHTS_VARIABLE)
    if weights and profile.weights is not None:
        profile = dataclasses.replace(profile, weights=weights)
    return profile
