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
# `make test` shows that the properties hold; the nightly run looks for the rare case:
# pytest --hypothesis-profile=nightly. Compiling takes long at times, so there is no deadline, and
# other backends than TensorFlow, which compile each operation for each shape, get fewer examples.
FEW = 200 if os.environ["KERAS_BACKEND"] == "tensorflow" else 20
hypothesis.settings.register_profile("quick", max_examples=FEW, deadline=None, derandomize=True)
hypothesis.settings.register_profile("nightly", max_examples=5000, deadline=None)
hypothesis.settings.load_profile("quick")

# A test takes a third longer while its coverage is measured. So those are not measured that run
# the same lines again and again: property tests, all combinations, tests of scripts that train.
UNMEASURED = {
    "test_combinations.py",
    "test_contract.py",
    "test_dilation.py",
    "test_measuring.py",
    "test_peers.py",
    "test_stages.py",
}


def pytest_addoption(parser):
    parser.addoption("--every", type=int, default=1, metavar="N", help="run each N-th test only")


@pytest.hookimpl(trylast=True)  # after hypothesis, which marks its tests
def pytest_collection_modifyitems(config, items):
    """Thins the tests out evenly, so that those with many parameters still run with some."""
    for item in items:
        if item.get_closest_marker("hypothesis") or item.path.name in UNMEASURED:
            item.add_marker("no_cover")
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
    # pytest-cov has read it by now. nbval would read it too and ask each notebook's kernel to
    # measure: the book's run in its place (tools/book_run.py) cannot, a real one may hang.
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
    """Whether there is time for thousands of cases; what asks for this is marked `rare`."""
    return hypothesis.settings.get_current_profile_name() == "nightly"


@pytest.fixture(scope="session")
def root():
    """The root of the repository."""
    return ROOT


@pytest.fixture(scope="module")
def script(root):
    """A function that imports a script of benchmarks/ or of its peer_workers/."""
    folders = [str(root / "benchmarks"), str(root / "benchmarks" / "peer_workers")]
    sys.path[:0] = folders
    yield importlib.import_module
    for folder in folders:
        sys.path.remove(folder)


@pytest.fixture(scope="session")
def load_tool():
    """A function that loads a script of tools/ as a module, anew at each call."""

    def load(name):
        # The scripts import each other, as they can where one of them is run.
        sys.path.insert(0, str(ROOT / "tools"))
        try:
            path = ROOT / "tools" / f"{name}.py"
            spec = importlib.util.spec_from_file_location(f"tools_{name}", path)
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        finally:
            sys.path.pop(0)
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
