"""Reads the measured results that two chapters talk about; `measured/` writes and renders them."""

import json
import pathlib
import statistics

MEGA = 1e6
# Student's t: half the width of a 95% interval in standard errors, by the number of seeds.
T95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
# In the repository; where seglib is installed without it, as on Colab, they come with the package.
FOLDER = pathlib.Path(__file__).resolve().parents[2] / "results"
if not FOLDER.is_dir():
    FOLDER = pathlib.Path(__file__).with_name("measured")


def path(name: str) -> pathlib.Path:
    """Returns where the result called `name` is stored.

    Args:
        name: the file's name without `.json`, such as `"unet"`.

    Returns:
        The path of the file, which need not exist.
    """
    return FOLDER / f"{name}.json"


def load(name: str) -> dict:
    """Returns the measured result called `name`.

    Args:
        name: the file's name without `.json`, such as `"unet"`.

    Returns:
        The result: a dict with `task`, `data`, `device`, `versions`, `commit` and `runs`. Where the
        same was measured on other data or on a GPU as well, `others` holds a list of such dicts.

    Raises:
        FileNotFoundError: if it has not been measured.
        ValueError: if the file holds no such result.
    """
    file = path(name)
    if not file.exists():
        known = sorted(other.stem for other in file.parent.glob("*.json"))
        raise FileNotFoundError(f"{missing(name)} Other results: {', '.join(known) or 'none'}.")
    try:
        result = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(
            f"results/{file.name} is not valid JSON ({error}), expected what `make results` "
            "writes. Delete it and measure again."
        ) from error
    check(result, f"results/{file.name}")
    return result


def missing(name: str) -> str:
    """Returns the sentence that stands in for the table of a result that was not measured."""
    return f"`results/{name}.json` does not exist yet: `make results` measures and writes it."


def check(result: dict, source: str) -> None:
    """Raises if a result lacks a part that the pages show.

    Args:
        result: the result.
        source: what an error calls it.

    Raises:
        ValueError: naming what is missing.
    """
    wanted = {"kind", "task", "data", "device", "versions", "commit", "runs"}
    absent = sorted(wanted - set(result))
    if absent or not result["runs"]:
        came = f"no {', '.join(absent)}" if absent else "no run in `runs`"
        raise ValueError(
            f"{source} has {came}, expected {', '.join(sorted(wanted))} with at least one run. "
            "`make results` writes all of them."
        )
    for key in ("name", "train", "test", "note"):
        if key not in result["data"]:
            raise ValueError(
                f"{source} has no data.{key}, expected the data set's name, its sizes and a note. "
                "A table must say which pictures it was measured on."
            )


def rows(result):
    """Returns one dict for each model, the best mean IoU first; seeds are averaged.

    Args:
        result: what `seglib.chapters.results.load("leaderboard")` returns.

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
        "a batch of eight, ms per picture": measured(lambda row: row["milliseconds"]["8"] / 8),
        "memory for a batch of eight, MiB": measured(lambda row: row["peak_memory_mib"]),
        "multiply-adds of one picture, millions": lambda row: row["multiply_adds"] / MEGA,
        "parameters, millions": lambda row: row["parameters"] / MEGA,
        "training, minutes of processor time": lambda row: row["cpu_seconds"] / 60,
    }


def grouped(runs: list[dict]) -> list[list[dict]]:
    """Returns the runs of each recipe and size: those that differ in their seed alone."""
    groups: dict[tuple, list[dict]] = {}
    for run in runs:
        groups.setdefault((run["recipe"], run["image_size"], run["title"]), []).append(run)
    return list(groups.values())


def differences(result: dict) -> list[dict]:
    """Returns what each recipe changes against the one that it is compared with, seed by seed.

    A run's number is what is `reported` of it, or its mean IoU; the right number is the mean IoU of
    the run with the same seed of the recipe that it names in `against`. Seeds for which one of the
    two is missing are left out.

    Args:
        result: the result, as `load` returns it; its runs have `against` and `harms`, which is
            `"model"`, `"report"` or `"nothing"`.

    Returns:
        A dict for each recipe, in the order of the file: `recipe`, `title`, `harms`, `seeds` (how
        many), `right` and `wrong` (means over the seeds), `mean` (of the differences, wrong minus
        right), `spread` (their sample standard deviation, `None` for one seed) and `verdict`.
    """
    right = {(run["recipe"], run["seed"]): run["mean_iou"] for run in result["runs"]}
    rows = []
    for runs in grouped(result["runs"]):
        pairs = [
            (right[run["against"], run["seed"]], run.get("reported", run["mean_iou"]))
            for run in runs
            if run["against"] != run["recipe"] and (run["against"], run["seed"]) in right
        ]
        if not pairs:
            continue
        changes = [wrong - true for true, wrong in pairs]
        rows.append(
            {
                **{key: runs[0][key] for key in ("recipe", "title", "harms")},
                "seeds": len(pairs),
                "right": statistics.fmean(true for true, _ in pairs),
                "wrong": statistics.fmean(wrong for _, wrong in pairs),
                "mean": statistics.fmean(changes),
                "spread": statistics.stdev(changes) if len(changes) > 1 else None,
                "verdict": _verdict(runs[0]["harms"], changes),
            }
        )
    return rows


def _verdict(harms: str, changes: list[float]) -> str:
    """Returns in words whether the mean of the changes differs from zero, and what that means."""
    if len(changes) == 1:
        return "one seed says little"
    mean, spread = statistics.fmean(changes), statistics.stdev(changes)
    if abs(mean) <= T95.get(len(changes), 2.0) * spread / len(changes) ** 0.5:
        return "no difference seen"
    words = {"report": ("understates", "flatters")}.get(harms, ("worse", "better"))
    return words[mean > 0]


def drawn(rows, costs):
    """Returns the arguments of `seglib.plot.fronts` that draw models and what they cost.

    Args:
        rows: the models, as `rows` returns them.
        costs: functions of a row by their names, as `costs` returns them.
    """
    return {
        "scores": [row["mean_iou"] for row in rows],
        "costs": {name: [cost(row) for row in rows] for name, cost in costs.items()},
        "labels": [row["title"] for row in rows],
        "groups": [row["experiment"] for row in rows],
        "intervals": [row["interval"] for row in rows],
    }
