"""Writes the locks from pyproject.toml: exact versions with hashes, and no index address in them.

    sh tools/python.sh tools/lock.py [--upgrade]

requirements.lock holds what everybody needs. An add-on's lock holds only what comes on top of it.
Versions that stand in a lock are kept unless a range asks for others or `--upgrade` is given.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from environment import ADD_ONS, BASE, ROOT, requirement_blocks

COMPILE = "--universal --python-version 3.11 --generate-hashes --no-header --no-annotate"
EXTRAS = ("book", "test")


def install_uv(folder):
    """uv in a throw-away environment; it is no part of the book's own."""
    venv.create(folder, with_pip=True)
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    subprocess.run([programs / "python", "-m", "pip", "install", "--quiet", "uv"], check=True)
    return programs / "uv"


def compile_lock(uv, output, extras, arguments):
    command = [uv, "pip", "compile", "--quiet", "pyproject.toml", *COMPILE.split(), *arguments]
    command += [f"--extra={extra}" for extra in extras]
    subprocess.run([*command, "--output-file", output], cwd=ROOT, check=True, stdout=sys.stderr)


def on_top_of(base, lock):
    """The requirements of a lock that another does not have, as the text of a lock."""
    there = {name for name, _ in requirement_blocks(base)}
    return "".join(f"{block}\n" for name, block in requirement_blocks(lock) if name not in there)


def check(path):
    if "://" in path.read_text(encoding="utf-8"):
        sys.exit(f"make lock: {path.name} holds an address; nothing but hashes belongs there")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--upgrade", action="store_true")
    upgrade = ["--upgrade"] if parser.parse_args().upgrade else []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        uv = install_uv(folder / "uv")
        locks = {BASE: EXTRAS, **{lock: (name,) for name, lock in ADD_ONS.items()}}
        for lock, extras in locks.items():
            if (ROOT / lock).exists():
                shutil.copy(ROOT / lock, folder / lock)
            constraint = [] if lock == BASE else [f"--constraint={folder / BASE}"]
            compile_lock(uv, folder / lock, extras, upgrade + constraint)
        base = (folder / BASE).read_text(encoding="utf-8")
        for lock in ADD_ONS.values():
            text = on_top_of(base, (folder / lock).read_text(encoding="utf-8"))
            (folder / lock).write_text(text, encoding="utf-8")
        for lock in locks:
            check(folder / lock)
            shutil.copy(folder / lock, ROOT / lock)
            print(f"make lock: {lock} is written")


if __name__ == "__main__":
    main()
