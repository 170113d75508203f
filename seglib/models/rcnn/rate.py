"""The learning rate of Mask R-CNN."""

import dataclasses
import math

import keras
from keras import ops

CUT = 0.75  # share of the steps after which the published rate falls to a tenth
LAST = 0.01  # share of the rate that a cosine ends with


@keras.saving.register_keras_serializable("seglib")
@dataclasses.dataclass(eq=False)
class Rate(keras.optimizers.schedules.LearningRateSchedule):
    """A rate that rises over the first steps and then falls.

    `"cosine"` falls along half a wave; `"cut"` stays, and is a tenth toward the end. Keras's
    `CosineDecay` needs a branch in the graph to rise. With weight decay the rate is asked for once
    per variable, and TensorFlow builds a hundred branches longer than all the rest.
    """

    learning_rate: float  # the highest one
    steps: int  # length of the training
    warmup: int  # steps over which the rate rises
    shape: str  # "cosine" or "cut"

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
        return dataclasses.asdict(self)
