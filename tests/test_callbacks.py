"""Watching a training, and killing one: it must end as if it had never been killed."""

import errno
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from seglib.callbacks import Resume, ShowPredictions
from seglib.data import pipeline
from seglib.losses import CrossEntropy

# A training with everything that has a state: weights, BatchNorm's statistics, Dropout's random
# numbers, AdamW's moments and averages, and data that is shuffled and augmented.
SCRIPT = textwrap.dedent(
    """
    import io, json, os, signal, sys
    import keras, numpy as np, tensorflow as tf
    from PIL import Image
    from seglib.callbacks import Resume
    from seglib.data import augment, pipeline
    from seglib.losses import CrossEntropy
    from seglib.metrics import MeanIoU

    folder, result, kill_at, epochs = sys.argv[1:]
    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(1)


    def png(array):
        buffer = io.BytesIO()
        Image.fromarray(array).save(buffer, "PNG")
        return buffer.getvalue()


    rng = np.random.default_rng(0)
    masks = rng.integers(1, 4, (22, 4, 4)).repeat(4, 1).repeat(4, 2).astype("uint8")
    images = (masks[..., None] * 60 + rng.integers(0, 60, (22, 16, 16, 3))).astype("uint8")
    records = tf.data.Dataset.from_tensor_slices(
        {"image": [png(i) for i in images], "segmentation_mask": [png(m) for m in masks]}
    )
    data = pipeline.build(
        records, image_size=16, batch_size=4, shuffle=True, augment=augment.standard(), seed=3
    )
    model = keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            keras.layers.Conv2D(8, 3, padding="same", use_bias=False),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.3),
            keras.layers.Conv2D(3, 1),
        ]
    )
    optimizer = keras.optimizers.AdamW(0.02, use_ema=True, ema_momentum=0.9)
    model.compile(optimizer, CrossEntropy(), metrics=[MeanIoU(3)])


    class Kill(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.epoch = epoch
            print("epoch", epoch, flush=True)

        def on_train_batch_end(self, batch, logs=None):
            if f"{self.epoch}:{batch}" == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)


    callbacks = [Resume(folder, data), Kill()]
    history = model.fit(data, epochs=int(epochs), shuffle=False, verbose=0, callbacks=callbacks)
    variables = [*model.variables, *model.optimizer.variables]
    np.savez(result, *[keras.ops.convert_to_numpy(v) for v in variables])
    with open(result + ".json", "w") as file:
        json.dump([history.epoch, history.history], file)
    """
)


@pytest.fixture(scope="module")
def train(tmp_path_factory, root):
    """A function that runs the training in a process of its own."""
    script = tmp_path_factory.mktemp("script") / "train.py"
    script.write_text(SCRIPT)

    def run(folder, result, kill_at="never", epochs=4, kill_after=None):
        """`kill_at` is an epoch and a step, `kill_after` are seconds from the first epoch on."""
        environment = os.environ | {"PYTHONPATH": str(root), "KERAS_BACKEND": "tensorflow"}
        command = [sys.executable, str(script), str(folder), str(result), kill_at, str(epochs)]
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        if kill_after is not None:
            process.stdout.readline()
            time.sleep(kill_after)
            process.kill()
        _, errors = process.communicate()
        return process.returncode, errors

    return run


def test_a_killed_training_ends_like_one_that_was_never_killed(train, tmp_path):
    whole, resumed = tmp_path / "whole.npz", tmp_path / "resumed.npz"
    code, errors = train(tmp_path / "a", whole)
    assert code == 0, errors

    code, _ = train(tmp_path / "b", resumed, kill_at="2:3")  # in mid-epoch
    assert code == -signal.SIGKILL and not resumed.exists()
    # What a kill during the write leaves behind does no harm.
    (tmp_path / "b" / "state.tmp").write_bytes(b"half a file")
    code, errors = train(tmp_path / "b", resumed)
    assert code == 0, errors

    with np.load(whole) as a, np.load(resumed) as b:
        assert a.files == b.files and len(a.files) > 20
        for name in a.files:
            np.testing.assert_array_equal(a[name], b[name])
    (epochs, history), (new_epochs, new_history) = (
        json.loads(path.with_name(path.name + ".json").read_text()) for path in (whole, resumed)
    )
    assert epochs == new_epochs == [0, 1, 2, 3]
    assert history == new_history and set(history) == {"loss", "mean_iou"}


@pytest.mark.rare
def test_kills_at_random_moments_change_nothing(train, tmp_path, nightly):
    """Also while the state is being written: 2 kills here, 20 in the nightly run."""
    kills, epochs = (20, 200) if nightly else (2, 60)
    whole, resumed = tmp_path / "whole.npz", tmp_path / "resumed.npz"
    code, errors = train(tmp_path / "a", whole, epochs=epochs)
    assert code == 0, errors

    rng = random.Random(0)
    for _ in range(kills):
        train(tmp_path / "b", resumed, epochs=epochs, kill_after=rng.uniform(0.0, 0.5))
    code, errors = train(tmp_path / "b", resumed, epochs=epochs)
    assert code == 0, errors
    with np.load(whole) as a, np.load(resumed) as b:
        for name in a.files:
            np.testing.assert_array_equal(a[name], b[name])


# --- Resume in this process -------------------------------------------------------------------


def small_data(count=6, batch_size=2):
    png = tf.io.encode_png
    masks = np.random.default_rng(0).integers(1, 4, (count, 4, 4, 1)).astype("uint8")
    images = masks.repeat(3, -1) * np.uint8(60)
    records = tf.data.Dataset.from_tensor_slices(
        {
            "image": [png(i).numpy() for i in images],
            "segmentation_mask": [png(m).numpy() for m in masks],
        }
    )
    return pipeline.build(
        records, image_size=4, batch_size=batch_size, shuffle=True, augment=None, seed=0
    )


def small_model(filters=3):
    keras.utils.set_random_seed(0)
    image = keras.Input((4, 4, 3))
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.Conv2D(filters, 1)(x)
    model = keras.Model(image, keras.layers.Conv2D(3, 1)(x))
    model.compile(keras.optimizers.Adam(0.05), CrossEntropy())
    return model


def fit(model, folder, epochs):
    data = small_data()
    return model.fit(
        data, epochs=epochs, shuffle=False, verbose=0, callbacks=[Resume(folder, data)]
    )


def test_a_longer_training_continues_a_finished_one(tmp_path):
    whole = small_model()
    expected = whole.fit(small_data(), epochs=5, shuffle=False, verbose=0).history["loss"]
    fit(small_model(), tmp_path, epochs=3)
    resumed = small_model()
    history = fit(resumed, tmp_path, epochs=5)
    assert history.history["loss"] == expected and history.epoch == [0, 1, 2, 3, 4]
    for a, b in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_finished_training_is_restored_with_its_history(tmp_path):
    first = small_model()
    expected = fit(first, tmp_path, epochs=3)
    again = small_model()
    history = fit(again, tmp_path, epochs=3)
    assert history.history == expected.history and history.epoch == [0, 1, 2]
    for a, b in zip(first.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_next_fit_starts_at_its_own_beginning(tmp_path):
    # Frozen first, fine-tuned afterwards: the second training is not a part of the first.
    fit(small_model(), tmp_path / "frozen", epochs=2)
    model = small_model()
    fit(model, tmp_path / "frozen", epochs=3)  # resumed after epoch 2
    assert len(fit(model, tmp_path / "fine-tuned", epochs=4).history["loss"]) == 4
    assert len(model.fit(small_data(), epochs=2, shuffle=False, verbose=0).history["loss"]) == 2


@pytest.mark.parametrize("other", ["filters", "optimizer"])
def test_the_state_of_another_model_or_optimizer_is_refused(tmp_path, other):
    fit(small_model(), tmp_path, epochs=1)
    model = small_model(filters=4 if other == "filters" else 3)
    if other == "optimizer":
        model.compile("sgd", CrossEntropy())
    before = model.get_weights()
    with pytest.raises(ValueError, match="belongs to another model or optimizer. Delete it"):
        fit(model, tmp_path, epochs=2)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_loss_that_is_nan_stops_before_the_state_is_lost(tmp_path):
    model = small_model()
    fit(model, tmp_path, epochs=2)
    before = (tmp_path / "state.npz").read_bytes()
    model.layers[-1].bias.assign([np.nan, 0.0, 0.0])
    data = small_data()
    resume = Resume(tmp_path, data)
    resume._restore = lambda: None  # go on with the broken weights, as after a bad batch
    with pytest.raises(FloatingPointError, match=r"loss of epoch 1 is nan"):
        model.fit(data, epochs=3, shuffle=False, verbose=0, callbacks=[resume])
    assert (tmp_path / "state.npz").read_bytes() == before
    assert np.isfinite(fit(small_model(), tmp_path, epochs=3).history["loss"]).all()


def test_a_full_disk_keeps_the_last_state(tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full to write to")
    fit(small_model(), tmp_path, epochs=2)
    before = (tmp_path / "state.npz").read_bytes()
    (tmp_path / "state.tmp").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"cannot be written.*No space.*still there") as raised:
        fit(small_model(), tmp_path, epochs=3)
    assert raised.value.errno == errno.ENOSPC
    assert (tmp_path / "state.npz").read_bytes() == before
    (tmp_path / "state.tmp").unlink()
    assert len(fit(small_model(), tmp_path, epochs=3).epoch) == 3


def test_a_folder_that_cannot_be_written_is_named_before_the_training(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OSError, match="cannot be written to .*file/runs"):
        fit(small_model(), tmp_path / "file" / "runs", epochs=1)


def test_data_whose_order_cannot_be_set_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no attribute 'epoch'.*before any further .map"):
        Resume(tmp_path, small_data().take(1))


def test_the_folder_is_made_and_holds_one_file(tmp_path):
    folder = tmp_path / "runs" / "unet"
    fit(small_model(), folder, epochs=2)
    assert [path.name for path in folder.iterdir()] == ["state.npz"]


# --- ShowPredictions --------------------------------------------------------------------------

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3)).astype("uint8")
MASKS = np.random.default_rng(1).integers(0, 3, (2, 4, 4)).astype("uint8")


def watch(epochs, **kwargs):
    model, watcher = small_model(), ShowPredictions(IMAGES, MASKS, **kwargs)
    model.fit(small_data(), epochs=epochs, shuffle=False, verbose=0, callbacks=[watcher])
    return model, watcher


def test_looks_are_kept_from_before_training_on():
    before = small_model().predict(IMAGES, verbose=0).argmax(-1)
    model, watcher = watch(epochs=5, every=2)
    assert [epoch for epoch, _ in watcher.looks] == [0, 2, 4]
    assert all(maps.shape == MASKS.shape and maps.dtype == "uint8" for _, maps in watcher.looks)
    np.testing.assert_array_equal(watcher.looks[0][1], before)
    watcher.look(5)
    np.testing.assert_array_equal(watcher.looks[-1][1], model.predict(IMAGES, verbose=0).argmax(-1))


@pytest.mark.parametrize("columns, looks", [(6, [0, 1, 2, 3]), (3, [0, 2, 3]), (2, [0, 3])])
def test_the_strip_shows_image_truth_and_chosen_looks(columns, looks):
    _, watcher = watch(epochs=3)
    figure = watcher.strip(columns=columns)
    assert len(figure.axes) == len(IMAGES) * (2 + len(looks))
    titles = [axis.get_title() for axis in figure.axes[: 2 + len(looks)]]
    assert titles == ["image", "truth", *(f"epoch {n}" for n in looks)]


def test_a_second_training_adds_to_the_looks():
    model, watcher = watch(epochs=1)
    model.fit(
        small_data(), epochs=2, initial_epoch=1, shuffle=False, verbose=0, callbacks=[watcher]
    )
    assert [epoch for epoch, _ in watcher.looks] == [0, 1, 2]


def test_a_plain_script_needs_no_ipython(monkeypatch):
    for name in [n for n in sys.modules if n.split(".")[0] == "IPython"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "IPython", None)  # importing it fails
    _, watcher = watch(epochs=1, live=True)
    assert len(watcher.looks) == 2


def test_a_notebook_shows_one_figure_that_changes(monkeypatch):
    IPython = pytest.importorskip("IPython", reason="IPython is not installed")
    calls = []

    class Handle:
        def update(self, figure):
            calls.append(("update", figure))

    def display(figure, display_id):
        calls.append(("display", figure))
        return Handle()

    monkeypatch.setattr(IPython, "get_ipython", lambda: object())
    monkeypatch.setattr("IPython.display.display", display)
    watch(epochs=2)
    assert [kind for kind, _ in calls] == ["display", "update", "update"]
    titles = [figure.get_suptitle() for _, figure in calls]
    assert titles == ["after epoch 0", "after epoch 1", "after epoch 2"]


def test_as_many_masks_as_pictures():
    with pytest.raises(ValueError, match="2 pictures and 1 masks"):
        ShowPredictions(IMAGES, MASKS[:1])
