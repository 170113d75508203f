"""The optimizer that a configuration describes."""

import math

import keras
from keras import ops

CUT = 0.75  # share of the steps after which the published rate falls to a tenth
LAST = 0.01  # share of the rate that a cosine ends with


def make_optimizer(config, steps):
    """Returns SGD with momentum and one cut of the rate, or AdamW on a cosine.

    The rate rises in a straight line over the first steps.

    Args:
        config: `MaskRCNNConfig`.
        steps: length of the training.
    """
    rate = Rate(
        config.learning_rate,
        steps=steps,
        warmup=min(config.warmup_steps, steps // 2),
        shape="cosine" if config.optimizer == "adamw" else "cut",
    )
    options = {"weight_decay": config.weight_decay, "global_clipnorm": config.gradient_clip}
    if config.optimizer == "adamw":
        return keras.optimizers.AdamW(rate, **options)
    return keras.optimizers.SGD(rate, momentum=config.momentum, **options)


@keras.saving.register_keras_serializable("seglib")
class Rate(keras.optimizers.schedules.LearningRateSchedule):
    """A rate that rises over the first steps and then falls.

    Keras's `CosineDecay` does the same with a branch in the graph. An optimizer that shrinks the
    weights asks for the rate once a variable, and a hundred branches take TensorFlow longer to
    build than the rest of the model.

    Args:
        learning_rate: the highest one.
        steps: length of the training.
        warmup: steps over which the rate rises.
        shape: `"cosine"` falls along half a wave to a hundredth; `"cut"` stays, and is a tenth
            after three quarters of the steps.
    """

    def __init__(self, learning_rate, *, steps, warmup=0, shape="cosine"):
        super().__init__()
        self.learning_rate = learning_rate
        self.steps = steps
        self.warmup = warmup
        self.shape = shape

    def __call__(self, step):
        step = ops.cast(step, "float32")
        rise = ops.minimum((step + 1) / max(self.warmup, 1), 1.0)
        if self.shape == "cut":
            fall = ops.where(step < CUT * self.steps, 1.0, 0.1)
        else:
            done = (step - self.warmup) / max(self.steps - self.warmup, 1)
            done = ops.minimum(ops.maximum(done, 0.0), 1.0)
            fall = LAST + (1 - LAST) * 0.5 * (1 + ops.cos(math.pi * done))
        return self.learning_rate * rise * fall

    def get_config(self):
        return {
            "learning_rate": self.learning_rate,
            "steps": self.steps,
            "warmup": self.warmup,
            "shape": self.shape,
        }
