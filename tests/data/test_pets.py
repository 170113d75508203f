"""Loading the Oxford-IIIT Pets through TFDS, on drawn pets written in their place."""

import shutil
import socket

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from seglib.data import pets, pipeline, sample


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """A TFDS folder with 20 pictures for training and 6 for testing."""
    cache = tmp_path_factory.mktemp("cache")
    return sample.prepare(train=20, test=6, size=64, seed=3, cache_dir=cache)


def names(split, data_dir, **kwargs):
    return [e["file_name"] for e in pets.examples(split, data_dir=data_dir, **kwargs)]


@pytest.fixture
def no_network(monkeypatch):
    """As if the computer were offline; a test that reaches for the network fails."""

    def unknown_host(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown_host)
    for variable in (
        "http_proxy",
        "https_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "all_proxy",
        "ALL_PROXY",
    ):
        monkeypatch.delenv(variable, raising=False)


# --- splits -----------------------------------------------------------------------------------


@pytest.mark.parametrize("fraction, count", [(0.1, 2), (0.25, 5), (0.5, 10)])
def test_validation_is_the_end_of_train_and_never_test(data_dir, fraction, count):
    train = names("train", data_dir, validation_fraction=fraction)
    validation = names("validation", data_dir, validation_fraction=fraction)
    assert train + validation == names("trainval", data_dir)
    assert len(validation) == count and len(set(train + validation)) == 20
    test = names("test", data_dir, validation_fraction=fraction)
    assert len(test) == 6 and not set(test) & set(train + validation)


@pytest.mark.parametrize(
    "split, shuffled", [("trainval", True), ("validation", False), ("test", False)]
)
def test_what_is_trained_on_is_shuffled(data_dir, split, shuffled):
    def epoch(**kwargs):
        batches = pets.load(
            split, image_size=16, data_dir=data_dir, validation_fraction=0.5, **kwargs
        )
        return np.concatenate([images for images, _ in batches.as_numpy_iterator()])

    in_order = epoch(shuffle=False)
    assert np.array_equal(epoch(), in_order) is not shuffled
    assert not np.array_equal(epoch(shuffle=True), in_order)


def test_load_gives_what_examples_hold(data_dir):
    batches = pets.load("test", image_size=(48, 32), batch_size=4, data_dir=data_dir)
    images, masks = (np.concatenate(p) for p in zip(*batches.as_numpy_iterator(), strict=True))
    assert images.shape == (6, 48, 32, 3) and masks.shape == (6, 48, 32)
    assert images.dtype == masks.dtype == "uint8"
    for image, mask, example in zip(
        images, masks, pets.examples("test", data_dir=data_dir), strict=True
    ):
        height, width = example["mask"].shape
        assert example["image"].shape == (height, width, 3)
        rows = ((np.arange(48) + 0.5) * height / 48).astype(int)
        columns = ((np.arange(32) + 0.5) * width / 32).astype(int)
        np.testing.assert_array_equal(mask, example["mask"][np.ix_(rows, columns)])
        small = tf.image.resize(example["image"], (48, 32), antialias=True).numpy()
        assert np.abs(small - image).mean() < 10


def test_the_data_can_be_augmented_and_resumed(data_dir):
    kwargs = {"image_size": 16, "batch_size": 8, "data_dir": data_dir}
    plain = pets.load("train", **kwargs)
    augmented = pets.load("train", augment=lambda i, m, seed: (255 - i, m), **kwargs)
    for (a, m), (b, n) in zip(
        plain.as_numpy_iterator(), augmented.as_numpy_iterator(), strict=True
    ):
        np.testing.assert_array_equal(a, 255 - b)
        np.testing.assert_array_equal(m, n)
    assert int(augmented.epoch) == 1


# --- where the data is ------------------------------------------------------------------------


def test_the_environment_variable_names_the_folder(data_dir, monkeypatch, no_network):
    monkeypatch.setenv("TFDS_DATA_DIR", str(data_dir))
    assert pets.load("test", image_size=8).cardinality() == 1


def test_the_argument_comes_before_the_variable(data_dir, tmp_path, monkeypatch, no_network):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert pets.load("test", image_size=8, data_dir=data_dir).cardinality() == 1


def test_a_missing_set_without_a_network_says_what_to_do(tmp_path, no_network):
    with pytest.raises(FileNotFoundError) as raised:
        pets.load("train", data_dir=tmp_path)
    text = str(raised.value)
    assert "not on this disk and could not be downloaded (gaierror)" in text
    for way_out in (
        "Connect to a network",
        "TFDS_DATA_DIR",
        "data_dir=",
        "seglib.data.sample.load",
    ):
        assert way_out in text


@pytest.mark.parametrize(
    "error",
    [
        tfds.download.DownloadError("Failed to get url"),
        ConnectionError("Connection reset by peer"),
        tf.errors.UnavailableError(None, None, "Service unavailable"),
        PermissionError("read-only"),
    ],
    ids=lambda e: type(e).__name__,
)
def test_a_download_that_fails_says_the_same(tmp_path, monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [])
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fail)
    with pytest.raises(FileNotFoundError, match=type(error).__name__) as raised:
        pets.load("train", data_dir=tmp_path)
    assert raised.value.__cause__ is error


def test_behind_a_proxy_the_server_need_not_be_known(monkeypatch, no_network, tmp_path):
    def downloads(*_, **__):
        raise tfds.download.DownloadError("reached")

    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", downloads)
    with pytest.raises(FileNotFoundError, match="DownloadError"):
        pets.load("train", data_dir=tmp_path)


# --- damage -----------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [0.6, 0.05])
def test_a_truncated_file_says_which_record_and_what_to_do(data_dir, tmp_path, keep):
    copy = tmp_path / "copy"
    shutil.copytree(data_dir, copy)
    (shard,) = copy.rglob("*-train.tfrecord*")
    data = shard.read_bytes()
    shard.write_bytes(data[: int(keep * len(data))])
    with pytest.raises(pipeline.CorruptDataError) as raised:
        pets.load("trainval", image_size=16, data_dir=copy)
    text = str(raised.value)
    assert text.startswith("Record ") and "cannot be read" in text
    assert "delete its folder 'oxford_iiit_pet'" in text


def test_one_damaged_byte_is_found(data_dir, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(data_dir, copy)
    (shard,) = copy.rglob("*-test.tfrecord*")
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    with pytest.raises(pipeline.CorruptDataError, match="cannot be read"):
        pets.load("test", image_size=16, data_dir=copy)


# --- arguments --------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["val", "Train", "train[:10]", ""])
def test_an_unknown_split(split):
    with pytest.raises(
        ValueError, match="expected one of 'train', 'validation', 'trainval', 'test'"
    ):
        pets.load(split)


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 10, 0.001, 0.999])
def test_a_validation_fraction_that_makes_no_sense(fraction):
    with pytest.raises(ValueError, match=f"validation_fraction is {fraction}, expected"):
        pets.load("train", validation_fraction=fraction)


@pytest.mark.parametrize(
    "split, fraction, expected",
    [
        ("train", 0.1, "train[:90%]"),
        ("validation", 0.1, "train[90%:]"),
        ("train", 0.29, "train[:71%]"),  # 100 * (1 - 0.29) is 70.99999999999999
        ("validation", 0.29, "train[71%:]"),
        ("trainval", 0.29, "train"),
        ("test", 0.29, "test"),
    ],
)
def test_tfds_expressions(split, fraction, expected):
    assert pets.tfds_split(split, fraction) == expected


def test_class_names_are_the_papers_order():
    # The trimap annotations: 1 foreground, 2 background, 3 not classified (the border).
    assert pets.CLASSES == ("pet", "background", "border")


# --- the real set, where it is ----------------------------------------------------------------


def test_real_pets(real_pets):
    examples = list(pets.examples("train", data_dir=real_pets, limit=24))
    for example in examples:
        height, width = example["mask"].shape
        assert example["image"].shape == (height, width, 3)
        assert set(np.unique(example["mask"])) <= {0, 1, 2}
        assert 0 <= example["label"] < 37 and example["species"] in (0, 1)
    # Background is the largest class and stands at the frame; the border is the smallest.
    masks = [e["mask"] for e in examples]
    share = np.mean([[np.mean(m == c) for c in range(3)] for m in masks], axis=0)
    assert share[1] > share[0] > share[2]
    frame = np.concatenate([np.r_[m[0], m[-1], m[:, 0], m[:, -1]] for m in masks])
    assert np.mean(frame == 1) > 0.7
    batch = next(iter(pets.load("test", image_size=32, batch_size=8, data_dir=real_pets)))
    assert batch[0].shape == (8, 32, 32, 3)
