"""`benchmarks/peers.py`: who takes a turn when, what a worker answers, who is missing and why."""

import importlib
import json
import subprocess
import sys

import numpy as np
import pytest

from measured import peers as table
from measured import tables
from seglib.chapters import results
from seglib.models import unet

pytestmark = pytest.mark.no_cover  # of seglib they run what other tests run


@pytest.fixture(scope="module")
def peers(script):
    return script("peers")


@pytest.fixture
def workers(peers, tmp_path, monkeypatch):
    """A function that writes workers, each with the `build` given, where `measure` looks."""
    protocol = (peers.WORKERS / "protocol.py").read_text()
    (tmp_path / "protocol.py").write_text(protocol.replace("LEAST = 0.3", "LEAST = 0.001"))
    monkeypatch.setattr(peers, "WORKERS", tmp_path)
    monkeypatch.setattr(peers, "CACHE", tmp_path / "cache")

    def write(**builds):
        for name, build in builds.items():
            text = f"from protocol import serve\n\n{build}\n\nserve(build)\n"
            (tmp_path / f"{name}.py").write_text(text)

    return write


FAKE = """
import time

print("Using the best of frameworks.\\n")

def build(seconds, batch, size, classes):
    print("libraries print when they like")
    return {
        "step": lambda: time.sleep(2 * seconds),
        "predict": lambda: time.sleep(seconds),
        "parameters": 1000 * batch * size,
        "trainable": 500 * classes,
        "versions": {"fake": "1.2"},
    }
"""
BROKEN = """
def build(batch, size, classes):
    raise ImportError("no such library")
"""
DYING = """
def build(batch, size, classes):
    calls = []

    def step():
        calls.append(1)
        if len(calls) > 2:  # after the warm-up
            raise MemoryError("too large")

    return {"step": step, "predict": step, "parameters": 1, "trainable": 1, "versions": {}}
"""


def fakes(peers, *names, seconds=0.002):
    return tuple(
        peers.Candidate(n.upper(), n, {"seconds": seconds} if n.startswith("fake") else {})
        for n in names
    )


def test_every_candidate_has_its_turn_in_every_round(peers):
    asked = []

    def caller(name):
        return lambda kind: asked.append((name, kind)) or float(len(asked))

    times, broken = peers.interleave({n: caller(n) for n in "ab"}, rounds=2, pause=0)
    once = [("a", "step"), ("b", "step"), ("a", "predict"), ("b", "predict")]
    assert asked == 2 * once and not broken
    assert times == {
        "a": {"step": [1, 5], "predict": [3, 7]},
        "b": {"step": [2, 6], "predict": [4, 8]},
    }


def test_one_that_breaks_is_named_and_the_others_go_on(peers):
    def breaks(kind):
        raise peers.Failed("out of memory")

    times, broken = peers.interleave({"a": breaks, "b": lambda kind: 3.0}, rounds=2, pause=0)
    assert broken == {"a": "out of memory"}
    assert times == {"b": {"step": [3.0, 3.0], "predict": [3.0, 3.0]}}


@pytest.mark.parametrize(
    ("seconds", "calls", "median"),
    [
        ([0.5], 1, 500),  # a long call is not repeated
        ([0.2, 0.05, 0.05], 3, 50),
        ([0.125, 0.125, 0.125], 3, 125),
    ],
)
def test_a_turn_repeats_short_calls_and_answers_with_their_median(
    peer_workers, seconds, calls, median
):
    now, left, made = [0.0], list(seconds), []

    def call():
        made.append(1)
        now[0] += left.pop(0)

    found = importlib.import_module("protocol").turn(call, clock=lambda: now[0])
    assert found == pytest.approx(median) and len(made) == calls


def test_workers_are_started_timed_and_named_where_they_fail(peers, workers):
    workers(fake=FAKE, broken=BROKEN, dying=DYING)
    elsewhere = peers.Candidate("ELSEWHERE", "fake", {}, "not-there")
    candidates = (*fakes(peers, "fake", "broken", "dying"), elsewhere)
    work = peers.Work("A work", 4, 32, 3, candidates)
    [run], failed = peers.measure(work, {peers.OURS: sys.executable}, rounds=2)
    assert (run["title"], run["parameters"], run["trainable"]) == ("FAKE", 128_000, 1500)
    assert run["versions"] == {"fake": "1.2"}
    assert len(run["step_all_ms"]) == len(run["predict_all_ms"]) == 2
    # Asleep for 4 ms and 2 ms: it cannot take less.
    assert run["step_ms"] >= 4 and run["predict_ms"] >= 2
    assert failed == {
        "ELSEWHERE": "not-there is not installed",
        "BROKEN": "ImportError: no such library",
        "DYING": "MemoryError: too large",
    }


def test_a_worker_that_does_not_answer_is_given_up(peers, workers, tmp_path):
    workers(slow="import time\n\ndef build(): time.sleep(60)")
    worker = peers.Worker([sys.executable, str(tmp_path / "slow.py")], {}, tmp_path / "log")
    with pytest.raises(peers.Failed, match="hangs"):
        worker.answer(patience=0.2)
    assert worker.process.poll() is not None


def test_what_cannot_be_installed_is_named_and_the_rest_is_measured(
    peers, workers, tmp_path, monkeypatch, capsys
):
    workers(fake=FAKE)
    monkeypatch.setenv("DIRTY", "1")
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # pip asks nobody
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setattr(peers, "ENVIRONMENTS", {"theirs": ("no-such-package",)})
    theirs = peers.Candidate("THEIRS", "fake", {}, "theirs")
    work = peers.Work("A work", 1, 32, 2, (theirs, *fakes(peers, "fake")))
    monkeypatch.setattr(peers, "WORK", {"one": work})
    monkeypatch.setattr(results, "FOLDER", tmp_path / "results")
    assert peers.main(["--rounds", "1"]) is None
    lines = capsys.readouterr().out.splitlines()
    why = "ERROR: No matching distribution found for no-such-package"
    assert lines[-1] == f"not installed: theirs: {why}"
    saved = results.load("peers")
    assert [run["title"] for run in saved["runs"]] == ["FAKE"]
    assert saved["not_installed"] == {"theirs": why}
    assert (tmp_path / "cache" / "theirs").is_dir()
    assert saved["failed"] == {"THEIRS": "theirs is not installed"}
    assert saved["versions"]["fake"] == "1.2"
    assert f"Not installed: theirs: {why}" in tables.markdown_table(saved)


def test_an_environment_that_is_there_is_used_again(peers, tmp_path):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "installed.json").write_text(json.dumps(["a", "b"]))
    found = peers.install("theirs", ("a", "b"), folder=tmp_path)
    assert found == str(tmp_path / "theirs" / "bin" / "python")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("ERROR: first\nERROR: second\n\n[notice] a new pip\n", "ERROR: second"),
        ("Traceback\n  File\nValueError: this\n", "ValueError: this"),
        ("", "no message"),
    ],
)
def test_the_line_that_says_what_is_wrong(peers, text, line):
    assert peers.last_line(text) == line


def run(title, step, predict, work="A net", **changes):
    return {
        **{"work": work, "batch": 8, "image_size": 128, "classes": 3, "title": title},
        **{"recipe": "ours", "parameters": 6_505_507, "trainable": 1_000_000},
        **{"step_ms": step, "predict_ms": predict, "versions": {}},
        **changes,
    }


def result(*runs, **changes):
    return {
        "kind": "peers",
        "task": "steps and predictions",
        "data": {"name": "random numbers", "train": 0, "test": 0, "note": "random pictures"},
        "device": {"cpu": "A processor", "cores": 2, "gpu": []},
        "versions": {"python": "3.11"},
        "commit": "0123456789abcdef",
        "runs": list(runs),
        "failed": {},
        "not_installed": {},
        **changes,
    }


def test_the_first_of_each_work_is_what_the_others_are_compared_with(peers):
    made = result(
        run("theirs", 144.0, 61.0), run("ours", 60.0, 24.4), run("other", 9.0, 3.0, work="B net")
    )
    found = table.rows(made)
    assert list(found) == ["A net, 8 × 128 px, 3 classes", "B net, 8 × 128 px, 3 classes"]
    speeds = [(r["step_speed"], r["predict_speed"]) for rows in found.values() for r in rows]
    np.testing.assert_allclose(speeds, [(1, 1), (2.4, 2.5), (1, 1)])  # 144 / 60, 61 / 24.4


def test_the_table_has_the_measured_numbers_and_says_who_is_missing():
    made = result(
        run("theirs", 144.0, 61.0),
        run("ours", 60.0, 24.4),
        failed={"KerasHub": "hangs"},
        not_installed={"garden": "ERROR: no"},
    )
    text = tables.markdown_table(made)
    assert "**A net, 8 × 128 px, 3 classes**" in text
    assert "| ours | 6.5 M | 1.0 M | 60 ms | 2.40 × | 24 ms | 2.50 × |" in text
    assert "random pictures" in text and "A processor (2 cores)" in text
    assert "Not installed: garden: ERROR: no" in text and "Failed: KerasHub: hangs" in text
    assert "2.40 ×" in table.text(made) and "A net, 8 × 128 px, 3 classes" in table.text(made)


@pytest.mark.rare
def test_the_worker_of_seglib_trains_and_predicts(peer_workers, monkeypatch):
    ours = importlib.import_module("ours")

    def small(classes, shape):
        return unet(classes, backbone="small", weights=None, input_shape=shape)

    monkeypatch.setitem(ours.MODELS, "small", small)
    found = ours.build("small", batch=1, size=32, classes=2)
    assert np.isfinite(float(found["step"]()))
    assert found["predict"]().shape == (1, 32, 32, 2)
    assert 0 < found["trainable"] < found["parameters"]  # BatchNorm's statistics are not trained
    assert set(found["versions"]) == {"keras", "tensorflow"}


@pytest.mark.rare
def test_the_rebuilt_tutorial_is_the_network_that_chapter_2_compares_with(peer_workers):
    ours, shape = importlib.import_module("ours"), (64, 64, 3)
    theirs = ours.tutorial(3, shape)
    assert theirs.count_params() == 6_504_227  # as the tutorial's model.summary() says
    same = unet(3, decoder="tutorial", weights=None, input_shape=shape, freeze_backbone=True)
    # The tutorial takes the last convolution's result before its BatchNorm.
    last = same.backbone.get_layer("block_16_project_BN")
    last.gamma.assign(np.sqrt(1 + last.epsilon) * np.ones(last.gamma.shape))
    *encoder, _ = (layer for layer in same.backbone.layers if layer.weights)
    start = theirs.layers.index(theirs.get_layer("block_16_project")) + 1
    decoder = [layer for layer in theirs.layers[start:] if layer.weights]
    for layer in encoder:
        theirs.get_layer(layer.name).set_weights(layer.get_weights())
    levels, parts = ("P4", "P3", "P2", "P1"), ("upsample", "norm")
    names = [f"{level}_{part}" for level in levels for part in parts]
    ours_in_turn = [same.decoder.get_layer(name) for name in names]
    ours_in_turn.append(same.head.get_layer("classify"))
    for layer, source in zip(decoder, ours_in_turn, strict=True):
        layer.set_weights(source.get_weights())
    images = np.random.default_rng(0).integers(0, 256, (2, *shape)).astype("float32")
    expected = same.predict_on_batch(images)
    found = theirs.predict_on_batch(ours.PIXELS["tutorial"](images))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_the_script_runs(peers):
    command = [sys.executable, "-m", "benchmarks.peers", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "of unet, fcn8, deeplabv3plus" in done.stdout


def test_all_candidates_have_a_worker_and_an_environment(peers):
    for work in peers.WORK.values():
        titles = [c.title for c in work.candidates]
        assert len(set(titles)) == len(titles)
        for candidate in work.candidates:
            assert (peers.WORKERS / f"{candidate.worker}.py").is_file()
            assert candidate.environment in {peers.OURS, *peers.ENVIRONMENTS}
