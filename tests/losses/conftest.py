"""What the tests of the losses share: values and gradients on any backend, slopes in NumPy."""

import keras
import numpy as np
import pytest

BACKEND = keras.backend.backend()


def value_and_gradient_of(loss, labels, logits, sample_weight=None):
    """The loss and its gradient with respect to the logits, by the backend's own autodiff."""
    logits = keras.ops.convert_to_tensor(logits)
    if BACKEND == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(logits)
            result = loss(labels, logits, sample_weight)
        gradient = tape.gradient(result, logits)
    elif BACKEND == "jax":
        import jax

        result, gradient = jax.value_and_grad(lambda x: loss(labels, x, sample_weight))(logits)
    else:
        logits.requires_grad_(True)
        result = loss(labels, logits, sample_weight)
        result.backward()
        gradient = logits.grad
    to_numpy = keras.ops.convert_to_numpy
    return float(to_numpy(result)), to_numpy(keras.ops.cast(gradient, "float32"))


@pytest.fixture(scope="session")
def value():
    """Returns a function of (loss, labels, logits, sample_weight) to a float."""

    def call(loss, labels, logits, sample_weight=None):
        return float(keras.ops.convert_to_numpy(loss(labels, logits, sample_weight)))

    return call


@pytest.fixture(scope="session")
def value_and_gradient():
    return value_and_gradient_of


@pytest.fixture(scope="session")
def random_pair():
    """Returns a function that draws a label map and logits."""

    def draw(seed=0, shape=(2, 5, 6), num_classes=3, ignored=0.0, scale=2.0):
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, num_classes, shape)
        labels = np.where(rng.random(shape) < ignored, 255, labels).astype("uint8")
        return labels, rng.normal(scale=scale, size=(*shape, num_classes)).astype("float32")

    return draw


@pytest.fixture(scope="session")
def slope():
    """Returns a function that differentiates a float64 formula by central differences."""

    def differentiate(formula, logits, step=1e-5):
        logits = logits.astype("float64")
        found = np.zeros(logits.shape)
        for i in np.ndindex(logits.shape):
            shift = np.zeros(logits.shape)
            shift[i] = step
            found[i] = (formula(logits + shift) - formula(logits - shift)) / (2 * step)
        return found

    return differentiate
