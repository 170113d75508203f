"""Bad files are refused whole, and missing memory is explained."""

import zipfile

import keras
import numpy as np
import pytest
from keras import ops

from seglib import models
from seglib.core.advice import memory_advice
from seglib.models.guarded import Guarded

SHAPE = (32, 32, 3)


def build(num_classes=3, seed=0):
    keras.utils.set_random_seed(seed)
    return models.unet(num_classes, backbone="small", weights=None, alpha=0.5, input_shape=SHAPE)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A model, its weights file and its model file."""
    folder = tmp_path_factory.mktemp("saved")
    model = build()
    model.save_weights(folder / "model.weights.h5")
    model.save(folder / "model.keras")
    return model, folder / "model.weights.h5", folder / "model.keras"


def values(model):
    return [keras.ops.convert_to_numpy(v) for v in model.variables]


def assert_unchanged(model, before):
    for now, then in zip(values(model), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_good_files_are_loaded(saved):
    model, weights, file = saved
    other = build(seed=1)
    assert any((a != b).any() for a, b in zip(values(other), values(model), strict=True))
    other.load_weights(weights)
    assert_unchanged(other, values(model))
    assert_unchanged(models.load_model(file), values(model))


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.9, 0.999])
def test_truncated_weights_change_nothing(saved, tmp_path, share):
    data = saved[1].read_bytes()
    path = tmp_path / "cut.weights.h5"
    path.write_bytes(data[: int(share * len(data))])
    model = build(seed=1)
    before = values(model)
    with pytest.raises(ValueError, match=r"cut\.weights\.h5.*left as it was"):
        model.load_weights(path)
    assert_unchanged(model, before)


@pytest.mark.parametrize(
    "other",
    [
        lambda: build(num_classes=4),
        lambda: models.fcn8(3, backbone="small", weights=None, input_shape=SHAPE),
        lambda: models.unet(3, backbone="small", weights=None, alpha=1.0, input_shape=SHAPE),
        lambda: keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]),
    ],
    ids=["other head", "other decoder", "other width", "another network"],
)
def test_weights_of_another_model_change_nothing(tmp_path, other):
    path = tmp_path / "other.weights.h5"
    other().save_weights(path)
    model = build(seed=1)
    before = values(model)
    with pytest.raises(ValueError, match="do not fit"):
        model.load_weights(path)
    assert_unchanged(model, before)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing.weights.h5"):
        build().load_weights(tmp_path / "nothing.weights.h5")
    with pytest.raises(FileNotFoundError, match="nothing.keras"):
        models.load_model(tmp_path / "nothing.keras")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_model_is_refused(saved, tmp_path, share):
    data = saved[2].read_bytes()
    path = tmp_path / "cut.keras"
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ValueError, match="no whole .keras file"):
        models.load_model(path)


def test_a_model_without_a_part_is_refused(saved, tmp_path):
    path = tmp_path / "part.keras"
    with zipfile.ZipFile(saved[2]) as whole, zipfile.ZipFile(path, "w") as part:
        for name in whole.namelist():
            if not name.endswith(".h5"):
                part.writestr(name, whole.read(name))
    with pytest.raises(ValueError, match="cannot be loaded"):
        models.load_model(path)


def test_a_model_with_code_in_it_is_refused(tmp_path):
    path = tmp_path / "code.keras"
    image = keras.Input((4,))
    keras.Model(image, keras.layers.Lambda(lambda x: x + 1)(image)).save(path)
    with pytest.raises(ValueError, match="Lambda"):
        models.load_model(path)


@keras.saving.register_keras_serializable("tests")
class Hungry(keras.layers.Layer):
    """Asks for 64 TiB."""

    def call(self, x):
        # XLA would do without the memory for rows that are all alike, or for a plain sum.
        numbers = ops.arange(2**22, dtype="float32")
        wide = numbers[:, None] * (numbers + x)
        return ops.reshape(ops.sum(ops.sort(wide, axis=1)), (1, 1))


@pytest.mark.parametrize("method", ["fit", "evaluate", "predict"])
def test_no_memory_is_explained(method):
    class Model(Guarded, keras.Model):
        pass

    image = keras.Input((1,), batch_size=1)
    model = Model(image, Hungry()(image))
    model.compile("sgd", "mse")
    one = np.ones((1, 1), "float32")
    with pytest.raises(MemoryError, match="Lower batch_size first"):
        # JAX computes ahead and complains where the numbers are read, as for printing them.
        getattr(model, method)(*([one] if method == "predict" else [one, one]), verbose=2)


@pytest.mark.parametrize("error", [ValueError("a shape"), KeyError("a name")])
def test_other_errors_stay_what_they_are(error):
    with pytest.raises(type(error)) as raised, memory_advice():
        raise error
    assert raised.value is error
