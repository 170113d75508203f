"""How sure it is that one model is better than another: both score the same pictures."""

import math
import typing

import numpy as np
from keras import ops

from seglib.core.constants import IGNORE_LABEL
from seglib.metrics.reports import (
    MEAN,
    PictureCounter,
    check_names,
    percentile_intervals,
    weighted_scores,
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
    ignore_label=IGNORE_LABEL,
    bootstrap=1000,
    confidence=0.95,
    seed=0,
    boundary=True,
    tolerance=0.0075,
    width=0.02,
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
        dataset: batches `(images, label maps)`, perhaps with sample weights, as for `report`.
        classes: names of the classes; their numbers if `None`.
        ignore_label: label of pixels that count nowhere.
        bootstrap: number of resamples; 0 for no intervals.
        confidence: between 0 and 1.
        seed: of the resamples.
        boundary: whether the boundary scores are compared as well, which takes longer.
        tolerance: as in `BoundaryF1`.
        width: as in `BoundaryIoU`.

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
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}, expected between 0 and 1, such as 0.95.")
    if bootstrap < 0:
        raise ValueError(f"bootstrap is {bootstrap}, expected a number of resamples, 0 for none.")
    calls = [getattr(m, "predict_on_batch", m) for m in (model, other)]
    counter, parts = None, ([], [])
    for images, y_true, *weight in dataset:
        logits = [ops.convert_to_tensor(call(images)) for call in calls]
        counts = [max(2, each.shape[-1]) for each in logits]
        if counts[0] != counts[1]:
            raise ValueError(
                f"The models have {counts[0]} and {counts[1]} classes, expected the same number. "
                "Scores of different tasks cannot be compared."
            )
        if counter is None:
            classes = check_names(classes, counts[0])
            counter = PictureCounter(counts[0], ignore_label, boundary, tolerance, width)
        for side, each in zip(parts, logits, strict=True):
            side.append(counter(y_true, each, *weight))
    if counter is None:
        raise ValueError("The data set holds no batch; expected pairs of images and label maps.")
    sides = [{key: np.concatenate([p[key] for p in side]) for key in side[0]} for side in parts]
    return differences(*sides, classes, bootstrap, confidence, seed)


def differences(before, after, classes, bootstrap, confidence, seed):
    """Turns what was counted in each picture, for both models, into the result of `compare`."""
    pictures = len(before["matrices"])
    draws = np.random.default_rng(seed).multinomial(
        pictures, np.full(pictures, 1 / pictures), size=bootstrap
    )
    once, resampled = (
        [weighted_scores(side, weights) for side in (before, after)]
        for weights in (np.ones((1, pictures)), draws)
    )
    found = {}
    for name, scores in once[1].items():
        columns = percentile_intervals(
            (scores - once[0][name])[0], resampled[1][name] - resampled[0][name], confidence
        )
        names = (*classes, MEAN) if len(columns) > 1 else (MEAN,)
        found[name] = {n: Difference(*column) for n, column in zip(names, columns, strict=True)}
    return found
