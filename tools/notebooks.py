"""Runs the notebooks and stores their outputs in them; checks what is stored.

    python tools/notebooks.py run [--jobs 2] [NOTEBOOK ...]
    python tools/notebooks.py check [NOTEBOOK ...]

Without a name, all notebooks are meant. A notebook that fails stays as it was. What each run took
is written to results/chapters.json, from which the book's page book/status.md lists it.
"""

import argparse
import base64
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import nbformat
import yaml
from nbconvert.preprocessors import CoalesceStreamsPreprocessor
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
RAN = ROOT / "_build" / "notebooks"
TIMES = ROOT / "results" / "chapters.json"
COLOR = re.compile(r"\x1b\[[0-9;]*m")
# The same on every machine: no version of Python, no time, no name of a kernel of one's own.
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
# What an editor or a run adds to a cell and a reader does not need.
PASSING = ("execution", "collapsed", "ExecuteTime", "executionInfo", "outputId", "colab", "id")

BOOTSTRAP = """\
# On Google Colab this installs seglib, the book's package. Anywhere else it does nothing.
import os
import sys

if "google.colab" in sys.modules or "COLAB_RELEASE_TAG" in os.environ:
    # --no-deps: Colab's own TensorFlow, Keras and NumPy stay as they are.
    %pip install --quiet --no-deps {repository}/archive/refs/tags/v{version}.tar.gz
    from seglib.chapters import colab

    colab.add_missing()
    colab.check()"""


def bootstrap_cell():
    """The text of the cell tagged `bootstrap`: the same in every notebook."""
    from seglib import __version__

    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    return BOOTSTRAP.format(repository=config["repository"]["url"], version=__version__)


def read(path):
    return nbformat.read(path, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def is_bootstrap(cell):
    return "bootstrap" in cell.metadata.get("tags", [])


def code_hash(notebook):
    """The SHA-256 of a notebook's code, without the bootstrap cell, which is checked by itself."""
    code = [cell.source for cell in code_cells(notebook) if not is_bootstrap(cell)]
    return hashlib.sha256(json.dumps(code).encode()).hexdigest()


# --- run ------------------------------------------------------------------------------------


def measured(command):
    """Runs a command; returns its exit code, what it said, and its seconds with all its children's.

    Seconds are a pair: the processor's and the clock's.
    """
    start = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        said = process.stdout.read().decode(errors="replace")
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = (used.ru_utime + used.ru_stime, time.monotonic() - start)
    return process.returncode, said, seconds


def run(path):
    """Runs a notebook and stores its outputs; returns its seconds and the error or `None`."""
    before = path.read_bytes()
    command = [sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute"]
    code, said, seconds = measured([*command, "--output-dir", str(RAN), str(path)])
    if code:
        # What comes before is the traceback of nbconvert itself.
        error = COLOR.sub("", said).rpartition("CellExecutionError: ")[2].strip()
        return seconds, error or f"It ended with exit code {code}."
    if path.read_bytes() != before:
        return seconds, "The file was changed while it ran, so the outputs are not stored."
    unfinished = RAN / f"{path.name}.tmp"
    nbformat.write(tidy(read(RAN / path.name)), unfinished)
    os.replace(unfinished, path)
    return seconds, None


def tidy(notebook):
    """Gives a notebook that was run the book's metadata and bootstrap cell, in place."""
    notebook.metadata = nbformat.from_dict(METADATA | {"everypixel": {"ran": code_hash(notebook)}})
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    join = CoalesceStreamsPreprocessor()  # of what a cell printed in pieces
    for cell in notebook.cells:
        for name in PASSING:
            cell.metadata.pop(name, None)
        if is_bootstrap(cell):
            cell.source = bootstrap_cell()
        join.preprocess_cell(cell, {}, 0)
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = smaller(output.data["image/png"])
    return notebook


def smaller(png):
    """Returns a picture (Base64) with the same pixels in as few bytes as Pillow can."""
    with Image.open(io.BytesIO(base64.b64decode(png))) as image:
        pixels = image.convert("RGBA")
    if pixels.getextrema()[3] == (255, 255):  # opaque
        pixels = pixels.convert("RGB")
    small = io.BytesIO()
    pixels.save(small, format="PNG", optimize=True)
    small = base64.b64encode(small.getvalue()).decode()
    return small if len(small) < len(png) else png


def run_all(paths, jobs):
    from measured import machine as this_machine

    known = json.loads(TIMES.read_text(encoding="utf-8"))["chapters"] if TIMES.exists() else {}
    # The machine's measure: a chapter's seconds compare with those of another machine by it.
    _, _, (importing, _) = measured([sys.executable, "-c", "import tensorflow, keras"])
    machine = {"import_seconds": round(importing, 1), "device": this_machine.device()}
    machine["versions"] = this_machine.versions()
    failed = []
    known = {name: took for name, took in known.items() if (NOTEBOOKS / f"{name}.ipynb").exists()}
    longest_first = sorted(paths, key=lambda p: -known.get(p.stem, {}).get("cpu_seconds", 1e9))
    with ThreadPoolExecutor(jobs) as pool:
        running = {pool.submit(run, path): path for path in longest_first}
        for future in as_completed(running):
            path = running[future]
            (cpu, wall), error = future.result()
            if error:
                failed.append(path.name)
                print(f"\n{error}\n\n{path.name} failed after {wall:.0f} s", flush=True)
                continue
            print(f"{path.name}: {cpu:.0f} processor seconds in {wall:.0f} s", flush=True)
            known[path.stem] = {"cpu_seconds": round(cpu, 1), "wall_seconds": round(wall, 1)}
            known[path.stem] |= machine
            content = {"kind": "chapters", "chapters": dict(sorted(known.items()))}
            TIMES.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return f"FAILED: {', '.join(failed)}" if failed else None


# --- check ----------------------------------------------------------------------------------


def complaints(notebook):
    """What a clean run would not have left in a notebook."""
    code = code_cells(notebook)
    metadata = dict(notebook.metadata)
    if metadata.pop("everypixel", {}).get("ran") != code_hash(notebook):
        yield "its stored outputs are older than its code"
    if metadata != METADATA:
        yield "its metadata is not the book's"
    if any(name in cell.metadata for cell in notebook.cells for name in PASSING):
        yield "a cell has metadata of an editor or a run"
    if [cell.source for cell in code if is_bootstrap(cell)] != [bootstrap_cell()]:
        yield "it has not exactly one cell tagged `bootstrap` with the book's text"
    counts = [cell.execution_count for cell in code]
    if counts != list(range(1, len(code) + 1)):
        yield f"its cells were not run once, in order: {counts}"
    for cell in code:
        failed = any(output.output_type == "error" for output in cell.outputs)
        if failed and "raises-exception" not in cell.metadata.get("tags", []):
            yield f"cell {cell.execution_count} holds an error"


def check_all(paths):
    found = [f"{path.name}: {fault}" for path in paths for fault in complaints(read(path))]
    mend = "`make notebooks` runs them again (one: NOTEBOOKS=notebooks/NAME.ipynb)."
    return "\n".join([*found, mend]) if found else None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=["run", "check"])
    parser.add_argument("notebooks", nargs="*", type=Path, help="all, where none is named")
    parser.add_argument("--jobs", type=int, default=2, help="notebooks at a time")
    arguments = parser.parse_intermixed_args()
    paths = arguments.notebooks or sorted(NOTEBOOKS.glob("*.ipynb"))
    return check_all(paths) if arguments.command == "check" else run_all(paths, arguments.jobs)


if __name__ == "__main__":
    sys.exit(main())
