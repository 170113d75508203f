"""The machine, the versions and the commit that something is measured with."""

import functools
import importlib.metadata
import os
import pathlib
import platform
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGES = ("tensorflow", "keras", "numpy", "tensorflow-datasets")
# Linux's flags of the instructions that networks are computed with. bfloat16 is quicker than
# float32 only with the last three.
INSTRUCTIONS = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "asimd": "NEON",
    "avx512_bf16": "AVX-512 BF16",
    "amx_bf16": "AMX BF16",
    "bf16": "Arm BF16",
}


def stamp() -> dict:
    """Returns `device`, `versions` and `commit` of something that is measured now."""
    return {"device": device(), "versions": versions(), "commit": commit()}


def versions(packages: tuple[str, ...] = PACKAGES) -> dict[str, str]:
    """Returns the installed version of Python and of each package.

    Args:
        packages: names of distributions; one that is not installed is left out.

    Returns:
        A dict from the name to the version.
    """
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def device() -> dict[str, object]:
    """Returns the processor, the number of its cores that this process may use, and the GPUs.

    Returns:
        A dict with `cpu`, `cores`, `instructions` (those that decide how fast a network is, above
        all in bfloat16; empty where the system does not list them) and `gpu` (a list of names,
        empty without an NVIDIA driver).
    """
    usable = getattr(os, "sched_getaffinity", None)
    cores = len(usable(0)) if usable else os.cpu_count()
    cpu = {"cpu": _cpu_name(), "cores": cores, "instructions": instructions()}
    return cpu | {"gpu": _gpu_names()}


def names(device: dict) -> list[str]:
    """Returns the names of the processor, with cores and instruction sets, and of the GPUs.

    Args:
        device: as `device` returns it; older records lack the instruction sets.
    """
    cores = f"{device['cores']} core{'s' if device['cores'] > 1 else ''}"
    about = ", ".join([cores, *device.get("instructions", [])])
    return [f"{device['cpu']} ({about})", *device["gpu"]]


def computes_bfloat16() -> bool:
    """Returns whether the processor has instructions for bfloat16."""
    return any("BF16" in name for name in instructions())


def instructions(cpuinfo: str | os.PathLike = "/proc/cpuinfo") -> list[str]:
    """Returns the names of the processor's instruction sets for vectors and matrices.

    Args:
        cpuinfo: the file in which Linux lists a processor's flags.
    """
    file = pathlib.Path(cpuinfo)
    text = file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""
    flags = re.search(r"^(?:flags|Features)\s*:(.*)$", text, flags=re.MULTILINE)
    return [name for flag, name in INSTRUCTIONS.items() if flags and flag in flags[1].split()]


@functools.cache  # a run of hours states the code that it began with
def commit(directory: str | os.PathLike = ROOT) -> str:
    """Returns the commit that is checked out, with `+changes` when code differs from it.

    Results may differ: each script of `make results` writes some.

    Args:
        directory: a folder of the repository; by default this one.

    Returns:
        The hash, or `"unknown"` outside a git repository.
    """
    head = _output(["git", "-C", str(directory), "rev-parse", "HEAD"])
    if not head:
        return "unknown"
    status = ["status", "--porcelain", "--untracked-files=no", "--", ".", ":!results"]
    changed = _output(["git", "-C", str(directory), *status])
    return head + ("+changes" if changed else "")


def _cpu_name() -> str:
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    if platform.system() == "Darwin":
        return _output(["sysctl", "-n", "machdep.cpu.brand_string"]) or platform.machine()
    return platform.processor() or platform.machine()


def _gpu_names() -> list[str]:
    return _output(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]).splitlines()


def _output(command: list[str]) -> str:
    """Returns what a command prints, and nothing when it is missing, fails or hangs."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
