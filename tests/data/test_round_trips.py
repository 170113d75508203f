"""What goes into a file comes out of it: pictures and label maps of any size and content."""

import io
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from seglib.data import folder, label_maps, tfrecord

sides = st.tuples(st.integers(1, 23), st.integers(1, 23))


@st.composite
def examples(draw):
    """A picture of noise, and a label map in which any label may stand anywhere."""
    size = draw(sides)
    image = np.random.default_rng(draw(st.integers(0, 2**32 - 1))).integers(0, 256, (*size, 3))
    return image.astype("uint8"), draw(hnp.arrays("uint8", size))


def check(found, expected):
    for example, (image, mask) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(example["image"], image)
        np.testing.assert_array_equal(example["mask"], mask)


@given(pairs=st.lists(examples(), min_size=1, max_size=4), shards=st.integers(1, 4))
def test_tfrecord_files(pairs, shards):
    shards = min(shards, len(pairs))
    with tempfile.TemporaryDirectory() as path:
        files = tfrecord.write(pairs, Path(path) / "pairs", shards=shards, image_format="png")
        check(
            tfrecord.examples(Path(path) / "pairs"),
            [pair for first in range(shards) for pair in pairs[first::shards]],  # in turn
        )
        for first, file in enumerate(files):
            check(tfrecord.examples(file), pairs[first::shards])
        assert tfrecord.verify(Path(path) / "pairs") == (len(pairs), [])


@given(pairs=st.lists(examples(), min_size=1, max_size=4), palette=st.booleans())
def test_folders(pairs, palette):
    with tempfile.TemporaryDirectory() as path:
        images, masks = Path(path) / "images", Path(path) / "masks"
        for part in (images, masks):
            part.mkdir()
        for number, (image, mask) in enumerate(pairs):
            Image.fromarray(image).save(images / f"{number}.png")
            mask = Image.fromarray(mask)
            if palette:
                mask.putpalette(label_maps.voc_colors().tobytes())
            mask.save(masks / f"{number}.png")
        check(folder.examples(images, masks), pairs)


@given(pair=examples(), copies=st.integers(1, 5), batch_size=st.integers(1, 6), seed=st.integers(0))
def test_batches_hold_each_pair_once(pair, copies, batch_size, seed):
    """At the pictures' own size nothing is resampled, whatever that size is."""
    image, mask = pair
    pairs = [(image, np.roll(mask, number)) for number in range(copies)]
    with tempfile.TemporaryDirectory() as path:
        (file,) = tfrecord.write(pairs, Path(path) / "pairs", image_format="png")
        batches = tfrecord.load(
            file, image_size=mask.shape, batch_size=batch_size, seed=seed % 2**31
        )
        images, masks = (
            np.concatenate(part) for part in zip(*batches.as_numpy_iterator(), strict=True)
        )
    assert (images == image).all() and len(images) == copies
    assert sorted(m.tobytes() for m in masks) == sorted(m.tobytes() for _, m in pairs)


@given(data=st.data(), size=sides)
@pytest.mark.parametrize("labels", [label_maps.VOC, label_maps.CITYSCAPES], ids=["VOC", "CS"])
def test_painted_label_maps(labels, data, size):
    known = st.sampled_from([*range(len(labels.colors)), label_maps.IGNORE_LABEL])
    mask = data.draw(hnp.arrays("uint8", size, elements=known))
    buffer = io.BytesIO()
    Image.fromarray(labels.to_color(mask)).save(buffer, "PNG")
    np.testing.assert_array_equal(labels.from_color(np.array(Image.open(buffer))), mask)


@given(order=st.permutations(range(256)), mask=hnp.arrays("uint8", sides))
def test_renamed_labels(order, mask):
    there = dict(enumerate(order))
    back = {new: old for old, new in there.items()}
    renamed = label_maps.replace(mask, there)
    np.testing.assert_array_equal(renamed, np.array(order)[mask])
    np.testing.assert_array_equal(label_maps.replace(renamed, back), mask)
