"""tools/notebooks.py and what it stores: clean, of its code, in true colors; nbval checks it."""

import base64
import io
import json
import re
import sys

import nbformat.v4
import numpy as np
import pytest
from matplotlib.colors import to_rgba_array
from PIL import Image

from seglib import plot

pytest_plugins = ["pytester"]


@pytest.fixture
def notebooks(load_tool, tmp_path, monkeypatch):
    """The tool, at work in a folder of the test."""
    tool = load_tool("notebooks")
    for name in ("NOTEBOOKS", "RAN", "TIMES"):
        monkeypatch.setattr(tool, name, tmp_path / name)
    tool.NOTEBOOKS.mkdir()
    return tool


def a_notebook(tool, *code):
    """A notebook with the bootstrap cell and some code."""
    cells = [nbformat.v4.new_code_cell(tool.bootstrap_cell(), metadata={"tags": ["bootstrap"]})]
    cells += [nbformat.v4.new_code_cell(source) for source in code]
    for count, cell in enumerate(cells, start=1):
        cell.execution_count = count
    return nbformat.v4.new_notebook(cells=cells)


# --- what is stored -------------------------------------------------------------------------


def test_every_stored_notebook_is_a_clean_run_of_its_code(root, load_tool):
    tool = load_tool("notebooks")
    paths = sorted((root / "notebooks").glob("*.ipynb"))
    assert paths
    assert tool.check_all(paths) is None


def spoil_code(notebook):
    notebook.cells[1].source = "print(2)"


def spoil_metadata(notebook):
    notebook.metadata.language_info["version"] = "3.11.7"


def spoil_cell(notebook):
    notebook.cells[1].metadata["execution"] = {"iopub.status.busy": "2026-01-01T00:00:00Z"}


def spoil_bootstrap(notebook):
    notebook.cells[0].source += "\n!pip install numpy"


def spoil_count(notebook):
    notebook.cells[1].execution_count = None


def spoil_order(notebook):
    notebook.cells[1].execution_count = 7


def spoil_output(notebook):
    error = nbformat.v4.new_output("error", ename="ValueError", evalue="no", traceback=[])
    notebook.cells[1].outputs = [error]


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (spoil_code, "older than its code"),
        (spoil_metadata, "metadata"),
        (spoil_cell, "metadata"),
        (spoil_bootstrap, "bootstrap"),
        (spoil_count, "in order"),
        (spoil_order, "in order"),
        (spoil_output, "an error"),
    ],
)
def test_what_a_notebook_is_complained_of(notebooks, spoil, complaint):
    notebook = notebooks.tidy(a_notebook(notebooks, "print(1)"))
    assert list(notebooks.complaints(notebook)) == []
    spoil(notebook)
    (told,) = notebooks.complaints(notebook)
    assert complaint in told


def test_what_is_printed_in_pieces_is_stored_as_one(notebooks):
    def printed(text, name="stdout"):
        return nbformat.v4.new_output("stream", text=text, name=name)

    figure = nbformat.v4.new_output("display_data", {"text/plain": "a figure"})
    pieces = [printed("one\nt"), printed("wo\n"), printed("!", "stderr"), figure, printed("three")]
    notebook = a_notebook(notebooks, "print(1)")
    notebook.cells[1].outputs = pieces
    texts = [output.get("text") for output in notebooks.tidy(notebook).cells[1].outputs]
    assert texts == ["one\ntwo\n", "!", None, "three"]


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode()


@pytest.mark.parametrize("kind", ["few colors", "many colors", "a transparent corner"])
def test_a_stored_picture_keeps_every_color(notebooks, kind):
    rng = np.random.default_rng(0)
    classes = to_rgba_array(plot.colors(3)) * 255
    pixels = classes.round().astype("uint8")[rng.integers(3, size=(60, 80))]
    if kind == "many colors":
        pixels[:20, :, :3] = rng.integers(256, size=(20, 80, 3))
    if kind == "a transparent corner":
        pixels[:9, :9, 3] = 100
    before = png(pixels)
    after = notebooks.smaller(before)
    assert len(after) <= len(before)
    with Image.open(io.BytesIO(base64.b64decode(after))) as image:
        np.testing.assert_array_equal(np.asarray(image.convert("RGBA")), pixels)


# --- running --------------------------------------------------------------------------------


def test_a_run_is_stored_with_its_outputs_and_a_failed_one_leaves_the_notebook(notebooks, capsys):
    good, bad = (notebooks.NOTEBOOKS / name for name in ("good.ipynb", "bad.ipynb"))
    nbformat.write(a_notebook(notebooks, "print(6 * 7)"), good)
    nbformat.write(a_notebook(notebooks, "print('before')\nraise ValueError('a reason')"), bad)
    before = bad.read_bytes()
    machine = {"import_seconds": 4.0, "device": {}, "versions": {}}
    old = {"cpu_seconds": 1.0, "wall_seconds": 1.0} | machine
    notebooks.TIMES.write_text(json.dumps({"chapters": {"bad": old, "gone": old}}))

    assert notebooks.run_all([good, bad], jobs=2) == "FAILED: bad.ipynb"
    said = capsys.readouterr().out
    assert "ValueError: a reason" in said and "line 2" in said
    assert bad.read_bytes() == before

    stored = notebooks.read(good)
    assert list(notebooks.complaints(stored)) == []
    assert stored.cells[1].outputs[0].text == "42\n"
    chapters = json.loads(notebooks.TIMES.read_text())["chapters"]
    assert chapters.keys() == {"bad", "good"} and chapters["bad"] == old
    assert min(chapters["good"][f"{kind}_seconds"] for kind in ("cpu", "wall", "import")) > 0


def test_the_seconds_are_those_of_all_processes(notebooks):
    busy = "import time\nwhile time.process_time() < 1: pass"
    command = ["sh", "-c", f"{sys.executable} -c '{busy}'; echo done; exit 3"]
    code, said, (cpu, _) = notebooks.measured(command)
    assert (code, said) == (3, "done\n")
    assert 1 < cpu < 3


# What a cell does, its tag, what is stored, and whether nbval lets it pass.
CELLS = {
    "the same": ("print(1.23)", "nbval-check-output", "1.23\n", True),
    "another digit": ("print(1.23)", "nbval-check-output", "1.24\n", False),
    "another digit that may be": ("print(1.23)", None, "1.24\n", True),
    "nothing any more": ("pass", "nbval-check-output", "1\n", False),
    "an error": ("1 / 0", None, "", False),
    "an error that is wanted": ("1 / 0", "raises-exception", "", True),
}


def test_nbval_runs_each_notebook_in_one_worker_and_finds_another_digit(pytester):
    cells = []
    for source, tag, stored, _ in CELLS.values():
        outputs = [nbformat.v4.new_output("stream", text=stored)] if stored else []
        tags = {"tags": [tag] if tag else []}
        cell = nbformat.v4.new_code_cell(source, outputs=outputs, metadata=tags)
        cell.execution_count = 1  # nbval asks that it was run
        cells.append(cell)
    for name in ("one.ipynb", "two.ipynb"):
        nbformat.write(nbformat.v4.new_notebook(cells=cells), pytester.path / name)
    options = "-v -n 2 --dist loadfile --no-loadscope-reorder --nbval-lax --nbval-current-env"
    run = pytester.runpytest_subprocess(*options.split())
    for name in ("one", "two"):
        found = re.findall(rf"(gw\d).* (PASSED|FAILED) {name}::ipynb::Cell \d+", run.stdout.str())
        assert len({worker for worker, _ in found}) == 1
        passed = [outcome == "PASSED" for _, outcome in found]
        assert passed == [passes for *_, passes in CELLS.values()]
