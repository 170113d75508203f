"""What a model costs: parameters and multiply-adds, layer by layer or part by part."""

import contextlib
import functools
import math
from typing import NamedTuple
from unittest import mock

import keras


class LayerCost(NamedTuple):
    """What one call of a layer costs."""

    part: str  # "backbone", "decoder" or "head"; in a model without these, the model's name
    layer: str
    output_shape: tuple[int, ...]  # for one picture, without the batch
    parameters: int  # number of its weights; 0 in a second call of the same layer
    multiply_adds: int  # products of a weight and an input value that the call sums up


class PartCost(NamedTuple):
    """What one part of a model costs, all its layers together."""

    part: str
    parameters: int
    multiply_adds: int


def cost(model, *, input_shape=None):
    """Counts parameters and multiply-adds of each part of a model, for one picture.

    Args:
        model: a `SegmentationModel`, or any built `keras.Model`, which then is its own only part.
        input_shape: `(H, W, 3)` of the picture, needed where the model takes any size.

    Returns:
        A list of `PartCost`, in the order of the computation. Their parameters sum up to
        `model.count_params()`.

    Raises:
        ValueError: if the size of the picture is not known.

    Example:
        >>> for row in cost(unet(3, weights=None), input_shape=(128, 128, 3)):
        ...     print(row.part, row.parameters, row.multiply_adds)
    """
    work = dict.fromkeys(parts(model), 0)
    for row in layer_costs(model, input_shape=input_shape):
        work[row.part] += row.multiply_adds
    return [PartCost(name, part.count_params(), work[name]) for name, part in parts(model).items()]


def layer_costs(model, *, input_shape=None):
    """Counts parameters and multiply-adds of each convolution and dense layer, for one picture.

    The model runs once on shapes alone, so layers inside other layers are found as well. As in
    published tables, only products with learned weights count, also those with the zeros of a
    padded frame; biases, normalization, activations, pooling and fixed interpolation do not.

    Args:
        model: any built `keras.Model`.
        input_shape: as in `cost`.

    Returns:
        A list of `LayerCost`, one per call of a layer of a kind in `COUNTED`, in their order.

    Raises:
        ValueError: if the size of the picture is not known.
    """
    owner = {id(v): name for name, part in parts(model).items() for v in part.variables}
    rows, known = [], set()
    for layer, inputs, outputs in recorded_calls(model, input_shape):
        parameters = 0 if id(layer) in known else layer.count_params()
        known.add(id(layer))
        part = owner.get(id(layer.variables[0]), model.name)
        count = next(f for kind, f in COUNTED.items() if isinstance(layer, kind))
        work = count(layer, inputs, outputs)
        rows.append(LayerCost(part, layer.name, outputs[1:], parameters, work))
    return rows


def parts(model):
    """Returns the parts of a model by their names."""
    names = [name for name in ("backbone", "decoder", "head") if hasattr(model, name)]
    return {name: getattr(model, name) for name in names} or {model.name: model}


def positions(layer, shape):
    """Returns height times width of a feature map."""
    first = 1 if layer.data_format == "channels_last" else 2
    return math.prod(shape[first : first + 2])


def convolution(layer, inputs, outputs):
    # Each output pixel takes all weights of the kernels once (those of its group, and then the
    # kernel's shape holds the channels of one group).
    kernels = [weight.shape for weight in layer.weights if len(weight.shape) > 1]
    return positions(layer, outputs) * sum(map(math.prod, kernels))


def transposed(layer, inputs, outputs):
    # Each input pixel writes the whole kernel into the output.
    return positions(layer, inputs) * math.prod(layer.kernel.shape)


def dense(layer, inputs, outputs):
    return math.prod(inputs[1:-1]) * math.prod(layer.kernel.shape)


# Multiply-adds of a layer between two shapes, for one picture.
COUNTED = {
    keras.layers.Conv2D: convolution,
    keras.layers.DepthwiseConv2D: convolution,
    keras.layers.SeparableConv2D: convolution,
    keras.layers.Conv2DTranspose: transposed,
    keras.layers.Dense: dense,
}


def recorded_calls(model, input_shape):
    """Runs a model on shapes; returns `(layer, input shape, output shape)` of each counted call."""
    calls = []

    def symbolic(tensor):
        shape = tuple(tensor.shape[1:] if input_shape is None else input_shape)
        if None in shape:
            raise ValueError(
                f"The model takes pictures of shape {shape}, expected a known height and width: "
                "the cost depends on them. Pass input_shape=(height, width, 3)."
            )
        return keras.KerasTensor((1, *shape), dtype=tensor.dtype)

    def noting(function):
        @functools.wraps(function)
        def noted(layer, inputs, *args, **kwargs):
            outputs = function(layer, inputs, *args, **kwargs)
            calls.append((layer, tuple(inputs.shape), tuple(outputs.shape)))
            return outputs

        return noted

    class Inference(keras.Operation):
        # Asked for the output of an operation that does not know its shape, Keras goes through the
        # whole call; a model would only be asked for its shape.
        def call(self, picture):
            return model(picture, training=False)

    picture = keras.tree.map_structure(symbolic, model.input)
    with contextlib.ExitStack() as stack:
        for kind in COUNTED:
            stack.enter_context(mock.patch.object(kind, "call", noting(kind.call)))
        Inference().symbolic_call(picture)
    return calls
