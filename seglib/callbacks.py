"""Callbacks: watching predictions while a model trains, and resuming a killed training."""

import contextlib
import json
import os
import pathlib
import sys
import zipfile

import keras
import numpy as np

from seglib.core.advice import LabelAdvice


class ShowPredictions(keras.callbacks.Callback):
    """Keeps, and in a notebook shows, the predictions on a few pictures as training goes on.

    Args:
        images: `[N, H, W, 3]`, values 0 to 255.
        masks: label maps `[N, H, W]`.
        every: look after every so many epochs; the state before training is kept too.
        classes: names of the classes.
        live: show the newest predictions in the notebook, in place of the previous ones.

    Example:
        >>> watcher = ShowPredictions(images, masks)
        >>> model.fit(train, epochs=12, callbacks=[watcher])
        >>> watcher.strip()  # a figure with one column a look
    """

    def __init__(
        self, images, masks, *, every=1, classes=("pet", "background", "border"), live=True
    ):
        super().__init__()
        if len(images) != len(masks):
            raise ValueError(
                f"There are {len(images)} pictures and {len(masks)} masks, expected as many."
            )
        self.images = np.asarray(images)
        self.masks = np.asarray(masks)
        self.every = every
        self.classes = classes
        self.live = live
        self.looks = []  # (epoch, label maps uint8 [N, H, W])
        self._display = None

    def on_train_begin(self, logs=None):
        if not self.looks:
            self.look(0)

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self.every == 0:
            self.look(epoch + 1)

    def look(self, epoch):
        """Predicts now and keeps the label maps under this epoch's number."""
        logits = self.model.predict_on_batch(self.images)
        self.looks.append((epoch, keras.ops.convert_to_numpy(logits).argmax(-1).astype("uint8")))
        if self.live:
            self._show()

    def strip(self, columns=6):
        """Draws the kept predictions, one row per picture, evenly chosen over the training.

        Args:
            columns: how many looks to draw at most.

        Returns:
            `matplotlib.figure.Figure`.
        """
        from seglib import plot

        chosen = np.unique(np.linspace(0, len(self.looks) - 1, columns).round().astype(int))
        figure, axes = plot.grid(len(self.images), len(chosen) + 2, 1.6)
        for row, (image, mask) in enumerate(zip(self.images, self.masks, strict=True)):
            maps = [self.looks[i][1][row] for i in chosen]
            painted = [plot.colorize(m, len(self.classes)) for m in (mask, *maps)]
            for axis, picture in zip(axes[row], [image.astype("uint8"), *painted], strict=True):
                axis.imshow(picture, interpolation="nearest")
        names = ["image", "truth", *(f"epoch {self.looks[i][0]}" for i in chosen)]
        for axis, name in zip(axes[0], names, strict=True):
            axis.set_title(name, fontsize=9)
        plot.legend(figure, self.classes)
        return plot.finish(figure)

    def _show(self):
        # A plain script has nowhere to show a figure, and need not have IPython.
        ipython = sys.modules.get("IPython")
        if ipython is None or ipython.get_ipython() is None:
            return
        from IPython.display import display

        from seglib import plot

        epoch, maps = self.looks[-1]
        figure = plot.show(self.images, self.masks, maps, classes=self.classes)
        figure.suptitle(f"after epoch {epoch}")
        if self._display is None:
            self._display = display(figure, display_id=True)
        else:
            self._display.update(figure)


class Resume(keras.callbacks.Callback):
    """Lets a killed training go on as if nothing had happened.

    After each epoch everything the next one depends on is written: weights, BatchNorm statistics,
    the states of Dropout's random numbers, and the optimizer's variables. When the same `fit`
    starts again, it continues after the last finished epoch and ends with the same weights as a
    training that was never killed. That needs data whose order and augmentation are a pure function
    of the epoch, which is why the data set is an argument: the callback sets its `epoch`.

    The file is written beside the old one and then renamed, so a kill at any moment leaves a whole
    file. States of other callbacks (such as `ReduceLROnPlateau`) are not kept. Leave
    `steps_per_epoch` out: with it, Keras begins an epoch where the last one stopped in the data,
    which a resumed training cannot.

    An error of the data, such as a picture that cannot be decoded, comes out of `fit` as TensorFlow
    raises it. It costs the epoch it occurred in: mend the data and call `fit` again.

    Args:
        directory: folder for the state; made if missing. One folder a `fit`.
        data: the training data set, from `seglib.data.pets.load` or `seglib.data.sample.load`.

    Raises:
        ValueError: if `data` has no epoch to set, or the state is damaged or belongs to another
            model; the model is left as it was.
        ValueError: also if labels of the data are no class, once the loss is NaN.
        FloatingPointError: at the end of an epoch whose loss, or a weight after it, is no finite
            number; the state before that epoch is kept.
        OSError: if the state cannot be written: before the training for a folder that cannot be
            written to, and after an epoch for a disk that is full; the state before is kept.

    Example:
        >>> train = pets.load("train")
        >>> model.fit(train, epochs=30, callbacks=[Resume("runs/unet", train)])
    """

    def __init__(self, directory, data):
        super().__init__()
        if not hasattr(data, "epoch"):
            raise ValueError(
                "The data set has no attribute 'epoch', so its order cannot be set. Pass what "
                "pets.load or sample.load returned, before any further .map or .take."
            )
        self.path = pathlib.Path(directory) / "state.npz"
        self.temporary = self.path.with_suffix(".tmp")
        self.data = data
        self.history = {}

    def on_train_begin(self, logs=None):
        with self._written():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Tried now rather than after an epoch of hours. It also clears what a kill has left.
            with open(self.temporary, "wb") as file:
                file.write(b"a try")
            self.temporary.unlink()
        self.history = {}
        self.model.optimizer.build(self.model.trainable_variables)
        self.model._initial_epoch = None  # what a resumed training that was interrupted left
        if self.path.exists():
            self._restore()

    def on_epoch_begin(self, epoch, logs=None):
        self.data.epoch.assign(epoch)
        self._complete_history()

    def on_train_end(self, logs=None):
        self._complete_history()  # if there was no epoch left to train
        self.model._initial_epoch = None  # or the next `fit` would skip its first epochs

    def _complete_history(self):
        """Puts the epochs before the kill into what `fit` returns."""
        if self.history and not self.model.history.history:
            self.model.history.history = {k: list(v) for k, v in self.history.items()}
            self.model.history.epoch = list(range(len(next(iter(self.history.values())))))

    def on_epoch_end(self, epoch, logs=None):
        self._check_finite(epoch, logs or {})
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(float(value))
        state = {f"variable_{i}": to_numpy(v) for i, v in enumerate(self._variables())}
        state["epoch"] = np.array(epoch + 1)
        state["history"] = np.array(json.dumps(self.history))
        with self._written():
            with open(self.temporary, "wb") as file:
                np.savez(file, **state)
                file.flush()
                os.fsync(file.fileno())
            os.replace(self.temporary, self.path)

    def _check_finite(self, epoch, logs):
        """Stops before weights that are lost overwrite those that are not."""
        loss = float(logs.get("loss", 0.0))
        # The step after the last loss can lose them, too.
        if np.isfinite(loss) and all(map(is_finite, self.model.trainable_variables)):
            return
        advice = LabelAdvice(self.data)
        advice.set_model(self.model)
        advice.look()
        what = f"The loss of epoch {epoch + 1} is {loss}"
        if np.isfinite(loss):
            what += ", but weights after it are not finite"
        kept = f"The state before it is kept in {self.path}. " if self.path.exists() else ""
        raise FloatingPointError(
            f"{what}: a batch holds NaN, or the training diverged. {kept}Look for pictures or "
            "weights that are not finite, or lower the learning rate."
        )

    @contextlib.contextmanager
    def _written(self):
        """Says what could not be written, and what is still there."""
        try:
            yield
        except OSError as error:
            kept = " The last whole state is still there; the same call goes on after it."
            raise OSError(
                error.errno,
                f"The state of the training cannot be written to {self.path} "
                f"({os.strerror(error.errno or 0)}).{kept if self.path.exists() else ''} Free some "
                "space or pass a folder that can be written to.",
            ) from error

    def _variables(self):
        return [*self.model.variables, *self.model.optimizer.variables]

    def _restore(self):
        variables = self._variables()
        saved, history, epoch = self._read()
        if [v.shape for v in saved] != [tuple(v.shape) for v in variables]:
            raise ValueError(
                f"The state in {self.path} belongs to another model or optimizer. "
                "Delete it to start over, or give this training a folder of its own."
            )
        for variable, value in zip(variables, saved, strict=True):
            variable.assign(value)
        self.history = history
        # Keras's own BackupAndRestore tells `fit` where to go on in the same way.
        self.model._initial_epoch = epoch

    def _read(self):
        """Returns the saved variables, history and epoch: all of them, or an error."""
        with open(self.path, "rb") as file:  # what may not be read is not called damaged
            try:
                if not zipfile.is_zipfile(self.path):
                    raise zipfile.BadZipFile("it is cut off, or no .npz file")
                with np.load(file) as state:
                    saved = [state[f"variable_{i}"] for i in range(len(state.files) - 2)]
                    return saved, json.loads(str(state["history"])), int(state["epoch"])
            except Exception as error:  # of zipfile, NumPy or json, whichever meets the damage
                raise ValueError(
                    f"The state in {self.path} is damaged ({type(error).__name__}: {error}). "
                    "Delete it to start over."
                ) from error


def to_numpy(variable):
    """Returns a variable's values in a type that NumPy's files know: they have no bfloat16."""
    values = keras.ops.convert_to_numpy(variable)
    return values.astype("float32") if values.dtype.kind == "V" else values


def is_finite(variable):
    """Whether a variable holds neither NaN nor an infinite number."""
    return bool(np.isfinite(to_numpy(variable)).all())
