"""The table of all finished models, what they reach and what they cost: results/leaderboard.json.

Standard library only, as `seglib.results`, which calls it.
"""

import statistics

MEGA = 1e6


def rows(result):
    """Returns one dict for each model, the best mean IoU first; seeds are averaged.

    Args:
        result: what `seglib.results.load("leaderboard")` returns.

    Returns:
        A list of dicts: `experiment`, `recipe`, `title`, `image_size`, `seeds` (how many),
        `mean_iou`, `spread` (its sample standard deviation over the seeds, `None` for one),
        `interval` (low, high: the 95% bootstrap interval over the test pictures, its ends averaged
        over the seeds), `iou` (by class), `boundary_f1`, `parameters`, `multiply_adds` (of one
        picture), `milliseconds` (`{"1": of one picture, "8": of a batch of eight}`),
        `peak_memory_mib`, `cpu_seconds` (of the training; of the seeds' the shortest, for what else
        the machine does only adds to it) and `letter` (its name in figures: A is the best).
    """
    groups = {}
    for run in result["runs"]:
        groups.setdefault((run["experiment"], run["recipe"]), []).append(run)
    found = sorted(map(_row, groups.values()), key=lambda row: -row["mean_iou"])
    return [row | {"letter": chr(ord("A") + place)} for place, row in enumerate(found)]


def _row(runs):
    def mean(value):
        return statistics.fmean(value(run) for run in runs)

    first, scores = runs[0], [run["mean_iou"] for run in runs]
    same = ("experiment", "recipe", "title", "image_size", "parameters", "multiply_adds")
    return {
        **{key: first[key] for key in (*same, "milliseconds", "peak_memory_mib")},
        "seeds": len(runs),
        "mean_iou": statistics.fmean(scores),
        "spread": statistics.stdev(scores) if len(scores) > 1 else None,
        "interval": tuple(mean(lambda run, i=i: run["intervals"]["mean"][i]) for i in (0, 1)),
        "iou": {name: mean(lambda run, name=name: run["iou"][name]) for name in first["iou"]},
        "boundary_f1": mean(lambda run: run["boundary_f1"]),
        "cpu_seconds": min(run["cpu_seconds"] for run in runs),
    }


def costs(rows):
    """Returns what one can pay with: functions of a row by their names, which say the unit.

    Rows of one network at one size have one cost of a prediction, the median of theirs; what
    differs between them is noise.

    Args:
        rows: as `rows` returns them.

    Returns:
        A dict of six: latency of one picture, of a batch of eight, memory, multiply-adds,
        parameters, and the training.
    """

    def network(row):
        return row["experiment"], row["image_size"], row["parameters"], row["multiply_adds"]

    def measured(cost):
        def of_network(row):
            same = (other for other in rows if network(other) == network(row))
            return statistics.median(map(cost, same))

        return of_network

    return {
        "latency of one picture, ms": measured(lambda row: row["milliseconds"]["1"]),
        "a batch of eight, ms a picture": measured(lambda row: row["milliseconds"]["8"] / 8),
        "memory for a batch of eight, MiB": measured(lambda row: row["peak_memory_mib"]),
        "multiply-adds of one picture, millions": lambda row: row["multiply_adds"] / MEGA,
        "parameters, millions": lambda row: row["parameters"] / MEGA,
        "training, minutes of processor time": lambda row: row["cpu_seconds"] / 60,
    }


def front(rows, cost):
    """Returns the rows that no other row beats in both: at least as good, and at a lower cost.

    Args:
        rows: as `rows` returns them.
        cost: a function of a row, the lower the better.

    Returns:
        A list, the cheapest first.
    """
    best, found = float("-inf"), []
    for row in sorted(rows, key=lambda row: (cost(row), -row["mean_iou"])):
        if row["mean_iou"] > best:
            best = row["mean_iou"]
            found.append(row)
    return found


def lines(result):
    """Returns the lines of a Markdown table, a list of lists of cells; the first is the header."""
    found = rows(result)
    classes = list(found[0]["iou"])
    header = ["Model", "Pixels", "Seeds", "Mean IoU", "95% of test sets"]
    header += [f"IoU {name}" for name in classes]
    header += ["Boundary F1", "Parameters", "Multiply-adds", "One picture", "Eight", "Memory"]
    header += ["Training"]
    return [header, *(_cells(row, classes) for row in found)]


def plus_minus(spread):
    """Returns a spread over seeds as text; nothing for `None`, and never a plain zero."""
    if spread is None:
        return ""
    return f" ± {spread:.3f}" if spread >= 0.0005 else " ± <0.001"


def _cells(row, classes):
    low, high = row["interval"]
    return [
        row["title"],
        str(row["image_size"]),
        str(row["seeds"]),
        f"{row['mean_iou']:.3f}{plus_minus(row['spread'])}",
        f"{low:.3f}–{high:.3f}",
        *(f"{row['iou'][name]:.3f}" for name in classes),
        f"{row['boundary_f1']:.3f}",
        f"{row['parameters'] / MEGA:.2f} M",
        f"{row['multiply_adds'] / MEGA:,.0f} M",
        *(f"{row['milliseconds'][batch]:.0f} ms" for batch in ("1", "8")),
        f"{row['peak_memory_mib']} MiB",
        f"{row['cpu_seconds'] / 60:.0f} min",
    ]
