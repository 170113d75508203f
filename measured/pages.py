"""Fills the tables of pages and draws the README's figure from results/*.json."""

import json
import os
import pathlib
import re

from measured.tables import markdown_table
from seglib.chapters import results
from seglib.chapters.results import load, missing, path

MARKED = re.compile(
    r"<!-- results:(?P<name>[\w-]+) -->(?:.*?(?P<end><!-- /results:(?P=name) -->))?", re.DOTALL
)


def fill(text: str) -> str:
    """Returns a Markdown text with the tables between its markers rendered anew.

    Args:
        text: holds any number of `<!-- results:NAME -->` … `<!-- /results:NAME -->`.

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
        known = path(name).exists()
        table = markdown_table(load(name)) if known else missing(name)
        return f"<!-- results:{name} -->\n{table}\n{match['end']}"

    return MARKED.sub(render, text)


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

    rows = results.rows(load("leaderboard"))
    figure = plot.fronts(**results.drawn(rows, _drawn_costs(rows)), columns=3)
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
    costs = results.costs(rows)
    return {name: costs[name] for name in names}
