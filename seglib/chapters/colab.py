"""What the bootstrap cell of every notebook calls on Google Colab."""

import importlib
import importlib.metadata
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path

# The oldest release that works and the first that is not tried, as in pyproject.toml.
SUPPORTED = {
    "Python": ((3, 11), (3, 14)),
    "TensorFlow": ((2, 19), (2, 22)),
    "Keras": ((3, 10), (4,)),
}
# Colab compiles other packages against these: another version breaks them.
UNTOUCHED = ("tensorflow", "keras", "numpy")


def versions():
    """The installed versions of what the book depends on most.

    Returns:
        A dict from a name to a version, or to `None` where it is not installed.
    """
    return {name: _installed(name) for name in (*SUPPORTED, "NumPy")}


def device():
    """The name of the GPU that TensorFlow uses, or `"CPU"`."""
    # Here and not above: only the check needs TensorFlow, and it starts slowly.
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return "CPU"
    details = tf.config.experimental.get_device_details(gpus[0])
    return f"GPU, {details.get('device_name', gpus[0].name)}"


def check():
    """Prints versions and device in a short table.

    Raises:
        RuntimeError: a version is outside the supported range. The message names it, the range,
            and what to do.
    """
    found = versions()
    for name in SUPPORTED:
        _require_supported(name, found[name])
    for name, version in {**found, "Device": device()}.items():
        print(f"{name:<11}{version}")


def add_missing():
    """Installs those of seglib's requirements that are missing entirely.

    Nothing that is installed is replaced, whatever the missing ones would like, and TensorFlow,
    Keras and NumPy are never installed: they belong to Colab.

    Returns:
        The requirements that were installed.

    Raises:
        RuntimeError: pip could not install them.
    """
    missing = [text for text in _requirements() if _installed(_name(text)) is None]
    missing = [text for text in missing if _name(text) not in UNTOUCHED]
    if missing:
        _install(missing)
    return missing


def _requirements():
    declared = importlib.metadata.requires("seglib") or []
    return [text for text in declared if "extra ==" not in text]


def _name(requirement):
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0].lower()


def _installed(name):
    if name == "Python":
        return platform.python_version()
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _held():
    """The lines that hold pip to every version that is installed.

    TensorFlow, Keras and NumPy are not enough: a new protobuf, say, breaks TensorFlow too.
    """
    # Some system packages have versions that pip does not read.
    readable = re.compile(r"\d+(\.\d+)*((a|b|rc)\d+)?(\.post\d+)?(\.dev\d+)?(\+[\w.]+)?")
    found = {d.name: d.version for d in importlib.metadata.distributions() if d.name}
    return [f"{name}=={found[name]}\n" for name in found if readable.fullmatch(found[name] or "")]


def _install(requirements):
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder) / "constraints.txt"
        constraints.write_text("".join(_held()), encoding="utf-8")
        command = [sys.executable, "-m", "pip", "install", "--quiet"]
        pip = subprocess.run([*command, "--constraint", str(constraints), *requirements])
    if pip.returncode != 0:
        raise RuntimeError(
            f"pip could not install {', '.join(requirements)} (its own words stand above): "
            "check the network, then run this cell again."
        )
    # Python remembers what each folder held before.
    importlib.invalidate_caches()


def _require_supported(name, version):
    oldest, too_new = SUPPORTED[name]
    numbers = tuple(int(number) for number in re.findall(r"\d+", version or "")[:2])
    if oldest <= numbers < too_new:
        return
    has = f"has {version}" if version else "has none"
    raise RuntimeError(
        f"This book needs {name} {dotted(oldest)} or later, below {dotted(too_new)}, and this "
        f"runtime {has}: on Colab choose another one under Runtime > Change runtime type > "
        "Runtime version."
    )


def dotted(numbers):
    """A version as people write it: `"2.19"` for `(2, 19)`."""
    return ".".join(str(number) for number in numbers)
