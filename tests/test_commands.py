"""The commands in odd situations: each says one clear sentence, and the next run recovers.

`make env` is run for real in a small project of its own, whose lock names one tiny wheel made here.
"""

import base64
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import nbformat
import pytest
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn

ROOT = Path(__file__).resolve().parent.parent
REAL_PYTHON = getattr(sys, "_base_executable", sys.executable)
posix_only = pytest.mark.skipif(os.name == "nt", reason="the commands need a POSIX shell")
pytestmark = posix_only


# --- a small project ------------------------------------------------------------------------


def make_wheel(folder, name):
    """Writes a wheel with one module that says its name; returns the line that locks it."""
    info = f"{name}-1.0.dist-info"
    files = {
        f"{name}.py": f"NAME = {name!r}\n",
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
            # A ZipInfo has a fixed date, so that the same wheel has the same hash again.
            archive.writestr(zipfile.ZipInfo(path), text)
    return f"{name}==1.0 --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"


def executable(path, script):
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


class Project:
    """A checkout with the real Makefile and scripts, its own locks, and its own PATH."""

    def __init__(self, folder):
        self.folder = folder / "checkout"
        self.programs = folder / "programs"
        self.wheels = folder / "wheels"
        for path in (self.folder / "tools", self.programs, self.wheels):
            path.mkdir(parents=True)
        shutil.copy(ROOT / "Makefile", self.folder)
        for script in ("python.sh", "environment.py"):
            shutil.copy(ROOT / "tools" / script, self.folder / "tools")
        for program in ("make", "sh"):
            (self.programs / program).symlink_to(shutil.which(program))
        self.lock("requirements.lock", make_wheel(self.wheels, "tiny"))
        self.lock("requirements-gpu.lock", make_wheel(self.wheels, "tiny_cuda"))
        self.lock("requirements-jax.lock", make_wheel(self.wheels, "tiny_jax"))

    def lock(self, name, text):
        (self.folder / name).write_text(text)

    def add_python(self, name="python3"):
        executable(self.programs / name, f'exec "{REAL_PYTHON}" "$@"')

    def add_odd_python(self, name, patch):
        """A Python that works but for what the patch changes in it first."""
        script = self.programs / f"{name}.py"
        script.write_text(
            f"import platform, runpy, sys\n{patch}\n"
            "del sys.argv[0]\n"
            "if sys.argv[0] == '-c':\n"
            "    exec(sys.argv[1])\n"
            "else:\n"
            "    runpy.run_path(sys.argv[0], run_name='__main__')\n"
        )
        executable(self.programs / name, f'exec "{REAL_PYTHON}" "{script}" "$@"')

    def make(self, *arguments, **variables):
        """Runs make with nothing of this machine's settings but what a test gives."""
        environment = {
            "PATH": str(self.programs),
            "HOME": str(self.folder.parent),
            "LANG": "C.UTF-8",
            "GPU": "0",
            # This machine's own settings of pip would let it find packages without a network.
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.wheels),
            **variables,
        }
        return subprocess.run(
            ["make", "--no-print-directory", *arguments],
            cwd=self.folder,
            env={name: value for name, value in environment.items() if value is not None},
            capture_output=True,
            text=True,
            timeout=300,
        )

    def env(self, **variables):
        return self.make("env", **variables)

    def has(self, module):
        """Whether the environment can import a module and is at home in this checkout."""
        python = self.folder / ".venv" / "bin" / "python"
        code = f"import {module}, sys; print({module}.NAME, sys.prefix)"
        away = self.folder.parent  # not the checkout: Python would find its modules by itself
        answer = subprocess.run([python, "-c", code], cwd=away, capture_output=True, text=True)
        return answer.stdout.split() == [module, str(self.folder / ".venv")]


def assert_one_sentence(answer, *fragments):
    """The command failed and said one line of its own, besides make's."""
    assert answer.returncode != 0
    lines = [line for line in answer.stderr.splitlines() if not line.startswith("make: ***")]
    assert len(lines) == 1, answer.stderr
    assert lines[0].startswith("make env: ") and lines[0].endswith(".")
    assert "Traceback" not in answer.stdout + answer.stderr
    for fragment in fragments:
        assert fragment in lines[0]


def assert_recovers(project, **variables):
    answer = project.env(**variables)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert project.has("tiny")
    return answer


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A project whose environment is made, to be copied and not changed."""
    project = Project(tmp_path_factory.mktemp("finished"))
    project.add_python()
    assert_recovers(project)
    return project


@pytest.fixture
def made(finished, tmp_path):
    """A project of one's own whose environment is made."""
    project = Project(tmp_path)
    project.add_python()
    shutil.copytree(finished.folder / ".venv", project.folder / ".venv", symlinks=True)
    stamp = project.folder / ".venv" / "every-pixel.json"
    content = {**json.loads(stamp.read_text()), "venv": str(project.folder / ".venv")}
    stamp.write_text(json.dumps(content))
    return project


# --- no Python that suits ---------------------------------------------------------------------


def test_without_python(project):
    assert_one_sentence(project.env(), "no Python found", "install Python 3.12", "make PYTHON=")
    project.add_python()
    assert_recovers(project)


def test_a_python_that_is_named_and_is_not_there(project):
    answer = project.env(PYTHON="/nowhere/python")
    assert_one_sentence(answer, "PYTHON=/nowhere/python does not run")


@pytest.mark.parametrize("version", [(3, 9, 18), (3, 14, 0)])
def test_a_python_outside_the_range(project, version):
    dotted = ".".join(map(str, version))
    patch = f"sys.version_info = {version}; platform.python_version = lambda: {dotted!r}"
    project.add_odd_python("python3", patch)
    assert_one_sentence(project.env(), f"Python {dotted}", "3.11, 3.12 or 3.13", "make PYTHON=")
    assert not (project.folder / ".venv").exists(), "nothing is left to recover from"


def test_a_python_without_venv(project):
    project.add_odd_python("python3", "sys.modules['ensurepip'] = None")
    assert_one_sentence(project.env(), "no venv module", "sudo apt install python3.", "-venv")
    assert not (project.folder / ".venv").exists(), "nothing is left to recover from"


def test_pythons_that_do_not_suit_are_passed_over(project):
    # As pyenv leaves it: a name that is there and runs nothing.
    executable(project.programs / "python3.12", "echo 'pyenv: command not found' >&2; exit 127")
    project.add_odd_python("python3.13", "sys.modules['ensurepip'] = None; sys.odd = 1")
    project.add_odd_python("python3.11", "sys.version_info = (3, 9, 18); sys.odd = 2")
    project.add_odd_python("python", "sys.odd = 3")
    answer = subprocess.run(
        ["sh", "tools/python.sh", "-c", "import sys; print(sys.odd)"],
        cwd=project.folder,
        env={"PATH": str(project.programs)},
        capture_output=True,
        text=True,
    )
    assert answer.stdout == "3\n"


# --- pip fails --------------------------------------------------------------------------------


def closed_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_without_network(project):
    project.add_python()
    unreachable = {
        "PIP_INDEX_URL": f"http://127.0.0.1:{closed_port()}/simple",
        "PIP_RETRIES": "1",
        "PIP_NO_INDEX": None,
        "PIP_FIND_LINKS": None,
    }
    answer = project.env(**unreachable)
    assert_one_sentence(answer, "cannot reach the package index", "run the same command again")
    assert "127.0.0.1" not in answer.stdout + answer.stderr
    assert_recovers(project)


def test_a_package_that_is_not_what_was_locked(made):
    made.lock("requirements.lock", "tiny==1.0 --hash=sha256:" + "0" * 64 + "\n")
    answer = made.env()
    assert_one_sentence(answer, "does not match its hash in requirements.lock")
    assert "network" not in answer.stderr


def test_a_package_that_is_not_there_for_this_machine(made):
    made.lock("requirements.lock", "absent==2.0 --hash=sha256:" + "0" * 64 + "\n")
    assert_one_sentence(made.env(), "has no absent for this machine", "requirements.lock")


def test_a_full_disk_and_an_unknown_fault(load_tool):
    environment = load_tool("environment")
    full = "ERROR: Could not install packages: [Errno 28] No space left on device"
    assert "disk is full" in environment.what_pip_means(full, "x.lock")
    odd = "ERROR: something odd at https://user:secret@host/simple"
    told = environment.what_pip_means(odd, "x.lock")
    assert "something odd" in told and "secret" not in told


# --- an environment that is not whole ---------------------------------------------------------


def test_a_second_run_does_nothing(made):
    stamp = made.folder / ".venv" / "every-pixel.json"
    before = stamp.stat().st_mtime_ns
    answer = assert_recovers(made)
    assert answer.stdout == answer.stderr == ""
    assert stamp.stat().st_mtime_ns == before


def test_half_made(project):
    project.add_python()
    environment = project.folder / "tools" / "environment.py"
    text = environment.read_text()
    # Ends as under kill -9 while pip copies files: known to pip, not importable, no stamp.
    killed = "    next(VENV.glob('lib/*/site-packages/tiny.py')).unlink()\n    os._exit(137)\n"
    install = "    run_pip(ROOT / BASE)\n"
    assert install in text
    environment.write_text(text.replace(install, install + killed))
    assert project.env().returncode != 0
    assert (project.folder / ".venv").is_dir() and not project.has("tiny")
    environment.write_text(text)
    assert "did not finish" in assert_recovers(project).stdout


def test_moved(made):
    made.folder = made.folder.rename(made.folder.with_name("elsewhere"))
    assert "has moved" in assert_recovers(made).stdout
    # What stands for seglib is found in the checkout from anywhere.
    (made.folder / "package.py").write_text("NAME = 'package'\n")
    assert made.has("package")


def stamped(load_tool, monkeypatch, folder, **changes):
    """The script's module with a small environment that holds, but for the changes."""
    environment = load_tool("environment")
    for name in ("ROOT", "VENV", "STAMP", "LOG", "VENV_PYTHON"):
        path = folder / getattr(environment, name).relative_to(ROOT)
        monkeypatch.setattr(environment, name, path)
    environment.VENV_PYTHON.parent.mkdir(parents=True)
    environment.VENV_PYTHON.symlink_to(sys.executable)
    (folder / "requirements.lock").write_text("one==1\n")
    environment.write_stamp({"requirements.lock": environment.fingerprint("requirements.lock")})
    stamp = {**json.loads(environment.STAMP.read_text()), **changes}
    environment.STAMP.write_text(json.dumps(stamp))
    monkeypatch.delenv("PYTHON", raising=False)
    return environment


def reason(environment):
    return environment.why_anew(environment.read_stamp())


def test_an_environment_that_holds_is_kept(load_tool, monkeypatch, tmp_path):
    assert reason(stamped(load_tool, monkeypatch, tmp_path)) is None


def test_the_interpreter_is_gone(load_tool, monkeypatch, tmp_path):
    environment = stamped(load_tool, monkeypatch, tmp_path)
    environment.VENV_PYTHON.unlink()
    environment.VENV_PYTHON.symlink_to("/nowhere/python")
    assert "is gone" in reason(environment)


@pytest.mark.parametrize("content", ["", '{"locks": ', "[]", "{}", '{"locks": 1}'])
def test_a_damaged_stamp(load_tool, monkeypatch, tmp_path, content):
    environment = stamped(load_tool, monkeypatch, tmp_path)
    environment.STAMP.write_text(content)
    assert "did not finish" in reason(environment)


def test_a_lock_that_changed_or_went(load_tool, monkeypatch, tmp_path):
    environment = stamped(load_tool, monkeypatch, tmp_path)
    (tmp_path / "requirements.lock").write_text("one==2\n")
    assert "requirements.lock has changed" in reason(environment)
    (tmp_path / "requirements.lock").unlink()
    assert "requirements.lock has changed" in reason(environment)


def test_another_python_is_taken_only_when_it_is_named(load_tool, monkeypatch, tmp_path):
    environment = stamped(load_tool, monkeypatch, tmp_path, python="3.10")
    assert reason(environment) is None
    monkeypatch.setenv("PYTHON", "python3.12")
    assert "another Python" in reason(environment)


# --- what only some machines need -------------------------------------------------------------


def test_a_gpu_adds_the_cuda_libraries(made):
    executable(made.programs / "nvidia-smi", "echo 'GPU 0: NVIDIA Fake (UUID: GPU-0)'")
    assert_recovers(made, GPU="0")
    assert not made.has("tiny_cuda")
    answer = assert_recovers(made, GPU="")
    if sys.platform.startswith("linux"):
        assert "NVIDIA GPU" in answer.stdout
        assert made.has("tiny_cuda")


def test_an_add_on_comes_on_top_and_stays_when_the_environment_is_made_anew(made):
    stamp = made.folder / ".venv" / "every-pixel.json"
    command = "MAKE_ENV=sh tools/python.sh tools/environment.py --with jax"
    assert made.make("env", command).returncode == 0
    assert made.has("tiny_jax") and not made.has("tiny_cuda")
    stamp.unlink()
    stamp.write_text(json.dumps({"locks": {"requirements-jax.lock": "an older one"}}))
    assert_recovers(made)
    assert made.has("tiny_jax")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="CUDA's libraries are for Linux")
@pytest.mark.parametrize(
    ("wish", "program", "expected"),
    [
        ("", None, False),
        ("", "echo 'GPU 0: NVIDIA H200 (UUID: GPU-0)'", True),
        ("", "echo 'NVIDIA-SMI has failed'; exit 9", False),
        ("", "echo 'No devices were found'", False),
        ("0", "echo 'GPU 0: NVIDIA H200 (UUID: GPU-0)'", False),
        ("1", None, True),
    ],
)
def test_detection_of_a_gpu(load_tool, tmp_path, monkeypatch, wish, program, expected):
    if program:
        executable(tmp_path / "nvidia-smi", program)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("GPU", wish)
    assert load_tool("environment").has_nvidia_gpu() is expected


# --- the Makefile -----------------------------------------------------------------------------


def test_help_is_the_default_and_has_a_line_for_each_command():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    # Below `make test` make would also say which directory it enters.
    command = ["make", "--no-print-directory"]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert [line.split()[1] for line in answer.stdout.splitlines()] == targets
    assert all(len(line.split()) > 3 for line in answer.stdout.splitlines())


def test_the_commands_of_the_design_are_there():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert {"book", "test", "lab", "lint", "bench", "results"} <= set(targets)


# --- the lock ---------------------------------------------------------------------------------


def test_an_add_on_lock_holds_only_what_the_base_does_not(load_tool):
    lock = load_tool("lock")
    base = "one==1 \\\n    --hash=sha256:aa\ntwo==2 ; x == '1' \\\n    --hash=sha256:bb\n"
    more = "one==1 \\\n    --hash=sha256:aa\nnew==3 ; x < '1' \\\n    --hash=sha256:cc\nnew==4\n"
    assert lock.on_top_of(base, more) == ("new==3 ; x < '1' \\\n    --hash=sha256:cc\nnew==4\n")


def test_a_lock_with_an_address_is_refused(load_tool, tmp_path):
    path = tmp_path / "requirements.lock"
    path.write_text("one @ file:///wheels/one.whl\ntwo==2\n")
    with pytest.raises(SystemExit, match="holds an address"):
        load_tool("lock").check(path)


# --- the book ---------------------------------------------------------------------------------


CONFIG = """\
title: Small
only_build_toc_files: true
execute: {execute_notebooks: cache}
"""
TOC = """\
format: jb-book
root: book/index
parts:
  - caption: One
    chapters:
      - file: notebooks/one
"""


@pytest.fixture
def book(tmp_path):
    """A book with a page and a notebook, built by the real script."""
    for folder in ("book", "notebooks", "seglib", "tools"):
        (tmp_path / folder).mkdir()
    shutil.copy(ROOT / "tools" / "build_book.py", tmp_path / "tools")
    (tmp_path / "_config.yml").write_text(CONFIG)
    (tmp_path / "book" / "_toc.yml").write_text(TOC)
    (tmp_path / "book" / "index.md").write_text("# Start\n\nWords.\n")
    (tmp_path / "seglib" / "part.py").write_text("VALUE = 1\n")
    (tmp_path / "requirements.lock").write_text("one==1\n")
    write_notebook(tmp_path, "print(6 * 7)")
    return tmp_path


def write_notebook(book, code, prose="Words."):
    cells = [
        nbformat.v4.new_markdown_cell(f"# One\n\n{prose}"),
        nbformat.v4.new_code_cell(code),
    ]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    nbformat.write(notebook, book / "notebooks" / "one.ipynb")


def build(book, **variables):
    return subprocess.run(
        [sys.executable, "tools/build_book.py"],
        cwd=book,
        env={**os.environ, "SEGLIB_PROFILE": "sample", **variables},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_the_book_runs_a_notebook_only_when_it_must(book):
    ran = "running notebooks/one.ipynb"
    first = build(book)
    assert first.returncode == 0, first.stdout + first.stderr
    assert ran in first.stdout
    last = first.stdout.splitlines()[-1]
    assert "_build/html/index.html" in last and (book / "_build/html/index.html").is_file()
    assert "42" in (book / "_build/html/notebooks/one.html").read_text()

    write_notebook(book, "print(6 * 7)", prose="Other words.")
    assert ran not in build(book).stdout
    assert "Other words." in (book / "_build/html/notebooks/one.html").read_text()

    (book / "seglib" / "part.py").write_text("VALUE = 2\n")
    assert ran in build(book).stdout


@pytest.mark.parametrize(
    ("code", "complaints"),
    [
        (
            "print('before')\nraise ValueError('a reason to stop')",
            ["ValueError: a reason to stop", "line 2"],
        ),
        ("import os\nos._exit(1)", ["DeadKernelError: Kernel died"]),
    ],
)
def test_a_notebook_that_fails_fails_the_book(book, code, complaints):
    write_notebook(book, code)
    answer = build(book)
    assert answer.returncode == 1
    for complaint in (*complaints, "FAILED in notebooks/one.ipynb"):
        assert complaint in answer.stdout
    write_notebook(book, "print(6 * 7)")
    assert build(book).returncode == 0


def test_a_warning_fails_the_book_until_it_is_mended(book):
    (book / "book" / "index.md").write_text("# Start\n\n[nowhere](absent.md)\n")
    # Twice: Sphinx warns only of what it reads, and it does not read again what did not change.
    for _ in range(2):
        answer = build(book)
        assert answer.returncode == 1
        assert "absent.md" in answer.stdout


def test_a_missing_page_is_noticed(load_tool, book):
    build_book = load_tool("build_book")
    html = book / "html"
    (html / "notebooks").mkdir(parents=True)
    (html / "notebooks" / "one.html").write_text("")
    assert build_book.missing_pages(book / "book" / "_toc.yml", html) == ["book/index"]


def test_what_makes_all_notebooks_run_again(load_tool, book):
    fingerprint = load_tool("build_book").fingerprint
    before = fingerprint(book, "sample")
    assert fingerprint(book, "sample") == before
    assert fingerprint(book, "full") != before
    (book / "book" / "index.md").write_text("# Start\n\nProse.\n")
    assert fingerprint(book, "sample") == before
    for path in ("seglib/part.py", "seglib/new.py", "requirements.lock", "results/one.json"):
        (book / path).parent.mkdir(exist_ok=True)
        (book / path).write_text("changed\n")
        after = fingerprint(book, "sample")
        assert after != before, path
        before = after


# --- the notebooks ----------------------------------------------------------------------------


def clean_notebook(notebooks):
    cells = [
        nbformat.v4.new_markdown_cell("# Title"),
        nbformat.v4.new_code_cell(
            notebooks.bootstrap_cell(), execution_count=1, metadata={"tags": ["bootstrap"]}
        ),
        nbformat.v4.new_code_cell("print(1)", execution_count=2),
    ]
    return notebooks.tidy(nbformat.v4.new_notebook(cells=cells))


def test_a_clean_notebook_is_not_complained_of(load_tool):
    notebooks = load_tool("notebooks")
    assert list(notebooks.complaints(clean_notebook(notebooks))) == []


def spoil_metadata(notebook):
    notebook.metadata.language_info["version"] = "3.11.7"


def spoil_cell(notebook):
    notebook.cells[2].metadata["execution"] = {"iopub.status.busy": "2026-01-01T00:00:00Z"}


def spoil_bootstrap(notebook):
    notebook.cells[1].source += "\n!pip install numpy"


def spoil_count(notebook):
    notebook.cells[2].execution_count = None


def spoil_order(notebook):
    notebook.cells[2].execution_count = 7


def spoil_output(notebook):
    error = nbformat.v4.new_output("error", ename="ValueError", evalue="no", traceback=[])
    notebook.cells[2].outputs = [error]


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (spoil_metadata, "metadata"),
        (spoil_cell, "metadata"),
        (spoil_bootstrap, "bootstrap"),
        (spoil_count, "in order"),
        (spoil_order, "in order"),
        (spoil_output, "an error"),
    ],
)
def test_what_a_notebook_is_complained_of(load_tool, spoil, complaint):
    notebooks = load_tool("notebooks")
    notebook = clean_notebook(notebooks)
    spoil(notebook)
    (told,) = notebooks.complaints(notebook)
    assert complaint in told


def printed(text, name="stdout"):
    return nbformat.v4.new_output("stream", text=text, name=name)


@pytest.fixture
def ran(load_tool, tmp_path, monkeypatch):
    """The tool, and a function that puts a notebook where the book's own run leaves it."""
    notebooks = load_tool("notebooks")
    monkeypatch.setattr(notebooks, "CACHE", tmp_path / "cache")

    def put(notebook):
        bundle = CacheBundleIn(notebook, "one.ipynb")
        get_cache(notebooks.CACHE).cache_notebook_bundle(bundle, check_validity=False)

    return notebooks, put


def test_taking_outputs_leaves_nothing_of_a_run_but_them(ran, tmp_path):
    notebooks, put = ran
    path = tmp_path / "one.ipynb"
    nbformat.write(clean_notebook(notebooks), path)
    run = clean_notebook(notebooks)
    cell = run.cells[2]
    cell.execution_count = 7
    value = nbformat.v4.new_output("execute_result", {"text/plain": "3"}, execution_count=7)
    cell.outputs = [printed("1"), printed("\n"), printed("a warning", "stderr"), value]
    put(run)

    assert notebooks.take_all([path]) == 0
    taken = notebooks.read(path)
    assert list(notebooks.complaints(taken)) == []
    first, second, third = taken.cells[2].outputs
    assert (first.text, first.name) == ("1\n", "stdout") and second.name == "stderr"
    assert third.execution_count == taken.cells[2].execution_count == 2


def test_outputs_of_other_code_are_not_taken(ran, tmp_path, capsys):
    notebooks, put = ran
    path = tmp_path / "one.ipynb"
    nbformat.write(clean_notebook(notebooks), path)
    before = path.read_text()
    assert notebooks.take_all([path]) == 1  # never run
    other = clean_notebook(notebooks)
    other.cells[2].source = "print(2)"
    put(other)
    assert notebooks.take_all([path]) == 1
    assert capsys.readouterr().out.count("make book") == 2 and path.read_text() == before
