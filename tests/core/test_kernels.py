"""A fused function is the same function, and counts are NumPy's; runs on any backend."""

import keras
import numpy as np
import pytest

from seglib.core.kernels import count_each, fused

to_numpy = keras.ops.convert_to_numpy


@fused
def weighted_argmax(values, weight, scale):
    best = keras.ops.cast(keras.ops.argmax(values, axis=-1), "float32")
    return best * scale if weight is None else best * scale * weight


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("weight", [None, 2.0])
def test_the_values_are_numpys(batch, weight):
    values = np.random.default_rng(batch).normal(size=(batch, 5, 4)).astype("float32")
    expected = values.argmax(-1) * 3.0 * (1.0 if weight is None else weight)
    given = None if weight is None else np.full((batch, 5), weight, "float32")
    np.testing.assert_array_equal(to_numpy(weighted_argmax(values, given, 3)), expected)


def test_an_error_keeps_its_kind():
    @fused
    def broken(x):
        raise ValueError("said plainly")

    with pytest.raises(ValueError, match="said plainly"):
        broken(np.zeros(3))


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="about TensorFlow's graphs")
@pytest.mark.parametrize("shape", [(None, 5, 4), (None, None, None, 4), (2, 5, 4)])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_inside_a_graph_sizes_may_be_unknown(shape, jit_compile):
    import tensorflow as tf

    values = np.random.default_rng(0).normal(size=[s or 3 for s in shape]).astype("float32")
    graph = tf.function(
        lambda x: weighted_argmax(x, None, 1),
        input_signature=[tf.TensorSpec(shape, tf.float32)],
        jit_compile=jit_compile,
    )
    np.testing.assert_array_equal(to_numpy(graph(values)), values.argmax(-1))


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="about TensorFlow's graphs")
@pytest.mark.parametrize("jit_compile", [False, True])
def test_xla_is_not_called_within_xla(jit_compile):
    """There it would take what the function returns for constants, and compile at each call."""
    import tensorflow as tf

    graph = tf.function(lambda x: weighted_argmax(x, None, 1), jit_compile=jit_compile)
    kinds = {
        op.type for op in graph.get_concrete_function(tf.zeros((2, 5, 4))).graph.get_operations()
    }
    assert jit_compile == ("ArgMax" in kinds)
    assert jit_compile != any("PartitionedCall" in kind for kind in kinds)


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
