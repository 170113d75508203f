"""What all Keras candidates share, whichever Keras they are for: compile, train, predict."""

import math

from protocol import random_data


def timed(model, loss, *, batch, size, classes, pixels=None):
    """Returns what `protocol.serve` wants of a Keras model.

    Args:
        model: a model from pictures to scores.
        loss: of the label map and the scores.
        batch: pictures in a batch.
        size: their height and width.
        classes: number of classes.
        pixels: what the model's users do to pictures in their input pipeline, which costs no time
            here; `None` for a model that takes bytes.
    """
    images, masks = random_data(batch, size, classes)
    if pixels is not None:
        images = pixels(images.astype("float32"))
    model.compile("adam", loss, metrics=[])  # KerasHub has one by default
    return {
        "step": lambda: model.train_on_batch(images, masks),
        "predict": lambda: model.predict_on_batch(images),
        "parameters": model.count_params(),
        "trainable": sum(math.prod(weight.shape) for weight in model.trainable_weights),
    }


def ones(images):
    """Pixels from -1 to 1."""
    return images / 127.5 - 1
