"""Compares seglib's speed with that of public libraries and tutorials: results/peers.json.

Each library is installed into an environment of its own under `_build/peers/`; what cannot be
installed, or fails, is named at the end. Each candidate is a process that waits until it is asked.
Round by round all candidates of one work take their turn, so that a busy moment of the machine hits
all alike. Everything runs on two threads of the CPU, with random numbers as weights and data.
bfloat16 takes part only where the processor has instructions for it; else it is ten times slower.

`make bench BENCHMARK=peers`, or `python -m benchmarks.peers unet fcn8` for some.
"""

import argparse
import concurrent.futures
import dataclasses
import json
import os
import pathlib
import select
import shutil
import statistics
import subprocess
import sys
import time

from measured import machine, peers, store

ROOT = pathlib.Path(__file__).resolve().parents[1]
WORKERS = ROOT / "benchmarks" / "peer_workers"
CACHE = ROOT / "_build" / "peers"  # git does not see it, and `make clean` removes it
OURS = "seglib"  # the environment that runs this script
ENVIRONMENTS = {
    "segmentation-models-pytorch": ("segmentation-models-pytorch", "torch==2.13.0"),
    "keras-hub": ("keras-hub", "tensorflow", "pillow"),  # it imports the last without asking
    "tf-models-official": ("tf-models-official",),
    "segmentation-models": ("segmentation-models", "tensorflow", "tf_keras"),
}
HALF = "mixed_bfloat16"
ROUNDS = 7
THREADS = "2"
PAUSE = 0.05  # seconds between turns, until the threads of the last one sleep
PATIENCE = 600  # seconds for one answer
KINDS = ("step", "predict")
SETTINGS = {
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), THREADS),
    **dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), THREADS),
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "KERAS_BACKEND": "tensorflow",
    "CUDA_VISIBLE_DEVICES": "-1",
    "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "benchmarks"))),
}


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One model that takes part.

    Args:
        title: what the table calls it.
        worker: a file in `peer_workers/`, without `.py`.
        options: what its `build` gets besides the work's own numbers.
        environment: a name in `ENVIRONMENTS`, or `OURS`.
    """

    title: str
    worker: str
    options: dict
    environment: str = OURS

    @property
    def half(self):
        """Whether it computes in bfloat16."""
        return HALF in self.options.values() or "bfloat16" in self.options


@dataclasses.dataclass(frozen=True)
class Work:
    """What all candidates of one table do; the first candidate's speed is 1."""

    title: str
    batch: int
    size: int
    classes: int
    candidates: tuple[Candidate, ...]


def ours(title, model, policy="float32"):
    return Candidate(title, "ours", {"model": model, "policy": policy})


def torch(title, model, **options):
    name = "segmentation-models-pytorch"
    return Candidate(f"{name}, {title}", "torch_models", {"model": model, **options}, name)


def garden(title, **options):
    return Candidate(title, "garden_models", options, "tf-models-official")


WORK = {
    "unet": Work(
        *("U-Net, MobileNetV2 frozen", 8, 128, 3),
        (
            ours("TensorFlow tutorial", "tutorial"),
            ours("TensorFlow tutorial, bfloat16", "tutorial", HALF),
            Candidate("segmentation_models", "qubvel_models", {}, "segmentation-models"),
            torch("float32", "unet", frozen=True, channels_last=False),
            torch("channels last", "unet", frozen=True),
            torch("channels last, bfloat16", "unet", frozen=True, bfloat16=True),
            ours("seglib", "unet"),
            ours("seglib, bfloat16", "unet", HALF),
        ),
    ),
    "fcn8": Work(
        *("FCN-8, VGG16, all of it trained", 4, 224, 3),
        (
            ours("the walk-throughs' model", "walk_through"),
            ours("the walk-throughs' model, bfloat16", "walk_through", HALF),
            ours("seglib", "fcn8"),
            ours("seglib, bfloat16", "fcn8", HALF),
        ),
    ),
    "deeplabv3plus": Work(
        *("DeepLabV3+, ResNet-50 at output stride 16, all of it trained", 2, 256, 21),
        (
            Candidate("KerasHub", "kerashub_models", {}, "keras-hub"),
            Candidate("KerasHub, bfloat16", "kerashub_models", {"policy": HALF}, "keras-hub"),
            garden("tf-models-official"),
            garden("tf-models-official, separable", separable=True),
            torch("channels last", "deeplab"),
            torch("channels last, bfloat16", "deeplab", bfloat16=True),
            ours("seglib", "deeplab"),
            ours("seglib, bfloat16", "deeplab", HALF),
            ours("seglib, fine-tuned", "deeplab_fine_tuned"),
            ours("seglib, fine-tuned, bfloat16", "deeplab_fine_tuned", HALF),
        ),
    ),
}


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("work", nargs="*", help=f"of {', '.join(WORK)}; all where none is named")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--install", action="store_true", help="install the peers and stop")
    asked = parser.parse_args(arguments)
    pythons, not_installed = install_all(ENVIRONMENTS)
    if not asked.install:
        measured = {n: measure(WORK[n], pythons, asked.rounds) for n in asked.work or WORK}
        if any(runs for runs, _ in measured.values()):
            result = describe(measured, not_installed, asked.rounds)
            print(peers.text(result))
            if not asked.work:  # a file of results holds all of them, measured in one run
                store.save("peers", result)
    for name, error in not_installed.items():
        print(f"not installed: {name}: {error}")


def install_all(environments):
    """Returns the Python of each environment that could be made, and the errors of the others."""
    pythons, errors = {OURS: sys.executable}, {}
    for name, packages in environments.items():
        try:
            pythons[name] = install(name, packages)
        except (OSError, subprocess.CalledProcessError) as error:
            errors[name] = last_line(getattr(error, "stderr", None) or str(error))
    return pythons, errors


def install(name, packages, folder=None):
    """Makes an environment with the packages, unless it is there, and returns its Python.

    Raises:
        subprocess.CalledProcessError: if pip cannot; its `stderr` says why.
    """
    place = (folder or CACHE) / name
    python, done = place / "bin" / "python", place / "installed.json"
    if done.exists() and json.loads(done.read_text()) == list(packages):
        return str(python)
    shutil.rmtree(place, ignore_errors=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    print(f"installing {', '.join(packages)} into {place}", flush=True)
    for command in (
        [sys.executable, "-m", "venv", "--without-pip", place],
        [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", *packages],
    ):
        subprocess.run(command, check=True, capture_output=True, text=True)
    done.write_text(json.dumps(list(packages)))
    return str(python)


def last_line(text):
    """Returns the last line that says what is wrong: pip's own if it has one."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["no message"]
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or lines)[-1]


class Failed(Exception):
    """A worker that ended, or did not answer."""


class Worker:
    """The process of one candidate.

    Args:
        command: what is run; it gets its options as JSON.
        options: of the candidate.
        log: the file for what it prints besides its answers.
    """

    def __init__(self, command, options, log):
        self.log = pathlib.Path(log)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("w") as file:
            self.process = subprocess.Popen(
                [*command, json.dumps(options)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                bufsize=0,  # or `select` would not see what has been read ahead
                env={**os.environ, **SETTINGS},
            )

    def answer(self, patience=PATIENCE):
        """Returns its next answer.

        Raises:
            Failed: if there is none.
        """
        line = b" "
        while line and not line.startswith(b"{"):  # libraries print when they are imported
            readable, _, _ = select.select([self.process.stdout], [], [], patience)
            line = self.process.stdout.readline() if readable else b""
        if not line:
            self.stop()
            raise Failed(last_line(self.log.read_text(errors="replace")) if readable else "hangs")
        return json.loads(line)

    def go(self, kind):
        """Returns the milliseconds of a `"step"` or of a `"predict"`."""
        try:
            self.process.stdin.write(f"go {kind}\n".encode())
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended: the missing answer says why
        return self.answer()["milliseconds"]

    def stop(self):
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            stream.close()


def measure(work, pythons, rounds):
    """Times the candidates of one work; returns their runs, and why the others have none."""
    print(f"\n{work.title}, {work.batch} x {work.size} px", flush=True)
    asked = [c for c in work.candidates if machine.computes_bfloat16() or not c.half]
    able = [c for c in asked if c.environment in pythons]
    failed = {c.title: f"{c.environment} is not installed" for c in asked if c not in able}
    workers, ready = {}, {}

    def start(candidate):
        command = [pythons[candidate.environment], str(WORKERS / f"{candidate.worker}.py")]
        numbers = {"batch": work.batch, "size": work.size, "classes": work.classes}
        log = CACHE / "logs" / f"{candidate.title.replace(' ', '_')}.log"
        worker = workers[candidate.title] = Worker(command, candidate.options | numbers, log)
        ready[candidate.title] = worker.answer()
        print(f"  ready: {candidate.title}", flush=True)

    try:
        with concurrent.futures.ThreadPoolExecutor(int(THREADS)) as pool:
            started = {c.title: pool.submit(start, c) for c in able}
        failed |= {t: str(f.exception()) for t, f in started.items() if f.exception()}
        callers = {c.title: workers[c.title].go for c in able if c.title not in failed}
        print("  measuring", flush=True)
        times, broken = interleave(callers, rounds)
    finally:
        for worker in workers.values():
            worker.stop()
    runs = [run_of(work, c, ready[c.title], times[c.title]) for c in able if c.title in times]
    for title, why in (failed | broken).items():
        print(f"  failed: {title}: {why}", flush=True)
    return runs, failed | broken


def interleave(callers, rounds, pause=PAUSE):
    """Asks all candidates in turn, in each round for a step and then for a prediction.

    Args:
        callers: by name, a function of the kind that returns milliseconds.
        rounds: how many.
        pause: seconds before each turn.

    Returns:
        The times by name and kind, and why the candidates that broke have none.
    """
    times = {name: {kind: [] for kind in KINDS} for name in callers}
    broken = {}
    for _ in range(rounds):
        for kind in KINDS:
            for name in list(times):
                time.sleep(pause)
                try:
                    times[name][kind].append(callers[name](kind))
                except Failed as error:
                    broken[name] = str(error)
                    del times[name]
    return times, broken


def run_of(work, candidate, ready, times):
    """Returns the entry of a candidate in the file of results."""
    return {
        "work": work.title,
        "batch": work.batch,
        "image_size": work.size,
        "classes": work.classes,
        "recipe": candidate.worker,
        "title": candidate.title,
        "environment": candidate.environment,
        "options": candidate.options,
        "parameters": ready["parameters"],
        "trainable": ready["trainable"],
        "versions": ready["versions"],
        **{f"{kind}_ms": round(statistics.median(times[kind]), 2) for kind in KINDS},
        **{f"{kind}_all_ms": [round(value, 2) for value in times[kind]] for kind in KINDS},
    }


def describe(measured, not_installed, rounds):
    """Returns the content of the file of results."""
    runs = [run for found, _ in measured.values() for run in found]
    found = {}  # environments may hold different versions of one package
    for run in runs:
        for name, version in run["versions"].items():
            found.setdefault(name, set()).add(version)
    return {
        "kind": "peers",
        "task": "training steps and predictions of segmentation models",
        "data": {
            "name": "random numbers",
            "train": 0,
            "test": 0,
            "note": f"random pictures and weights, two threads, medians of {rounds} rounds in turn",
        },
        "device": machine.device(),
        "versions": machine.versions(())
        | {n: " and ".join(sorted(found[n])) for n in sorted(found)},
        "commit": machine.commit(),
        "runs": runs,
        "failed": {title: why for _, failed in measured.values() for title, why in failed.items()},
        "not_installed": not_installed,
    }


if __name__ == "__main__":
    main()
