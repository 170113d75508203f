"""How a model that is timed talks with `peers.py`: one line of JSON an answer.

Standard library only, for it runs in the environment of each peer.
"""

import importlib.metadata
import json
import os
import statistics
import sys
import time

WARM_UP = 2  # calls: the first builds graphs, the second fills caches
LEAST = 0.3  # seconds that a turn takes at least: a short call is repeated, a long one is not
KINDS = ("step", "predict")


def serve(build):
    """Builds the candidate that the first argument describes, and times it whenever asked.

    Args:
        build: function of the candidate's options; returns `Timed`'s arguments as a dict.
    """
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer
    timed = build(**json.loads(sys.argv[1]))
    calls = {kind: timed.pop(kind) for kind in KINDS}
    for call in calls.values():
        for _ in range(WARM_UP):
            call()
    _say(answers, {"ready": True, **timed})
    for line in sys.stdin:
        order, _, kind = line.strip().partition(" ")
        if order != "go" or kind not in calls:
            raise SystemExit(f"asked {line.strip()!r}, expected 'go step' or 'go predict'")
        _say(answers, {"milliseconds": turn(calls[kind])})


def turn(call, clock=time.perf_counter):
    """Calls again and again until the turn is over; returns the median in milliseconds."""
    times = []
    while sum(times) < LEAST:
        start = clock()
        call()
        times.append(clock() - start)
    return 1000 * statistics.median(times)


def versions(*packages):
    """Returns the installed versions, by name."""
    return {package: importlib.metadata.version(package) for package in packages}


def random_data(batch, size, classes):
    """Returns pictures, values 0 to 255, and label maps."""
    import numpy as np

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (batch, size, size, 3), dtype="uint8")
    masks = rng.integers(0, classes, (batch, size, size), dtype="uint8")
    return images, masks


def _say(answers, what):
    answers.write(json.dumps(what) + "\n")
    answers.flush()
