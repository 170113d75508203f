"""What can go wrong with memory and files, said in one sentence, and nothing left half done."""

import contextlib
import os
import warnings
import zipfile

import keras

OUT_OF_MEMORY = (
    "ResourceExhausted",
    "RESOURCE_EXHAUSTED",
    "out of memory",
    "Out of memory",
    "OutOfMemory",
)


class Guarded:
    """Makes a `keras.Model` refuse bad weights as a whole and say what to lower without memory.

    A class to inherit from, before `keras.Model`.
    """

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

    def fit(self, *args, **kwargs):
        with memory_advice():
            return super().fit(*args, **kwargs)

    def evaluate(self, *args, **kwargs):
        with memory_advice():
            return super().evaluate(*args, **kwargs)

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
        ValueError: if the file is damaged, is no `.keras` file, or holds code (a Lambda layer): a
            file from a stranger could do anything with it.

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


@contextlib.contextmanager
def memory_advice():
    """Turns a backend's way of saying that memory ran out into advice.

    Raises:
        MemoryError: in place of the backend's error.
    """
    try:
        yield
    except Exception as error:  # each backend has a class of its own, and keras.ops names none
        if not any(sign in f"{type(error).__name__} {error}" for sign in OUT_OF_MEMORY):
            raise
        raise MemoryError(
            f"Memory ran out ({first_line(error)}). Lower batch_size first, then image_size: half "
            "the side takes a quarter of the memory. A frozen backbone helps, too, and on a GPU "
            "or a processor with AVX-512 BF16 or AMX mixed_bfloat16 (it is slow on others). Very "
            "large pictures are predicted by seglib.inference.predict_windows."
        ) from error


def first_line(error):
    """Returns the first line of an error's message that says something, without its period."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    return f"{type(error).__name__}: {text[:200].rstrip('. ')}"
