"""The one place that reads SEGLIB_PROFILE."""

import dataclasses
import inspect

import pytest

from seglib import models
from seglib.chapters import profiles
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


def defaults():
    options = inspect.signature(models.unet_decoder).parameters
    return {name: options[name].default for name in ("filters", "skip_filters")}


def test_photographs_get_the_decoder_that_the_results_were_made_with():
    assert profiles.PROFILES["full"].decoder == defaults()


def test_drawings_get_half_the_channels():
    halved = {name: tuple(n // 2 for n in widths) for name, widths in defaults().items()}
    assert profiles.PROFILES["sample"].decoder == halved


def test_a_profile_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        profiles.PROFILES["sample"].epochs = 1
