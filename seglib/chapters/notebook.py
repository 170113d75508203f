"""What the chapters need besides the models: a quiet start, seglib's source, exercise checks."""

import contextlib
import inspect
import logging
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"


@contextlib.contextmanager
def quiet():
    """Hides what TensorFlow's C++ part writes to standard error while it is imported.

    `TF_CPP_MIN_LOG_LEVEL` is set to 3 (errors only) unless it has a value; the first lines of an
    import do not heed it and are caught on their way. If the import fails, all that was caught is
    written after all. A warning that TensorFlow Datasets later gives about its own code is dropped,
    too. With the value 0 nothing is hidden.

    Example:
        >>> with notebook.quiet():
        ...     import tensorflow as tf
    """
    if os.environ.setdefault(LOG_LEVEL, "3") == "0":
        yield
        return
    # The C++ part writes to the file descriptor, past `sys.stderr`.
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        try:
            yield
        except BaseException:
            caught.seek(0)
            os.write(kept, caught.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
    if "absl.logging" in sys.modules:  # made earlier, this logger would not be absl's own
        logging.getLogger("absl").addFilter(_concerns_the_reader)


def _concerns_the_reader(record):
    return "`FeatureConnector.dtype` is deprecated" not in record.getMessage()


def source(*objects):
    """Shows the source of functions, classes or modules, highlighted, in a notebook's output.

    Args:
        objects: functions, methods, classes or modules written in Python.

    Returns:
        `IPython.display.Markdown`, which Jupyter, Colab, GitHub and the book all render.

    Raises:
        ValueError: if nothing is given.
        TypeError: for an object that has no Python source, such as a number.
    """
    from IPython.display import Markdown  # only a notebook has it

    if not objects:
        raise ValueError("source() got nothing to show, expected at least one function or class.")
    text = "\n\n".join(
        f"# {_file(thing)}\n{inspect.getsource(thing).rstrip()}" for thing in objects
    )
    # Longer than any row of backticks within.
    fence = "````"
    while fence in text:
        fence += "`"
    return Markdown(f"{fence}python\n{text}\n{fence}")


def check(answer, expected, *, tolerance=0.0, hint=""):
    """Prints whether the answer to an exercise is right.

    Args:
        answer: the reader's answer; `...` means that there is none yet. A number, string,
            sequence, dict, set, array or tensor, or a function.
        expected: the right answer. For a function: a list of `(arguments, result)` pairs, each
            with the arguments as a tuple.
        tolerance: by how much each number may differ.
        hint: what to think about, printed after a wrong answer.

    Example:
        >>> check(..., 4)
        Not answered yet.
        >>> check(2 + 2, 4)
        Right.
        >>> check(5, 4, hint="Count on your fingers.")
        Not yet. Count on your fingers.
    """
    print(_verdict(answer, expected, tolerance, hint))


def _verdict(answer, expected, tolerance, hint):
    wrong = f"Not yet. {hint}".strip()
    if callable(answer):
        results = []
        for arguments, _ in expected:
            try:
                results.append(answer(*arguments))
            except Exception as error:  # whatever a reader's code raises is an answer, too
                return f"{wrong} It raised {type(error).__name__}: {error}"
        if all(result is None or result is ... for result in results):
            return "Not answered yet."
        answer, expected = results, [result for _, result in expected]
    if answer is ... or (isinstance(answer, list | tuple) and any(a is ... for a in answer)):
        return "Not answered yet."
    return "Right." if _same(answer, expected, tolerance) else wrong


def _same(answer, expected, tolerance):
    if isinstance(expected, str):
        return isinstance(answer, str) and answer.strip().lower() == expected.strip().lower()
    if isinstance(expected, set | frozenset):
        return isinstance(answer, set | frozenset | list | tuple) and set(answer) == expected
    if isinstance(expected, dict):
        return (
            isinstance(answer, dict)
            and answer.keys() == expected.keys()
            and all(_same(answer[key], expected[key], tolerance) for key in expected)
        )
    if isinstance(expected, list | tuple):
        if isinstance(answer, str | dict | set) or not hasattr(answer, "__len__"):
            return False
        return len(answer) == len(expected) and all(
            _same(a, e, tolerance) for a, e in zip(answer, expected, strict=True)
        )
    return _same_numbers(answer, expected, tolerance)


def _same_numbers(answer, expected, tolerance):
    try:
        answer, expected = np.asarray(answer), np.asarray(expected)
    except ValueError:  # a ragged list
        return False
    if answer.shape != expected.shape or (answer.dtype == bool) != (expected.dtype == bool):
        return False
    numeric = all(np.issubdtype(a.dtype, np.number) for a in (answer, expected))
    if not numeric:
        return bool(np.array_equal(answer, expected))
    # float64, because a difference of unsigned integers wraps around
    return bool(
        np.allclose(answer.astype("float64"), expected.astype("float64"), rtol=0, atol=tolerance)
    )


def _file(thing):
    """The file that holds an object, from its package on: `seglib/data/pipeline.py`."""
    path = Path(inspect.getsourcefile(thing))
    module = inspect.getmodule(thing).__name__
    depth = module.count(".") + (2 if path.name == "__init__.py" else 1)
    return Path(*path.parts[-depth:]).as_posix()
