"""DeepLabV3+ of the TensorFlow Model Garden (tf-models-official), after its Pascal VOC recipe."""

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"

import tensorflow as tf
from keras_calls import ones, timed
from official.vision.configs import backbones, common, decoders, semantic_segmentation
from official.vision.modeling import factory
from protocol import serve, versions


def build(*, batch, size, classes, separable=False):
    config = semantic_segmentation.SemanticSegmentationModel(
        num_classes=classes,
        input_size=[size, size, 3],
        backbone=backbones.Backbone(
            type="dilated_resnet",
            dilated_resnet=backbones.DilatedResNet(model_id=50, output_stride=16),
        ),
        decoder=decoders.Decoder(
            type="aspp",
            aspp=decoders.ASPP(
                level=4, dilation_rates=[6, 12, 18], use_depthwise_convolution=separable
            ),
        ),
        head=semantic_segmentation.SegmentationHead(
            level=4,
            num_convs=2,
            use_depthwise_convolution=separable,
            feature_fusion="deeplabv3plus",
            low_level=2,
            low_level_num_filters=48,
        ),
        # One device needs no statistics of others, and the layer for them is slower.
        norm_activation=common.NormActivation(use_sync_bn=False),
    )
    specs = tf.keras.layers.InputSpec(shape=(None, size, size, 3))
    net = factory.build_segmentation_model(input_specs=specs, model_config=config)
    pictures = tf.keras.Input((size, size, 3))
    # Its loss enlarges the logits to the label map, so the model that is timed does.
    logits = tf.image.resize(net(pictures)["logits"], (size, size))
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    found = timed(
        *(tf.keras.Model(pictures, logits), loss),
        **{"batch": batch, "size": size, "classes": classes, "pixels": ones},
    )
    return {**found, "versions": versions("tf-models-official", "tf_keras", "tensorflow")}


if __name__ == "__main__":
    serve(build)
