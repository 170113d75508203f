"""Every semantic model of the book: a backbone, a decoder and a head."""

import keras

from seglib.core.advice import check_truth
from seglib.core.checks import check_num_classes
from seglib.models.backbones import backbone as build_backbone
from seglib.models.backbones import freeze_statistics, unfreeze
from seglib.models.guarded import Guarded
from seglib.models.layers import CropTo, PadToMultiple, Upsample
from seglib.models.levels import level_inputs, levels_for


def segmentation_head(features, num_classes, *, upsampling=1):
    """Builds the head that turns features into one logit per class and pixel.

    Args:
        features: the decoder's output, `[B, H/upsampling, W/upsampling, F]`.
        num_classes: number of classes `C`.
        upsampling: stride of the features; 2 if they come at half the picture's size.

    Returns:
        `keras.Model` from that map to logits `[B, H, W, C]`, float32.
    """
    check_num_classes(num_classes)
    x = keras.Input(features.shape[1:], dtype=features.dtype, name="features")
    logits = keras.layers.Conv2D(num_classes, 1, dtype="float32", name="classify")(x)
    logits = Upsample(upsampling, dtype="float32", name="upsample")(logits)  # (B, H, W, C)
    return keras.Model(x, logits, name="head")


def prepare_backbone(backbone, *, weights, alpha, input_shape, freeze, output_stride=32):
    """Returns the backbone and the pictures' shape that a builder's arguments stand for.

    Args:
        backbone: a name, built for `input_shape` rounded up to multiples of 32, or a `keras.Model`,
            whose own shape is taken instead.
        weights, alpha, output_stride: see `seglib.models.backbone`.
        input_shape: `(H, W, 3)` of the pictures.
        freeze: whether it does not train; `None` freezes one that has pretrained weights.
    """
    if isinstance(backbone, str):
        padded_shape = PadToMultiple().compute_output_shape((None, *input_shape))[1:]
        backbone = build_backbone(
            backbone,
            weights=weights,
            alpha=alpha,
            output_stride=output_stride,
            input_shape=padded_shape,
        )
    else:
        input_shape = backbone.input_shape[1:]
    backbone.trainable = not (weights is not None if freeze is None else freeze)
    return backbone, input_shape


def check_strides(backbone):
    """Raises a ValueError if a level does not halve the one before, as decoders expect."""
    height, width = (size or 64 for size in backbone.input_shape[1:3])
    if height % 32 or width % 32:
        return  # `SegmentationModel` refuses these sizes
    for level, shape in backbone.compute_output_shape((1, height, width, 3)).items():
        expected = 2 ** int(level[1:])
        if (shape[1] * expected, shape[2] * expected) != (height, width):
            raise ValueError(
                f"{level} of the backbone has {shape[1]} x {shape[2]} cells for a picture of "
                f"{height} x {width} pixels, expected a stride of {expected}. A dilated backbone "
                "suits deeplab_v3_plus; here make it with output_stride=32."
            )


@keras.saving.register_keras_serializable("seglib")
class SegmentationModel(Guarded, keras.Model):
    """A backbone, a decoder and a head as one trainable model.

    The backbone's BatchNorm layers keep the statistics of their pretraining, which a few hundred
    pictures would ruin. So fine-tune with `unfreeze_backbone()`: `backbone.trainable = True` would
    let them train, too.

    Args:
        backbone: `keras.Model` from an image to `{"P1": …, "P5": …}`; see `seglib.models.backbone`.
        decoder: `keras.Model` from these levels, or some of them, to one feature map.
        head: `keras.Model` from that feature map to logits; see `segmentation_head`.
        train_statistics: let the backbone's BatchNorm statistics follow the data after all, as
            a backbone that starts from random numbers needs.
        input_shape: `(H, W, 3)`, each of H and W a number or `None`; by default the backbone's.
            Pictures are padded to multiples of 32 for the backbone, and the logits are cut again.

    Raises:
        ValueError: if the backbone was built for sizes that are no multiples of 32.

    Shape:
        Image `[B, H, W, 3]`, values 0 to 255, to logits `[B, H, W, C]`, float32.

    Example:
        >>> network = backbone("efficientnet_lite0")
        >>> decoder = unet_decoder(network.output)
        >>> head = segmentation_head(decoder.output, 3, upsampling=2)
        >>> model = SegmentationModel(network, decoder, head)
    """

    def __init__(
        self, backbone, decoder, head, *, train_statistics=False, input_shape=None, **kwargs
    ):
        height, width = backbone.input_shape[1:3]
        if (height or 0) % 32 or (width or 0) % 32:
            raise ValueError(
                f"The backbone was built for pictures of {height} x {width} pixels, expected "
                "multiples of 32 or None. Pass the size of the pictures as input_shape here."
            )
        image = keras.Input(input_shape or backbone.input_shape[1:], name="image")
        padded = PadToMultiple(name="pad")(image)
        if not train_statistics:
            freeze_statistics(backbone)
        features = decoder(levels_for(decoder, backbone(padded)))
        # A layer casts what it takes: under mixed precision the crop must not round the logits.
        logits = CropTo(name="crop", dtype="float32")([head(features), image])
        super().__init__(image, logits, **kwargs)
        self.backbone = backbone
        self.decoder = decoder
        self.head = head
        self.train_statistics = train_statistics

    def check_data(self, x, y):
        check_truth(x, y)

    def unfreeze_backbone(self, first=None):
        """Makes the backbone trainable; compile again afterwards.

        Its BatchNorm layers stay as they are, scale and shift included, unless the model trains
        their statistics. The first layers see the largest maps: leaving them frozen saves time, and
        they hold edges and colors that suit any picture.

        Args:
            first: name of the first layer that trains; those before it stay frozen. `None`
                trains all.

        Raises:
            ValueError: if no layer has that name.
        """
        unfreeze(self.backbone, first, train_statistics=self.train_statistics)

    def after_backbone(self, levels=None):
        """Returns decoder and head as a model of their own, which shares their weights.

        What a frozen backbone makes of the pictures can be stored once, to train this model on.

        Args:
            levels: names of the levels in its input; `None` takes those that the decoder reads.

        Returns:
            `keras.Model` from `{"P2": …, "P5": …}` to logits, for pictures whose height and width
            are multiples of 32.

        Example:
            >>> rest = model.after_backbone()
            >>> logits = rest(levels_for(rest, model.backbone(images)))
        """
        maps = level_inputs(self.backbone.output, levels or self.decoder.input)
        return keras.Model(maps, self.head(self.decoder(levels_for(self.decoder, maps))))

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        return {
            "name": self.name,
            "trainable": self.trainable,
            "backbone": serialize(self.backbone),
            "decoder": serialize(self.decoder),
            "head": serialize(self.head),
            "train_statistics": self.train_statistics,
            "input_shape": self.input_shape[1:],
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        parts = {
            part: keras.saving.deserialize_keras_object(config[part], custom_objects)
            for part in ("backbone", "decoder", "head")
        }
        return cls(**(config | parts))
