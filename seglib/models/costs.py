"""What a model costs: parameters and multiply-adds, layer by layer or part by part."""

import contextlib
import functools
import math
from typing import NamedTuple
from unittest import mock

import keras

PARTS = ("backbone", "decoder", "head")


class LayerCost(NamedTuple):
    """What one call of a layer costs.

    Args:
        part: `"backbone"`, `"decoder"` or `"head"`; in a model without these, the model's name.
        layer: name of the layer.
        output_shape: shape of what it returns, for one picture, without the batch.
        parameters: number of its weights; 0 in a second call of the same layer.
        multiply_adds: products of a weight and an input value that the call sums up.
    """

    part: str
    layer: str
    output_shape: tuple[int, ...]
    parameters: int
    multiply_adds: int


class PartCost(NamedTuple):
    """What one part of a model costs.

    Args:
        part: as in `LayerCost`.
        parameters: number of its weights, those of normalization layers included.
        multiply_adds: the sum over its layers.
    """

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

    The model runs once on shapes alone; no number is multiplied. So layers inside of other layers
    are found as well, and each is counted as often as it is called.

    As in published tables, only products with learned weights count, also those with the zeros of a
    padded frame. Biases, normalization, activations, pooling and fixed interpolation do not: they
    are a few operations a value, where a convolution takes hundreds.

    Args:
        model: any built `keras.Model`.
        input_shape: as in `cost`.

    Returns:
        A list of `LayerCost`, one a call of a `Conv2D`, `DepthwiseConv2D`, `SeparableConv2D`,
        `Conv2DTranspose` or `Dense` layer, in the order of the calls.

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
    found = {name: getattr(model, name) for name in PARTS if hasattr(model, name)}
    return found or {model.name: model}


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


def recorded_calls(model, input_shape=None):
    """Runs a model on shapes; returns `(layer, input shape, output shape)` for each call.

    Args:
        model: any built `keras.Model`.
        input_shape: as in `cost`.
    """
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

    picture = keras.tree.map_structure(symbolic, model.input)
    with contextlib.ExitStack() as stack:
        for kind in COUNTED:
            stack.enter_context(mock.patch.object(kind, "call", noting(kind.call)))
        Inference(model).symbolic_call(picture)
    return calls


class Inference(keras.Operation):
    """Calls a model as `predict` does.

    Keras would ask a layer that knows its output's shape for that alone. Asked for the output of
    this operation, which does not know, it has to go through the whole call.
    """

    def __init__(self, model):
        super().__init__()
        self.model = model

    def call(self, picture):
        return self.model(picture, training=False)
