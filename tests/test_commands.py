"""The commands: what they are called, and that `.venv` is whole or made anew.

`make env` is run for real in a small project of its own, whose lock names one tiny wheel made here.
"""

import base64
import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
REAL_PYTHON = getattr(sys, "_base_executable", sys.executable)
pytestmark = pytest.mark.skipif(os.name == "nt", reason="the commands need a POSIX shell")


def targets():
    return re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)


def test_help_is_the_default_and_has_a_line_for_each_command():
    # Below `make test` make would also say which directory it enters.
    command = ["make", "--no-print-directory"]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert [line.split()[1] for line in answer.stdout.splitlines()] == targets()
    assert all(len(line.split()) > 3 for line in answer.stdout.splitlines())


@pytest.mark.parametrize("page", ["README.md", "book/contributing.md", "book/using_this_book.md"])
def test_a_command_that_a_page_names_is_there(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    named = re.findall(r"(?:^|`)make ([a-z-]+)", text, flags=re.MULTILINE)
    assert named and set(named) <= set(targets())


# --- the environment --------------------------------------------------------------------------


def make_wheel(folder, name):
    """Writes a wheel with one module; returns the line that locks it."""
    info = f"{name}-1.0.dist-info"
    files = {
        f"{name}.py": "",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = f"{info}/RECORD"
    lines = []
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=")
        lines.append(f"{path},sha256={digest.decode()},{len(text)}\n")
    files[record] = "".join(lines) + f"{record},,\n"
    wheel = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return f"{name}==1.0 --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"


def make(folder, *arguments):
    """Runs make with nothing of this machine's settings but the folder's own wheels."""
    settings = {
        "PATH": os.environ["PATH"],
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(folder),
    }
    command = ["make", "--no-print-directory", "GPU=0", f"PYTHON={REAL_PYTHON}", *arguments]
    return subprocess.run(command, cwd=folder, env=settings, capture_output=True, text=True)


def has(folder, *modules):
    """Whether the environment can import modules, from anywhere."""
    command = [folder / ".venv" / "bin" / "python", "-c", f"import {', '.join(modules)}"]
    return subprocess.run(command, cwd=folder.parent, capture_output=True).returncode == 0


@pytest.mark.rare  # makes real environments; every other command of the CI makes one, too
def test_an_environment_is_whole_or_made_anew(tmp_path):
    folder = tmp_path / "checkout"
    (folder / "seglib").mkdir(parents=True)
    (folder / "seglib" / "__init__.py").touch()
    shutil.copy(ROOT / "Makefile", folder)
    (folder / "requirements-jax.lock").write_text(make_wheel(folder, "tiny_jax"))
    right = make_wheel(folder, "tiny")
    (folder / "requirements.lock").write_text("tiny==1.0 --hash=sha256:" + "0" * 64 + "\n")

    refused = make(folder, "env", "PYTHON=/nowhere/python")
    assert refused.returncode != 0 and "3.11, 3.12 or 3.13" in refused.stderr
    assert not (folder / ".venv").exists()

    refused = make(folder, "env")
    assert refused.returncode != 0 and "DO NOT MATCH THE HASHES" in refused.stderr
    assert not has(folder, "tiny")

    (folder / "requirements.lock").write_text(right)
    made = make(folder, "env")
    assert made.returncode == 0, made.stderr
    assert has(folder, "tiny", "seglib") and not has(folder, "tiny_jax")
    assert "Making .venv" not in make(folder, "env").stdout

    moved = folder.rename(tmp_path / "elsewhere")
    assert make(moved, ".venv/jax.stamp").returncode == 0
    assert has(moved, "tiny", "seglib", "tiny_jax")


@pytest.mark.parametrize(("wish", "installed"), [("0", False), ("", False), ("1", True)])
def test_the_libraries_of_a_gpu_come_where_they_are_asked_for(wish, installed):
    command = ["make", "--dry-run", "--always-make", "env", f"GPU={wish}"]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert ("requirements-gpu.lock" in answer.stdout) is installed
