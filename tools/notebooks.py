"""Keeps the committed notebooks: their outputs, their metadata, their bootstrap cell.

    python tools/notebooks.py take [NOTEBOOK ...]    take the outputs of the book's own run
    python tools/notebooks.py check [NOTEBOOK ...]   complain of what a clean run had not left
    python tools/notebooks.py tidy [NOTEBOOK ...]    write bootstrap cell and metadata, run nothing

Without a name, all notebooks are meant. `make notebooks` builds the book, which runs those that
changed, and takes their outputs; `make lint` checks them.
"""

import argparse
import base64
import io
import os
import sys
from pathlib import Path

import nbformat
import yaml
from build_book import CACHE
from jupyter_cache import get_cache

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
# The same on every machine: no version of Python, no time, no name of a kernel of one's own.
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
# What an editor or a run adds to a cell, and what says nothing to a reader.
PASSING = ("execution", "collapsed", "ExecuteTime", "executionInfo", "outputId", "colab", "id")

BOOTSTRAP = """\
# On Google Colab this installs seglib, the book's package. Anywhere else it does nothing.
import os
import sys

if "google.colab" in sys.modules or "COLAB_RELEASE_TAG" in os.environ:
    # --no-deps: Colab's own TensorFlow, Keras and NumPy stay as they are.
    %pip install --quiet --no-deps {repository}/archive/refs/tags/v{version}.tar.gz
    from seglib import colab

    colab.add_missing()
    colab.check()
"""


def bootstrap_cell():
    """The text of the cell tagged `bootstrap`: the same in every notebook."""
    sys.path.insert(0, str(ROOT))
    import seglib

    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    cell = BOOTSTRAP.format(repository=config["repository"]["url"], version=seglib.__version__)
    return cell.rstrip("\n")


def tidy(notebook):
    """Gives a notebook the book's metadata and bootstrap cell, in place."""
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for cell in notebook.cells:
        for name in PASSING:
            cell.metadata.pop(name, None)
        if "bootstrap" in cell.metadata.get("tags", []):
            cell.source = bootstrap_cell()
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = shrink(output.data["image/png"])
    return notebook


def shrink(png):
    """Returns a picture (Base64) with 256 colors, a third of the bytes, if that is smaller.

    The repository keeps every version of every figure. The built book shows its own, fresh ones.
    """
    from PIL import Image

    with Image.open(io.BytesIO(base64.b64decode(png))) as image:
        small = io.BytesIO()
        image.convert("RGB").quantize(256).save(small, format="PNG", optimize=True)
    small = base64.b64encode(small.getvalue()).decode()
    return small if len(small) < len(png) else png


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def executed(path):
    """Returns the book's own run of a notebook.

    Raises:
        LookupError: if it was not run, or its code has changed since.
    """
    # Not from _build/jupyter_execute: what lies there has the outputs of the committed notebooks.
    cache = get_cache(CACHE)
    try:
        key = cache.match_cache_notebook(read(path)).pk
    except KeyError:
        reason = f"{path.name}: the book has not run this code. Run `make book` first."
        raise LookupError(reason) from None
    return cache.get_cache_bundle(key).nb


def take(notebook, ran):
    """Gives a notebook the outputs of a run of it, in place."""
    pairs = zip(code_cells(notebook), code_cells(ran), strict=True)
    for count, (cell, done) in enumerate(pairs, start=1):
        cell.outputs, cell.execution_count = joined(done.outputs), count
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = count
    return notebook


def joined(outputs):
    """Returns outputs with what was printed in several pieces as one."""
    found = []
    for output in outputs:
        last = found[-1] if found else {}
        if output.output_type == "stream" and last.get("name") == output.name:
            last.text += output.text
        else:
            found.append(output)
    return found


def read(path):
    return nbformat.read(path, as_version=4)


def write(notebook, path):
    """Writes to a file beside it first: a run that is stopped leaves the old notebook."""
    unfinished = path.with_suffix(".tmp")
    nbformat.write(notebook, unfinished)
    os.replace(unfinished, path)


def complaints(notebook):
    """What a clean run and `tidy` would not have left in a notebook."""
    code = code_cells(notebook)
    if notebook.metadata != METADATA:
        yield "its metadata is not the book's"
    if any(name in cell.metadata for cell in notebook.cells for name in PASSING):
        yield "a cell has metadata of an editor or a run"
    marked = [cell.source for cell in code if "bootstrap" in cell.metadata.get("tags", [])]
    if marked != [bootstrap_cell()]:
        yield "it has not exactly one cell tagged `bootstrap` with the book's text"
    counts = [cell.execution_count for cell in code]
    if counts != list(range(1, len(code) + 1)):
        yield f"its cells were not run once, in order: {counts}"
    for cell in code:
        failed = any(output.output_type == "error" for output in cell.outputs)
        if failed and "raises-exception" not in cell.metadata.get("tags", []):
            yield f"cell {cell.execution_count} holds an error"


def take_all(paths):
    for path in paths:
        try:
            ran = executed(path)
        except LookupError as error:
            print(error)
            return 1
        write(tidy(take(read(path), ran)), path)
    return 0


def tidy_all(paths):
    for path in paths:
        write(tidy(read(path)), path)
    return 0


def check_all(paths):
    found = [f"{path.name}: {fault}" for path in paths for fault in complaints(read(path))]
    for line in found:
        print(line)
    if found:
        print("`make notebooks` runs every notebook again and mends these.")
    return 1 if found else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=["take", "check", "tidy"])
    parser.add_argument("notebooks", nargs="*", type=Path, help="all, where none is named")
    arguments = parser.parse_args()
    paths = arguments.notebooks or sorted(NOTEBOOKS.glob("*.ipynb"))
    return {"take": take_all, "check": check_all, "tidy": tidy_all}[arguments.command](paths)


if __name__ == "__main__":
    sys.exit(main())
