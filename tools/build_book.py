"""Builds the book: runs the notebooks that changed, writes the HTML, checks that it is whole.

    python tools/build_book.py [--jobs 2]

A notebook is run again when its code changed (jupyter-cache sees to that), or when something it
imports or reads did: seglib, the measured results, an installed version, the profile. The cache
knows nothing of these, so their fingerprint is kept beside it and the cache is dropped with them.

Jupyter Book would run one notebook after the other. Here they run some at a time, into the cache
from which it then takes them.
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
import traceback
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import nbformat
import yaml
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from jupyter_cache.executors.utils import single_nb_execution

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "_build"
HTML = BUILD / "html"
CACHE = BUILD / ".jupyter_cache"
FINGERPRINT = BUILD / "notebooks-depend-on.sha256"
LOG = BUILD / "book.log"
# What the notebooks' outputs depend on besides their own code.
INPUTS = ("seglib/**/*.py", "results/*.json", "requirements.lock")
COMMAND = ["build", ".", "--toc", "book/_toc.yml", "-W", "-n", "--keep-going"]
COLOR = re.compile(r"\x1b\[[0-9;]*m")


def say(text):
    print(f"make book: {text}", flush=True)


def fingerprint(root, profile):
    digest = hashlib.sha256(f"{profile} {sys.version_info[:2]}".encode())
    for pattern in INPUTS:
        for path in sorted(root.glob(pattern)):
            digest.update(f"\n{path.relative_to(root).as_posix()}\n".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def drop_stale_outputs():
    """Makes every notebook run again where something that they depend on has changed."""
    now = fingerprint(ROOT, os.environ["SEGLIB_PROFILE"])
    before = FINGERPRINT.read_text() if FINGERPRINT.exists() else None
    if before == now:
        return
    if before is not None:
        say("seglib, results, a version or the profile changed: all notebooks run again")
    shutil.rmtree(CACHE, ignore_errors=True)
    # Sphinx reads a page again only when the page changed, and it runs notebooks while reading.
    shutil.rmtree(BUILD / ".doctrees", ignore_errors=True)
    FINGERPRINT.write_text(now)


def run_notebooks(jobs):
    """Runs the notebooks that the cache does not hold, `jobs` at a time, and puts them into it.

    Returns:
        The names of those that failed, whose tracebacks have been printed.
    """
    cache = get_cache(CACHE)
    names = [f"{page}.ipynb" for page in pages(read_yaml(ROOT / "book" / "_toc.yml"))]
    names = [name for name in names if (ROOT / name).is_file() and not is_cached(cache, name)]
    timeout = read_yaml(ROOT / "_config.yml").get("execute", {}).get("timeout", 30)
    failed = []
    # Processes, not threads: Control-C reaches each of them, and each ends its kernel.
    with ProcessPoolExecutor(jobs) as pool:
        running = {pool.submit(run_notebook, name, timeout): name for name in names}
        for future in as_completed(running):
            name = running[future]
            notebook, seconds, error = future.result()
            if error:
                print(f"\n{error}\n", flush=True)
                say(f"{name} failed after {seconds:.0f} s")
                failed.append(name)
                continue
            notebook = nbformat.reads(notebook, as_version=4)
            bundle = CacheBundleIn(notebook, name, data={"execution_seconds": seconds})
            cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
            say(f"{name} took {seconds:.0f} s")
    return failed


def read_yaml(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def is_cached(cache, name):
    try:
        cache.match_cache_notebook(nbformat.read(ROOT / name, as_version=4))
    except KeyError:
        return False
    return True


def run_notebook(name, timeout):
    """Runs one notebook.

    Returns:
        The notebook with its outputs as text, the seconds it took, and the text of an error or
        `None`.
    """
    say(f"running {name} ...")
    with LOG.open("ab") as log:  # what kernels say while they start and end; errors come as outputs
        os.dup2(log.fileno(), sys.stderr.fileno())
    path = ROOT / name
    start = time.monotonic()
    notebook = nbformat.read(path, as_version=4)
    try:
        result = single_nb_execution(notebook, str(path.parent), timeout, allow_errors=False)
        error = result.exc_string
    except Exception:  # a kernel that died, or that could not be started
        error = traceback.format_exc()
    if error:
        # What comes before is the story of the machinery that ran the cell.
        error = COLOR.sub("", error).rpartition("CellExecutionError: ")[2].rstrip()
    return nbformat.writes(notebook), time.monotonic() - start, error


def run_jupyter_book():
    """Runs Jupyter Book with its few telling lines shown and the rest in a log.

    Returns:
        Its exit code, and whether it complained of anything in a line that was shown.
    """
    program = Path(sys.executable).with_name("jupyter-book")
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1"}
    complained = False
    with LOG.open("a", encoding="utf-8") as log:
        book = subprocess.Popen(
            [program, *COMMAND],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
        for line in book.stdout:
            line = COLOR.sub("", line).replace(f"{ROOT}{os.sep}", "")
            log.write(line)
            complained |= show(line.rstrip())
    return book.wait(), complained


def show(line):
    """Prints a line of Jupyter Book's output if it is a complaint, and says whether it is."""
    if re.search(r"\b(WARNING|ERROR|CRITICAL):|^\w*(Error|Exception)\b", line):
        print(line, flush=True)
        return True
    return False


def pages(node):
    """The documents that a table of contents names, in order."""
    if isinstance(node, list):
        return [page for item in node for page in pages(item)]
    if isinstance(node, dict):
        named = [node[key] for key in ("root", "file") if key in node]
        return named + [page for item in node.values() for page in pages(item)]
    return []


def missing_pages(toc, html):
    wanted = pages(read_yaml(toc))
    return [page for page in wanted if not (html / f"{page}.html").is_file()]


def fail(reason):
    # Sphinx warns of a page only when it reads it: without this, the next run would find nothing
    # changed, warn of nothing and pass.
    shutil.rmtree(BUILD / ".doctrees", ignore_errors=True)
    say(f"{reason} (everything that was said is in {LOG.relative_to(ROOT)})")
    return 1


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2, help="notebooks at a time")
    jobs = parser.parse_args().jobs
    start = time.monotonic()
    os.environ.setdefault("SEGLIB_PROFILE", "sample")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    BUILD.mkdir(exist_ok=True)
    LOG.unlink(missing_ok=True)
    drop_stale_outputs()
    say("building; a first run takes some minutes")
    failed = run_notebooks(jobs)
    if failed:
        say(f"FAILED in {', '.join(failed)}, see the lines above")
        return 1
    code, complained = run_jupyter_book()
    if code != 0:
        if not complained:
            print("".join(LOG.read_text(encoding="utf-8").splitlines(keepends=True)[-30:]))
        return fail("FAILED, see the lines above")
    missing = missing_pages(ROOT / "book" / "_toc.yml", HTML)
    if missing or not (HTML / "index.html").is_file():
        return fail(f"FAILED, pages of the table of contents are missing: {missing or 'index'}")
    index = HTML / "index.html"
    seconds = time.monotonic() - start
    say(f"done in {seconds:.0f} s. Open {index.relative_to(ROOT)} ({index.as_uri()})")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        say("stopped")
        sys.exit(130)
