"""What a training leaves behind: event files that TensorBoard shows.

An event file is a TFRecord file of small messages, one a value. TensorFlow alone writes and reads
them. The package `tensorboard`, which TensorFlow 2.21 no longer brings along, is needed to look at
them only; `keras.callbacks.TensorBoard` needs it to write.
"""

import pathlib

import keras
import numpy as np
import tensorflow as tf

# TensorBoard's plugins, and how each stores its data: scalar, tensor, or a row of blobs.
KINDS = {"scalars": 1, "histograms": 2, "text": 2, "images": 3}


class Events:
    """Writes one event file, in a folder that is made if need be.

    Args:
        folder: one a run; TensorBoard names the run after it.

    Example:
        >>> with Events("logs/first") as events:
        ...     events.text("configuration", str(config))
        ...     events.scalar("loss", 0.7, step=1)
    """

    def __init__(self, folder):
        self.writer = tf.summary.create_file_writer(str(folder))

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def close(self):
        """Writes what is still waiting; nothing can be added afterwards."""
        self.writer.close()

    def scalar(self, name, value, step=0):
        """Adds a number to the curve of this name."""
        self.write("scalars", name, np.float32(value), step)

    def text(self, name, text, step=0):
        """Adds a text, in Markdown."""
        self.write("text", name, text, step)

    def image(self, name, image, step=0):
        """Adds a picture, `[H, W, 3]` with values 0 to 255."""
        image = np.asarray(image).astype("uint8")
        png = tf.io.encode_png(image).numpy()
        height, width = image.shape[:2]
        self.write("images", name, [str(width).encode(), str(height).encode(), png], step)

    def histogram(self, name, values, step=0, bins=30):
        """Adds a histogram of all the values of an array."""
        counts, edges = np.histogram(np.asarray(values, "float64"), bins)
        rows = np.stack([edges[:-1], edges[1:], counts], axis=1)  # (bins, 3): from, to, how many
        self.write("histograms", name, rows, step)

    def write(self, kind, name, value, step):
        """Adds a value of one of the `KINDS`."""
        metadata = tf.compat.v1.SummaryMetadata(data_class=KINDS[kind])
        metadata.plugin_data.plugin_name = kind
        with self.writer.as_default(), tf.summary.record_if(True):
            tf.summary.write(name, value, step=step, metadata=metadata)


class Track(keras.callbacks.Callback):
    """Writes a training as it goes on: settings, curves, pictures, weights.

    Args:
        folder: see `Events`.
        settings: `{name: value}`, shown as a table.
        draw: a function of no argument that returns a picture of what the model says now,
            `[H, W, 3]` with values 0 to 255, or `None` for no pictures.
        every: epochs between two pictures, and between two looks at the weights. Both are also
            written before the first epoch.

    Shape:
        In the folder: a text `configuration`; a curve for each name in the logs, training and
        validation; pictures `predictions`; a histogram for each weight of two axes or more.

    Example:
        >>> model.fit(train, epochs=9, callbacks=[Track("logs/first", settings={"rate": 2e-3})])
    """

    def __init__(self, folder, *, settings=None, draw=None, every=1):
        super().__init__()
        self.folder = folder
        self.settings = dict(settings or {})
        self.draw = draw
        self.every = every

    def on_train_begin(self, logs=None):
        self.events = Events(self.folder)
        rows = "".join(f"| {name} | {value} |\n" for name, value in self.settings.items())
        self.events.text("configuration", f"| setting | value |\n| :--- | :--- |\n{rows}")
        self.look(0)

    def on_epoch_end(self, epoch, logs=None):
        for name, value in (logs or {}).items():
            self.events.scalar(name, value, epoch + 1)
        if (epoch + 1) % self.every == 0:
            self.look(epoch + 1)

    def on_train_end(self, logs=None):
        self.events.close()

    def look(self, epoch):
        """Writes the picture and the weights under this epoch's number."""
        if self.draw is not None:
            self.events.image("predictions", self.draw(), epoch)
        for variable in self.model.weights:
            if len(variable.shape) >= 2:
                values = keras.ops.convert_to_numpy(variable)
                self.events.histogram(f"weights/{variable.path}", values, epoch)


def read(folder):
    """Yields what the event files of a folder hold, in the order of writing.

    Args:
        folder: a run's.

    Yields:
        `(kind, name, step, value)`: kind is one of `KINDS`; the value a number, a string, an array
        of rows (from, to, count), or an array `[H, W, 3]`.

    Raises:
        FileNotFoundError: if the folder holds no event file.
    """
    files = sorted(pathlib.Path(folder).glob("*tfevents*"))
    if not files:
        raise FileNotFoundError(f"{folder} holds no event file, expected *tfevents*.")
    for record in tf.data.TFRecordDataset([str(file) for file in files]):
        event = tf.compat.v1.Event.FromString(record.numpy())
        for value in event.summary.value:
            kind = value.metadata.plugin_data.plugin_name
            if kind in KINDS:
                yield kind, value.tag, event.step, decode(kind, tf.make_ndarray(value.tensor))


def decode(kind, value):
    """Turns a stored tensor into what `read` promises."""
    if kind == "scalars":
        return float(value)
    if kind == "text":
        return value.item().decode()
    if kind == "images":
        return tf.io.decode_png(value[2]).numpy()
    return value
