"""Builds the book: runs the notebooks that changed, writes the HTML, checks that it is whole.

    python tools/build_book.py

A notebook is run again when its code changed (jupyter-cache sees to that), or when something it
imports or reads did: seglib, the measured results, an installed version, the profile. The cache
knows nothing of these, so their fingerprint is kept beside it and the cache is dropped with them.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "_build"
HTML = BUILD / "html"
REPORTS = HTML / "reports"
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
    shutil.rmtree(BUILD / ".jupyter_cache", ignore_errors=True)
    # Sphinx reads a page again only when the page changed, and it runs notebooks while reading.
    shutil.rmtree(BUILD / ".doctrees", ignore_errors=True)
    BUILD.mkdir(exist_ok=True)
    FINGERPRINT.write_text(now)


def run_jupyter_book():
    """Runs Jupyter Book with its few telling lines shown and the rest in a log.

    Returns:
        Its exit code, and whether it complained of anything in a line that was shown.
    """
    shutil.rmtree(REPORTS, ignore_errors=True)
    program = Path(sys.executable).with_name("jupyter-book")
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1"}
    complained = False
    with LOG.open("w", encoding="utf-8") as log:
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
    """Prints what a reader wants to see of Jupyter Book's output; True for a complaint."""
    running = re.match(r"(\S+): Executing notebook", line)
    took = re.match(r"(\S+): Executed notebook in ([\d.]+) seconds", line)
    if running:
        say(f"running {running.group(1)} ...")
    elif took:
        say(f"{took.group(1)} took {float(took.group(2)):.0f} s")
    elif re.search(r"\b(WARNING|ERROR|CRITICAL):|^\w*(Error|Exception)\b", line):
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
    wanted = pages(yaml.safe_load(toc.read_text(encoding="utf-8")))
    return [page for page in wanted if not (html / f"{page}.html").is_file()]


def tell_why():
    """Prints the tracebacks of the notebooks that failed; True where there was one."""
    reports = sorted(REPORTS.rglob("*.err.log"))
    for report in reports:
        text = COLOR.sub("", report.read_text(encoding="utf-8"))
        # What comes before is the story of the machinery that ran the cell.
        print(f"\n{text.rpartition('CellExecutionError: ')[2].rstrip()}\n")
    return bool(reports)


def fail(reason):
    # Sphinx warns of a page only when it reads it: without this, the next run would find nothing
    # changed, warn of nothing and pass.
    shutil.rmtree(BUILD / ".doctrees", ignore_errors=True)
    say(f"{reason} (everything that was said is in {LOG.relative_to(ROOT)})")
    return 1


def main():
    start = time.monotonic()
    os.environ.setdefault("SEGLIB_PROFILE", "sample")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    drop_stale_outputs()
    say("building; a first run takes some minutes")
    code, complained = run_jupyter_book()
    if code != 0:
        if not tell_why() and not complained:
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
