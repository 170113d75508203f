"""Long errors of other libraries as one sentence that says what to do."""

import contextlib
import itertools
import math

import keras

from seglib.core.checks import check_labels, check_object_classes, check_truth_shape, rank_of
from seglib.core.constants import IGNORE_LABEL
from seglib.core.distance import unpack

OUT_OF_MEMORY = (
    "ResourceExhausted",
    "RESOURCE_EXHAUSTED",
    "out of memory",
    "Out of memory",
    "OutOfMemory",
)


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


class LabelAdvice(keras.callbacks.Callback):
    """Stops a training whose loss becomes NaN if its data hold labels that are no class.

    Args:
        x, y: what `fit` gets.

    Raises:
        ValueError: naming the labels.
    """

    async_safe = True  # or Keras would wait for each step's loss

    def __init__(self, x, y=None):
        super().__init__()
        self.x, self.y = x, y
        self.looked = False

    def on_train_batch_end(self, batch, logs=None):
        if not self.looked and math.isnan((logs or {}).get("loss", 0.0)):
            self.look()

    def look(self, batches=8):
        """Checks the truth of the first batches, or all of it if it is an array."""
        self.looked = True
        for y in itertools.islice(truths(self.x, self.y), batches):
            check_values(self.model, y)


def check_values(model, y):
    """Raises a ValueError if a batch's truth holds labels that are no class of the model."""
    if isinstance(y, dict) and hasattr(model, "config"):  # of Mask R-CNN
        check_object_classes(y["classes"], model.config.num_classes)
        return
    shape = getattr(model, "output_shape", None)
    if isinstance(shape, tuple) and len(shape) == 4:  # logits
        num_classes = max(shape[-1], 2)
        ignore_label = getattr(model.loss, "ignore_label", IGNORE_LABEL)
        check_labels(unpack(y, num_classes)[0], num_classes, ignore_label)


def check_truth(x, y):
    """Raises a ValueError if what `fit` or `evaluate` gets states another rank than a label map's.

    Where a good truth came before, TensorFlow would say so in the words of its graph.
    """
    spec = y
    if y is None and isinstance(getattr(x, "element_spec", None), tuple):
        spec = x.element_spec[1]
    shape = getattr(spec, "shape", None)
    if shape is not None and rank_of(spec) not in (None, 3, 5):  # 5: packed with distances
        check_truth_shape(tuple(shape))


def truths(x, y):
    """Yields the label maps in what `fit` gets: an array, batches, or a `PyDataset`."""
    if y is not None:
        yield y
    elif isinstance(x, keras.utils.PyDataset):
        yield from (x[i][1] for i in range(x.num_batches or 0))
    elif hasattr(x, "element_spec"):  # a tf.data.Dataset; a generator can be read only once
        yield from (batch[1] for batch in x)


def first_line(error):
    """Returns the first line of an error's message that says something, without its period."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    return f"{type(error).__name__}: {text[:200].rstrip('. ')}"
