"""`count_each` against NumPy's bincount; runs on any backend."""

import keras
import numpy as np
import pytest

from seglib.counting import count_each


@pytest.mark.parametrize("weighted", [False, True])
def test_it_is_numpys_bincount_of_each_row(weighted):
    rng = np.random.default_rng(0)
    numbers = rng.integers(0, 7, (3, 50)).astype("int32")
    weights = rng.random(numbers.shape).astype("float32") if weighted else None
    counts = keras.ops.convert_to_numpy(
        count_each(keras.ops.convert_to_tensor(numbers), 9, weights)
    )
    assert counts.shape == (3, 9) and counts.dtype == "float32"
    for i in range(3):
        row = None if weights is None else weights[i].astype("float64")
        expected = np.bincount(numbers[i], weights=row, minlength=9)
        np.testing.assert_allclose(counts[i], expected, rtol=1e-6)
