"""Bilinear upsampling against hand-computed values, Pillow and Keras; runs on any backend."""

import keras
import numpy as np
import pytest
from PIL import Image

from seglib.models.layers import Upsample

to_numpy = keras.ops.convert_to_numpy


def run(factor, x, known_size):
    """Applies the layer in a model whose input size is known, or not, when it is built."""
    size = x.shape[1:3] if known_size else (None, None)
    image = keras.Input((*size, x.shape[3]))
    return keras.Model(image, Upsample(factor)(image)).predict(x, verbose=0)


@pytest.mark.parametrize("known_size", [True, False])
def test_doubling_by_hand(known_size):
    # Output centers lie at -1/4, 1/4, 3/4, 5/4 of the input's pixels; the edge is repeated.
    x = np.array([[0.0, 4.0]]).reshape(1, 1, 2, 1)
    expected = [[0, 1, 3, 4]] * 2
    np.testing.assert_allclose(run(2, x, known_size)[0, :, :, 0], expected)


@pytest.mark.parametrize("known_size", [True, False])
@pytest.mark.parametrize("factor", [1, 2, 3, 4, 8])
def test_any_factor_equals_pillows_bilinear(factor, known_size):
    x = np.random.default_rng(factor).normal(size=(1, 5, 7, 2)).astype("float32")
    size = (7 * factor, 5 * factor)
    expected = [
        np.asarray(Image.fromarray(x[0, ..., c]).resize(size, Image.Resampling.BILINEAR))
        for c in range(2)
    ]
    result = run(factor, x, known_size)
    np.testing.assert_allclose(result[0], np.stack(expected, -1), atol=1e-5)


@pytest.mark.parametrize("known_size", [True, False])
def test_doubling_equals_kerass_layer(known_size):
    x = np.random.default_rng(0).normal(size=(2, 4, 6, 3)).astype("float32")
    kerass = keras.layers.UpSampling2D(2, interpolation="bilinear")
    np.testing.assert_allclose(run(2, x, known_size), to_numpy(kerass(x)), atol=1e-6)


def test_symbolic_shapes():
    layer = Upsample(4)
    assert tuple(layer(keras.KerasTensor((None, None, 6, 5))).shape) == (None, None, 24, 5)
    assert Upsample.from_config(layer.get_config()).factor == 4


@pytest.mark.parametrize("factor", [0, -1, 1.5])
def test_factors_that_make_no_sense(factor):
    with pytest.raises(ValueError, match="expected a whole number of at least 1"):
        Upsample(factor)
