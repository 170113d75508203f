"""The one place that reads SEGLIB_PROFILE."""

import dataclasses

import pytest

from seglib import models, profiles
from seglib.data import pets, sample


@pytest.mark.parametrize(
    "value, name", [(None, "sample"), ("", "sample"), ("sample", "sample"), ("full", "full")]
)
def test_the_variable_names_the_profile(value, name, monkeypatch):
    monkeypatch.delenv("SEGLIB_PROFILE", raising=False)
    if value is not None:
        monkeypatch.setenv("SEGLIB_PROFILE", value)
    assert profiles.active().name == name


@pytest.mark.parametrize("value", ["Full", "fast", " sample", "0"])
def test_another_value_is_refused_and_the_right_ones_named(value, monkeypatch):
    monkeypatch.setenv("SEGLIB_PROFILE", value)
    with pytest.raises(ValueError, match="SEGLIB_PROFILE is .*'sample', 'full'") as raised:
        profiles.active()
    assert repr(value) in str(raised.value)


def test_each_profile_has_its_pictures():
    drawn, real = profiles.PROFILES["sample"], profiles.PROFILES["full"]
    assert drawn.data is sample and not drawn.real_data
    assert real.data is pets and real.real_data


@pytest.mark.parametrize("name", profiles.PROFILES)
def test_a_profile_can_be_trained(name):
    profile = profiles.PROFILES[name]
    assert profile.name == name
    assert profile.image_size % 32 == 0  # five halvings without padding
    assert min(profile.epochs, profile.fine_tune_epochs, profile.batch_size) >= 1


def test_each_unet_gets_a_decoder_of_its_own():
    first, second = (profiles.PROFILES["sample"].decoder() for _ in range(2))
    assert first is not second  # a layer that two models share would be trained by both


def test_photographs_get_the_decoder_that_the_results_were_made_with():
    made, default = profiles.PROFILES["full"].decoder(), models.UNetDecoder()
    for setting in ("filters", "skip_filters", "dropout"):
        assert getattr(made, setting) == getattr(default, setting)


def test_drawings_get_half_the_channels():
    made, default = profiles.PROFILES["sample"].decoder(), models.UNetDecoder()
    assert made.filters == tuple(n // 2 for n in default.filters)
    assert made.skip_filters == tuple(n // 2 for n in default.skip_filters)


def test_a_profile_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        profiles.PROFILES["sample"].epochs = 1
