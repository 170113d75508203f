"""Clear errors for bad weight files and full memory; a failed load leaves the model unchanged."""

import os
import warnings
import zipfile

import keras

from seglib.core.advice import LabelAdvice, first_line, memory_advice


class Guarded:
    """To inherit before `keras.Model`: refuses bad weights, says what to lower without memory."""

    def load_weights(self, filepath, skip_mismatch=False, **kwargs):
        """Loads weights as Keras does; where they do not fit, the model stays as it was.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if the file is damaged, or holds the weights of another model.
        """
        path = os.fspath(filepath)
        if not os.path.exists(path):
            raise FileNotFoundError(f"There is no weights file {path!r}.")
        before = [keras.ops.convert_to_numpy(variable) for variable in self.variables]
        try:
            with warnings.catch_warnings():
                # Keras only warns of a part that the file lacks, and leaves its random numbers.
                warnings.filterwarnings("error", message="Skipping nested container")
                super().load_weights(filepath, skip_mismatch=skip_mismatch, **kwargs)
        except Exception as error:  # of h5py, zipfile or Keras, according to where it is damaged
            for variable, value in zip(self.variables, before, strict=True):
                variable.assign(value)
            raise ValueError(
                f"The weights in {path!r} do not fit {self.name!r} ({first_line(error)}). The "
                "model was left as it was. Expected a whole file that save_weights of the same "
                "model wrote."
            ) from error

    def save(self, filepath, *args, **kwargs):
        """Saves as Keras does, but not to its old format, which does not keep layers of our own."""
        if os.fspath(filepath).endswith((".h5", ".hdf5")):
            raise ValueError(
                f"The file is {os.fspath(filepath)!r}, expected the ending .keras: a model in "
                "Keras's old HDF5 format cannot be loaded again. Weights alone are saved by "
                "save_weights, to a file .weights.h5."
            )
        super().save(filepath, *args, **kwargs)

    def check_data(self, x, y):
        """A subclass raises a ValueError for data of `fit` or `evaluate` that cannot be right."""

    def fit(
        self,
        x=None,
        y=None,
        batch_size=None,
        epochs=1,
        verbose="auto",
        callbacks=None,
        *args,
        class_weight=None,
        **kwargs,
    ):
        if class_weight is not None:
            raise ValueError(
                f"class_weight is {class_weight}, expected none: Keras has it for one label per "
                "picture. Give class_weights to the loss, such as "
                "CrossEntropy(class_weights=[1, 1, 1.6])."
            )
        self.check_data(x, y)
        if not isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks = [*keras.tree.flatten(callbacks or []), LabelAdvice(x, y)]
        with memory_advice():
            return super().fit(x, y, batch_size, epochs, verbose, callbacks, *args, **kwargs)

    def evaluate(self, x=None, y=None, *args, **kwargs):
        self.check_data(x, y)
        with memory_advice():
            return super().evaluate(x, y, *args, **kwargs)

    def predict(self, *args, **kwargs):
        with memory_advice():
            return super().predict(*args, **kwargs)


def load_model(path):
    """Loads a model that `model.save` wrote, in full or not at all, and runs no code from the file.

    Args:
        path: of a `.keras` file.

    Returns:
        The model, compiled if it was.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged, is no `.keras` file, or holds code (a Lambda layer).

    Example:
        >>> model.save("pets.keras")
        >>> model = load_model("pets.keras")
    """
    path = os.fspath(path)
    if not os.path.exists(path):
        raise FileNotFoundError(f"There is no model file {path!r}.")
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"{path!r} is no whole .keras file. Copy it anew, or save the model again. For a file "
            "of weights alone, build the model and call load_weights."
        )
    try:
        return keras.saving.load_model(path, safe_mode=True)
    except Exception as error:  # of zipfile, json, h5py or Keras, according to what is wrong
        raise ValueError(
            f"The model in {path!r} cannot be loaded ({first_line(error)}). Expected a whole file "
            "that model.save of this version of seglib wrote, without a Lambda layer."
        ) from error
