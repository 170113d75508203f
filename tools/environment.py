"""Makes the environment `.venv` from requirements.lock. Every make command runs this first.

    sh tools/python.sh tools/environment.py [--with jax]

There is one rule: the file `.venv/every-pixel.json` is written last and says what was installed
from which lock, where, and with which Python. While it holds, nothing is done; where it does not
(interrupted, moved, another lock, no interpreter any more) the environment is made anew, because a
package that was half copied looks installed to pip. What was downloaded before is not downloaded
again, pip keeps it.

Only the standard library is used, and no syntax newer than Python 3.6: an old Python must get far
enough to say that it is too old.
"""

import argparse
import hashlib
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "every-pixel.json"
LOG = VENV / "pip.log"
VENV_PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

OLDEST, NEWEST = (3, 11), (3, 13)
BASE = "requirements.lock"
# What only some machines need stands in a lock of its own and is added on top.
ADD_ONS = {"gpu": "requirements-gpu.lock", "jax": "requirements-jax.lock"}
# They build the few packages that come as source only, so they are installed first, by hash too.
BUILD_TOOLS = ("setuptools", "wheel")


class Problem(Exception):
    """One sentence that says what is wrong and what to do."""


def say(text):
    print("make env: " + text, flush=True)


def running_version():
    return "{}.{}".format(*sys.version_info)


# --- the Python that makes the environment --------------------------------------------------


def check_python():
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        raise Problem(
            f"Python {platform.python_version()} ({sys.executable}) is not supported: install "
            "Python 3.11, 3.12 or 3.13 and run the same command again, or name one with "
            "make PYTHON=/path/to/python."
        )
    if not all(importlib.util.find_spec(name) for name in ("venv", "ensurepip")):
        raise Problem(
            f"Python {platform.python_version()} ({sys.executable}) has no venv module: on Debian "
            f"and Ubuntu `sudo apt install python{running_version()}-venv` adds it; then run the "
            "same command again."
        )


def has_nvidia_gpu():
    """True where TensorFlow can use a GPU; GPU=1 and GPU=0 overrule what is found."""
    wish = os.environ.get("GPU", "")
    if wish:
        return wish != "0"
    program = shutil.which("nvidia-smi")
    if program is None or not sys.platform.startswith("linux"):
        return False
    # The program outlives its driver, so only its answer counts.
    try:
        answer = subprocess.run(
            [program, "-L"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0 and answer.stdout.startswith(b"GPU ")


# --- the stamp ----------------------------------------------------------------------------


def fingerprint(lock):
    return hashlib.sha256((ROOT / lock).read_bytes()).hexdigest()


def read_stamp():
    try:
        stamp = json.loads(STAMP.read_text(encoding="utf-8"))
        return stamp if isinstance(stamp["locks"], dict) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_stamp(locks):
    content = {"venv": str(VENV), "python": running_version(), "locks": locks}
    unfinished = STAMP.with_suffix(".tmp")
    unfinished.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    os.replace(str(unfinished), str(STAMP))


def why_anew(stamp):
    """Why the environment must be made anew, or None where it holds."""
    if not os.path.lexists(str(VENV)):
        return "making .venv: some minutes and 3 GB of disk, once"
    if stamp is None:
        return "an earlier run did not finish: making .venv anew"
    if stamp.get("venv") != str(VENV):
        return "this folder has moved: making .venv anew"
    if not VENV_PYTHON.exists():
        return "the Python behind .venv is gone: making .venv anew"
    if os.environ.get("PYTHON") and stamp.get("python") != running_version():
        return "another Python was asked for: making .venv anew"
    for lock, installed in stamp["locks"].items():
        if not (ROOT / lock).exists() or fingerprint(lock) != installed:
            return f"{lock} has changed: making .venv anew"
    return None


# --- pip ----------------------------------------------------------------------------------


def requirement_blocks(text):
    """The requirements in a lock: pairs of a name and the text with its lines of hashes.

    A name comes twice where its version depends on the Python.
    """
    blocks = re.findall(r"^[^\s#].*(?:\n[ \t].*)*", text, flags=re.MULTILINE)
    return [(re.split(r"[=\s;\[]", block, maxsplit=1)[0], block) for block in blocks]


def pip_environment():
    """The caller's settings of the index and proxy, without those that install elsewhere."""
    elsewhere = ("PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PYTHONPATH", "PYTHONHOME")
    kept = {name: value for name, value in os.environ.items() if name not in elsewhere}
    kept.update(PIP_DISABLE_PIP_VERSION_CHECK="1", PIP_NO_INPUT="1", PYTHONUTF8="1")
    return kept


class Progress:
    """One line that counts on a terminal; a line every 25 packages elsewhere."""

    def __init__(self, total):
        self.total = total
        self.done = 0
        self.live = sys.stdout.isatty()

    def read(self, line):
        words = line.split()
        if line.startswith("Ignoring"):  # a package for another system
            self.total -= 1
        elif line.startswith("Requirement already satisfied"):
            self.done += 1
        elif line.startswith(("Collecting", "Processing")):
            self.done += 1
            name = re.split(r"-\d", Path(words[1]).name)[0].replace("==", " ")
            if self.live:
                print(f"\r\033[Kmake env: {self.done} of {self.total}, {name}", end="", flush=True)
            elif self.done % 25 == 0:
                say(f"{self.done} of {self.total} packages fetched")
        elif line.startswith("Installing collected") and self.total > len(BUILD_TOOLS):
            print("\r\033[K" if self.live else "", end="")
            say(f"all {self.done} packages are here, now installing them")


def run_pip(requirements, extra=()):
    """Installs a lock, hashes checked, and turns pip's failure into one sentence."""
    progress = Progress(len(requirement_blocks(requirements.read_text(encoding="utf-8"))))
    command = [str(VENV_PYTHON), "-m", "pip", "install", "--require-hashes", "--no-deps"]
    command += ["--no-build-isolation", "--progress-bar", "off", *extra, "-r", str(requirements)]
    with LOG.open("a", encoding="utf-8") as log:
        pip = subprocess.Popen(
            command,
            env=pip_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        output = []
        for raw in pip.stdout:
            line = raw.decode("utf-8", errors="replace")
            output.append(line)
            log.write(line)
            progress.read(line)
    if pip.wait() != 0:
        if progress.live:
            print()
        raise Problem(what_pip_means("".join(output), requirements.name))


def what_pip_means(output, lock):
    if "DO NOT MATCH THE HASHES" in output:
        return (
            f"a package that was downloaded does not match its hash in {lock}, so nothing was "
            "installed from it: run `python -m pip cache purge`, try again, and report it if it "
            "stays."
        )
    if "No space left on device" in output:
        return "the disk is full: .venv takes 3 GB, and as much again while it is being made."
    no_answer = (
        r"connection broken|Max retries exceeded|NewConnectionError|Temporary failure in name"
        r"|Network is unreachable|Read timed out|ConnectTimeout|IncompleteRead|ProxyError"
    )
    if re.search(no_answer, output):
        return (
            "pip cannot reach the package index: check the network and run the same command "
            "again; what was downloaded so far is kept."
        )
    missing = re.search(r"No matching distribution found for ([\w.-]+)", output)
    if missing:
        return (
            f"the package index has no {missing.group(1)} for this machine (Python "
            f"{running_version()}, {platform.system()} {platform.machine()}) in the version that "
            f"{lock} names."
        )
    errors = [line for line in output.splitlines() if "ERROR" in line]
    last = " ".join(errors[-1:] or output.split("\n")[-2:-1])
    last = re.sub(r"\w+://\S+", "(address)", last)  # an index's address can hold a password
    return f"pip failed; the whole story is in {LOG.relative_to(ROOT)}: {last}"


# --- the environment ----------------------------------------------------------------------


def make_venv():
    if VENV.is_symlink() or VENV.is_file():
        VENV.unlink()
    elif VENV.exists():
        shutil.rmtree(str(VENV))
    # An activated .venv may be what runs this: its base interpreter outlives the removal.
    base = getattr(sys, "_base_executable", None) or sys.executable
    made = subprocess.run(
        [base, "-m", "venv", "--prompt", "every-pixel", str(VENV)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if made.returncode != 0:
        lines = made.stdout.decode("utf-8", errors="replace").strip().splitlines() or ["no word"]
        raise Problem(f"Python could not make .venv and said: {lines[-1]}")


def install_base():
    text = (ROOT / BASE).read_text(encoding="utf-8")
    tools = [block for name, block in requirement_blocks(text) if name in BUILD_TOOLS]
    if tools:
        with tempfile.TemporaryDirectory() as folder:
            first = Path(folder) / BASE
            first.write_text("\n".join(tools) + "\n", encoding="utf-8")
            run_pip(first)
    run_pip(ROOT / BASE)
    # A path file is all that an editable install is; it needs no build.
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    answer = subprocess.run([str(VENV_PYTHON), "-c", where], stdout=subprocess.PIPE, check=True)
    (Path(answer.stdout.decode().strip()) / "every-pixel.pth").write_text(str(ROOT) + "\n")


def ensure(add_ons):
    """Brings `.venv` to what the locks say; does nothing where it is."""
    check_python()
    stamp = read_stamp()
    wanted = {ADD_ONS[name] for name in add_ons}
    reason = why_anew(stamp)
    locks = {} if stamp is None else dict(stamp["locks"])
    if reason:
        say(reason)
        wanted |= {lock for lock in locks if lock != BASE and (ROOT / lock).exists()}
        make_venv()
        install_base()
        locks = {BASE: fingerprint(BASE)}
        write_stamp(locks)
    gpu = ADD_ONS["gpu"]
    if gpu not in locks and gpu not in wanted and has_nvidia_gpu():
        say("an NVIDIA GPU is here: adding the CUDA libraries, 3 GB more")
        wanted.add(gpu)
    for lock in sorted(wanted - set(locks)):
        # A run that was interrupted here may have left half a package: take nothing for granted.
        run_pip(ROOT / lock, extra=["--force-reinstall"])
        locks[lock] = fingerprint(lock)
        write_stamp(locks)
    if reason:
        say(".venv is ready")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--with", dest="add_ons", action="append", default=[], choices=ADD_ONS)
    try:
        ensure(parser.parse_args().add_ons)
    except Problem as problem:
        print(f"make env: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nmake env: stopped; the next run starts over.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
