"""What kind of mistake a wrong pixel is: at the outline, in a part that was lost, or invented."""

from keras import ops

from seglib.core.constants import IGNORE_LABEL
from seglib.core.distance import distance_transform

KINDS = ("outline", "lost", "invented")


def error_kinds(y_true, y_pred, *, near, background=1, border=2, ignore_label=IGNORE_LABEL):
    """Sorts the wrong pixels of label maps into three kinds, which ask for different remedies.

    - `"outline"`: the pixel lies on the true border or within `near` pixels of it. The object was
      found, its edge was not.
    - `"lost"`: it lies farther away and belongs to an object.
    - `"invented"`: it lies farther away and belongs to the background.

    In a picture without any border no pixel is near it.

    Args:
        y_true: label maps `[B, H, W]`, whole numbers.
        y_pred: predicted label maps `[B, H, W]`.
        near: in pixels, 0 for the border alone.
        background: the class that is no object.
        border: the class of the band around objects.
        ignore_label: label of pixels that are never wrong.

    Returns:
        A dict from the kind to booleans `[B, H, W]`. Each wrong pixel is of exactly one kind.

    Raises:
        ValueError: if the shapes differ or `near` is negative.

    Example:
        >>> kinds = error_kinds(masks, logits.argmax(-1), near=2)
        >>> {name: int(where.sum()) for name, where in kinds.items()}
    """
    y_true, y_pred = (ops.cast(ops.convert_to_tensor(y), "int32") for y in (y_true, y_pred))
    if tuple(y_true.shape) != tuple(y_pred.shape) or len(y_true.shape) != 3:
        raise ValueError(
            f"The label maps have shapes {tuple(y_true.shape)} and {tuple(y_pred.shape)}, expected "
            "the same [B, H, W]. Take the arg-max of logits first."
        )
    if near < 0:
        raise ValueError(f"near is {near}, expected a number of pixels, 0 for the border alone.")
    wrong = (y_true != y_pred) & (y_true != ignore_label)
    far = distance_transform(y_true != border) > near  # infinite where there is no border
    kinds = (
        wrong & ~far,
        wrong & far & (y_true != background),
        wrong & far & (y_true == background),
    )
    return {name: ops.convert_to_numpy(kind) for name, kind in zip(KINDS, kinds, strict=True)}
