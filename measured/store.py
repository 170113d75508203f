"""The files results/*.json: what `make results` and `make bench` measured."""

import json
import os
import pathlib

from measured import machine
from seglib.chapters.results import check, load, path


def save(name: str, result: dict) -> pathlib.Path:
    """Writes a measured result, so that a killed run leaves the old file or the new one.

    Args:
        name: the file's name without `.json`.
        result: the result, as `load` returns it.

    Returns:
        The path written.

    Raises:
        ValueError: if `result` lacks a part that the pages show.
    """
    check(result, "the result")
    file = path(name)
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".json.partial")
    partial.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(partial, file)
    return file


def add(name: str, measurement: dict) -> None:
    """Puts a measurement into a file that may hold those of other data or another kind of machine.

    It replaces the one of the same data and the same GPUs, or none.

    Args:
        name: the file's name without `.json`.
        measurement: a result without `others`.

    Raises:
        ValueError: if `measurement` lacks a part that the pages show.
        RuntimeError: if it was made with changes that no commit holds; see `check_clean`.
    """
    check_clean(measurement["commit"])
    known = path(name).exists()
    held = measurements(load(name)) if known else []
    place = _place(measurement["data"], measurement["device"])
    places = [_place(other["data"], other["device"]) for other in held]
    if place in places:
        held[places.index(place)] = measurement
    else:
        held.append(measurement)
    first, *others = held
    save(name, first | {"others": others} if others else first)


def measured_here(name: str, data: dict) -> dict | None:
    """Returns the measurement of a file that was made with these data and this machine's GPUs.

    Args:
        name: the file's name without `.json`.
        data: what the file says of the data, with their `fingerprint`.

    Returns:
        The measurement, or `None` if there is none yet.
    """
    if not path(name).exists():
        return None
    place = _place(data, machine.device())
    for measurement in measurements(load(name)):
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


def check_clean(commit: str) -> None:
    """Refuses what is measured with changes that no commit holds; `make results DIRTY=1` saves it.

    Args:
        commit: as `measured.machine.commit` returns it.

    Raises:
        RuntimeError: if tracked files differ from the commit, and `DIRTY` is not set.
    """
    if commit.endswith("+changes") and not os.environ.get("DIRTY"):
        raise RuntimeError(
            "The working tree has changes, so nobody could find the code of these numbers again. "
            "Commit first. With DIRTY=1 they are saved all the same, and the pages say so."
        )
