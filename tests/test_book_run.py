"""tools/book_run.py: nbval finds in an earlier run of the cells what it finds in its own."""

import copy
import re

import nbformat
import pytest
from nbclient import NotebookClient
from nbval.plugin import IPyNbFile

pytest_plugins = ["pytester"]

# What a cell does, its tag, and what stands in the notebook if that is not what it does.
CELLS = {
    "the same": ("print(1)", "nbval-check-output", None),
    "another digit": ("print(1)", "nbval-check-output", "2\n"),
    "another digit that may be": ("print(1)", None, "2\n"),
    "the value of an expression": ("print(1)\n1 + 1", "nbval-check-output", None),
    "said on stderr": ("import sys\nprint(1, file=sys.stderr)", "nbval-check-output", "2\n"),
    "nothing any more": ("pass", "nbval-check-output", "1\n"),
    "an error": ("1 / 0", None, None),
    "an error that is wanted": ("1 / 0", "raises-exception", None),
    "printed before the error": ("print(1)\n1 / 0", "raises-exception", None),
    "left out": ("1 / 0", "nbval-skip", None),
}
FAIL = {"another digit", "said on stderr", "nothing any more", "an error"}


@pytest.fixture(scope="module")
def notebooks():
    """A notebook as it stands in the repository, and a run of it."""
    cells = [
        nbformat.v4.new_code_cell(source, metadata={"tags": [tag] if tag else []})
        for source, tag, _ in CELLS.values()
    ]
    ran = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(ran, timeout=60, allow_errors=True, kernel_name="python3").execute()
    stored = copy.deepcopy(ran)
    for cell, (_, _, other) in zip(stored.cells, CELLS.values(), strict=True):
        if other is not None:
            cell.outputs = [nbformat.v4.new_output("stream", text=other)]
    return stored, ran


@pytest.fixture
def book_run(load_tool, monkeypatch):
    """The plugin; nbval is as before after the test."""
    monkeypatch.setattr(IPyNbFile, "setup", IPyNbFile.setup)
    return load_tool("book_run")


def outcomes(run):
    """The outcome of each cell in a run of pytest with `-v`."""
    found = re.findall(r"::Cell \d+ ([A-Z]+) +\[", run.stdout.str())
    return dict(zip(CELLS, found, strict=True))


def test_nbval_finds_the_same_as_when_it_runs_the_cells(notebooks, book_run, pytester, monkeypatch):
    stored, ran = notebooks
    nbformat.write(stored, pytester.path / "some.ipynb")
    # In a process of its own: in this one the plugin may be at work already, as in `make test`.
    live = outcomes(pytester.runpytest_subprocess("-v", "--nbval-lax", "--nbval-current-env"))
    assert {name for name, outcome in live.items() if outcome == "FAILED"} == FAIL
    assert live["left out"] == "SKIPPED"
    monkeypatch.setattr(book_run.notebooks, "executed", lambda path: ran)
    assert outcomes(pytester.runpytest_inprocess("-v", "--nbval-lax", plugins=[book_run])) == live


def test_a_notebook_that_the_book_has_not_run_fails(notebooks, book_run, pytester, monkeypatch):
    nbformat.write(notebooks[0], pytester.path / "some.ipynb")
    monkeypatch.setattr(book_run.notebooks, "CACHE", pytester.path / "cache")
    run = pytester.runpytest_inprocess("-v", "--nbval-lax", plugins=[book_run])
    assert set(outcomes(run).values()) == {"ERROR"}
    run.stdout.fnmatch_lines("*some.ipynb: the book has not run this code. Run `make book` first.")


def test_cells_that_are_not_asked_for_are_passed_over(notebooks, book_run):
    _, ran = notebooks
    run = book_run.BookRun(ran)
    assert run.execute_cell_input(ran.cells[3].source) == "4"
    first = run.get_message("iopub")
    assert (first["msg_type"], first["content"]["text"]) == ("stream", "1\n")
    assert first["parent_header"] == {"msg_id": "4"}
