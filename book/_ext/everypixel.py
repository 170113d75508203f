"""The book's own Sphinx extension: what its pages compute while the book is built.

It adds three directives:

- `ep-results` renders one file of `results/` as a table, or says that it was not measured.
- `ep-environment` renders the versions, the device and the commit of this build.
- `ep-repository` renders a sentence that links to the repository, whose address `_config.yml` sets.

And it mends the lines of what cells print, see `whole_streams`.
"""

import copy
import datetime
import os
import pathlib
import sys
import time

from myst_nb.core import render, utils
from sphinx.util.docutils import SphinxDirective

ROOT = pathlib.Path(__file__).resolve().parents[2]
# The page must show the functions of the tree it is built from, installed or not.
sys.path.insert(0, str(ROOT))

from seglib import __version__, profiles, results  # noqa: E402

SHOWN = (
    "tensorflow",
    "keras",
    "numpy",
    "matplotlib",
    "tensorflow-datasets",
    "jupyter-book",
    "sphinx",
    "myst-nb",
)


class Results(SphinxDirective):
    """Renders `results/<argument>.json` as a table."""

    required_arguments = 1

    def run(self):
        name = self.arguments[0]
        self.env.note_dependency(str(results.path(name)))
        if not results.path(name).exists():
            return self.parse_text_to_nodes(
                f":::{{admonition}} Not measured yet\n{results.missing(name)}\n:::"
            )
        # The class lets the style sheet set a table of many columns more tightly.
        table = results.markdown_table(results.load(name))
        return self.parse_text_to_nodes(f":::{{div}} ep-dense\n{table}\n:::")


class Environment(SphinxDirective):
    """Renders the versions, the device and the commit of this build."""

    def run(self):
        self.env.note_reread()  # the time and the commit are new at each build
        now = datetime.datetime.now(datetime.UTC)
        machine = results.device()
        rows = {
            "Built": f"{now:%Y-%m-%d %H:%M} UTC",
            "Commit": f"`{results.commit(ROOT)}`",
            "Profile": f"`{profiles.active().name}`",
            "Processor": f"{machine['cpu']}, {machine['cores']} cores",
            "GPU": ", ".join(machine["gpu"]) or "none",
            "Python": results.versions(())["python"],
            "seglib": __version__,
            **results.versions(SHOWN),
        }
        # The interpreter's row is spelled as people write it.
        rows.pop("python")
        table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
        return self.parse_text_to_nodes(f"| What | On this build |\n|:---|:---|\n{table}")


class Repository(SphinxDirective):
    """Renders its content with `{repository}` replaced by the address in `_config.yml`."""

    has_content = True

    def run(self):
        address = self.config.html_theme_options["repository_url"].rstrip("/")
        return self.parse_text_to_nodes("\n".join(self.content).replace("{repository}", address))


def whole_streams(outputs: list) -> list:
    """Joins what a cell printed, which its kernel sends in pieces.

    A piece may end in the middle of a line. myst-nb's own function would start a new line there.

    Args:
        outputs: the outputs of a cell.

    Returns:
        The outputs with all pieces of one stream in the first one's place.
    """
    joined, streams = [], {}
    for output in outputs:
        name = output["name"] if output["output_type"] == "stream" else None
        if name in streams:
            streams[name]["text"] += output["text"]
            continue
        joined.append(copy.copy(output))
        if name:
            streams[name] = joined[-1]
    return utils.coalesce_streams(joined)


def setup(app) -> dict:
    """Registers the directives with Sphinx."""
    # The table of runs mixes local times with times that jupyter-cache stores in UTC.
    os.environ["TZ"] = "UTC"
    time.tzset()
    render.coalesce_streams = whole_streams
    app.add_directive("ep-results", Results)
    app.add_directive("ep-environment", Environment)
    app.add_directive("ep-repository", Repository)
    return {"version": __version__, "parallel_read_safe": True, "parallel_write_safe": True}
