"""The region proposal network: is there an object near each anchor, and where exactly?"""

import keras
from keras import ops


@keras.saving.register_keras_serializable("seglib")
class RPN(keras.layers.Layer):
    """Looks at each cell of each level and says something about the anchors that stand there.

    One 3x3 convolution, then two of 1x1: one number an anchor for "there is an object", four for
    how the anchor must move and grow to fit it. All levels share the weights.

    Args:
        anchors_per_cell: how many there are.
        filters: channels of the 3x3 convolution.

    Shape:
        `{"P2": [B, H/4, W/4, F], …}` to objectness `[B, A]`, logits, and deltas `[B, A, 4]`, both
        float32: the levels in the order of the dict, each row by row, as `anchors` has them.

    Reference:
        Ren et al.: Faster R-CNN, NIPS 2015, section 3.1, with one logit an anchor in place of two
        (its footnote 3); on a pyramid: Lin et al.: Feature Pyramid Networks for Object Detection,
        CVPR 2017, section 4.1.
    """

    def __init__(self, anchors_per_cell, *, filters=256, **kwargs):
        super().__init__(**kwargs)
        self.anchors_per_cell = anchors_per_cell
        self.filters = filters
        conv = keras.layers.Conv2D
        small = keras.initializers.RandomNormal(stddev=0.01)
        self.shared = conv(filters, 3, padding="same", activation="relu", name="shared")
        self.objectness = conv(
            anchors_per_cell, 1, kernel_initializer=small, dtype="float32", name="objectness"
        )
        self.deltas = conv(
            4 * anchors_per_cell, 1, kernel_initializer=small, dtype="float32", name="deltas"
        )

    def build(self, shapes):
        shape = next(iter(shapes.values()))
        self.shared.build(shape)
        for layer in (self.objectness, self.deltas):
            layer.build((*shape[:3], self.filters))

    def compute_output_shape(self, shapes):
        batch = next(iter(shapes.values()))[0]
        cells = sum(height * width for _, height, width, _ in shapes.values())
        number = cells * self.anchors_per_cell
        return (batch, number), (batch, number, 4)

    def call(self, features):
        objectness, deltas = [], []
        for level in features.values():
            x = self.shared(level)  # (B, H/s, W/s, filters)
            number = x.shape[1] * x.shape[2] * self.anchors_per_cell
            objectness.append(ops.reshape(self.objectness(x), (-1, number)))
            deltas.append(ops.reshape(self.deltas(x), (-1, number, 4)))
        return ops.concatenate(objectness, axis=1), ops.concatenate(deltas, axis=1)

    def get_config(self):
        return super().get_config() | {
            "anchors_per_cell": self.anchors_per_cell,
            "filters": self.filters,
        }
