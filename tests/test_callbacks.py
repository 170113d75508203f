"""Watching a training, and killing one: it must end as if it had never been killed."""

import errno
import io
import json
import os
import random
import re
import signal
import subprocess
import sys
import textwrap
import time
import types
import typing
from collections import Counter

import keras
import numpy as np
import pytest
import tensorflow as tf

from seglib.callbacks import Resume, ShowPredictions
from seglib.data import pets, pipeline
from seglib.losses import CrossEntropy
from seglib.metrics import MeanIoU


def assert_equal(values, expected):
    for a, b in zip(values, expected, strict=True):
        np.testing.assert_array_equal(a, b)


# --- Kills -------------------------------------------------------------------------------------

# A training with everything that has a state: weights, BatchNorm's statistics, Dropout's random
# numbers, AdamW's moments and averages, and data that is shuffled and augmented. It says what it
# does, through no buffer, so the last line before a kill tells where the kill hit.
SCRIPT = textwrap.dedent(
    """
    import io, json, os, signal, sys, threading, time
    import keras, numpy as np, tensorflow as tf
    from PIL import Image
    from seglib.callbacks import Resume
    from seglib.data import augment, pets, pipeline
    from seglib.losses import CrossEntropy
    from seglib.metrics import MeanIoU

    plan, epochs, *folders = sys.argv[1:]
    tf.config.experimental.enable_op_determinism()
    write, fsync, replace = np.savez, os.fsync, os.replace


    def png(array):
        buffer = io.BytesIO()
        Image.fromarray(array).save(buffer, "PNG")
        return buffer.getvalue()


    def load():
        rng = np.random.default_rng(0)
        masks = rng.integers(1, 4, (22, 4, 4)).repeat(4, 1).repeat(4, 2).astype("uint8")
        images = (masks[..., None] * 60 + rng.integers(0, 60, (22, 16, 16, 3))).astype("uint8")
        records = tf.data.Dataset.from_tensor_slices(
            {"image": [png(i) for i in images], "segmentation_mask": [png(m) for m in masks]}
        )
        return pipeline.build(
            pets.Source(records), image_size=16, batch_size=4, shuffle=True,
            augment=augment.standard(), seed=3,
        )


    def build():
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
        return model


    class Killer(keras.callbacks.Callback):
        # Kills this process at a moment, not before a batch of the epoch `after` the first one.
        def __init__(self, moment="never", after=0, batch=0, share=0.5):
            super().__init__()
            self.moment, self.after, self.earliest, self.share = moment, after, batch, share
            self.first = None
            self.seconds, self.epochs = [], []

        def reach(self, moment, *numbers):
            self.now = moment
            os.write(1, f"at {self.epoch} {moment} {' '.join(map(str, numbers))}\\n".encode())
            if moment == self.moment and self.due() and moment != "in a step":
                os.kill(os.getpid(), signal.SIGKILL)

        def due(self):
            return (self.epoch, self.batch) >= (self.first + self.after, self.earliest)

        def on_epoch_begin(self, epoch, logs=None):
            self.epoch, self.batch = epoch, 0
            self.first = epoch if self.first is None else self.first
            self.epochs.append(time.perf_counter())

        def on_train_batch_begin(self, batch, logs=None):
            self.batch, self.began = batch, time.perf_counter()
            self.reach("in a step")
            # The first step is traced, so it takes longer than those after it.
            if self.moment == "in a step" and self.due() and len(self.seconds) > 1:
                step = self.epoch, batch
                threading.Timer(self.share * min(self.seconds), self.strike, [step]).start()

        def strike(self, step):
            # Where this step was faster than those before it, the next one is tried.
            if self.now == "in a step" and step == (self.epoch, self.batch):
                os.kill(os.getpid(), signal.SIGKILL)

        def on_train_batch_end(self, batch, logs=None):
            self.seconds.append(time.perf_counter() - self.began)
            self.reach("between steps")


    def savez(file, **state):
        killer.reach("opened")
        if killer.moment != "half written":
            return write(file, **state)
        buffer = io.BytesIO()
        write(buffer, **state)
        half = len(buffer.getvalue()) // 2
        file.write(buffer.getvalue()[:half])
        file.flush()
        killer.reach("half written", half)
        file.write(buffer.getvalue()[half:])


    def then(moment, function):
        def wrapped(*args):
            function(*args)
            killer.reach(moment)

        return wrapped


    for folder in folders:
        keras.utils.set_random_seed(1)
        data, model = load(), build()
        killer = Killer(**json.loads(plan))
        np.savez, os.fsync, os.replace = savez, then("written", fsync), then("renamed", replace)
        callbacks = [Resume(folder, data), killer]
        history = model.fit(data, epochs=int(epochs), shuffle=False, verbose=0, callbacks=callbacks)
        np.savez, os.fsync, os.replace = write, fsync, replace
        variables = [*model.variables, *model.optimizer.variables]
        write(folder + ".npz", *[keras.ops.convert_to_numpy(v) for v in variables])
        seconds = float(np.median(np.diff(killer.epochs)))
        with open(folder + ".json", "w") as file:
            json.dump([history.epoch, history.history, seconds], file)
    """
)
STEPS = 6  # an epoch
MOMENTS = ("in a step", "between steps", "opened", "half written", "written", "renamed")


class Kill(typing.NamedTuple):
    """What a kill hit, and what it left."""

    planned: str
    code: int
    epoch: int
    moment: str  # of MOMENTS; anything for a kill by the clock
    half: int | None  # bytes
    before: int  # saved epochs
    after: int
    temporary: int | None  # bytes in the file that was being written


class Runs:
    """Trainings in processes of their own, in one folder."""

    def __init__(self, root, folder):
        self.folder = folder
        self.script = folder / "train.py"
        self.script.write_text(SCRIPT)
        self.environment = os.environ | {"PYTHONPATH": str(root), "KERAS_BACKEND": "tensorflow"}

    def train(self, *names, epochs, wait=None, **plan):
        """Returns the code and what was said; `wait` are seconds from the first step to a kill."""
        folders = [str(self.folder / name) for name in names]
        lines = []
        with subprocess.Popen(
            [sys.executable, str(self.script), json.dumps(plan), str(epochs), *folders],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            for line in process.stdout:
                lines.append(line)
                # By then the step is traced, and the training as fast as it gets.
                if wait is not None and "between steps" in line:
                    time.sleep(wait)
                    process.kill()
                    wait = None
        return process.returncode, lines

    def kill(self, name, *, epochs, wait=None, moment="by the clock", **plan):
        """Starts or resumes a training, kills it, and returns the `Kill`."""
        before = self.saved(name)
        code, lines = self.train(name, epochs=epochs, wait=wait, moment=moment, **plan)
        said = [line for line in lines if line.startswith("at ")]
        assert said, "".join(lines)
        epoch, hit, half = re.fullmatch(r"at (\d+) ([a-z ]+?) (\d*)\n", said[-1]).groups()
        temporary = self.folder / name / "state.tmp"
        left = temporary.stat().st_size if temporary.exists() else None
        half = int(half) if half else None
        return Kill(moment, code, int(epoch), hit, half, before, self.saved(name), left)

    def saved(self, name):
        """The number of epochs in the state, which must be whole at any time."""
        path = self.folder / name / "state.npz"
        if not path.exists():
            return 0
        with np.load(path) as state:
            assert all(state[key].size for key in state.files)
            return int(state["epoch"])

    def result(self, name):
        """The variables, the epochs, the history, and the seconds an epoch took."""
        with np.load(self.folder / f"{name}.npz") as file:
            variables = [file[key] for key in file.files]
        return variables, *json.loads((self.folder / f"{name}.json").read_text())


def assert_hit(kill):
    assert kill.code == -signal.SIGKILL, kill
    assert kill.planned in (kill.moment, "by the clock"), kill
    # Where the kill came between the renaming and the word of it, either is right.
    unsaid = kill.planned == "by the clock" and kill.moment == "written"
    new = kill.epoch + (kill.moment == "renamed")
    assert kill.after in ((new, new + 1) if unsaid else (new,)), kill
    if kill.planned == "half written":
        assert kill.temporary == kill.half > 1000, kill
    if kill.planned in ("in a step", "between steps", "renamed"):
        assert kill.temporary is None, kill


def assert_same(runs, whole, resumed, epochs):
    (a, numbers, history, _), (b, new_numbers, new_history, _) = map(runs.result, (whole, resumed))
    assert len(a) > 20
    assert_equal(b, a)
    assert numbers == new_numbers == list(range(epochs))
    assert history == new_history and set(history) == {"loss", "mean_iou"}


# What a kill can leave, each once, in one training: the moment, and after how many epochs of the
# process. The test below has all moments, and many kills.
CHAIN = (
    ("half written", 0),  # where there is no state yet
    ("between steps", 1),  # of the second epoch, with a whole state
    ("written", 0),  # but not renamed
)


@pytest.fixture(scope="module")
def chain(tmp_path_factory, root):
    """The kills, and the trainings, of which one was never killed."""
    runs = Runs(root, tmp_path_factory.mktemp("chain"))
    kills = [
        runs.kill("resumed", epochs=3, moment=moment, after=after, batch=2)
        for moment, after in CHAIN
    ]
    code, lines = runs.train("resumed", "whole", epochs=3)
    assert code == 0, "".join(lines)
    return kills, runs


def test_each_kill_hits_its_moment(chain):
    kills, _ = chain
    for kill in kills:
        assert_hit(kill)
    assert [kill.after for kill in kills] == [0, 1, 1]


def test_a_killed_training_ends_like_one_that_was_never_killed(chain):
    _, runs = chain
    assert_same(runs, "whole", "resumed", epochs=3)
    # What a kill during the write left was cleared.
    assert [path.name for path in (runs.folder / "resumed").iterdir()] == ["state.npz"]


@pytest.mark.rare
def test_kills_at_random_moments_change_nothing(root, tmp_path):
    seed, epochs, runs = random.randrange(2**32), 80, Runs(root, tmp_path)
    code, lines = runs.train("whole", epochs=epochs)
    assert code == 0, "".join(lines)
    *_, seconds = runs.result("whole")  # an epoch

    rng = random.Random(seed)
    plans = [{"wait": rng.uniform(0, 3 * seconds)} for _ in range(8)]
    for moment in MOMENTS * 2:
        step = {"after": rng.randrange(2), "batch": rng.randrange(STEPS), "share": rng.random()}
        plans.append({"moment": moment, **step})
    rng.shuffle(plans)
    kills = [runs.kill("resumed", epochs=epochs, **plan) for plan in plans]
    hits = Counter((kill.planned, kill.moment) for kill in kills)
    report = f"seed {seed}, {len(kills)} kills: {dict(hits)}"
    print(report)
    for kill in kills:
        assert_hit(kill)
        assert kill.before <= kill.after, (report, kill)
    assert {kill.moment for kill in kills} == set(MOMENTS) and kills[-1].after >= 2, report
    code, lines = runs.train("resumed", epochs=epochs)
    assert code == 0, "".join(lines)
    assert_same(runs, "whole", "resumed", epochs)


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
        pets.Source(records),
        image_size=4,
        batch_size=batch_size,
        shuffle=True,
        augment=None,
        seed=0,
    )


def small_model(filters=3, metrics=()):
    keras.utils.set_random_seed(0)
    image = keras.Input((4, 4, 3))
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.Conv2D(filters, 1)(x)
    model = keras.Model(image, keras.layers.Conv2D(3, 1)(x))
    # A few steps are not worth the time that TensorFlow takes to trace a graph.
    options = {"metrics": list(metrics), "run_eagerly": True}
    model.compile(keras.optimizers.Adam(0.05), CrossEntropy(), **options)
    return model


def fit(model, folder, epochs, data=None, callbacks=()):
    data = small_data() if data is None else data
    callbacks = [Resume(folder, data), *callbacks]
    return model.fit(data, epochs=epochs, shuffle=False, verbose=0, callbacks=callbacks)


def values(model):
    variables = [*model.variables, *model.optimizer.variables]
    return [keras.ops.convert_to_numpy(v) for v in variables]


def on_epoch(number, action):
    """A callback that does something before the epoch of this number (from 0)."""
    return keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: action() if epoch == number else None
    )


class Steps(keras.callbacks.Callback):
    """Counts the steps of each epoch."""

    def __init__(self):
        super().__init__()
        self.counts = []

    def on_epoch_begin(self, epoch, logs=None):
        self.counts.append(0)

    def on_train_batch_end(self, batch, logs=None):
        self.counts[-1] += 1


def test_data_whose_order_cannot_be_set_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no attribute 'epoch'.*before any further .map"):
        Resume(tmp_path, small_data().take(1))


def test_a_longer_training_continues_a_finished_one(tmp_path):
    whole = small_model()
    expected = whole.fit(small_data(), epochs=5, shuffle=False, verbose=0).history["loss"]
    fit(small_model(), tmp_path, epochs=3)
    resumed = small_model()
    history = fit(resumed, tmp_path, epochs=5)
    assert history.history["loss"] == expected and history.epoch == [0, 1, 2, 3, 4]
    assert_equal(resumed.get_weights(), whole.get_weights())


def test_a_finished_training_is_restored_with_its_history(tmp_path):
    first = small_model()
    expected = fit(first, tmp_path, epochs=3)
    again = small_model()
    history = fit(again, tmp_path, epochs=3)
    assert history.history == expected.history and history.epoch == [0, 1, 2]
    assert_equal(again.get_weights(), first.get_weights())


def test_a_training_in_bfloat16_is_restored(tmp_path):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("bfloat16")
    try:
        first, again = small_model(), small_model()
    finally:
        keras.config.set_dtype_policy(before)
    for model in (first, again):
        fit(model, tmp_path, epochs=1)
    assert "bfloat16" in {variable.dtype for variable in again.variables}
    assert_equal(values(again), values(first))


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
    assert_equal(model.get_weights(), before)


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    """The bytes of a whole state."""
    folder = tmp_path_factory.mktemp("state")
    fit(small_model(), folder, epochs=1)
    return (folder / "state.npz").read_bytes()


def assert_damage_is_refused(folder, what):
    model = small_model()
    model.optimizer.build(model.trainable_variables)
    before, steps = values(model), Steps()
    with pytest.raises(ValueError, match=rf"state\.npz is damaged \({what}.*Delete it to start"):
        fit(model, folder, epochs=2, callbacks=[steps])
    assert_equal(values(model), before)
    assert not steps.counts and model._initial_epoch is None


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.9, 0.999])
def test_a_truncated_state_is_refused(tmp_path, state, share):
    (tmp_path / "state.npz").write_bytes(state[: int(share * len(state))])
    assert_damage_is_refused(tmp_path, "BadZipFile: it is cut off")


def test_a_wrong_byte_is_refused_or_changes_nothing(tmp_path, state):
    """Some bytes of a zip file are not read, such as a date; any other may be part of a number."""
    model = small_model()
    resume = Resume(tmp_path, small_data())
    resume.set_model(model)
    (tmp_path / "state.npz").write_bytes(state)
    resume.on_train_begin()
    whole, refused = [*values(model), *resume.history["loss"]], 0
    for position in range(0, len(state), 29):
        wrong = bytearray(state)
        wrong[position] ^= 0xFF
        resume.path.write_bytes(wrong)
        for variable in model.trainable_variables:
            variable.assign(keras.ops.zeros_like(variable))
        before = values(model)
        try:
            resume.on_train_begin()
            assert_equal([*values(model), *resume.history["loss"]], whole)
        except ValueError as error:
            assert "is damaged" in str(error)
            assert_equal(values(model), before)
            refused += 1
    assert refused > 20


def test_a_file_that_is_no_state_is_refused(tmp_path):
    np.save(tmp_path / "state", np.zeros(3))
    (tmp_path / "state.npy").rename(tmp_path / "state.npz")
    assert_damage_is_refused(tmp_path, "BadZipFile: .*no .npz file")


@pytest.mark.parametrize("part", ["epoch", "history", "variable_0"])
def test_a_state_without_a_part_is_refused(tmp_path, state, part):
    with np.load(io.BytesIO(state)) as whole:
        parts = {name: whole[name] for name in whole.files if name != part}
    np.savez(tmp_path / "state.npz", **parts)
    assert_damage_is_refused(tmp_path, "KeyError")


# --- Data that breaks in mid-training -----------------------------------------------------------

PICTURES = np.random.default_rng(2).integers(0, 256, (6, 4, 4, 3)).astype("uint8")
LABELS = np.random.default_rng(3).integers(0, 3, (6, 4, 4)).astype("uint8")


def streamed(read):
    """A data set that reads its pictures anew in each epoch, as one too large for the memory."""

    def batch(index, seed):
        images = tf.map_fn(read, index, fn_output_signature=tf.TensorSpec([4, 4, 3], tf.float32))
        return images, tf.gather(LABELS, index)

    return pipeline.epochs(batch, 6, batch_size=2, shuffle=True, seed=0)


def order(epoch):
    """The numbers of the pictures in each batch of an epoch of `streamed`."""
    numbers = pipeline.epochs(lambda i, seed: i, 6, batch_size=2, shuffle=True, seed=0)
    numbers.epoch.assign(epoch)
    return [batch.tolist() for batch in numbers.as_numpy_iterator()]


def assert_mended_training_ends_like_a_sound_one(
    folder, data, *, spoil, mend, error, match, steps, metrics
):
    """Breaks the data as epoch 2 begins, mends it, and goes on."""
    sound = small_model(metrics=metrics())
    expected = fit(sound, folder / "sound", 4, data)

    path, kept, counter = folder / "broken" / "state.npz", [], Steps()
    keep = on_epoch(1, lambda: kept.append(path.read_bytes()))
    with pytest.raises(error, match=match):
        model = small_model(metrics=metrics())
        fit(model, folder / "broken", 4, data, [keep, on_epoch(1, spoil), counter])
    assert counter.counts == steps
    assert [path.read_bytes()] == kept and list(path.parent.iterdir()) == [path]

    mend()
    resumed = small_model(metrics=metrics())
    history = fit(resumed, folder / "broken", 4, data)
    assert history.history == expected.history and history.epoch == [0, 1, 2, 3]
    assert_equal(values(resumed), values(sound))


@pytest.mark.parametrize("metrics", [list, lambda: [MeanIoU(3)]], ids=["no metric", "a metric"])
def test_nan_in_a_picture_stops_before_the_state_is_lost(tmp_path, metrics):
    images = tf.Variable(PICTURES.astype("float32"))
    spoiled = PICTURES.astype("float32")
    spoiled[order(1)[1][0], 2, 1, 0] = np.nan  # one number, in the second of three batches
    assert_mended_training_ends_like_a_sound_one(
        tmp_path,
        streamed(lambda number: images[number]),
        spoil=lambda: images.assign(spoiled),
        mend=lambda: images.assign(PICTURES.astype("float32")),
        error=FloatingPointError,
        match=r"loss of epoch 2 is nan: a batch holds NaN.*kept in .*state\.npz",
        steps=[3, 3],
        metrics=metrics,
    )


def test_a_picture_that_breaks_costs_one_epoch(tmp_path):
    """TensorFlow's own error tells what is wrong; the state before the epoch is whole."""
    paths = [tmp_path / f"{number}.png" for number in range(6)]
    files = [tf.io.encode_png(picture).numpy() for picture in PICTURES]
    for path, file in zip(paths, files, strict=True):
        path.write_bytes(file)
    names = tf.constant([str(path) for path in paths])
    broken = order(1)[1][0]  # in the second of three batches

    def read(number):
        return tf.cast(tf.io.decode_png(tf.io.read_file(names[number]), channels=3), "float32")

    assert_mended_training_ends_like_a_sound_one(
        tmp_path,
        streamed(read),
        spoil=lambda: paths[broken].write_bytes(files[broken][:40]),
        mend=lambda: paths[broken].write_bytes(files[broken]),
        error=tf.errors.InvalidArgumentError,
        match="PNG",
        steps=[3, 1],
        metrics=list,
    )


def test_labels_that_are_no_class_are_named(tmp_path):
    data = pipeline.build(
        types.SimpleNamespace(read=lambda size: (PICTURES, LABELS + 1)),
        **{"image_size": 4, "batch_size": 2, "shuffle": True, "augment": None, "seed": 0},
    )
    with pytest.raises(ValueError, match=r"holds \[3\], expected whole numbers 0 to 2"):
        fit(small_model(), tmp_path, 2, data)
    assert not (tmp_path / "state.npz").exists()


def test_weights_that_are_lost_after_the_last_loss_are_noticed(tmp_path):
    def loss(labels, logits):
        return keras.ops.mean(keras.ops.sqrt(0.0 * logits))  # it is 0, its gradient NaN

    model = small_model()
    model.compile("sgd", loss)
    with pytest.raises(FloatingPointError, match=r"epoch 1 is 0\.0, but weights after it are not"):
        fit(model, tmp_path, 2, small_data(batch_size=6))
    assert not list(tmp_path.iterdir())


# --- Places that cannot be written to ----------------------------------------------------------


@pytest.mark.parametrize("steps", [[], [3]], ids=["before the training", "after an epoch"])
def test_a_full_disk_keeps_the_last_state(tmp_path, steps):
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full to write to")
    fit(small_model(), tmp_path, epochs=2)
    before, counter = (tmp_path / "state.npz").read_bytes(), Steps()
    temporary = tmp_path / "state.tmp"
    if not steps:
        temporary.symlink_to("/dev/full")
    fill = on_epoch(2, lambda: temporary.symlink_to("/dev/full"))
    with pytest.raises(OSError, match=r"cannot be written.*No space.*still there") as raised:
        fit(small_model(), tmp_path, epochs=4, callbacks=[fill, counter])
    assert raised.value.errno == errno.ENOSPC and counter.counts == steps
    assert (tmp_path / "state.npz").read_bytes() == before
    temporary.unlink()
    assert len(fit(small_model(), tmp_path, epochs=3).epoch) == 3


def not_a_folder(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    return tmp_path / "file" / "runs"


def forbidden(tmp_path, monkeypatch):
    if os.geteuid() == 0:
        pytest.skip("root may write to any folder")
    tmp_path.chmod(0o555)
    return tmp_path


def the_kernels(tmp_path, monkeypatch):
    if not os.path.isdir("/sys/kernel"):
        pytest.skip("this system has no /sys, where not even root makes files")
    return "/sys/kernel"


def read_only(tmp_path, monkeypatch):
    def refuse(path, mode):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr("seglib.callbacks.open", refuse, raising=False)
    return tmp_path


@pytest.mark.parametrize("place", [not_a_folder, forbidden, the_kernels, read_only])
def test_a_folder_that_cannot_be_written_is_named_before_the_training(tmp_path, monkeypatch, place):
    folder, steps = place(tmp_path, monkeypatch), Steps()
    with pytest.raises(OSError, match=f"cannot be written to {folder}/state.npz .*pass a folder"):
        fit(small_model(), folder, epochs=1, callbacks=[steps])
    assert not steps.counts


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
