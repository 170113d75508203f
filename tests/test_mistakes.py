"""The chapter on mistakes: each one is a single switch, has a test, and is what was measured."""

import dataclasses
import json
import types

import nbformat
import pytest


@pytest.fixture(scope="module")
def cells(root):
    notebook = nbformat.read(root / "notebooks" / "08_mistakes.ipynb", as_version=4)
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.fixture(scope="module")
def chapter(cells):
    """What the cell with the recipe defines; it needs nothing of TensorFlow."""
    names = {
        "__name__": "recipe",
        "dataclasses": dataclasses,
        "profile": types.SimpleNamespace(name="full"),
    }
    [source] = [cell.source for cell in cells if "class Recipe:" in cell.source]
    exec(source, names)
    return types.SimpleNamespace(**names)


def test_the_recipe_cells_are_the_ones_that_the_benchmark_runs(cells):
    tagged = [cell.source for cell in cells if "recipe" in cell.metadata.get("tags", [])]
    for name in ("class Recipe:", "def pictures(", "def build(", "def train(", "def measure("):
        assert sum(name in source for source in tagged) == 1


def test_each_mistake_is_one_switch(chapter):
    assert len(chapter.MISTAKES) >= 16
    for name, mistake in chapter.MISTAKES.items():
        assert mistake.harms in ("model", "report")
        with_it = dataclasses.asdict(chapter.recipe_of(name))
        without = dataclasses.asdict(chapter.recipe_of(mistake.against))
        changed = [field for field, value in with_it.items() if value != without[field]]
        assert len(changed) == (1 if mistake.switches else 0), name
        assert changed or mistake.harms == "report"


def test_each_switch_has_a_test_that_was_seen_to_fail(chapter, cells):
    tried = "\n".join(cell.source for cell in cells if "try_out(" in cell.source)
    for name, mistake in chapter.MISTAKES.items():
        if mistake.switches and mistake.against == "right":
            assert f'recipe_of("{name}")' in tried, name
    printed = [
        output.text
        for cell in cells
        if "\ntry_out(" in cell.source
        for output in cell.outputs
        if output.output_type == "stream"
    ]
    assert len(printed) >= 16
    for text in printed:
        assert text.count("right:   passes") == text.count("mistake: ") >= 1


def test_the_measured_rows_are_those_of_the_chapter(chapter, root):
    file = root / "results" / "mistakes.json"
    if not file.exists():
        pytest.skip("the mistakes were not measured")
    rows = chapter.REFERENCES | chapter.MISTAKES
    for run in json.loads(file.read_text(encoding="utf-8"))["runs"]:
        assert run["title"] == rows[run["recipe"]].title
        settings = json.loads(json.dumps(dataclasses.asdict(chapter.recipe_of(run["recipe"]))))
        assert run["settings"] == settings, f"{run['recipe']} was measured with another recipe"
