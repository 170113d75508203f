"""The book's own run of the notebooks prints what the committed notebooks hold.

nbval checks the same by running each notebook once more. This costs nothing, so CI leaves all but
the shortest notebooks to it.
"""

import copy
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def printed(cell):
    """What a cell wrote and returned as text; pictures, errors' places and stderr are left out."""
    streams = [o.text for o in cell.outputs if o.get("name") == "stdout"]
    values = [o.data.get("text/plain", "") for o in cell.outputs if "data" in o]
    return "".join(streams), values


def differences(committed, executed):
    """Names the cells in which two runs of a notebook differ and must not.

    These are the cells tagged `nbval-check-output`, as for nbval.
    """
    return [
        a.execution_count
        for a, b in zip(code_cells(committed), code_cells(executed), strict=True)
        if "nbval-check-output" in a.metadata.get("tags", []) and printed(a) != printed(b)
    ]


@pytest.mark.parametrize("name", sorted(path.name for path in ROOT.glob("notebooks/*.ipynb")))
def test_the_book_prints_what_is_committed(name, load_tool):
    committed = nbformat.read(ROOT / "notebooks" / name, as_version=4)
    executed = load_tool("notebooks").executed(committed)
    assert differences(committed, executed) == []


def test_another_digit_is_noticed():
    cell = nbformat.v4.new_code_cell(
        "print(1)",
        execution_count=1,
        outputs=[nbformat.v4.new_output("stream", text="1\n")],
        metadata={"tags": ["nbval-check-output"]},
    )
    committed = nbformat.v4.new_notebook(cells=[cell])
    executed = copy.deepcopy(committed)
    assert differences(committed, executed) == []
    executed.cells[0].outputs[0].text = "2\n"
    assert differences(committed, executed) == [1]
    committed.cells[0].metadata.tags = []
    assert differences(committed, executed) == []
