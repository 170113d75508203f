"""seglib.chapters.notebook: a quiet start, the source of seglib, the checks of the exercises."""

import inspect
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from seglib.chapters import notebook
from seglib.data import pipeline


def said(capsys, *arguments, **options):
    assert notebook.check(*arguments, **options) is None
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (4, 4),
        (4.0, 4),
        (np.int64(4), 4),
        ("Background", "background"),
        (" border ", "border"),
        ([1, 2], (1, 2)),
        (np.array([1, 2]), [1, 2]),
        ([["a", 1], ["b", 2]], [("a", 1), ("b", 2)]),
        ([0, 1], {0, 1}),
        ({"pet": 1.0}, {"pet": 1}),
        (np.eye(2), np.array([[1, 0], [0, 1]], "uint8")),
        (True, True),
        (None, None),
    ],
)
def test_right_answers(capsys, answer, expected):
    assert said(capsys, answer, expected, hint="unused") == "Right.\n"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (5, 4),
        ("4", 4),
        (4, "4"),
        (True, 1),
        (None, 4),
        ([1, 2, 3], [1, 2]),
        (3, [1, 2]),
        ("ab", ["a", "b"]),
        ([[1], [1, 2]], np.zeros(2)),
        ({"pet": 1}, {"border": 1}),
        (np.zeros((2, 1)), np.zeros(2)),
        (np.array([0], "uint8"), np.array([255], "uint8")),
        (float("nan"), 0.5),
    ],
)
def test_wrong_answers(capsys, answer, expected):
    assert said(capsys, answer, expected, hint="Think.") == "Not yet. Think.\n"


def test_no_hint_leaves_no_space(capsys):
    assert said(capsys, 1, 2) == "Not yet.\n"


def test_tolerance_is_absolute_and_holds_for_each_number(capsys):
    assert said(capsys, [1.04, 2.0], [1.0, 2.0], tolerance=0.05) == "Right.\n"
    assert said(capsys, [1.06, 2.0], [1.0, 2.0], tolerance=0.05) == "Not yet.\n"
    assert said(capsys, {"iou": 1.04}, {"iou": 1.0}, tolerance=0.05) == "Right.\n"


@pytest.mark.parametrize("answer", [..., (..., 2), [1, ...]])
def test_an_ellipsis_is_no_answer(capsys, answer):
    assert said(capsys, answer, (1, 2), hint="unused") == "Not answered yet.\n"


def test_functions_are_called(capsys):
    cases = [((1, 2), 3), ((4, 5), 9)]
    assert said(capsys, lambda a, b: a + b, cases) == "Right.\n"
    assert said(capsys, lambda a, b: a * b + 1, cases) == "Not yet.\n"
    assert said(capsys, lambda a, b: None, cases) == "Not answered yet.\n"
    assert said(capsys, lambda a, b: ..., cases) == "Not answered yet.\n"


def test_a_function_that_raises_is_told(capsys):
    out = said(capsys, lambda a: a / 0, [((1,), 1)], hint="Zero?")
    assert out == "Not yet. Zero? It raised ZeroDivisionError: division by zero\n"


def test_source_is_the_file_s_own_text():
    shown = notebook.source(pipeline.epochs, pipeline.as_size).data
    head, *lines, tail = shown.splitlines()
    assert (head, tail) == ("````python", "````")
    text = "\n".join(lines)
    assert text.count("# seglib/data/pipeline.py") == 2
    for function in (pipeline.epochs, pipeline.as_size):
        assert inspect.getsource(function).rstrip() in text


def test_source_of_modules_and_packages_names_their_files():
    import seglib.data

    assert "# seglib/data/pipeline.py\n" in notebook.source(pipeline).data
    assert "# seglib/data/__init__.py\n" in notebook.source(seglib.data).data


def test_source_survives_backticks_within(tmp_path, monkeypatch):
    (tmp_path / "fenced.py").write_text('TEXT = """\n`````\n"""\n')
    monkeypatch.syspath_prepend(tmp_path)
    import fenced

    assert notebook.source(fenced).data.splitlines()[0] == "``````python"


def test_source_of_nothing_and_of_a_number():
    with pytest.raises(ValueError, match="nothing to show"):
        notebook.source()
    with pytest.raises(TypeError):
        notebook.source(3)


def run(code, **environment):
    """Runs Python code in a process of its own, where descriptor 2 is nobody else's."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


WRITES = """
    import os
    from seglib.chapters import notebook

    with notebook.quiet():
        os.write(2, b"from C++ ")
    os.write(2, os.environ["TF_CPP_MIN_LOG_LEVEL"].encode())
"""


def test_quiet_hides_the_descriptor_and_gives_it_back():
    environment = {k: v for k, v in os.environ.items() if k != notebook.LOG_LEVEL}
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(WRITES)],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stderr) == (0, "3")


def test_quiet_hides_nothing_at_level_0_and_keeps_another_level():
    assert run(WRITES, TF_CPP_MIN_LOG_LEVEL="0").stderr == "from C++ 0"
    assert run(WRITES, TF_CPP_MIN_LOG_LEVEL="1").stderr == "1"


def test_quiet_shows_what_it_caught_when_the_import_fails():
    code = """
        import os
        from seglib.chapters import notebook

        with notebook.quiet():
            os.write(2, b"missing library")
            import no_such_module
    """
    result = run(code, TF_CPP_MIN_LOG_LEVEL="3")
    assert result.returncode == 1
    assert result.stderr.startswith("missing library")
    assert "ModuleNotFoundError" in result.stderr


def test_quiet_silences_tensorflow_s_start():
    code = """
        from seglib.chapters import notebook

        with notebook.quiet():
            import tensorflow as tf
        tf.constant(1.0) + 1
    """
    result = run(code, TF_CPP_MIN_LOG_LEVEL="3")
    assert (result.returncode, result.stderr) == (0, "")


def test_quiet_drops_one_warning_of_tensorflow_datasets_and_no_other():
    code = """
        from seglib.chapters import notebook

        with notebook.quiet():
            import tensorflow as tf
        from absl import logging

        logging.warning("`FeatureConnector.dtype` is deprecated. Please change your code")
        logging.warning("something else")
    """
    result = run(code, TF_CPP_MIN_LOG_LEVEL="3")
    assert (result.returncode, result.stderr) == (0, "WARNING:absl:something else\n")
