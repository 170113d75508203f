"""What every test shares: a quiet TensorFlow, one cache of drawn pets, the real pets if present.

The variables are set before anything imports Keras, and the kernels that tests start inherit them.
"""

import importlib.util
import os
import shutil
import sys
import tempfile
from pathlib import Path

import hypothesis
import matplotlib
import pytest

ROOT = Path(__file__).resolve().parent.parent
CACHE = "SEGLIB_CACHE_DIR"

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
# Figures are drawn in memory. Not through MPLBACKEND: a notebook's kernel must choose for itself.
matplotlib.use("agg")
# `make test` tries as many examples of each property as it takes to find a fault that was planted;
# the nightly run looks for the rare case: pytest --hypothesis-profile=nightly. Compiling takes long
# at times, so there is no deadline, and other backends than TensorFlow, which compile each
# operation for each shape, get fewer examples.
FEW = 40 if os.environ["KERAS_BACKEND"] == "tensorflow" else 20
hypothesis.settings.register_profile("quick", max_examples=FEW, deadline=None, derandomize=True)
hypothesis.settings.register_profile("nightly", max_examples=5000, deadline=None)
hypothesis.settings.load_profile("quick")


def pytest_addoption(parser):
    parser.addoption("--every", type=int, default=1, metavar="N", help="run each N-th test only")


@pytest.hookimpl(trylast=True)  # after hypothesis, which marks its tests
def pytest_collection_modifyitems(config, items):
    """Marks what is left out of the coverage and of `make test`, and thins the tests out evenly.

    Measuring makes a test a third slower, and a property runs the same lines again and again. So
    does what a file marks `no_cover` itself. Every N-th test leaves some of a test with many
    parameters.
    """
    nightly = hypothesis.settings.get_current_profile_name() == "nightly"
    slow = pytest.mark.skip(reason="it takes long: `make test-rare`, or the nightly run")
    for item in items:
        if item.get_closest_marker("hypothesis"):
            item.add_marker("no_cover")
        # A test that asks for `nightly` has something to do every day, too.
        if item.get_closest_marker("rare") and not nightly and "nightly" not in item.fixturenames:
            item.add_marker(slow)
    every = config.getoption("every")
    left_out = [item for number, item in enumerate(items) if number % every]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = items[::every]


def pytest_configure(config):
    """Draws the pets once for all tests of this run, and never from an older run."""
    if CACHE not in os.environ:
        config.drawn_pets = tempfile.mkdtemp(prefix="every-pixel-")
        os.environ[CACHE] = config.drawn_pets
    # pytest-cov has read it by now. nbval would read it too and measure in each notebook's kernel,
    # which slows it down; the unit tests cover seglib by themselves.
    config.option.cov_source = None


def pytest_unconfigure(config):
    if hasattr(config, "drawn_pets"):
        shutil.rmtree(config.drawn_pets, ignore_errors=True)
        del os.environ[CACHE]


@pytest.fixture(scope="module", autouse=True)
def give_memory_back():
    """JAX keeps what it compiled for as long as the process lives: gigabytes after some files."""
    yield
    if os.environ["KERAS_BACKEND"] == "jax":
        import jax

        jax.clear_caches()


@pytest.fixture(scope="session")
def nightly():
    """Whether there is time for thousands of cases, for a `rare` test that also runs every day."""
    return hypothesis.settings.get_current_profile_name() == "nightly"


@pytest.fixture(scope="session")
def root():
    """The root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def script():
    """A function that imports a module of benchmarks/."""
    return lambda name: importlib.import_module(f"benchmarks.{name}")


@pytest.fixture(scope="module")
def peer_workers(root):
    """Lets tests import what runs in the environments of other libraries, by its bare name."""
    folder = str(root / "benchmarks" / "peer_workers")
    sys.path.insert(0, folder)
    yield
    sys.path.remove(folder)


@pytest.fixture(scope="session")
def load_tool():
    """A function that loads a script of tools/ as a module, anew at each call."""

    def load(name):
        path = ROOT / "tools" / f"{name}.py"
        spec = importlib.util.spec_from_file_location(f"tools_{name}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def real_pets():
    """The folder of TFDS that holds the real Oxford-IIIT Pets; skips where there is none."""
    named = os.environ.get("TFDS_DATA_DIR")
    folder = Path(named) if named else ROOT.parent / "shared" / "tfds"
    if not (folder / "oxford_iiit_pet").is_dir():
        pytest.skip(
            "the real pets are not here: neither TFDS_DATA_DIR nor ../shared/tfds holds "
            "oxford_iiit_pet"
        )
    return folder
