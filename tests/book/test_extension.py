"""The book's Sphinx extension, apart from the pages that it renders."""

import importlib.util
from pathlib import Path

import nbformat.v4
import pytest

FILE = Path(__file__).resolve().parents[2] / "book" / "_ext" / "everypixel.py"


@pytest.fixture(scope="module")
def everypixel():
    spec = importlib.util.spec_from_file_location("everypixel", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def printed(*pieces, name="stdout"):
    return [nbformat.v4.new_output("stream", name=name, text=piece) for piece in pieces]


@pytest.mark.parametrize(
    "pieces",
    [("one\n", "two\nthree\n"), ("one\nt", "wo\nthree\n"), ("one\ntwo", "\nthree\n")],
    ids=["at a line's end", "within a line", "before a line's end"],
)
def test_lines_that_come_in_pieces_are_joined(everypixel, pieces):
    outputs = printed(*pieces)
    for _ in range(2):  # the second build sees the same outputs
        [output] = everypixel.whole_streams(outputs)
        assert output["text"] == "one\ntwo\nthree\n"


def test_other_outputs_keep_their_place(everypixel):
    figure = nbformat.v4.new_output("display_data", {"text/plain": "a figure"})
    outputs = printed("a") + printed("warning", name="stderr") + [figure] + printed("b\n")
    found = everypixel.whole_streams(outputs)
    assert [output["output_type"] for output in found] == ["stream", "stream", "display_data"]
    assert sorted(output["text"] for output in found[:2]) == ["ab\n", "warning\n"]
    assert everypixel.whole_streams([]) == []
