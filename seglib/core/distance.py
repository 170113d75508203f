"""Exact Euclidean distances in the graph, and truths that bring them along.

The distance transform works in two passes, as in Saito and Toriwaki: New algorithms for Euclidean
distance transformation of an n-dimensional digitized picture with applications, Pattern Recognition
1994. The first finds the nearest target in each pixel's own row; the second finds, along each
column, the row from which the sum of both squares is least. All squares are whole numbers, which
float32 holds exactly up to 2**24: pictures of up to 2896 x 2896 pixels.
"""

import math

from keras import ops

from seglib.core.checks import counts, rank_of
from seglib.core.constants import IGNORE_LABEL
from seglib.core.kernels import fused, of_rank

INFINITY = float("inf")
# Rows that are compared before the second pass asks again whether it is done.
OFFSETS = 8


def distance_transform(mask):
    """Returns the distance of each non-zero pixel to the nearest zero pixel, in pixels.

    Args:
        mask: `[..., H, W]`, booleans or numbers.

    Returns:
        float32 `[..., H, W]`: 0 where the mask is 0; infinity everywhere if it is 0 nowhere.
        (`scipy.ndimage.distance_transform_edt` measures to a pixel outside the picture then.)
        There is no gradient.

    Raises:
        ValueError: if the mask has fewer than two axes.
    """
    mask = ops.convert_to_tensor(mask)
    check_rank(mask)
    targets = ops.logical_not(ops.cast(mask, "bool"))
    return nearest(targets[..., None])[..., 0]


def signed_distance(labels, num_classes, ignore_label=IGNORE_LABEL):
    """Returns the distance of each pixel to the boundary of each class, negative inside the class.

    A pixel outside the class measures to the nearest pixel of the class, a pixel inside to the
    nearest pixel of another class, so that the absolute value is at least 1. (The code of Kervadec
    et al. subtracts 1 from the inner distances.)

    Ignored pixels, and pixels whose label is no class, are targets for nobody: a pixel beside them
    measures past them to the next pixel that is labeled. They themselves lie outside every class.

    Args:
        labels: label map `[..., H, W]`, whole numbers.
        num_classes: number of classes `C`.
        ignore_label: label of pixels that count nowhere.

    Returns:
        float32 `[..., H, W, C]`. A class that is absent from the picture, or the only one in it,
        has no boundary: its distances are 0.

    Raises:
        ValueError: if the label map has fewer than two axes.

    Reference:
        Kervadec et al.: Boundary loss for highly unbalanced segmentation, MIDL 2019, section 2
        (the level set function of the truth's boundary).

    Example:
        >>> signed_distance([[0, 1, 1]], 2)[..., 1]
        [[1, -1, -2]]
    """
    labels = class_or_minus_one(labels, num_classes, ignore_label)
    shape = ops.shape(labels)
    signed = signed_in_pictures(ops.reshape(labels, [-1, *shape[-2:]]), num_classes)
    return ops.stop_gradient(ops.reshape(signed, [*shape, num_classes]))


def boundary_distance(labels, ignore_label=IGNORE_LABEL, num_classes=256):
    """Returns the distance of each pixel to the nearest pixel of another class.

    It is the pixel's own entry of `signed_distance`, times -1.

    Args:
        labels: label map `[..., H, W]`, whole numbers.
        ignore_label: label of pixels that count nowhere; no other pixel measures to them.
        num_classes: labels from this one on count nowhere either. The fewer, the faster.

    Returns:
        float32 `[..., H, W]`, at least 1; 0 at pixels that count nowhere, and 0 in a picture
        of one class, which has no boundary.

    Raises:
        ValueError: if the label map has fewer than two axes.
    """
    labels = class_or_minus_one(labels, num_classes, ignore_label)
    # Two labels differ where any of their binary digits does, so the nearest other label is found
    # with two maps per digit and not one per class.
    digits = [
        ops.equal(ops.bitwise_and(ops.right_shift(labels, i), 1), 1)
        for i in range((num_classes - 1).bit_length())
    ]
    ones = ops.stack(digits, axis=-1)  # (..., H, W, digits)
    valid = ops.greater_equal(labels, 0)
    targets = ops.concatenate([ones, ops.logical_not(ones)], axis=-1) & valid[..., None]
    to_ones, to_zeros = ops.split(nearest(targets), 2, axis=-1)
    distance = ops.min(ops.where(ones, to_zeros, to_ones), axis=-1)
    return ops.where(valid, zero_if_infinite(distance), 0.0)


def pack_distances(labels, num_classes, ignore_label=IGNORE_LABEL):
    """Packs a label map with its signed distances, so that losses need not compute them.

    Every loss and metric of seglib takes the result in place of the label map. On the TensorFlow
    backend it works in `tf.data`: `data.map(lambda x, y: (x, pack_distances(y, 3)))`, after
    augmentation; on others, pack arrays before they become a data set.

    Args:
        labels: label map `[..., H, W]`, whole numbers.
        num_classes: number of classes `C`; 2 for logits of one channel.
        ignore_label: label of pixels that count nowhere.

    Returns:
        float32 `[..., H, W, 1 + C, 1]`: the label map, then the signed distance of each class. No
        mask has the last axis, so none is taken for a packed truth.

    Raises:
        ValueError: if the label map has fewer than two axes.
    """
    labels = ops.convert_to_tensor(labels)
    distances = signed_distance(labels, num_classes, ignore_label)
    packed = ops.concatenate([ops.cast(labels, "float32")[..., None], distances], axis=-1)
    return packed[..., None]


def unpack(y_true, num_channels):
    """Takes a packed truth apart; a plain label map is passed through.

    Args:
        y_true: label map `[B, H, W]`, or what `pack_distances` makes of it.
        num_channels: channels of the logits, or the number of classes; 1 is taken as 2 classes.

    Returns:
        The label map `[B, H, W]`, and the distances `[B, H, W, C]` or `None`.

    Raises:
        ValueError: if the truth was packed for another number of classes.
    """
    y_true = ops.convert_to_tensor(y_true)
    if rank_of(y_true) is None:
        y_true = of_rank(y_true, 3, "The label map came with another number of axes than before.")
    if len(y_true.shape) != 5:
        return y_true, None
    num_classes = max(num_channels, 2)
    if y_true.shape[-2:] != (1 + num_classes, 1):
        raise ValueError(
            f"The truth has shape {tuple(y_true.shape)}, expected a label map [B, H, W], or one "
            f"packed with distances for {num_classes} classes, [B, H, W, {1 + num_classes}, 1]."
        )
    return y_true[..., 0, 0], y_true[..., 1:, 0]


@fused
def edges(labels):
    """Returns which pixels have a 4-neighbor of another class, bool `[B, H, W]`; -1 is no class.

    The frame of the picture is no edge, and neither is a pixel of -1.
    """

    def differ(first, second):
        return ops.not_equal(first, second) & (first >= 0) & (second >= 0)

    down = differ(labels[:, :-1], labels[:, 1:])  # (B, H-1, W)
    right = differ(labels[:, :, :-1], labels[:, :, 1:])  # (B, H, W-1)
    return (
        ops.pad(down, ((0, 0), (0, 1), (0, 0)))
        | ops.pad(down, ((0, 0), (1, 0), (0, 0)))
        | ops.pad(right, ((0, 0), (0, 0), (0, 1)))
        | ops.pad(right, ((0, 0), (0, 0), (1, 0)))
    )


@fused
def signed_in_pictures(labels, num_classes):
    """Returns the signed distances for labels `[N, H, W]`, with -1 for pixels of no class."""
    own = ops.equal(labels[..., None], ops.arange(num_classes, dtype="int32"))
    outer = nearest(own)  # (N, H, W, C)
    # The nearest pixel of another class is the nearest one of all other classes' nearest.
    inner = ops.min(ops.where(own, INFINITY, outer), axis=-1, keepdims=True)
    return zero_if_infinite(ops.where(own, -inner, outer))


def nearest(targets):
    """Returns the distance of each pixel to the nearest target, for several kinds at once.

    Args:
        targets: booleans `[..., H, W, C]`.

    Returns:
        float32 `[..., H, W, C]`, infinity where a picture has no target of the kind.
    """
    shape = ops.shape(targets)
    distance = nearest_in_pictures(ops.reshape(targets, [-1, *shape[-3:]]))
    return ops.stop_gradient(ops.reshape(distance, shape))


@fused
def nearest_in_pictures(targets):
    """Does what `nearest` says, for `[N, H, W, C]`."""
    # Each pass works on a matrix, and compares along its first axis: slices are then no copies, and
    # the rows long.
    targets = ops.transpose(targets, [2, 0, 1, 3])  # (W, N, H, C)
    line = ops.where(targets, 0.0, INFINITY)
    line = ops.reshape(nearest_in_line(as_matrix(line)), ops.shape(targets))
    squared = ops.square(ops.transpose(line, [2, 1, 0, 3]))  # (H, N, W, C)
    # Maps without a target would keep the second pass running to the end.
    empty = ops.isinf(ops.min(squared, axis=(0, 2), keepdims=True))  # (1, N, 1, C)
    least = lower_envelope(as_matrix(ops.where(empty, 0.0, squared)))
    least = ops.where(empty, INFINITY, ops.reshape(least, ops.shape(squared)))
    return ops.sqrt(ops.transpose(least, [1, 0, 2, 3]))


def as_matrix(values):
    """Keeps the first axis and makes one of all others."""
    height, *rest = ops.shape(values)
    return ops.reshape(values, [height, math.prod(rest)])


def nearest_in_line(distance):
    """Turns 0 at targets and infinity elsewhere into distances along the first axis.

    Each step doubles the reach, so a line of `n` pixels takes `log2(n)` steps.
    """
    size = ops.shape(distance)[0]
    beyond = ops.full_like(distance, INFINITY)

    def reach_twice_as_far(step, near):
        padded = ops.concatenate([beyond, near, beyond], axis=0)
        sides = ops.minimum(shifted(padded, size - step, near), shifted(padded, size + step, near))
        return 2 * step, ops.minimum(near, sides + ops.cast(step, "float32"))

    return ops.while_loop(
        lambda step, near: step < size, reach_twice_as_far, (ops.array(1, "int32"), distance)
    )[1]


def lower_envelope(squared):
    """Returns `min_k squared[k] + (i - k)**2` for each `i` along the first axis.

    It tries ever larger offsets, and stops where their squares alone exceed all minima found: the
    time grows with the largest distance in the batch, not with the size of the picture.
    """
    size = ops.shape(squared)[0]
    beyond = ops.full_like(squared, INFINITY)
    margin = [beyond[:1]] * OFFSETS
    padded = ops.concatenate([*margin, beyond, squared, beyond, *margin], axis=0)
    middle = size + OFFSETS

    def unfinished(offset, least):
        reach = ops.cast(ops.square(offset), "float32")
        return (offset < size) & (reach < ops.max(least))

    def compare(offset, least):
        for _ in range(OFFSETS):
            sides = ops.minimum(
                shifted(padded, middle - offset, least), shifted(padded, middle + offset, least)
            )
            least = ops.minimum(least, sides + ops.cast(ops.square(offset), "float32"))
            offset = offset + 1
        return offset, least

    return ops.while_loop(unfinished, compare, (ops.array(1, "int32"), squared))[1]


def shifted(padded, start, like):
    """Returns the slice of `like`'s shape that begins at `start` along the first axis."""
    begin = [start, *[0] * (len(like.shape) - 1)]
    return ops.slice(padded, begin, ops.shape(like))


def class_or_minus_one(labels, num_classes, ignore_label):
    """Returns the labels as int32, with -1 for the ignore label and all that is no class."""
    labels = ops.convert_to_tensor(labels)
    check_rank(labels)
    labels = ops.cast(labels, "int32")
    valid = (labels >= 0) & (labels < num_classes) & counts(labels, ignore_label)
    return ops.where(valid, labels, -1)


def zero_if_infinite(distance):
    """Returns 0 where there is no boundary to measure to."""
    return ops.where(ops.isinf(distance), 0.0, distance)


def check_rank(array):
    if len(array.shape) < 2:
        raise ValueError(f"The array has shape {tuple(array.shape)}, expected [..., H, W].")
