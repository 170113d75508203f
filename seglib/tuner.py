"""Pipelines that do without tf.data's tuner, for which the end of an epoch can wait."""

import sys


def without_tuner(data):
    """Returns a `tf.data.Dataset` that keeps its numbers of threads and of waiting batches.

    Beside each pass over a data set TensorFlow runs a thread that tunes these numbers, first after
    10 ms and then at intervals twice as long each time. When the pass ends, it wakes that thread
    before it says that it may stop. Where threads have to share a core, the thread often looks too
    early and sleeps on, and the pass waits for it: until 1.27, 2.55, 5.11 or 10.23 seconds after
    its beginning, and so on (seen in TensorFlow 2.21). At worst an epoch, or a call of `predict`,
    takes twice its time.

    Args:
        data: a data set. Anything else is returned as it is; so is a data set whose options say
            whether it is to be tuned.

    Returns:
        The data set with the same elements in the same order. Where it says `AUTOTUNE`, TensorFlow
        takes the number that it would have begun to tune at.

    Example:
        >>> batches = without_tuner(tf.data.Dataset.from_tensor_slices(images).batch(16))
    """
    tensorflow = sys.modules.get("tensorflow")  # other backends come without it
    if tensorflow is None or not isinstance(data, tensorflow.data.Dataset):
        return data
    if data.options().autotune.enabled is not None:
        return data
    options = tensorflow.data.Options()
    options.autotune.enabled = False
    return data.with_options(options)
