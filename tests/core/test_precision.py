"""The dtype policy of a block."""

import keras
import pytest

from seglib.core.precision import dtype_policy


def test_a_policy_holds_for_what_is_built_within_it():
    with pytest.raises(KeyError), dtype_policy("mixed_bfloat16"):
        assert keras.layers.Dense(1).compute_dtype == "bfloat16"
        raise KeyError
    assert keras.layers.Dense(1).compute_dtype == "float32"
