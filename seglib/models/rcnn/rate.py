"""The learning rate of Mask R-CNN."""

import math

import keras
from keras import ops

CUT = 0.75  # share of the steps after which the published rate falls to a tenth
LAST = 0.01  # share of the rate that a cosine ends with


@keras.saving.register_keras_serializable("seglib")
class Rate(keras.optimizers.schedules.LearningRateSchedule):
    """A rate that rises over the first steps and then falls.

    Keras's `CosineDecay` needs a branch in the graph for that. With weight decay the rate is asked
    for once per variable, and TensorFlow builds a hundred branches longer than all the rest.

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
        names = ("learning_rate", "steps", "warmup", "shape")
        return {name: getattr(self, name) for name in names}
