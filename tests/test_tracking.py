"""Event files: what is written is read, and a training leaves its whole story."""

import keras
import numpy as np
import pytest

from seglib.tracking import Events, Track, read


def test_all_kinds_come_back(tmp_path):
    image = np.arange(2 * 3 * 3, dtype="uint8").reshape(2, 3, 3)
    with Events(tmp_path / "run") as events:
        events.scalar("loss", 0.25, step=3)
        events.text("configuration", "größe: 128")
        events.image("predictions", image, step=1)
        events.histogram("weights", [0.0, 1.0, 1.0, 4.0], bins=4)
    (loss, text, picture, histogram) = read(tmp_path / "run")
    assert loss == ("scalars", "loss", 3, 0.25)
    assert text == ("text", "configuration", 0, "größe: 128")
    assert picture[:3] == ("images", "predictions", 1)
    np.testing.assert_array_equal(picture[3], image)
    rows = [[0, 1, 1], [1, 2, 2], [2, 3, 0], [3, 4, 1]]  # from, to, how many; the last with its end
    np.testing.assert_array_equal(histogram[3], rows)


def test_a_training_leaves_its_settings_curves_pictures_and_weights(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x, y = np.ones((4, 2), "float32"), np.ones((4, 1), "float32")
    picture = np.zeros((4, 4, 3), "uint8")
    track = Track(tmp_path, settings={"rate": 0.01}, draw=lambda: picture, every=2)
    history = model.fit(
        x, y, validation_data=(x, y), epochs=4, shuffle=False, verbose=0, callbacks=[track]
    )
    found = list(read(tmp_path))
    [text] = [value for kind, *_, value in found if kind == "text"]
    assert "| rate | 0.01 |" in text
    for name in ("loss", "val_loss"):
        curve = {step: value for kind, n, step, value in found if (kind, n) == ("scalars", name)}
        np.testing.assert_allclose([curve[e] for e in (1, 2, 3, 4)], history.history[name])
    assert [step for kind, _, step, _ in found if kind == "images"] == [0, 2, 4]
    weights = [(step, value) for kind, _, step, value in found if kind == "histograms"]
    assert [step for step, _ in weights] == [0, 2, 4]  # of the kernel; a bias has one axis
    assert all(value[:, 2].sum() == 2 for _, value in weights)


def test_a_folder_without_events_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="no event file"):
        next(read(tmp_path))
