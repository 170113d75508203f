"""The floors of seglib: no circle of imports, and none from a lower floor to a higher one."""

import ast
import importlib
import pkgutil
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import seglib

# From the ground up. Parts on one floor do not import one another.
FLOORS = (
    ("core",),
    ("data", "losses", "metrics", "models"),
    ("inference", "plot", "tracking"),
    ("callbacks",),
    ("chapters",),
)
ROOT = Path(seglib.__file__).parent
FILES = {
    ".".join(("seglib", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(
        ".__init__"
    ): path
    for path in sorted(ROOT.rglob("*.py"))
}


def imports(name):
    """The modules of seglib that a module imports anywhere in it, those of its functions included.

    `from seglib.data import pets` is an import of `seglib.data.pets`, not of the package, where
    such a module exists.
    """
    for node in ast.walk(ast.parse(FILES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            parts = [f"{node.module}.{alias.name}" for alias in node.names]
            found = [part if part in FILES else node.module for part in parts]
        else:
            continue
        yield from (module for module in found if module in FILES)


GRAPH = {name: set(imports(name)) for name in FILES}


def floor(name):
    part = name.split(".")[1]
    return next(i for i, parts in enumerate(FLOORS) if part in parts)


def test_no_circle():
    TopologicalSorter(GRAPH).prepare()  # raises CycleError, which names the circle


def test_every_part_has_a_floor():
    parts = {name.split(".")[1] for name in FILES if name.count(".")}
    assert parts == {part for parts in FLOORS for part in parts}


@pytest.mark.parametrize("name", [name for name in FILES if name.count(".")])
def test_imports_point_downward(name):
    part = name.split(".")[1]
    for other in GRAPH[name] - {"seglib"}:
        assert other.split(".")[1] == part or floor(other) < floor(name), f"{name}: {other}"


def test_no_module_has_the_name_of_what_its_package_exports():
    for package in (name for name, path in FILES.items() if path.name == "__init__.py"):
        for module in pkgutil.iter_modules([str(FILES[package].parent)]):
            if module.name != "__main__":  # this one runs when it is imported
                imported = importlib.import_module(f"{package}.{module.name}")
                assert getattr(importlib.import_module(package), module.name) is imported
