"""Data sets without tf.data's tuner."""

import pytest

from seglib.data import pets, sample, scenes, tfrecord
from seglib.data.pipeline import without_tuner

tf = pytest.importorskip("tensorflow")


@pytest.fixture
def numbers():
    return tf.data.Dataset.range(7).batch(2)


def test_the_elements_stay(numbers):
    found = without_tuner(numbers)
    assert found.options().autotune.enabled is False
    assert found.element_spec == numbers.element_spec and len(found) == len(numbers)
    assert [n.tolist() for n in found.as_numpy_iterator()] == [[0, 1], [2, 3], [4, 5], [6]]


def test_other_options_stay(numbers):
    options = tf.data.Options()
    options.deterministic = False
    found = without_tuner(numbers.with_options(options)).options()
    assert found.deterministic is False and found.autotune.enabled is False


@pytest.fixture
def passes(monkeypatch):
    """Whether each pass over a data set that begins in the test has a tuner."""
    from tensorflow.python.data.ops.iterator_ops import OwnedIterator

    seen, begin = [], OwnedIterator.__init__

    def watched(self, dataset=None, *args, **kwargs):
        seen.append(dataset.options().autotune.enabled is not False)
        begin(self, dataset, *args, **kwargs)

    monkeypatch.setattr(OwnedIterator, "__init__", watched)
    return seen


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return sample.prepare(train=4, test=2, size=64, cache_dir=tmp_path_factory.mktemp("pets"))


def read_shards(folder, tmp_path):
    pairs = ((e["image"], e["mask"]) for e in sample.examples("test", data_dir=folder))
    tfrecord.write(pairs, tmp_path / "pairs")
    return tfrecord.load(tmp_path / "pairs", image_size=32)


READERS = {
    "drawn pets": lambda folder, _: sample.load("train", data_dir=folder, image_size=32),
    "examples of them": lambda folder, _: sample.examples("train", data_dir=folder),
    "their bytes": lambda folder, _: pets.fingerprint(sample.records("test", data_dir=folder)),
    "real pets": lambda folder, _: pets.load("train", data_dir=folder, image_size=32),
    "examples of real pets": lambda folder, _: pets.examples("train", data_dir=folder),
    "scenes": lambda folder, _: scenes.load("train", data_dir=folder, image_size=32),
    "pasted scenes": lambda folder, _: scenes.load(
        "train", source="pasted", data_dir=folder, image_size=32
    ),
    "shards": read_shards,
}


@pytest.mark.parametrize("reader", READERS)
def test_seglib_reads_without_it(reader, folder, tmp_path, passes):
    assert list(READERS[reader](folder, tmp_path))
    assert passes and not any(passes)
