"""The drawn pets on disk: TFDS's schema, lossless masks, and preparations that go wrong."""

import io
import json
import os
import time

import numpy as np
import pytest
from PIL import Image

from seglib.data import drawing, sample

SMALL = {"train": 20, "test": 8, "size": 64, "seed": 3}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def data_dir(cache):
    return sample.prepare(**SMALL, cache_dir=cache)


@pytest.fixture(scope="module")
def drawn():
    return [drawing.draw(3, index, size=64) for index in range(28)]


# ----------------------------------------------------------------------------------- contents


def test_records_hold_what_was_drawn(data_dir, drawn):
    found = [
        *sample.examples("trainval", data_dir=data_dir),
        *sample.examples("test", data_dir=data_dir),
    ]
    assert len(found) == 28
    for example, picture in zip(found, drawn, strict=True):
        np.testing.assert_array_equal(example["mask"] + 1, picture.trimap)
        np.testing.assert_array_equal(example["instances"], picture.instances)
        np.testing.assert_array_equal(example["boxes"], picture.boxes)
        np.testing.assert_array_equal(example["instance_species"], picture.species)
        assert example["label"] == picture.label
        assert example["species"] == picture.species[picture.main]
        assert example["file_name"] == picture.file_name
        difference = example["image"].astype(float) - picture.image
        assert np.abs(difference).mean() < 8  # JPEG


def test_head_boxes_stand_in_train_only(data_dir, drawn):
    for example, picture in zip(
        sample.examples("trainval", data_dir=data_dir), drawn[:20], strict=True
    ):
        np.testing.assert_array_equal(example["head_bbox"], picture.head_boxes[picture.main])
    for example in sample.examples("test", data_dir=data_dir):
        assert not example["head_bbox"].any()


def test_schema_is_the_real_sets(data_dir):
    """Written by hand from the `features.json` of TFDS `oxford_iiit_pet` 4.0.0."""
    version = data_dir / "oxford_iiit_pet" / "4.0.0"
    stored = json.loads((version / "features.json").read_text())["featuresDict"]["features"]

    def image(channels, **more):
        shape = {"dimensions": ["-1", "-1", str(channels)]}
        return {"dtype": "uint8", "shape": shape, **more}

    expected = {
        "file_name": ("text_feature.Text", "text", {}),
        "head_bbox": (
            "bounding_boxes.BBoxFeature",
            "boundingBox",
            {"bboxFormat": "REL_YXYX", "dtype": "float32", "shape": {"dimensions": ["4"]}},
        ),
        "image": ("image_feature.Image", "image", image(3, encodingFormat="jpeg")),
        "label": ("class_label_feature.ClassLabel", "classLabel", {"numClasses": "37"}),
        "segmentation_mask": ("image_feature.Image", "image", image(1, useColormap=True)),
        "species": ("class_label_feature.ClassLabel", "classLabel", {"numClasses": "2"}),
    }
    assert set(stored) == {*expected, "instances"}
    for key, (kind, field, content) in expected.items():
        assert stored[key][field] == content
        assert stored[key]["pythonClassName"] == f"tensorflow_datasets.core.features.{kind}"


def test_tfds_opens_the_folder(data_dir):
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(data_dir / "oxford_iiit_pet" / "4.0.0")
    assert builder.info.full_name == "oxford_iiit_pet/4.0.0"
    assert {name: split.num_examples for name, split in builder.info.splits.items()} == {
        "train": 20,
        "test": 8,
    }
    assert builder.info.features["label"].int2str(12) == "english_cocker_spaniel"
    record = next(iter(builder.as_dataset(split="test")))
    assert record["segmentation_mask"].shape[-1] == 1
    assert record["instances"]["mask"].shape[0] == record["instances"]["species"].shape[0]


def test_files_are_jpeg_and_png(drawn):
    record = drawing.encode(drawn[0])
    assert Image.open(io.BytesIO(record["image"])).format == "JPEG"
    assert Image.open(io.BytesIO(record["segmentation_mask"])).format == "PNG"


# ------------------------------------------------------------------------------------ reading


def test_load_gives_batches_of_pictures_and_class_ids(data_dir):
    batches = list(sample.load("trainval", image_size=(32, 48), batch_size=8, data_dir=data_dir))
    assert [image.shape for image, _ in batches] == [(8, 32, 48, 3), (8, 32, 48, 3), (4, 32, 48, 3)]
    for image, mask in batches:
        assert image.dtype == mask.dtype == "uint8"
        assert mask.shape == image.shape[:3]
        assert set(np.unique(mask)) == {0, 1, 2}


def test_train_and_validation_share_no_picture(data_dir):
    names = {
        split: {e["file_name"] for e in sample.examples(split, data_dir=data_dir)}
        for split in ("train", "validation", "trainval", "test")
    }
    assert {split: len(found) for split, found in names.items()} == {
        "train": 18,
        "validation": 2,
        "trainval": 20,
        "test": 8,
    }
    assert names["train"] | names["validation"] == names["trainval"]
    assert not names["trainval"] & names["test"]


def test_examples_can_be_limited(data_dir):
    assert len(list(sample.examples("train", data_dir=data_dir, limit=3))) == 3


def test_unknown_split_and_missing_folder_are_named(data_dir, tmp_path):
    with pytest.raises(ValueError, match="split is 'dev'"):
        sample.load("dev", data_dir=data_dir)
    with pytest.raises(FileNotFoundError, match=r"expected what sample.prepare\(\) returns"):
        sample.load("train", data_dir=tmp_path)


# -------------------------------------------------------------------------------- preparation


def test_a_prepared_set_is_not_drawn_again(data_dir, cache, monkeypatch, capsys):
    def refuse(*args, **kwargs):
        raise AssertionError("drew again")

    monkeypatch.setattr(drawing, "draw", refuse)
    assert sample.prepare(**SMALL, cache_dir=cache) == data_dir
    assert capsys.readouterr().out == ""


def test_another_set_has_another_folder_and_says_so(data_dir, cache, capsys):
    other = sample.prepare(**{**SMALL, "train": 1, "test": 1}, cache_dir=cache)
    assert other != data_dir
    printed = capsys.readouterr().out
    assert printed.startswith("Drawing 2 pets (once")
    assert printed.count("\n") == 1


def fail_after(count):
    """`drawing.encode` that is interrupted after `count` pictures."""
    real, done = drawing.encode, []

    def encode(picture):
        done.append(picture)
        if len(done) > count:
            raise KeyboardInterrupt
        return real(picture)

    return encode


def test_an_interrupted_preparation_leaves_nothing_and_can_be_repeated(tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(drawing, "encode", fail_after(5))
        sample.prepare(**SMALL, cache_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []
    done = sample.prepare(**SMALL, cache_dir=tmp_path)
    assert len(list(sample.examples("trainval", data_dir=done))) == 20


def test_what_a_killed_preparation_left_is_removed_later(tmp_path):
    old, recent = tmp_path / ".drawing-old", tmp_path / ".drawing-recent"
    for folder in (old, recent):
        folder.mkdir()
        (folder / "half").write_bytes(b"x")
    yesterday = time.time() - 86_400
    os.utime(old, (yesterday, yesterday))
    sample.prepare(train=1, test=1, size=64, cache_dir=tmp_path)
    assert not old.exists()
    assert recent.exists()  # perhaps another process is writing it at this moment


def test_a_damaged_folder_is_replaced(tmp_path):
    done = sample.prepare(train=1, test=1, size=64, cache_dir=tmp_path)
    (done / "oxford_iiit_pet" / "4.0.0" / "dataset_info.json").unlink()
    assert sample.prepare(train=1, test=1, size=64, cache_dir=tmp_path) == done
    assert len(list(sample.examples("test", data_dir=done))) == 1


def test_of_two_simultaneous_preparations_the_first_one_stays(tmp_path, monkeypatch):
    real, finished = sample._write, []

    def overtaken(folder, *arguments):
        real(folder, *arguments)
        if not finished:  # while this one writes, another process starts and finishes
            finished.append(True)
            finished.append(sample.prepare(train=2, test=1, size=64, cache_dir=tmp_path))

    monkeypatch.setattr(sample, "_write", overtaken)
    done = sample.prepare(train=2, test=1, size=64, cache_dir=tmp_path)
    assert done == finished[1]
    assert [p.name for p in tmp_path.iterdir()] == [done.name]
    assert len(list(sample.examples("trainval", data_dir=done))) == 2


def test_several_processes_draw_the_same_as_one(monkeypatch):
    alone = [drawing.encode(drawing.draw(4, number, size=64)) for number in range(3, 8)]
    monkeypatch.setattr(sample, "_PARALLEL_FROM", 1)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    together = list(sample._encoded(4, range(3, 8), 64))
    assert [r["image"] for r in together] == [r["image"] for r in alone]
    assert [r["segmentation_mask"] for r in together] == [r["segmentation_mask"] for r in alone]


def test_a_failing_drawing_process_is_reported(monkeypatch):
    monkeypatch.setattr(sample, "_PARALLEL_FROM", 1)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(drawing, "__name__", "seglib.data.no_such_module")
    with pytest.raises(RuntimeError, match="stopped early"):
        list(sample._encoded(0, range(4), 64))


@pytest.mark.parametrize("sizes", [{"train": 0}, {"test": 0}], ids=["train", "test"])
def test_an_empty_split_is_refused(sizes, tmp_path):
    with pytest.raises(ValueError, match="at least 1 picture"):
        sample.prepare(**sizes, cache_dir=tmp_path)


def test_cache_directory_can_be_chosen(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("SEGLIB_CACHE_DIR", raising=False)
    assert sample.default_cache_dir() == tmp_path / "xdg" / "seglib"
    monkeypatch.setenv("SEGLIB_CACHE_DIR", str(tmp_path / "mine"))
    assert sample.default_cache_dir() == tmp_path / "mine"
