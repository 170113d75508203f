"""Data sets without tf.data's tuner."""

import numpy as np
import pytest

from seglib.tuner import without_tuner

tf = pytest.importorskip("tensorflow")


@pytest.fixture
def numbers():
    return tf.data.Dataset.range(7).batch(2)


def test_the_elements_stay(numbers):
    found = without_tuner(numbers)
    assert found.options().autotune.enabled is False
    assert found.element_spec == numbers.element_spec and len(found) == len(numbers)
    assert [n.tolist() for n in found.as_numpy_iterator()] == [[0, 1], [2, 3], [4, 5], [6]]


@pytest.mark.parametrize("enabled", [True, False])
def test_who_has_chosen_is_not_overruled(numbers, enabled):
    options = tf.data.Options()
    options.autotune.enabled = enabled
    chosen = numbers.with_options(options)
    assert without_tuner(chosen) is chosen


def test_other_options_stay(numbers):
    options = tf.data.Options()
    options.deterministic = False
    found = without_tuner(numbers.with_options(options)).options()
    assert found.deterministic is False and found.autotune.enabled is False


@pytest.mark.parametrize("data", [None, np.zeros(3), (np.zeros(3), np.zeros(3)), [1, 2]])
def test_anything_else_stays_as_it_is(data):
    assert without_tuner(data) is data
