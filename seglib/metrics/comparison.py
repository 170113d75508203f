"""How sure it is that one model is better than another: both score the same pictures."""

import math
import typing

from seglib.metrics.reports import (
    MEAN,
    check_bootstrap,
    count_pictures,
    percentile_intervals,
    resample,
)


class Difference(typing.NamedTuple):
    """By how much one score exceeds another, and a bootstrap interval; NaN where there is none."""

    value: float
    low: float
    high: float

    @property
    def seen(self):
        """Whether zero lies outside of the interval."""
        return self.low > 0 or self.high < 0

    def __str__(self):
        if math.isnan(self.value):
            return "–"
        if math.isnan(self.low):
            return f"{self.value:+.3f}"
        return f"{self.value:+.3f} ({self.low:+.3f} to {self.high:+.3f})"


def compare(
    model,
    other,
    dataset,
    *,
    classes=None,
    bootstrap=1000,
    confidence=0.95,
    seed=0,
    **options,
):
    """Scores two models on the same pictures and returns what the second one gains, with intervals.

    Each resample of the pictures scores both models, and the difference is taken within it. A set
    of easy pictures lifts both and drops out, so the interval is much narrower than those of the
    two scores, which may well overlap while the difference is beyond doubt.

    The interval covers the choice of the test pictures. What varies between two trainings of the
    same model is not in it; for that, train both with several seeds.

    Args:
        model: Keras model, or a function of a batch of images, that returns logits `[B, H, W, C]`.
        other: the same; of as many classes.
        dataset, classes, bootstrap, confidence, seed: as in `report`.
        **options: `ignore_label`, `boundary`, `tolerance` and `width`, as in `report`.

    Returns:
        A dict `found["iou"]["border"]` and `found["iou"]["mean"]` of `Difference`, `other` less
        `model`, with the scores of `report`.

    Raises:
        ValueError: for an empty data set, models of different numbers of classes, or arguments or
            shapes that do not fit.

    Reference:
        Efron, Tibshirani: An Introduction to the Bootstrap, Chapman and Hall 1993.

    Example:
        >>> gain = compare(model, fine_tuned, test_data, classes=pets.CLASSES)["iou"]["mean"]
        >>> print(gain, "seen" if gain.seen else "may be chance")
    """
    check_bootstrap(bootstrap, confidence)
    names, sides = count_pictures([model, other], dataset, classes, **options)
    return differences(*sides, names, bootstrap, confidence, seed)


def differences(before, after, classes, bootstrap, confidence, seed):
    """Turns what was counted in each picture, for both models, into the result of `compare`."""
    # The same seed draws the same pictures for both.
    (once_before, drawn_before), (once_after, drawn_after) = (
        resample(side, bootstrap, seed) for side in (before, after)
    )
    found = {}
    for name, scores in once_after.items():
        gain, drawn = scores - once_before[name], drawn_after[name] - drawn_before[name]
        columns = percentile_intervals(gain[0], drawn, confidence)
        names = (*classes, MEAN) if len(columns) > 1 else (MEAN,)
        found[name] = {n: Difference(*column) for n, column in zip(names, columns, strict=True)}
    return found
