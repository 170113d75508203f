"""seglib's models, and those of tutorials that plain Keras rebuilds."""

import keras
from fcn import walk_through
from keras_calls import ones, timed
from protocol import serve, versions

from seglib.losses import CrossEntropy
from seglib.models import backbone, deeplab_v3_plus, fcn8, unet


def build(model, *, batch, size, classes, policy="float32"):
    """Returns one of `MODELS`, ready to be timed; `policy` is Keras's dtype policy."""
    keras.config.set_dtype_policy(policy)
    made = MODELS[model](classes, (size, size, 3))
    found = timed(
        made,
        LOSSES.get(model, CrossEntropy)(),
        pixels=PIXELS.get(model),
        **{"batch": batch, "size": size, "classes": classes},
    )
    return {**found, "versions": versions("keras", "tensorflow")}


def tutorial(classes, shape):
    """The U-Net of the TensorFlow segmentation tutorial, from Keras's own layers.

    `unet(decoder="tutorial")` is the same network, but seglib computes its frozen backbone faster.
    """
    encoder = keras.applications.MobileNetV2(input_shape=shape, include_top=False, weights=None)
    encoder.trainable = False
    *skips, x = (encoder.get_layer(name).output for name in TUTORIAL_LEVELS)
    upsampling = {
        **{"kernel_size": 3, "strides": 2, "padding": "same"},
        "kernel_initializer": keras.initializers.RandomNormal(0.0, 0.02),
    }
    for filters, skip in zip((512, 256, 128, 64), reversed(skips), strict=True):
        x = keras.layers.Conv2DTranspose(filters, use_bias=False, **upsampling)(x)
        x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
        x = keras.layers.Concatenate()([x, skip])
    upsampling["kernel_initializer"] = "glorot_uniform"
    logits = keras.layers.Conv2DTranspose(classes, dtype="float32", **upsampling)(x)
    return keras.Model(encoder.input, logits)


def frozen_unet(classes, shape):
    """The U-Net as one trains it first: the backbone stays as it is, its statistics too."""
    encoder = backbone("mobilenet_v2", weights=None, input_shape=shape)
    return unet(classes, backbone=encoder, weights="imagenet")  # as if it had these


def fine_tuned_deeplab(classes, shape):
    """DeepLabV3+ as one trains it from ImageNet weights: the backbone's statistics stay."""
    encoder = backbone("resnet50", weights=None, output_stride=16, input_shape=shape)
    model = deeplab_v3_plus(classes, backbone=encoder, weights="imagenet")
    model.unfreeze_backbone()
    return model


TUTORIAL_LEVELS = (
    *(f"block_{number}_expand_relu" for number in (1, 3, 6, 13)),
    "block_16_project",
)
PIXELS = {"tutorial": ones, "walk_through": keras.applications.vgg16.preprocess_input}
LOSSES = {
    "tutorial": lambda: keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    "walk_through": keras.losses.SparseCategoricalCrossentropy,  # its last layer is a softmax
}
MODELS = {
    "tutorial": tutorial,
    "unet": frozen_unet,
    "walk_through": lambda classes, shape: walk_through(False, shape[0]),
    "fcn8": lambda classes, shape: fcn8(classes, backbone="vgg16", weights=None, input_shape=shape),
    "deeplab": lambda classes, shape: deeplab_v3_plus(
        classes, backbone="resnet50", weights=None, input_shape=shape
    ),
    "deeplab_fine_tuned": fine_tuned_deeplab,
}

if __name__ == "__main__":
    serve(build)
