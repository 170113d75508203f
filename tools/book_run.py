"""A plugin of pytest: nbval checks the run of each notebook that `make book` has just made.

    python -m pytest -p tools.book_run --nbval-lax notebooks

nbval sends each cell to a kernel and compares what comes back with the stored outputs. Here a
notebook that the book has run stands in for the kernel, so that the cells do not run a second time.
"""

import sys
from pathlib import Path

from nbval.plugin import IPyNbFile

sys.path.insert(0, str(Path(__file__).parent))
import notebooks

sys.path.pop(0)


class BookRun:
    """What nbval asks of a kernel, answered from a notebook that was run.

    Args:
        notebook: the notebook with the outputs of its run.
    """

    def __init__(self, notebook):
        self.cells = iter(notebooks.code_cells(notebook))
        self.messages = iter(())

    def is_alive(self):
        return True

    def execute_cell_input(self, source, allow_stdin=None):
        """Looks up the cell, from the one before on, and returns the identity of its messages."""
        cell = next(cell for cell in self.cells if cell.source == source)
        cell_id = str(cell.execution_count)
        ended = {"output_type": "status", "execution_state": "idle"}
        self.messages = iter([message(output, cell_id) for output in [*cell.outputs, ended]])
        return cell_id

    def await_reply(self, cell_id, timeout=None):
        """Returns at once: the cell has run."""

    def get_message(self, stream, timeout=None):
        return next(self.messages)

    def await_idle(self, cell_id, timeout):
        self.messages = iter(())

    def stop(self):
        """There is no process to end."""


def message(output, cell_id):
    return {
        "msg_type": output["output_type"],
        "content": output,
        "parent_header": {"msg_id": cell_id},
    }


def setup(file):
    """Gives a notebook that is tested its run instead of a kernel.

    Raises:
        LookupError: if the book has not run this code.
    """
    file.kernel = BookRun(notebooks.executed(file.path))
    file.setup_sanitize_files()


def pytest_configure(config):
    IPyNbFile.setup = setup
