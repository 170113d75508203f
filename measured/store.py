"""Measured results: reads and writes `results/*.json` and renders them as Markdown.

The book's pages and the README show numbers only through `markdown_table`, so a number in prose
cannot drift from the run that measured it. Standard library only: the book's build imports this
module and must not wait for TensorFlow.
"""

import importlib.metadata
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys

from seglib import leaderboard, peers

DIRECTORY = pathlib.Path(__file__).resolve().parents[1] / "results"
# Scores that a run may have beside the mean IoU; a table has a column if all its runs do.
MORE_SCORES = {
    "mean_iou_mirrored": "with mirror image",
    "boundary_f1": "Boundary F1",
    "boundary_iou": "Boundary IoU",
}
PACKAGES = ("tensorflow", "keras", "numpy", "tensorflow-datasets")
# Linux's flags of the instructions that networks are computed with. bfloat16 is quicker than
# float32 only with the last three.
INSTRUCTIONS = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "asimd": "NEON",
    "avx512_bf16": "AVX-512 BF16",
    "amx_bf16": "AMX BF16",
    "bf16": "Arm BF16",
}
# Student's t: half the width of a 95% interval in standard errors, by the number of seeds.
T95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
MARKED = re.compile(
    r"<!-- results:(?P<name>[\w-]+) -->(?:.*?(?P<end><!-- /results:(?P=name) -->))?", re.DOTALL
)


def path(name: str, *, directory: str | os.PathLike | None = None) -> pathlib.Path:
    """Returns where the result called `name` is stored.

    Args:
        name: the file's name without `.json`, such as `"unet"`.
        directory: the folder of results; the repository's own when `None`.

    Returns:
        The path of the file, which need not exist.
    """
    return pathlib.Path(directory or DIRECTORY) / f"{name}.json"


def load(name: str, *, directory: str | os.PathLike | None = None) -> dict:
    """Returns the measured result called `name`.

    Args:
        name: the file's name without `.json`, such as `"unet"`.
        directory: the folder of results; the repository's own when `None`.

    Returns:
        The result: a dict with `task`, `data`, `device`, `versions`, `commit` and `runs`. Where the
        same was measured on other data or on a GPU as well, `others` holds a list of such dicts.

    Raises:
        FileNotFoundError: if it has not been measured.
        ValueError: if the file holds no such result.
    """
    file = path(name, directory=directory)
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
    _check(result, f"results/{file.name}")
    return result


def save(name: str, result: dict, *, directory: str | os.PathLike | None = None) -> pathlib.Path:
    """Writes a measured result, so that a killed run leaves the old file or the new one.

    Args:
        name: the file's name without `.json`.
        result: the result, as `load` returns it.
        directory: the folder of results; the repository's own when `None`.

    Returns:
        The path written.

    Raises:
        ValueError: if `result` lacks a part that the pages show.
    """
    _check(result, "the result")
    file = path(name, directory=directory)
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".json.partial")
    partial.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(partial, file)
    return file


def add(name: str, measurement: dict, *, directory: str | os.PathLike | None = None) -> None:
    """Puts a measurement into a file that may hold those of other data or another kind of machine.

    It replaces the one of the same data and the same GPUs, or none.

    Args:
        name: the file's name without `.json`.
        measurement: a result without `others`.
        directory: the folder of results; the repository's own when `None`.

    Raises:
        ValueError: if `measurement` lacks a part that the pages show.
    """
    known = path(name, directory=directory).exists()
    held = measurements(load(name, directory=directory)) if known else []
    place = _place(measurement["data"], measurement["device"])
    places = [_place(other["data"], other["device"]) for other in held]
    if place in places:
        held[places.index(place)] = measurement
    else:
        held.append(measurement)
    first, *others = held
    save(name, first | {"others": others} if others else first, directory=directory)


def measured_here(
    name: str, data: dict, *, directory: str | os.PathLike | None = None
) -> dict | None:
    """Returns the measurement of a file that was made with these data and this machine's GPUs.

    Args:
        name: the file's name without `.json`.
        data: what the file says of the data, with their `fingerprint`.
        directory: the folder of results; the repository's own when `None`.

    Returns:
        The measurement, or `None` if there is none yet.
    """
    if not path(name, directory=directory).exists():
        return None
    place = _place(data, device())
    for measurement in measurements(load(name, directory=directory)):
        if _place(measurement["data"], measurement["device"]) == place:
            return measurement
    return None


def measurements(result: dict) -> list[dict]:
    """Returns what a file holds, each measurement on its own: the first one, then the others.

    Args:
        result: the result, as `load` returns it.

    Returns:
        A list of results without `others`.
    """
    first = {key: value for key, value in result.items() if key != "others"}
    return [first, *result.get("others", [])]


def _place(data: dict, machine: dict) -> tuple:
    """Returns what two measurements share that belong together. Processors may differ."""
    return data.get("fingerprint"), machine["gpu"]


def stamp() -> dict:
    """Returns `device`, `versions` and `commit` of something that is measured now."""
    return {"device": device(), "versions": versions(), "commit": commit()}


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


def markdown_table(result: dict) -> str:
    """Returns one table row for each recipe and size, and a line that says what was measured.

    "With mirror image" is the mean IoU of the mean of two predictions, the second of the mirrored
    picture. Runs that differ in their seed alone share a row: the mean over the seeds, and the
    sample standard deviation of the mean IoU and the boundary scores.

    What was done to the predictions after the training (`sharpened`) stands in a second table.

    Runs on other data or on a GPU (`others`) get rows of their own, whose title says so.

    Runs that say `against` which recipe they are to be compared get the table of `differences`,
    runs whose predictions were timed that of `seglib.leaderboard`, runs whose training steps were
    those of `seglib.peers`, savings the times without and with each, stages their share of the
    whole, and runs that detect objects one of average precision.

    Args:
        result: the result, as `load` returns it.

    Returns:
        Markdown that both GitHub and the book render.

    Raises:
        ValueError: if `result` lacks a part that the table shows.
    """
    _check(result, "the result")
    if "against" in result["runs"][0]:
        return _table_of_differences(result)
    if "milliseconds" in result["runs"][0]:
        return _leaderboard(result)
    if "step_ms" in result["runs"][0]:
        return _tables_of_peers(result)
    if "saving" in result["runs"][0]:
        return _table_of_savings(result)
    if "stage" in result["runs"][0]:
        return _table_of_stages(result)
    if "mask_ap" in result["runs"][0]:
        return _table_of_detections(result)
    classes = list(result["runs"][0]["iou"])
    found = _titled(result)
    runs = [run for measurement in found for run in measurement["runs"]]
    more = {k: v for k, v in MORE_SCORES.items() if all(k in run for run in runs)}
    header = ["Recipe", "Pixels", "Seeds", "Mean IoU", *more.values()]
    header += [f"IoU {name}" for name in classes]
    header += ["Pixel accuracy", "Training", "Processor time", "Parameters"]
    lines = [_row(header), _row([":---", *["---:"] * (len(header) - 1)])]
    lines += [_row(_cells(group, classes, more)) for group in _grouped(runs)]
    return "\n".join([*lines, *_table_of_sharpened(found, classes), "", provenance(result)])


def _table_of_sharpened(measured: list[dict], classes: list[str]) -> list[str]:
    """Returns the lines of a second table: what was done to predictions after the training."""
    groups = [(m["data"]["test"], runs) for m in measured for runs in _grouped(m["runs"])]
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
    header += ["Boundary F1", "Processor time a picture"]
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
    for runs in _grouped([run for m in _titled(result) for run in m["runs"]]):
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
    for runs in _grouped(result["runs"]):
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


def _table_of_differences(result: dict) -> str:
    header = ["What is changed", "Harms", "Seeds", "Right", "Changed", "Difference", "Verdict"]
    lines = [_row(header), _row([":---", ":---", *["---:"] * 4, ":---"])]
    for row in [row for measurement in _titled(result) for row in differences(measurement)]:
        cells = [row["title"], {"nothing": "–"}.get(row["harms"], row["harms"])]
        cells += [str(row["seeds"]), f"{row['right']:.3f}", f"{row['wrong']:.3f}"]
        lines.append(
            _row(
                [
                    *cells,
                    f"{row['mean']:+.3f}{leaderboard.plus_minus(row['spread'])}",
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
    lines = leaderboard.lines(first)
    for other in others:
        lines += leaderboard.lines(other)[1:]
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
    if any(len(runs) > 1 for m in measurements(result) for runs in _grouped(m["runs"])):
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
    parts = [text for run in runs for text in machine(run["device"])]
    parts += [f"{name} {version}" for run in runs for name, version in run["versions"].items()]
    commits = dict.fromkeys(_short(run["commit"]) for run in runs)
    plural = "s" if len(commits) > 1 else ""
    return f"Measured on {', '.join(dict.fromkeys(parts))}, at commit{plural} {', '.join(commits)}."


def machine(device: dict) -> list[str]:
    """Returns the names of the processor, with cores and instruction sets, and of the GPUs.

    Args:
        device: as `device` returns it; older records lack the instruction sets.
    """
    cores = f"{device['cores']} core{'s' if device['cores'] > 1 else ''}"
    about = ", ".join([cores, *device.get("instructions", [])])
    return [f"{device['cpu']} ({about})", *device["gpu"]]


def _short(commit: str) -> str:
    head, changes, _ = commit.partition("+")
    return head[:12] + (" with changes" if changes else "")


def missing(name: str) -> str:
    """Returns the sentence that stands in for the table of a result that was not measured."""
    return f"`results/{name}.json` does not exist yet: `make results` measures and writes it."


def fill(text: str, *, directory: str | os.PathLike | None = None) -> str:
    """Returns a Markdown text with the tables between its markers rendered anew.

    Args:
        text: holds any number of `<!-- results:NAME -->` … `<!-- /results:NAME -->`.
        directory: the folder of results; the repository's own when `None`.

    Returns:
        The text; what stands outside of the markers is unchanged.

    Raises:
        ValueError: if a marker is not closed.
    """

    def render(match: re.Match) -> str:
        name = match["name"]
        if not match["end"]:
            raise ValueError(
                f"<!-- results:{name} --> has no end, expected <!-- /results:{name} --> after it. "
                "Add the closing marker on a line of its own."
            )
        known = path(name, directory=directory).exists()
        table = markdown_table(load(name, directory=directory)) if known else missing(name)
        return f"<!-- results:{name} -->\n{table}\n{match['end']}"

    return MARKED.sub(render, text)


def versions(packages: tuple[str, ...] = PACKAGES) -> dict[str, str]:
    """Returns the installed version of Python and of each package.

    Args:
        packages: names of distributions; one that is not installed is left out.

    Returns:
        A dict from the name to the version.
    """
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def device() -> dict[str, object]:
    """Returns the processor, the number of its cores that this process may use, and the GPUs.

    Returns:
        A dict with `cpu`, `cores`, `instructions` (those that decide how fast a network is, above
        all in bfloat16; empty where the system does not list them) and `gpu` (a list of names,
        empty without an NVIDIA driver).
    """
    usable = getattr(os, "sched_getaffinity", None)
    cores = len(usable(0)) if usable else os.cpu_count()
    cpu = {"cpu": _cpu_name(), "cores": cores, "instructions": instructions()}
    return cpu | {"gpu": _gpu_names()}


def instructions(cpuinfo: str | os.PathLike = "/proc/cpuinfo") -> list[str]:
    """Returns the names of the processor's instruction sets for vectors and matrices.

    Args:
        cpuinfo: the file in which Linux lists a processor's flags.
    """
    file = pathlib.Path(cpuinfo)
    text = file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""
    flags = re.search(r"^(?:flags|Features)\s*:(.*)$", text, flags=re.MULTILINE)
    return [name for flag, name in INSTRUCTIONS.items() if flags and flag in flags[1].split()]


def commit(directory: str | os.PathLike | None = None) -> str:
    """Returns the commit that is checked out, with `+changes` when tracked files differ from it.

    Args:
        directory: a folder of the repository; the one that holds seglib when `None`.

    Returns:
        The hash, or `"unknown"` outside a git repository.
    """
    where = pathlib.Path(directory or DIRECTORY.parent)
    head = _output(["git", "-C", str(where), "rev-parse", "HEAD"])
    if not head:
        return "unknown"
    changed = _output(["git", "-C", str(where), "status", "--porcelain", "--untracked-files=no"])
    return head + ("+changes" if changed else "")


def _check(result: dict, source: str) -> None:
    wanted = {"task", "data", "device", "versions", "commit", "runs"}
    missing = sorted(wanted - set(result))
    if missing or not result["runs"]:
        came = f"no {', '.join(missing)}" if missing else "no run in `runs`"
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


def _grouped(runs: list[dict]) -> list[list[dict]]:
    groups: dict[tuple, list[dict]] = {}
    for run in runs:
        groups.setdefault((run["recipe"], run["image_size"], run["title"]), []).append(run)
    return list(groups.values())


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
    return f"{statistics.fmean(values):.3f}{leaderboard.plus_minus(spread)}"


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


def _cpu_name() -> str:
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    if platform.system() == "Darwin":
        return _output(["sysctl", "-n", "machdep.cpu.brand_string"]) or platform.machine()
    return platform.processor() or platform.machine()


def _gpu_names() -> list[str]:
    return _output(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]).splitlines()


def _output(command: list[str]) -> str:
    """Returns what a command prints, and nothing when it is missing, fails or hangs."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def fill_page(page: pathlib.Path) -> str:
    """Returns the text of a Markdown file or a notebook with its tables rendered anew.

    Args:
        page: a `.md` file, or an `.ipynb` file whose Markdown cells may hold markers.

    Returns:
        The whole file's new text.
    """
    text = page.read_text(encoding="utf-8")
    if page.suffix != ".ipynb":
        return fill(text)
    notebook = json.loads(text)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = fill("".join(cell["source"])).splitlines(keepends=True)
    # as nbformat writes it
    return json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def draw_leaderboard(file: str | os.PathLike) -> None:
    """Draws the leaderboard for the README: mean IoU over latency, parameters and training time.

    What it shows stands in the file in words, too, as its description: `leaderboard_in_words`.

    Args:
        file: the `.svg` file to write.
    """
    from matplotlib import rc_context  # The tables must not wait for it.

    from seglib import plot

    rows = leaderboard.rows(load("leaderboard"))
    figure = plot.fronts(rows, _drawn_costs(rows), columns=3)
    with rc_context({"svg.hashsalt": "leaderboard"}):  # the same names in each drawing
        figure.savefig(file, metadata={"Date": None, "Description": leaderboard_in_words(rows)})


def leaderboard_in_words(rows: list[dict]) -> str:
    """Returns what `draw_leaderboard` draws, by which a drawing that is out of date is found."""
    costs = _drawn_costs(rows)
    return "; ".join(
        f"{row['letter']} {row['title']}: mean IoU {row['mean_iou']:.3f}"
        + "".join(f", {name}: {cost(row):.2f}" for name, cost in costs.items())
        for row in rows
    )


def _drawn_costs(rows: list[dict]) -> dict:
    names = ("latency of one picture, ms", "parameters, millions")
    names += ("training, minutes of processor time",)
    costs = leaderboard.costs(rows)
    return {name: costs[name] for name in names}


if __name__ == "__main__":
    # `python -m seglib.results README.md` brings the tables of a page up to date.
    for argument in sys.argv[1:]:
        page = pathlib.Path(argument)
        if page.suffix == ".svg":
            draw_leaderboard(page)
        else:
            page.write_text(fill_page(page), encoding="utf-8")
