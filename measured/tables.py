"""Measured results as Markdown tables: a renderer for each `kind` of result.

The book's pages and the README show numbers only through `markdown_table`, so a number in prose
cannot drift from the run that measured it.
"""

import statistics

from measured import peers
from measured.machine import names
from measured.store import measurements
from seglib.chapters import results
from seglib.chapters.results import check

MEGA = 1e6
# Scores that a run may have beside the mean IoU; a table has a column if all its runs do.
MORE_SCORES = {
    "mean_iou_mirrored": "with mirror image",
    "boundary_f1": "Boundary F1",
    "boundary_iou": "Boundary IoU",
}


def markdown_table(result: dict) -> str:
    """Renders a result by its `kind`, with a line that says what was measured.

    Runs that differ in their seed alone share a row: the mean over the seeds, and the sample
    standard deviation. Runs on other data or on a GPU (`others`) get rows of their own, whose title
    says so.

    Args:
        result: the result, as `load` returns it.

    Returns:
        Markdown that both GitHub and the book render.

    Raises:
        ValueError: if `result` lacks a part that the table shows, or is of an unknown kind.
    """
    check(result, "the result")
    if result["kind"] not in RENDERERS:
        raise ValueError(f"kind is {result['kind']!r}, expected one of {', '.join(RENDERERS)}.")
    return RENDERERS[result["kind"]](result)


def _table_of_scores(result: dict) -> str:
    """Returns a row for each recipe and size, and a table of what was done to the predictions.

    "With mirror image" is the mean IoU of the mean of two predictions, the second of the mirrored
    picture.
    """
    classes = list(result["runs"][0]["iou"])
    found = _titled(result)
    runs = [run for measurement in found for run in measurement["runs"]]
    more = {k: v for k, v in MORE_SCORES.items() if all(k in run for run in runs)}
    header = ["Recipe", "Pixels", "Seeds", "Mean IoU", *more.values()]
    header += [f"IoU {name}" for name in classes]
    header += ["Pixel accuracy", "Training", "Processor time", "Parameters"]
    lines = [_row(header), _row([":---", *["---:"] * (len(header) - 1)])]
    lines += [_row(_cells(group, classes, more)) for group in results.grouped(runs)]
    return "\n".join([*lines, *_table_of_sharpened(found, classes), "", provenance(result)])


def _titled(result: dict) -> list[dict]:
    """Returns the measurements of a file; those after the first say in their titles where from."""
    first, *others = measurements(result)
    found = [first]
    for other in others:
        where = []
        if other["data"].get("fingerprint") != first["data"].get("fingerprint"):
            where.append(other["data"]["note"])
        if other["device"]["gpu"] != first["device"]["gpu"]:
            where += other["device"]["gpu"] or ["no GPU"]
        note = f" ({', '.join(where)})"
        runs = [run | {"title": run["title"] + note} for run in other["runs"]]
        found.append(other | {"runs": runs})
    return found


def _table_of_sharpened(measured: list[dict], classes: list[str]) -> list[str]:
    """Returns the lines of a second table: what was done to predictions after the training."""
    groups = [(m["data"]["test"], runs) for m in measured for runs in results.grouped(m["runs"])]
    rows = []
    for pictures, runs in groups:
        found = [run["sharpened"] for run in runs if "sharpened" in run]
        for how in found[0] if found else ():
            scores = [one[how] for one in found]
            values = [statistics.fmean(score["mean_iou"] for score in scores)]
            values += [statistics.fmean(s["iou"][name] for s in scores) for name in classes]
            values.append(statistics.fmean(score["boundary_f1"] for score in scores))
            cells = [runs[0]["title"], how, str(len(scores)), *(f"{v:.3f}" for v in values)]
            cpu = statistics.fmean(score["cpu_seconds"] for score in scores)
            rows.append([*cells, f"{1000 * cpu / pictures:.0f} ms"])
    if not rows:
        return []
    header = ["Recipe", "and then", "Seeds", "Mean IoU"]
    header += [f"IoU {name}" for name in classes]
    header += ["Boundary F1", "Processor time per picture"]
    marks = [":---", ":---", *["---:"] * (len(header) - 2)]
    return ["", *map(_row, [header, marks, *rows])]


def _table_of_detections(result: dict) -> str:
    """Returns a row for each recipe, and one more where the scores leave the masks' quality out."""
    scores = {
        f"{kind}_{key}": f"{kind.title()} {key.upper()}"
        for kind in ("mask", "box")
        for key in ("ap", "ap50", "ap75")
    }
    header = ["Recipe", "Pixels", "Seeds", *scores.values(), "Training", "Processor time"]
    header.append("Parameters")
    lines = [_row(header), _row([":---", *["---:"] * (len(header) - 1)])]
    for runs in results.grouped([run for m in _titled(result) for run in m["runs"]]):
        first = runs[0]
        ways = [(first["title"], runs)]
        if all("class_scores_alone" in run for run in runs):
            title = f"{first['title']}, class scores alone"
            ways.append((title, [run["class_scores_alone"] for run in runs]))
        for title, found in ways:
            cells = [title, str(first["image_size"]), str(len(runs))]
            cells += [_mean_and_spread([one[score] for one in found]) for score in scores]
            cells += _costs(runs)
            lines.append(_row(cells))
    return "\n".join([*lines, "", provenance(result)])


def _table_of_differences(result: dict) -> str:
    header = ["What is changed", "Harms", "Seeds", "Right", "Changed", "Difference", "Verdict"]
    lines = [_row(header), _row([":---", ":---", *["---:"] * 4, ":---"])]
    for row in [row for measurement in _titled(result) for row in results.differences(measurement)]:
        cells = [row["title"], {"nothing": "–"}.get(row["harms"], row["harms"])]
        cells += [str(row["seeds"]), f"{row['right']:.3f}", f"{row['wrong']:.3f}"]
        lines.append(
            _row(
                [
                    *cells,
                    f"{row['mean']:+.3f}{plus_minus(row['spread'])}",
                    row["verdict"],
                ]
            )
        )
    settings = result["runs"][0]["settings"]
    how = (
        f"Mean IoU at {settings['image_size']} pixels after {settings['epochs']} epochs. "
        "Differences are taken seed by seed; a difference is seen if zero lies outside of the 95% "
        "interval of their mean."
    )
    return "\n".join([*lines, "", f"{how} {provenance(result)}"])


def _leaderboard(result: dict) -> str:
    """Returns two tables, as one would be wider than a page: what is reached, what it costs."""
    first, *others = _titled(result)
    lines = _model_lines(first)
    for other in others:
        lines += _model_lines(other)[1:]
    cut = lines[0].index("Parameters")
    tables = []
    for columns in (range(cut), (0, 1, *range(cut, len(lines[0])))):
        head, *body = ([line[i] for i in columns] for line in lines)
        marks = [":---", *["---:"] * (len(head) - 1)]
        tables.append("\n".join(map(_row, [head, marks, *body])))
    how = (
        "The interval is what other test pictures would do to the mean IoU (bootstrap over the "
        "pictures). Multiply-adds are of one picture; the times are medians of a compiled "
        "prediction of one picture and of a batch of eight; memory is what eight add to the "
        "process; training is processor time, the shortest of the seeds'."
    )
    return "\n\n".join([*tables, f"{how} {provenance(result)}"])


def _table_of_savings(result: dict) -> str:
    """Returns a row a saving: the time without it, with it, and how many times as fast that is."""
    lines = [
        _row(["Saving", "Work", "Without", "With", "Speed"]),
        _row([":---", ":---", "---:", "---:", "---:"]),
    ]
    for run in result["runs"]:
        saving = f"{run['saving']}: {run['after']}, not {run['before']}"
        times = (f"{run[f'{when}_ms']:,.0f} ms" for when in ("before", "after"))
        speed = f"{run['before_ms'] / run['after_ms']:.2f} ×"
        lines.append(_row([saving, run["work"], *times, speed]))
    return "\n".join([*lines, "", _measured_on(result)])


def _table_of_stages(result: dict) -> str:
    """Returns a row a stage: its time, and its share of the whole of its work."""
    whole = {run["work"]: run["ms"] for run in result["runs"] if run["stage"] == "whole"}
    lines = [_row(["Work", "Stage", "Time", "Share"]), _row([":---", ":---", "---:", "---:"])]
    before = None
    for run in result["runs"]:
        work = "" if run["work"] == before else run["work"]  # named once
        before = run["work"]
        share = f"{100 * run['ms'] / whole[before]:.0f}%"
        digits = 0 if run["ms"] >= 100 else 1 if run["ms"] >= 1 else 2
        lines.append(_row([work, run["stage"], f"{run['ms']:,.{digits}f} ms", share]))
    return "\n".join([*lines, "", _measured_on(result)])


def _tables_of_peers(result: dict) -> str:
    """Returns a table for each work, and who is missing."""
    tables = []
    for title, found in peers.rows(result).items():
        marks = [":---", *["---:"] * (len(peers.HEADER) - 1)]
        lines = [_row([*peers.HEADER]), _row(marks), *(_row(peers.cells(row)) for row in found)]
        tables.append("\n".join([f"**{title}**", "", *lines]))
    how = (
        "Speed is how many times as fast as the first row a model is. Measured with "
        f"{result['data']['note']}."
    )
    return "\n\n".join([*tables, " ".join([how, *peers.absent(result), _measured_on(result)])])


def provenance(result: dict) -> str:
    """Returns a sentence each on the task, the spread, and the data and machine of a result.

    Args:
        result: the result, as `load` returns it.

    Returns:
        A paragraph of Markdown.
    """
    sentences = [f"Task: {result['task']}."]
    if any(len(runs) > 1 for m in measurements(result) for runs in results.grouped(m["runs"])):
        sentences.append("Each row is the mean over its seeds; ± is the sample standard deviation.")
    for measurement in measurements(result):
        data = measurement["data"]
        sentences.append(
            f"Data: {data['name']}, {data['train']} training and {data['test']} test pictures "
            f"({data['note']})."
        )
        sentences.append(_measured_on(measurement))
    return " ".join(sentences)


def _measured_on(measurement: dict) -> str:
    """Says on which machines, with which versions and code the runs of a measurement were made."""
    runs = [run if "commit" in run else measurement for run in measurement["runs"]]
    parts = [text for run in runs for text in names(run["device"])]
    parts += [f"{name} {version}" for run in runs for name, version in run["versions"].items()]
    commits = dict.fromkeys(_short(run["commit"]) for run in runs)
    plural = "s" if len(commits) > 1 else ""
    return f"Measured on {', '.join(dict.fromkeys(parts))}, at commit{plural} {', '.join(commits)}."


def _short(commit: str) -> str:
    head, changes, _ = commit.partition("+")
    return head[:12] + (" with changes" if changes else "")


def _cells(runs: list[dict], classes: list[str], more: dict[str, str]) -> list[str]:
    mean = statistics.fmean
    return [
        runs[0]["title"],
        str(runs[0]["image_size"]),
        str(len(runs)),
        *(_mean_and_spread([run[score] for run in runs]) for score in ("mean_iou", *more)),
        *(f"{mean(run['iou'][name] for run in runs):.3f}" for name in classes),
        f"{mean(run['pixel_accuracy'] for run in runs):.3f}",
        *_costs(runs),
    ]


def _mean_and_spread(values: list[float]) -> str:
    spread = statistics.stdev(values) if len(values) > 1 else None
    return f"{statistics.fmean(values):.3f}{plus_minus(spread)}"


def _costs(runs: list[dict]) -> list[str]:
    return [
        _shortest([run["train_seconds"] for run in runs]),
        _shortest([run["cpu_seconds"] for run in runs]),
        f"{runs[0]['parameters'] / 1e6:.2f} M",
    ]


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _shortest(seconds: list[float | None]) -> str:
    """Returns the shortest of the seeds' times: what else a machine does only adds to one."""
    if None in seconds:
        return "not measured"
    minutes, rest = divmod(round(min(seconds)), 60)
    return f"{minutes} min {rest:02} s"


def _model_lines(result):
    """Returns the lines of a Markdown table, a list of lists of cells; the first is the header."""
    found = results.rows(result)
    classes = list(found[0]["iou"])
    header = ["Model", "Pixels", "Seeds", "Mean IoU", "95% of test sets"]
    header += [f"IoU {name}" for name in classes]
    header += ["Boundary F1", "Parameters", "Multiply-adds", "One picture", "Eight", "Memory"]
    header += ["Training"]
    return [header, *(_model_cells(row, classes) for row in found)]


def plus_minus(spread):
    """Returns a spread over seeds as text; nothing for `None`, and never a plain zero."""
    if spread is None:
        return ""
    return f" ± {spread:.3f}" if spread >= 0.0005 else " ± <0.001"


def _model_cells(row, classes):
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


RENDERERS = {
    "scores": _table_of_scores,
    "detections": _table_of_detections,
    "differences": _table_of_differences,
    "leaderboard": _leaderboard,
    "savings": _table_of_savings,
    "stages": _table_of_stages,
    "peers": _tables_of_peers,
}
