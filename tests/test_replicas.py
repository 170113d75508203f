"""Under MirroredStrategy a loss of seglib trains as on one device."""

import json
import os
import pathlib
import subprocess
import sys

import keras
import pytest

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="tf.distribute is TensorFlow's"
)
PROGRAM = pathlib.Path(__file__).with_name("replicas.py")


@pytest.fixture(scope="module")
def outcomes():
    run = subprocess.run(
        [sys.executable, PROGRAM],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(PROGRAM.parents[1])},
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(run.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    "name", ["cross-entropy", "dice", "sum", "combo", "boundary", "mask r-cnn"]
)
def test_two_replicas_train_as_one_device(outcomes, name):
    alone, together = outcomes[name]
    assert together == pytest.approx(alone, rel=1e-4)
    assert alone[1] > 1e-4  # the step moved the weights
