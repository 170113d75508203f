"""Bad files are refused whole, and missing memory is explained."""

import zipfile

import keras
import numpy as np
import pytest
from keras import ops

from seglib import models
from seglib.losses import CrossEntropy
from seglib.models.guarded import Guarded, memory_advice

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


def test_a_training_step_is_traced_once():
    traced = []

    class Counted(keras.losses.Loss):
        def call(self, truth, logits):
            traced.append(1)
            return ops.mean(logits, axis=(1, 2, 3))

    image = keras.Input((8, 8, 3))
    network = keras.layers.Conv2D(3, 1)(image)

    class Model(Guarded, keras.Model):
        pass

    model = Model(image, network)
    model.compile(keras.optimizers.Adam(), Counted())
    pictures = np.ones((4, 8, 8, 3), "float32")
    model.fit(pictures, np.zeros((4, 8, 8)), batch_size=2, epochs=2, verbose=0)
    # JAX looks at the shapes first, without compiling.
    assert len(traced) == (1 if keras.backend.backend() == "tensorflow" else 2)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf.data alone has a tuner")
def test_no_pass_waits_for_the_tuner(monkeypatch):
    import tensorflow as tf
    from keras.src.backend.tensorflow.trainer import TFEpochIterator

    seen = []

    def watched(self, *args, **kwargs):
        begin(self, *args, **kwargs)
        seen.append(self._distributed_dataset.options().autotune.enabled)

    begin = TFEpochIterator.__init__
    monkeypatch.setattr(TFEpochIterator, "__init__", watched)
    model = build()
    model.compile("adam", CrossEntropy(), run_eagerly=True)
    images, masks = np.zeros((4, *SHAPE), "uint8"), np.zeros((4, *SHAPE[:2]), "uint8")
    pairs = tf.data.Dataset.from_tensor_slices((images, masks)).batch(2)
    model.fit(pairs, validation_data=pairs, epochs=2, shuffle=False, verbose=0)
    model.evaluate(pairs, verbose=0)
    model.predict(tf.data.Dataset.from_tensor_slices(images).batch(2), verbose=0)
    model.predict(images, verbose=0)
    assert seen == [False] * 5  # training, validation, and the other three


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float64"])
def test_an_array_is_predicted_as_keras_does(dtype):
    model = build()
    images = np.random.default_rng(0).integers(0, 256, (5, *SHAPE)).astype(dtype)
    expected = keras.Model.predict(model, images, verbose=0)
    for options in ({}, {"batch_size": 2}, {"batch_size": 64}):
        logits = model.predict(images, verbose=0, **options)
        assert logits.dtype == expected.dtype == "float32"
        np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5)


def test_an_optimizer_has_the_variables_that_are_trainable_at_the_first_step():
    model = models.unet(3, backbone="small", weights=None, input_shape=(32, 32, 3))
    model.compile("adam", "mse")
    assert not model.optimizer.built  # a reader may still freeze a part
    model.backbone.trainable = False
    model.compile("adam", "mse")
    model.fit(np.ones((1, 32, 32, 3)), np.ones((1, 32, 32, 3)), verbose=0)
    moments = [v for v in model.optimizer.variables if "momentum" in v.path]
    assert len(moments) == len(model.trainable_variables)
