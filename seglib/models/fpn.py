"""Feature pyramid network: every level gets the meaning of the coarsest one."""

import keras

from seglib.models.dilation import level_strides


@keras.saving.register_keras_serializable("seglib")
class FPN(keras.layers.Layer):
    """Carries what the coarse levels know down to the fine ones, all with as many channels.

    From coarse to fine: a 1x1 convolution brings each level to the same width, the sum so far is
    enlarged (each cell repeated) and added. A 3x3 convolution at the end of each level smooths what
    the repeating left. No normalization and no ReLU, as published.

    Args:
        filters: channels of each level.
        min_level: the finest level, 1 to 5.
        max_level: the coarsest level, `min_level` to 7. Those beyond the backbone's P5 halve the
            resolution once more, each.
        output_stride: that of the backbone.
        coarser: how levels beyond 5 are made: `"pool"`, every second cell of the level before (the
            P6 of Mask R-CNN), or `"conv"`, 3x3 convolutions of stride 2 that start from the
            backbone's P5 (RetinaNet).

    Attributes:
        strides: of each level that comes out, `{"P2": 4, …}`.

    Shape:
        `{"P1": [B, H/2, W/2, …], …, "P5": …}` to
        `{"P2": [B, H/4, W/4, filters], …, "P5": [B, H/32, W/32, filters]}`, or the levels asked
        for. Beyond P5 sizes round up.

    Raises:
        ValueError: for levels that do not exist, or another `coarser`.

    Reference:
        Lin et al.: Feature Pyramid Networks for Object Detection, CVPR 2017, section 3;
        `"conv"`: Lin et al.: Focal Loss for Dense Object Detection, ICCV 2017, section 4.
    """

    def __init__(
        self,
        filters=256,
        *,
        min_level=2,
        max_level=5,
        output_stride=32,
        coarser="pool",
        **kwargs,
    ):
        super().__init__(**kwargs)
        if not 1 <= min_level <= 5 or not min_level <= max_level <= 7:
            raise ValueError(
                f"The levels are {min_level} to {max_level}, expected a first of 1 to 5 and a last "
                "from there to 7: the backbone has P1 to P5."
            )
        if coarser not in ("pool", "conv"):
            raise ValueError(f"coarser is {coarser!r}, expected 'pool' or 'conv'.")
        self.filters = filters
        self.min_level = min_level
        self.max_level = max_level
        self.output_stride = output_stride
        self.coarser = coarser
        self.levels = [f"P{n}" for n in range(min_level, min(max_level, 5) + 1)]  # of the backbone
        self.beyond = [f"P{n}" for n in range(6, max_level + 1)]
        strides = level_strides(output_stride)
        self.strides = {level: strides[level] for level in self.levels}
        for n, level in enumerate(self.beyond, start=1):
            self.strides[level] = strides["P5"] * 2**n
        conv = keras.layers.Conv2D
        self.lateral = {level: conv(filters, 1, name=f"lateral_{level}") for level in self.levels}
        self.smooth = {
            level: conv(filters, 3, padding="same", name=f"smooth_{level}") for level in self.levels
        }
        self.enlarge = {
            fine: keras.layers.UpSampling2D(self.strides[coarse] // self.strides[fine])
            for fine, coarse in zip(self.levels, self.levels[1:], strict=False)
        }
        self.reduce = {
            level: conv(filters, 3, strides=2, padding="same", name=f"reduce_{level}")
            for level in self.beyond
            if coarser == "conv"
        }
        self.relu = keras.layers.ReLU()

    def build(self, shapes):
        for level in self.levels:
            self.lateral[level].build(shapes[level])
            self.smooth[level].build((*shapes[level][:3], self.filters))
        below = shapes["P5"]
        for reduce in self.reduce.values():
            reduce.build(below)
            below = reduce.compute_output_shape(below)

    def compute_output_shape(self, shapes):
        found = {level: (*shapes[level][:3], self.filters) for level in self.levels}
        batch, height, width, _ = shapes["P5"]
        for level in self.beyond:
            height, width = (None if n is None else -(-n // 2) for n in (height, width))
            found[level] = (batch, height, width, self.filters)
        return found

    def call(self, features):
        found, total = {}, None
        for level in reversed(self.levels):
            x = self.lateral[level](features[level])  # (B, H/s, W/s, filters)
            total = x if total is None else x + self.enlarge[level](total)
            found[level] = self.smooth[level](total)
        below = features["P5"]
        for level, before in zip(self.beyond, ["P5", *self.beyond], strict=False):
            if self.coarser == "pool":
                found[level] = found[before][:, ::2, ::2]  # (B, H/64, W/64, filters)
            else:
                found[level] = self.reduce[level](below)
                below = self.relu(found[level])
        return {level: found[level] for level in self.strides}

    def get_config(self):
        return super().get_config() | {
            "filters": self.filters,
            "min_level": self.min_level,
            "max_level": self.max_level,
            "output_stride": self.output_stride,
            "coarser": self.coarser,
        }
