"""What every data set of label maps shares: from pictures in memory to shuffled, augmented batches.

The order of the steps is the lesson of chapter 1:

    read -> decode -> resize -> cache -> shuffle -> augment -> batch -> prefetch

Everything that gives the same result each time stands before the cache, everything random
after it.
"""

import numpy as np
import tensorflow as tf


class CorruptDataError(OSError):
    """A record of a data set could not be read or decoded."""


def decode_image(data, size=None):
    """Decodes a picture and resizes it bilinearly, averaged where it becomes smaller.

    Args:
        data: scalar string tensor, the encoded file.
        size: `(H, W)`, or `None` to keep the picture's own size.

    Returns:
        uint8 tensor `[H, W, 3]`.
    """
    image = tf.io.decode_image(data, channels=3, expand_animations=False)
    image = tf.ensure_shape(image, [None, None, 3])
    return image if size is None else resize_image(image, size)


def resize_image(image, size):
    """Resizes a uint8 picture bilinearly, averaged where it becomes smaller."""
    return tf.cast(tf.round(tf.image.resize(image, size, antialias=True)), tf.uint8)


def build(source, *, image_size, batch_size, shuffle, augment, seed):
    """Builds the pipeline of the module's docstring.

    The decoded pictures stay in memory, `H * W * 4` bytes each: the 3,680 of the full trainval
    list take 0.24 GB at 128 pixels and 1 GB at 256.

    Args:
        source: where the pictures come from: anything with a method `read(size)` that returns them
            decoded, as NumPy uint8 `[N, H, W, 3]` and `[N, H, W]`.
        image_size: `int` or `(H, W)`.
        augment: `None`, or a callable `(images, masks, seed) -> (images, masks)` on a batch. The
            other arguments are those of `epochs`.

    Returns:
        `tf.data.Dataset` of `(uint8 [B, H, W, 3], uint8 [B, H, W])`. One iteration is one
        epoch. Its attribute `epoch` is the `tf.Variable` that holds the number of the next
        one; `seglib.callbacks.Resume` sets it.

    Raises:
        CorruptDataError: if the source cannot read or decode a picture.
        ValueError: for sizes that make no sense.
    """
    check_batch_size(batch_size)
    images, masks = source.read(as_size(image_size))
    count = len(images)
    # Kept outside the graph, which would copy them.
    images, masks = tf.Variable(images, trainable=False), tf.Variable(masks, trainable=False)

    def batch(index, batch_seed):
        pair = images.sparse_read(index), masks.sparse_read(index)
        return pair if augment is None else augment(*pair, batch_seed)

    return epochs(batch, count, batch_size=batch_size, shuffle=shuffle, seed=seed)


def epochs(batch, count, *, batch_size, shuffle, seed, fresh=True):
    """Goes through `count` pictures in batches, one epoch an iteration.

    Args:
        batch: a function `(index, seed)` of int32 `[B]` and int64 `[2]` tensors that returns the
            batch of these pictures; all that is random in it comes from the seed.
        count: number of pictures.
        batch_size: pictures per batch; the last batch may be smaller.
        shuffle: whether each epoch has an order of its own.
        seed: order and seeds of epoch *e* are pure functions of `(seed, e)`.
        fresh: whether epochs differ at all; if not, each is like epoch 0.

    Returns:
        `tf.data.Dataset` with the attribute `epoch`, as in `build`.
    """
    check_batch_size(batch_size)
    epoch = tf.Variable(0, dtype=tf.int64, trainable=False, name="epoch")

    def next_epoch(_):
        # Reading the number inside the pipeline makes each pass differ, as a reader of `fit`
        # expects; setting it reproduces any pass, as resuming needs.
        number = epoch.read_value()
        with tf.control_dependencies([number]):
            epoch.assign_add(1)
        return number

    def one_epoch(number):
        # The odd constant keeps the epochs of neighboring seeds apart.
        epoch_seed = tf.constant(seed, tf.int64) * 1_000_003 + (number if fresh else 0)
        order = tf.range(count)
        if shuffle:
            order = tf.random.experimental.stateless_shuffle(order, tf.stack([epoch_seed, 0]))
        batches = tf.data.Dataset.from_tensor_slices(order).batch(batch_size).enumerate()
        return batches.map(
            lambda i, index: batch(index, tf.stack([epoch_seed, i])),
            num_parallel_calls=tf.data.AUTOTUNE,
        )

    dataset = tf.data.Dataset.from_tensors(0).map(next_epoch).flat_map(one_epoch)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(-(-count // batch_size)))
    # All cores map and two batches wait: there is nothing to tune.
    dataset = without_tuner(dataset.prefetch(2))
    dataset.epoch = epoch
    return dataset


def without_tuner(data):
    """Returns a `tf.data.Dataset` that keeps its numbers of threads and of waiting batches.

    Beside each pass TensorFlow runs a thread that tunes these numbers at ever longer intervals. The
    end of the pass waits for that thread, which may be asleep where threads share a core: until
    1.27, 2.55, 5.11 or 10.23 seconds after its beginning, and so on (seen in TensorFlow 2.21).
    Where the data set says `AUTOTUNE`, TensorFlow takes the number that it would have begun at.

    Example:
        >>> batches = without_tuner(tf.data.Dataset.from_tensor_slices(images).batch(16))
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return data.with_options(options)


def as_size(image_size, name="image_size"):
    """Returns `(H, W)` from an int or a pair; `name` is what an error calls it."""
    size = (image_size, image_size) if np.ndim(image_size) == 0 else tuple(image_size)
    if len(size) != 2 or any(int(s) != s or s < 1 for s in size):
        raise ValueError(f"{name} is {image_size!r}, expected one whole number or (height, width).")
    return int(size[0]), int(size[1])


def first_line(error):
    """Returns the first line of a TensorFlow error's message, without its period."""
    return str(error.message).strip().splitlines()[0].rstrip(". ")


def check_batch_size(batch_size):
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}, expected at least 1.")
