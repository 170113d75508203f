"""The levels P1 to P5 between a backbone and what stands on it."""

import keras


def level_inputs(levels, names=None):
    """Returns `{"P1": keras.Input, …}` for a model that takes a backbone's levels.

    Args:
        levels: the backbone's output, `{"P1": [B, H/2, W/2, C1], …}`.
        names: of the levels that the model takes; `None` stands for all.
    """
    return {
        name: keras.Input(levels[name].shape[1:], dtype=levels[name].dtype, name=name)
        for name in names or levels
    }


def levels_for(decoder, levels):
    """Returns those of a backbone's levels `{"P1": …, "P5": …}` that a decoder takes."""
    return {name: levels[name] for name in decoder.input}


def stride_of(backbone, decoder=None):
    """Measures how many pixels, along each side, a cell of a map stands for.

    Args:
        backbone: `keras.Model` from an image to `{"P1": …, "P5": …}`.
        decoder: `keras.Model` from these levels to a map.

    Returns:
        The stride of the decoder's map; without a decoder, that of P5.
    """
    height, width = (size or 64 for size in backbone.input_shape[1:3])
    shapes = backbone.compute_output_shape((1, height, width, 3))
    if decoder is None:
        return height // shapes["P5"][1]
    return height // decoder.compute_output_shape(levels_for(decoder, shapes))[1]


def level_strides(output_stride):
    """Returns the stride of each of a backbone's levels, `{"P1": 2, …, "P5": output_stride}`."""
    return {f"P{n}": min(2**n, output_stride) for n in range(1, 6)}
