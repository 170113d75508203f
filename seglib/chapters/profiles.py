"""The one place that reads `SEGLIB_PROFILE`."""

import dataclasses
import os

VARIABLE = "SEGLIB_PROFILE"


@dataclasses.dataclass(frozen=True)
class Profile:
    """How much work a notebook does, and on which pictures.

    Both profiles train on the models' default backbone with its ImageNet weights.

    Args:
        name: `"sample"` or `"full"`.
        real_data: whether the notebooks read the Oxford-IIIT Pets through TFDS
            (`True`) or the drawn pets of `seglib.data.sample` (`False`).
        decoder_filters: channels after each step of the U-Net's decoder, from coarse to fine.
        skip_filters: channels that each of its skip connections is narrowed to.
        image_size: height and width of the pictures that a model sees, in pixels.
        epochs: length of the main training run.
        fine_tune_epochs: length of the run with the backbone unfrozen.
        batch_size: pictures per step.
    """

    name: str
    real_data: bool
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

    @property
    def decoder(self):
        """The options of `seglib.models.unet` that make a decoder of this profile's width."""
        return {"filters": self.decoder_filters, "skip_filters": self.skip_filters}


PROFILES = {
    "sample": Profile(
        name="sample",
        real_data=False,
        decoder_filters=(80, 48, 32, 16),  # half of `unet`'s: drawings are simpler
        skip_filters=(48, 32, 24, 12),
        image_size=128,
        epochs=5,
        fine_tune_epochs=1,
        batch_size=8,
    ),
    "full": Profile(
        name="full",
        real_data=True,
        decoder_filters=(160, 96, 64, 32),  # those of `unet` itself
        skip_filters=(96, 64, 48, 24),
        image_size=128,
        epochs=12,
        fine_tune_epochs=18,
        batch_size=16,
    ),
}


def active() -> Profile:
    """Returns the profile that the environment variable `SEGLIB_PROFILE` names.

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
    return PROFILES[name]
