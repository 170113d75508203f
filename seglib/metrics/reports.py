"""One table of a model's quality, with intervals that say how sure the test pictures make it."""

import dataclasses
import html
import json
import math
import pathlib
import typing

import numpy as np
from keras import ops

from seglib.core.checks import check_labels
from seglib.core.constants import IGNORE_LABEL
from seglib.core.distance import unpack
from seglib.core.kernels import fused
from seglib.metrics.base import count_cells
from seglib.metrics.boundary import BoundaryF1, BoundaryIoU

MEAN = "mean"
TITLES = {
    "iou": "IoU",
    "dice": "Dice",
    "recall": "Recall",
    "precision": "Precision",
    "boundary_f1": "Boundary F1",
    "boundary_iou": "Boundary IoU",
}


class Interval(typing.NamedTuple):
    """A score and its bootstrap interval; NaN where there is none."""

    value: float
    low: float
    high: float

    def __str__(self):
        if math.isnan(self.value):
            return "–"
        if math.isnan(self.low):
            return f"{self.value:.3f}"
        return f"{self.value:.3f} ({self.low:.3f}–{self.high:.3f})"


@dataclasses.dataclass(frozen=True)
class Report:
    """The result of `report`: shown as a table in a notebook and by `print`, saved as JSON.

    Attributes:
        scores: the table, `scores["iou"]["border"]` and `scores["iou"]["mean"]`: each an
            `Interval` with `value`, `low` and `high`.
        pixel_accuracy: share of all pixels with the right class, an `Interval`.
        confusion: NumPy int64 `[C, C]`, row = truth.
        pictures: number of pictures.
        confidence: of the intervals.
        bootstrap: number of resamples, 0 for no intervals.
        seed: of the resamples.
    """

    scores: dict[str, dict[str, Interval]]
    pixel_accuracy: Interval
    confusion: np.ndarray
    pictures: int
    confidence: float
    bootstrap: int
    seed: int

    @property
    def caption(self):
        text = f"{self.pictures} pictures. Pixel accuracy {self.pixel_accuracy}."
        if not self.bootstrap:
            return text
        return (
            f"{text} In parentheses: {100 * self.confidence:g} % intervals, "
            f"{self.bootstrap} bootstrap resamples of the pictures."
        )

    def rows(self):
        """Returns the table as text, a list of lists; the first row is the header."""
        names = next(iter(self.scores.values()))
        header = ["Class", *(TITLES[score] for score in self.scores)]
        return [header] + [
            [name, *(str(column[name]) for column in self.scores.values())] for name in names
        ]

    def __str__(self):
        rows = self.rows()
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        return "\n".join([*lines, "", self.caption])

    def _repr_html_(self):
        # No color and no style: the page around it, light or dark, decides.
        (first, *titles), *body = (list(map(html.escape, row)) for row in self.rows())
        head = "".join(f'<th scope="col">{title}</th>' for title in (first, *titles))
        lines = [
            f'<tr><th scope="row">{name}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
            for name, *cells in body
        ]
        return (
            f"<table><caption>{html.escape(self.caption)}</caption>"
            f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
        )

    def to_json(self):
        """Returns all of it as a JSON text; a score that does not exist is `null`."""
        scores = {
            score: {name: as_json(cell) for name, cell in column.items()}
            for score, column in self.scores.items()
        }
        whole = {
            "pictures": self.pictures,
            "confidence": self.confidence,
            "bootstrap": self.bootstrap,
            "seed": self.seed,
            "pixel_accuracy": as_json(self.pixel_accuracy),
            "scores": scores,
            "confusion": self.confusion.tolist(),
        }
        return json.dumps(whole, indent=2, ensure_ascii=False, allow_nan=False)

    def save(self, path):
        """Writes the JSON text to a file and returns its path."""
        path = pathlib.Path(path)
        path.write_text(self.to_json() + "\n", encoding="utf-8")
        return path


def report(
    model,
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
    """Scores a model on a data set in one pass: each class and their mean, with intervals.

    The scores are those of the whole data set: IoU, Dice, recall (the accuracy within a class) and
    precision come from the confusion matrix of all pixels, Boundary F1 from the pictures that have
    the class's boundary (`BoundaryF1(average="class")`), Boundary IoU from the sums over all
    pictures. The mean is over the classes that occur.

    The intervals tell how much the scores would vary with another draw of as many test pictures
    (percentile bootstrap: the pictures, not their pixels, which are no independent evidence, are
    drawn with replacement). They leave out what varies between trainings; train with several seeds
    to see that. With fewer than about 30 pictures they are too narrow, also for a class that is in
    few pictures. A resample without the class is left out of its interval.

    Args:
        model: Keras model, or a function of a batch of images, that returns logits `[B, H, W, C]`
            (or `[B, H, W, 1]`, the logit of class 1).
        dataset: batches `(images, label maps)` or `(images, label maps, sample weights)`; pixels
            of weight 0 do not count. The label maps may be packed with distances.
        classes: names of the classes; their numbers if `None`.
        ignore_label: label of pixels that count nowhere.
        bootstrap: number of resamples; 0 for no intervals.
        confidence: between 0 and 1.
        seed: of the resamples; the same seed gives the same intervals.
        boundary: whether the boundary scores are computed, which takes longer than the rest.
        tolerance: as in `BoundaryF1`.
        width: as in `BoundaryIoU`.

    Returns:
        A `Report`.

    Raises:
        ValueError: for an empty data set, labels that are no class, or arguments or shapes that do
            not fit.

    Reference:
        Efron: Bootstrap methods: another look at the jackknife, Annals of Statistics 1979.

    Example:
        >>> table = report(model, test_data, classes=("pet", "background", "border"))
        >>> table.scores["iou"]["border"].low
        >>> table.save("report.json")
    """
    check_bootstrap(bootstrap, confidence)
    options = {"boundary": boundary, "tolerance": tolerance, "width": width}
    names, statistics = count_pictures(
        [model], dataset, classes, ignore_label=ignore_label, **options
    )
    return summarize(
        *statistics, classes=names, bootstrap=bootstrap, confidence=confidence, seed=seed
    )


def check_bootstrap(bootstrap, confidence):
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}, expected between 0 and 1, such as 0.95.")
    if bootstrap < 0:
        raise ValueError(f"bootstrap is {bootstrap}, expected a number of resamples, 0 for none.")


def count_pictures(models, dataset, classes, **options):
    """Returns the classes' names, and what `PictureCounter` counts for each model, in one pass."""
    calls = [getattr(model, "predict_on_batch", model) for model in models]
    counter, parts = None, [[] for _ in models]
    for images, y_true, *weight in dataset:
        logits = [ops.convert_to_tensor(call(images)) for call in calls]
        num_classes, *others = (max(2, each.shape[-1]) for each in logits)
        if others and others[0] != num_classes:
            raise ValueError(
                f"The models have {num_classes} and {others[0]} classes, expected the same number. "
                "Scores of different tasks cannot be compared."
            )
        if counter is None:
            classes = check_names(classes, num_classes)
            counter = PictureCounter(num_classes, **options)
        for side, each in zip(parts, logits, strict=True):
            side.append(counter(y_true, each, *weight))
    if counter is None:
        raise ValueError("The data set holds no batch; expected pairs of images and label maps.")
    joined = [{key: np.concatenate([p[key] for p in side]) for key in side[0]} for side in parts]
    return classes, joined


class PictureCounter:
    """Counts what the scores of each picture follow from, as NumPy arrays with an axis `B`."""

    def __init__(
        self, num_classes, ignore_label=IGNORE_LABEL, boundary=True, tolerance=0.0075, width=0.02
    ):
        self.f1 = BoundaryF1(num_classes, tolerance=tolerance, ignore_label=ignore_label)
        self.iou = BoundaryIoU(num_classes, width=width)
        self.boundary = boundary

    def __call__(self, y_true, logits, sample_weight=None):
        labels, _ = unpack(y_true, self.f1.num_classes)
        check_labels(labels, self.f1.num_classes, self.f1.ignore_label)
        truth, prediction = self.f1.holed_maps(labels, logits, sample_weight)
        matrices = picture_matrices(truth, prediction, self.f1.num_classes)
        found = {"matrices": ops.convert_to_numpy(matrices).astype("int64")}
        if self.boundary:
            score, seen, _ = map(ops.convert_to_numpy, self.f1.scores(truth, prediction))
            found["f1"] = np.where(seen, score, 0.0).astype("float64")
            found["f1_seen"] = seen.astype("int64")
            bands = ops.convert_to_numpy(self.iou.overlaps(truth, prediction)).astype("int64")
            found["band_tp"], found["band_union"] = bands[:, 0], bands[:, 1]
        return found


@fused
def picture_matrices(truth, prediction, num_classes):
    """Returns the confusion matrix of each picture, int32 `[B, C, C]`; -1 counts nowhere."""
    pictures, cells = ops.shape(truth)[0], num_classes**2
    cell = ops.where(truth < 0, cells, truth * num_classes + prediction)  # (B, H, W)
    own = (cells + 1) * ops.arange(pictures, dtype="int32")
    counts = count_cells(ops.reshape(cell + own[:, None, None], [-1]), pictures * (cells + 1))
    counts = ops.reshape(counts, [-1, cells + 1])[:, :cells]
    return ops.reshape(counts, [-1, num_classes, num_classes])


def summarize(statistics, *, classes, bootstrap, confidence, seed):
    """Turns what was counted in each picture into a `Report`."""
    matrices = statistics["matrices"]
    pictures = len(matrices)
    estimates, resampled = resample(statistics, bootstrap, seed)
    intervals = {
        name: percentile_intervals(estimates[name][0], resampled[name], confidence)
        for name in estimates
    }
    (pixel_accuracy,) = intervals.pop("pixel_accuracy")
    return Report(
        scores={
            name: dict(zip((*classes, MEAN), column, strict=True))
            for name, column in intervals.items()
        },
        pixel_accuracy=pixel_accuracy,
        confusion=matrices.sum(axis=0),
        pictures=pictures,
        confidence=confidence,
        bootstrap=bootstrap,
        seed=seed,
    )


def resample(statistics, bootstrap, seed):
    """Returns the scores of all pictures, and those of each bootstrap resample of them."""
    pictures = len(statistics["matrices"])
    # How often each resample draws each picture: all resamples are then one matrix product.
    draws = np.random.default_rng(seed).multinomial(
        pictures, np.full(pictures, 1 / pictures), size=bootstrap
    )
    return tuple(weighted_scores(statistics, w) for w in (np.ones((1, pictures)), draws))


def weighted_scores(statistics, weights):
    """Returns each score when picture `n` stands in the data set `weights[r, n]` times.

    Returns:
        Arrays `[R, C + 1]`, the mean over the classes last; `[R, 1]` for the pixel accuracy.
    """
    weights = weights.astype("float64")  # sums of counts stay exact up to 2**53
    matrices = statistics["matrices"]
    tp = weights @ np.diagonal(matrices, axis1=1, axis2=2)  # (R, C)
    true, predicted = weights @ matrices.sum(axis=2), weights @ matrices.sum(axis=1)
    scores = {
        "iou": with_mean(ratio(tp, true + predicted - tp)),
        "dice": with_mean(ratio(2 * tp, true + predicted)),
        "recall": with_mean(ratio(tp, true)),
        "precision": with_mean(ratio(tp, predicted)),
        "pixel_accuracy": ratio(tp.sum(axis=1), true.sum(axis=1))[:, None],
    }
    for name, part, whole in (
        ("boundary_f1", "f1", "f1_seen"),
        ("boundary_iou", "band_tp", "band_union"),
    ):
        if part in statistics:
            scores[name] = with_mean(ratio(weights @ statistics[part], weights @ statistics[whole]))
    return scores


def ratio(part, whole):
    """Divides; NaN where the whole is 0."""
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)


def with_mean(scores):
    """Appends the mean over the classes that have a score: `[R, C]` to `[R, C + 1]`."""
    present = ~np.isnan(scores)
    total = np.where(present, scores, 0.0).sum(axis=1)
    return np.column_stack([scores, ratio(total, present.sum(axis=1))])


def percentile_intervals(estimates, resampled, confidence):
    """Returns an `Interval` for each column of the resamples; a NaN among them is left out."""
    tail = (1 - confidence) / 2
    intervals = []
    for value, column in zip(estimates, resampled.T, strict=True):
        column = column[~np.isnan(column)]
        low, high = np.quantile(column, [tail, 1 - tail]) if len(column) else (np.nan, np.nan)
        intervals.append(Interval(float(value), float(low), float(high)))
    return intervals


def check_names(classes, num_classes):
    """Returns the classes' names, and raises if they cannot head the rows of a table."""
    names = tuple(range(num_classes)) if classes is None else tuple(classes)
    names = tuple(str(name) for name in names)
    if len(names) != num_classes:
        raise ValueError(
            f"There are {len(names)} names for {num_classes} classes. "
            "Give one name for each channel of the logits; two for one channel."
        )
    if len(set(names)) < num_classes or MEAN in names:
        raise ValueError(
            f"The names of the classes are {names}, expected different ones, none of them 'mean'."
        )
    return names


def as_json(interval):
    """Returns an interval as a dict without NaN, which JSON does not know."""
    return {
        key: None if math.isnan(number) else number for key, number in interval._asdict().items()
    }
