"""Every decoder on several backbones: one training step at an odd size, saved and loaded."""

import functools

import keras
import numpy as np
import pytest

from seglib.losses import CrossEntropy
from seglib.models import (
    SegmentationModel,
    aspp,
    backbone,
    dilate,
    fcn_decoder,
    fpn,
    fusion_decoder,
    jpu,
    segmentation_head,
    stride_of,
    unet_decoder,
)

to_numpy = keras.ops.convert_to_numpy
pytestmark = pytest.mark.no_cover  # the same lines as in other tests, again and again
TENSORFLOW = keras.backend.backend() == "tensorflow"

HEIGHT, WIDTH = 33, 47
BACKBONES = {"small": 0.25, "efficientnet_lite0": 1.0, "mobilenet_v2": 0.35, "vgg16": 1.0}
BACKBONES |= {"resnet50": 1.0, "efficientnet_b0": 1.0}
partial = functools.partial
FUSION = partial(fusion_decoder, filters=8, low_level_filters=4)
NARROW_ASPP = partial(aspp, filters=8, dropout=0.0)
NARROW_FPN = partial(fpn, filters=8)
# The output stride that each decoder needs of its backbone, and how it is made.
DECODERS = {
    "unet": (32, partial(unet_decoder, filters=(8,) * 4, skip_filters=(4,) * 4)),
    "fcn8": (32, partial(fcn_decoder, num_classes=3, filters=8, kernel_size=3, dropout=0.0)),
    "deeplab": (16, partial(FUSION, context=NARROW_ASPP, output_stride=16)),
    "pyramid_fusion": (
        16,
        partial(FUSION, fusion="pyramid_fusion", pyramid=NARROW_FPN, level="P3", output_stride=16),
    ),
    "panoptic_fpn_fusion": (
        32,
        partial(FUSION, fusion="panoptic_fpn_fusion", pyramid=NARROW_FPN, level="P2"),
    ),
    "jpu": (
        32,
        partial(FUSION, fusion=None, pyramid=partial(jpu, filters=8), context=NARROW_ASPP),
    ),
    "no_fusion": (16, partial(FUSION, fusion=None, context=NARROW_ASPP, output_stride=16)),
}
# What a decoder does depends on the strides and widths of the levels, not on what made them: each
# meets two backbones every day. The nightly run has all pairs. XLA compiles each model anew, for
# ten seconds and more, so on other backends than TensorFlow each decoder meets one backbone.
EVERY_DAY = ("small", "efficientnet_lite0")


def pairs():
    for name in BACKBONES if TENSORFLOW else ["small"]:
        for decoder in DECODERS:
            marks = [] if name in EVERY_DAY else pytest.mark.rare
            yield pytest.param(name, decoder, marks=marks)


@pytest.fixture(scope="module")
def build():
    """A function that returns a model; each backbone is built once an output stride."""
    made = {}

    def network(name, output_stride):
        if (name, output_stride) not in made:
            if output_stride == 32:
                made.clear()  # those of the backbone before
                keras.utils.set_random_seed(0)
                size = (64, 64, 3)  # the next multiples of 32
                made[name, 32] = backbone(
                    name, weights=None, alpha=BACKBONES[name], input_shape=size
                )
            else:
                made[name, output_stride] = dilate(network(name, 32), output_stride)
        return made[name, output_stride]

    def get(name, decoder):
        output_stride, make = DECODERS[decoder]
        features = network(name, output_stride)
        decoder = make(features.output)
        stride = stride_of(features, decoder)
        head = segmentation_head(decoder.output, 3, upsampling=stride)
        shape = (HEIGHT, WIDTH, 3)
        return SegmentationModel(features, decoder, head, train_statistics=True, input_shape=shape)

    return get


def check_whole_file(model, images, folder):
    """Saved and loaded, the model says the same."""
    logits = to_numpy(model(images))
    assert logits.shape == (len(images), HEIGHT, WIDTH, 3) and np.isfinite(logits).all()
    path = folder / "model.keras"
    model.save(path)
    copy = keras.saving.load_model(path, compile=False)
    path.unlink()  # the largest has 100 MB
    np.testing.assert_array_equal(to_numpy(copy(images)), logits)


def check_weights_file(model, folder):
    """What was overwritten in decoder and head comes back from the file."""
    path = folder / "model.weights.h5"
    variables = model.decoder.variables + model.head.variables
    before = [to_numpy(v).copy() for v in variables]
    model.save_weights(path)
    for variable in variables:
        variable.assign(keras.ops.zeros_like(variable))
    model.load_weights(path)
    path.unlink()
    for variable, value in zip(variables, before, strict=True):
        np.testing.assert_array_equal(to_numpy(variable), value)


@pytest.mark.parametrize("name, decoder", list(pairs()))
def test_a_training_step_and_saving(name, decoder, build, tmp_path):
    model = build(name, decoder)
    assert model.output_shape == (None, HEIGHT, WIDTH, 3)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, HEIGHT, WIDTH, 3), dtype="uint8")
    masks = images.argmax(-1).astype("uint8")
    before = [to_numpy(v).copy() for v in model.trainable_variables]
    # One step is not worth the time that TensorFlow takes to trace a graph; JAX is the reverse.
    model.compile(keras.optimizers.SGD(0.01), CrossEntropy(), run_eagerly=TENSORFLOW)
    assert np.isfinite(model.train_on_batch(images, masks))
    # The step is the gradient times 0.01: if it is finite, so are they.
    after = [to_numpy(v) for v in model.trainable_variables]
    assert all(np.isfinite(value).all() for value in after)
    moved = [not np.array_equal(a, b) for a, b in zip(before, after, strict=True)]
    count = len(model.backbone.trainable_variables)
    if (
        decoder == "fcn8"
    ):  # its scores start at zero: in the first step only they move, and the last bias
        assert sum(moved[:count]) == 0 and sum(moved[count:]) == 7
    else:
        assert all(moved[count:])
        # EfficientNet leaves out blocks at random in training; these keep their weights.
        assert sum(moved[:count]) > count / 2
    # It takes seconds to make a large backbone from a file: once for each will do, and for the
    # other decoders, which all come whole with the small one, a file of the weights.
    if name == "small" or decoder == "deeplab":
        check_whole_file(model, images[:1], tmp_path)
    else:
        check_weights_file(model, tmp_path)
