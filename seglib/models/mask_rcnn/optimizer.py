"""The optimizer that a configuration describes."""

import keras

CUT = 0.75  # share of the steps after which the published rate falls to a tenth


def make_optimizer(config, steps):
    """Returns SGD with momentum and one cut of the rate, or AdamW on a cosine.

    The rate rises in a straight line over the first steps.

    Args:
        config: `MaskRCNNConfig`.
        steps: length of the training.
    """
    rates = keras.optimizers.schedules
    warmup = min(config.warmup_steps, steps // 2)
    options = {"weight_decay": config.weight_decay, "global_clipnorm": config.gradient_clip}
    if config.optimizer == "adamw":
        schedule = rates.CosineDecay(
            initial_learning_rate=0.0 if warmup else config.learning_rate,
            decay_steps=max(steps - warmup, 1),
            alpha=0.01,
            warmup_target=config.learning_rate if warmup else None,
            warmup_steps=warmup,
        )
        return keras.optimizers.AdamW(schedule, **options)
    schedule = StepDecay(config.learning_rate, warmup=warmup, cut=int(CUT * steps))
    return keras.optimizers.SGD(schedule, momentum=config.momentum, **options)


@keras.saving.register_keras_serializable("seglib")
class StepDecay(keras.optimizers.schedules.LearningRateSchedule):
    """A rate that rises over the first steps, is constant, and falls to a tenth once.

    Args:
        learning_rate: the constant rate.
        warmup: steps over which it rises.
        cut: the step from which on it is a tenth.
    """

    def __init__(self, learning_rate, *, warmup, cut):
        super().__init__()
        self.learning_rate = learning_rate
        self.warmup = warmup
        self.cut = cut

    def __call__(self, step):
        step = keras.ops.cast(step, "float32")
        rise = keras.ops.minimum((step + 1) / max(self.warmup, 1), 1.0)
        return self.learning_rate * rise * keras.ops.where(step < self.cut, 1.0, 0.1)

    def get_config(self):
        return {"learning_rate": self.learning_rate, "warmup": self.warmup, "cut": self.cut}
