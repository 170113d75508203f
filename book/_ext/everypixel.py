"""The book's own Sphinx extension: what its pages compute while the book is built.

It adds four directives:

- `ep-results` renders one file of `results/` as a table, or says that it was not measured.
- `ep-environment` renders the versions, the device and the commit of this build.
- `ep-chapters` renders the time that each chapter's last run took, from `results/chapters.json`.
- `ep-repository` renders a sentence that links to the repository, whose address `_config.yml` sets.
"""

import datetime
import json
import pathlib
import sys

from sphinx.util.docutils import SphinxDirective

ROOT = pathlib.Path(__file__).resolve().parents[2]
# The page must show the functions of the tree it is built from, installed or not.
sys.path.insert(0, str(ROOT))

from measured import machine  # noqa: E402
from measured.tables import markdown_table  # noqa: E402
from seglib import __version__  # noqa: E402
from seglib.chapters import results  # noqa: E402

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
        table = markdown_table(results.load(name))
        return self.parse_text_to_nodes(f":::{{div}} ep-dense\n{table}\n:::")


class Environment(SphinxDirective):
    """Renders the versions, the device and the commit of this build."""

    def run(self):
        self.env.note_reread()  # the time and the commit are new at each build
        now = datetime.datetime.now(datetime.UTC)
        processor, *gpus = machine.names(machine.device())
        rows = {
            "Built": f"{now:%Y-%m-%d %H:%M} UTC",
            "Commit": f"`{machine.commit(ROOT)}`",
            "Processor": processor,
            "GPU": ", ".join(gpus) or "none",
            "Python": machine.versions(())["python"],
            "seglib": __version__,
            **machine.versions(SHOWN),
        }
        # The interpreter's row is spelled as people write it.
        rows.pop("python")
        table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
        return self.parse_text_to_nodes(f"| What | On this build |\n|:---|:---|\n{table}")


class Chapters(SphinxDirective):
    """Renders what the last run of each chapter took, and on which machines."""

    def run(self):
        file = results.path("chapters")
        self.env.note_dependency(str(file))
        known = json.loads(file.read_text(encoding="utf-8"))["chapters"] if file.exists() else {}
        header = ["Chapter", "Processor seconds", "Scaled", "Elapsed seconds", "Import"]
        rows = [header, [":---", *["---:"] * 4]]
        for notebook in sorted((ROOT / "notebooks").glob("*.ipynb")):
            took = known.get(notebook.stem)
            cells = ["not measured", "", "", ""]
            if took:
                cpu, wall, load = (took[f"{kind}_seconds"] for kind in ("cpu", "wall", "import"))
                cells = [f"{cpu:.0f}", f"{cpu * 4 / load:.0f}", f"{wall:.0f}", f"{load:.1f}"]
            rows.append([f"{{doc}}`/notebooks/{notebook.stem}`", *cells])
        lines = [f"| {' | '.join(row)} |" for row in rows]
        machines = sorted({described(took) for took in known.values()})
        return self.parse_text_to_nodes("\n".join([*lines, "", *machines]))


def described(took: dict) -> str:
    """Returns a sentence on the machine and the versions that a chapter was run with."""
    versions = [f"{name} {version}" for name, version in took["versions"].items()]
    return f"Run on {', '.join([*machine.names(took['device']), *versions])}."


class Repository(SphinxDirective):
    """Renders its content with `{repository}` replaced by the address in `_config.yml`."""

    has_content = True

    def run(self):
        address = self.config.html_theme_options["repository_url"].rstrip("/")
        return self.parse_text_to_nodes("\n".join(self.content).replace("{repository}", address))


def setup(app) -> dict:
    """Registers the directives with Sphinx."""
    app.add_directive("ep-results", Results)
    app.add_directive("ep-environment", Environment)
    app.add_directive("ep-chapters", Chapters)
    app.add_directive("ep-repository", Repository)
    return {"version": __version__, "parallel_read_safe": True, "parallel_write_safe": True}
